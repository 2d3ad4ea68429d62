"""Which records are cases, in what order, and what is told of each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_records import build_tables, claim_record, phrase_record, predict

from hkdcli.evaluation.join import build_table
from hkdcli.reporting.cases import build_cases
from hkdcli.reporting.facets import build_facets


def build_case(record, row):
    table = build_table([record], {} if row is None else {row.id: row})
    (case,) = build_cases({record.task: table}, 10).cases
    return case


def test_wrong_records_come_by_falling_confidence_and_silent_ones_last():
    gallery = build_cases(build_tables(), 100)
    assert [case.id for case in gallery.cases] == ["alarm", "label", "both", "missed", "several", "silent"]
    assert gallery.total == 6


def test_a_limit_keeps_the_first_and_the_total():
    gallery = build_cases(build_tables(), 2)
    assert [case.id for case in gallery.cases] == ["alarm", "label"] and gallery.total == 6
    assert build_cases(build_tables(), 0).cases == ()


def test_without_confidences_the_tasks_take_turns():
    tables = {
        "factuality": build_table([claim_record(f"f{i}", "A") for i in range(3)], {}),
        "hallucination": build_table([phrase_record(f"h{i}", "B") for i in range(3)], {}),
    }
    assert [case.id for case in build_cases(tables, 4).cases] == ["f0", "h0", "f1", "h1"]


def test_an_abstained_answer_is_no_confident_error():
    records = [phrase_record("abstained", "B"), phrase_record("unsure", "B")]
    rows = [predict("abstained", None, {"A": 0.9}, abstained=True), predict("unsure", "A", {"A": 0.4})]
    table = build_table(records, {row.id: row for row in rows})
    assert [case.id for case in build_cases({"hallucination": table}, 9).cases] == ["unsure", "abstained"]


@pytest.mark.parametrize(
    ("gold", "said", "kinds"),
    [
        ("B", "A", ("missed",)),
        ("BC", "B", ("missed",)),
        ("A", "B", ("false alarm",)),
        ("B", "BC", ("false alarm",)),
        ("B", "C", ("missed", "false alarm")),
        ("B", "AB", ("no answer",)),
        ("B", "", ("no answer",)),
    ],
)
def test_kinds_of_error_of_phrases(gold, said, kinds):
    assert build_case(phrase_record("x", gold), predict("x", said)).kinds == kinds


def test_kinds_of_error_of_claims():
    assert build_case(claim_record("x", "A"), predict("x", "B")).kinds == ("wrong label",)
    assert build_case(claim_record("x", "A"), None).kinds == ("no answer",)


def test_each_choice_has_its_decision_and_its_share_of_the_posterior():
    case = build_case(phrase_record("x", "BD"), predict("x", "BC", {"BC": 0.5, "B": 0.25, "A": 0.125}))
    assert [choice.decision for choice in case.choices] == ["TN", "TP", "FP", "FN"]
    assert [choice.probability for choice in case.choices] == [0.125, 0.75, 0.5, 0.0]


def test_without_a_posterior_no_choice_has_a_probability():
    case = build_case(phrase_record("x", "B"), predict("x", "C"))
    assert {choice.probability for choice in case.choices} == {None}
    assert case.posterior == () and case.confidence is None


def test_a_fault_is_told_with_what_the_row_says():
    case = build_case(phrase_record("x", "B"), predict("x", "CA"))
    assert case.fault == "invalid.contradiction" and case.said == ("A", "C")
    assert [choice.decision for choice in case.choices] == ["TN", "FN", "TN", "TN"]
    assert build_case(phrase_record("x", "B"), None).said is None


def test_the_posterior_falls_and_marks_the_gold_answer():
    case = build_case(phrase_record("x", "CB"), predict("x", "A", {"A": 0.2, "CB": 0.1, "ZC": 0.7}))
    assert [(row.ids, row.probability, row.is_gold) for row in case.posterior] == [
        (("C", "Z"), 0.7, False),
        (("A",), 0.2, False),
        (("B", "C"), 0.1, True),
    ]


def test_meta_is_of_the_record_or_of_its_choices_and_else_left_alone():
    meta = {"source": "coco", "phenomena": {"B": "colour", "C": 3, "Z": "size"}, "width": 640}
    case = build_case(phrase_record("x", "B", meta=meta), predict("x", "A"))
    assert case.slices == {"source": "coco"}
    assert [dict(choice.tags) for choice in case.choices] == [{}, {"phenomena": "colour"}, {}, {}]


def test_texts_are_those_that_the_record_has():
    assert [name for name, _ in build_case(claim_record("x", "A"), None).texts] == [
        "question",
        "claim",
        "context",
    ]


def test_facets_count_their_values_and_place_the_cases():
    gallery = build_cases(build_tables(), 100)
    facets = {facet.name: facet for facet in build_facets(gallery.cases)}
    assert list(facets) == ["task", "kind", "choice.phenomena", "meta.source"]
    assert facets["kind"].values == (("missed", 2), ("false alarm", 2), ("wrong label", 1), ("no answer", 2))
    assert facets["kind"].places == ((1,), (2,), (0, 1), (0,), (3,), (3,))
    assert facets["meta.source"].places == ((1,), (1,), (0,), (0,), (), (0,))


def test_a_tag_of_a_choice_that_was_decided_rightly_finds_nothing():
    facets = {facet.name: facet for facet in build_facets(build_cases(build_tables(), 100).cases)}
    assert facets["choice.phenomena"].values == (("colour", 1), ("size", 1))
    record = phrase_record("x", "B", meta={"phenomena": {"D": "size"}})
    case = build_case(record, predict("x", "A"))
    assert build_facets([case]) == []


def test_a_key_that_names_records_is_no_facet():
    records = [phrase_record(f"r{i}", "B", meta={"serial": str(i), "half": str(i % 2)}) for i in range(60)]
    cases = build_cases({"hallucination": build_table(records, {})}, 60).cases
    assert [facet.name for facet in build_facets(cases)] == ["meta.half"]


def test_an_answer_that_came_as_text_is_shown_as_it_was_given():
    row = replace(predict("x", None), text="I would say B, or C.", unread="unparsed")
    case = build_case(phrase_record("x", "B"), row)
    assert case.texts[-1] == ("answer", "I would say B, or C.") and case.fault == "invalid.unparsed"
