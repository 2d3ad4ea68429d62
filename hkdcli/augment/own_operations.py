"""Operations that a user adds from a Python file: run only where the command line says that it may be."""

from __future__ import annotations

import json
import runpy
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from PIL import Image

from hkdcli.augment import operations
from hkdcli.augment.operations import Change, Function, Refusal, Sample, get_operations
from hkdcli.data.records import Example
from hkdcli.errors import UsageError


def load_own_operations(path: Path) -> tuple[str, ...]:
    """Run a Python file that registers operations with `@operation`.

    What such an operation returns is checked each time it is applied: a program of somebody else's must not
    leave records that nobody can read.

    Args:
        path: the file; running it may do anything.

    Returns:
        The names of the operations that it added.

    Raises:
        UsageError: the file cannot be run, or adds no operation.
    """
    before = set(get_operations())
    try:
        runpy.run_path(str(path), run_name="hkd_operations")
    except UsageError as error:
        raise UsageError(f"{path}: {error}", hint=error.hint) from error
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{path}{_find_line(error, path)}: {type(error).__name__}: {error}",
            hint="Correct the file of operations.",
        ) from error
    added = [name for name in get_operations() if name not in before]
    if not added:
        raise UsageError(f"{path}: adds no operation", hint="Decorate a function with @operation(kind).")
    for name in added:
        found = operations.REGISTRY[name]
        operations.REGISTRY[name] = replace(found, function=_watch(name, found.function))
    return tuple(added)


def _watch(name: str, function: Function) -> Function:
    """The function, with what it returns checked."""

    def watched(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
        where = f"operation {name}, record {sample.example.id!r}"
        try:
            made = function(sample, rng, strength)
        except Exception as error:
            raise UsageError(
                f"{where}: {type(error).__name__}: {error}",
                hint="Correct the operation, or leave it out: --set NAME=0.",
            ) from error
        if faults := _find_faults(made, sample):
            raise UsageError(
                f"{where}: {faults[0]}",
                hint="Correct the operation: see docs/augment.md for what one returns.",
            )
        return made

    watched.__doc__ = function.__doc__
    return watched


def _find_faults(made: object, sample: Sample) -> Sequence[str]:
    if isinstance(made, Refusal):
        return []
    if not isinstance(made, Change):
        return [f"returns a {type(made).__name__}, not a Change or a Refusal"]
    if not isinstance(made.example, Example):
        return ["gives no record"]
    if not isinstance(made.image, Image.Image):
        return ["gives no picture"]
    ids = [choice.id for choice in made.example.choices]
    faults = {
        "gives the record another id": made.example.id != sample.example.id,
        "gives two choices one id": len(set(ids)) < len(ids),
        "has an answer that is none of the choices": not (made.example.answer or frozenset()) <= set(ids),
        "makes a picture that is not RGB": made.image.mode != "RGB",
        "makes a picture without pixels": not made.image.width * made.image.height,
        "has parameters that JSON cannot hold": not _is_json(made.parameters),
    }
    return [fault for fault, is_so in faults.items() if is_so]


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _find_line(error: BaseException, path: Path) -> str:
    """Where in the file it happened, as ":12"."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f":{error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f":{lines[-1]}" if lines else ""
