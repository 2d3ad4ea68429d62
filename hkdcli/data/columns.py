"""Records in Arrow columns: Parquet files and the folders of `datasets.save_to_disk`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hkdcli.data.json_text import Row
from hkdcli.errors import BadRow, DataError, SetupError

MAX_ROWS = 5_000_000
MAX_BYTES = 2 * 2**30  # of all rows: a long text that is stored once can stand in every one
_ROWS_AT_ONCE = 64


def import_pyarrow() -> Any:
    """Import pyarrow, an optional extra; raises SetupError naming the command that installs it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SetupError(
            "reading Parquet and Arrow needs pyarrow", hint='pip install "hkd[parquet]"'
        ) from None
    return pyarrow


def iterate_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file, nulls of structs left out.

    A damaged file raises DataError (`data.parquet`), a missing pyarrow SetupError.

    Args:
        path: The file.

    Yields:
        Row: One each, named `file:row` (from 1).
    """
    arrow = import_pyarrow()
    yield from _iterate(arrow, path.name, "data.parquet", lambda: _open_parquet(arrow, path))


def iterate_arrow_folder(folder: Path) -> Iterator[Row]:
    """Yield the rows of a folder written by `Dataset.save_to_disk`, nulls of structs left out.

    A folder of several splits raises DataError (`data.format`), as does a damaged one (`data.arrow`);
    a missing pyarrow raises SetupError.

    Args:
        folder: The folder, or the folder above it where it holds one split.

    Yields:
        Row: One each, named `folder:row` (from 1).
    """
    folder = _choose_split(folder)
    arrow = import_pyarrow()
    yield from _iterate(arrow, folder.name, "data.arrow", lambda: _open_arrow(arrow, folder))


def is_arrow_folder(folder: Path) -> bool:
    """Whether a folder is one that `save_to_disk` wrote, with or without splits."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _choose_split(folder: Path) -> Path:
    if (folder / "state.json").is_file():
        return folder
    splits = sorted(child.parent.name for child in folder.glob("*/state.json"))
    if len(splits) != 1:
        hint = f"name one of them, for example {folder.name}/{splits[0]}" if splits else ""
        detail = f"{len(splits)} splits: {', '.join(splits)}" if splits else "a dataset folder without splits"
        raise DataError("no split is named", [BadRow("data.format", "", folder.name, detail, hint)])
    return folder / splits[0]


def _open_parquet(arrow: Any, path: Path) -> Iterator[Any]:
    with arrow.parquet.ParquetFile(path) as file:
        if file.metadata.num_rows > MAX_ROWS:
            raise ValueError(f"{file.metadata.num_rows} rows; at most {MAX_ROWS} are read")
        yield from file.iter_batches(batch_size=_ROWS_AT_ONCE)


def _open_arrow(arrow: Any, folder: Path) -> Iterator[Any]:
    state = json.loads((folder / "state.json").read_bytes())
    for file in state["_data_files"]:
        # Only the last part: a state file has no business naming files elsewhere.
        name = Path(str(file["filename"])).name
        if not (folder / name).is_file():
            raise ValueError(f"{name} is not a file")
        with arrow.OSFile(str(folder / name)) as stream, arrow.ipc.open_stream(stream) as reader:
            yield from reader


def _iterate(arrow: Any, name: str, code: str, open_batches: Any) -> Iterator[Row]:
    number = size = 0
    try:
        for batch in open_batches():
            batch.validate(full=True)  # lest what follows reads where no memory is
            size += batch.nbytes
            if size > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes of rows")
            for value in batch.to_pylist():
                number += 1
                if number > MAX_ROWS:
                    raise ValueError(f"more than {MAX_ROWS} rows")
                yield Row(f"{name}:{number}", _drop_nulls(value))
    except Exception as error:  # of hostile columns pyarrow may raise anything at all
        detail = ascii(str(error).splitlines()[0][:200] if str(error) else type(error).__name__)
        raise DataError(
            "the columns cannot be read",
            [BadRow(code, "", f"{name}:{number + 1}", detail)],
            hint="Write the table again, or convert it to JSONL.",
        ) from error


def _drop_nulls(value: Any) -> Any:
    """Leave out null members: a column holds null where the row of the other forms has no field."""
    if isinstance(value, dict):
        return {key: _drop_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_drop_nulls(item) for item in value]
    return value
