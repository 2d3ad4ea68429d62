"""The checkpoints of one training: whether they fit on the disk, taking them, going on from them.

The best weights are no second format: the checkpoint of the best evaluation is spared by rotation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hkdcli.atomic import measure_free
from hkdcli.checkpoints import (
    count_checkpoints,
    find_checkpoint,
    find_latest_checkpoint,
    publish_checkpoint,
)
from hkdcli.distill.checkpoint import (
    Progress,
    collect_training,
    estimate_bytes,
    load_weights,
    read_training,
    write_training,
)
from hkdcli.distill.memory import GIB
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.stepper import Stepper
from hkdcli.errors import HkdError, MachineLimitError
from hkdcli.ranks import find_place, share
from hkdcli.reporter import Reporter


class Keeper:
    """Checkpoints of one training.

    Args:
        stepper: what they are taken of.
        folder: where they are; made with the first.
        settings: how many stay, and whether the best does.
        reporter: told which weights are taken in the end.
    """

    def __init__(self, stepper: Stepper, folder: Path, settings: TrainSettings, reporter: Reporter) -> None:
        self.stepper, self.folder, self.settings, self.reporter = stepper, folder, settings, reporter
        self.current: Path | None = None  # holds the weights that the student has, once it was saved

    def restore(self) -> Progress:
        """Load the newest complete checkpoint; without one, start at step 0."""
        self.current = find_latest_checkpoint(self.folder)
        if self.current is None:
            if count_checkpoints(self.folder):
                self.reporter.warn(f"{self.folder}: every checkpoint is damaged; this level begins anew")
            return Progress()
        return self._confirm_best(read_training(self.current, self.stepper.state))

    def check_space(self) -> None:
        """Check that the checkpoints will fit on the disk, before any time is spent on training.

        Raises:
            MachineLimitError: they will not.
        """
        size = estimate_bytes(self.stepper.state)
        count = max(1, self._count_largest() - count_checkpoints(self.folder))
        free = measure_free(self.folder)
        if count * size > free:
            raise MachineLimitError(
                f"{self.folder}: {count} checkpoints of {size / GIB:.3g} GiB need "
                f"{count * size / GIB:.3g} GiB, and {free / GIB:.3g} GiB are free",
                hint="Free some space, write elsewhere with --out, or lower keep_checkpoints.",
            )

    def save(self, progress: Progress) -> None:
        """Take a checkpoint, unless a weight is not finite: an HkdError then, and what is there stays.

        Args:
            progress: how far training has come.
        """
        files = collect_training(self.stepper.state)
        if find_place().is_main:
            self._check_finite(progress.step, files["weights"])
            self.current = publish_checkpoint(
                self.folder,
                progress.step,
                lambda folder: write_training(folder, files, progress),
                keep=self.settings.keep_checkpoints,
                spare=[progress.best_step] if self.settings.keep_best and progress.best_step else (),
            )
        self.current = Path(share(str(self.current)))

    def take_best(self, progress: Progress) -> Progress:
        """Put the weights of the best evaluation into the student, where they are to be kept.

        Args:
            progress: at the end of training.

        Returns:
            The same; without a best where its checkpoint is gone.
        """
        progress = self._confirm_best(progress)
        if not self.settings.keep_best or progress.best_step is None:
            return progress
        best = find_checkpoint(self.folder, progress.best_step)
        if best is not None and progress.best_step != progress.step:
            load_weights(best, self.stepper.modules)
            self.current = best
        score = f"dev micro-F1 {progress.best_dev_micro_f1:.4f}"
        self.reporter.note(f"the weights of step {progress.best_step} are taken: {score}")
        return progress

    def _confirm_best(self, progress: Progress) -> Progress:
        """Forget a best whose weights are gone: the next evaluation is compared with nothing then."""
        if not self.settings.keep_best or progress.best_step is None:
            return progress
        if find_checkpoint(self.folder, progress.best_step):
            return progress
        self.reporter.warn(
            f"{self.folder}: the best checkpoint, of step {progress.best_step}, is damaged or gone; the best "
            f"is chosen among the evaluations after step {progress.step}"
        )
        return replace(progress, best_step=None, best_dev_micro_f1=None, evaluations_since=0)

    def _count_largest(self) -> int:
        """The most checkpoints that stand at once: those kept, one being written, and the best."""
        settings = self.settings
        due = math.ceil(settings.max_steps / (settings.checkpoint_every or settings.max_steps))
        in_turn = due if settings.keep_checkpoints is None else settings.keep_checkpoints + 1
        return in_turn + int(settings.keep_best and settings.evaluate_every is not None)

    def _check_finite(self, step: int, weights: Mapping[str, Tensor]) -> None:
        wrong = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
        if wrong:
            raise HkdError(
                f"step {step}: {len(wrong)} of {len(weights)} weights are not finite, such as {wrong[0]}; no "
                "checkpoint is made of them, and the last one is kept",
                hint="Lower learning_rate or max_grad_norm, and look at the figures in log.jsonl.",
            )
