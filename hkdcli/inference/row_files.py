"""Files of prediction rows: gone on with after any kill, put in order, put together from shards."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hkdcli.atomic import disk_errors
from hkdcli.data.datasets import Dataset, hash_record
from hkdcli.errors import BadRow, DataError, UsageError
from hkdcli.inference.rows import Row, RunHashes

OUT_OF_MEMORY = "machine.memory"

Places = dict[str, tuple[Path, int, int]]
"""Id of a row -> its file, its first byte, its size."""
Records = Mapping[str, str | None]
"""Id -> hash of the record, in the order of the data; null for one that could not be read."""


@dataclass(frozen=True, slots=True)
class DoneRows:
    """Rows that an interrupted run left: status by id, and the byte after the last whole row."""

    status: Mapping[str, str]
    end: int


def list_records(dataset: Dataset) -> Records:
    """What a file of rows has to hold, in order: the records, then the unreadable ones that have an id."""
    records = {example.id: hash_record(example) for example in dataset.examples}
    return {**records, **{row.id: None for row in dataset.bad_rows if row.id}}


def read_done_rows(path: Path, hashes: RunHashes, records: Records) -> DoneRows:
    """Read what an interrupted run wrote; a last line cut off by the kill does not count.

    Rows of records for which memory ran out are taken out of the file: there may be more of it now.

    Args:
        path: the predictions so far.
        hashes: of the run that goes on.
        records: of its data.

    Returns:
        The ids that are done. `UsageError` where its rows were made with another prompt, model or way of
        asking, or of other records.

    Raises:
        DataError: the file holds no predictions, one twice, or is damaged before its last line.
    """
    status: dict[str, str] = {}
    places: Places = {}
    end = 0
    for number, (row, repeated) in enumerate(_index_rows(path, places), start=1):
        where = f"{path}:{number}"
        if repeated is not None:
            raise DataError(f"{where}: is a second row of {row['id']!r}", hint="Take one of them out.")
        _check_row(row, hashes, records, where)
        if row["status"] != "error" or row["error"]["code"] != OUT_OF_MEMORY:
            status[row["id"]] = row["status"]
        _, start, size = places[row["id"]]
        end = start + size
    if len(status) < len(places):
        _write_rows(path, places, list(status))
        end = path.stat().st_size
    return DoneRows(status, end)


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


def merge_shards(shards: Sequence[Path], records: Records, out: Path) -> dict[str, int]:
    """Put the predictions of all shards into one file, in the order of the data.

    Args:
        shards: files of predictions, none of them `out`.
        records: of the data, in its order.
        out: replaced as a whole, or left as it is.

    Returns:
        Counts: `total` rows, of which `failed` and `abstained`.

    Raises:
        DataError: a record has no row or two, or a row belongs to no record, or to one that says something
            else; every such id is counted.
        UsageError: the shards were not predicted by one model in one way.
    """
    places: Places = {}
    bad: list[BadRow] = []
    runs: dict[str, dict[str, Path]] = {}
    status: Counter[str] = Counter()
    for shard in shards:
        for row, repeated in _index_rows(shard, places):
            runs.setdefault(row["task"] or "", {}).setdefault(row["run_hash"], shard)
            status[row["status"]] += 1
            if repeated is not None:
                bad.append(BadRow("shard.repeated", row["id"], str(shard), f"is in {repeated} too"))
            elif row["id"] not in records:
                bad.append(BadRow("shard.unknown", row["id"], str(shard), "no record has this id"))
            elif row["record_hash"] != records[row["id"]]:
                bad.append(
                    BadRow("shard.changed", row["id"], str(shard), "the record says something else now")
                )
    for found in runs.values():
        if len(found) > 1:
            first, other = list(found.values())[:2]
            raise UsageError(
                f"{other}: was not predicted as {first} was",
                hint="Use one model, the same shifts and the same calibration for every shard.",
            )
    absent = [row_id for row_id in records if row_id not in places]
    bad += [BadRow("shard.missing", row_id, "", "no shard has its row") for row_id in absent]
    if bad:
        raise DataError(
            f"{len(bad)} rows keep the shards from being merged",
            bad,
            hint="Finish each shard with --resume, and name each of them once, with the data they came from.",
        )
    _write_rows(out, places, list(records))
    return {"total": len(records), "failed": status["error"], "abstained": status["abstain"]}


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
    with ExitStack() as stack:
        files = {
            path: stack.enter_context(path.open("rb")) for path in {place[0] for place in places.values()}
        }
        stack.enter_context(disk_errors(out))
        stack.callback(aside.unlink, missing_ok=True)
        with aside.open("wb") as target:
            for row_id in ids:
                path, start, size = places[row_id]
                files[path].seek(start)
                target.write(files[path].read(size))
            target.flush()
            os.fsync(target.fileno())
        aside.replace(out)


def _iterate_lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file; what a kill cut off is no line."""
    if path.exists() and not path.is_file():
        raise DataError(
            f"{path}: is no regular file, so it cannot hold predictions",
            hint="Give the file that hkd infer wrote.",
        )
    try:
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot read predictions: {error.strerror}", hint="Give the file that hkd infer wrote."
        ) from error


def _parse_row(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _refuse(where, f"cannot be read as a prediction: {error}") from error
    if not isinstance(row, dict):
        raise _refuse(where, "is no prediction: it is no JSON object")
    texts = [name for name in ("id", "prompt_hash", "run_hash") if not isinstance(row.get(name), str)]
    known = row.get("status") in ("ok", "abstain") or _has_code(row)
    wrong = [*texts, *([] if known else ["status"])]
    wrong += [name for name in ("task", "record_hash") if not isinstance(row.get(name, 0), str | None)]
    if wrong:
        raise _refuse(where, f"is no prediction: {', '.join(wrong)} missing or of another kind")
    return row


def _has_code(row: Row) -> bool:
    error = row.get("error")
    return row.get("status") == "error" and isinstance(error, dict) and isinstance(error.get("code"), str)


def _check_row(row: Row, hashes: RunHashes, records: Records, where: str) -> None:
    hint = "Write to a new file, or go on with what the file began with."
    if row["prompt_hash"] != hashes.prompt:
        what = "was written with another prompt, tokenizer or image processing"
    elif row["id"] not in records:
        what = f"is of a record that is not among these: {row['id']!r}"
        hint = "Give the same data, --limit and --shard as before, or write to a new file."
    elif row["run_hash"] != hashes.find_run(row["task"]):
        what = "was written with another model, other shifts, decoding or calibration"
    elif row["record_hash"] != records[row["id"]]:
        what = f"is of a record that says something else now: {row['id']!r}"
        hint = "Write to a new file, or take the row out of this one."
    else:
        return
    raise UsageError(f"{where}: {what}", hint=hint)


def _refuse(where: str, detail: str) -> DataError:
    return DataError(f"{where}: {detail}", hint="Write to a new file; this one is left as it is.")
