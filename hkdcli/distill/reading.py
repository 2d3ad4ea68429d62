"""Whether a teacher and a student can be compared, and whether they can share one preprocessing pass.

Two models read alike when tokenizer, chat template and image processor are equal: then one batch serves both.
With another image processor a teacher gets batches of its own, and its answer still has the student's tokens.
With another tokenizer or chat template only the choice of a letter means the same to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from hkdcli.data.chat import get_tokenizer, read_chat_frame
from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.data.prompts import compute_prompt_hash
from hkdcli.distill.order import Draw
from hkdcli.distill.sources import DatasetSource
from hkdcli.errors import ModelError
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import LoadedModel


class Reader(Protocol):
    """A processor, and the name of the model that it is of; a LoadedModel is one."""

    @property
    def processor(self) -> Any:
        """Turns images and texts into what the model takes."""

    @property
    def source(self) -> str:
        """The model's name, for messages."""


def check_reading(teacher: Reader, student: Reader, *, choice_only: bool, learns: bool = False) -> bool:
    """Check that a teacher's logits can be compared with the student's.

    Args:
        teacher: its processor may differ.
        student: its tokens are those of the loss.
        choice_only: only the choice of the first letter is compared; letters are matched by their text.
        learns: the teacher learns too (mutual), so the answer's tokens have to be its own.

    Returns:
        Whether both turn a record into the same tokens and pixels, so that one batch serves both.

    Raises:
        ModelError: answer tokens are to be compared, and tokenizer or chat template differ.
    """
    if compute_prompt_hash(teacher.processor) == compute_prompt_hash(student.processor):
        return True
    differing = find_differing(teacher.processor, student.processor)
    if differing and (learns or not choice_only):
        raise ModelError(
            f"{teacher.source} and {student.source} have different {' and '.join(differing)}, so their "
            "answers cannot be compared token by token, only by choice",
            hint="Choose levels of one model family, or set "
            + ("distill.mutual=false." if learns and choice_only else "distill.choice_weight=1."),
        )
    return False


def check_upper_models(
    uppers: Sequence[Reader], student: Reader, *, choice_weight: float | None, states: bool
) -> list[bool]:
    """Check that what stage two compares means the same to the student and to those that teach it.

    Args:
        uppers: the upper models; hidden states are compared with the first.
        student: its tokens are those of the loss.
        choice_weight: how much of the response is the choice of the first letter; None: no response.
        states: whether hidden states are compared.

    Returns:
        For each upper model whether it has the student's answer tokens.

    Raises:
        ModelError: an upper model has other answer tokens, and those are what is compared with it.
    """
    differing = [find_differing(upper.processor, student.processor) for upper in uppers]
    for place, (upper, found) in enumerate(zip(uppers, differing, strict=True)):
        names = f"{upper.source} and {student.source} have different {' and '.join(found)}, so "
        if found and states and place == 0:
            raise ModelError(
                f"{names}their hidden states have no tokens in common",
                hint="Put a level of the student's family first, or set refine.feature=null "
                "refine.relation=null.",
            )
        if found and choice_weight == 0.0:
            raise ModelError(
                f"{names}their answers cannot be compared token by token, only by choice",
                hint="Choose levels of one model family, or raise refine.response.choice_weight.",
            )
    if choice_weight is not None and choice_weight < 1.0 and all(differing):
        raise ModelError(
            f"no upper model has the tokenizer and chat template of {student.source}, so answers can only "
            "be compared by choice",
            hint="Set refine.response.choice_weight=1 refine.response.top_k=null.",
        )
    return [not found for found in differing]


def find_differing(teacher: Any, student: Any) -> list[str]:
    """What two processors have different that decides the tokens of an answer; empty: nothing.

    The size of a vocabulary tells nothing: two tokenizers of one size can number their tokens differently.

    Args:
        teacher: a processor.
        student: a processor.

    Returns:
        Of "tokenizers" and "chat templates" those that differ.
    """
    vocabularies = [get_tokenizer(processor).get_vocab() for processor in (teacher, student)]
    frames = [read_chat_frame(processor) for processor in (teacher, student)]
    found = {"tokenizers": vocabularies[0] != vocabularies[1], "chat templates": frames[0] != frames[1]}
    return [name for name, differs in found.items() if differs]


def check_runs(loaded: LoadedModel, data: Dataset) -> None:
    """Check that a model takes what its own processor makes of a record: one pass over one example.

    Args:
        loaded: model and processor.
        data: has at least one example.

    Raises:
        ModelError: for example the processor writes another number of image tokens than the model makes, or
            the logits are not finite.
    """
    source = DatasetSource(data, Collator(loaded.processor), on_bad="skip")
    batch = source.load([Draw(0, 0)])
    device = next(loaded.model.parameters()).device
    try:
        with torch.no_grad():
            logits = AnswerModel(loaded.model).eval()(batch.to(device)).logits
    except (ValueError, IndexError) as error:
        raise ModelError(
            f"{loaded.source}: the model cannot read what its processor makes of a record: {error}",
            hint="Take both from one checkpoint: compare image_seq_len and patch_size of the two.",
        ) from error
    if not torch.isfinite(logits).all():
        raise ModelError(
            f"{loaded.source}: gives NaN or infinite logits on the first record",
            hint="Try runtime.dtype=float32; if that is no better, its weights are damaged.",
        )
