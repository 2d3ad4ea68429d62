"""`hkd infer MODEL --image`: one picture and one text, as people and as programs read the verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Said, call_hkd, read_rows
from PIL import Image

from hkdcli.data.records import NO_HALLUCINATION as NONE

MODEL = "scenes:large-tuned"  # judges the embedded world well enough that its verdicts can be looked at


@pytest.fixture(scope="module")
def record(scenes_files: Path) -> dict[str, Any]:
    """A record with a hallucinated phrase beside others, and the path of its picture."""
    records = json.loads((scenes_files / "records.json").read_text())
    asked = [record for record in records if "claim" not in record and len(list_phrases(record)) > 2]
    found = next(record for record in asked if len(list_gold(record)) == 1 and list_gold(record) != [NONE])
    return {**found, "picture": scenes_files / "images" / found["image_id"]}


@pytest.fixture(scope="module")
def claim(scenes_files: Path) -> dict[str, Any]:
    """A record with a claim, and the path of its picture."""
    records = json.loads((scenes_files / "records.json").read_text())
    found = next(r for r in records if "claim" in r and r["correct_choice"] == "A")
    return {**found, "picture": scenes_files / "images" / found["image_id"]}


def judge(picture: Path, *options: str | Path, code: int = 0) -> Said:
    return call_hkd("infer", MODEL, "--image", picture, *options, code=code)


def list_phrases(record: dict[str, Any]) -> list[str]:
    return [choice["choice"] for choice in record["choices"] if choice["choice"] != NONE]


def list_gold(record: dict[str, Any]) -> list[str]:
    letters = record["correct_choice"].split(",")
    return [choice["choice"] for choice in record["choices"] if choice["id"] in letters]


def test_phrases_that_are_given_are_judged_as_a_record_of_them_is(
    record: dict[str, Any], tmp_path: Path
) -> None:
    phrases = list_phrases(record)
    caption = ("--caption", record["system1_answer"], "--phrases", ", ".join(phrases))
    document = judge(record["picture"], *caption, "--shift", "--json").document
    assert [phrase["text"] for phrase in document["phrases"]] == phrases
    choices = [{"id": "ABCDEFGH"[i], "choice": text} for i, text in enumerate([NONE, *phrases])]
    asked = {name: record[name] for name in ("id", "image_id", "system1_answer", "system2_question")}
    (tmp_path / "r.json").write_text(json.dumps({**asked, "choices": choices}))
    images = ("--images", record["picture"].parent)
    call_hkd("infer", MODEL, tmp_path / "r.json", *images, "--shift", "--out", tmp_path / "p.jsonl")
    (row,) = read_rows(tmp_path / "p.jsonl")
    found = [document["clean"], *(phrase["probability"] for phrase in document["phrases"])]
    assert found == pytest.approx(list(row["marginals"].values()), abs=1e-6)
    assert document["hallucinated"] == [phrases["ABCDEFGH".index(letter) - 1] for letter in row["prediction"]]
    assert document["hallucinated"] == list_gold(record) and document["confidence"] == row["confidence"]


def test_the_panel_shows_each_phrase_its_probability_and_the_verdict(record: dict[str, Any]) -> None:
    phrases, gold = list_phrases(record), list_gold(record)
    said = judge(record["picture"], "--caption", record["system1_answer"], "--phrases", ",".join(phrases))
    lines = said.out.splitlines()
    assert lines[0] == f"Hallucinated: {', '.join(gold)}" and lines[1].startswith("confidence 0.")
    for phrase in phrases:
        (line,) = (line for line in lines if line.startswith(f"{phrase}  "))
        assert ("hallucinated" in line) == (phrase in gold)
        assert 0 <= float(line.removeprefix(phrase).split()[0]) <= 1
    assert any(line.startswith("(no hallucination)") for line in lines)


def test_phrases_are_proposed_where_none_are_given(record: dict[str, Any]) -> None:
    document = judge(record["picture"], "--caption", record["system1_answer"], "--json").document
    assert len(document["phrases"]) >= 2
    assert document["caption"] == record["system1_answer"]


def test_a_claim_has_a_label_and_four_probabilities(claim: dict[str, Any]) -> None:
    options = ("--claim", claim["claim"], "--context", claim["context"])
    document = judge(claim["picture"], *options, "--json").document
    assert set(document["probabilities"]) == {"True", "False", "Partially True", "Not Verifiable"}
    assert sum(document["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    best = max(document["probabilities"], key=document["probabilities"].__getitem__)
    assert document["label"] == best and document["context"] == claim["context"]
    said = judge(claim["picture"], *options)
    assert said.out.splitlines()[0] == f"The claim is: {best}"
    without = judge(claim["picture"], "--claim", claim["claim"], "--json").document
    assert without["context"] == "" and without["probabilities"] != document["probabilities"]


def test_too_uncertain_an_answer_is_not_given(claim: dict[str, Any]) -> None:
    said = judge(claim["picture"], "--claim", claim["claim"], "--abstain-below", "1")
    assert said.out.splitlines()[0] == "The claim is: too uncertain to say"


def test_evidence_is_a_picture_of_the_same_size(record: dict[str, Any], tmp_path: Path) -> None:
    caption = ("--caption", record["system1_answer"], "--phrases", ",".join(list_phrases(record)))
    large, why = tmp_path / "large.png", tmp_path / "why.png"
    with Image.open(record["picture"]) as picture:
        picture.resize((210, 180)).save(large)
    said = judge(large, *caption, "--evidence", why, "--json")
    assert (
        said.document["evidence"]["file"] == str(why)
        and "hallucinated" in said.document["evidence"]["verdict"]
    )
    with Image.open(why) as drawn, Image.open(large) as picture:
        drawn.load()
        assert drawn.format == "PNG" and drawn.size == picture.size == (210, 180)
        assert drawn.convert("RGB").tobytes() != picture.convert("RGB").tobytes()
    before = why.read_bytes()
    assert "--overwrite" in judge(large, *caption, "--evidence", why, code=2).err
    assert why.read_bytes() == before
    judge(large, *caption, "--evidence", why, "--overwrite")


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "image.empty"), (b"<html>404</html>", "image.not_an_image"), (None, "image.missing")],
)
def test_a_picture_that_cannot_be_read_is_refused_by_its_code(
    tmp_path: Path, content: bytes | None, code: str
) -> None:
    picture = tmp_path / "x.png"
    if content is not None:
        picture.write_bytes(content)
    said = judge(picture, "--claim", "It is red.", "--json", code=3)
    assert code in said.err and said.document["exit_code"] == 3


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ([], "one of --caption and --claim"),
        (["--caption", "c", "--claim", "c"], "one of --caption and --claim"),
        (["--claim", "c", "--phrases", "a"], "--phrases goes with --caption"),
        (["--caption", "c", "--limit", "2"], "--limit and --image exclude"),
        (["--caption", "c", "--engine", "vllm"], "--engine vllm is for many records"),
        (["--claim", "c", "--debias", "prior"], "no letter prior was estimated"),
    ],
)
def test_what_makes_no_sense_is_refused(claim: dict[str, Any], options: list[str], part: str) -> None:
    said = judge(claim["picture"], *options, "--json", code=2)
    assert part in said.err and said.document["exit_code"] == 2


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--caption", " "], "record.empty_field"),
        (["--caption", "c", "--phrases", ","], "record.choice_count"),
    ],
)
def test_a_text_that_cannot_be_asked_about_is_refused(
    claim: dict[str, Any], options: list[str], part: str
) -> None:
    assert part in judge(claim["picture"], *options, code=3).err
