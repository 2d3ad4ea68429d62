"""The benchmark of shifts compares what it says it compares; what an order costs is not tested here."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import shift
from shift_contenders import Workload, generate, list_contenders, open_scenes, read_letters, score
from shift_rows import build_model, make_pictures, make_records

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def work():
    return Workload(build_model(3, vocabulary=1000, text=SHAPE), make_records(4), make_pictures(4))


def test_records_have_four_choices_of_both_tasks_and_pictures_of_their_own(work):
    assert [example.task for example in work.examples] == ["hallucination", "factuality"] * 2
    assert all(len(example.choices) == 4 for example in work.examples)
    assert len({image.pixel_hash for image in work.images}) == len(work.images) == 4
    answers = [len(scored.answers) for scored in score(work, 1)]
    assert answers == [8, 4, 8, 4]


def test_an_image_is_as_many_tokens_as_the_figures_say(work):
    image = work.loaded.processor.image_token_id
    prefixes = (
        shift.Scorer(work.loaded)
        .prepare(work.examples, work.images, [shift.shifted_presentations(e, 1) for e in work.examples])
        .prefixes
    )
    assert (prefixes.model_inputs["input_ids"] == image).sum(-1).tolist() == [9] * 4
    assert shift.describe_tokens(work)["before_choices"] == list(prefixes.lengths[:2])


def test_rivals_read_the_same_prompts_in_the_same_orders(work):
    letters = [each.argmax(-1).tolist() for each in read_letters(work, 4)]
    together, alone = generate(work, 4), generate(work, 4, batch=1)
    assert [[new[0] for new in order] for order in together] == letters
    assert together == alone
    assert {len(new) for order in together for new in order} == {8}
    assert len({tuple(order) for order in letters}) > 1  # orders and records make a difference
    assert len(set(letters[0])) > 1


def test_figures_are_of_the_contenders_in_their_definitions(work):
    report = shift.measure(work, rounds=2, whole_records=2)
    assert report["difference"] < shift.TOLERANCE
    assert {f"{name} {n}" for name in ("reuse", "letters", "whole") for n in (1, 2, 4)} < set(
        report["seconds_per_record"]
    )
    for name, pair in shift.RATIOS.items():
        assert set(pair) <= set(list_contenders(work)) and name in shift.DEFINITIONS
        least, most = report["spread"][name]
        assert least <= report[name] <= most
    # A pass for each answer of each order is work that no noise hides.
    assert report["seconds_per_record"]["whole 4"] > report["seconds_per_record"]["reuse 4"]
    batch_sizes = {"1 orders": {"8": 5.0}}
    table = shift.render_table({"image_tokens": {"9": report}, "batch_sizes": batch_sizes})
    assert all(f"| {name} | 4 | " in table for name in ("reuse", "whole", "letters", "generate"))
    assert "scenes:small, 1 orders, records per second: 5 at 8" in table


def test_records_of_one_image_are_asked_with_one_image(work):
    one, _ = list_contenders(work)["one-image 1"]
    four, _ = list_contenders(work)["four-images 1"]
    counts = [len({image.pixel_hash for image in each.images}) for each in (one, four)]
    assert counts == [1, 4] and one.examples == four.examples


def test_numbers_that_differ_from_whole_passes_give_no_figures(work, monkeypatch):
    def score_wrongly(work: Workload, shifts: int, *, reuse: bool = True):
        return [
            replace(each, log_probs=each.log_probs + 1e-3 * reuse)
            for each in score(work, shifts, reuse=reuse)
        ]

    shift.check_whole(work, 1)
    monkeypatch.setattr(shift, "score", score_wrongly)
    with pytest.raises(ValueError, match="off by 1.0e-03"):
        shift.check_whole(work, 1)


def test_every_batch_size_answers_all_records():
    work = open_scenes(6, torch.device("cpu"))
    speeds = shift.measure_batch_sizes(work, (1, 4), rounds=1)
    assert {orders: set(each) for orders, each in speeds.items()} == {
        "1 orders": {"1", "4"},
        "4 orders": {"1", "4"},
    }
    assert all(speed > 0 for each in speeds.values() for speed in each.values())


def test_seconds_are_per_record_and_cover_the_call(work):
    def burn(work: Workload) -> str:
        until = shift.time.process_time() + 0.04
        while shift.time.process_time() < until:
            pass
        shift.time.sleep(0.04)
        return "done"

    seconds, result = shift.take_seconds(work, burn)
    assert result == "done" and 0.01 <= seconds.cpu < 0.03 and seconds.wall >= 0.01  # of 4 records
