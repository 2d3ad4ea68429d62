"""The report as Markdown, for a terminal and a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hkdcli.evaluation.tally import MAX_CLASSES
from hkdcli.reporting.scores import Score, find_blind, list_counts, list_scores, parse_interval
from hkdcli.reporting.words import clean_text, name_metric, render_change, render_number

MAX_CHARACTERS = 200
"""Of a name or a label."""
MAX_WARNING_CHARACTERS = 2_000

_MARKS = {mark: f"\\{mark}" for mark in "\\`*[]~#!$"}
# Entities, since not every reader of tables takes a backslash before a bar.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_ESCAPES = str.maketrans(_MARKS | _ENTITIES)
_OUTER_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # inside a word it is no markup
# What a forge turns into links wherever it stands: @names and addresses, #1, http://, www.
_LINKING = re.compile(r"@|#(?=\d)|:(?=//)|(?<=www)\.", re.IGNORECASE)
_BREAK = "\u200b"
_PHENOMENON = ("found_rate", "false_choices", "false_alarm_rate", "true_choices")
_LIST = re.compile(r"^(\d*)([-+=]|[.)](?= |$))")

Row = Sequence[str]


def escape_markdown(text: str, most: int = MAX_CHARACTERS) -> str:
    """A text as one line that says itself: no markup, HTML, link, picture or mention, and no end of a cell.

    Whatever a forge would turn into a link has a zero-width space in it.

    Args:
        text: of the data.
        most: characters that are kept of it.

    Returns:
        The escaped line.
    """
    line = " ".join(clean_text(text).split())
    if len(line) > most:
        line = f"{line[: most - 1]}…"
    line = _LINKING.sub(lambda match: match[0] + _BREAK, line).translate(_ESCAPES)
    return _LIST.sub(r"\1\\\2", _OUTER_UNDERSCORE.sub(r"\\_", line))


def render_markdown(results: Mapping[str, Any], *, title: str) -> str:
    """Render results as Markdown with GitHub's tables.

    Args:
        results: a results document.
        title: of the report.

    Returns:
        The text, with a line feed at its end; it can always be encoded as UTF-8.
    """
    sections = [
        f"# {escape_markdown(title)}",
        _render_warnings(results["warnings"]),
        "## Scores",
        *_render_scores(list_scores(results, find_blind(results))),
        _render_bootstrap(results["bootstrap"]),
        "## Counts",
        _render_counts(results["counts"]),
        *(section for task in results["tasks"] for section in _render_task(results, task)),
        *_render_parsing(results["parsing"]),
        *_render_leak(results["leak"]),
        f"hkd {escape_markdown(results['hkd_version'])}",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _render_warnings(warnings: Sequence[str]) -> str:
    lines = [f"- {escape_markdown(text, MAX_WARNING_CHARACTERS)}" for text in warnings]
    return "\n".join(["**Read this first:**", "", *lines]) if lines else ""


def _render_scores(scores: Sequence[Score]) -> Iterator[str]:
    """The defined scores, with a column for each control that any of them has; then the undefined ones."""
    defined = [score for score in scores if score.value is not None]
    columns = {
        "score": [escape_markdown(name_metric(score.name)) for score in defined],
        "value": [_render_value(score) for score in defined],
        "best constant": _render_column([score.constant for score in defined]),
        "blind": _render_column([score.blind for score in defined]),
        "gain over blind": [_render_gain(score) for score in defined],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    if shown:
        yield _render_table(list(shown), list(zip(*shown.values(), strict=True)))
    undefined = [escape_markdown(name_metric(score.name)) for score in scores if score.value is None]
    if undefined:
        yield f"Undefined: {', '.join(undefined)}."


def _render_column(values: Sequence[float | None]) -> list[str]:
    return ["" if value is None else render_number(value) for value in values]


def _render_value(score: Score) -> str:
    spread = "" if score.interval is None else f" ± {render_number(score.interval.half_width)}"
    return f"{render_number(score.value)}{spread}"


def _render_gain(score: Score) -> str:
    if score.gain is None:
        return ""
    spread = "" if score.gain_interval is None else f" ± {render_number(score.gain_interval.half_width)}"
    return f"{render_change(score.gain)}{spread}"


def _render_bootstrap(bootstrap: Mapping[str, Any] | None) -> str:
    if bootstrap is None:
        return ""
    resamples, images = render_number(bootstrap["resamples"]), render_number(bootstrap["images"])
    level, seed = f"{bootstrap['level'] * 100:g} %", bootstrap["seed"]
    return f"± is half of a {level} interval: {resamples} resamples of {images} images, seed {seed}."


def _render_counts(counts: Mapping[str, int]) -> str:
    rows = [
        (escape_markdown(name.replace("_", " ")), render_number(value))
        for count in list_counts(counts)
        for name, value in [(count.name, count.value), *((f"{count.name}: {n}", v) for n, v in count.parts)]
    ]
    return _render_table(("count", "records"), rows)


def _render_task(results: Mapping[str, Any], task: str) -> Iterator[str]:
    block = results["tasks"][task]
    yield f"## {escape_markdown(task.capitalize())}"
    yield from _render_scores(list_scores(block, find_blind(results, task)))
    yield f"The best constant answer: {escape_markdown(block['constant_answer'])}."
    yield from _render_classes(block["per_class"])
    for key, values in block["phenomena"].items():
        yield f"### By {escape_markdown(key)} of the choices"
        yield _render_figures(key, values, _PHENOMENON)
    for key, values in block["slices"].items():
        yield f"### By {escape_markdown(key)} of the records"
        yield _render_slice(key, values)


def _render_classes(per_class: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    if not per_class:
        return
    yield "### Per class"
    shown = dict(list(per_class.items())[:MAX_CLASSES])
    yield _render_figures("class", shown, ("precision", "recall", "f1", "support"))
    if len(per_class) > len(shown):
        yield f"{len(per_class) - len(shown)} more classes are not shown."


def _render_figures(key: str, values: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    rows = [
        (escape_markdown(value), *(render_number(found[name]) for name in names))
        for value, found in values.items()
    ]
    return _render_table((escape_markdown(key), *(name.replace("_", " ") for name in names)), rows)


def _render_slice(key: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for value, found in values.items():
        score = Score("micro_f1", "higher", found["micro_f1"], parse_interval(found["interval"]))
        figures = (_render_value(score), render_number(found["exact_match"]), render_number(found["records"]))
        rows.append((escape_markdown(value), *figures))
    return _render_table((escape_markdown(key), "micro-F1", "exact match", "records"), rows)


def _render_parsing(parsing: Mapping[str, Any] | None) -> Iterator[str]:
    if parsing is None:
        return
    yield "## Reading answers from text"
    figures = ("texts", "strict_unparsed", "lenient_unparsed", "strict_micro_f1", "lenient_micro_f1")
    told = {name: render_number(parsing[name]) for name in figures}
    yield (
        f"{told['texts']} texts, read by the {escape_markdown(parsing['parser'])} parser. "
        f"The strict one cannot read {told['strict_unparsed']} (micro-F1 {told['strict_micro_f1']}), "
        f"the lenient one {told['lenient_unparsed']} (micro-F1 {told['lenient_micro_f1']})."
    )
    rows = [(escape_markdown(kind), render_number(count)) for kind, count in parsing["by_kind"].items()]
    yield _render_table(("read as", "texts"), rows)


def _render_leak(leak: Mapping[str, Any] | None) -> Iterator[str]:
    if leak is None:
        return
    yield "## Records that training may have seen"
    yield (
        f"Leak rate {render_number(leak['leak_rate'])}: {render_number(leak['shared_ids'])} shared ids, "
        f"{render_number(leak['shared_images'])} shared images."
    )


def _render_table(header: Row, rows: Sequence[Row]) -> str:
    """A table whose first column is text and whose others are figures, aligned for a terminal, too."""
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(_pad_cells(line, widths))} |" for line in lines)


def _pad_cells(row: Row, widths: Sequence[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if place else cell.ljust(width)
