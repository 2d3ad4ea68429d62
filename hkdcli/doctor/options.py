"""What can be said to `hkd doctor` beside its target, and which of it goes with which target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hkdcli.errors import UsageError

Kind = Literal["recipe", "model", "data"]

FORMS = (
    "Name one of these. A recipe ends in .yaml. A model is a folder with config.json or "
    "adapter_config.json, a run folder, a hub id as org/name, or scenes:small. Records are a file "
    "(.json, .jsonl, .parquet), a datasets folder, or scenes:test."
)
_BELONGS: Mapping[str, tuple[Kind, ...]] = {
    "KEY=VALUE": ("recipe",),
    "--against": ("data",),
    "--predictions": ("data",),
    "--lock-data": ("data",),
    "--verify-data": ("data",),
    "--images": ("data",),
    "--encoding": ("data",),
    "--limit": ("data",),
    "--allow-outside-root": ("data",),
    "--level": ("model",),
    "--base": ("model",),
    "--quantization": ("model",),
    "--device": ("model", "data"),
}


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What is examined beside the target: see `hkd doctor --help`."""

    overrides: Sequence[str] = ()
    against: Sequence[str] = ()
    predictions: Path | None = None
    images: Path | None = None
    encoding: str = "utf-8"
    limit: int | None = None
    allow_outside_root: bool = False
    level: str | None = None
    base: str | None = None
    quantization: Literal["none", "int8", "nf4"] = "none"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lock_data: Path | None = None
    verify_data: Path | None = None

    def list_given(self) -> dict[str, bool]:
        """Option -> whether it says anything."""
        return {
            "KEY=VALUE": bool(self.overrides),
            "--against": bool(self.against),
            "--predictions": self.predictions is not None,
            "--lock-data": self.lock_data is not None,
            "--verify-data": self.verify_data is not None,
            "--images": self.images is not None,
            "--encoding": self.encoding != "utf-8",
            "--limit": self.limit is not None,
            "--allow-outside-root": self.allow_outside_root,
            "--level": self.level is not None,
            "--base": self.base is not None,
            "--quantization": self.quantization != "none",
            "--device": self.device != "auto",
        }


def check_options(kind: Kind | None, given: Mapping[str, bool]) -> None:
    """Refuse options that say nothing of the target.

    Args:
        kind: What the target is; None: there is none.
        given: Option -> whether it was given.

    Raises:
        UsageError: Names the first that does not belong.
    """
    for option, was_given in given.items():
        fitting = _BELONGS[option]
        if was_given and kind not in fitting and (kind, option) != (None, "--device"):
            what = "there is no target" if kind is None else f"the target is {_name(kind)}"
            raise UsageError(
                f"{option} says something of {' and '.join(map(_name, fitting))}; {what}", hint=FORMS
            )


def _name(kind: Kind) -> str:
    return {"recipe": "a recipe", "model": "a model", "data": "records"}[kind]
