"""The site shows what a code host shows of the same pages, holds all of them, and asks no network."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from printed_commands import PAGES, README, ROOT

mkdocs_config = pytest.importorskip("mkdocs.config", reason="mkdocs is of the extra docs")
DOCS = ROOT / "docs"
SITE_PAGES = [page for page in PAGES if page != README]
# What is counted: blocks that one reader of Markdown makes and another does not.
BLOCKS = ("li", "tr", "td", "pre", "h1", "h2", "h3", "code", "a", "strong", "img")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make check` builds it: a broken link or anchor ends it."""
    from mkdocs.commands.build import build

    place = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        build(mkdocs_config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(place), strict=True))
    return place


@cache
def read_settings() -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    return settings


def list_nav(entries: list[Any]) -> list[str]:
    """The pages of the navigation, in order."""
    pages: list[str] = []
    for entry in entries:
        if isinstance(entry, str):
            pages.append(entry)
        else:
            (inside,) = entry.values()
            pages += [inside] if isinstance(inside, str) else list_nav(inside)
    return pages


def count_blocks(html: str) -> dict[str, int]:
    return {tag: len(re.findall(rf"<{tag}[\s>]", html)) for tag in BLOCKS}


def take_article(html: str) -> str:
    """What the page says, without what the theme puts around it and beside headings."""
    article = html.partition("<article")[2].partition("</article>")[0]
    return re.sub(r'<a class="headerlink".*?</a>|<(a|span) id="__[^>]*>(</\1>)?', "", article)


@pytest.mark.parametrize("page", SITE_PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_looks_as_on_a_code_host(page: Path, site: Path) -> None:
    """Lists, tables and code are what CommonMark makes of them; no mark is left as text."""
    shown = take_article((site / page.relative_to(DOCS).with_suffix(".html")).read_text("utf-8"))
    assert count_blocks(shown) == count_blocks(render_plainly(page.read_text("utf-8")))
    words = re.sub(r"<(pre|code).*?</\1>", "", shown, flags=re.DOTALL)
    assert not re.findall(r"\*\*|```|\]\(|\\\|", words)


def render_plainly(text: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(text)


def test_every_page_of_the_navigation_is_there() -> None:
    pages = list_nav(read_settings()["nav"])
    assert [page for page in pages if not (DOCS / page).is_file()] == []
    assert len(pages) == len(set(pages))


def test_nothing_is_fetched(site: Path) -> None:
    """Neither fonts nor scripts nor styles nor counters of another server."""
    asked = r'<(?:script|link|img|iframe)[^>]*(?:src|href)="((?:https?:)?//[^"]+)"'
    found = [link for page in site.rglob("*.html") for link in re.findall(asked, page.read_text("utf-8"))]
    assert found == []
    assert list(site.rglob("*.js")) and not list(site.rglob("*.py"))


# The tests above must be able to fail


def test_what_two_readers_take_differently_is_found() -> None:
    from markdown import markdown

    text = "Words:\n- one\n- two\n"  # a list only for CommonMark
    assert count_blocks(markdown(text)) != count_blocks(render_plainly(text))
    assert take_article('x <article class="a"><p>b</p></article> c') == ' class="a"><p>b</p>'
    assert list_nav(["a.md", {"B": ["b.md", {"C": "c.md"}]}]) == ["a.md", "b.md", "c.md"]


@pytest.mark.parametrize("link", ["nothing.md", "index.md#nothing", "../README.md", "/index.md"])
def test_a_link_that_leads_nowhere_ends_the_build(link: str, tmp_path: Path) -> None:
    from mkdocs.commands.build import build
    from mkdocs.exceptions import Abort

    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Here\n\n[there]({link})\n")
    settings = read_settings() | {"nav": ["index.md"], "theme": "mkdocs", "site_dir": str(tmp_path / "site")}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    with pytest.raises(Abort):
        build(mkdocs_config.load_config(str(tmp_path / "mkdocs.yml"), strict=True))
