"""R03: too little space is told before the first step, and a disk that fills up costs no checkpoint."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy import ToySource, ToyStudent, make_objective, make_settings, make_teachers
from toy_run import assert_same_weights, run

from hkdcli.checkpoints import find_latest_checkpoint
from hkdcli.distill.keeper import Keeper
from hkdcli.distill.stepper import Stepper
from hkdcli.errors import MachineLimitError
from hkdcli.reporter import SilentReporter


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pretend_free(monkeypatch, free):
    asked = []

    def disk_usage(place):
        asked.append(place)
        return shutil._ntuple_diskusage(2 * free, free, free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    return asked


def weigh_checkpoint(folder):
    """Bytes of weights and of the two moments of each, from a training that saved them."""
    _, result = run(folder, settings=make_settings(max_steps=1))
    saved = load_file(result.checkpoint / "weights.safetensors")
    return 3 * sum(tensor.nbytes for tensor in saved.values())


@pytest.mark.parametrize(("changes", "count"), [({}, 3), ({"evaluate_every": 2}, 4)])
def test_r03_too_little_space_is_told_before_the_first_step(tmp_path, monkeypatch, changes, count):
    """Two checkpoints are kept while a third is written; the best may be one more."""
    size, source = weigh_checkpoint(tmp_path / "measured"), ToySource()
    settings = make_settings(keep_checkpoints=2, **changes)
    asked = pretend_free(monkeypatch, count * size - 1)
    with pytest.raises(
        MachineLimitError, match=rf"{count} checkpoints of .* GiB need .* GiB are free"
    ) as caught:
        run(tmp_path / "run", settings=settings, source=source)
    assert caught.value.exit_code == 4 and source.loads == 0
    assert asked == [tmp_path]  # the run's own folder does not exist yet
    pretend_free(monkeypatch, count * size)
    run(tmp_path / "run", settings=settings)


def test_r03_needed_and_free_space_are_named(tmp_path, monkeypatch):
    pretend_free(monkeypatch, 2**30)
    student = ToyStudent()
    student.head = torch.nn.Linear(8, 50 * 2**20, device="meta")
    stepper = Stepper(student, make_teachers(), make_objective(), ToySource(), make_settings())
    keeper = Keeper(stepper, tmp_path, make_settings(keep_checkpoints=1), SilentReporter())
    with pytest.raises(
        MachineLimitError, match=r"2 checkpoints of 5\.27 GiB need 10\.5 GiB, and 1 GiB are free"
    ):
        keeper.check_space()


def test_r03_a_resume_counts_what_is_written_already(tmp_path, monkeypatch):
    size = weigh_checkpoint(tmp_path / "measured")
    run(tmp_path / "run", settings=make_settings(max_steps=4))
    pretend_free(monkeypatch, size)  # two of three are there
    _, result = run(tmp_path / "run", resume=True)
    assert result.step == 9


def test_r03_as_many_fit_as_steps_are_due_when_all_are_kept(tmp_path, monkeypatch):
    size = weigh_checkpoint(tmp_path / "measured")
    settings = make_settings(keep_checkpoints=None)  # steps 2, 4, 6, 8 and 9
    pretend_free(monkeypatch, 5 * size - 1)
    with pytest.raises(MachineLimitError, match="5 checkpoints"):
        run(tmp_path / "run", settings=settings)


TRAIN_WITH_SMALL_FILES = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from toy_run import run
from hkdcli import engine
from hkdcli.__main__ import main

def schema(command):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    run(Path(sys.argv[2]), resume=True)

engine.schema = schema
sys.exit(main(["schema"]))
"""


def test_r03_a_checkpoint_that_fails_half_way_leaves_the_one_before(tmp_path):
    """No file may grow beyond 2,000 bytes there, half of what the weights take."""

    def crash(load):
        if load == 2 * 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, source=ToySource(on_load=crash))
    before = find_latest_checkpoint(tmp_path / "checkpoints")
    assert (before / "weights.safetensors").stat().st_size > 3000
    command = [sys.executable, "-c", TRAIN_WITH_SMALL_FILES, str(Path(__file__).parent), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 4, ended.stderr
    said = [
        f"{tmp_path / 'checkpoints'}: no space left to write",
        "hint: Free some space and try again, with --resume where the command has it.",
    ]
    assert ended.stderr.splitlines()[-2:] == said
    assert not list((tmp_path / "checkpoints").glob(".tmp-*"))
    assert find_latest_checkpoint(tmp_path / "checkpoints") == before
    whole, _ = run(tmp_path / "whole")
    resumed, _ = run(tmp_path, resume=True)
    assert_same_weights(resumed, whole)
