"""The document of `hkd doctor`: what each check found, and what all of them come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from hkdcli.doctor.options import Kind
from hkdcli.errors import OfflineError, RefusedError

SCHEMA_VERSION: Literal["1.0"] = "1.0"

Status = Literal["ok", "warning", "failed", "skipped"]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Check(_Block):
    """One thing that was looked at."""

    name: str = Field(description="stable dotted name, as env.torch or model.finite")
    status: Status = Field(
        description="ok; warning: worth knowing; failed: something will not work; skipped: not looked at, or "
        "an optional part that is not installed"
    )
    found: str = Field(description="what was seen, in one line")
    hint: str = Field(default="", description="what to do; empty where nothing is to be done")
    is_absent: bool = Field(default=False, description="failed because files are not on this machine")


class Diagnosis(_Block):
    """All checks of one call, in the order in which they were made."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    target: str | None = Field(description="what was named; null: nothing but the machine and hkd itself")
    kind: Kind | None = Field(description="what the target was taken for")
    counts: dict[Status, int] = Field(description="how many checks ended with each status")
    exit_code: int = Field(description="0: nothing failed; 7: only absent files did; 3: something else did")
    checks: tuple[Check, ...]


def build_diagnosis(target: str | None, kind: Kind | None, checks: Sequence[Check]) -> Diagnosis:
    """Put checks together.

    Args:
        target: What was named.
        kind: What it was taken for.
        checks: All checks.

    Returns:
        The document, with counts and exit code.
    """
    counted = Counter(check.status for check in checks)
    failed = [check for check in checks if check.status == "failed"]
    only_absent = all(check.is_absent for check in failed)
    code = 0 if not failed else OfflineError.exit_code if only_absent else RefusedError.exit_code
    counts = {status: counted[status] for status in get_args(Status)}
    return Diagnosis(target=target, kind=kind, counts=counts, exit_code=code, checks=tuple(checks))
