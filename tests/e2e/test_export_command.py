"""`hkd export`: a folder that `hkd infer` takes like its source, or no folder at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call_hkd, read_rows

from hkdcli.errors import GateError
from hkdcli.exporting import export as exporting

WORDS = ("export", "scenes:small", "--check", "4")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scenes:small, exported; read only."""
    out = tmp_path_factory.mktemp("exported") / "small"
    document = call_hkd(*WORDS, "--out", out, "--json").document
    assert document["out"] == str(out) and document["records"] == 4 and document["kind"] == "whole"
    return out


@pytest.mark.parametrize("options", [(), ("--shift", "--decode", "expected-f1")])
def test_an_exported_model_answers_as_its_source(
    exported: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    rows = []
    for name, model in (("a", "scenes:small"), ("b", str(exported))):
        out = tmp_path / name
        call_hkd("infer", model, "scenes:test", "--limit", "40", "--out", out, *options)
        rows.append(read_rows(out))
    for row, other in zip(*rows, strict=True):
        assert (row["id"], row["prediction"], row["status"]) == (other["id"], other["prediction"], "ok")
        assert row["marginals"] == pytest.approx(other["marginals"], abs=1e-6)
        assert row["prompt_hash"] == other["prompt_hash"]


def test_what_is_there_is_left_alone_unless_it_is_an_export_to_replace(
    exported: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letters.txt").write_text("mine")
    for options in ((), ("--overwrite",)):
        said = call_hkd(*WORDS, "--out", mine, *options, code=2)
        assert str(mine) in said.err
    assert [path.name for path in mine.iterdir()] == ["letters.txt"]
    before = {path.name: path.stat().st_mtime_ns for path in exported.iterdir()}
    assert "--overwrite" in call_hkd(*WORDS, "--out", exported, code=2).err
    assert {path.name: path.stat().st_mtime_ns for path in exported.iterdir()} == before


def test_m07_a_model_that_answers_differently_is_not_exported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def compare(*_: object) -> float:
        raise GateError("3 of 4 predictions changed", hint="this should not be")

    monkeypatch.setattr(exporting, "compare_answers", compare)
    said = call_hkd(*WORDS, "--out", tmp_path / "out", "--json", code=6)
    assert said.document["exit_code"] == 6 and "3 of 4 predictions changed" in said.err
    assert list(tmp_path.iterdir()) == []


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for options, part in (
        (("--adapter",), "has no adapter"),
        (("--level", "top"), "is no run folder"),
        (("--check", "0"), "--check"),
        (("--dtype", "int4"), "--dtype"),
    ):
        said = call_hkd("export", "scenes:small", "--out", tmp_path / "out", *options, code=2)
        assert part in said.err
    assert list(tmp_path.iterdir()) == []
