"""JSON read strictly: what Python's own reader lets through in silence is refused here.

Python keeps the last of two equal keys, reads NaN and 1e999, and splits lines at U+2028. A record
that says two things is an error of the file, so all of these are reported, with line and column.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hkdcli.data.refusals import RefusedRowError
from hkdcli.errors import BadRow, DataError, UsageError

MAX_DIGITS = 300
MAX_RECORD_CHARACTERS = 16 * 2**20

_SPACE = re.compile(r"[ \t\r\n]*")
_LATER_RECORD = re.compile(r"\n\{")


@dataclass(frozen=True, slots=True)
class Row:
    """One raw record and where it began (`file:line`)."""

    path: str
    value: Any


def decode_text(data: bytes, path: str, encoding: str = "utf-8", *, hint: str | None = None) -> str:
    """Decode a file's bytes; a byte order mark is dropped.

    Args:
        data: The whole file.
        path: Its name, for messages.
        encoding: Any text encoding that Python knows.
        hint: What to do about another one, where no option names it; None: name it with --encoding.

    Returns:
        The text.

    Raises:
        DataError: The bytes are not in this encoding; names the byte offset (`data.encoding`).
        UsageError: No such encoding.
    """
    try:
        name = codecs.lookup(encoding).name
        text = data.decode("utf-8-sig" if name == "utf-8" else name).removeprefix("\ufeff")
        nul = text.find("\0", 0, 4)
        if nul < 0:
            return text
        # JSON opens with two ASCII characters: a NUL so early is half of a UTF-16 one.
        detail = f"byte {nul} (0x00) is not text in {encoding}"
    except LookupError:
        raise UsageError(
            f'unknown encoding "{encoding}"', hint="Give the name of one, such as utf-8, utf-16 or latin-1."
        ) from None
    except UnicodeDecodeError as error:
        offset = error.start + len(data) - len(error.object)  # a mark was cut off before decoding
        detail = f"byte {offset} (0x{data[offset]:02X}) is not {encoding}"
    except ValueError:
        detail = f"not {encoding}"
    if hint is None:
        hint = f"name the file's own encoding, for example --encoding {_guess_encoding(data)}"
    raise DataError("the text cannot be decoded", [BadRow("data.encoding", "", path, detail, hint)])


def _guess_encoding(data: bytes) -> str:
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    if data[:1] == b"\0":
        return "utf-16-be"
    return "utf-16-le" if data[1:2] == b"\0" else "latin-1"


def iterate_json(text: str, path: str) -> Iterator[Row | BadRow]:
    """Yield the records of a JSON array, of JSONL, or of one JSON object.

    Args:
        text: The whole file.
        path: Its name, for messages.

    Yields:
        Row | BadRow: A Row per record; a BadRow for one that is refused while the rest can be read.

    Raises:
        DataError: The file is not JSON from some line and column on (`data.json`), or not records.
    """
    start = _skip(text, 0)
    if text.startswith("[", start):
        yield from _iterate_array(text, start, path)
    elif text.startswith("{", start):
        yield from _iterate_objects(text, start, path)
    elif start < len(text):
        raise DataError("no records in this file", [_explain_other_text(text[start : start + 200], path)])


class _StrictDecoder:
    """json's decoder plus a list of what it would have let through."""

    def __init__(self) -> None:
        self._found: list[RefusedRowError] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._build_object,
            parse_constant=self._refuse_number,
            parse_float=self._parse_float,
            parse_int=self._parse_int,
        )

    def decode(self, text: str, start: int) -> tuple[Any, int]:
        """Decode one value from `start`: the value or the RefusedRowError found in it, and its end."""
        self._found.clear()
        try:
            value, end = self._decoder.raw_decode(text, start)
        except RecursionError:
            raise RefusedRowError("data.nesting", "nested too deeply") from None
        if end - start > MAX_RECORD_CHARACTERS:
            self._refuse("data.too_large", f"one record of {end - start} characters")
        return (self._found[0] if self._found else value), end

    def _refuse(self, code: str, detail: str) -> None:
        self._found.append(RefusedRowError(code, detail))

    def _build_object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = next(key for key, count in counts.items() if count > 1)
            self._refuse("data.duplicate_key", f"the key {ascii(twice[:50])} stands twice in one object")
        return built

    def _refuse_number(self, text: str) -> None:
        self._refuse("data.number", f"{text[:20]} is not a number that JSON knows")

    def _parse_float(self, text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            self._refuse("data.number", f"{text[:20]} is too large a number")
        return value

    def _parse_int(self, text: str) -> int:
        if len(text) > MAX_DIGITS:
            self._refuse("data.number", f"an integer of {len(text)} digits")
            return 0
        return int(text)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _build_row(value: Any, path: str) -> Row | BadRow:
    return value.locate(path) if isinstance(value, RefusedRowError) else Row(path, value)


def _refuse_file(error: json.JSONDecodeError, path: str) -> DataError:
    row = BadRow("data.json", "", f"{path}:{error.lineno}:{error.colno}", error.msg)
    is_cut = _skip(error.doc, error.pos) >= len(error.doc)
    hint = "The file may be cut short: copy it again." if is_cut else "Correct the file at this place."
    return DataError("not valid JSON", [row], hint=hint)


def _iterate_array(text: str, start: int, path: str) -> Iterator[Row | BadRow]:
    decoder = _StrictDecoder()
    line, counted = 1, 0
    position = _skip(text, start + 1)
    try:
        while not text.startswith("]", position):
            line, counted = line + text.count("\n", counted, position), position
            where = f"{path}:{line}"
            value, end = decoder.decode(text, position)
            yield _build_row(value, where)
            position = _skip(text, end)
            if text.startswith(",", position):
                position = _skip(text, position + 1)
                if text.startswith("]", position):
                    raise json.JSONDecodeError("Illegal trailing comma", text, position)
            elif not text.startswith("]", position):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
        if _skip(text, position + 1) < len(text):
            raise json.JSONDecodeError("Extra data after the array", text, _skip(text, position + 1))
    except json.JSONDecodeError as error:
        raise _refuse_file(error, path) from None
    except RefusedRowError as error:
        raise DataError(
            "the file cannot be read past this record",
            [error.locate(where)],
            hint="Correct this record, or give the records as JSONL: there each line stands alone.",
        ) from None


def _iterate_objects(text: str, start: int, path: str) -> Iterator[Row | BadRow]:
    """Read one object over any number of lines, or one object a line."""
    lines = bool(_LATER_RECORD.search(text, start))
    if not lines:
        where = f"{path}:{text.count(chr(10), 0, start) + 1}"
        try:
            value, end = _StrictDecoder().decode(text, start)
        except json.JSONDecodeError as error:
            raise _refuse_file(error, path) from None
        except RefusedRowError as error:
            yield error.locate(where)
            return
        lines = _skip(text, end) < len(text)
        if not lines:
            yield _build_row(value, where)
    if lines:
        yield from _iterate_lines(text, path)


def _iterate_lines(text: str, path: str) -> Iterator[Row | BadRow]:
    decoder = _StrictDecoder()
    # Not splitlines(): JSON strings may hold U+2028 and friends, which it takes for line ends.
    for number, line in enumerate(text.split("\n"), start=1):
        start = _skip(line, 0)
        if start == len(line):
            continue
        where = f"{path}:{number}"
        try:
            value, end = decoder.decode(line, start)
            if _skip(line, end) < len(line):
                raise json.JSONDecodeError("Extra data after the record", line, _skip(line, end))
            yield _build_row(value, where)
        except json.JSONDecodeError as error:
            yield BadRow("data.json", "", f"{where}:{error.colno}", error.msg)
        except RefusedRowError as error:
            yield error.locate(where)


def _explain_other_text(opening: str, path: str) -> BadRow:
    if opening.startswith("version https://git-lfs"):
        return BadRow("data.format", "", path, "a git-lfs pointer, not the file itself", "run git lfs pull")
    kind = "an HTML page" if opening.lstrip().lower().startswith("<") else "text"
    return BadRow("data.format", "", path, f"{kind}, not a JSON array, a JSON object or JSONL")
