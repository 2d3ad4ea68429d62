"""Options of the command line that mean something only together: read, or refused."""

from __future__ import annotations

from collections.abc import Mapping

from hkdcli.errors import UsageError


def choose_shifts(every: bool, count: int | None) -> int | None:
    """Say how many shifts `--shift` and `--shifts K` ask for.

    Args:
        every: `--shift` was given.
        count: K of `--shifts K`.

    Returns:
        The number of shifts, null for all of them.

    Raises:
        UsageError: Both were given.
    """
    if every and count is not None:
        raise UsageError(
            "--shift and --shifts exclude each other", hint="--shift uses every shift, --shifts K uses K."
        )
    return None if every else count or 1


def check_no_shard(shard: str | None) -> None:
    """Refuse `--shard` where nothing is shared; raises UsageError."""
    if shard is not None:
        raise UsageError("--shard goes with --only-signals", hint="Training shares its work with --nproc.")


def check_only_signals(flags: Mapping[str, bool]) -> None:
    """Refuse what means nothing beside `--only-signals`.

    Args:
        flags: Options that were given or not.

    Raises:
        UsageError: One of them was given; `--json` is welcome.
    """
    given = [flag for flag, is_given in flags.items() if is_given and flag != "--json"]
    if given:
        raise UsageError(
            f"--only-signals and {given[0]} exclude each other",
            hint="It goes on by itself; a store of other signals is refused; --shard I/N shares the work.",
        )


def parse_shard(text: str) -> tuple[int, int]:
    """Read `--shard I/N`.

    Args:
        text: Such as 2/4, the second of four.

    Returns:
        (index from 0, count).

    Raises:
        UsageError: It is no such pair.
    """
    index, _, count = text.partition("/")
    if not (text.isascii() and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UsageError(f"--shard {text}: is no share", hint="Give I/N with I from 1 to N, such as 2/4.")
    return int(index) - 1, int(count)
