"""What hkd reads from outside, one target a reader: any bytes end in what was read, or in an error it names.

An input is one byte, which chooses the variant (of which file the rest is the content, or how it is read),
and the content. Whatever else comes out of a reader than its own errors is an escape, and so is a promise
that does not hold: those are asserted in the targets.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

Read = Callable[[str, bytes, Path], None]
Seeds = Iterable[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        read: takes the variant, the content and a folder to work in; raises what the reader raises.
        reader: name in the module of `read` of the function that is tried.
        variants: what an input can stand for.
        accepts: errors that the reader's contract names.
        make_seeds: gives a (variant, content) pair for every kind of valid input.
    """

    read: Read
    reader: str
    variants: tuple[str, ...]
    accepts: tuple[type[Exception], ...]
    make_seeds: Callable[[], Seeds]

    def list_seeds(self) -> list[bytes]:
        """Valid inputs, of every variant at least one."""
        return [bytes([self.variants.index(variant)]) + content for variant, content in self.make_seeds()]


def run_input(target: Target, data: bytes, folder: Path) -> str | None:
    """Have a reader read one input.

    Args:
        target: whose.
        data: the input.
        folder: to work in; what earlier inputs left there is written over.

    Returns:
        The name of the error that refused it; None where it was read to its end. Anything else that the
        reader raises comes through: that is an escape.
    """
    if not data:
        return "empty"
    variant = target.variants[data[0] % len(target.variants)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries, about what is strange in a file
            target.read(variant, data[1:], folder)
    except target.accepts as error:
        assert str(error), "an error says what is wrong"
        return type(error).__name__
    return None


def collect_targets() -> Mapping[str, Target]:
    """Every target, by name."""
    names = ("records", "answers", "settings", "runs", "going_on", "models")
    modules = [importlib.import_module(f"fuzz_{name}") for name in names]
    return {name: target for module in modules for name, target in module.TARGETS.items()}
