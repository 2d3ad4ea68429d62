"""The upper models of stage two: where they are, how they read, what they are asked; no weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hkdcli.data.chat import get_tokenizer
from hkdcli.distill.assembly import build_source
from hkdcli.distill.levels import Stage, TrainedLevel, get_start
from hkdcli.distill.order import Draw
from hkdcli.distill.reading import check_upper_models
from hkdcli.distill.teacher_signal import SignalPlan
from hkdcli.models.loading import load_processor, read_config
from hkdcli.models.locating import ModelParts, locate_model
from hkdcli.models.states import StatePlan, match_layers
from hkdcli.models.views import find_views
from hkdcli.recipe_refine import SNAPSHOT, Response

if TYPE_CHECKING:
    from hkdcli.recipe_refine import RefineRecipe


@dataclass(frozen=True, slots=True)
class UpperModel:
    """An upper model that is not loaded: where its files are, how it reads, what it is asked for."""

    level: TrainedLevel
    parts: ModelParts
    processor: Any
    plan: SignalPlan

    @property
    def source(self) -> str:
        """The model's name, for messages."""
        return self.parts.source


@dataclass(frozen=True, slots=True)
class Coupling:
    """Who teaches the student, and what of the student they are compared with.

    Attributes:
        uppers: the first is the one that features and relations follow.
        vocabulary: token ids that all who share the student's tokens share, counted from 0.
        states: the student's hidden states; None where neither features nor relations are refined.
        widths: of the student's language model and of the first upper model's.
    """

    uppers: tuple[UpperModel, ...]
    vocabulary: int
    states: StatePlan | None
    widths: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Reader:
    level: TrainedLevel
    parts: ModelParts
    processor: Any
    config: Any

    @property
    def source(self) -> str:
        return self.parts.source

    @property
    def text(self) -> Any:
        """Configuration of the language model."""
        return self.config.get_text_config()


def plan_coupling(stage: Stage[RefineRecipe]) -> Coupling:
    """Say who teaches the student of stage two, and how each is compared with it.

    Args:
        stage: the run.

    Returns:
        The levels above the last, and the student's snapshot where the recipe wants it. `check_upper_models`
        says what is refused.
    """
    refine, places = stage.recipe.refine, range(stage.base)
    levels = [get_start(stage, place) for place in places]
    student = _read(get_start(stage, stage.base))
    readers = [_read(level) for level in levels]
    if refine.snapshot:
        readers.append(replace(student, level=replace(student.level, name=SNAPSHOT)))
    wants_states = refine.feature is not None or refine.relation is not None
    response = refine.response
    choice_weight = None if response is None else response.choice_weight
    shares = check_upper_models(readers, student, choice_weight=choice_weight, states=wants_states)
    heads = [reader.text.vocab_size for reader, share in zip(readers, shares, strict=True) if share]
    # Heads are padded to round sizes; no text ever has the tokens past the tokenizer's.
    vocabulary = min(*heads, student.text.vocab_size, len(get_tokenizer(student.processor)))
    own, theirs = _match(stage, student, readers) if wants_states else (None, None)
    uppers = [
        UpperModel(
            reader.level,
            reader.parts,
            reader.processor,
            _plan_signal(response if share else None, vocabulary, theirs if place == 0 else None),
        )
        for place, (reader, share) in enumerate(zip(readers, shares, strict=True))
    ]
    widths = student.text.hidden_size, readers[0].text.hidden_size
    return Coupling(tuple(uppers), vocabulary, own, widths)


def _plan_signal(response: Response | None, vocabulary: int, states: StatePlan | None) -> SignalPlan:
    """What one upper model is asked for: no more than is compared, for it is stored."""
    if response is None or response.choice_weight == 1.0:
        return SignalPlan(None, states=states)
    return SignalPlan(vocabulary, response.temperature, response.top_k, states)


def _read(level: TrainedLevel) -> _Reader:
    parts = locate_model(level.model, adapter=level.adapter)
    return _Reader(level, parts, load_processor(parts.processor), read_config(parts.folder))


def _match(
    stage: Stage[RefineRecipe], student: _Reader, readers: Sequence[_Reader]
) -> tuple[StatePlan, StatePlan]:
    """Which states of the student meet which of the first upper model."""
    for reader in (student, readers[0]):  # whether it is known where they see the picture, said in time
        find_views(reader.config, build_source(stage, reader).load([Draw(0, 0)]).model_inputs)
    wanted = stage.recipe.refine.states
    depths = student.text.num_hidden_layers, readers[0].text.num_hidden_layers
    own, theirs = match_layers(wanted.layer_map, wanted.layers, *depths)
    return StatePlan(own, wanted.grid), StatePlan(theirs, wanted.grid)
