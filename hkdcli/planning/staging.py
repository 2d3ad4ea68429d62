"""A run that is only planned: its recipe, its longest records, and models without weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from hkdcli.atomic import disk_errors
from hkdcli.distill.levels import Stage, TrainedLevel, get_start, put_adapter_on
from hkdcli.errors import OfflineError, UsageError
from hkdcli.models.folders import find_local_folder
from hkdcli.models.loading import LoadedModel
from hkdcli.models.locating import locate_model
from hkdcli.opening import open_pyramid, open_source
from hkdcli.planning.hollow import build_hollow_model, load_reader
from hkdcli.planning.known_models import list_known_models, write_known_folder
from hkdcli.planning.records import Lengths, find_longest, make_up_records
from hkdcli.planning.room import weigh_process
from hkdcli.reporter import SILENT, Reporter
from hkdcli.runs import RunFolder
from hkdcli.runtime import Runtime

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.recipe import Level, RunRecipe

R = TypeVar("R", bound="RunRecipe")


@dataclass(frozen=True, slots=True)
class Machine:
    """What is planned for.

    Attributes:
        device: type of the device that computes: `cuda` or `cpu`.
        dtype: of weights that are neither quantized nor trained in full.
    """

    device: str
    dtype: torch.dtype

    @property
    def bf16(self) -> bool:
        """Whether training computes in bfloat16."""
        return self.dtype == torch.bfloat16


@dataclass(frozen=True, slots=True)
class Planned(Generic[R]):
    """A stage whose models are hollow.

    Attributes:
        stage: its data holds the longest records first, and few others.
        machine: what it is planned for.
        lengths: how long records are, by level.
        stood_in: levels that were planned by their shapes alone, with a stand-in for their tokenizer.
        records: of the training split as a whole; None: made up.
        process: bytes of this process, which has loaded what a run loads, but no tensor yet.
        signal_bytes: of what each upper model says of a record, once it has been asked.
    """

    stage: Stage[R]
    machine: Machine
    lengths: dict[str, Lengths]
    stood_in: tuple[str, ...]
    records: int | None
    process: int
    signal_bytes: dict[str, int] = field(default_factory=dict)


def open_planned(recipe: R, machine: Machine, work: Path, reporter: Reporter) -> Planned[R]:
    """Open all that a plan looks at; nothing is downloaded.

    Args:
        recipe: of either stage.
        machine: what is planned for.
        work: a folder for the configurations of models that are not on this machine.
        reporter: told what had to be made up.

    Returns:
        The stage. A level whose model is neither here nor known is an OfflineError.
    """
    process = weigh_process()
    _refuse_runs_to_come(recipe)
    found, stood_in = _find_levels(open_pyramid(recipe), work)
    data, records = _open_records(found, reporter)
    lengths: dict[str, Lengths] = {}
    known: dict[str, tuple[Dataset, Lengths]] = {}
    for level in found.pyramid:
        folder = str(_find_reader(level))
        if folder not in known:
            known[folder] = find_longest(data, load_reader(Path(folder)))
        lengths[level.name] = known[folder][1]
    longest, looked_at = known[str(_find_reader(found.pyramid[-1]))]
    _warn_of_unreadable(data.name, looked_at, reporter)
    run = RunFolder(work / "run", resumed=False)
    runtime = Runtime(torch.device("meta"), machine.dtype)
    stage = Stage(found, {"train": longest}, run, runtime, SILENT)
    return Planned(stage, machine, lengths, stood_in, records, process)


def change_planned(planned: Planned[R], recipe: R, work: Path) -> Planned[R]:
    """The same run with another recipe of the same data and models.

    Args:
        planned: the run.
        recipe: the other one.
        work: as in `open_planned`.

    Returns:
        Likewise planned.
    """
    found, _ = _find_levels(open_pyramid(recipe), work)
    return replace(planned, stage=replace(planned.stage, recipe=found), signal_bytes={})


def build_learner(planned: Planned[Any], place: int) -> LoadedModel:
    """Build a level as it is while it learns.

    Args:
        planned: the run.
        place: of the level.

    Returns:
        With a fresh adapter where its recipe wants one; what is trained requires gradients.
    """
    level = planned.stage.recipe.pyramid[place]
    dtype = torch.float32 if level.tuning == "full" else planned.machine.dtype
    return _adapt(_build(planned, get_start(planned.stage, place), dtype, trainable=True), level)


def build_teacher(planned: Planned[Any], place: int) -> LoadedModel:
    """Build a level as it is when it teaches: trained, if the run trains it, and frozen.

    Args:
        planned: the run.
        place: of the level.

    Returns:
        The level, with nothing that requires a gradient.
    """
    level = planned.stage.recipe.pyramid[place]
    loaded = _build(planned, get_start(planned.stage, place), planned.machine.dtype)
    teacher = loaded if level.train is None else _adapt(loaded, level)
    teacher.model.requires_grad_(False)
    return teacher


def build_upper(planned: Planned[Any], level: TrainedLevel) -> LoadedModel:
    """Build an upper model of stage two as it comes."""
    return _build(planned, level, planned.machine.dtype)


def _build(
    planned: Planned[Any], level: TrainedLevel, dtype: torch.dtype, *, trainable: bool = False
) -> LoadedModel:
    return build_hollow_model(
        level.model,
        adapter=level.adapter,
        quantization=level.quantization,
        quantized_parts=level.quantized_parts,
        dtype=dtype,
        compute_device=planned.machine.device,
        trainable=trainable,
    )


def _adapt(loaded: LoadedModel, level: Level) -> LoadedModel:
    """With a fresh adapter, unless the level is trained in full or goes on with the adapter that it has."""
    if level.tuning == "full" or loaded.adapter is not None:
        return loaded
    with torch.device("meta"):
        return put_adapter_on(loaded, level.tuning.lora)


def _find_levels(recipe: R, work: Path) -> tuple[R, tuple[str, ...]]:
    """Put a folder without weights in the place of each known model that is not here."""
    levels, stood_in, missing = [], [], []
    for level in recipe.pyramid:
        name = level.model.partition("@")[0]
        if find_local_folder(level.model) is None and name in list_known_models():
            folder = work / "models" / name.replace("/", "--")
            if not folder.is_dir():
                with disk_errors(work):
                    write_known_folder(list_known_models()[name], folder)
            level = level.model_copy(update={"model": str(folder)})
            stood_in.append(level.name)
        elif find_local_folder(level.model) is None:
            missing.append(level.model)
        levels.append(level)
    if missing:
        raise OfflineError(
            f"not on this machine, and not known without a download: {', '.join(missing)}",
            hint="Bring a folder with its settings, which is enough: hf download MODEL --include '*.json' "
            "--include '*.jinja' --include '*.txt' --local-dir DIR, then pyramid.LEVEL.model=DIR; known are "
            + ", ".join(list_known_models()),
        )
    return recipe.model_copy(update={"pyramid": tuple(levels)}), tuple(stood_in)


def _refuse_runs_to_come(recipe: RunRecipe) -> None:
    """Refuse levels of a run that is not there yet, all at once: what they are is not known."""
    to_come = [
        level
        for level in recipe.pyramid
        if (level.level is not None or level.model.startswith("runs/")) and not Path(level.model).exists()
    ]
    if to_come:
        names = ", ".join(f"{level.name} ({level.model})" for level in to_come)
        models = " ".join(f"pyramid.{each.name}.model=..." for each in to_come)
        levels = "".join(f" pyramid.{each.name}.level=null" for each in to_come if each.level is not None)
        raise UsageError(
            f"{recipe.name}: is about levels of a run that is not here yet: {names}",
            hint=f"Plan the recipe of that run, or name what its levels come from: {models}{levels}.",
        )


def _find_reader(level: Level) -> Path:
    return locate_model(level.model, adapter=level.adapter, download=False).processor


def _warn_of_unreadable(name: str, lengths: Lengths, reporter: Reporter) -> None:
    if lengths.unreadable:
        count = f"{lengths.unreadable} of {lengths.looked_at + lengths.unreadable} records"
        reporter.warn(
            f"{name}: the images of {count} looked at cannot be opened, and a training would stop there; see "
            "hkd doctor"
        )


def _open_records(recipe: RunRecipe, reporter: Reporter) -> tuple[Dataset, int | None]:
    source = recipe.data.train
    if source.file is not None and not Path(source.file).exists():
        reporter.warn(
            f"{source.file} is not here: planned with made-up records (60 words, 640 x 480 pixels, 4 choices)"
        )
        return make_up_records(), None
    data = open_source(source, recipe.data)
    return replace(data, bad_rows=()), len(data.examples)
