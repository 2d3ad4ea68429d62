"""What calibrates a model goes with it: calibration.json under the hash of the exported weights."""

from __future__ import annotations

from pathlib import Path

from hkdcli.errors import ModelError
from hkdcli.inference.calibration_file import FILE_NAME, read_calibration, write_calibration
from hkdcli.reporter import Reporter


def carry_calibration(
    source: Path, folder: Path, *, before: str, after: str, prompt_hash: str, reporter: Reporter
) -> bool:
    """Copy the calibration of a model whose answers the exported one has been seen to give.

    Args:
        source: the model's folder.
        folder: the exported one.
        before: weights hash of the source, as it was loaded for the check.
        after: that of the exported model.
        prompt_hash: of both.
        reporter: warned where there is one that is left behind, for it is of other weights or prompts.

    Returns:
        Whether there was one that was carried over.
    """
    if not (source / FILE_NAME).is_file():
        return False
    try:
        calibration = read_calibration(source / FILE_NAME)
    except ModelError as error:
        reporter.warn(f"the calibration is left behind: {error}")
        return False
    expected = {"weights_hash": before, "prompt_hash": prompt_hash}
    if other := [name for name, value in expected.items() if getattr(calibration, name) != value]:
        reporter.warn(
            f"{source / FILE_NAME}: is left behind, because its {other[0]} is not that of the model as it is "
            "loaded here; calibrate the exported model anew"
        )
        return False
    write_calibration(folder / FILE_NAME, calibration.model_copy(update={"weights_hash": after}))
    return True
