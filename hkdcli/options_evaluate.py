"""Options of `hkd evaluate` and `hkd submit` that mean something only together: read, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hkdcli.errors import UsageError


def check_reports(paths: Sequence[Path]) -> Sequence[Path]:
    """Return the reports to write.

    Args:
        paths: As they were given.

    Returns:
        The same.

    Raises:
        UsageError: One is neither a page nor Markdown.
    """
    wrong = [path for path in paths if path.suffix.lower() not in (".html", ".md")]
    if wrong:
        raise UsageError(
            f"--report {wrong[0]}: its kind is not known", hint="Give a name that ends in .html or .md."
        )
    return paths


def check_leak_options(trained_on: str | None, *, fail_on_leak: bool) -> None:
    """Refuse `--fail-on-leak` where nothing is looked for; raises UsageError."""
    if fail_on_leak and trained_on is None:
        raise UsageError("--fail-on-leak goes with --trained-on", hint="Name the records of training.")


def choose_sources(sources: Sequence[str], *, out: Path | None, check: Path | None) -> tuple[Path, str, Path]:
    """Say what `hkd submit` reads and writes.

    Args:
        sources: Its arguments.
        out: The file to write.
        check: The file to check instead.

    Returns:
        Predictions, data, and the file to write; with `check` only the data means something.

    Raises:
        UsageError: Something is missing, or two things exclude each other.
    """
    if check is not None:
        if out is not None:
            raise UsageError("--check and --out exclude each other", hint="Give one of them.")
        if len(sources) != 1:
            raise UsageError("--check takes DATA alone", hint="hkd submit --check results.zip DATA")
        return Path(), sources[0], Path()
    if len(sources) != 2:
        raise UsageError(
            "PREDICTIONS and DATA are needed", hint="hkd submit PREDICTIONS DATA --out results.zip"
        )
    if out is None:
        raise UsageError("--out is missing", hint="hkd submit PREDICTIONS DATA --out results.zip")
    return Path(sources[0]), sources[1], out
