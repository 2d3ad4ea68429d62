"""A recipe on disk and on the command line: YAML plus `key=value` -> a recipe of either stage, and back.

Every problem is found before anything is said, and each names its dotted key:

    recipes/demo.yaml: 2 problems
      pyramid[1].quantization  "int5" is not one of: none, int8, nf4
      train.lerning_rate       unknown key; did you mean "learning_rate"?
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hkdcli.errors import Problem, RecipeError, UsageError
from hkdcli.masking import mask_secrets
from hkdcli.recipe import Recipe, RunRecipe
from hkdcli.recipe_blocks import RecipePart
from hkdcli.recipe_refine import RefineRecipe
from hkdcli.recipe_schema import KINDS, Step, get_properties, iterate_fields, render_key
from hkdcli.safe_yaml import MAX_BYTES, MAX_DEPTH, Value, is_plain_text, parse_yaml

R = TypeVar("R", bound=RecipePart)
_STEP = re.compile(r"\[\d+\]|[^.\[\]]+")
_MOST_SUGGESTED = 50  # problems: it takes milliseconds to find out which key was meant
_PLACE = re.compile(r"[0-9]{1,9}")
_KEY = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[\d+\])*")


def read_recipe(path: Path, kind: type[R], overrides: Sequence[str] = ()) -> R:
    """Read a recipe and change it by overrides.

    Args:
        path: The YAML file.
        kind: What it is a recipe of, as in `KINDS`.
        overrides: `key=value` texts: dotted keys, list places as `[1]`, `.1` or the level's name; the
            value is YAML.

    Returns:
        The recipe, with every default filled in. A path that is no text file raises `UsageError`; a
        recipe that cannot be used raises `RecipeError`, which carries every problem.
    """
    return build_recipe(_read_text(path), kind, overrides, source=str(path))


def build_recipe(text: str, kind: type[R], overrides: Sequence[str] = (), *, source: str = "recipe") -> R:
    """Build a recipe from YAML text; as `read_recipe`, without the file.

    Args:
        text: The YAML.
        kind: What it is a recipe of, as in `KINDS`.
        overrides: `key=value` texts.
        source: What to call the text in messages.

    Returns:
        The recipe, with every default filled in.

    Raises:
        RecipeError: The recipe cannot be used; carries every problem.
    """
    tree, problems = parse_yaml(text)
    if isinstance(tree, dict):
        for override in overrides:
            problems += _apply_override(tree, override)
        problems += _find_problems(tree, kind)
    elif not problems:
        problems = [Problem("", "the file is empty" if tree is None else 'not a block of "key: value" lines')]
    if problems:
        raise RecipeError(source, problems)
    return kind.model_validate(tree)


def guess_kind(path: Path) -> type[RunRecipe]:
    """Tell by its blocks which stage a recipe is of: one that has `refine` is of stage two.

    Args:
        path: The YAML file.

    Returns:
        What to read it as; what is wrong with it is told then.
    """
    tree, _ = parse_yaml(_read_text(path))
    return RefineRecipe if isinstance(tree, dict) and "refine" in tree else Recipe


def render_recipe(recipe: RecipePart) -> str:
    """Render the whole recipe as YAML, each field once with its description.

    Args:
        recipe: Any recipe.

    Returns:
        YAML that reads back equal to the recipe, unless it held a secret, which is masked.
    """
    seen: set[tuple[type, str]] = set()
    return mask_secrets("\n".join(_render_block(recipe, 0, seen)) + "\n")


def _read_text(path: Path) -> str:
    if not os.path.exists(path):
        raise UsageError(f"{path}: no such recipe", hint="Give the path of a YAML file, as in recipes/.")
    if not path.is_file():
        raise UsageError(f"{path}: not a file", hint="Give the path of a YAML file, as in recipes/.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(
                f"{path}: larger than {MAX_BYTES // 1_000_000} MB; this is no recipe",
                hint="Give the path of a YAML file, as in recipes/.",
            )
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start})", hint="Save it as UTF-8.") from None
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", hint="Look at its permissions and its disk."
        ) from None


# Overrides


def _apply_override(tree: dict[str, Value], override: str) -> list[Problem]:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key):
        return [Problem(override[:60], "is not key=value")]
    steps = [step.strip("[]") for step in _STEP.findall(key)]
    if len(steps) > MAX_DEPTH:
        return [Problem(key[:60], f"nested deeper than {MAX_DEPTH} levels")]
    value, problems = parse_yaml(text)
    if problems:
        return [Problem(key, f"the value is not YAML: {problem.detail}") for problem in problems]
    try:
        _set_value(tree, steps, value)
    except LookupError as error:
        return [Problem(key, str(error.args[0]))]
    return []


def _set_value(tree: Value, steps: list[str], value: Value) -> None:
    """Set one place of the tree; blocks that are absent or null on the way are made."""
    for i, step in enumerate(steps):
        last = i == len(steps) - 1
        if isinstance(tree, list):
            place: Any = _find_place(tree, step)
        elif isinstance(tree, dict):
            place = step
            tree.setdefault(step, None)
        else:
            raise LookupError(f"{'.'.join(steps[:i])} is {_show(tree)}, not a block")
        container: Any = tree
        if last:
            container[place] = value
        elif container[place] is None:
            container[place] = {}
        tree = container[place]


def _find_place(items: list[Value], step: str) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if step in names:
        return names.index(step)
    if _PLACE.fullmatch(step) and int(step) < len(items):
        return int(step)
    known = ", ".join(str(name) for name in names if name is not None)
    raise LookupError(f'no "{step}" in a list of {len(items)}' + (f"; there are: {known}" if known else ""))


# Problems


def _find_problems(tree: dict[str, Value], kind: type[RecipePart]) -> list[Problem]:
    try:
        kind.model_validate(tree)
    except ValidationError as error:
        found = enumerate(error.errors(include_url=False))
        return [_describe(details, kind, suggests=place < _MOST_SUGGESTED) for place, details in found]
    return []


_EXPECTED = {
    "int_type": "{value} is not a whole number",
    "float_type": "{value} is not a number",
    "bool_type": "{value} is not true or false",
    "string_type": "{value} is not a text; put it in quotes",
    "finite_number": "{value} is not a finite number",
    "model_type": '{value} is not a block of "key: value" lines',
    "tuple_type": "{value} is not a list",
    "missing": "is missing",
    "greater_than": "{value} must be more than {gt}",
    "greater_than_equal": "{value} must be at least {ge}",
    "less_than": "{value} must be less than {lt}",
    "less_than_equal": "{value} must be at most {le}",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_pattern_mismatch": "{value} is no name; use letters, digits, - and _",
    "tuning": "{value} is not one of: full, lora: {{...}}",
    "recipe": "{text}",
}


def _describe(details: ErrorDetails, kind: type[RecipePart], *, suggests: bool) -> Problem:
    steps = [step for step in details["loc"] if not str(step).startswith("<")]
    wrong, context = details["type"], details.get("ctx", {})
    if wrong == "extra_forbidden":
        detail = "unknown key" + (_suggest_key(steps, kind) if suggests else "")
    elif wrong == "literal_error":
        detail = f"{_show(details['input'])} is not one of: {_list_literals(str(context['expected']))}"
    else:
        detail = _EXPECTED.get(wrong, "{value}: " + details["msg"].replace("{", "{{").replace("}", "}}"))
        detail = detail.format(value=_show(details["input"]), **context)
    return Problem(render_key(steps), mask_secrets(detail))


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _list_literals(expected: str) -> str:
    return ", ".join(re.findall(r"'([^']*)'", expected))


def _suggest_key(steps: Sequence[Step], kind: type[RecipePart]) -> str:
    """Find the key that was meant: of the other stage, a sibling, or one that belongs elsewhere."""
    wrong, schema = str(steps[-1]), kind.model_json_schema()
    if owners := [name for name, other in KINDS.items() if len(steps) == 1 and wrong in other.model_fields]:
        return f"; it belongs to a recipe of hkd {owners[0]}"
    siblings = list(get_properties(schema, steps[:-1]))
    shortened = [name for name in siblings if "_" in name and wrong == "".join(w[0] for w in name.split("_"))]
    near = shortened or difflib.get_close_matches(wrong, siblings, n=1)
    if near:
        return f'; did you mean "{near[0]}"?'
    elsewhere = {key.rpartition(".")[2]: key for key, _ in reversed(list(iterate_fields(kind)))}
    near = difflib.get_close_matches(wrong, list(elsewhere), n=1, cutoff=0.85)
    if near:
        return f'; did you mean "{elsewhere[near[0]]}"?'
    return f"; known here: {', '.join(siblings)}"


# Rendering


def _render_block(block: BaseModel, indent: int, seen: set[tuple[type, str]]) -> list[str]:
    lines = []
    for field, info in type(block).model_fields.items():
        first = (type(block), field) not in seen
        seen.add((type(block), field))
        comment = f"  # {info.description}" if first and info.description else ""
        lines += _render_field(info.alias or field, getattr(block, field), comment, indent, seen)
    return lines


def _render_field(key: str, value: Any, comment: str, indent: int, seen: set[tuple[type, str]]) -> list[str]:
    start = f"{' ' * indent}{key}:"
    if isinstance(value, BaseModel):
        return [start + comment, *_render_block(value, indent + 2, seen)]
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        blocks = [_render_block(item, indent + 4, seen) for item in value]
        items = [[" " * (indent + 2) + "- " + block[0].lstrip(), *block[1:]] for block in blocks]
        return [start + comment, *(line for item in items for line in item)]
    return [f"{start} {_render_value(value)}{comment}"]


def _render_value(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_render_value(item) for item in value) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", value) and is_plain_text(value)
        return value if plain else yaml.dump(value, default_style='"', width=float("inf")).strip()
    return json.dumps(value)
