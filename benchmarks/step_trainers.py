"""Trainers of others for the rows of the benchmark of a step: TRL's GOLD, and transformers' own Trainer."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from step_rows import build_source, write_for_gold
from transformers import AutoModelForImageTextToText, Trainer, TrainingArguments

from hkdcli.models.loading import load_processor

LEARNING_RATE, MAX_GRAD_NORM = 1e-4, 1.0
IGNORED = -100  # the label of a token that is not learned


class PlainCollator:
    """The standard recipe: the whole conversation is tokenized, and all but the answer is not learned.

    Args:
        processor: of the student.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Model inputs and labels [B, L] of rows with a prompt, a completion and images."""
        inputs = self._process([row["prompt"] + row["completion"] for row in rows], rows)
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED)
        prompts = self._process([row["prompt"] for row in rows], rows)
        for label, length in zip(labels, prompts["attention_mask"].sum(-1), strict=True):
            label[:length] = IGNORED
        return {**inputs, "labels": labels}

    def _process(self, texts: list[str], rows: Sequence[Mapping[str, Any]]) -> Any:
        images = [row["images"] for row in rows]
        return self.processor(
            text=texts, images=images, padding=True, padding_side="right", return_tensors="pt"
        )


def build_gold(folder: Path, options: argparse.Namespace, **changes: Any) -> Any:
    """GOLD of student and teacher, off-policy: the forward KL at the answers of the rows as they are.

    Args:
        folder: of the models and pictures.
        options: of the benchmark.
        changes: to GOLD's settings.

    Returns:
        A GOLDTrainer with `seen`: its last inputs, and the loss of the last micro-batch.
    """
    import datasets
    from trl.experimental.gold import GOLDConfig, GOLDTrainer

    settings = GOLDConfig(
        lmbda=0.0,  # no generation: the rows as they are
        beta=0.0,  # forward KL
        temperature=1.0,
        max_length=None,
        gradient_checkpointing=False,
        **{**_list_settings(folder, options), **changes},
    )
    student, teacher = (_load(folder / name) for name in ("student", "teacher"))
    rows = datasets.Dataset.from_list(write_rows(folder, options))
    processor = load_processor(folder / "student")
    return _watch(GOLDTrainer)(student, teacher, settings, None, rows, None, processor)


def build_plain(folder: Path, options: argparse.Namespace, **changes: Any) -> Any:
    """A fine-tuning of the student on labels alone, by transformers' Trainer; otherwise as `build_gold`."""
    settings = TrainingArguments(
        remove_unused_columns=False, **{**_list_settings(folder, options), **changes}
    )
    return _watch(Trainer)(
        _load(folder / "student"),
        settings,
        PlainCollator(load_processor(folder / "student")),
        write_rows(folder, options),
    )


def write_rows(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows as the texts that hkd makes of them."""
    source = build_source(folder, options.tokens)
    return [write_for_gold(source, example) for example in source.dataset.examples]


def _list_settings(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "output"),
        "max_steps": options.steps,
        "per_device_train_batch_size": 2,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": MAX_GRAD_NORM,
        "bf16": False,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _load(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder)


def _watch(parent: Callable[..., Any]) -> Any:
    class Watched(parent):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.seen: dict[str, Any] = {}
            super().__init__(*args, **kwargs)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            self.seen.update(inputs, loss=loss.item())
            return loss

    return Watched
