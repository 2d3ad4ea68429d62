from __future__ import annotations

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hkdcli.errors import ModelError
from hkdcli.inference.calibration_file import (
    AskedHow,
    Calibration,
    Fit,
    find_fit,
    put_fit,
    read_calibration,
    write_calibration,
)
from hkdcli.inference.task_fit import Half, TaskFit, round_confidence

ASKING = {
    "shifts": None,
    "what": "both",
    "move_none": True,
    "combination": "log_mean",
    "debias": "none",
    "task": None,
}

shares = st.floats(0, 1)
halves = st.lists(st.tuples(shares.map(round_confidence), st.booleans()), min_size=1, max_size=5).map(
    lambda pairs: Half(confidence=tuple(c for c, _ in pairs), correct=tuple(right for _, right in pairs))
)
task_fits = st.builds(
    lambda decoding, threshold, **fields: TaskFit(
        decoding=decoding, threshold=threshold if decoding == "threshold" else None, **fields
    ),
    decoding=st.sampled_from(["map", "expected-f1", "threshold"]),
    threshold=shares,
    temperature=st.floats(0.05, 20),
    nll_before=st.floats(0, 1e6),
    nll_after=st.floats(0, 1e6),
    ece_before=shares,
    ece_after=shares,
    exact_match_before=shares,
    exact_match_after=shares,
    fit_half=halves,
    test_half=halves,
)
tasks = st.sampled_from(["hallucination", "factuality"])
priors = st.integers(2, 6).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.floats(-50, 50), min_size=n, max_size=n).map(tuple))
)
askings = st.builds(
    AskedHow,
    shifts=st.none() | st.integers(1, 26),
    what=st.sampled_from(["letters", "positions", "both"]),
    move_none=st.booleans(),
    combination=st.sampled_from(["log_mean", "arithmetic"]),
    debias=st.sampled_from(["none", "prior"]),
    task=st.sampled_from([None, "hallucination", "factuality"]),
)


@st.composite
def draw_fit(draw):
    asking = draw(askings)
    some = st.dictionaries(tasks, st.lists(priors, min_size=1, max_size=2).map(dict), min_size=1)
    return Fit(
        asking=asking,
        tasks=draw(st.dictionaries(tasks, task_fits, min_size=1)),
        letter_prior=draw(some) if asking.debias == "prior" else {},
        data=draw(st.text(max_size=8)),
        data_hash=draw(st.text("0123456789abcdef", max_size=8)),
    )


calibrations = st.builds(
    Calibration,
    prompt_hash=st.text("0123456789abcdef", max_size=8),
    weights_hash=st.text("0123456789abcdef", max_size=8),
    fits=st.lists(draw_fit(), max_size=3, unique_by=lambda fit: repr(fit.asking)).map(tuple),
)
quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make_task_fit(**changes):
    half = Half(confidence=(0.9, 0.5), correct=(True, False))
    figures = dict.fromkeys(
        ("nll_before", "nll_after", "ece_before", "ece_after", "exact_match_before", "exact_match_after"), 0.1
    )
    parts = {"temperature": 1.5, "decoding": "map", "threshold": None, "fit_half": half, "test_half": half}
    return TaskFit(**{**parts, **figures, **changes})


def make_fit(temperature=1.5, **asking):
    how = AskedHow(**{**ASKING, **asking})
    prior = {"factuality": {4: (0.5, 0.0, 0.0, -0.5)}} if how.debias == "prior" else {}
    fits = {"hallucination": make_task_fit(temperature=temperature)}
    return Fit(asking=how, tasks=fits, letter_prior=prior, data="dev.jsonl", data_hash="ab12")


def make_calibration(*fits):
    return Calibration(prompt_hash="p", weights_hash="w", fits=fits)


@given(calibrations)
@quick
def test_law_what_is_written_is_read_and_written_again(tmp_path, calibration):
    path = tmp_path / "calibration.json"
    write_calibration(path, calibration)
    written = path.read_bytes()
    read = read_calibration(path)
    assert read == calibration
    write_calibration(path, read)
    assert path.read_bytes() == written


def test_the_file_has_the_shape_that_is_documented(tmp_path):
    path = tmp_path / "calibration.json"
    write_calibration(path, make_calibration(make_fit(shifts=1, debias="prior")))
    document = json.loads(path.read_text())
    assert {key: document[key] for key in ("format", "prompt_hash", "weights_hash")} == {
        "format": 1,
        "prompt_hash": "p",
        "weights_hash": "w",
    }
    (fit,) = document["fits"]
    assert fit["asking"] == {**ASKING, "shifts": 1, "debias": "prior"}
    assert fit["letter_prior"] == {"factuality": {"4": [0.5, 0.0, 0.0, -0.5]}}
    assert fit["tasks"]["hallucination"]["test_half"] == {"confidence": [0.9, 0.5], "correct": [True, False]}
    assert os.listdir(tmp_path) == ["calibration.json"]


def test_a_fit_is_found_by_how_records_are_asked():
    full, single = make_fit(1.5), make_fit(2.5, shifts=1)
    calibration = make_calibration(full, single)
    assert find_fit(calibration, ASKING) == full
    assert find_fit(calibration, {**ASKING, "shifts": 1}) == single
    for other in ({"shifts": 2}, {"what": "letters"}, {"move_none": False}, {"combination": "arithmetic"}):
        assert find_fit(calibration, {**ASKING, **other}) is None
    with pytest.raises(ValueError, match="shift"):
        find_fit(calibration, {**ASKING, "shift": 2})


def test_a_fit_replaces_the_one_for_the_same_asking_alone():
    calibration = make_calibration(make_fit(1.5), make_fit(2.5, shifts=1))
    changed = put_fit(calibration, make_fit(3.5))
    assert len(changed.fits) == 2
    assert find_fit(changed, ASKING).tasks["hallucination"].temperature == 3.5
    assert find_fit(changed, {**ASKING, "shifts": 1}) == calibration.fits[1]
    assert len(put_fit(changed, make_fit(shifts=2)).fits) == 3
    assert find_fit(calibration, ASKING).tasks["hallucination"].temperature == 1.5


def spoil(*steps, **changes):
    """A document with something changed in the part that the steps lead to."""
    document = json.loads(make_calibration(make_fit(shifts=1, debias="prior")).model_dump_json())
    part = document
    for step in steps:
        part = part[step]
    part.update(changes)
    return json.dumps(document).encode()


FIT = ("fits", 0)
TASK = (*FIT, "tasks", "hallucination")
DAMAGED = {
    "empty": b"",
    "cut": spoil()[:-40],
    "text": b"not json",
    "bytes": b"\xff\xfe\x00",
    "list": b"[]",
    "null": b"null",
    "nested": b"[" * 100_000,
    "foreign": b'{"temperature": 1.5}',
    "later format": spoil(format=2),
    "unknown key": spoil(*TASK, kelvin=1.0),
    "text for a number": spoil(*TASK, temperature="1.5"),
    "true for a number": spoil(*TASK, nll_after=True),
    "not a number": spoil(*TASK, nll_after=float("nan")),
    "infinite": spoil(*TASK, nll_after=float("inf")),
    "too large": spoil(*TASK, nll_after=10**400),
    "temperature 0": spoil(*TASK, temperature=0.0),
    "lonely threshold": spoil(*TASK, threshold=0.5),
    "unknown decoding": spoil(*TASK, decoding="best"),
    "confidence above 1": spoil(*TASK, "fit_half", confidence=[1.5, 0.5]),
    "uneven half": spoil(*TASK, "fit_half", correct=[True]),
    "empty half": spoil(*TASK, "fit_half", confidence=[], correct=[]),
    "unknown task": spoil(*FIT, tasks={"spelling": {}}),
    "nothing fitted": spoil(*FIT, tasks={}, letter_prior={}),
    "short prior": spoil(*FIT, letter_prior={"factuality": {"4": [0.0, 0.0]}}),
    "no prior": spoil(*FIT, letter_prior={}),
    "huge prior": spoil(*FIT, letter_prior={"factuality": {"2": [1e308, 1e308]}}),
    "prior of nothing": spoil(*FIT, letter_prior={"factuality": {"0": []}}),
    "twice": json.dumps({**json.loads(spoil()), "fits": json.loads(spoil())["fits"] * 2}).encode(),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_or_foreign_file_is_refused_by_name(tmp_path, name):
    path = tmp_path / "calibration.json"
    path.write_bytes(DAMAGED[name])
    with pytest.raises(ModelError, match=r"calibration\.json: cannot be used") as caught:
        read_calibration(path)
    assert "--calibrate" in (caught.value.hint or "")
    assert len(str(caught.value)) < 600


def test_an_error_says_where(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_bytes(spoil(*TASK, temperature=-1.0))
    with pytest.raises(ModelError, match=r"fits\.0\.tasks\.hallucination\.temperature: "):
        read_calibration(path)
    path.write_bytes(DAMAGED["lonely threshold"])
    with pytest.raises(ModelError, match=r"hallucination: threshold and decoding do not go together"):
        read_calibration(path)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "pipe"):
        with pytest.raises(ModelError, match="cannot be used as a calibration"):
            read_calibration(path)


GOOD = spoil()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def draw_damage(draw):
    """Bytes of any kind, a good file with bytes changed or cut out, or with a value replaced."""
    kind = draw(st.sampled_from(["bytes", "flip", "cut", "value"]))
    if kind == "bytes":
        return draw(st.binary(max_size=60))
    start = draw(st.integers(0, len(GOOD) - 1))
    if kind in ("flip", "cut"):
        end = start + draw(st.integers(1, 30))
        return GOOD[:start] + (draw(st.binary(max_size=8)) if kind == "flip" else b"") + GOOD[end:]
    document = json.loads(GOOD)
    parts = [document, document["fits"][0], *[document["fits"][0][k] for k in ("asking", "letter_prior")]]
    parts.append(document["fits"][0]["tasks"]["hallucination"])
    part = draw(st.sampled_from(parts))
    part[draw(st.sampled_from(sorted(part)))] = draw(json_values)
    return json.dumps(document).encode()


@given(draw_damage())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_file_holds_it_is_a_calibration_or_a_model_error(tmp_path, data):
    path = tmp_path / "calibration.json"
    path.write_bytes(data)
    try:
        calibration = read_calibration(path)
    except ModelError as error:
        assert str(path) in str(error)
    else:
        write_calibration(path, calibration)
        assert read_calibration(path) == calibration
