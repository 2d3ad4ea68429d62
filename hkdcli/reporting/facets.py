"""What the cases of a gallery can be filtered by."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hkdcli.evaluation.slices import MAX_VALUES
from hkdcli.reporting.cases import KINDS, Case


@dataclass(frozen=True, slots=True)
class Facet:
    """One thing to filter by.

    Attributes:
        name: unique among facets; it stands in links.
        label: what people read.
        values: each with the number of cases that have it.
        places: for each case the indices of its values, ascending.
    """

    name: str
    label: str
    values: tuple[tuple[str, int], ...]
    places: tuple[tuple[int, ...], ...]


def build_facets(cases: Sequence[Case]) -> list[Facet]:
    """Find the facets that tell some cases from others: task, kind of error, what the records' `meta` says.

    A key of `meta` with more than `MAX_VALUES` values names records rather than groups of them: left out.

    Args:
        cases: of the gallery.

    Returns:
        The facets; a case may have several values of one, or none.
    """
    held = [_collect(case) for case in cases]
    names = {(name, label): None for values in held for name, label, _ in values}
    order = ["task", "kind", *sorted(name for name, _ in names if name not in ("task", "kind"))]
    ranked = sorted(names, key=lambda pair: order.index(pair[0]))
    facets = [_build_facet(name, label, held) for name, label in ranked]
    return [facet for facet in facets if len(facet.values) <= MAX_VALUES and _divides(facet)]


def _collect(case: Case) -> list[tuple[str, str, str]]:
    """(name, label, value) of all that a case can be found by."""
    found = [("task", "task", case.task), *(("kind", "error", kind) for kind in case.kinds)]
    found += [(f"meta.{key}", key, value) for key, value in case.slices.items()]
    return list(dict.fromkeys([*found, *_collect_tags(case)]))


def _collect_tags(case: Case) -> Iterator[tuple[str, str, str]]:
    """Tags of the choices that were decided wrongly."""
    for choice in case.choices:
        if choice.decision in ("FP", "FN"):
            for key, value in choice.tags.items():
                yield f"choice.{key}", f"{key} of a wrong choice", value


def _build_facet(name: str, label: str, held: Sequence[Sequence[tuple[str, str, str]]]) -> Facet:
    counts: Counter[str] = Counter()
    values: dict[int, list[str]] = defaultdict(list)
    for number, found in enumerate(held):
        for owner, _, value in found:
            if owner == name:
                counts[value] += 1
                values[number].append(value)
    ordered = [kind for kind in KINDS if kind in counts] if name == "kind" else sorted(counts)
    places = {value: place for place, value in enumerate(ordered)}
    return Facet(
        name,
        label,
        tuple((value, counts[value]) for value in ordered),
        tuple(tuple(sorted(places[value] for value in values[number])) for number in range(len(held))),
    )


def _divides(facet: Facet) -> bool:
    return len(set(facet.places)) > 1
