"""The laws of what stage two minimises, on ragged answers; and whole trainings with it."""

from dataclasses import replace

import pytest
import torch
from toy import VOCABULARY, ToySource, collate, make_settings
from toy_refining import PARTS, STATES, StatefulToy, make_refining, make_uppers
from toy_run import assert_same_weights, read_log, run

from hkdcli.distill.live_signals import LiveSignals, LiveUpper
from hkdcli.distill.order import Draw
from hkdcli.distill.refine_objective import MOST_S
from hkdcli.distill.teacher_signal import SignalPlan, TeacherSignal
from hkdcli.models.answers import AnswerLogits
from hkdcli.models.states import States


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def batch():
    return ToySource().load([Draw(0, index) for index in range(6)])


def compute(objective, student, said, batch):
    parts = objective(student, said, batch)
    counts = objective.count(batch)
    return parts.compute_means(counts), parts.combine(counts)


def ask(uppers, batch):
    return uppers(batch, [])


def test_the_loss_is_the_written_equation(batch):
    """In float64 and word for word: coupling, mixture, three parts, learned weights, untaught examples."""
    kappa, T = 2.0, 2.0
    student, uppers = StatefulToy().eval()(batch), make_uppers(temperature=T, width=5)
    log_truths = torch.stack([said.log_truth for said in ask(uppers, batch)]).double()
    least = log_truths.amax(0).exp().sort().values[2].item()  # two examples are not followed
    objective = make_refining(
        width=5, kappa=kappa, min_truth=least * 0.999, response={"temperature": T, "choice_weight": 0.25}
    )
    with torch.no_grad():
        for place, name in enumerate(PARTS):
            objective.s[name].fill_(0.3 * place - 0.4)
    means, loss = compute(objective, student, ask(uppers, batch), batch)

    owner = torch.repeat_interleave(
        torch.arange(6), batch.first.diff(append=torch.tensor([len(batch.answer_targets)]))
    )
    answers = [upper.model(batch) for upper in uppers.uppers]
    w = torch.softmax(log_truths / kappa, 0)
    followed = (log_truths.amax(0).exp() >= least * 0.999).double()
    assert followed.sum() == 4
    p = [torch.softmax(a.logits.double()[:, :VOCABULARY] / T, -1) for a in answers]
    q = w[0, owner][:, None] * p[0] + w[1, owner][:, None] * p[1]
    s = torch.log_softmax(student.logits.double()[:, :VOCABULARY] / T, -1)
    token = (T**2 * (q * (q.log() - s)).sum(-1) * followed[owner]).mean()
    choice = 0.0
    for example, row in enumerate(batch.first):
        letters = batch.letter_ids[example][batch.letter_ids[example] >= 0]
        of = [torch.softmax(a.logits[row, letters].double() / T, -1) for a in answers]
        q_letters = w[0, example] * of[0] + w[1, example] * of[1]
        s_letters = torch.log_softmax(student.logits[row, letters].double() / T, -1)
        choice += T**2 * (q_letters * (q_letters.log() - s_letters)).sum() * followed[example] / 6
    kept = ask(uppers, batch)[0].states
    feature = relation = 0.0
    for layer in range(2):
        P = objective.projections[layer].double()
        for own, theirs, mask in (
            (student.states.answer[layer], kept.answer[layer], followed[owner]),
            (student.states.image[layer], kept.image[layer], followed[:, None]),
        ):
            cos = torch.cosine_similarity(own.double() @ P, theirs.double(), dim=-1)
            feature += ((1 - cos) * mask).sum() / 2
        for example in range(6):
            grams = []
            for states in (student.states, kept):
                tokens = [states.image[layer, example], states.answer[layer, owner == example]]
                tokens = torch.nn.functional.normalize(torch.cat(tokens).double(), dim=-1)
                grams.append(tokens @ tokens.T)
            relation += (grams[0] - grams[1]).square().mean() * followed[example] / 2 / 6
    feature = feature / (len(owner) + 6 * STATES.cells)
    reference = -torch.log_softmax(student.logits.double(), -1)[
        range(len(owner)), batch.answer_targets
    ].mean()
    parts = {"response": 0.25 * choice + 0.75 * token, "feature": feature, "relation": relation}
    learned = {name: 4 * torch.tanh(objective.s[name].double() / 4) for name in PARTS}
    expected = reference + sum(torch.exp(-learned[n]) * parts[n] + learned[n] for n in PARTS)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert means["response"].item() == pytest.approx(token.item(), rel=1e-5)
    assert means["response_choice"].item() == pytest.approx(choice.item(), rel=1e-5)
    assert means["feature"].item() == pytest.approx(feature.item(), rel=1e-4)
    assert means["relation"].item() == pytest.approx(relation.item(), rel=1e-3)
    assert means["followed"].item() == pytest.approx(4 / 6)
    assert means["believed_teacher"].item() == pytest.approx(w[0].mean().item(), rel=1e-5)
    assert means["weight_feature"].item() == pytest.approx(torch.exp(-learned["feature"]).item())


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_identical_models_refine_nothing(batch, top_k, divergence):
    student = StatefulToy(seed=9, padding=0).eval()
    uppers = make_uppers(models=((9, 0), (9, 0)), top_k=top_k)
    objective = make_refining(response={"divergence": divergence, "choice_weight": 0.5})
    means, _ = compute(objective, student(batch), ask(uppers, batch), batch)
    for name in ("response", "response_choice"):
        assert means[name].item() == pytest.approx(0.0, abs=1e-5)
    # States are kept in float16.
    assert means["feature"].item() == pytest.approx(0.0, abs=1e-5)
    assert means["relation"].item() == pytest.approx(0.0, abs=1e-5)


def test_an_example_that_no_upper_model_knows_keeps_cross_entropy_alone(batch):
    student = StatefulToy().eval()
    said = ask(make_uppers(), batch)
    unsure = [replace(each, log_truth=each.log_truth.clone()) for each in said]
    for each in unsure:
        each.log_truth[2] = -50.0
    answer, rows = student(batch), find_rows(batch, 2)
    logits = answer.logits.detach().requires_grad_()
    states = States(
        answer.states.answer.detach().requires_grad_(), answer.states.image.detach().requires_grad_()
    )
    objective = make_refining(min_truth=1e-9, response={"choice_weight": 0.5})
    _, loss = compute(objective, AnswerLogits(logits, states=states), unsure, batch)
    loss.backward()
    own = torch.nn.functional.cross_entropy(
        logits[rows].detach().requires_grad_(), batch.answer_targets[rows]
    )
    probabilities = torch.softmax(logits[rows].detach(), -1)
    targets = torch.nn.functional.one_hot(batch.answer_targets[rows], logits.shape[1])
    expected = (probabilities - targets) / len(batch.answer_targets)
    torch.testing.assert_close(logits.grad[rows], expected, rtol=1e-4, atol=1e-7)
    assert own > 0 and not states.answer.grad[:, rows].any() and not states.image.grad[:, 2].any()
    others = [row for row in range(len(logits)) if row not in rows]
    assert (states.answer.grad[:, others].abs().sum((0, 2)) > 0).all()


def find_rows(batch, example):
    borders = [*batch.first.tolist(), len(batch.answer_targets)]
    return list(range(borders[example], borders[example + 1]))


def test_a_learned_weight_falls_to_its_optimum_and_no_further():
    """At L > 0 the best s is log L; at L = 0 there is none, and s stops at its bound."""
    for length, expected in ((0.2, torch.tensor(0.2).log().item()), (0.0, -MOST_S), (1e4, MOST_S)):
        objective = make_refining({"relation": None})
        optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
        for _ in range(2000):
            optimizer.zero_grad()
            s = objective._tell_weights(1)["s_relation"].total
            (objective._weigh("relation") * length + s).backward()
            optimizer.step()
        found = objective._tell_weights(1)
        assert abs(found["s_relation"].total.item()) <= MOST_S
        assert found["s_relation"].total.item() == pytest.approx(expected, abs=0.2)
        assert torch.isfinite(found["weight_relation"].total) and torch.isfinite(objective.s["relation"])


def test_a_learned_weight_comes_back_from_its_bound():
    objective = make_refining({"relation": None})
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    for step in range(900):
        optimizer.zero_grad()
        length = 0.0 if step < 200 else 1.0
        (objective._weigh("relation") * length + objective._tell_weights(1)["s_relation"].total).backward()
        optimizer.step()
    assert objective._tell_weights(1)["s_relation"].total.item() == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("without", PARTS)
def test_each_part_can_be_left_out_or_weighed_by_hand(batch, without):
    student, said = StatefulToy().eval()(batch), ask(make_uppers(), batch)
    parts = {name: None for name in PARTS if name != without}
    objective = make_refining(parts)
    means, _ = compute(objective, student, said, batch)
    assert without not in means and f"s_{without}" not in means and set(parts) < set(means)
    assert ("projections" in dict(objective.named_parameters())) == (without != "feature")
    fixed = make_refining({without: 0.7})
    means, loss = compute(fixed, student, said, batch)
    expected = means["cross_entropy"] + 0.7 * means[without]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert not any(name.startswith(("s_", "weight_")) for name in means)


def test_an_upper_model_of_other_tokens_speaks_of_choices_alone(batch):
    student = StatefulToy().eval()(batch)
    told = ask(make_uppers(), batch)
    foreign = TeacherSignal(told[1].log_truth, told[1].choices)
    objective = make_refining({"response": 1.0}, response={"choice_weight": 0.5})
    means, _ = compute(objective, student, [told[0], foreign], batch)
    alone, _ = compute(make_refining({"response": 1.0}, uppers=("teacher",)), student, [told[0]], batch)
    ignored = replace(told[0], log_truth=torch.full_like(told[0].log_truth, -200.0))
    unheard, _ = compute(objective, student, [ignored, foreign], batch)
    assert unheard["response"].item() == pytest.approx(0.0, abs=1e-6)  # who is not believed is not followed
    equal = replace(foreign, log_truth=told[0].log_truth)
    half, _ = compute(objective, student, [told[0], equal], batch)
    torch.testing.assert_close(half["response"], alone["response"] / 2)
    both, _ = compute(objective, student, told, batch)
    assert 0 < means["response"] < alone["response"]
    torch.testing.assert_close(means["response_choice"], both["response_choice"])


def test_states_that_are_missing_are_not_passed_over(batch):
    answer = StatefulToy().eval()(batch)
    with pytest.raises(ValueError, match="need states of the student"):
        make_refining()(replace(answer, states=None), ask(make_uppers(), batch), batch)


def test_a_batch_that_nothing_is_learned_from_gives_zero_and_no_nan(batch):
    prompt = torch.tensor([8, 9, 10])
    empty = collate([(prompt, torch.zeros(0, dtype=torch.long), 3)] * 2)
    empty = replace(empty, first=empty.first[:0], letter_ids=empty.letter_ids[:0])
    student, objective = StatefulToy().eval(), make_refining(response={"choice_weight": 0.5})
    _, loss = compute(objective, student(empty), ask(make_uppers(top_k=3), empty), empty)
    loss.backward()
    assert loss.item() == 0.0
    for parameter in (*student.parameters(), *objective.parameters()):
        assert parameter.grad is None or not parameter.grad.any()


# Whole trainings


def refine(folder, *, top_k=3, source=None, objective=None, dropout=0.2, **options):
    changes = {
        "lambda_schedule": None,
        "projection_learning_rate": 5e-2,
        "weight_learning_rate": 5e-2,
        **options.pop("changes", {}),
    }
    objective = objective or make_refining(width=5, kappa=1.0, min_truth=1e-6)
    settings = make_settings(**changes)
    student = StatefulToy(dropout=dropout)
    _, result = run(
        folder,
        student=student,
        objective=objective,
        source=source,
        settings=settings,
        signals=make_uppers(top_k=top_k, width=5),
        **options,
    )
    return student, objective, result


def test_training_learns_and_logs_every_part_and_every_learned_weight(tmp_path):
    _, objective, _ = refine(tmp_path, changes={"max_steps": 60, "log_every": 20})
    rows = read_log(tmp_path)
    for name in ("cross_entropy", "feature"):
        assert rows[-1][name] < rows[0][name]
    expected = {"step", "loss", "cross_entropy", "grad_norm", "learning_rate", "followed"}
    expected |= {f"{kind}{name}" for kind in ("", "s_", "weight_") for name in PARTS}
    expected |= {"believed_teacher", "believed_assistant"}
    assert all(set(row) == expected | {"tokens_per_s", "seconds", "peak_memory_gib"} for row in rows)
    assert rows[0]["weight_feature"] == 1.0 != rows[-1]["weight_feature"]
    assert rows[-1]["believed_teacher"] + rows[-1]["believed_assistant"] == pytest.approx(1.0, rel=1e-5)
    assert not torch.equal(objective.projections, make_refining(width=5).projections)


@pytest.mark.parametrize(("size", "count"), [(4, 2), (2, 4), (1, 8)])
def test_accumulation_changes_neither_loss_nor_gradient(tmp_path, size, count):
    def collect(micro_batch_size, micro_batches):
        folder = tmp_path / f"{micro_batch_size}"
        changes = {
            "max_steps": 4,
            "micro_batch_size": micro_batch_size,
            "gradient_accumulation_steps": micro_batches,
            "max_grad_norm": None,
            "checkpoint_every": None,
        }
        _, objective, _ = refine(folder, changes=changes, dropout=0.0)
        return objective, read_log(folder)

    (whole, expected), (cut, found) = collect(8, 1), collect(size, count)
    for row, other in zip(found, expected, strict=True):
        for name in set(other) - {"tokens_per_s", "seconds", "peak_memory_gib"}:
            assert row[name] == pytest.approx(other[name], rel=2e-5, abs=1e-6), name
    for name, tensor in cut.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("killed_in", range(2, 10, 2))
def test_a_resume_has_the_same_weights_projections_and_learned_weights(tmp_path, killed_in):
    whole, expected, _ = refine(tmp_path / "whole")

    def kill(load):
        if load == 2 * killed_in:
            raise KeyboardInterrupt  # as a kill would: nothing more is saved

    with pytest.raises(KeyboardInterrupt):
        refine(tmp_path / "cut", source=ToySource(on_load=kill))
    student, objective, _ = refine(tmp_path / "cut", resume=True)
    assert_same_weights(student, whole)
    assert_same_weights(objective, expected)
    assert read_log(tmp_path / "cut", timeless=True) == read_log(tmp_path / "whole", timeless=True)


def test_upper_models_are_frozen_whatever_is_trained(tmp_path):
    model = StatefulToy(seed=9, dropout=0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    signals = LiveSignals([LiveUpper(model, SignalPlan(VOCABULARY, states=STATES))])
    settings = make_settings(lambda_schedule=None, max_steps=3)
    run(
        tmp_path,
        student=StatefulToy(),
        objective=make_refining(uppers=("t",)),
        settings=settings,
        signals=signals,
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training
