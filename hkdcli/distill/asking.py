"""The upper models of stage two at work: checked, asked live, or asked once for what their stores lack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hkdcli.data.batches import Batch
from hkdcli.data.collate import Collator
from hkdcli.data.prompts import compute_prompt_hash
from hkdcli.distill.assembly import build_source, tell_quantization
from hkdcli.distill.levels import Stage, load_level
from hkdcli.distill.live_signals import LiveSignals, LiveUpper
from hkdcli.distill.order import Draw
from hkdcli.distill.reading import Reader
from hkdcli.distill.signal_building import build_signals
from hkdcli.distill.signal_keys import build_store_key
from hkdcli.distill.signal_store import SignalStore, check_store, drop_stale_store
from hkdcli.distill.signals import Signals
from hkdcli.distill.sources import DatasetSource
from hkdcli.distill.stored_signals import StoredSignals
from hkdcli.distill.teacher_check import check_teacher
from hkdcli.distill.teacher_signal import TeacherSignal
from hkdcli.distill.upper import Coupling, UpperModel, plan_coupling
from hkdcli.models.answers import AnswerModel
from hkdcli.models.fingerprints import compute_revision
from hkdcli.models.folders import find_local_folder
from hkdcli.models.loading import LoadedModel
from hkdcli.ranks import find_place, wait_for_all
from hkdcli.recipe_refine import SNAPSHOT

if TYPE_CHECKING:
    from hkdcli.recipe_refine import RefineRecipe


def build_teaching(
    stage: Stage[RefineRecipe],
    coupling: Coupling,
    student: LoadedModel,
    source: DatasetSource,
    stores: Sequence[SignalStore] | None,
) -> Signals[TeacherSignal]:
    """Take what the upper models say from their stores, or ask them beside the student.

    Args:
        stage: the run.
        coupling: who teaches.
        student: reads records in its own way; upper models that do likewise share its batches.
        source: of the student's batches.
        stores: one per upper model, full; None: they are asked live.

    Returns:
        One TeacherSignal per upper model and micro-batch.
    """
    if stores is not None:
        return StoredSignals(stores, source)
    known: dict[tuple[str, int | None], DatasetSource | None] = {tell_reading(student): None}
    uppers, sources = [], []
    for place, upper in enumerate(coupling.uppers):
        folder = stage.run.path / "levels" / f"{place}-{upper.level.name}"
        asker = Asker(stage, upper)
        asker.check(folder)
        if (reading := tell_reading(upper)) not in known:
            known[reading] = build_source(stage, upper)
        uppers.append(asker.load())
        sources.append(known[reading])
    return LiveSignals(uppers, sources)


def tell_reading(reader: Reader) -> tuple[str, int | None]:
    """What decides which tokens and pixels a model makes of a record."""
    return compute_prompt_hash(reader.processor), Collator(reader.processor).max_length


def open_stores(stage: Stage[RefineRecipe], coupling: Coupling) -> list[SignalStore]:
    """Open the store of each upper model; signals of any other key in its folder are a UsageError."""
    return [SignalStore.open(*_locate_store(stage, upper)) for upper in coupling.uppers]


def check_stores(stage: Stage[RefineRecipe]) -> None:
    """Refuse signals of another key where signals are to be stored, before anything is written or downloaded.

    Args:
        stage: the run; nothing is said of models that are not on this machine yet.
    """
    levels = stage.recipe.pyramid
    is_here = all(find_local_folder(level.model) is not None for level in levels)
    if stage.recipe.refine.signals == "stored" and is_here:
        for upper in plan_coupling(stage).uppers:
            check_store(*_locate_store(stage, upper))


def store_in_common(stage: Stage[RefineRecipe], coupling: Coupling) -> list[SignalStore]:
    """Store what is missing, each process its share; gives the stores, which are full then."""
    _drop_stale(stage, coupling)
    place = find_place()
    stores = open_stores(stage, coupling)
    store_missing(stage, coupling, stores, (place.rank, place.size))
    wait_for_all()
    for store in stores:
        store.refresh()
    return stores


def store_missing(
    stage: Stage[RefineRecipe], coupling: Coupling, stores: Sequence[SignalStore], shard: tuple[int, int]
) -> None:
    """Check each upper model and ask it for what its store lacks.

    Args:
        stage: the run.
        coupling: who teaches.
        stores: one per upper model; one whose store lacks nothing is not loaded.
        shard: (index, count): this share of the records alone.
    """
    pixel_hashes: dict[str, str] = {}
    for upper, store in zip(coupling.uppers, stores, strict=True):
        asker = Asker(stage, upper)
        asker.check(store.folder)
        build_signals(
            store,
            asker,
            build_source(stage, upper),
            batch_size=upper.level.batch_size,
            shard=shard,
            reporter=stage.reporter,
            task=f"signals of {upper.level.name}",
            pixel_hashes=pixel_hashes,
        )


def _drop_stale(stage: Stage[RefineRecipe], coupling: Coupling) -> None:
    """Where a run replaces another, signals of its own that are not those asked for any more go with it."""
    if not stage.run.overwritten or stage.recipe.refine.store is not None:
        return
    if find_place().is_main:
        for upper in coupling.uppers:
            if drop_stale_store(*_locate_store(stage, upper)):
                stage.reporter.note(f"signals of {upper.level.name}: others were stored; they are removed")
    wait_for_all()


def _locate_store(stage: Stage[RefineRecipe], upper: UpperModel) -> tuple[Path, dict[str, Any]]:
    """Folder and key of an upper model's store."""
    level, parts, store = upper.level, upper.parts, stage.recipe.refine.store
    folder = stage.run.signals if store is None else Path(store)
    prompt_hash, max_length = tell_reading(upper)
    key = build_store_key(
        model=compute_revision(parts.folder),
        adapter=None if parts.adapter is None else compute_revision(parts.adapter),
        quantization=level.quantization,
        quantized_parts=level.quantized_parts,
        number_type=str(stage.runtime.dtype).removeprefix("torch."),
        prompt_hash=prompt_hash,
        max_length=max_length,
        plan=upper.plan,
    )
    return folder / level.name, key


class Asker:
    """An upper model that is loaded when it is first needed.

    Args:
        stage: the run.
        upper: the model.
    """

    def __init__(self, stage: Stage[RefineRecipe], upper: UpperModel) -> None:
        self.stage, self.upper = stage, upper
        self._loaded: LoadedModel | None = None
        self._live: LiveUpper | None = None

    def check(self, folder: Path) -> None:
        """See that it can teach, once for each folder; the student's snapshot need not."""
        if self.upper.level.name != SNAPSHOT:
            check_teacher(self.stage, self.upper.level, self._load_model, folder)

    def load(self) -> LiveUpper:
        """The model, ready to be asked."""
        if self._live is None:
            plan = self.upper.plan
            self._live = LiveUpper(AnswerModel(self._load_model().model, plan.states), plan)
        return self._live

    def __call__(self, batch: Batch, draws: Sequence[Draw]) -> TeacherSignal:
        """What it says about a batch of its own, on the CPU."""
        said: TeacherSignal = self.load()(batch.to(self.stage.runtime.device))
        return said

    def _load_model(self) -> LoadedModel:
        if self._loaded is None:
            self._loaded = load_level(self.upper.level, self.stage.runtime)
            tell_quantization(self.stage, [self.upper.level.name], [self._loaded])
        return self._loaded
