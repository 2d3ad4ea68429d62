"""What a training needs to go on exactly: trainable weights, optimizer, random state.

Files of a checkpoint: weights.safetensors, optimizer.safetensors, random.safetensors, progress.json.
Nothing is pickled, so loading a checkpoint runs no code from it; schedules and data order follow from the
step alone and are not stored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from hkdcli.distill.parallel import cut_like, fetch_whole
from hkdcli.errors import ModelError
from hkdcli.ranks import collect, find_place


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training has come, and its best evaluation: all that progress.json holds.

    Attributes:
        step: optimizer steps done.
        seconds: spent on them, by all the processes that it took.
        best_step: the step with the highest micro-F1 on dev, the first of equals; None: none yet.
        best_dev_micro_f1: reached there.
        evaluations_since: evaluations in a row, since that one, that were no better.
    """

    step: int = 0
    seconds: float = 0.0
    best_step: int | None = None
    best_dev_micro_f1: float | None = None
    evaluations_since: int = 0


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The live objects that a checkpoint is taken of.

    Attributes:
        modules: what is trained, by name; the name is the first part of each tensor's name.
        optimizer: over their trainable parameters.
    """

    modules: Mapping[str, nn.Module]
    optimizer: Optimizer


def collect_weights(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The tensors that training changes: trainable parameters, and the buffers of modules that own some.

    Buffers matter for batch normalisation; those of frozen parts never change.

    Args:
        modules: by name.

    Returns:
        Live tensors by full name.
    """
    weights: dict[str, Tensor] = {}
    for prefix, root in modules.items():
        for name, module in root.named_modules(prefix=prefix):
            trainable = {
                key: value for key, value in module.named_parameters(recurse=False) if value.requires_grad
            }
            if trainable:
                own = {**trainable, **dict(module.named_buffers(recurse=False))}
                weights |= {f"{name}.{key}".lstrip("."): value for key, value in own.items()}
    return _drop_shared(weights)


def collect_training(state: TrainingState) -> dict[str, dict[str, Tensor]]:
    """Everything that a checkpoint holds, as whole tensors on the CPU; every process has to call this.

    Args:
        state: what to collect.

    Returns:
        The tensors of each file; in any process but the main one they may be empty.
    """
    files = {"weights": collect_weights(state.modules), "optimizer": _collect_optimizer(state)}
    collected = {name: _gather(tensors) for name, tensors in files.items()}
    return {**collected, "random": _collect_random()}


def write_training(folder: Path, files: Mapping[str, Mapping[str, Tensor]], progress: Progress) -> None:
    """Write every file of a checkpoint into an empty folder.

    Args:
        folder: exists.
        files: what `collect_training` gave the main process.
        progress: how far it has come.
    """
    for name, tensors in files.items():
        save_file(dict(tensors), folder / f"{name}.safetensors")
    (folder / "progress.json").write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")


def read_training(folder: Path, state: TrainingState) -> Progress:
    """Put a checkpoint into the live objects, and the random state into torch.

    Args:
        folder: a complete checkpoint.
        state: built as it was when the checkpoint was taken.

    Returns:
        How far it had come.

    Raises:
        ModelError: when a file cannot be read, or holds other tensors than the live objects.
    """
    try:
        files = {
            name: load_file(folder / f"{name}.safetensors") for name in ("weights", "optimizer", "random")
        }
        progress = _read_progress(folder / "progress.json")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: not a checkpoint of a training: {error}",
            hint="Delete this folder, then --resume: the checkpoint before it counts.",
        ) from error
    _copy_into(folder, files["weights"], collect_weights(state.modules))
    _restore_optimizer(folder, files["optimizer"], state)
    try:
        _restore_random(files["random"])
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"{folder}: holds no random state: {error}",
            hint="Delete this folder, then --resume: the checkpoint before it counts.",
        ) from error
    return progress


def estimate_bytes(state: TrainingState) -> int:
    """Estimate what a checkpoint takes on disk: the weights, and two moments of each that is optimized.

    Args:
        state: what would be written.

    Returns:
        Bytes; a few kilobytes more are needed for names and random state.
    """
    weights = collect_weights(state.modules).values()
    moments = [tensor for group in state.optimizer.param_groups for tensor in group["params"]]
    return sum(tensor.nbytes for tensor in weights) + 2 * sum(tensor.nbytes for tensor in moments)


def load_weights(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Put only the weights of a checkpoint into live modules.

    Args:
        folder: a complete checkpoint.
        modules: by the names that they were saved under.

    Raises:
        ModelError: when the file cannot be read, or holds other tensors than the modules.
    """
    try:
        weights = load_file(folder / "weights.safetensors")
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: not a checkpoint of a training: {error}",
            hint="Delete this folder, then --resume: the checkpoint before it counts.",
        ) from error
    _copy_into(folder, weights, collect_weights(modules))


def _read_progress(path: Path) -> Progress:
    """Raises ValueError or TypeError where the file says anything but counts and finite figures."""
    progress = Progress(**json.loads(path.read_text(encoding="utf-8")))
    counts = (progress.step, progress.evaluations_since, progress.best_step)
    figures = (progress.seconds, progress.best_dev_micro_f1)
    if not all(count is None or (isinstance(count, int) and count >= 0) for count in counts):
        raise ValueError(f"{path.name}: a count of steps is no whole number")
    if None in (progress.step, progress.evaluations_since, progress.seconds):
        raise ValueError(f"{path.name}: a count is null")
    if not all(figure is None or math.isfinite(figure) for figure in figures):
        raise ValueError(f"{path.name}: a figure is not finite")
    return progress


def _drop_shared(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep the first name of a tensor that two modules share (tied embeddings)."""
    first = {id(tensor): name for name, tensor in reversed(list(weights.items()))}
    return {name: tensor for name, tensor in weights.items() if first[id(tensor)] == name}


def _name_parameters(state: TrainingState) -> list[str]:
    """Names of the optimizer's parameters, in its own order."""
    names = {id(tensor): name for name, tensor in collect_weights(state.modules).items()}
    return [names[id(tensor)] for group in state.optimizer.param_groups for tensor in group["params"]]


def _collect_optimizer(state: TrainingState) -> dict[str, Tensor]:
    """Every state tensor of the optimizer as `parameter name/state name`."""
    names = _name_parameters(state)
    return {
        f"{names[index]}/{key}": value
        for index, values in state.optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def _restore_optimizer(folder: Path, saved: Mapping[str, Tensor], state: TrainingState) -> None:
    indices = {name: index for index, name in enumerate(_name_parameters(state))}
    parameters = [tensor for group in state.optimizer.param_groups for tensor in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for full_name, tensor in saved.items():
        name, _, key = full_name.rpartition("/")
        if name not in indices:
            raise ModelError(
                f"{folder}: the optimizer knows a parameter that this model lacks: {name}",
                hint="Resume with the recipe and the package versions that the run was begun with.",
            )
        live = parameters[indices[name]]
        if tensor.dim() and tensor.shape != live.shape:
            raise ModelError(
                f"{folder}: {full_name} of the optimizer has another shape than its parameter",
                hint="Delete this folder, then --resume: the checkpoint before it counts.",
            )
        # Moments are cut as their parameter is; the step count of each is a number.
        states.setdefault(indices[name], {})[key] = cut_like(tensor, live) if tensor.dim() else tensor
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": states, "param_groups": groups})


def _copy_into(folder: Path, saved: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into live ones; refuse unless names, shapes and dtypes are the same."""
    differing = sorted(
        name
        for name in saved.keys() | live.keys()
        if name not in saved
        or name not in live
        or (saved[name].shape, saved[name].dtype) != (live[name].shape, live[name].dtype)
    )
    if differing:
        raise ModelError(
            f"{folder}: {len(differing)} tensors differ from this model's, such as {differing[0]}",
            hint="Resume with the recipe and the package versions that the run was begun with.",
        )
    with torch.no_grad():
        for name, tensor in live.items():
            tensor.copy_(cut_like(saved[name], tensor))


def _collect_random() -> dict[str, Tensor]:
    """The random state of every process, as `rank/device`."""
    own = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        own["cuda"] = torch.cuda.get_rng_state()
    everyone = collect({name: value.tolist() for name, value in own.items()})
    return {
        f"{rank}/{name}": torch.tensor(values, dtype=torch.uint8)
        for rank, states in enumerate(everyone)
        for name, values in states.items()
    }


def _restore_random(states: Mapping[str, Tensor]) -> None:
    """Go on with this process's state; one that was not there before keeps the state that it has."""
    rank = find_place().rank
    if f"{rank}/cpu" in states:
        torch.set_rng_state(states[f"{rank}/cpu"])
    if torch.cuda.is_available() and f"{rank}/cuda" in states:
        torch.cuda.set_rng_state(states[f"{rank}/cuda"])


def _gather(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole copies on the CPU, in the main process."""
    gathered = {}
    for name, tensor in tensors.items():
        whole = fetch_whole(tensor.detach())
        if find_place().is_main:
            gathered[name] = whole.cpu().contiguous()
    return gathered
