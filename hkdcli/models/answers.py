"""Logits at answer positions only: the head never sees the rest of the sequence.

Dimensions: B rows, L positions, A answer positions of the batch, H hidden size, V vocabulary of the head,
M chosen positions, W wanted tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hkdcli.data.batches import Batch, move_inputs
from hkdcli.errors import ModelError
from hkdcli.models import families
from hkdcli.models.states import StatePlan, States, build_pooling, capture_layers, take_states

# Rows of logits at once in scoring: 128 x 152,064 in float32 is 78 MB.
_HEAD_ROWS = 128


@dataclass(frozen=True, slots=True)
class AnswerLogits:
    """`logits` [A, V] in float32: row a predicts `batch.answer_targets[a]`.

    `choices` [B, n] are the letters' logits of each example, where they come from a batch of the model's own
    (a teacher with another tokenizer); None: they stand in `logits`, at the letters of the batch. `states`
    are hidden states below the logits, where they were asked for.
    """

    logits: Tensor
    choices: Tensor | None = None
    states: States | None = None

    def detach(self) -> AnswerLogits:
        """The logits without a graph; without states."""
        return AnswerLogits(self.logits.detach(), None if self.choices is None else self.choices.detach())


class AnswerModel(nn.Module):
    """A model, adapter-wrapped or not, that answers a `Batch` with logits at its answer positions.

    A vision tower without trainable parameters builds no graph: pixels ask for no gradient either. Its
    dropout and batch statistics stay frozen too, see `train`.

    Args:
        model: an image-text-to-text model.
        states: which hidden states to give with the logits; None: none.
    """

    def __init__(self, model: nn.Module, states: StatePlan | None = None) -> None:
        super().__init__()
        self.model, self.states = model, states

    def forward(self, batch: Batch) -> AnswerLogits:
        """Run the backbone on the whole batch and the head on its answer positions.

        Args:
            batch: on the model's device.

        Returns:
            Logits equal to those of the full model at the same positions, cast to float32.
        """
        # Pixels come in float32; a model that is held in bfloat16 takes no others than its own.
        dtype = families.unwrap(self.model).get_input_embeddings().weight.dtype
        inputs = move_inputs(batch.model_inputs, batch.first.device, dtype)
        if self.states is None:
            hidden, states = compute_hidden_states(self.model, inputs), None
        else:
            # First, because it waits for the device: later it would wait for the whole backbone.
            pooling = build_pooling(families.unwrap(self.model).config, batch, self.states.grid)
            with capture_layers(self.model, self.states.layers) as outputs:
                hidden = compute_hidden_states(self.model, inputs)
            states = take_states(outputs, batch, pooling)
        logits = compute_logits(self.model, hidden[batch.answer_rows, batch.answer_columns])
        return AnswerLogits(logits, states=states)

    def train(self, mode: bool = True) -> AnswerModel:
        """Set training mode, except for modules none of whose parameters is trained.

        A frozen tower with batch normalisation would otherwise go on shifting its statistics, also where the
        connector inside of it is trained.

        Args:
            mode: whether to train.

        Returns:
            Itself.
        """
        super().train(mode)
        quieten_frozen(self.model)
        return self


def quieten_frozen(root: nn.Module) -> None:
    """Put every module of a model in evaluation mode that has parameters, none of which is trained."""
    for module in root.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def compute_hidden_states(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    """Last hidden states [B, L, H] of the backbone, without a key-value cache."""
    hidden: Tensor = families.get_backbone(model)(
        **inputs, use_cache=False, return_dict=True
    ).last_hidden_state
    return hidden


def compute_logits(model: nn.Module, hidden: Tensor) -> Tensor:
    """Head on chosen hidden states [A, H] -> logits [A, V] in float32."""
    logits = families.unwrap(model).get_output_embeddings()(hidden)
    # Softmax and its logarithm lose the tail of the vocabulary in half precision.
    return families.cap_logits(model, logits.to(torch.float32))


def compute_token_log_probs(model: nn.Module, states: Tensor, wanted: Tensor) -> Tensor:
    """Log-probabilities of chosen tokens, without ever holding more than a slice of the logits.

    Args:
        model: the model whose head to use.
        states: hidden states [M, H].
        wanted: [W, 2] pairs (index into M, token).

    Returns:
        log p(token | state) [W] in float64.

    Raises:
        ModelError: logits are NaN or infinite.
    """
    result = torch.empty(len(wanted), dtype=torch.float64, device=states.device)
    for start in range(0, len(states), _HEAD_ROWS):
        logits = compute_logits(model, states[start : start + _HEAD_ROWS])
        total = logits.logsumexp(-1)
        here = (wanted[:, 0] >= start) & (wanted[:, 0] < start + _HEAD_ROWS)
        index, token = wanted[here, 0] - start, wanted[here, 1]
        result[here] = (logits[index, token] - total[index]).double()
    if not torch.isfinite(result).all():
        raise ModelError(
            "the model gives NaN or infinite logits",
            hint="Check its weights; on a GPU, float16 overflows where bfloat16 does not.",
        )
    return result
