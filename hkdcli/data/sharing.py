"""Prompts that begin alike: examples of one image share the row of tokens up to where they part."""

from __future__ import annotations

import os
from collections.abc import Sequence

Tokens = Sequence[int]


def group_equal(keys: Sequence[str]) -> list[list[int]]:
    """Places of equal keys together, in the order in which each key first comes."""
    groups: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def expand_alike(raw: Tokens, expanded: Tokens, other: Tokens) -> list[int] | None:
    """Expand the image placeholder of a prompt as the processor did it for another one of the same image.

    Args:
        raw: tokens of the other prompt as its text gives them, with the placeholder alone.
        expanded: the same as the processor made them, with all tokens of the image.
        other: tokens of the prompt to expand, as its text gives them.

    Returns:
        What the processor would make of `other`; None where the two prompts part before the image ends, or
        where it cannot be told what the processor did.
    """
    head = len(os.path.commonprefix([list(raw), list(expanded)]))
    rest = list(raw[head:])[::-1], list(expanded[head:])[::-1]
    tail = len(os.path.commonprefix(rest))
    placeholder_end = len(raw) - tail
    if len(expanded) > len(raw) and list(other[:placeholder_end]) == list(raw[:placeholder_end]):
        return [*other[:head], *expanded[head : len(expanded) - tail], *other[placeholder_end:]]
    return None


def count_common(rows: Sequence[Tokens]) -> int:
    """How many tokens all rows begin with alike."""
    return len(os.path.commonprefix([list(row) for row in rows]))
