"""Files of prediction rows: gone on with after any kill, put in order, put together from shards."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hkdcli.atomic import disk_errors
from hkdcli.errors import BadRow, DataError, UsageError
from hkdcli.inference.rows import Row, RunHashes

OUT_OF_MEMORY = "machine.memory"

Places = dict[str, tuple[Path, int, int]]
"""Id of a row -> its file, its first byte, its size."""


@dataclass(frozen=True, slots=True)
class DoneRows:
    """Rows that an interrupted run left: status by id, and the byte after the last whole row."""

    status: Mapping[str, str]
    end: int


def read_done_rows(path: Path, hashes: RunHashes) -> DoneRows:
    """Read what an interrupted run wrote; a last line cut off by the kill does not count.

    Rows of records for which memory ran out are taken out of the file: there may be more of it now.

    Args:
        path: the predictions so far.
        hashes: of the run that goes on.

    Returns:
        The ids that are done. `DataError` where the file holds no predictions, or is damaged before its
        last line; `UsageError` where its rows were made with another prompt, model or way of asking.
    """
    status: dict[str, str] = {}
    retried: list[str] = []
    end = 0
    for number, line in enumerate(_iterate_lines(path), start=1):
        row = _parse_row(line, f"{path}:{number}")
        _check_hashes(row, hashes, f"{path}:{number}")
        status[row["id"]] = row["status"]
        end += len(line)
        if row["status"] == "error" and row["error"]["code"] == OUT_OF_MEMORY:
            retried.append(row["id"])
    if not retried:
        return DoneRows(status, end)
    places: Places = {}
    for _ in _index_rows(path, places):
        pass
    _write_rows(path, places, [row_id for row_id in status if row_id not in retried])
    return DoneRows({i: s for i, s in status.items() if i not in retried}, path.stat().st_size)


def put_in_order(path: Path, ids: Sequence[str]) -> None:
    """Put the rows of a finished file into the order of the data; a kill leaves the old order or the new.

    Args:
        path: whole rows, one for each of `ids`.
        ids: in the order of the data.
    """
    places: Places = {}
    for _ in _index_rows(path, places):
        pass
    if list(places) != list(ids):
        _write_rows(path, places, ids)


def merge_shards(shards: Sequence[Path], ids: Sequence[str], out: Path) -> dict[str, int]:
    """Put the predictions of all shards into one file, in the order of the data.

    Args:
        shards: files of predictions, none of them `out`.
        ids: of the data, in its order.
        out: replaced as a whole, or left as it is.

    Returns:
        Counts: `total` rows, of which `failed` and `abstained`.

    Raises:
        DataError: a record has no row or two, or a row belongs to no record; every such id is counted.
        UsageError: the shards were not predicted by one model in one way.
    """
    places: Places = {}
    bad: list[BadRow] = []
    runs: dict[str, Path] = {}
    status: Counter[str] = Counter()
    for shard in shards:
        for row, repeated in _index_rows(shard, places):
            runs.setdefault(row["run_hash"], shard)
            status[row["status"]] += 1
            if repeated is not None:
                bad.append(BadRow("shard.repeated", row["id"], str(shard), f"is in {repeated} too"))
    if len(runs) > 1:
        first, other = list(runs.values())[:2]
        raise UsageError(
            f"{other}: was not predicted as {first} was",
            hint="use one model, the same shifts and the same calibration for every shard",
        )
    known = set(ids)
    bad += [
        BadRow("shard.unknown", row_id, str(places[row_id][0]), "no record has this id")
        for row_id in places
        if row_id not in known
    ]
    bad += [
        BadRow("shard.missing", row_id, "", "no shard has its row") for row_id in ids if row_id not in places
    ]
    if bad:
        raise DataError(
            f"{len(bad)} rows keep the shards from being merged",
            bad,
            hint="finish each shard with --resume, and name each of them once, with the data they came from",
        )
    _write_rows(out, places, ids)
    return {"total": len(ids), "failed": status["error"], "abstained": status["abstain"]}


def _index_rows(path: Path, places: Places) -> Iterator[tuple[Row, Path | None]]:
    """Note where each row of a file is; gives it, and the file that had one of this id before."""
    start = 0
    for number, line in enumerate(_iterate_lines(path), start=1):
        row = _parse_row(line, f"{path}:{number}")
        before = places.get(row["id"])
        places.setdefault(row["id"], (path, start, len(line)))
        start += len(line)
        yield row, before[0] if before else None


def _write_rows(out: Path, places: Places, ids: Sequence[str]) -> None:
    aside = out.with_name(f".{out.name}.ordered")
    files = {path: path.open("rb") for path in {place[0] for place in places.values()}}
    try:
        with disk_errors(out), aside.open("wb") as target:
            for row_id in ids:
                path, start, size = places[row_id]
                files[path].seek(start)
                target.write(files[path].read(size))
            target.flush()
            os.fsync(target.fileno())
        aside.replace(out)
    finally:
        for file in files.values():
            file.close()
        aside.unlink(missing_ok=True)


def _iterate_lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file; what a kill cut off is no line."""
    try:
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
    except OSError as error:
        raise DataError(f"{path}: cannot read predictions: {error.strerror}") from error


def _parse_row(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
        missing = {"id", "status", "prompt_hash", "run_hash"} - set(row)
    except (ValueError, TypeError) as error:
        raise _refuse(where, f"cannot be read as a prediction: {error}") from error
    if missing or not isinstance(row, dict):
        raise _refuse(where, f"is no prediction: {', '.join(sorted(missing))} missing")
    return row


def _check_hashes(row: Row, hashes: RunHashes, where: str) -> None:
    if row["prompt_hash"] != hashes.prompt:
        what = "another prompt, tokenizer or image processing"
    elif row["run_hash"] != hashes.run:
        what = "another model, other shifts, decoding or calibration"
    else:
        return
    raise UsageError(
        f"{where}: was written with {what}",
        hint="write to a new file, or go on with what the file began with",
    )


def _refuse(where: str, detail: str) -> DataError:
    return DataError(f"{where}: {detail}", hint="write to a new file; this one is left as it is")
