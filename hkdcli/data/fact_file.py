"""A file of facts: what is known of the images of a dataset beyond its records, one image to a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hkdcli.data.containers import iterate_rows
from hkdcli.data.facts import ImageFacts
from hkdcli.data.refusals import render_first_ids
from hkdcli.errors import BadRow, DataError

_NAMES = ("image_id", "file_name")


class FactTable:
    """Facts by the name of the image; of an image that has no line, nothing is known.

    Args:
        facts: by name.
    """

    def __init__(self, facts: Mapping[str, ImageFacts]) -> None:
        self._facts = dict(facts)
        listed = (name for each in self._facts.values() for name in each.objects or ())
        self._vocabulary = frozenset(listed)

    def get_facts(self, name: str) -> ImageFacts:
        """What is known of an image."""
        known = self._facts.get(name, ImageFacts())
        return ImageFacts(known.objects, known.captions, self._vocabulary)


def read_facts(path: Path) -> FactTable:
    """Read a file of facts: JSON Lines or a JSON array of objects, one or more for an image.

    `image_id` (or `file_name`) names the image as records do. `objects` lists everything in the image that
    the listing speaks of, `captions` are true sentences about it; either may be absent. Other fields are
    passed over.

    Args:
        path: the file.

    Returns:
        The facts; lines of one image are put together.

    Raises:
        DataError: the file is unusable, or some of its lines; every one is named, under a `facts.*` code.
    """
    objects: dict[str, list[str]] = {}
    captions: dict[str, list[str]] = {}
    bad: list[BadRow] = []
    total = 0
    for row in iterate_rows(path):
        total += 1
        found = [row] if isinstance(row, BadRow) else list(_find_faults(row.value, row.path))
        bad += found
        if isinstance(row, BadRow) or found:
            continue
        name = next(row.value[key] for key in _NAMES if row.value.get(key))
        captions.setdefault(name, []).extend(row.value.get("captions") or ())
        if row.value.get("objects") is not None:
            objects.setdefault(name, []).extend(row.value["objects"])
    if bad:
        lines = [f"{path.name}: {len(bad)} faults in {total} lines of facts", *render_first_ids(bad)]
        raise DataError("\n  ".join(lines), bad)
    if not objects and not any(captions.values()):
        hint = 'Write lines such as: {"image_id": "1.jpg", "objects": ["dog"], "captions": ["A dog sleeps."]}'
        raise DataError(f"{path.name}: holds no facts, neither objects nor captions", hint=hint)
    return FactTable(
        {
            name: ImageFacts(
                tuple(dict.fromkeys(objects[name])) if name in objects else None,
                tuple(dict.fromkeys(captions.get(name, ()))),
            )
            for name in captions
        }
    )


def _find_faults(value: Any, path: str) -> Iterator[BadRow]:
    if not isinstance(value, dict):
        yield BadRow("facts.not_an_object", "", path, f"a {type(value).__name__}, not an object")
        return
    name = next((value[key] for key in _NAMES if value.get(key)), None)
    if not isinstance(name, str):
        yield BadRow("facts.no_image", "", path, "image_id is missing, or no string")
        name = ""
    for field in ("objects", "captions"):
        listed = value.get(field)
        if listed is not None and not _is_list_of_texts(listed):
            yield BadRow(f"facts.{field}", name, path, f"{field} is not a list of strings that say something")


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and each.strip() for each in value)
