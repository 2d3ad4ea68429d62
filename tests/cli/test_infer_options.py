"""Options of `hkd infer` that mean something only together."""

from __future__ import annotations

import pytest
import typer

from hkdcli.cli import app
from hkdcli.cli_infer import _HERE
from hkdcli.errors import UsageError
from hkdcli.inferring import InferOptions
from hkdcli.options import check_calibrated_options, choose_way, spell_options


def test_what_other_processes_are_told_calibrates_nothing_again():
    command = typer.main.get_command(app).commands["infer"]  # type: ignore[attr-defined]
    given = ["m", "d", "--out", "p", "--calibrate", "dev", "--calibration", "c", "--nproc", "2", "--resume"]
    context = command.make_context("infer", given)
    told = spell_options(command.params, context.params, leave_out=_HERE)
    assert told == ["--out", "p", "--calibration", "c", "--", "m", "d"]


@pytest.mark.parametrize(
    "more", [{"shifts": None}, {"shifts": 2}, {"shift_what": "letters"}, {"move_none": False}]
)
def test_a_letter_prior_goes_with_no_shift(more):
    check_calibrated_options(InferOptions(debias="prior"))
    with pytest.raises(UsageError, match="exclude"):
        check_calibrated_options(InferOptions(debias="prior", **more))


def test_no_option_that_means_nothing_goes_with_calibrate_alone():
    command = typer.main.get_command(app).commands["infer"]  # type: ignore[attr-defined]
    given = ["m", "--calibrate", "dev", "--calibration", "c"]
    assert choose_way(command.make_context("infer", list(given)).params) == "calibrate"
    for more in (
        ["--abstain-below", "0"],
        ["--per-shift"],
        ["--shard", "1/1"],
        ["--target-precision", "0.9"],
    ):
        with pytest.raises(UsageError, match=f"{more[0]} goes with DATA"):
            choose_way(command.make_context("infer", [*given, *more]).params)
