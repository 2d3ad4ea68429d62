"""The report as one HTML file: no other file, no network, nothing of the data that a browser would run.

Every value goes through `clean_text` and is escaped; the Content-Security-Policy of the page lets only the
page's own script run, which it knows by hash.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hkdcli.evaluation.tally import MAX_CLASSES
from hkdcli.reporting import words
from hkdcli.reporting.cases import Case, Gallery
from hkdcli.reporting.confusion import Matrix, build_matrix
from hkdcli.reporting.facets import build_facets
from hkdcli.reporting.scores import CARDS, Score, find_blind, list_counts, list_scores, parse_interval
from hkdcli.reporting.thumbnails import Thumbnail

MAX_CHARACTERS = 4_000
"""Of a text of a record; the page says how many more there are."""
MAX_LABEL_CHARACTERS = 160
"""Of a name, a label or a warning."""
MAX_ANSWERS = 5
"""Rows of a posterior."""
_QUESTIONS = ("question", "caption question")


@dataclass(frozen=True, slots=True)
class Part:
    """Scores of all records, or of one task.

    Attributes:
        name: "all records" or the task.
        key: unique on the page, fit for an id.
        scores: as `list_scores` gives them.
        block: the same part of the results.
        matrix: its confusion, where it has one that can be shown.
    """

    name: str
    key: str
    scores: Sequence[Score]
    block: Mapping[str, Any]
    matrix: Matrix | None = None

    @property
    def headline(self) -> list[Score]:
        """The scores that stand at the top, those that are defined."""
        found = {score.name: score for score in self.scores if score.value is not None}
        return [found[name] for name in CARDS if name in found]


def render_page(
    results: Mapping[str, Any], gallery: Gallery, *, title: str, thumbnails: Mapping[str, Thumbnail]
) -> str:
    """Render results and cases as a page.

    Args:
        results: a results document.
        gallery: the cases to show.
        title: of the page.
        thumbnails: by record id; a case without one is shown without a picture.

    Returns:
        HTML, the same for the same arguments; it can always be encoded as UTF-8.
    """
    script = _read_template("page.js")
    return (
        _build_environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            results=results,
            overall=Part("all records", "all", list_scores(results, find_blind(results)), results),
            tasks=[_build_part(results, task, number) for number, task in enumerate(results["tasks"])],
            counts=list_counts(results["counts"]),
            cases=gallery.cases,
            total=gallery.total,
            facets=build_facets(gallery.cases),
            shared=_find_shared(gallery.cases),
            thumbnails=thumbnails,
            # The package's own files, nothing of the data.
            style=Markup(_read_template("style.css") + _read_template("gallery.css")),
            script=Markup(script),
            script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        )
    )


def _build_part(results: Mapping[str, Any], task: str, number: int) -> Part:
    block = results["tasks"][task]
    scores = list_scores(block, find_blind(results, task))
    return Part(task, f"task-{number}", scores, block, build_matrix(block["confusion"]))


def _find_shared(cases: Sequence[Case]) -> dict[str, dict[str, str]]:
    """Questions that every case of a task of two or more asks, to be said once: {task: {name: text}}."""
    by_task: dict[str, list[Case]] = {}
    for case in cases:
        by_task.setdefault(case.task, []).append(case)
    return {
        task: {
            name: text
            for name, text in group[0].texts
            if name in _QUESTIONS
            and len(text) <= MAX_LABEL_CHARACTERS
            and all((name, text) in case.texts for case in group)
        }
        for task, group in by_task.items()
        if len(group) > 1
    }


@cache
def _build_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hkdcli.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.render_number,
        "change": words.render_change,
        "metric": words.name_metric,
        "fault": words.name_fault,
        "brief": _shorten,
        "at": _place,
        "ceiling": _find_ceiling,
        "interval": parse_interval,
        "numbered": enumerate,
    }
    environment.globals |= {
        "MAX_CHARACTERS": MAX_CHARACTERS,
        "MAX_ANSWERS": MAX_ANSWERS,
        "MAX_CLASSES": MAX_CLASSES,
    }
    return environment


def _clean(value: object) -> object:
    """What jinja asks about every value before it escapes it; what is a template's own markup stays."""
    return words.clean_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _shorten(text: str) -> str:
    """A text that fits a label."""
    return text if len(text) <= MAX_LABEL_CHARACTERS else f"{text[: MAX_LABEL_CHARACTERS - 1]}…"


def _place(value: float) -> str:
    """A place on an axis from 0 to 1, as a style sheet reads it; what lies beyond is put at its end."""
    return f"{min(max(value, 0.0), 1.0):.4f}"


def _find_ceiling(values: Sequence[float]) -> float:
    """The end of an axis from 0 that shows all values in [0, 1]."""
    return next(end for end in (0.1, 0.2, 0.5, 1.0) if end >= max(values) or end == 1.0)


@cache
def _read_template(name: str) -> str:
    return (files("hkdcli.reporting") / "templates" / name).read_text("utf-8")
