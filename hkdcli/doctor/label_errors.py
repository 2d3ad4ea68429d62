"""Records whose label is probably wrong, told by a model's posterior: confident learning.

After Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
Artificial Intelligence Research 70 (2021), doi 10.1613/jair.1.12125. The threshold of a class is the mean
probability that a model gives the gold answer, over the records of that class. A record is suspect where
another answer is more probable than its gold, and reaches the threshold of its own class. Suspects are ranked
by the probability of their gold answer, the least first.

Classes are the verdicts of factuality, and "No hallucination" against some hallucination: sets of letters are
too many to each have a threshold. The model should not have learned from these records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hkdcli.data.records import Example
from hkdcli.doctor.examination import Finding
from hkdcli.errors import DataError
from hkdcli.evaluation.certainty import Distribution
from hkdcli.evaluation.join import name_class
from hkdcli.evaluation.predictions import Prediction

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Suspect:
    """A record whose label is doubted.

    Attributes:
        id: Of the record.
        gold: Its gold answer.
        predicted: The answer that the model believes.
        gold_probability: What the model gives the gold answer, in [0, 1].
        probability: What it gives its own.
    """

    id: str
    gold: frozenset[str]
    predicted: frozenset[str]
    gold_probability: float
    probability: float

    def __str__(self) -> str:
        gold, own = (", ".join(sorted(answer)) for answer in (self.gold, self.predicted))
        return (
            f"{self.id}: gold {gold} ({self.gold_probability:.3f}), predicted {own} ({self.probability:.3f})"
        )


def check_labels(examples: Sequence[Example], predictions: Iterable[Prediction]) -> Finding:
    """Look for labels that are probably wrong.

    Args:
        examples: The records.
        predictions: What a model said of them, with posteriors.

    Returns:
        A warning that names the first suspects.

    Raises:
        DataError: No record has both a gold answer and a posterior.
    """
    said = {each.id: each.certainty.posterior for each in predictions if each.certainty.posterior}
    known = [each for each in examples if each.answer is not None and each.id in said]
    if not known:
        raise DataError(
            "no record has both a gold answer and a posterior",
            hint="Give what hkd infer wrote for these records.",
        )
    suspects = find_suspects(known, {each.id: said[each.id] or () for each in known})
    if not suspects:
        return Finding(f"no label of {len(known)} records is doubted")
    listed = "; ".join(map(str, suspects[:SHOWN])) + (" ..." if len(suspects) > SHOWN else "")
    return Finding(
        f"{len(suspects)} of {len(known)} labels are doubted, the most doubtful first: {listed}",
        "warning",
        "Look at these records: the label or the model is wrong.",
    )


def find_suspects(examples: Sequence[Example], posteriors: Mapping[str, Distribution]) -> list[Suspect]:
    """Find the records whose label a model doubts.

    Args:
        examples: Each with a gold answer.
        posteriors: For each of them, by id.

    Returns:
        The suspects, the least probable gold first.
    """
    thresholds = compute_thresholds(examples, posteriors)
    suspects = []
    for example in examples:
        gold, posterior = example.answer or frozenset(), dict(posteriors[example.id])
        gold_probability = posterior.get(gold, 0.0)
        doubted = [
            (p, sorted(answer), answer)
            for answer, p in posterior.items()
            if answer != gold
            and p > gold_probability
            and p >= thresholds.get(_classify(example, answer), 2.0)
        ]
        if doubted:
            p, _, answer = max(doubted)
            suspects.append(Suspect(example.id, gold, answer, gold_probability, p))
    return sorted(suspects, key=lambda suspect: (suspect.gold_probability, suspect.id))


def compute_thresholds(
    examples: Sequence[Example], posteriors: Mapping[str, Distribution]
) -> dict[tuple[str, str], float]:
    """The mean probability of the gold answer over the records of each class, by (task, class), in [0, 1]."""
    confidences: dict[tuple[str, str], list[float]] = defaultdict(list)
    for example in examples:
        gold = example.answer or frozenset()
        confidences[_classify(example, gold)].append(dict(posteriors[example.id]).get(gold, 0.0))
    return {each: sum(found) / len(found) for each, found in confidences.items()}


def _classify(example: Example, answer: frozenset[str]) -> tuple[str, str]:
    """Task and class of an answer; all choices of a set are of one class."""
    chosen = next((choice for choice in example.choices if choice.id in answer), None)
    return example.task, "" if chosen is None else name_class(
        example, chosen.id == example.none_id, chosen.text
    )
