"""An upper model of stage two that is a function of what it is shown, and a build of its store as a program.

python toy_signals.py FOLDER INDEX COUNT
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tiny_records import DrawnImages, make_choices, make_factuality, make_hallucination

from hkdcli.data.batches import Batch, pad_rows
from hkdcli.data.datasets import Dataset
from hkdcli.distill.order import Draw
from hkdcli.distill.record_file import RecordFile
from hkdcli.distill.signal_building import build_signals
from hkdcli.distill.signal_store import SignalStore
from hkdcli.distill.sources import DatasetSource
from hkdcli.distill.teacher_signal import TeacherSignal
from hkdcli.models.states import States

KEY = {"model": "m" * 64, "adapter": None, "signal": {"top_k": 5, "states": {"layers": [1, 3], "grid": 2}}}
BATCH_SIZE = 4


def make_examples(size):
    """Records with answers of one to three tokens and two to four choices."""
    phrases = ("red square", "left of", "small circle")
    examples = []
    for place in range(size):
        shown = phrases[: 1 + place % 3]
        if place % 4 == 3:
            examples.append(make_factuality(f"f{place}", choices=make_choices("True", "False"), answer={"B"}))
        else:
            examples.append(make_hallucination(f"h{place}", shown, answer=frozenset("BCD"[: 1 + place % 2])))
    return tuple(examples)


def collate(examples, images, presentations, *, learned=None):
    """Tokens that tell the answers' letters alone; a row whose picture is lost has no answer positions."""
    kept = [row for row in range(len(examples)) if learned is None or learned[row]]
    answers = [[*map(ord, sorted(example.answer)), 1][: len(example.choices)] for example in examples]
    spots = [(row, column, token) for row in kept for column, token in enumerate(answers[row])]
    rows, columns, targets = torch.tensor(spots, dtype=torch.long).reshape(-1, 3).unbind(-1)
    counts = torch.tensor([len(answers[row]) for row in kept], dtype=torch.long)
    letters = pad_rows([[ord(letter) for letter, _ in shown] for shown in presentations], -1)
    return Batch(
        model_inputs={},
        answer_rows=rows,
        answer_columns=columns,
        answer_targets=targets,
        first=counts.cumsum(0) - counts,
        letter_ids=letters[kept],
        ids=tuple(example.id for example in examples),
        pixel_hashes=tuple(image.pixel_hash for image in images),
    )


def make_source(size=22, **fields):
    dataset = Dataset("toy", fields.pop("examples", None) or make_examples(size), DrawnImages())
    return DatasetSource(dataset, collate, **fields)


def ask(batch, draws=(), *, top_k=5, vocabulary=9, states=True):
    """Numbers that depend on every example of the batch, as the last bits of a real model's do."""
    generator = torch.Generator().manual_seed(sum(map(ord, "".join((*batch.ids, *batch.pixel_hashes)))))

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    positions, examples = len(batch.answer_targets), len(batch.first)
    choices = draw(*batch.letter_ids.shape).masked_fill(batch.letter_ids < 0, 0.0)
    logits, tokens, rest = draw(positions, vocabulary), None, None
    if top_k is not None:
        rest = logits.logsumexp(-1)
        logits, tokens = logits.topk(top_k, dim=-1)
    hidden = States(draw(2, positions, 6).half(), draw(2, examples, 4, 6).half()) if states else None
    return TeacherSignal(draw(examples), choices, logits, tokens, rest, hidden)


def read_payloads(folder, key=KEY):
    """Every record of a store by key, as the bytes that stand in the file."""
    SignalStore.open(folder, key)
    seed = SignalStore.open(folder, key)._seed
    files = [RecordFile(path, seed) for path in sorted(folder.glob("*.records"))]
    return {key.hex(): file.read(key) for file in files for key in file}


def assert_same_signal(one, other):
    assert (one.states is None) == (other.states is None)
    pairs = [(getattr(one, name), getattr(other, name)) for name in list_names()]
    if one.states is not None:
        pairs += [(one.states.answer, other.states.answer), (one.states.image, other.states.image)]
    for found, expected in pairs:
        assert (found is None) == (expected is None)
        if found is not None:
            assert found.dtype == expected.dtype and found.shape == expected.shape
            assert torch.equal(found, expected)


def list_names():
    return ("log_truth", "choices", "logits", "tokens", "log_sum_exp")


def draw_rows(*indices):
    return [Draw(0, index) for index in indices]


def build_slowly(folder, index, count):
    """What `build_signals` does, with time to kill it."""

    def think(batch, draws):
        time.sleep(0.02)
        return ask(batch, draws)

    store = SignalStore.open(Path(folder), KEY)
    build_signals(store, think, make_source(60), batch_size=BATCH_SIZE, shard=(int(index), int(count)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    build_slowly(*sys.argv[1:4])
