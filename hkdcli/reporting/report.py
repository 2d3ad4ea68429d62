"""A report of results, as the name of its file asks: a page for a browser, or Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hkdcli.data.datasets import Dataset
from hkdcli.evaluation.join import Table
from hkdcli.evaluation.results import Results
from hkdcli.reporting.cases import build_cases
from hkdcli.reporting.markdown import render_markdown
from hkdcli.reporting.page import render_page
from hkdcli.reporting.thumbnails import build_thumbnails

SHOWN = 200


def render_report(
    path: Path,
    results: Results,
    tables: Mapping[str, Table],
    data: Dataset,
    *,
    title: str,
    shown: int = SHOWN,
) -> str:
    """Render results for people.

    Args:
        path: Of the file to be; `.md` is Markdown, anything else a page.
        results: The scores.
        tables: What they are of; the page shows the wrong records among them.
        data: Where the pictures are.
        title: Heading.
        shown: How many wrong records the page shows at most.

    Returns:
        The text of the file.
    """
    document = results.to_json()
    if path.suffix.lower() == ".md":
        return render_markdown(document, title=title)
    gallery = build_cases(tables, shown)
    thumbnails = build_thumbnails(gallery.cases, lambda example: data.images.load(example.image).image)
    return render_page(document, gallery, title=title, thumbnails=thumbnails)
