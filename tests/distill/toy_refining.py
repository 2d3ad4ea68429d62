"""What stage two needs of the toy: a student with states, upper models, and signals of either kind."""

from dataclasses import replace

import torch
from torch import nn
from toy import HIDDEN, VOCABULARY, ToyStudent

from hkdcli.distill.live_signals import LiveSignals, LiveUpper
from hkdcli.distill.refine_objective import RefineObjective, ResponseSettings
from hkdcli.distill.teacher_signal import SignalPlan
from hkdcli.models.states import StatePlan, States

PARTS = {"response": None, "feature": None, "relation": None}
STATES = StatePlan((0, 1), 2)


class StatefulToy(ToyStudent):
    """A toy that gives states: of its answers in two "layers", and of a "picture" that its prompt is."""

    def __init__(self, seed=0, dropout=0.0, padding=3, width=HIDDEN):
        super().__init__(seed, dropout, padding)
        self.widen = nn.Linear(HIDDEN, width) if width != HIDDEN else nn.Identity()

    def forward(self, batch):
        answer = super().forward(batch)
        whole = self.widen(self.mix(self.embedding(batch.model_inputs["input_ids"]))[0])
        rows = batch.answer_rows[batch.first]
        at = whole[batch.answer_rows, batch.answer_columns]
        image = whole[rows][:, : STATES.cells]
        return replace(answer, states=States(torch.stack([at, 2 * at + 1]), torch.stack([image, image**2])))


def make_uppers(
    *, temperature=1.0, top_k=None, vocabulary=VOCABULARY, width=HIDDEN, models=((9, 0), (17, 1))
):
    """Teacher and assistant, live, by seed and padding of the head; only the first gives states."""
    uppers = []
    for place, (seed, padding) in enumerate(models):
        model = StatefulToy(seed=seed, padding=padding, width=width if place == 0 else HIDDEN)
        plan = SignalPlan(vocabulary, temperature, top_k, STATES if place == 0 else None)
        uppers.append(LiveUpper(model, plan))
    return LiveSignals(uppers)


def make_refining(parts=None, *, width=HIDDEN, uppers=("teacher", "assistant"), response=None, **changes):
    torch.manual_seed(4)
    return RefineObjective(
        PARTS if parts is None else parts,
        ResponseSettings(VOCABULARY, **(response or {})),
        uppers,
        widths=(HIDDEN, width),
        layers=len(STATES.layers),
        cells=STATES.cells,
        **changes,
    )
