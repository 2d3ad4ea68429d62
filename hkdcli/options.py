"""Options of the command line that mean something only together: read, or refused."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hkdcli.errors import UsageError

if TYPE_CHECKING:
    from hkdcli.inferring import InferOptions

_PICTURE = ("caption", "phrases", "claim", "context", "evidence")


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


def parse_batch_size(text: str) -> int | None:
    """Read `--batch-size N|auto`: a number from 1 on, null for auto; raises UsageError."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise UsageError(f"--batch-size {text}: is no number of records", hint="Give 1 or more, or auto.")
    return int(text)


def choose_way(given: Mapping[str, Any]) -> Literal["file", "stream", "calibrate", "picture"]:
    """Say what `hkd infer` is to do, by the options that were given.

    Args:
        given: The values of its parameters, by name.

    Returns:
        Answer a file, answer a stream, judge one picture, or only calibrate.

    Raises:
        UsageError: Something is missing, or two of them exclude each other.
    """
    data, out = given["data"], given["out"]
    if given["image"] is not None:
        _check_picture(given)
        return "picture"
    if lost := [name for name in _PICTURE if given[name] is not None]:
        raise UsageError(f"--{lost[0]} goes with --image", hint="hkd infer MODEL --image FILE --caption TEXT")
    if data == "-":
        names = {"out": "--out", "as_json": "--json", "resume": "--resume", "overwrite": "--overwrite"}
        names |= {"shard": "--shard", "nproc": "--nproc", "limit": "--limit"}
        names |= {"on_bad": "--on-bad", "encoding": "--encoding"}
        usual = {"on_bad": "keep", "encoding": "utf-8"}
        if refused := [
            option for name, option in names.items() if given[name] not in (None, False, usual.get(name))
        ]:
            raise UsageError(
                f"{refused[0]} does not go with - (stdin): rows go to stdout, as records come",
                hint="Name a file of records, or redirect stdout.",
            )
        return "stream"
    if data is None and given["calibrate"] is not None and out is None:
        useless = ["shard", "nproc", "resume", "overwrite", "abstain_below", "target_precision"]
        useless += ["per_shift", "blind"]
        if lost := [name for name in useless if given[name] is not None and given[name] is not False]:
            option = lost[0].replace("_", "-")
            raise UsageError(
                f"--{option} goes with DATA and --out",
                hint=f"Leave --{option} out: DEV is asked about as a whole.",
            )
        return "calibrate"
    if data is None or out is None:
        raise UsageError(
            "nothing to do: DATA and --out are missing" if data is None else "--out is missing",
            hint="hkd infer MODEL DATA --out predictions.jsonl, or see hkd infer --help.",
        )
    if (given["nproc"] or 1) > 1 and (given["shard"] is not None or given["engine_name"] == "vllm"):
        other = "--shard" if given["shard"] is not None else "--engine vllm"
        raise UsageError(
            f"{other} and --nproc exclude each other",
            hint="Leave one out: each process takes a shard itself, and vLLM has processes of its own.",
        )
    return "file"


def _check_picture(given: Mapping[str, Any]) -> None:
    if given["evidence"] is not None and given["evidence"].suffix.lower() != ".png":
        raise UsageError("--evidence is drawn as PNG", hint="Give a name that ends in .png.")
    names = ["data", "out", "shard", "nproc", "limit", "images", "resume", "per_shift", "blind"]
    if given["calibrate"] is None:  # DEV is read with these
        names += ["workers", "on_bad", "encoding", "allow_outside_root"]
    usual = {"on_bad": "keep", "encoding": "utf-8"}
    if others := [name for name in names if given[name] not in (None, False, usual.get(name))]:
        name = "DATA" if others[0] == "data" else f"--{others[0].replace('_', '-')}"
        raise UsageError(
            f"{name} and --image exclude each other",
            hint="Give one of them: a picture, or a file of records.",
        )
    if (given["caption"] is None) == (given["claim"] is None):
        raise UsageError("--image takes one of --caption and --claim", hint="Give one of them.")
    for name, needed in (("phrases", "caption"), ("context", "claim")):
        if given[name] is not None and given[needed] is None:
            raise UsageError(
                f"--{name} goes with --{needed}", hint=f"Give --{needed} too, or leave --{name} out."
            )


def check_calibrated_options(options: InferOptions) -> None:
    """Refuse ways of answering that contradict each other.

    Args:
        options: All that were given.

    Raises:
        UsageError: Two of them exclude each other.
    """
    if options.shift_task is not None and options.shifts == 1:
        raise UsageError(
            "--shift-task goes with --shift or --shifts",
            hint=f"Give --shift too, to show the choices of {options.shift_task} in every order.",
        )
    moved = options.shifts != 1 or options.shift_what != "both" or not options.move_none
    if options.debias == "prior" and moved:
        raise UsageError(
            "--debias prior and shifts exclude each other",
            hint="It takes the place of --shift, for one pass.",
        )
    if options.target_precision is not None and not 0 < options.target_precision < 1:  # NaN is neither
        raise UsageError(
            f"--target-precision {options.target_precision:g} does not lie between 0 and 1",
            hint="No number of records can promise 1; ask for 0.99, say.",
        )
    if options.abstain_below is not None and not 0 <= options.abstain_below <= 1:
        raise UsageError(
            f"--abstain-below {options.abstain_below:g} does not lie between 0 and 1",
            hint="Give a probability, such as 0.8.",
        )
    if options.target_precision is not None and options.abstain_below is not None:
        raise UsageError(
            "--target-precision and --abstain-below exclude each other",
            hint="Give one of them: --target-precision finds a threshold itself.",
        )
    needs = {
        "--target-precision": options.target_precision is not None,
        "--calibration": options.calibration is not None,
        "--debias prior": options.debias == "prior",
    }
    if not options.is_calibrated and (used := [name for name, given in needs.items() if given]):
        raise UsageError(f"--uncalibrated and {used[0]} exclude each other", hint="Leave one of them out.")


def check_places(given: Mapping[str, Any]) -> None:
    """Refuse a calibration that is something else too: it would be lost, or what is there would.

    Args:
        given: The values of the parameters of `hkd infer`, by name.

    Raises:
        UsageError: `--calibration` names what is read or written besides.
    """
    options = {"calibrate": "--calibrate", "data": "DATA", "image": "--image"}
    options |= {"out": "--out", "evidence": "--evidence"}
    for name, option in options.items():
        if None not in (given["calibration"], given[name]) and _is_same(given["calibration"], given[name]):
            raise UsageError(
                f"{given['calibration']}: is {option} and --calibration, and one of them would be lost",
                hint="Give another --calibration.",
            )


def _is_same(one: str | Path, other: str | Path) -> bool:
    """Whether two names lead to one file, or would."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def spell_options(
    parameters: Sequence[Any], given: Mapping[str, Any], *, leave_out: Collection[str]
) -> list[str]:
    """Write the parameters of a command as one types them, so that another process gets the same.

    Args:
        parameters: Of the command, as its parser knows them.
        given: Their values by name.
        leave_out: Names of those that are not wanted.

    Returns:
        Words; what has its default is not written.
    """
    options: list[str] = []
    arguments: list[str] = []
    for parameter in parameters:
        value = given.get(parameter.name)
        if parameter.name in leave_out or value is None or value == parameter.default:
            continue
        if parameter.param_type_name == "argument":
            arguments.append(str(value))
        else:
            options += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return [*options, "--", *arguments]


def parse_phrases(text: str | None) -> tuple[str, ...] | None:
    """Read `--phrases "a,b,c"`; null where they are to be proposed."""
    return None if text is None else tuple(phrase.strip() for phrase in text.split(",") if phrase.strip())


def build_options(given: Mapping[str, Any]) -> InferOptions:
    """Gather what `hkd infer` is told about asking and answering.

    Args:
        given: The values of its parameters, by name.

    Returns:
        The options. UsageError where some exclude each other, or one cannot be read.
    """
    from hkdcli.inferring import InferOptions

    kept = (
        "level",
        "base",
        "shift_what",
        "shift_task",
        "debias",
        "per_shift",
        "blind",
        "calibration",
        "abstain_below",
    )
    options = InferOptions(
        **{name: given[name] for name in (*kept, "target_precision", "workers")},
        shifts=choose_shifts(given["shift"], given["shifts"]),
        move_none=not given["fix_none"],
        combination=given["combine"].replace("-", "_"),
        decoding=given["decode"],
        is_calibrated=not given["uncalibrated"],
        batch_size=parse_batch_size(given["batch_size"]),
        engine=given["engine_name"],
    )
    check_calibrated_options(options)
    return options
