"""A student of a few hundred weights with everything that goes wrong in a big one: ragged answers, dropout,
a frozen tower with batch statistics, a padded head."""

from dataclasses import dataclass

import torch
from torch import nn

from hkdcli.data.batches import Batch
from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.trainer import TrainSettings
from hkdcli.models.answers import AnswerLogits

VOCABULARY, LENGTH, HIDDEN = 20, 12, 8
LETTERS = (4, 5, 6, 7)


class ToyStudent(nn.Module):
    """Embedding -> frozen tower -> trainable layer -> head; padded columns beyond the vocabulary."""

    def __init__(self, seed=0, dropout=0.0, padding=3):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN)
        self.tower = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.Dropout(0.5))
        self.tower.requires_grad_(False)
        self.mix = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(HIDDEN, VOCABULARY + padding)

    def forward(self, batch):
        states = self.embedding(batch.model_inputs["input_ids"])
        states = self.tower(states.flatten(0, 1)).view(states.shape) + states
        states = self.dropout(self.mix(states)[0])
        return AnswerLogits(self.head(states[batch.answer_rows, batch.answer_columns]))


@dataclass
class ToySource:
    """Examples whose answers have 1 to 4 tokens; reading them can be made to do anything."""

    size: int = 13
    seed: int = 5
    on_load: object = None
    loads: int = 0

    def list_ids(self, draws):
        return [str(draw.index) for draw in draws]

    def load(self, draws):
        self.loads += 1
        if self.on_load is not None:
            self.on_load(self.loads)
        return collate([self.read(draw.index) for draw in draws])

    def read(self, index):
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        prompt = torch.randint(8, VOCABULARY, (4 + index % 3,), generator=generator)
        answer = torch.randint(4, 8, (1 + index % 4,), generator=generator)
        return prompt, torch.cat([answer, torch.tensor([2])]), 3 + index % 2


def collate(rows):
    """(prompt, answer with its end token, number of choices) per example -> Batch."""
    ids = torch.zeros(len(rows), LENGTH, dtype=torch.long)
    mask = torch.zeros_like(ids)
    letters = torch.full((len(rows), 4), -1)
    spots = []
    for row, (prompt, answer, choices) in enumerate(rows):
        tokens = torch.cat([prompt, answer])
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
        letters[row, :choices] = torch.tensor(LETTERS[:choices])
        spots += [(row, len(prompt) - 1 + j, int(token)) for j, token in enumerate(answer)]
    at = torch.tensor(spots, dtype=torch.long).reshape(-1, 3)
    counts = torch.tensor([len(answer) for _, answer, _ in rows])
    return Batch(
        model_inputs={"input_ids": ids, "attention_mask": mask},
        answer_rows=at[:, 0],
        answer_columns=at[:, 1],
        answer_targets=at[:, 2],
        first=counts.cumsum(0) - counts,
        letter_ids=letters,
        ids=tuple(str(row) for row in range(len(rows))),
        pixel_hashes=("",) * len(rows),
    )


def make_teachers():
    return LiveTeachers([ToyStudent(seed=9, padding=0)])


def make_objective(**changes):
    return OnlineObjective(vocabulary=VOCABULARY, **{"temperature": 2.0, **changes})


def make_settings(**changes):
    settings = {
        "max_steps": 9,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "weight_decay": 0.01,
        "lambda_schedule": "linear",
        "lambda_start": 0.3,
        "lambda_end": 0.7,
        "log_every": 1,
        "checkpoint_every": 2,
        "seed": 3,
    }
    return TrainSettings(**{**settings, **changes})
