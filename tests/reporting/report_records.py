"""Results, records and tables for tests of reporting; every text of the data goes through `say`."""

from __future__ import annotations

from PIL import Image

from hkdcli.data.records import Choice, Example
from hkdcli.evaluation.certainty import Certainty
from hkdcli.evaluation.join import build_table
from hkdcli.evaluation.predictions import Prediction
from hkdcli.evaluation.results import DEFINITIONS
from hkdcli.reporting.cases import build_cases
from hkdcli.reporting.page import render_page
from hkdcli.reporting.thumbnails import Thumbnail, render_thumbnail

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LABELS = ("True", "False", "Partially True", "Not Verifiable")
METRICS = {
    "micro_f1": 0.71,
    "micro_precision": 0.7,
    "micro_recall": 0.72,
    "macro_f1": 0.68,
    "exact_match": 0.55,
    "hallucinated_f1": 0.66,
    "coverage": 0.97,
    "selective_exact_match": 0.57,
    "ece": 0.04,
    "brier": 1.2,
    "aurc": 0.21,
    "flip_rate": None,
    "constant_micro_f1": 0.45,
}
CURVE = [{"coverage": c / 4, "risk": 0.05 * c, "confidence": 1 - c / 8} for c in range(1, 5)]
BINS = [
    {"low": 6 / 15, "high": 7 / 15, "records": 4, "confidence": 0.43, "exact_match": 0.5},
    {"low": 14 / 15, "high": 1.0, "records": 12, "confidence": 0.97, "exact_match": 0.75},
]
SPREAD = {"low": 0.68, "high": 0.74, "half_width": 0.03}


def same(text):
    return text


def build_task(task, say=same, metrics=METRICS):
    hallucination = task == "hallucination"
    counts = {"records": 4, "missing": 1, "error": 0, "abstained": 1, "invalid": 1, "invalid.several": 1}
    return {
        "metrics": dict(metrics),
        "intervals": {"micro_f1": SPREAD, "ece": None},
        "constant_answer": say("always 'True'"),
        "per_class": {
            say(label): {"precision": 0.5, "recall": None, "f1": 0.6, "support": 9} for label in LABELS
        },
        "confusion": {}
        if hallucination
        else {say("True"): {say("True"): 4, say("False"): 1, "no answer": 2}},
        "phenomena": {say("phenomena"): {say("colour"): _score_phenomenon()}} if hallucination else {},
        "slices": {
            say("source"): {
                say("coco"): {"micro_f1": 0.6, "exact_match": 0.5, "records": 3, "interval": SPREAD},
                say("vizwiz"): {"micro_f1": None, "exact_match": 0.0, "records": 1, "interval": None},
            }
        },
        "counts": counts,
        "risk_coverage": CURVE,
        "calibration": BINS,
    }


def _score_phenomenon():
    return {"found_rate": 0.4, "false_alarm_rate": 0.1, "false_choices": 5, "true_choices": 20}


def build_results(say=same, metrics=METRICS, tasks=("factuality", "hallucination")):
    """A full document, or with `metrics` other ones."""
    gain = {name: value and 0.25 for name, value in metrics.items() if name not in ("ece", "brier", "aurc")}
    blind = {"metrics": {name: value and value / 2 for name, value in metrics.items()}, "gain": gain}
    blind |= {"gain_intervals": {"micro_f1": {"low": 0.2, "high": 0.3, "half_width": 0.05}, "ece": None}}
    return {
        "schema_version": "1.0",
        "hkd_version": say("0.1.0"),
        "metrics": {**metrics, say("other score"): 0.3},
        "intervals": {"micro_f1": SPREAD, "exact_match": SPREAD},
        "tasks": {task: build_task(task, say, metrics) for task in tasks},
        "counts": {
            "records": 8,
            "missing": 2,
            "error": 0,
            "abstained": 2,
            "invalid": 2,
            "invalid.several": 2,
        },
        "risk_coverage": CURVE,
        "calibration": BINS,
        "parsing": {
            "parser": say("lenient"),
            "texts": 100,
            "strict_unparsed": 12,
            "lenient_unparsed": 3,
            "by_kind": {say("ids"): 80, say("words"): 17, say("unparsed"): 3},
            "strict_micro_f1": 0.6,
            "lenient_micro_f1": None,
        },
        "blind": {**blind, "tasks": dict.fromkeys(tasks, blind)},
        "leak": {"leak_rate": 0.1, "shared_ids": 3, "shared_images": 10},
        "bootstrap": {"resamples": 10_000, "seed": 0, "level": 0.95, "images": 812},
        "definitions": {**DEFINITIONS, say("name"): say("text")},
        "warnings": [say("2 of 8 records have no prediction and count as wrong")],
    }


def build_bare_results():
    """A document in which everything that may be null or empty is."""
    nothing = dict.fromkeys(METRICS)
    bare = {
        "per_class": {},
        "confusion": {},
        "slices": {},
        "phenomena": {},
        "risk_coverage": [],
        "calibration": [],
    }
    results = build_results(metrics=nothing, tasks=("factuality",))
    results["tasks"]["factuality"] |= {**bare, "intervals": {}}
    results |= {"metrics": nothing, "intervals": {}, "risk_coverage": [], "calibration": [], "warnings": []}
    return results | {"parsing": None, "blind": None, "leak": None, "bootstrap": None}


def phrase_record(name, gold, say=same, choices=4, meta=None):
    """A hallucination record whose choice A is "No hallucination"."""
    texts = ["No hallucination", *(say(f"phrase {i}") for i in range(1, choices))]
    return Example(
        id=say(name),
        task="hallucination",
        image=say(f"{name}.png"),
        question=say("Which are hallucinations?"),
        choices=tuple(Choice(LETTERS[i], text) for i, text in enumerate(texts)),
        answer=frozenset(gold),
        caption=say(f"a caption of {name}"),
        caption_question=say("What is it?"),
        extra={"meta": {say(key): value for key, value in (meta or {}).items()}},
    )


def claim_record(name, gold, say=same, meta=None):
    return Example(
        id=say(name),
        task="factuality",
        image=say(f"{name}.png"),
        question=say("Is it factual?"),
        choices=tuple(Choice(LETTERS[i], say(text)) for i, text in enumerate(LABELS)),
        answer=frozenset(gold),
        claim=say(f"a claim of {name}"),
        context=say("a context"),
        extra={"meta": {say(key): value for key, value in (meta or {}).items()}},
    )


def predict(name, choices, posterior=None, **options):
    """A row; `posterior` by answers such as "BC", its first being the confidence."""
    rows = tuple((frozenset(answer), p) for answer, p in (posterior or {}).items())
    certainty = Certainty(confidence=rows[0][1], posterior=rows) if rows else Certainty()
    return Prediction(name, None if choices is None else frozenset(choices), certainty=certainty, **options)


def build_tables(say=same):
    """Six wrong records and a right one of two tasks, with every kind of error."""
    records = [
        phrase_record("missed", "B", say, meta={"source": say("coco"), "phenomena": {"B": say("colour")}}),
        phrase_record("alarm", "A", say, meta={"source": say("vizwiz"), "phenomena": {"C": say("size")}}),
        phrase_record("both", "B", say, meta={"source": say("coco")}),
        phrase_record("silent", "B", say, meta={"source": say("coco")}),
        phrase_record("right", "B", say),
        claim_record("label", "A", say, meta={"source": say("vizwiz")}),
        claim_record("several", "A", say),
    ]
    rows = [
        predict(say("missed"), "A", {"A": 0.6, "B": 0.3, "BC": 0.1}),
        predict(say("alarm"), "C", {"C": 0.9, "A": 0.1}),
        predict(say("both"), "C", {"C": 0.7}),
        predict(say("right"), "B", {"B": 0.99}),
        predict(say("label"), "B", {"B": 0.8, "A": 0.2}),
        predict(say("several"), "AB"),
    ]
    by_id = {row.id: row for row in rows}
    return {
        task: build_table([record for record in records if record.task == task], by_id)
        for task in ("factuality", "hallucination")
    }


def build_page(say=same):
    """A page with everything on it: pictures, one that could not be loaded, and one that nobody asked for."""
    gallery = build_cases(build_tables(say), 100)
    picture = Thumbnail(uri=render_thumbnail(Image.new("RGB", (64, 48), "teal")))
    thumbnails = {case.id: picture for case in gallery.cases[2:]}
    thumbnails[gallery.cases[0].id] = Thumbnail(reason=say("image.missing: no such file"))
    return render_page(build_results(say), gallery, title=say("a report"), thumbnails=thumbnails)
