"""`hkd evaluate`, `compare` and `submit` as people type them: controls, gates, reports, files in the way."""

import csv
import io
import json
import re

import pytest
from PIL import Image

from hkdcli.__main__ import main

TEXTS = ("No hallucination", "a red ball", "a tall tree", "on the table")


def build_record(index, gold):
    return {
        "id": f"r{index}",
        "image_id": f"{index}.png",
        "system1_answer": "A red ball on the table beside a tall tree.",
        "system2_question": "Which?",
        "choices": [{"id": letter, "choice": text} for letter, text in zip("ABCD", TEXTS, strict=True)],
        "correct_choice": gold,
        "meta": {"source": "ab"[index % 2]},
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twenty records of which p.jsonl has 15 right and blind.jsonl 5."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    golds = ["A", "B", "C", "B,C"] * 5
    for index in range(20):
        Image.new("RGB", (40, 30), (index, 0, 0)).save(tmp_path / "images" / f"{index}.png")
    records = [build_record(index, gold) for index, gold in enumerate(golds)]
    (tmp_path / "records.json").write_text(json.dumps(records))
    write_rows(tmp_path / "p.jsonl", golds, right=15, blind=False)
    write_rows(tmp_path / "blind.jsonl", golds, right=5, blind=True)
    return tmp_path


def write_rows(path, golds, right, **fields):
    said = [gold.split(",") if index < right else ["D"] for index, gold in enumerate(golds)]
    rows = [{"id": f"r{index}", "prediction": each, **fields} for index, each in enumerate(said)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(capsys, *arguments, code=0):
    """The document that a command prints, and what it says beside it."""
    assert main([*arguments, "--json"]) == code
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


def test_a_score_has_its_interval_in_the_file_and_on_the_terminal(folder, capsys):
    document, _ = run(capsys, "evaluate", "p.jsonl", "records.json", "--out", "results.json")
    assert json.loads((folder / "results.json").read_text()) == document
    assert document["intervals"]["exact_match"]["low"] < 0.75 < document["intervals"]["exact_match"]["high"]
    assert document["bootstrap"] == {"resamples": 10000, "seed": 0, "level": 0.95, "images": 20}
    assert main(["evaluate", "p.jsonl", "records.json"]) == 0
    half = document["intervals"]["exact_match"]["half_width"]
    assert f"exact_match             0.750 ± {half:.3f}" in capsys.readouterr().out
    document, _ = run(capsys, "evaluate", "p.jsonl", "records.json", "--no-intervals")
    assert document["intervals"] == {} and document["bootstrap"] is None


def test_the_gain_over_blind_stands_beside_each_score(folder, capsys):
    document, _ = run(capsys, "evaluate", "p.jsonl", "records.json", "--blind", "blind.jsonl")
    assert document["metrics"]["exact_match"] == 0.75
    assert document["blind"]["metrics"]["exact_match"] == 0.25
    assert document["blind"]["gain"]["exact_match"] == 0.5
    interval = document["blind"]["tasks"]["hallucination"]["gain_intervals"]["exact_match"]
    assert interval["low"] < 0.5 < interval["high"]
    assert main(["evaluate", "p.jsonl", "records.json", "--blind", "blind.jsonl"]) == 0
    assert re.search(r"all +exact_match +0\.250 +\+0\.500 ± 0\.\d+", capsys.readouterr().out)


def test_the_gain_over_blind_has_no_interval_where_none_is_wanted(folder, capsys):
    arguments = ["--blind", "blind.jsonl", "--no-intervals"]
    document, _ = run(capsys, "evaluate", "p.jsonl", "records.json", *arguments)
    assert document["blind"]["gain"]["exact_match"] == 0.5 and document["blind"]["gain_intervals"] == {}


def test_a_control_with_gaps_is_told_of(folder, capsys):
    lines = (folder / "blind.jsonl").read_text().splitlines(keepends=True)
    faults = ({"status": "error"}, {"status": "abstain"}, {"prediction": ["Z"]})
    lines[:3] = [json.dumps({"id": f"r{index}", **fault}) + "\n" for index, fault in enumerate(faults)]
    (folder / "few.jsonl").write_text("".join(lines[:18]))
    document, _ = run(capsys, "evaluate", "p.jsonl", "records.json", "--blind", "few.jsonl")
    assert any("5 of 20 records have no legal answer in the blind" in each for each in document["warnings"])


def test_a_control_that_saw_images_is_refused_and_one_alone_is_told_of(folder, capsys):
    assert main(["evaluate", "p.jsonl", "records.json", "--blind", "p.jsonl"]) == 2
    assert "20 of its answers were given with images shown" in capsys.readouterr().err
    assert main(["evaluate", "blind.jsonl", "records.json", "--blind", "blind.jsonl"]) == 2
    assert "was itself made with --blind" in capsys.readouterr().err
    document, said = run(capsys, "evaluate", "blind.jsonl", "records.json")
    assert any("20 answers were given without images" in each for each in document["warnings"])


def test_a_gate_fails_with_6_after_it_has_shown_everything(folder, capsys):
    same, _ = run(capsys, "compare", "p.jsonl", "p.jsonl", "records.json", "--fail-if-worse", "0")
    assert same["scores"]["micro_f1"]["difference"] == 0
    gate = ["--fail-if-worse", "0.1", "--out", "c.json"]
    document, said = run(capsys, "compare", "p.jsonl", "blind.jsonl", "records.json", *gate, code=6)
    assert document["flips"]["broken"] == 10 and "quality gate not met: micro_f1 falls by" in said
    assert json.loads((folder / "c.json").read_text()) == document
    run(capsys, "compare", "blind.jsonl", "p.jsonl", "records.json", "--fail-if-worse", "0.1")
    run(capsys, "compare", "p.jsonl", "blind.jsonl", "records.json", "--fail-if-worse", "0.9")


def test_a_comparison_lists_what_changed(folder, capsys):
    assert main(["compare", "p.jsonl", "blind.jsonl", "records.json"]) == 0
    printed = capsys.readouterr()
    assert "warning: b: 20 answers were given without images" in " ".join(printed.err.split())
    said = printed.out
    assert re.search(r"all +10 +0 +0\.0020", said)  # McNemar: 2 * 0.5 ** 10
    assert re.search(r"broken +r7 +B, C +B, C +D", said)
    assert re.search(r"hallucination +source: a +10 +0 +5 +0", said)


def test_answers_of_another_system_are_scored_by_both_parsers(folder, capsys):
    letters = ["A", "B", "C", "B,C"] * 5
    texts = [f"The answer is {letter.replace(',', ' and ')}." for letter in letters[:18]]
    lines = [f'q{index},"{text}",0.{index + 10}' for index, text in enumerate([*texts, "D", "dunno"])]
    (folder / "a.csv").write_text("\n".join(["key,said,score", *lines]).replace("q", "r"))
    columns = ["--columns", "id=key,prediction=said,confidence=score"]
    document, _ = run(capsys, "evaluate", "a.csv", "records.json", *columns)
    parsing = document["parsing"]
    assert parsing["parser"] == "lenient" and parsing["texts"] == 20
    assert (parsing["strict_unparsed"], parsing["lenient_unparsed"]) == (19, 1)
    assert parsing["by_kind"] == {"marked": 18, "ids": 1, "unparsed": 1}
    assert document["metrics"]["micro_f1"] == parsing["lenient_micro_f1"] > parsing["strict_micro_f1"]
    assert document["metrics"]["exact_match"] == 0.9 and document["counts"]["with_confidence"] == 20
    strict, _ = run(capsys, "evaluate", "a.csv", "records.json", *columns, "--parser", "strict")
    assert strict["metrics"]["micro_f1"] == parsing["strict_micro_f1"]
    assert strict["counts"]["invalid.unparsed"] == 19


def test_reports_show_the_pictures_and_a_table_has_every_record(folder, capsys):
    reports = ["--report", "r.html", "--report", "r.md", "--per-record", "r.csv", "--gallery", "3"]
    assert main(["evaluate", "p.jsonl", "records.json", *reports]) == 0
    page = (folder / "r.html").read_text()
    assert page.count("data:image/webp;base64,") == 3 and "3 of 5" in page
    assert "0.750 ± 0.200" in (folder / "r.md").read_text()
    rows = list(csv.DictReader(io.StringIO((folder / "r.csv").read_text())))
    assert len(rows) == 20 and [row["outcome"] for row in rows] == ["right"] * 15 + ["wrong"] * 5
    assert (rows[15]["gold"], rows[15]["prediction"]) == ("B, C", "D")
    assert (rows[15]["false_alarms"], rows[15]["missed"]) == ("D", "B, C")


def test_a_table_of_records_says_why_there_is_no_answer(folder, capsys):
    (folder / "few.jsonl").write_text('{"id": "r0", "status": "error"}\n{"id": "r1", "prediction": ["=B"]}\n')
    assert main(["evaluate", "few.jsonl", "records.json", "--per-record", "r.csv"]) == 0
    rows = list(csv.DictReader(io.StringIO((folder / "r.csv").read_text())))
    assert [row["outcome"] for row in rows[:3]] == ["error", "invalid.unknown_choice", "missing"]
    assert rows[0]["text"] == "A red ball on the table beside a tall tree."


def test_a_submission_is_written_checked_and_refused(folder, capsys):
    document, _ = run(capsys, "submit", "p.jsonl", "records.json", "--out", "results.zip")
    assert document == {"file": "results.zip", "records": 20, "tasks": {"hallucination": 20}}
    run(capsys, "submit", "--check", "results.zip", "records.json")
    assert main(["submit", "p.jsonl", "records.json", "--out", "results.zip"]) == 2
    assert main(["submit", "p.jsonl", "records.json", "--out", "results.zip", "--overwrite"]) == 0
    lines = (folder / "p.jsonl").read_text().splitlines(keepends=True)
    (folder / "few.jsonl").write_text("".join(lines[:18]))
    assert main(["submit", "few.jsonl", "records.json", "--out", "few.zip"]) == 3
    said = capsys.readouterr().err
    assert "submission.missing" in said and "r19" in said and not (folder / "few.zip").exists()
    assert main(["submit", "p.jsonl", "records.json", "--task", "factuality", "--out", "f.zip"]) == 2


@pytest.mark.parametrize("option", ["--out", "--per-record"])
def test_records_of_training_are_never_overwritten(folder, option):
    before = (folder / "records.json").read_bytes()
    (folder / "train.json").write_bytes(before)
    arguments = ["evaluate", "p.jsonl", "records.json", "--trained-on", "train.json", option, "train.json"]
    assert main(arguments) == 2
    assert (folder / "train.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["submit", "records.json"], "PREDICTIONS and DATA are needed"),
        (["submit", "p.jsonl", "records.json"], "--out is missing"),
        (["submit", "--check", "x.zip", "p.jsonl", "records.json"], "--check takes DATA alone"),
        (["submit", "--check", "x.zip", "records.json", "--out", "y.zip"], "--check and --out"),
        (["evaluate", "p.jsonl", "records.json", "--report", "r.pdf"], "its kind is not known"),
        (["evaluate", "p.jsonl", "records.json", "--columns", "ids=x"], 'did you mean "id"'),
        (["evaluate", "p.jsonl", "records.json", "--out", "p.jsonl"], "is read by this command"),
        (["evaluate", "p.jsonl", "records.json", "--out", "records.json"], "is read by this command"),
        (
            ["evaluate", "p.jsonl", "records.json", "--blind", "blind.jsonl", "--out", "blind.jsonl"],
            "is read by this command",
        ),
        (["evaluate", "p.jsonl", "records.json", "--out", "r.md", "--report", "r.md"], "two outputs"),
        (["evaluate", "p.jsonl", "records.json", "--fail-on-leak"], "goes with --trained-on"),
        (["compare", "p.jsonl", "blind.jsonl", "records.json", "--out", "blind.jsonl"], "is read by this"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(folder, capsys, arguments, said):
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("kind", ["results", "comparison"])
def test_the_schema_describes_what_is_written(folder, capsys, kind):
    assert main(["schema", kind]) == 0
    schema = json.loads(capsys.readouterr().out)
    commands = {"results": ["evaluate", "p.jsonl"], "comparison": ["compare", "p.jsonl", "blind.jsonl"]}
    document, _ = run(capsys, *commands[kind], "records.json")
    assert set(document) == set(schema["properties"]) and schema["additionalProperties"] is False
    assert schema["properties"]["schema_version"]["const"] == document["schema_version"]


def test_what_is_there_stays_unless_it_may_go(folder, capsys):
    for name in ("results.json", "report.html", "records.csv"):
        (folder / name).write_text("mine")
    for option, name in (
        ("--out", "results.json"),
        ("--report", "report.html"),
        ("--per-record", "records.csv"),
    ):
        assert main(["evaluate", "p.jsonl", "records.json", option, name]) == 2
        said = capsys.readouterr().err
        assert f"{name}: exists already" in said and "--overwrite to replace it" in said
        assert (folder / name).read_text() == "mine"
    assert main(["compare", "p.jsonl", "blind.jsonl", "records.json", "--out", "results.json"]) == 2
    assert main(["evaluate", "p.jsonl", "records.json", "--out", "results.json", "--overwrite"]) == 0
    assert json.loads((folder / "results.json").read_text())["schema_version"] == "1.0"


def test_rows_of_hkd_need_no_names_beside_another_system_with_its_own(folder, capsys):
    rows = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    own = "".join(json.dumps({**row, "run_hash": "x"}) + "\n" for row in rows)
    (folder / "own.jsonl").write_text(own)
    cells = [f"{row['id']};{' and '.join(row['prediction'])}" for row in rows]
    (folder / "peer.csv").write_text("\n".join(["key,said", *cells]).replace(";", ","))
    names = ["--columns", "id=key,prediction=said"]
    document, _ = run(capsys, "compare", "own.jsonl", "peer.csv", "records.json", *names)
    assert document["scores"]["exact_match"]["a"] == document["scores"]["exact_match"]["b"] == 0.75
    assert document["changed"] == []


def test_a_limit_scores_what_infer_with_a_limit_answers(folder, capsys):
    lines = (folder / "p.jsonl").read_text().splitlines(keepends=True)
    (folder / "few.jsonl").write_text("".join(lines[:4]))
    document, _ = run(capsys, "evaluate", "few.jsonl", "records.json", "--limit", "4")
    assert document["counts"]["records"] == 4 and document["counts"]["missing"] == 0
    document, _ = run(capsys, "compare", "few.jsonl", "few.jsonl", "records.json", "--limit", "4")
    assert document["flips"]["records"] == 4
