"""Records with gold, and predictions of them, for tests of evaluation."""

from hkdcli.data.examples import Choice, Example
from hkdcli.evaluation.certainty import Certainty
from hkdcli.evaluation.predictions import Prediction

LABELS = ("True", "False", "Partially True", "Not Verifiable")
LETTERS = "ABCDEFGH"


def phrase_record(name, gold, choices=4, meta=None):
    """A hallucination record whose choice A is "No hallucination"."""
    texts = ["No hallucination", *(f"phrase {i}" for i in range(1, choices))]
    return Example(
        id=name,
        task="hallucination",
        image="x.png",
        question="?",
        choices=tuple(Choice(LETTERS[i], text) for i, text in enumerate(texts)),
        answer=None if gold is None else frozenset(gold),
        extra={} if meta is None else {"meta": meta},
    )


def claim_record(name, gold, meta=None):
    return Example(
        id=name,
        task="factuality",
        image="x.png",
        question="?",
        choices=tuple(Choice(LETTERS[i], text) for i, text in enumerate(LABELS)),
        answer=frozenset(gold),
        extra={} if meta is None else {"meta": meta},
    )


def predict(name, choices, **options):
    return Prediction(name, None if choices is None else frozenset(choices), **options)


def predict_surely(name, said, posterior, *, abstained=False, **certainty):
    """A row as `hkd infer` writes it; `posterior` by answers such as "BC"; an abstained row names nothing."""
    distribution = tuple((frozenset(answer), p) for answer, p in posterior.items())
    certainty = {"confidence": posterior[said], "shifts": 1, "all_agree": True, "flip_rate": 0.0, **certainty}
    return predict(
        name,
        None if abstained else said,
        abstained=abstained,
        certainty=Certainty(posterior=distribution, **certainty),
    )
