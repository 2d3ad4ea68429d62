"""YAML as far as a recipe needs it: plain values, one meaning each, nothing executed.

Numbers and booleans follow YAML 1.2 (`1e-5` is a float; `No`, `on`, `012` and `12:30:00` are texts).
Tags, repeated keys, cycles, deep nesting and swarms of aliases are refused before anything is built.
"""

from __future__ import annotations

import re
from typing import Any, cast

import yaml

from hkdcli.errors import Problem

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000  # keys included; PyYAML takes a second for as many
MAX_DEPTH = 32
MAX_ALIASES = 16  # 16 uses expand to a few hundred copies at worst, so a bomb has no powder

Value = dict[str, "Value"] | list["Value"] | str | int | float | bool | None


class _Refused(yaml.MarkedYAMLError):
    """Legal YAML that a recipe may not use."""

    def __init__(self, detail: str, event: yaml.Event) -> None:
        super().__init__(problem=detail, problem_mark=cast("yaml.error.Mark", event.start_mark))


class _Loader(yaml.SafeLoader):
    """Composes nodes within bounds; values are built by `_build_value`, not by PyYAML."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = 0
        self._aliases = 0
        self._open_anchors: list[str] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self._check_alias(event)
            return super().compose_node(parent, index)
        if getattr(event, "tag", None) not in (None, "!"):
            raise _Refused(f"tags such as {event.tag} are not used in recipes", event)
        if self._depth >= MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels", event)
        self._values += 1
        if self._values > MAX_VALUES:
            raise _Refused(f"more than {MAX_VALUES} values", event)
        anchor = getattr(event, "anchor", None)
        self._depth += 1
        self._open_anchors.append(anchor or "")
        node = super().compose_node(parent, index)
        self._open_anchors.pop()
        self._depth -= 1
        return node

    def _check_alias(self, event: yaml.AliasEvent) -> None:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise _Refused(f"more than {MAX_ALIASES} aliases (*name)", event)
        if event.anchor in self._open_anchors:
            raise _Refused(f"*{event.anchor} contains itself", event)


_PLAIN = {
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "int": (re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,17})$"), "-+0123456789"),
    "float": (
        re.compile(
            r"^[-+]?(?=[0-9.]+[.eE]|\.)(?:0|[1-9][0-9]*|(?=\.[0-9]))(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?$"
        ),
        "-+.0123456789",
    ),
}
for _kind, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, list(_first))


def parse_yaml(text: str) -> tuple[Value, list[Problem]]:
    """Parse one YAML document into plain values.

    Args:
        text: The document.

    Returns:
        The value and the problems found; with a syntax error the value is null and the error is the
        only problem.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        return None, [Problem("", _describe(error))]
    except (ValueError, OverflowError):  # PyYAML hands any number to int() and chr()
        assert loader is not None
        line = loader.get_mark().line + 1
        return None, [Problem("", f"line {line}: a version or an escaped character with too large a number")]
    finally:
        if loader is not None:
            loader.dispose()
    problems: list[Problem] = []
    return (None if node is None else _build_value(node, "", problems)), problems


def is_plain_text(text: str) -> bool:
    """Whether an unquoted scalar would be read as this very text, not as a number, boolean or null."""
    return not any(pattern.match(text) for pattern, _ in _PLAIN.values())


def _build_value(node: yaml.Node, key: str, problems: list[Problem]) -> Value:
    if isinstance(node, yaml.SequenceNode):
        return [_build_value(item, f"{key}[{i}]", problems) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, key, problems)
    return _build_scalar(node)


def _build_mapping(node: yaml.MappingNode, key: str, problems: list[Problem]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    lines: dict[str, int] = {}
    for name_node, value_node in node.value:
        name = name_node.value if isinstance(name_node, yaml.ScalarNode) else None
        line = name_node.start_mark.line + 1
        if name is None:
            problems.append(Problem(key, f"line {line}: a key must be a text"))
            continue
        full_key = f"{key}.{name}" if key else name
        if name in lines:
            problems.append(Problem(full_key, f"given twice, in lines {lines[name]} and {line}"))
        lines[name] = line
        values[name] = _build_value(value_node, full_key, problems)
    return values


def _build_scalar(node: yaml.Node) -> Value:
    text = str(node.value)
    kind = node.tag.rsplit(":", 1)[-1]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(text)
    return float(text) if kind == "float" else text


def _describe(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        return f"line {mark.line + 1}, column {mark.column + 1}: {said}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position + 1}: control characters are not allowed in YAML"
    return str(error)
