"""The benchmark of peers: its page is what its figures give, and what it tries can turn out either way."""

import copy
import json
import re
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import peers
import peers_abilities as abilities
import peers_inference as inference
from distill_step import MEASURED, compare
from peers_page import ABILITIES, PEERS, render_page
from step_contenders import run_hkd, run_trainer
from step_rows import save_models
from step_trainers import IGNORED, PlainCollator, build_gold, build_plain, write_rows

from hkdcli.data.prompts import identity_presentation
from hkdcli.inference.asking import Asking
from hkdcli.models.loading import load_processor

OPTIONS = Namespace(tokens=175, steps=3, vocabulary=[448, 512], hidden_size=32)
FIGURES, PAGE = (Path(__file__).parents[2] / f"docs/results/peers.{end}" for end in ("json", "md"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    save_models(folder, OPTIONS)
    return folder


@pytest.fixture
def document():
    return json.loads(FIGURES.read_text())


def test_the_page_is_what_the_figures_give(document):
    assert PAGE.read_text() == render_page(document)


def test_the_script_knows_the_options_of_the_printed_command():
    (command,) = re.findall(r"^python benchmarks/peers\.py (.*)$", PAGE.read_text(), re.MULTILINE)
    options = peers.build_parser().parse_args(command.split())
    assert (options.json, options.write) == (Path("docs/results/peers.json"), Path("docs/results/peers.md"))


def test_what_could_not_be_done_stands_in_the_table_of_costs(document):
    changed = copy.deepcopy(document)
    for peer in PEERS:
        for name in ABILITIES:
            changed["abilities"][peer][name] = {"able": (peer, name) != ("gold", "resume"), "found": "seen"}
    changed["abilities"]["trainer"]["bad_teacher"] = None
    rows = [line.split(" | ") for line in render_page(changed).splitlines() if line.startswith("| ")]
    lacking = {row[0].strip("| "): row[-1].strip(" |") for row in rows if len(row) == 7}
    assert lacking["TRL GOLD, off-policy"] == ABILITIES["resume"]
    assert lacking["hkd, labels alone"] == lacking["hkd, teacher"] == "-"
    cells = next(row for row in rows if row[0].strip("| ") == ABILITIES["bad_teacher"])
    assert cells[1:] == ["yes: seen", "yes: seen", "- |"]
    assert f"| {ABILITIES['resume']} | yes: seen | **no**: seen | yes: seen |" in render_page(changed)


def test_ratios_are_of_contenders_with_one_objective(document):
    costs = {
        "hkd": 1.0,
        "gold": 4.0,
        "gold-kept": 2.0,
        "hkd-labels": 2.0,
        "trainer": 6.0,
        "trainer-kept": 3.0,
    }
    report = {"loss": 1.0, "losses": [1.0], "rows": "same"}
    made = {name: report | dict.fromkeys(MEASURED, c) for name, c in costs.items()}
    training = compare([made], peers.PAIRS, {})
    ratios = {name: training[f"time_ratio_vs_{name}"] for _, name in peers.PAIRS}
    assert ratios == {"gold": 4.0, "gold-kept": 2.0, "trainer": 3.0, "trainer-kept": 1.5}
    page = render_page(document | {"training": training})
    assert "| TRL GOLD, off-policy | 1 | 4.000 | 4.00 (4.00 to 4.00) | 4 | 4.00 (4.00 to 4.00) |" in page


def test_a_peer_with_another_first_loss_gives_no_figures():
    same = {name: {"loss": 0.5} for name in peers.TRAINED}
    peers.check_losses({"contenders": same})
    for other in ("gold", "trainer-kept"):
        with pytest.raises(ValueError, match=f"{other} differ"):
            peers.check_losses({"contenders": same | {other: {"loss": 0.50001}}})


def test_trainer_has_the_rows_and_the_losses_of_hkd_on_labels_alone(folder):
    own, other = run_hkd(folder, OPTIONS, taught=False), run_trainer(folder, OPTIONS, build=build_plain)
    assert own["rows"] == other["rows"] and own["scored"] == other["scored"] == 10
    assert own["losses"] == pytest.approx(other["losses"], rel=1e-5)
    assert (own["head_rows"], other["head_rows"]) == (10, 2 * max(own["tokens"]))
    judged = peers.judge_heads({"hkd": own, "gold": other, "trainer": other})
    assert [judged[name]["able"] for name in PEERS] == [True, False, False]


@pytest.mark.filterwarnings("default")  # of trl and of what it calls
def test_gold_has_the_rows_and_the_losses_of_hkd_with_a_teacher(folder, monkeypatch):
    pytest.importorskip("trl")
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    own, other = run_hkd(folder, OPTIONS), run_trainer(folder, OPTIONS, build=build_gold)
    assert own["rows"] == other["rows"] and own["losses"] == pytest.approx(other["losses"], rel=1e-5)


def test_the_plain_recipe_learns_the_answer_alone(folder):
    rows, processor = write_rows(folder, OPTIONS), load_processor(folder / "student")
    batch = PlainCollator(processor)(rows)
    for ids, labels, row in zip(batch["input_ids"], batch["labels"], rows, strict=True):
        assert processor.tokenizer.decode(ids[labels != IGNORED]) == row["completion"]


def test_hkd_can_do_all_that_is_tried_out(folder):
    found = abilities.examine_hkd(folder, OPTIONS)
    assert set(found) == set(ABILITIES) - {"answer_tokens_alone"}
    assert [name for name, each in found.items() if not each["able"]] == []


def test_a_trainer_without_a_teacher_is_not_asked_about_teachers(folder):
    found = abilities.examine_trainer(build_plain, folder, OPTIONS)
    assert set(found) == set(ABILITIES) - {"answer_tokens_alone"}
    assert found["bad_teacher"] is found["wider_student"] is None and not found["teacher"]["able"]
    assert "57 tensors" in found["resume"]["found"] and "57 tensors" in found["not_finite"]["found"]


def test_each_judgement_can_turn_out_either_way():
    one, other = {"a": torch.ones(1), "b": torch.ones(2)}, {"a": torch.ones(1), "b": torch.zeros(2)}
    resume = abilities.judge_resume
    assert [
        resume(*given)["able"] for given in ([one] * 4, (one, other, one, one), (one, one, one, other))
    ] == [
        True,
        False,
        False,
    ]
    assert resume(one, other, one, one)["found"] == "1 of 2 tensors restored, 2 of 2 the same in the end"
    assert [abilities.judge_norms(1.0, apart)["able"] for apart in (1.0005, 1.01)] == [True, False]
    assert [abilities.judge_head(448, after)["able"] for after in (448, 512)] == [True, False]
    layer = torch.nn.Linear(2, 1)
    assert abilities.judge_finite(layer)["able"]
    turn = abilities.poison(layer)
    for on in (False, True):
        turn(on)
        layer(torch.ones(1, 2)).sum().backward()
        assert bool(torch.isfinite(layer.weight.grad).all()) != on
    layer.weight.data[0, 0] = torch.nan
    assert abilities.judge_finite(layer) == {"able": False, "found": "1 of 2 tensors not finite"}


@pytest.fixture(scope="module")
def work():
    return inference.open_model("scenes:small", 6)


def test_generated_texts_are_read_in_the_order_that_was_shown(work):
    example = next(each for each in work.examples if each.task == "hallucination")
    tokenizer = work.loaded.processor.tokenizer
    shown = Asking(None).present(example)[1]
    ids = dict(shown)

    def read(text):
        return inference.read(work, example, shown, tokenizer(text, add_special_tokens=False).input_ids)

    none = next(letter for letter, name in shown if name == example.none_id)
    phrases = [letter for letter in ids if letter != none]
    assert read(phrases[0]).answer == {ids[phrases[0]]} != {phrases[0]}
    assert read(", ".join(phrases)).answer == set(ids.values()) - {example.none_id}
    assert read(f"{none}, {phrases[0]}").outcome == "illegal"
    assert read("square").outcome == "unread" and not read("square").answer


def test_the_answer_of_most_orders_is_taken_and_unread_ones_do_not_count():
    a, b, unread = (
        inference.Said(frozenset("A")),
        inference.Said(frozenset("B")),
        inference.Said(frozenset(), "unread"),
    )
    assert inference.vote([unread, unread, b, a, a]) == a
    assert inference.vote([b, a]) == b and inference.vote([unread, unread]) == unread


def test_a_measurement_covers_every_contender_and_counts_every_record():
    report = inference.measure("scenes:small", 4, 2, 1)
    assert set(report["contenders"]) == set(inference.list_contenders(2, 8))
    for name, found in report["contenders"].items():
        assert found["answered"] + found["unread"] + found["illegal"] == 4
        assert found["posteriors"] == (4 if name.startswith("hkd") else 0)
        assert found["cpu_seconds_per_record"] > 0
    assert report["same_answer_alone"]["hkd"] == 4
    assert set(report["ratios"]) == set(report["spread"]) == set(inference.RATIOS)
    ratio = report["ratios"]["generate / hkd"]
    seconds = [report["contenders"][name]["cpu_seconds_per_record"] for name in ("generate", "hkd")]
    assert ratio == pytest.approx(seconds[0] / seconds[1])


def test_a_half_posterior_is_not_counted(work):
    said = inference.ask_hkd(work, batch=6)
    assert inference.describe(said, work.examples)["posteriors"] == 6
    half = replace(said[0].posterior, log_probs=said[0].posterior.log_probs - 1)
    said[0] = replace(said[0], posterior=half)
    assert inference.describe(said, work.examples)["posteriors"] == 5


def test_as_many_tokens_are_generated_as_the_longest_answer_has(work):
    count = inference.count_new_tokens(work)
    (said,) = {
        len(new)
        for new in inference.generate_as_shown(
            work, [identity_presentation(e) for e in work.examples], new_tokens=count, batch=6
        )
    }
    longest = max(len(example.choices) - 1 for example in work.examples if example.task == "hallucination")
    assert said <= count == 2 * longest  # letters, the commas between them, the end
