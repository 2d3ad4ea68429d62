"""Files of records shared out to train, dev and test by picture: `hkd split`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.errors import BadRow, DataError, UsageError
from hkdcli.outcome import Outcome, Table
from hkdcli.reporter import SILENT, Reporter

if TYPE_CHECKING:
    from hkdcli.data.records import Example


def split(
    files: Sequence[Path],
    *,
    out: Path,
    dev: int = 10,
    test: int = 20,
    encoding: str = "utf-8",
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Share the records of files out to train.json, dev.json and test.json, no picture in two of them.

    Rows that cannot be used, or a split without records, raise DataError, and nothing is written.

    Args:
        files: Records of one or both tasks; pictures are not opened.
        out: The folder of the new files.
        dev: Percent of the pictures that go to dev; 0 writes no such file.
        test: Percent that go to test; likewise.
        encoding: Of the files.
        overwrite: Replace files that are there.
        reporter: Told about warnings.

    Returns:
        Records and pictures of each split.

    Raises:
        UsageError: The shares leave nothing to train on, or a file is there that would be lost or be wrong.
    """
    from hkdcli.data.examples import write_examples
    from hkdcli.data.splits import split_examples
    from hkdcli.runs import check_output

    if dev + test >= 100:
        raise UsageError(
            f"--dev {dev} and --test {test} leave no pictures for train", hint="Give less than 100 together."
        )
    shares = {"train": 100 - dev - test, "dev": dev, "test": test}
    paths = {name: out / f"{name}.json" for name, percent in shares.items() if percent}
    for path in paths.values():
        check_output(path, overwrite=overwrite, resumable=False, inputs=files)
    for name in shares.keys() - paths.keys():
        if (out / f"{name}.json").exists():  # its pictures would be in the new train.json too
            raise UsageError(
                f"{out / name}.json: is of another split, and --{name} 0 would leave it there",
                hint="Move it away, or give another --out.",
            )
    splits = split_examples(_read_all(files, encoding, reporter), dev=dev, test=test)
    _check_filled({name: splits[name] for name in paths})
    for name, path in paths.items():
        write_examples(path, splits[name])
    return _tell({path: splits[name] for name, path in paths.items()})


def _read_all(files: Sequence[Path], encoding: str, reporter: Reporter) -> list[Example]:
    """The records of all files; every row that is bad, or whose id an earlier file has, is told at once."""
    from hkdcli.data.examples import read_examples

    examples: dict[str, Example] = {}
    bad_rows: list[BadRow] = []
    for file in files:
        result = read_examples(file, encoding=encoding)
        for warning in result.warnings:
            reporter.warn(f"{file}: {warning}")
        bad_rows += result.bad_rows
        for example in result.examples:
            if examples.setdefault(example.id, example) != example:
                detail = "an earlier file has another record of this id"
                bad_rows.append(BadRow("record.duplicate_id", example.id, str(file), detail))
    if bad_rows:
        count = f"{len(bad_rows)} row" + ("" if len(bad_rows) == 1 else "s")
        raise DataError(
            f"{count} cannot be used, nothing was written", bad_rows, hint="Correct or remove them."
        )
    return list(examples.values())


def _check_filled(splits: Mapping[str, Sequence[Example]]) -> None:
    empty = [name for name, examples in splits.items() if not examples]
    if empty:
        images = len({example.image for examples in splits.values() for example in examples})
        raise DataError(
            f"no picture of {images} falls to {' and '.join(empty)}; nothing was written",
            hint="A picture's name says where it goes. Give that split a larger share, or more pictures.",
        )


def _tell(splits: Mapping[Path, Sequence[Example]]) -> Outcome:
    document = {}
    for path, examples in splits.items():
        tasks = sorted({str(example.task) for example in examples})
        counts = {task: sum(example.task == task for example in examples) for task in tasks}
        images = len({example.image for example in examples})
        document[path.stem] = {"file": str(path), "images": images, "records": len(examples), **counts}
    names = list(dict.fromkeys(name for each in document.values() for name in each))
    rows = [[str(each.get(name, 0)) for name in names] for each in document.values()]
    return Outcome({"splits": document}, tables=[Table("Splits", names, rows)])
