"""The page on security claims nothing that no test holds."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| (?!it could hold)", line)]


def test_every_test_that_is_named_is_there() -> None:
    named = {name for row in ROWS for name in re.findall(r"`([a-z]\d\d)`", row.rpartition(" | ")[2])}
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for words in re.findall(r"^def test_(\w+)", path.read_text(), re.MULTILINE)
        for name in re.findall(r"(?:^|_)([a-z]\d\d)(?=_|$)", words)
    }
    assert len(named) > 20 and named <= defined, named - defined


def test_every_row_names_a_test_or_says_that_there_is_none() -> None:
    assert len(ROWS) > 25
    assert [row for row in ROWS if not re.search(r"\| (-|`[a-z]\d\d`(, `[a-z]\d\d`)*) \|$", row)] == []
