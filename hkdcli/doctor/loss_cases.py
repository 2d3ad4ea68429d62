"""Each loss of both stages beside its equation, on small tensors that are the same every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hkdcli.distill import losses, ternary
from hkdcli.distill.teacher_signal import TeacherSignal
from hkdcli.doctor import references

Loss = Callable[..., Tensor]

ROWS, COLUMNS = 5, 23
_BETAS: dict[losses.DivergenceName, tuple[float | None, ...]] = {
    "forward_kl": (None,),
    "reverse_kl": (None,),
    "jsd": (0.0, 0.1, 0.5, 1.0),
    "skew_kl": (0.0, 0.1, 0.9),
}


@dataclass(frozen=True, slots=True)
class Case:
    """A loss of ours and its equation, both functions of the same tensors; the first one is learned.

    `fixed` are handed on behind those as they are.
    """

    ours: Loss
    reference: Loss
    inputs: Sequence[Tensor]
    fixed: Sequence[Tensor] = ()


def list_cases() -> Mapping[str, Sequence[Case]]:
    """The cases of every loss, by its name."""
    return {
        "cross_entropy": [_likelihood()],
        **{name: list(_divergences(name)) for name in _BETAS},
        "choice": [_choice()],
        "coupling": [_coupling()],
        "response": list(_responses()),
        "feature": [_feature()],
        "relation": [_relation()],
    }


def _draw(*shape: int, seed: int, scale: float = 2.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def _likelihood() -> Case:
    targets = torch.arange(ROWS) * 4
    return Case(
        losses.cross_entropy, references.compute_likelihood_loss, [_draw(ROWS, COLUMNS, seed=0)], [targets]
    )


def _divergences(name: losses.DivergenceName) -> Iterator[Case]:
    """All columns, the likeliest ones, and the columns of a mask; each beta at two temperatures."""
    inputs = [_draw(ROWS, COLUMNS, seed=1), _draw(ROWS, COLUMNS, seed=2)]
    for beta in _BETAS[name]:
        for temperature in (1.0, 2.5):
            yield _divergence(name, inputs, temperature, beta)
            yield _divergence(name, inputs, temperature, beta, top_k=4)
            yield _divergence(name, inputs, temperature, beta, masked=7)


def _divergence(
    name: losses.DivergenceName,
    inputs: Sequence[Tensor],
    temperature: float,
    beta: float | None,
    *,
    top_k: int | None = None,
    masked: int = 0,
) -> Case:
    def ours(student: Tensor, teacher: Tensor) -> Tensor:
        mask = (torch.arange(COLUMNS) < COLUMNS - masked).expand(ROWS, COLUMNS).to(student.device)
        return losses.compute_divergence(
            name, teacher, student, temperature, mask if masked else None, beta=beta, top_k=top_k
        )

    def reference(student: Tensor, teacher: Tensor) -> Tensor:
        p, q = (references.soften(each[:, : COLUMNS - masked], temperature) for each in (teacher, student))
        if top_k is not None:
            p, q = references.keep_columns(p, q, top_k)
        return temperature**2 * references.diverge(name, p, q, beta)

    return Case(ours, reference, inputs)


def _choice() -> Case:
    """The n-way decision at the first answer position; the second example has fewer choices."""
    first, letters = torch.tensor([0, 3]), torch.tensor([[4, 5, 6, 7], [7, 4, -1, -1]])

    def ours(student: Tensor, teacher: Tensor, first: Tensor, letters: Tensor) -> Tensor:
        (q, mask), (p, _) = (losses.choice_logits(each, first, letters) for each in (student, teacher))
        return losses.compute_divergence("forward_kl", p, q, 2.0, mask)

    def reference(student: Tensor, teacher: Tensor, first: Tensor, letters: Tensor) -> Tensor:
        rows = []
        for place, ids in zip(first.tolist(), letters, strict=True):
            own = ids[ids >= 0]
            p, q = (references.soften(each[place, own], 2.0) for each in (teacher, student))
            rows.append(4 * references.kl(p, q))
        return torch.stack(rows)

    return Case(
        ours, reference, [_draw(ROWS, COLUMNS, seed=3), _draw(ROWS, COLUMNS, seed=4)], [first, letters]
    )


def _coupling() -> Case:
    log_truth = torch.log_softmax(_draw(2, ROWS, seed=5), -1)
    return Case(
        lambda said: ternary.couple(said, 0.7), lambda said: references.couple(said, 0.7), [log_truth]
    )


def _responses() -> Iterator[Case]:
    """D(q, p_S; T) with q = sum_k w_k p_k, the heads padded differently."""
    weights = torch.tensor([[0.2, 0.9, 0.5, 0.1, 0.7]])
    weights = torch.cat([weights, 1 - weights])
    for temperature in (1.0, 2.5):
        inputs = [
            _draw(ROWS, COLUMNS + 3, seed=6),
            _draw(ROWS, COLUMNS, seed=7),
            _draw(ROWS, COLUMNS, seed=8),
        ]
        yield Case(_answer(temperature), _answer_exactly(temperature), inputs, [weights])


def _answer(temperature: float) -> Loss:
    def ours(student: Tensor, teacher: Tensor, assistant: Tensor, weights: Tensor) -> Tensor:
        nothing = torch.zeros(0, device=student.device)
        said = [TeacherSignal(nothing, nothing, logits) for logits in (teacher, assistant)]
        log_q, log_p = ternary.pair_answers(said, weights, student, COLUMNS, temperature)
        return losses.compare_distributions("forward_kl", log_q, log_p)

    return ours


def _answer_exactly(temperature: float) -> Loss:
    def reference(student: Tensor, teacher: Tensor, assistant: Tensor, weights: Tensor) -> Tensor:
        upper = [references.soften(logits, temperature) for logits in (teacher, assistant)]
        q = sum(w.double()[:, None] * p for w, p in zip(weights, upper, strict=True))
        return references.kl(torch.as_tensor(q), references.soften(student[:, :COLUMNS], temperature))

    return reference


def _states(width: int, seed: int) -> Tensor:
    """Of 2 layers, for 2 examples of 3 cells each and 5 answer tokens: [M, N, H]."""
    return _draw(2, 11, width, seed=seed)


def _feature() -> Case:
    def ours(projections: Tensor, own: Tensor, theirs: Tensor) -> Tensor:
        unit = [torch.nn.functional.normalize(each.float(), dim=-1) for each in (own, theirs)]
        return ternary.compare_features(unit[0], unit[1], projections.float())

    def reference(projections: Tensor, own: Tensor, theirs: Tensor) -> Tensor:
        return references.compute_feature_loss(own, theirs, projections)

    return Case(ours, reference, [_draw(2, 6, 8, seed=9), _states(6, 10), _states(8, 11)])


def _relation() -> Case:
    answers = torch.tensor([0, 0, 1, 1, 1])
    owners = torch.cat([torch.tensor([0, 0, 0, 1, 1, 1]), answers])

    def ours(own: Tensor, theirs: Tensor, answers: Tensor) -> Tensor:
        unit = [torch.nn.functional.normalize(each.float(), dim=-1) for each in (own, theirs)]
        return ternary.compare_relations(unit[0], unit[1], ternary.lay_out(answers, 2, 3))

    def reference(own: Tensor, theirs: Tensor, answers: Tensor) -> Tensor:
        return references.compute_relation_loss(own, theirs, owners)

    return Case(ours, reference, [_states(6, 12), _states(8, 13)], [answers])
