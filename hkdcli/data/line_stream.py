"""Records that arrive line by line, as fast as somebody writes them."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from hkdcli.data.examples import Example
from hkdcli.data.json_text import decode_text, iterate_json
from hkdcli.data.rows import parse_row
from hkdcli.errors import BadRow, DataError

MAX_LINE_BYTES = 64 * 2**20
_CHUNK_BYTES = 1 << 16


class LineStream:
    """JSONL records from a pipe, a terminal or a file.

    Args:
        descriptor: of what to read.
        name: of it, for messages; a line's place is `name:number`.
    """

    def __init__(self, descriptor: int, name: str = "stdin") -> None:
        self.descriptor, self.name = descriptor, name
        self._number = 0
        self._lines: deque[bytes] = deque()
        self._begun: list[bytes] = []  # pieces of a line that has not ended: a long one comes in many
        self._begun_bytes = 0
        self._is_open = True

    def iterate_batches(self, size: int) -> Iterator[list[Example | BadRow]]:
        """Read records, never waiting for more while there is one that could be answered.

        Args:
            size: most records of a batch.

        Yields:
            list[Example | BadRow]: One to `size` records in order; a line that is no record is a BadRow.
        """
        batch: list[Example | BadRow] = []
        while self._is_open or self._lines or batch:
            while len(batch) < size and (line := self._take_line()) is not None:
                batch += self._parse(line)
            if len(batch) >= size or (batch and not self._has_more()):
                yield batch[:size]  # a line that is an array may have held more
                batch = batch[size:]
            elif self._is_open:
                self._read()

    def _take_line(self) -> bytes | None:
        """The next whole line; what the end of the stream leaves is one too."""
        if not self._lines:
            return None
        self._number += 1
        return self._lines.popleft()

    def _has_more(self) -> bool:
        """Whether reading on would give something at once."""
        return self._is_open and bool(select.select([self.descriptor], [], [], 0)[0])

    def _read(self) -> None:
        chunk = os.read(self.descriptor, _CHUNK_BYTES)
        self._is_open = bool(chunk)
        end, *others = chunk.split(b"\n")
        self._begun.append(end)
        self._begun_bytes += len(end)
        if others:
            self._lines += [b"".join(self._begun), *others[:-1]]
            self._begun, self._begun_bytes = [others[-1]], len(others[-1])
        elif not self._is_open and self._begun_bytes:
            self._lines.append(b"".join(self._begun))
        if self._begun_bytes > MAX_LINE_BYTES:
            raise DataError(
                f"{self.name}: a line of more than {MAX_LINE_BYTES} bytes is no record",
                hint="Write one record a line, with a line feed at its end.",
            )

    def _parse(self, line: bytes) -> list[Example | BadRow]:
        where = f"{self.name}:{self._number}"
        try:
            rows = list(iterate_json(decode_text(line, where), where))
        except DataError as error:
            bad = error.rows or (BadRow("data.json", "", where, error.message),)
            # There is no --encoding for a stream.
            return [replace(row, hint="send UTF-8") if row.code == "data.encoding" else row for row in bad]
        return [row if isinstance(row, BadRow) else parse_row(row.value, where) for row in rows]
