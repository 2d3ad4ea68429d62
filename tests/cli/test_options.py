"""Options that mean something only together: which way `hkd infer` goes, and every refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from hkdcli.cli import app
from hkdcli.errors import UsageError
from hkdcli.inferring import InferOptions
from hkdcli.options import (
    check_calibrated_options,
    check_no_shard,
    check_only_signals,
    choose_shifts,
    choose_way,
    parse_batch_size,
    parse_phrases,
    parse_shard,
    spell_options,
)

INFER: Any = typer.main.get_command(app).commands["infer"]  # type: ignore[attr-defined]


def read(*words: str) -> dict[str, Any]:
    """The values that `hkd infer WORDS` gives to its parameters."""
    with INFER.make_context("infer", list(words)) as context:
        return dict(context.params)


@pytest.mark.parametrize(
    ("words", "way"),
    [
        ("m d --out p", "file"),
        ("m d --out p --nproc 1 --shard 1/2", "file"),
        ("m d --out p --nproc 1 --engine vllm", "file"),
        ("m d --out p --nproc 2", "file"),
        ("m d --out p --calibrate dev", "file"),
        ("m -", "stream"),
        ("m - --on-bad keep --encoding utf-8 --batch-size 1", "stream"),
        ("m - --calibrate dev", "stream"),
        ("m --calibrate dev", "calibrate"),
        ("m --calibrate dev --limit 9", "calibrate"),
        ("m --image i --caption c", "picture"),
        ("m --image i --caption c --phrases a,b --evidence e.png", "picture"),
        ("m --image i --claim c", "picture"),
        ("m --image i --claim c --context x --calibrate dev", "picture"),
    ],
)
def test_the_way_is_told_by_what_was_given(words: str, way: str) -> None:
    assert choose_way(read(*words.split())) == way


REFUSED = {
    "m": "DATA and --out are missing",
    "m d": "--out is missing",
    "m d --calibrate dev": "--out is missing",
    "m --out p": "DATA and --out are missing",
    "m --calibrate dev --out p": "DATA and --out are missing",
    "m - --out p": "--out does not go with -",
    "m - --json": "--json does not go with -",
    "m - --resume": "--resume does not go with -",
    "m - --overwrite": "--overwrite does not go with -",
    "m - --shard 1/2": "--shard does not go with -",
    "m - --nproc 1": "--nproc does not go with -",
    "m - --limit 3": "--limit does not go with -",
    "m - --on-bad skip": "--on-bad does not go with -",
    "m - --encoding latin-1": "--encoding does not go with -",
    "m --calibrate dev --nproc 2": "--nproc goes with DATA",
    "m --calibrate dev --shard 1/2": "--shard goes with DATA",
    "m --calibrate dev --resume": "--resume goes with DATA",
    "m --calibrate dev --overwrite": "--overwrite goes with DATA",
    "m d --out p --nproc 2 --shard 1/2": "--shard and --nproc exclude",
    "m d --out p --nproc 2 --engine vllm": "--engine vllm and --nproc exclude",
    "m d --image i --caption c": "DATA and --image exclude",
    "m - --image i --caption c": "DATA and --image exclude",
    "m --image i --caption c --out p": "--out and --image exclude",
    "m --image i --caption c --shard 1/2": "--shard and --image exclude",
    "m --image i --caption c --nproc 2": "--nproc and --image exclude",
    "m --image i --caption c --limit 2": "--limit and --image exclude",
    "m --image i --caption c --evidence e.jpg": "drawn as PNG",
    "m --image i": "one of --caption and --claim",
    "m --image i --caption c --claim c": "one of --caption and --claim",
    "m --image i --claim c --phrases a": "--phrases goes with --caption",
    "m --image i --caption c --context x": "--context goes with --claim",
    "m d --out p --caption c": "--caption goes with --image",
    "m d --out p --phrases a": "--phrases goes with --image",
    "m d --out p --claim c": "--claim goes with --image",
    "m d --out p --context x": "--context goes with --image",
    "m d --out p --evidence e": "--evidence goes with --image",
    "m - --caption c": "--caption goes with --image",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_makes_no_sense_together_is_refused(words: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_way(read(*words.split()))
    assert REFUSED[words] in caught.value.message and caught.value.exit_code == 2


def test_a_batch_size_is_a_number_or_auto() -> None:
    assert [parse_batch_size(text) for text in ("1", "32", "auto")] == [1, 32, None]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "Auto", "1e3", " 8", "\u0663", "8k"])
def test_other_batch_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no number of records"):
        parse_batch_size(text)


def test_a_shard_counts_from_one() -> None:
    assert parse_shard("1/1") == (0, 1) and parse_shard("2/4") == (1, 4) and parse_shard("4/4") == (3, 4)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/", "/2", "1/2/3", "-1/2", "a/b", "1/0", "\u0661/2"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no share"):
        parse_shard(text)


def test_shifts_are_all_some_or_one() -> None:
    assert (choose_shifts(False, None), choose_shifts(True, None), choose_shifts(False, 3)) == (1, None, 3)
    with pytest.raises(UsageError, match="exclude each other"):
        choose_shifts(True, 3)


def test_shards_belong_to_stored_signals_in_training() -> None:
    check_no_shard(None)
    with pytest.raises(UsageError, match="--only-signals"):
        check_no_shard("1/2")
    check_only_signals({"--resume": False, "--json": True})
    with pytest.raises(UsageError, match="--resume exclude"):
        check_only_signals({"--resume": True, "--json": True})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shift_task": "factuality"}, "--shift-task goes with --shift or --shifts"),
        ({"debias": "prior", "shifts": None}, "--debias prior and shifts exclude"),
        ({"debias": "prior", "shifts": 2}, "--debias prior and shifts exclude"),
        ({"debias": "prior", "shift_what": "letters"}, "--debias prior and shifts exclude"),
        ({"target_precision": 0.9, "abstain_below": 0.5}, "--target-precision and --abstain-below exclude"),
        ({"target_precision": 0.9, "is_calibrated": False}, "--uncalibrated and --target-precision exclude"),
        ({"calibration": Path("c"), "is_calibrated": False}, "--uncalibrated and --calibration exclude"),
        ({"debias": "prior", "is_calibrated": False}, "--uncalibrated and --debias prior exclude"),
    ],
)
def test_ways_of_answering_that_contradict_each_other_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_calibrated_options(replace(InferOptions(), **changed))
    assert said in caught.value.message


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"shifts": None, "target_precision": 0.9},
        {"debias": "prior", "target_precision": 0.9, "calibration": Path("c")},
        {"is_calibrated": False, "abstain_below": 0.5, "shifts": 2},
    ],
)
def test_ways_of_answering_that_go_together_pass(changed: dict[str, Any]) -> None:
    check_calibrated_options(replace(InferOptions(), **changed))


def test_phrases_are_parted_by_commas() -> None:
    assert parse_phrases(None) is None
    assert parse_phrases(" a red ball ,left of the box,, \t") == ("a red ball", "left of the box")
    assert parse_phrases(" , ") == ()


WORDS = st.text("abz019 .,-=/'\"$*\\\u00e9\n", min_size=1, max_size=12)
VALUES = {
    "out": WORDS,
    "images": WORDS,
    "level": WORDS,
    "base": WORDS,
    "limit": st.integers(1, 10**6).map(str),
    "on-bad": st.sampled_from(("error", "skip", "keep")),
    "encoding": WORDS,
    "shifts": st.integers(1, 26).map(str),
    "shift-what": st.sampled_from(("letters", "positions", "both")),
    "shift-task": st.sampled_from(("hallucination", "factuality")),
    "combine": st.sampled_from(("log-mean", "arithmetic")),
    "debias": st.sampled_from(("none", "prior")),
    "decode": st.sampled_from(("map", "expected-f1", "threshold")),
    "calibrate": WORDS,
    "calibration": WORDS,
    "abstain-below": st.floats(0, 1).map(str),
    "target-precision": st.floats(0, 1).map(str),
    "batch-size": st.sampled_from(("auto", "8", "16")),
    "workers": st.integers(0, 9).map(str),
    "shard": st.sampled_from(("1/2", "2/2")),
    "engine": st.sampled_from(("transformers", "vllm")),
}
FLAGS = (
    "allow-outside-root",
    "shift",
    "fix-none",
    "per-shift",
    "uncalibrated",
    "resume",
    "overwrite",
    "json",
)


@given(st.fixed_dictionaries({}, optional=VALUES), st.sets(st.sampled_from(FLAGS)), WORDS, WORDS)
def test_options_that_are_spelled_read_the_same(
    values: dict[str, str], flags: set[str], model: str, data: str
) -> None:
    """What `hkd infer --nproc` hands to its processes is what it was given itself."""
    words = [word for name, value in values.items() for word in (f"--{name}", value)]
    given_here = read(*words, *(f"--{flag}" for flag in sorted(flags)), "--", model, data)
    spelled = spell_options(INFER.params, given_here, leave_out=())
    assert read(*spelled) == given_here


def test_what_is_left_out_is_not_spelled() -> None:
    here = read("m", "d", "--out", "p", "--nproc", "2", "--resume", "--batch-size", "8", "--limit", "3")
    spelled = spell_options(INFER.params, here, leave_out=("nproc", "resume"))
    assert spelled == ["--out", "p", "--limit", "3", "--", "m", "d"]  # what has its default is not there
