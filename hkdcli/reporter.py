"""How long work tells a person where it is: the one callback that the layers below `cli` know."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """What the trainer and the predictor call; `console` implements it for people."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Begin a piece of work of `total` units, named `task`, of which `done` were done before."""

    def advance(self, done: int, **figures: float) -> None:
        """Say that `done` units of the current task are finished, with figures to show."""

    def finish(self) -> None:
        """End the current task."""

    def note(self, text: str) -> None:
        """Say one line that a person would want to read."""

    def warn(self, text: str) -> None:
        """Say one line that a person should act upon."""


class SilentReporter:
    """A reporter that says nothing: the default for callers from Python."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Say nothing."""

    def advance(self, done: int, **figures: float) -> None:
        """Say nothing."""

    def finish(self) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""


SILENT = SilentReporter()
