"""calibration.json: what was fitted for a model, once for each way of asking it.

The file belongs to one form of prompt and one set of weights, named by their hashes; whoever uses it checks
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from hkdcli.atomic import write_json
from hkdcli.data.records import Task
from hkdcli.errors import ModelError
from hkdcli.inference.shift import Combination, ShiftWhat
from hkdcli.inference.task_fit import CalibrationPart, TaskFit

FILE_NAME = "calibration.json"

# Wide enough for any log prior, and no sum of them overflows.
LogPrior = tuple[Annotated[float, Field(ge=-1e4, le=1e4)], ...]


class AskedHow(CalibrationPart):
    """How records were asked when a fit was made: it holds for records that are asked alike."""

    shifts: int | None = Field(ge=1)
    what: ShiftWhat
    move_none: bool
    combination: Combination
    debias: Literal["none", "prior"]
    task: Task | None = None


class Fit(CalibrationPart):
    """What was fitted on one slice of labelled data for one way of asking.

    `letter_prior` holds for each task the log priors of `estimate_letter_prior`, by number of choices; it is
    there where `asking.debias` is "prior", and needs no labels: `tasks` may be empty then. `data` names the
    slice, `data_hash` its content.
    """

    asking: AskedHow
    tasks: dict[Task, TaskFit]
    letter_prior: dict[Task, dict[int, LogPrior]]
    data: str
    data_hash: str

    @field_validator("letter_prior")
    @classmethod
    def _check_prior(cls, prior: dict[Task, dict[int, LogPrior]]) -> dict[Task, dict[int, LogPrior]]:
        for task, priors in prior.items():
            for count, values in priors.items():
                if len(values) != count or count < 2:
                    raise ValueError(f"{task}: {len(values)} log priors for {count} choices")
        return prior

    @model_validator(mode="after")
    def _check_debias(self) -> Fit:
        if not self.tasks and not self.letter_prior:
            raise ValueError("nothing was fitted")
        if any(self.letter_prior.values()) != (self.asking.debias == "prior"):
            raise ValueError("letter_prior and asking.debias do not go together")
        return self


class Calibration(CalibrationPart):
    """The whole file; no two fits have the same asking."""

    format: Literal[1] = 1
    prompt_hash: str
    weights_hash: str
    fits: tuple[Fit, ...] = ()

    @field_validator("fits")
    @classmethod
    def _check_fits(cls, fits: tuple[Fit, ...]) -> tuple[Fit, ...]:
        if any(one.asking == other.asking for i, one in enumerate(fits) for other in fits[:i]):
            raise ValueError("two fits have the same asking")
        return fits


def read_calibration(path: Path) -> Calibration:
    """Read a calibration, every number checked.

    Args:
        path: the file; it exists.

    Returns:
        What `write_calibration` wrote.

    Raises:
        ModelError: it cannot be read, is damaged, or no calibration of this format; names what is wrong.
    """
    try:
        return Calibration.model_validate_json(_read_file(path))
    except (OSError, ValidationError) as error:
        detail = _explain(error) if isinstance(error, ValidationError) else error.strerror or str(error)
        raise ModelError(
            f"{path}: cannot be used as a calibration: {detail}",
            hint="Calibrate again with --calibrate, or remove the file to answer without calibration.",
        ) from error


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration so that it is there as a whole or not at all.

    Args:
        path: the file; what is there is replaced.
        calibration: what to write.
    """
    write_json(path, calibration.model_dump(mode="json"))


def find_fit(calibration: Calibration, asking: Mapping[str, Any]) -> Fit | None:
    """The fit for one way of asking (the fields of `AskedHow`), None where there is none."""
    wanted = AskedHow(**asking)
    return next((fit for fit in calibration.fits if fit.asking == wanted), None)


def put_fit(calibration: Calibration, fit: Fit) -> Calibration:
    """The calibration with this fit, in place of one for the same asking."""
    others = tuple(each for each in calibration.fits if each.asking != fit.asking)
    return calibration.model_copy(update={"fits": (*others, fit)})


def _read_file(path: Path) -> bytes:
    """The content of a plain file: nothing is read from a pipe, which might never end."""
    if not path.is_file():
        raise FileNotFoundError("no regular file" if path.exists() else "no such file")
    return path.read_bytes()


def _explain(error: ValidationError) -> str:
    """The first of what is wrong, and how much more; no value of the file is repeated."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    place = ".".join(str(step) for step in problems[0]["loc"])[:200]
    said = problems[0]["msg"].removeprefix("Value error, ")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place}: {said}{more}" if place else f"{said}{more}"
