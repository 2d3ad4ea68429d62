"""The figures as a page: two tables, the command and the card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_GIB = 2**30
_LESSONS = (
    "case",
    "examples at once",
    "planned, GiB",
    "measured, GiB",
    "reserved, GiB",
    "planned / measured",
    "the same, activations",
    "s per step",
    "of it reading",
    "tokens per s",
    "share of peak",
)
_ASKING = ("case", "orders", "records per s", "s per record", "peak, GiB", "all / one")


def render_page(document: Mapping[str, Any]) -> str:
    """Render a Markdown page of all cases.

    Args:
        document: of the benchmark.

    Returns:
        The page, from its heading to its last table.
    """
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    machine = [f"{document['card'] or 'No card'}; {versions}.", "", *render_definitions(document)]
    head = ["# One GPU, measured", "", "```", document["command"], "```", "", *machine, ""]
    return "\n".join([*head, render_tables(document), ""])


def render_tables(document: Mapping[str, Any]) -> str:
    """The tables alone: trainings, then inference."""
    lessons, asking = list(_list_lessons(document)), list(_list_asking(document))
    kinds = ((_LESSONS, lessons), (_ASKING, asking))
    return "\n\n".join("\n".join(_render_table(names, rows)) for names, rows in kinds if rows)


def render_definitions(document: Mapping[str, Any]) -> list[str]:
    return [f"- {name.replace('_', ' ')}: {meaning}" for name, meaning in document["definitions"].items()]


def _list_lessons(document: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, case in document["cases"].items():
        if "widths" not in case:
            if case["kind"] == "lesson":
                yield [name, "", case["outcome"], *[""] * (len(_LESSONS) - 3)]
            continue
        for report in case["widths"]:
            yield [name, str(report["examples_at_once"]), *_render_report(report)]


def _render_report(report: Mapping[str, Any]) -> list[str]:
    planned = _gib(report["planned"]["peak"])
    if report["outcome"] != "measured":
        return [planned, report["outcome"], *[""] * (len(_LESSONS) - 4)]
    measured, ratios = report["measured"], report["ratios"]
    share = report["share_of_peak"]
    return [
        planned,
        _gib(measured["peak"]),
        _gib(measured["reserved"]),
        f"{ratios['peak']:.3f}",
        f"{ratios['activations']:.2f}",
        f"{report['seconds_per_step']:.3f}",
        f"{report['reading_seconds_per_step']:.3f}",
        f"{report['tokens_per_second']:,.0f}",
        "-" if share is None else f"{share:.0%}",
    ]


def _list_asking(document: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, case in document["cases"].items():
        if case["kind"] != "asking":
            continue
        if case["outcome"] != "measured":
            yield [name, "", case["outcome"], "", "", ""]
            continue
        for which in ("one", "all"):
            one = case[which]
            ratio = f"{case['all_over_one']:.2f}" if which == "all" else ""
            rate = [f"{one['records_per_second']:.1f}", f"{one['seconds_per_record']:.4f}"]
            yield [name, str(one["orders"]), *rate, _gib(one["peak"]), ratio]


def _render_table(names: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    lines = [list(names), ["---"] * len(names), *rows]
    return ["|" + "|".join(f" {cell} " if cell != "---" else cell for cell in line) + "|" for line in lines]


def _gib(count: int | None) -> str:
    return "-" if count is None else f"{count / _GIB:.2f}"
