"""Options of `hkd augment` that mean something only together: read, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hkdcli.errors import UsageError


def is_recipe(source: str) -> bool:
    """Whether what is to be augmented is a recipe, by its name: records are JSON, Parquet or a folder."""
    return source.lower().endswith((".yaml", ".yml"))


def parse_probabilities(given: Sequence[str]) -> dict[str, float]:
    """Read `NAME=P` of `--set`.

    Args:
        given: What was typed.

    Returns:
        Probability by operation.

    Raises:
        UsageError: One is not NAME=P with P from 0 to 1.
    """
    found = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            found[name.strip()] = -1.0
        if not 0 <= found[name.strip()] <= 1:
            raise UsageError(f"--set {text}: is not NAME=P with P from 0 to 1", hint="As in --set flip=0.")
    return found


def check_trusted(operations: Path | None, trusted: bool) -> None:
    """Refuse to run a user's file of operations unless the command line says that it may be.

    Args:
        operations: The file of `--operations`.
        trusted: `--trust-code` was given.

    Raises:
        UsageError: It was not, or there is no such file, or there is nothing to trust.
    """
    if operations is None and trusted:
        raise UsageError(
            "--trust-code goes with --operations FILE",
            hint="Name the file of operations, or leave --trust-code out.",
        )
    if operations is not None and not operations.is_file():
        raise UsageError(f"{operations}: no such file of operations", hint="Give the path of a Python file.")
    if operations is not None and not trusted:
        raise UsageError(
            f"--operations would run the code in {operations}", hint="If you trust it, add --trust-code."
        )


def refuse_beside_recipe(given: Mapping[str, object], limit: int | None) -> None:
    """Refuse options that a recipe has too: two places that say one thing can disagree.

    Args:
        given: By the recipe's key what was given; null was not.
        limit: Of `--limit`, which a recipe has not.

    Raises:
        UsageError: Something was given.
    """
    for key, value in given.items():
        if value is not None:
            raise UsageError(f"{key}: the recipe says this itself", hint=f"Change it with {key}=VALUE.")
    if limit is not None:
        raise UsageError(
            "--limit goes with a file of records or scenes:SPLIT, not with a recipe",
            hint="In a recipe, use data.scenes.size, or a file of fewer records.",
        )
