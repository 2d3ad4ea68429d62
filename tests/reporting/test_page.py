"""The page: what it shows, and that nothing of the data becomes markup."""

from __future__ import annotations

import re
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256

import pytest
from html_reading import Page
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import (
    build_bare_results,
    build_page,
    build_results,
    build_tables,
    phrase_record,
    predict,
)

from hkdcli.evaluation.join import build_table
from hkdcli.evaluation.metrics import Bootstrap, evaluate_predictions
from hkdcli.reporting.cases import Gallery, build_cases
from hkdcli.reporting.markdown import render_markdown
from hkdcli.reporting.page import MAX_CHARACTERS, render_page

NOBODY = Gallery((), 0)
HOSTILE = {
    "script": "<script>window.pwned=1</script>",
    "attribute": "\"><img src=x onerror='window.pwned=1'>",
    "single quotes": "' onmouseover='window.pwned=1",
    "template": "{{7*7}}{% raw %}{# x #}",
    "style": "</style><script>window.pwned=1</script>",
    "end of script": "</script><svg onload=window.pwned=1>",
    "address": "javascript:window.pwned=1",
    "separators": "\u2028\u2029\u0085",
    "surrogates": "\ud800x\udfff",
    "controls": "\0\x07\x1b[31m\r\n\t",
    "comment": "--><!-- <![CDATA[",
    "entities": "&lt;b&gt;&#60;&amp;",
    "direction": "\u202egnp.exe\u2066",
    "markup": "[bold]x[/bold] **x** `x`",
    "long": "<b>" * 17_000,
}
TAGS = re.compile(
    r"html|head|meta|title|style|body|header|h[1-4]|p|span|b|i|nav|a|main|section|ul|ol|li|div|table|caption|thead|tbody|"
    r"tr|th|td|small|figure|figcaption|svg|g|line|text|rect|circle|polyline|details|summary|dl|dt|dd|q|br|fieldset|"
    r"legend|label|input|select|option|output|button|img|bdi|script"
)
ATTRIBUTES = re.compile(
    r"id|class|style|title|lang|charset|http-equiv|content|name|href|dir|src|alt|loading|decoding|hidden|tabindex|role|"
    r"scope|colspan|type|value|autocomplete|spellcheck|data-(f\d+|facet|name|label)|aria-(label|labelledby|hidden|live)|"
    r"viewbox|x|y|x1|y1|x2|y2|cx|cy|r|width|height|points|transform|text-anchor"
)


def check_inert(page):
    """Only elements and attributes of ours, one script and one style sheet, no address that leads out."""
    tags = [tag for tag, _ in page.elements]
    assert all(map(TAGS.fullmatch, tags)) and tags.count("script") == tags.count("style") == 1
    for tag, attributes in page.elements:
        assert all(ATTRIBUTES.fullmatch(name) for name in attributes), (tag, attributes)
        assert re.fullmatch(r"(--(at|low|high|share):[01]\.\d{4};?)*", attributes.get("style", ""))
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:").startswith("data:image/webp;base64,") or tag != "img"
    assert not any(line[0] == "comment" for line in page.skeleton)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_in_every_field_stays_text(hostile):
    html = build_page(lambda text: f"{text}{hostile}")
    html.encode()
    page = Page(html)
    check_inert(page)
    if len(hostile) < 100:
        assert page.skeleton == Page(build_page()).skeleton


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_no_text_changes_the_elements_of_the_page(text):
    plain = Page(build_page()).skeleton
    assert Page(build_page(lambda word: f"{text}{word}{text}")).skeleton == plain


def test_a_text_is_shown_as_it_is():
    page = Page(build_page(lambda text: f"{text} <b>&amp; 'x'"))
    assert "a claim of label <b>&amp; 'x'" in page.text
    assert page.find("img", alt="both.png <b>&amp; 'x'")


def test_what_a_page_cannot_hold_is_replaced_where_it_stood():
    assert "a caption of both \ufffd|\ufffd" in Page(build_page(lambda text: f"{text} \0|\ud800")).text


def test_a_long_text_is_cut_and_says_how_much_is_missing():
    page = Page(build_page(lambda text: text + "x" * 50_000 if text == "a claim of label" else text))
    assert f"{50_016 - MAX_CHARACTERS:,} more characters" in page.text
    assert max(len(data) for tag, data in page.texts if tag not in ("script", "style")) <= MAX_CHARACTERS + 2


def test_the_policy_names_the_hash_of_the_one_script():
    page = Page(build_page())
    (policy,) = page.find("meta", **{"http-equiv": "Content-Security-Policy"})
    (script,) = [data for tag, data in page.texts if tag == "script" and data.strip()]
    hashed = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{hashed}'" in policy["content"]
    assert policy["content"].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline';")


def test_reporting_needs_no_torch():
    modules = ", ".join(f"hkdcli.reporting.{name}" for name in ("cases", "thumbnails", "page", "markdown"))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_same_arguments_give_the_same_page():
    assert build_page() == build_page()


def test_a_score_stands_beside_its_interval_and_controls():
    page = Page(build_page())
    assert "micro-F1 0.710 ± 0.030" in page.text
    assert "constant answer 0.450 blind 0.355 (+0.250)" in page.text
    assert "0.710 ± 0.030 +0.250 ± 0.050 over 0.355" in page.text
    assert "calibration error (ECE) 0.040 blind 0.020" in page.text
    assert {"class": "whisker", "style": "--low:0.6800;--high:0.7400"} in page.find("i", class_="whisker")
    assert page.find("i", class_="constant", style="--at:0.4500")
    assert page.find("i", class_="blind", style="--at:0.3550")


def test_the_document_of_an_evaluation_makes_a_page_and_a_report():
    tables = build_tables()
    examples = [example for table in tables.values() for example in table.records]
    rows = [row for table in tables.values() for row in table.rows if row is not None]
    results = evaluate_predictions(rows, examples, Bootstrap(resamples=50))
    page = Page(render_page(results.to_json(), build_cases(tables, 9), title="x", thumbnails={}))
    check_inert(page)
    micro = f"micro-F1 {results.metrics['micro_f1']:.3f} ± {results.intervals['micro_f1']['half_width']:.3f}"
    assert micro in page.text
    assert micro.removeprefix("micro-F1 ") in render_markdown(results.to_json(), title="x")


def test_a_score_beyond_the_axis_is_not_drawn_at_its_end():
    page = Page(build_page())
    assert "Brier score beyond this axis 1.200" in page.text
    assert not page.find("i", class_="dot", style="--at:1.0000")


def test_silent_records_are_counted_at_the_top_even_where_there_are_none():
    text = Page(build_page()).text
    assert "8 records 2 missing counted as wrong 0 error 2 abstained" in text
    assert "2 invalid counted as wrong several 2" in text


def test_warnings_come_before_the_scores():
    text = Page(build_page()).text
    assert text.index("2 of 8 records have no prediction") < text.index("All scores")


def test_confusion_has_a_column_for_no_answer_and_shades_shares_of_a_row():
    page = Page(build_page())
    assert "True False no answer records True 4 1 2 7" in page.text
    assert page.find("td", **{"class": "right", "style": "--share:0.5714"})


def test_null_and_empty_results_make_a_page():
    page = Page(render_page(build_bare_results(), NOBODY, title="nothing", thumbnails={}))
    check_inert(page)
    assert "No headline score is defined." in page.text and "No record is wrong." in page.text
    assert "Undefined here: micro-F1, " in page.text
    assert not page.find("svg") and not page.find("li", class_="case")


def test_a_gallery_that_shows_none_of_the_wrong_records_says_so():
    page = Page(render_page(build_results(), Gallery((), 7), title="x", thumbnails={}))
    assert "7 records are wrong; none is shown here." in page.text


def test_one_task_alone_has_no_plots_of_all_records():
    page = Page(render_page(build_results(tasks=("hallucination",)), NOBODY, title="x", thumbnails={}))
    assert len(page.find("svg", class_="plot")) == 2
    assert len(Page(build_page()).find("svg", class_="plot")) == 6


def test_a_card_says_what_became_of_each_choice():
    text = Page(build_page()).text
    assert "TN A No hallucination 0.00 FN B phrase 1 0.00 FP C phrase 2 0.70" in text
    assert "FP A No hallucination 0.60 FN B phrase 1 phenomena: colour 0.40" in text


def test_a_card_says_why_there_is_no_picture_and_why_no_answer():
    page = Page(build_page())
    assert "No picture: image.missing: no such file" in page.text
    assert "no prediction for this record" in page.text
    assert "more than one label , it says A, B" in page.text
    assert len(page.find("img")) == 4 and all(each["loading"] == "lazy" for each in page.find("img"))


def test_without_scripts_all_cards_are_there_and_the_filters_are_hidden():
    page = Page(build_page())
    assert "hidden" in page.find("div", id="filters")[0]
    assert not any("hidden" in each for each in page.find("li", class_="case"))
    assert len(page.find("li", class_="case")) == 6


def test_a_question_that_all_ask_is_said_once():
    assert Page(build_page()).text.count("Which are hallucinations?") == 1


def test_twenty_six_choices():
    record = phrase_record("many", "Z", choices=26)
    tables = {"hallucination": build_table([record], {"many": predict("many", "BC")})}
    page = Page(render_page(build_results(), build_cases(tables, 1), title="x", thumbnails={}))
    assert (
        len([each for each in page.find("b", class_="tag") if "FP" in each["class"]]) == 2 + 1
    )  # and the key's
    assert "FN Z phrase 25" in page.text


def test_a_gallery_shorter_than_the_wrong_records_says_so():
    gallery = build_cases(build_tables(), 2)
    page = Page(render_page(build_results(), gallery, title="x", thumbnails={}))
    assert "2 of 6 wrong records, the most confident first." in page.text
