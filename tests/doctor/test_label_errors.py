"""Labels that were falsified are found, and those that were not are left alone."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from calling_doctor import call_doctor
from looking import look
from tiny_records import make_factuality, make_hallucination

from hkdcli.__main__ import main
from hkdcli.doctor.label_errors import check_labels, compute_thresholds, find_suspects
from hkdcli.evaluation.certainty import Certainty
from hkdcli.evaluation.predictions import Prediction
from hkdcli.scenes.source import load_scenes, write_scenes

LETTERS = "ABCD"


def spread(letter: str, p: float):
    """A posterior over the four verdicts with `p` on one of them."""
    return tuple((frozenset(each), p if each == letter else (1 - p) / 3) for each in LETTERS)


def test_the_threshold_of_a_class_is_its_mean_self_confidence() -> None:
    examples = [make_factuality(str(i), answer=frozenset(letter)) for i, letter in enumerate("AAB")]
    posteriors = {"0": spread("A", 0.9), "1": spread("A", 0.5), "2": spread("A", 0.7)}
    found = compute_thresholds(examples, posteriors)
    assert found[("factuality", "True")] == pytest.approx(0.7)
    assert found[("factuality", "False")] == pytest.approx(0.1)
    # The third is labelled False, and the model gives True as much as it gives it on average.
    (suspect,) = find_suspects(examples, posteriors)
    assert str(suspect) == "2: gold B (0.100), predicted A (0.700)"
    posteriors["2"] = spread("A", 0.6)  # below the threshold of True
    assert find_suspects(examples, posteriors) == []


def test_law_falsified_labels_are_found_and_ranked_first() -> None:
    """A judge that is right nine times in ten, and doubts itself where it is not."""
    rng = random.Random(0)
    truth = [rng.choice(LETTERS) for _ in range(400)]
    flipped = set(rng.sample(range(400), 40))
    examples, posteriors = [], {}
    for place, letter in enumerate(truth):
        label = rng.choice([each for each in LETTERS if each != letter]) if place in flipped else letter
        examples.append(make_factuality(f"r{place:03d}", answer=frozenset(label)))
        said, p = (letter, rng.uniform(0.8, 0.99)) if rng.random() < 0.9 else (rng.choice(LETTERS), 0.4)
        posteriors[f"r{place:03d}"] = spread(said, p)
    suspects = [int(suspect.id[1:]) for suspect in find_suspects(examples, posteriors)]
    assert len(flipped & set(suspects)) >= 34 and len(set(suspects) - flipped) <= 4
    assert set(suspects[:20]) <= flipped


def test_sets_of_phrases_share_a_threshold() -> None:
    examples = [
        make_hallucination("a", answer=frozenset("B")),
        make_hallucination("b", answer=frozenset("BD")),
        make_hallucination("c", answer=frozenset("A")),
    ]
    sure = {frozenset("B"): 0.9, frozenset("A"): 0.1}
    posteriors = {
        "a": tuple(sure.items()),
        "b": ((frozenset("BD"), 0.9), (frozenset("A"), 0.1)),
        "c": ((frozenset("CD"), 0.92), (frozenset("A"), 0.08)),
    }
    (suspect,) = find_suspects(examples, posteriors)
    assert (suspect.id, suspect.predicted) == ("c", frozenset("CD"))


def test_without_posteriors_nothing_is_claimed() -> None:
    example = make_factuality("a")
    check = look(check_labels, [example], [Prediction("a", frozenset("A"))])
    assert check.status == "failed" and "hkd infer" in check.hint
    said = [Prediction("a", frozenset("C"), certainty=Certainty(posterior=spread("C", 0.9)))]
    assert look(check_labels, [example], said).found == "no label of 1 records is doubted"


def test_of_the_shipped_judge_and_records_with_one_false_label(tmp_path: Path) -> None:
    dataset = load_scenes("test", size=40, tasks=("hallucination",))
    write_scenes(tmp_path, dataset)
    out = tmp_path / "p.jsonl"
    assert main(["infer", "scenes:large-tuned", str(tmp_path / "records.json"), "--out", str(out)]) == 0
    rows = {row["id"]: row for row in map(json.loads, out.read_text().splitlines())}
    sure = max(
        dataset.examples,
        key=lambda e: rows[e.id]["confidence"] * (rows[e.id]["prediction"] == sorted(e.answer)),
    )
    other = frozenset({sure.none_id}) if sure.none_id not in sure.answer else frozenset({sure.choices[-1].id})
    spoilt = tuple(replace(e, answer=other) if e.id == sure.id else e for e in dataset.examples)
    write_scenes(tmp_path, replace(dataset, examples=spoilt))
    document = call_doctor(tmp_path / "records.json", "--predictions", out)
    (labels,) = (check for check in document["checks"] if check["name"] == "data.labels")
    assert labels["status"] == "warning"
    assert f"the most doubtful first: {sure.id}: gold {', '.join(sorted(other))}" in labels["found"]
