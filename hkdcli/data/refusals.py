"""How the parts of the reader say no to one row, before anybody knows where that row stood."""

from __future__ import annotations

from collections.abc import Iterable

from hkdcli.errors import BadRow


class RefusedRowError(Exception):
    """One row cannot be used. Never leaves `hkdcli.data`: the reader turns it into a BadRow."""

    def __init__(self, code: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint

    def locate(self, path: str, example_id: str = "") -> BadRow:
        """Say where it happened."""
        return BadRow(code=self.code, id=example_id, path=path, detail=self.detail, hint=self.hint)


def render_first_ids(rows: Iterable[BadRow]) -> list[str]:
    """Render one line per code: how many rows it has, and the first three of them."""
    by_code: dict[str, list[str]] = {}
    for row in rows:
        by_code.setdefault(row.code, []).append(row.id or row.path)
    return [
        f"{code}: {len(names)} (first: {', '.join(names[:3])})" for code, names in sorted(by_code.items())
    ]
