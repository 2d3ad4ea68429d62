"""All checks of one call: the machine, our own arithmetic, then what was named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.doctor.checks import Diagnosis, build_diagnosis
from hkdcli.doctor.environment import check_imports, examine_environment
from hkdcli.doctor.examination import Examination, Finding
from hkdcli.doctor.machine import examine_machine
from hkdcli.doctor.options import DoctorOptions, check_options
from hkdcli.doctor.target import find_kind
from hkdcli.opening import DataOptions, find_model, open_data
from hkdcli.reporter import SILENT, Reporter

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.runtime import Runtime


def diagnose(target: str | None, options: DoctorOptions, reporter: Reporter) -> Diagnosis:
    """Make every check, whatever the others find.

    Args:
        target: A recipe, model or source of records; None: the machine and hkd alone.
        options: What else is named.
        reporter: Told how far it is.

    Returns:
        All checks. A target that could be two things, and an option that does not go with it, are a
        `UsageError` before any check.
    """
    kind = None if target is None else find_kind(target)
    check_options(kind, options.list_given())
    if options.level is not None:
        find_model(target or "", options.level)  # a level that there is not is a wrong option, and no finding
    examination = Examination(reporter)
    reporter.note("looking at the machine and at hkd itself")
    examine_environment(examination)
    examine_machine(examination)
    is_able = bool(examination.look("env.imports", check_imports))
    runtime = _examine_device(examination, options) if is_able else None
    if target is not None:
        reporter.note(f"looking at {target}")
    if kind in ("recipe", "model") and not is_able:
        examination.skip([str(kind)], "models cannot be looked at without the packages above")
    elif kind == "recipe":
        from hkdcli.doctor.recipe import examine_recipe

        examine_recipe(examination, Path(target or ""), options.overrides)
    elif kind == "model":
        _examine_model(examination, target or "", options, runtime)
    elif kind == "data":
        _examine_data(examination, target or "", options)
    return build_diagnosis(target, kind, examination.checks)


def _examine_device(examination: Examination, options: DoctorOptions) -> Runtime | None:
    """GPU, quantization and our own arithmetic; what a model would run on."""
    from hkdcli.doctor.gpu import check_gpu
    from hkdcli.doctor.kernels import check_int8, check_nf4
    from hkdcli.doctor.scoring import check_scoring
    from hkdcli.doctor.self_check import examine_losses

    examination.look("env.gpu", check_gpu)
    runtime: Runtime | None = examination.look("env.device", _choose, options)
    if runtime is None:
        examination.skip(["env.nf4", "env.int8", "self"], "there is no such device")
        return None
    examination.look("env.nf4", check_nf4, runtime.device)
    examination.look("env.int8", check_int8, runtime.device)
    examine_losses(examination, runtime.device)
    examination.look("self.scoring", check_scoring, runtime.device)
    return runtime


def _choose(options: DoctorOptions) -> Finding:
    from hkdcli.runtime import choose_runtime

    runtime = choose_runtime(options.device)
    return Finding(runtime.describe(), value=runtime)


def _examine_model(
    examination: Examination, target: str, options: DoctorOptions, runtime: Runtime | None
) -> None:
    from hkdcli.doctor.model import Plan, examine_model
    from hkdcli.runtime import choose_runtime

    source = examination.look(
        "model.source", lambda: Finding(target, value=find_model(target, options.level, download=False))
    )
    if source is not None:
        plan = Plan(source, runtime or choose_runtime("cpu"), options.base, options.quantization)
        examine_model(examination, plan)


def _examine_data(examination: Examination, target: str, options: DoctorOptions) -> None:
    from hkdcli.doctor.data import check_leak, examine_records

    own = DataOptions(
        target,
        options.images,
        limit=options.limit,
        encoding=options.encoding,
        allow_outside_root=options.allow_outside_root,
    )
    dataset = examination.look("data.source", _open, own)
    if dataset is None:
        return
    scan = examine_records(examination, dataset)
    for number, other in enumerate(options.against, start=1):
        name = "data.leak" if len(options.against) == 1 else f"data.leak.{number}"
        known = examination.look(f"{name}.source", _open, replace(own, source=other, images=None, limit=None))
        if known is not None:
            examination.look(name, check_leak, known, None, dataset, scan)
    if options.predictions is not None:
        examination.look("data.labels", _check_labels, options.predictions, dataset)
    if options.lock_data is not None:
        examination.look("data.lock.written", _lock, options.lock_data, dataset)
    if options.verify_data is not None:
        examination.look("data.lock", _verify, options.verify_data, dataset)


def _open(options: DataOptions) -> Finding:
    dataset = open_data(options, SILENT)
    return Finding(f"{dataset.name}: {len(dataset.examples)} records", value=dataset)


def _check_labels(path: Path, dataset: Dataset) -> Finding:
    from hkdcli.doctor.label_errors import check_labels
    from hkdcli.evaluation.predictions import read_predictions

    return check_labels(dataset.examples, read_predictions(path))


def _lock(path: Path, dataset: Dataset) -> Finding:
    from hkdcli.data.lock import write_data_lock

    if path.exists():
        hint = "Name another file for --lock-data, or compare with this one: --verify-data."
        return Finding(f"{path}: exists already", "failed", hint)
    write_data_lock(dataset, path)
    return Finding(f"{path}: holds the hashes of the records and of their image files")


def _verify(path: Path, dataset: Dataset) -> Finding:
    from hkdcli.data.lock import verify_data_lock

    verify_data_lock(dataset, path)
    return Finding(f"the records and their image files are those of {path}")
