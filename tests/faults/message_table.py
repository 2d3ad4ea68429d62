"""Every message that hkd can show for a fault, read from its source: `python tests/faults/message_table.py`.

That writes messages.txt anew. Of the doctor it has what is wrong, not what is in order.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from source_texts import (
    ROOT,
    Chain,
    Scope,
    build_function_scope,
    build_module_scope,
    list_returned,
    read_module,
    render_texts,
    walk,
)

from hkdcli import errors

TABLE = Path(__file__).with_name("messages.txt")
COMMAND = "python tests/faults/message_table.py"
HEAD = f"""Every message of hkd for a fault: who says it, with which exit code, what, and the hint below it.
Written by `{COMMAND}`; tests/faults/test_messages.py compares it with the source.
"""
SHOWN = {"RecipeError", "ImageError"}  # what they show are Problems and rows, which are listed themselves
# Callee -> where among its arguments are code, message and hint (None: it has none).
SHAPES: Mapping[str, tuple[int | None, int | None, int | None]] = {
    "RefusedRowError": (0, 1, 2),
    "BadRow": (0, 3, 4),
    "ReplyError": (0, 1, None),
    "EngineLostError": (None, 0, None),
    "Problem": (None, 1, None),
    "build_problem": (None, 0, None),
    "LookupError": (None, 0, None),
    "Finding": (None, 0, 2),
    "warn": (None, 0, None),
    "BadParameter": (None, 0, None),
}
_PARTS = {"code": "code", "message": "message", "detail": "message", "found": "message", "hint": "hint"}


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """One message: its file, who says it, exit code or code of a row, what it says, and its hints."""

    path: str
    kind: str
    code: str
    text: str
    hints: tuple[str, ...]
    has_rows: bool = False

    def render(self) -> str:
        """Its lines in the table."""
        rows = ", and below it the rows" if self.has_rows else ""
        shown = [f"{self.kind} {self.code}".strip() + f": {self.text}{rows}"]
        shown += [f"  hint: {hint}" for hint in self.hints if hint]
        return "\n".join(f"  {line}" for line in "\n".join(shown).split("\n"))


@cache
def list_error_kinds() -> Mapping[str, int]:
    """Name of every error of hkd -> its exit code, wherever it is defined."""
    kinds = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.HkdError)
    }
    kinds["StoppedError"] = 130
    for path in list_modules():
        for node in ast.walk(read_module(path)):
            if isinstance(node, ast.ClassDef) and node.name not in kinds:
                known = [
                    kinds[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in kinds
                ]
                kinds |= {node.name: known[0]} if known else {}
    return kinds


def list_modules() -> list[Path]:
    """Every module of hkdcli but the one that defines its errors."""
    return [path for path in sorted((ROOT / "hkdcli").rglob("*.py")) if path.name != "errors.py"]


@cache
def list_messages() -> tuple[Message, ...]:
    """Every message of every module, sorted by file, each once."""
    found: set[Message] = set()
    for path in list_modules():
        tree, name = read_module(path), str(path.relative_to(ROOT))
        scope = build_module_scope(tree)
        found.update(_list_in(tree.body, scope, name))
    return tuple(sorted(found))


def _list_in(body: list[ast.stmt], scope: Scope, path: str) -> Iterator[Message]:
    for node, chain in walk(body, (body,)):
        if isinstance(node, ast.FunctionDef):
            yield from _list_in(node.body, build_function_scope(node, scope), path)
        elif isinstance(node, ast.ClassDef):
            yield from _list_in(node.body, scope, path)
        elif isinstance(node, ast.Call):
            yield from _read_call(node, scope, chain, path)


def _read_call(call: ast.Call, scope: Scope, chain: Chain, path: str) -> Iterator[Message]:
    callee = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    kinds = list_error_kinds()
    if callee in SHOWN or callee not in {*kinds, *SHAPES} or not call.args and not call.keywords:
        return
    if any(keyword.arg is None for keyword in call.keywords):
        return  # put together again from what was said elsewhere
    if callee == "Finding" and not _is_wrong(call, scope, chain):
        return
    if call.args and isinstance(call.args[0], ast.Starred) and isinstance(call.args[0].value, ast.Call):
        yield from _read_tuples(callee, call.args[0].value, scope, path)
        return
    parts = _arrange(call, SHAPES.get(callee, (None, 0, None)))
    codes = render_texts(parts["code"], scope, chain) if parts["code"] else [str(kinds.get(callee, ""))]
    has_rows = callee == "DataError" and len(call.args) > 1
    hints = tuple(dict.fromkeys(render_texts(parts["hint"], scope, chain)))
    for code in dict.fromkeys(codes):
        for text in render_texts(parts["message"], scope, chain):
            yield Message(path, callee, code, text, hints, has_rows)


def _read_tuples(callee: str, call: ast.Call, scope: Scope, path: str) -> Iterator[Message]:
    """Messages whose code and text a function of the module returns as a pair."""
    for value, inner, chain in list_returned(call, scope):
        if isinstance(value, ast.Tuple):
            code, message = (render_texts(each, inner, chain) for each in value.elts[:2])
            yield from (Message(path, callee, code[0], text, ()) for text in message)


def _is_wrong(call: ast.Call, scope: Scope, chain: Chain) -> bool:
    """Whether the finding of a check can be a failure or a warning."""
    given = call.args[1] if len(call.args) > 1 else None
    status = next((each.value for each in call.keywords if each.arg == "status"), given)
    return bool({"failed", "warning"} & set(render_texts(status, scope, chain)))


def _arrange(call: ast.Call, shape: tuple[int | None, int | None, int | None]) -> dict[str, ast.expr | None]:
    """The expressions of code, message and hint of a call."""
    parts: dict[str, ast.expr | None] = {"code": None, "message": None, "hint": None}
    for part, place in zip(parts, shape, strict=True):
        if place is not None and place < len(call.args):
            given = call.args[place]
            parts[part] = given.value if isinstance(given, ast.Starred) else given
    for keyword in call.keywords:
        if keyword.arg in _PARTS:
            parts[_PARTS[keyword.arg]] = keyword.value
    return parts


def render_table() -> str:
    """The whole table."""
    lines, path = [HEAD], ""
    for message in list_messages():
        if message.path != path:
            path = message.path
            lines.append(f"\n{path}")
        lines.append(message.render())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(render_table(), encoding="utf-8")
    sys.stdout.write(f"{TABLE.name}: {len(list_messages())} messages\n")
