"""Pages whose words are written by hand and whose tables by a benchmark."""

from __future__ import annotations

import re
from collections.abc import Mapping


def fill_page(text: str, tables: Mapping[str, str]) -> str:
    """Put tables between their marks; all else stays.

    Args:
        text: Markdown that has, for each table, `<!-- NAME -->` and later `<!-- end of NAME -->`.
        tables: by name.

    Returns:
        The page.

    Raises:
        ValueError: a table has no place in the page.
    """
    for name, table in tables.items():
        filled = f"<!-- {name} -->\n\n{table}\n\n<!-- end of {name} -->"
        text, places = re.subn(
            f"<!-- {name} -->.*<!-- end of {name} -->", lambda _, new=filled: new, text, flags=re.DOTALL
        )
        if places != 1:
            raise ValueError(f"the page has {places} places for {name}")
    return text


def render_table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])
