"""What a recipe can hold, as JSON Schema: for editors, for the pages, and to find the key that was meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from hkdcli.recipe import Recipe, RunRecipe
from hkdcli.recipe_augment import AugmentRecipe
from hkdcli.recipe_blocks import RecipePart
from hkdcli.recipe_refine import RefineRecipe

STAGES: dict[str, type[RunRecipe]] = {"distill-online": Recipe, "distill-refine": RefineRecipe}
# Commands that take a recipe, and what it is to each.
KINDS: dict[str, type[RecipePart]] = {**STAGES, "augment": AugmentRecipe}

Step = str | int


def build_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """Build the JSON Schema of a recipe, for editors that complete and check YAML, or of another document.

    Args:
        kind: What it is a recipe of, as in `KINDS`; or the type of the document.

    Returns:
        The schema, draft 2020-12.
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **kind.model_json_schema()}


def iterate_fields(kind: type[RecipePart]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Go through every field of a recipe, in the order of the schema.

    Args:
        kind: What it is a recipe of, as in `KINDS`.

    Yields:
        tuple[str, dict[str, Any]]: The dotted key (`train.max_steps`, `pyramid[].name`) and the field's
            JSON Schema.
    """
    yield from _fields_below(kind.model_json_schema(), ())


def _fields_below(schema: dict[str, Any], steps: tuple[Step, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in get_properties(schema, steps).items():
        block = _variants(schema, field)[0]  # pydantic drops a description that the block's own repeats
        text = field.get("description") or block.get("description", "")
        yield render_key((*steps, name)).replace("[0]", "[]"), {**field, "description": text}
        yield from _fields_below(schema, (*steps, name))
        yield from _fields_below(schema, (*steps, name, 0))


def get_properties(schema: dict[str, Any], steps: Sequence[Step]) -> dict[str, Any]:
    """The fields of the block that the steps lead to, by name; none where there is no such block."""
    nodes = _variants(schema, schema)
    for step in steps:
        below = [node["items"] for node in nodes if isinstance(step, int) and "items" in node]
        below += [node["properties"][step] for node in nodes if step in node.get("properties", {})]
        nodes = [variant for node in below for variant in _variants(schema, node)]
    return {name: value for node in nodes for name, value in node.get("properties", {}).items()}


def _variants(schema: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _variants(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    options = node.get("anyOf", []) + node.get("oneOf", [])
    return [variant for option in options for variant in _variants(schema, option)] or [node]


def render_key(steps: Sequence[Step]) -> str:
    """The dotted key of steps through blocks and lists, as `pyramid[0].name`."""
    key = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return key.removeprefix(".")
