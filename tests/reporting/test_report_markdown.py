"""Markdown: tables that stay whole, and texts that say nothing but themselves."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from report_records import build_bare_results, build_results

from hkdcli.reporting.markdown import escape_markdown, render_markdown

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = {
    "table": "a | b || c \\| d",
    "lines": "a\n| x | y |\n\n# heading\n\n- list\r\n    code",
    "html": "<script>x</script><!-- --> <b> &lt;b&gt; &#60;",
    "link": "[text](http://example.com) [ref]: <http://example.com> <javascript:x>",
    "bare link": "http://example.com ftp://example.com www.example.com WWW.example.com",
    "picture": "![](http://example.com/x.png)",
    "mention": "@user @org/team user@example.com #12 GH-12 org/repo#12",
    "emphasis": "**x** _x_ __x__ ~~x~~ `x` ```x``` $x$ \\*",
    "front": "# x",
    "list": "- x",
    "number": "1. x",
    "bracketed number": "12) x",
    "rule": "---",
    "heading below": "===",
    "task": "[ ] x",
    "surrogates": "\ud800\0\u2028x",
    "long": "|" * 50_000,
}
REFERENCE = re.compile(r"@\w|#\d|\w://|www\.\w", re.IGNORECASE)


def read(text):
    """The kinds of the tokens of a document, and its texts as a reader shows them, a line each."""
    tokens = [each for token in READER.parse(text) for each in (token, *(token.children or ()))]
    kinds = [token.type for token in tokens if token.type != "text"]
    return kinds, "\n".join(token.content for token in tokens if token.type == "text")


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_in_every_field_stays_text(hostile):
    text = render_markdown(build_results(lambda word: f"{hostile}{word}{hostile}"), title=hostile)
    text.encode()
    kinds, shown = read(text)
    assert kinds == read(render_markdown(build_results(), title="x"))[0]
    assert not REFERENCE.search(shown)


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_no_text_changes_the_structure(text):
    plain = read(render_markdown(build_results(), title="x"))[0]
    assert (
        read(render_markdown(build_results(lambda word: f"{text}x{word}{text}"), title=f"x{text}"))[0]
        == plain
    )


@given(st.text(alphabet="ab1 \\`*_{}[]()<>#+-.!|&~@:/$=^\"';", max_size=40))
def test_an_escaped_text_reads_as_itself(text):
    assert read(f"x{escape_markdown(text)}x")[1].replace("\u200b", "") == f"x{' '.join(text.split())}x"


def test_a_plain_name_stays_readable():
    assert escape_markdown("0.1.0") == "0.1.0"
    assert escape_markdown("selective_exact_match of coco-2017 (val), 3.5 %") == (
        "selective_exact_match of coco-2017 (val), 3.5 %"
    )


def test_scores_stand_with_half_width_and_controls():
    text = render_markdown(build_results(), title="A report")
    assert text.startswith("# A report\n\n**Read this first:**\n\n- 2 of 8 records")
    assert re.search(r"\| micro-F1 +\| 0\.710 ± 0\.030 \| +0\.450 \| 0\.355 \| +\+0\.250 ± 0\.050 \|", text)
    assert "± is half of a 95 % interval: 10,000 resamples of 812 images, seed 0." in text
    assert re.search(r"\| invalid: several +\| +2 \|", text)
    assert "Undefined: flip rate between orders." in text


def test_every_table_has_as_many_cells_in_each_row():
    for table in render_markdown(build_results(), title="x").split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1
            assert len({len(line) for line in table.splitlines()}) == 1


def test_null_and_empty_results_make_a_report():
    text = render_markdown(build_bare_results(), title="nothing")
    assert "Undefined: micro-F1, " in text and "Read this first" not in text and "blind" not in text


def test_classes_beyond_the_most_are_counted():
    results = build_results(tasks=("factuality",))
    scores = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}
    results["tasks"]["factuality"]["per_class"] = {f"label {i}": scores for i in range(53)}
    text = render_markdown(results, title="x")
    assert "label 49" in text and "label 50" not in text and "3 more classes are not shown." in text
