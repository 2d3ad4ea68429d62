"""The challenge's results file: records with the predicted answer in the place of gold, and its checks.

The challenge asks for a `results.json` in a zip file and publishes no schema of it that we could find. Ours
is the form of its own labelled records, so `results.json` is a file of records that every reader of the
challenge's data can read, ours included: `check_submission` reads it back.
"""

from __future__ import annotations

import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hkdcli.atomic import write_atomic
from hkdcli.data.answers_text import is_contradicted
from hkdcli.data.json_text import decode_text, iterate_json
from hkdcli.data.records import Example
from hkdcli.data.rows import parse_row, render_row
from hkdcli.errors import BadRow, DataError
from hkdcli.evaluation.join import find_fault
from hkdcli.evaluation.predictions import Prediction

MEMBER = "results.json"
MAX_BYTES = 256 * 2**20  # the challenge asks about thousands of records, of a few kB each
_ZIP_OPENING = b"PK\x03\x04"
# What zipfile makes of damage; ValueError: of a name that is no text, or an offset that no file has.
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, ValueError)
_ASKED = ("image", "question", "caption_question", "caption", "claim", "context")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold: equal answers, equal bytes
_HINTS = {
    "missing": "run hkd infer on all of these records",
    "abstained": "run hkd infer without --abstain-below and --target-precision",
    "error": "see the row's own error; the record has to be answered",
}


def build_submission(examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Put the predicted answer into each record.

    Args:
        examples: the challenge's records, with or without gold.
        predictions: one for each of them, in any order; others are left out.

    Returns:
        The rows of results.json, in the order of the examples.

    Raises:
        DataError: when a record has no legal prediction; every such record is named, under
            `submission.missing`, `submission.error` and so on.
    """
    by_id = {prediction.id: prediction for prediction in predictions}
    faults = {each.id: find_fault(each, each.none_id, by_id.get(each.id)) for each in examples}
    bad = [_refuse(name, fault, by_id) for name, fault in faults.items() if fault]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(examples)} records have no answer that can be submitted",
            bad,
            hint="Ask about these records again with hkd infer.",
        )
    return [_render(example, by_id[example.id].choices or frozenset()) for example in examples]


def write_submission(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as `results.json` in a zip file, whole or not at all; equal rows give equal bytes.

    Args:
        path: Where to.
        rows: What `build_submission` gives.
    """
    text = json.dumps(list(rows), ensure_ascii=False, allow_nan=False, indent=1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(MEMBER, _EPOCH)
        member.compress_type = zipfile.ZIP_DEFLATED
        member.external_attr = 0o644 << 16
        archive.writestr(member, text.encode())
    write_atomic(path, buffer.getvalue())


def check_submission(path: Path, examples: Sequence[Example]) -> None:
    """Check that a file answers every record once, with a legal answer.

    Args:
        path: A zip file that holds results.json, or results.json itself.
        examples: The records that it must answer.

    Raises:
        DataError: when it cannot be read, or does not; everything wrong is named: what the reader of records
            refuses (`record.*`: unknown letters, contradictions, several labels), and
            `submission.missing`, `.extra`, `.twice`, `.no_answer`, `.other_choices`, `.other_record` (its
            image or texts), `.other_words`.
    """
    wanted = {example.id: example for example in examples}
    found: dict[str, str] = {}
    bad: list[BadRow] = []
    for row, where in _iterate_rows(path):
        if isinstance(row, BadRow):
            bad.append(row)
            found.setdefault(row.id, where)
        elif row.id in found:
            detail = f"a second answer to this record; the first is at {found[row.id]}"
            bad.append(BadRow("submission.twice", row.id, where, detail))
        else:
            found[row.id] = where
            bad += _check_row(row, wanted.get(row.id), where)
    missing = [name for name in wanted if name not in found]
    bad += [BadRow("submission.missing", name, str(path), "has no answer here") for name in missing]
    if bad:
        raise DataError(
            f"{path}: {len(bad)} problem{'s' * (len(bad) > 1)}",
            bad,
            hint="Write it anew: hkd submit PREDICTIONS DATA --out FILE.",
        )


def _refuse(name: str, fault: str, by_id: Mapping[str, Prediction]) -> BadRow:
    row = by_id.get(name)
    where = row.path if row is not None else ""
    words = {"missing": "has no prediction", "abstained": "was abstained from", "error": "failed"}
    detail = words.get(fault, f"its prediction is no legal answer ({fault})")
    code = fault.removeprefix("invalid.")
    return BadRow(f"submission.{code}", name, where, detail, _HINTS.get(fault, ""))


def _render(example: Example, answer: frozenset[str]) -> dict[str, Any]:
    """A record as the challenge writes it; an id that its file does not have is left out."""
    extra = {key: value for key, value in example.extra.items() if key != "correct_answer"}
    row = render_row(replace(example, answer=answer, extra=extra))
    nameless = {key: value for key, value in row.items() if key != "id"}
    read_back = parse_row(nameless, "")
    is_made_up = isinstance(read_back, Example) and read_back.id == example.id
    return {"metadata": nameless if is_made_up else row}


def _iterate_rows(path: Path) -> Iterator[tuple[Example | BadRow, str]]:
    text = decode_text(_read(path), str(path), hint=f"save {MEMBER} as UTF-8")
    for row in iterate_json(text, str(path)):
        if isinstance(row, BadRow):
            yield row, row.path
            continue
        parsed = parse_row(row.value, row.path)
        yield _name(parsed, row.value) if isinstance(parsed, BadRow) else parsed, row.path


def _name(bad: BadRow, value: Any) -> BadRow:
    """A bad row under the id of its record, where only its answer is at fault: ids are made of the rest."""
    inner = value.get("metadata", value) if isinstance(value, dict) else {}
    if bad.id or not isinstance(inner, dict):
        return bad
    rest = {key: each for key, each in inner.items() if key not in ("correct_choice", "correct_answer")}
    unanswered = parse_row(rest, bad.path)
    return replace(bad, id=unanswered.id)


def _read(path: Path) -> bytes:
    """The bytes of results.json, in a zip file or on its own."""
    try:
        if not zipfile.is_zipfile(path):
            data = path.read_bytes()
            if data.startswith(_ZIP_OPENING):
                raise zipfile.BadZipFile("a zip file that is cut short or damaged")
            return data
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if names != [MEMBER]:
                detail = f"holds {', '.join(names[:5]) or 'nothing'}; it must hold {MEMBER} alone"
                raise DataError("no submission", [BadRow("submission.members", "", str(path), detail)])
            if archive.getinfo(MEMBER).file_size > MAX_BYTES:
                detail = f"{MEMBER} unpacks to more than {MAX_BYTES} bytes"
                raise DataError(
                    "the submission is too large", [BadRow("data.too_large", "", str(path), detail)]
                )
            return archive.read(MEMBER)
    except (OSError, *_BROKEN) as error:
        detail = getattr(error, "strerror", None) or ascii(str(error))
        raise DataError("no submission", [BadRow("submission.unreadable", "", str(path), detail)]) from error


def _check_row(row: Example, wanted: Example | None, where: str) -> Iterator[BadRow]:
    if wanted is None:
        yield BadRow("submission.extra", row.id, where, "answers a record that is not asked about")
        return
    if row.answer is None:
        yield BadRow("submission.no_answer", row.id, where, "has no correct_choice")
    if set(row.choices) != set(wanted.choices):
        detail = "has other choices than the record, so its letters mean something else"
        yield BadRow("submission.other_choices", row.id, where, detail)
    elif any(getattr(row, name) != getattr(wanted, name) for name in _ASKED):
        detail = "has another image or other texts than the record of this id"
        yield BadRow("submission.other_record", row.id, where, detail)
    elif is_contradicted(row):
        detail = "correct_answer and correct_choice name different choices"
        yield BadRow("submission.other_words", row.id, where, detail)
