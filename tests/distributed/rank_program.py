"""What the tests do in each of several processes: trainings of a toy, and ways for one of them to fail.

python rank_program.py together|killed|hangs|refuses|too-large FOLDER [LLAVA]
"""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "distill"))

from tiny_training import make_dataset
from toy import ToySource, ToyStudent, make_objective, make_settings, make_teachers

from hkdcli.data.collate import Collator
from hkdcli.data.images import BadRow, ImageError
from hkdcli.distill.objective import MutualObjective, OnlineObjective
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.sources import DatasetSource
from hkdcli.distill.trainer import train
from hkdcli.errors import DataError, StoppedError
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model
from hkdcli.ranks import find_place, join_ranks
from hkdcli.reporter import SilentReporter

STOPPED_AT = 3


@dataclass
class LoggedSource(ToySource):
    """Writes down which examples this process has drawn."""

    folder: Path = Path()

    def load(self, draws):
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"draws-{find_place().rank}.jsonl").open("a") as file:
            file.writelines(json.dumps([draw.epoch, draw.index]) + "\n" for draw in draws)
        return super().load(draws)


class Listener(SilentReporter):
    """Writes down the warnings of this process."""

    def __init__(self, folder):
        self.path = folder / f"warnings-{find_place().rank}.txt"

    def warn(self, text):
        with self.path.open("a") as file:
            file.write(text + "\n")


def settle(**changes):
    return make_settings(**{"gradient_accumulation_steps": 4, "weight_decay": 0.0, **changes})


def train_toy(folder, *, on_load=None, resume=False):
    source = LoggedSource(folder=folder, on_load=on_load)
    return train(ToyStudent(), make_teachers(), make_objective(), source, settle(), folder, resume=resume)


def train_mutually(folder):
    """The teacher learns too, so that its gradients have to be added up like the student's."""
    signals = LiveTeachers([ToyStudent(seed=9)], mutual=True)
    objective = MutualObjective(make_objective())
    train(ToyStudent(), signals, objective, ToySource(), settle(), folder)


def train_llava(folder, llava, *, resume=False, source=None, reporter=None, **changes):
    """A real architecture, trained in full, with a teacher: what can be sharded."""
    student, teacher = load_model(llava, trainable=True), load_model(llava)
    changes = {"max_steps": 4, "lambda_schedule": "constant", "lambda_end": None, **changes}
    return train(
        AnswerModel(student.model),
        LiveTeachers([AnswerModel(teacher.model)]),
        OnlineObjective(vocabulary=len(student.processor.tokenizer), temperature=2.0),
        source or build_source(student.processor),
        settle(**changes),
        folder,
        reporter,
        resume=resume,
    )


def build_source(processor, images=None):
    dataset = make_dataset()
    if images is not None:
        dataset = type(dataset)("tiny", dataset.examples, images)
    return DatasetSource(dataset, Collator(processor), on_bad="skip")


class FailingOnOne:
    """Images of which one cannot be read, in the process of rank 1 alone."""

    def __init__(self):
        self.images = make_dataset().images

    def load(self, name):
        if name == "h1.png" and find_place().rank == 1:
            raise ImageError(BadRow("image.truncated", "", name, "cut off"))
        return self.images.load(name)


def stop_rank_one(loads):
    """Only one process gets the signal; it draws two micro-batches a step."""
    if find_place().rank == 1 and loads == 2 * STOPPED_AT:
        os.kill(os.getpid(), signal.SIGTERM)


def work_together(folder, llava):
    train_toy(folder / "whole")
    train_mutually(folder / "mutual")
    try:
        train_toy(folder / "stopped", on_load=stop_rank_one)
    except StoppedError as stop:
        (folder / f"stopped-{find_place().rank}.txt").write_text(f"{stop.exit_code} {stop}")
    train_toy(folder / "grown", resume=True)
    lose_a_row(folder / "lost", llava, max_bad=0.5)
    try:
        lose_a_row(folder / "too-many", llava, max_bad=0.1)
    except DataError as error:
        (folder / f"too-many-{find_place().rank}.txt").write_text(str(error))
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    train_mutually(folder / "mutual-shards")
    train_llava(folder / "shards", llava, checkpoint_every=2)
    train_llava(folder / "shards-grown", llava, resume=True)


def lose_a_row(folder, llava, **changes):
    folder.mkdir(exist_ok=True)
    source = build_source(load_model(llava).processor, FailingOnOne())
    train_llava(folder, llava, source=source, reporter=Listener(folder), **changes)


def kill(loads):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(loads):
    time.sleep(600)


def refuse(loads):
    raise DataError("record 7 is refused")


def run_out_of_memory(loads):
    raise torch.OutOfMemoryError("tried to allocate 20 GiB")


FAULTS = {"killed": kill, "hangs": hang, "refuses": refuse, "too-large": run_out_of_memory}


def fail(scenario, folder):
    """Rank 1 fails in its second step, inside of the command line."""
    from hkdcli import __main__, engine

    def strike(loads):
        if find_place().rank == 1 and loads == 3:
            FAULTS[scenario](loads)

    def distill_online(*arguments, **options):
        with join_ranks():
            train_toy(folder, on_load=strike)

    engine.distill_online = distill_online
    return __main__.main(["distill-online", "recipe.yaml"])


def main(scenario, folder, *more):
    torch.set_num_threads(1)
    if scenario != "together":
        return fail(scenario, Path(folder))
    with join_ranks():
        work_together(Path(folder), *more)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
