"""The results document: typed, versioned, and the same as its schema says."""

import json

import pytest
from gold_records import claim_record, phrase_record, predict
from pydantic import TypeAdapter, ValidationError

from hkdcli.evaluation import comparison, results
from hkdcli.evaluation.metrics import Bootstrap, evaluate_predictions
from hkdcli.evaluation.results import Results
from hkdcli.evaluation.score_types import Scores
from hkdcli.evaluation.warn import MAX_LISTED


def evaluate():
    examples = [phrase_record("1", "B"), phrase_record("2", "A"), claim_record("3", "A")]
    return evaluate_predictions([predict("1", "B"), predict("2", "B")], examples, Bootstrap(resamples=50))


def test_a_document_survives_writing_and_reading():
    results = evaluate()
    text = json.dumps(results.to_json(), allow_nan=False)
    assert Results.model_validate_json(text) == results


@pytest.mark.parametrize("damage", [{"micro_f1": 1.5}, {"unheard_of": 0.5}, {"micro_f1": "good"}])
def test_a_document_with_another_score_is_refused(damage):
    document = evaluate().to_json()
    document["metrics"] |= damage
    with pytest.raises(ValidationError):
        Results.model_validate_json(json.dumps(document))


def test_every_score_of_the_schema_says_what_it_is():
    schema = TypeAdapter(Scores).json_schema()
    assert schema["additionalProperties"] is False and schema["required"] == list(schema["properties"])
    assert all(field["description"] for field in schema["properties"].values())


@pytest.mark.parametrize("document", [results, comparison], ids=["results", "comparison"])
def test_every_description_of_the_schema_stands_in_the_document(document):
    model = document.Results if document is results else document.Comparison
    schema = model.model_json_schema()
    blocks = {**schema["$defs"], model.__name__: schema}
    texts = {
        field["description"]
        for block in blocks.values()
        for field in block.get("properties", {}).values()
        if "description" in field
    }
    assert texts == set(document.DEFINITIONS.values()) - set(results.GENERAL.values())


def test_undefined_is_null_and_told_of_never_zero():
    results = evaluate()
    assert results.tasks["factuality"].metrics["hallucinated_f1"] is None
    assert results.tasks["factuality"].metrics["micro_precision"] is None  # nothing was predicted
    assert any("factuality.metrics.micro_precision" in warning for warning in results.warnings)
    assert not any("factuality.metrics.hallucinated_f1" in warning for warning in results.warnings)


def test_of_many_undefined_figures_the_first_are_named():
    tags = [{"tag": {letter: f"{letter}{index}" for letter in "BCD"}} for index in range(12)]
    examples = [phrase_record(str(index), "A", meta=meta) for index, meta in enumerate(tags)]
    results = evaluate_predictions([predict(each.id, "A") for each in examples], examples)
    text = next(text for text in results.warnings if text.startswith("undefined"))
    undefined = [
        value
        for found in results.tasks["hallucination"].phenomena["tag"].values()
        for value in found.values()
    ]
    assert undefined.count(None) == 36 * 3 and text.endswith("more") and text.count(", ") == MAX_LISTED
