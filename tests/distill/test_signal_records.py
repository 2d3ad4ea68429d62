"""A signal that is cut into records and put together again is the same signal, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_signals import ask, assert_same_signal, draw_rows, list_names, make_examples, make_source

from hkdcli.data.prompts import PROMPT_VERSION, identity_presentation
from hkdcli.distill.signal_keys import build_store_key, compute_record_key
from hkdcli.distill.signal_records import cut_to_nothing, join_signals, list_learned_rows, split_signal
from hkdcli.distill.teacher_signal import SignalPlan, TeacherSignal
from hkdcli.errors import BadRow, DataError, ModelError
from hkdcli.models.states import StatePlan

KINDS = {
    "top-k": {},
    "dense": {"top_k": None},
    "without states": {"states": False},
    "dense, without states": {"top_k": None, "states": False},
}


def load(*indices, **fields):
    return make_source(**fields).load(draw_rows(*indices))


def drop_tokens(signal):
    """What an upper model of another tokenizer says."""
    return TeacherSignal(signal.log_truth, signal.choices)


# Cutting and joining


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("indices", [(0,), (3,), (0, 1, 2, 3), (5, 3, 8, 2, 2, 11)])
def test_join_undoes_split(kind, indices):
    batch = load(*indices)
    signal = ask(batch, **KINDS[kind])
    records = split_signal(signal, batch)
    assert len(records) == len(indices)
    assert all(array.flags.c_contiguous for record in records for array in record.values())
    assert_same_signal(join_signals(records, batch), signal)


def test_join_undoes_split_without_tokens():
    batch = load(0, 1, 3)
    signal = drop_tokens(ask(batch))
    records = split_signal(signal, batch)
    assert {name for record in records for name in record} == {"log_truth", "choices"}
    assert_same_signal(join_signals(records, batch), signal)


def test_join_undoes_split_where_rows_are_lost():
    examples = list(make_examples(6))
    examples[1] = replace(examples[1], image="broken.png")
    examples[4] = replace(examples[4], image="broken.png")
    batch = load(0, 1, 2, 3, 4, 5, examples=tuple(examples), on_bad="skip")
    assert list_learned_rows(batch) == [0, 2, 3, 5]
    signal = ask(batch)
    assert_same_signal(join_signals(split_signal(signal, batch), batch), signal)


def test_a_record_knows_its_own_example_alone():
    """Records made in one batch serve in every other: no padding of the batch is in them."""
    whole = load(0, 1, 2, 3)
    records = split_signal(ask(whole), whole)
    assert [record["choices"].shape[1] for record in records] == [2, 3, 4, 2]
    assert [len(record["logits"]) for record in records] == [2, 3, 2, 2]
    signal = ask(whole)
    pair = join_signals([records[3], records[0]], load(3, 0))
    assert torch.equal(pair.choices, signal.choices[[3, 0], :2])
    assert torch.equal(pair.logits, torch.cat([signal.logits[7:9], signal.logits[0:2]]))
    assert torch.equal(pair.states.image, signal.states.image[:, [3, 0]])


def test_records_of_no_example_make_a_signal_of_none():
    examples = (replace(make_examples(1)[0], image="broken.png"),)
    batch = load(0, examples=examples, on_bad="skip")
    record = split_signal(ask(load(1)), load(1))[0]
    signal = join_signals([cut_to_nothing(record)], batch)
    assert signal.log_truth.shape == (0,) and signal.choices.shape == (0, 2)
    assert signal.logits.shape == signal.tokens.shape == (0, 5) and signal.log_sum_exp.shape == (0,)
    assert signal.states.answer.shape == (2, 0, 6) and signal.states.image.shape == (2, 0, 4, 6)
    assert_same_signal(signal, ask(batch))


@pytest.mark.parametrize("name", ["log_truth", "choices", "logits", "log_sum_exp"])
def test_nan_is_never_stored(name):
    batch = load(0, 1)
    signal = ask(batch)
    getattr(signal, name).view(-1)[-1] = torch.nan
    with pytest.raises(ModelError, match=rf"NaN \({name}\) among records h0, h1"):
        split_signal(signal, batch)


def damage(record, how):
    changed = dict(record)
    if how == "other names":
        changed["weights"] = np.zeros(3)
    elif how == "one name less":
        del changed["choices"]
    elif how == "states cut in two":
        del changed["states.image"]
    elif how == "other columns":
        changed["logits"] = changed["logits"][:, :3]
    elif how == "another number type":
        changed["logits"] = changed["logits"].astype(np.float64)
    elif how == "another number of tokens":
        changed["logits"] = np.concatenate([changed["logits"]] * 2)
    elif how == "flat":
        changed["logits"] = changed["logits"].flatten()
    elif how == "too many choices":
        changed["choices"] = np.zeros((1, 9), np.float32)
    elif how == "longer answers":
        changed = {
            name: np.concatenate([array] * 2, 1 if name == "states.answer" else 0)
            if name in ("logits", "tokens", "log_sum_exp", "states.answer")
            else array
            for name, array in changed.items()
        }
    elif how == "two examples":
        changed |= {name: np.concatenate([changed[name]] * 2) for name in ("log_truth", "choices")}
        changed["states.image"] = np.concatenate([changed["states.image"]] * 2, 1)
    return changed


@pytest.mark.parametrize(
    "how",
    [
        "other names",
        "one name less",
        "states cut in two",
        "other columns",
        "another number type",
        "another number of tokens",
        "flat",
        "too many choices",
        "longer answers",
        "two examples",
    ],
)
@pytest.mark.parametrize("which", [[0], [1], [0, 1]])
def test_records_that_do_not_fit_are_refused(how, which):
    batch = load(0, 2)
    records = split_signal(ask(batch), batch)
    records = [damage(record, how) if place in which else record for place, record in enumerate(records)]
    if how in ("other columns", "another number type") and which == [0, 1]:
        join_signals(records, batch)  # a store of that kind, then: its key says which
        return
    with pytest.raises(DataError, match="h0, h2") as caught:
        join_signals(records, batch)
    assert "Delete" in caught.value.hint


# Keys

PLAN = SignalPlan(400, 2.0, 64, StatePlan((1, 3), 4))
FACTS = {
    "model": "a" * 64,
    "adapter": None,
    "quantization": "none",
    "quantized_parts": "language",
    "number_type": "float32",
    "prompt_hash": "b" * 64,
    "max_length": 4096,
    "plan": PLAN,
}


def test_a_store_key_tells_all_that_a_signal_depends_on():
    assert build_store_key(**FACTS) == {
        "format": 1,
        "model": "a" * 64,
        "adapter": None,
        "quantization": "none",
        "quantized_parts": None,
        "number_type": "float32",
        "prompt": {"version": PROMPT_VERSION, "hash": "b" * 64, "max_length": 4096},
        "signal": {
            "vocabulary": 400,
            "temperature": 2.0,
            "top_k": 64,
            "states": {"layers": [1, 3], "grid": 4},
        },
    }


@pytest.mark.parametrize(
    "change",
    [
        {"model": "c" * 64},
        {"adapter": "c" * 64},
        {"quantization": "nf4"},
        {"number_type": "bfloat16"},
        {"prompt_hash": "c" * 64},
        {"max_length": None},
        {"plan": replace(PLAN, vocabulary=None)},
        {"plan": replace(PLAN, temperature=1.0)},
        {"plan": replace(PLAN, top_k=None)},
        {"plan": replace(PLAN, states=None)},
        {"plan": replace(PLAN, states=StatePlan((1, 2), 4))},
        {"plan": replace(PLAN, states=StatePlan((1, 3), 2))},
    ],
)
def test_another_fact_is_another_store_key(change):
    assert build_store_key(**{**FACTS, **change}) != build_store_key(**FACTS)


def test_which_parts_are_quantized_counts_where_any_is():
    parts = {"quantized_parts": "all"}
    assert build_store_key(**{**FACTS, **parts}) == build_store_key(**FACTS)
    held = {**FACTS, "quantization": "nf4"}
    assert build_store_key(**{**held, **parts}) != build_store_key(**held)


def key_of(example, presentation=None, pixel_hash="f" * 64):
    return compute_record_key(example, presentation or identity_presentation(example), pixel_hash)


def test_a_record_key_is_the_same_for_the_same_content():
    example, again = make_examples(5)[4], make_examples(9)[4]
    assert key_of(example) == key_of(again) and len(key_of(example)) == 64
    assert key_of(replace(example, image="moved/elsewhere.png", extra={"meta": 1})) == key_of(example)


@pytest.mark.parametrize(
    "field",
    ["id", "question", "caption", "caption_question", "claim", "context", "answer", "choices", "task"],
)
def test_other_content_is_another_record_key(field):
    example = make_examples(5)[4]
    others = {
        "answer": frozenset("C"),
        "choices": (example.choices[0], replace(example.choices[1], text="blue square")),
        "task": "factuality",
    }
    assert key_of(replace(example, **{field: others.get(field, "another \ud800")})) != key_of(example)


def test_another_order_letter_or_picture_is_another_record_key():
    example = make_examples(5)[0]
    (a, first), (b, second) = identity_presentation(example)
    keys = {
        key_of(example),
        key_of(example, ((a, second), (b, first))),
        key_of(example, ((b, second), (a, first))),
        key_of(example, pixel_hash="e" * 64),
    }
    assert len(keys) == 4


def test_every_field_of_a_signal_is_stored():
    """A field that is added to TeacherSignal must get a place in the record."""
    assert {*list_names(), "states"} == set(TeacherSignal.__dataclass_fields__)


def test_lost_rows_are_told_from_the_others():
    batch = load(0, 1)
    assert list_learned_rows(batch) == [0, 1]
    lost = replace(batch, lost=(BadRow("image.missing", "h0", "", ""),))
    assert list_learned_rows(lost) == [0, 1]  # where the answers stand decides
