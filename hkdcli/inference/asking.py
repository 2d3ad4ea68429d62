"""How a model is asked, and how what it says becomes an answer: everything but the weights and the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hkdcli.data.examples import Example
from hkdcli.data.prompts import Presentation
from hkdcli.data.records import Task
from hkdcli.inference.decode import Answer, Decoding, Posterior, decode, temper
from hkdcli.inference.letter_prior import remove_letter_prior
from hkdcli.inference.rows import RunHashes
from hkdcli.inference.shift import Combination, Combined, ShiftWhat, combine, shifted_presentations

if TYPE_CHECKING:
    from hkdcli.inference.scored import AnyScorer, ScoredRecord

Debias = Literal["none", "prior"]
LetterPrior = Mapping[int, Sequence[float]]
"""Number of choices -> centred log prior of each letter, in order."""


@dataclass(frozen=True, slots=True)
class Asking:
    """In which orders the choices are shown, and how the orders are combined; see `shift`.

    `task` is the one whose records are shown in several orders; None: those of both.
    `debias` "prior" divides out the letter prior of the task's `Rule` instead (PriDe).
    """

    shifts: int | None = 1
    what: ShiftWhat = "both"
    move_none: bool = True
    combination: Combination = "log_mean"
    debias: Debias = "none"
    task: Task | None = None

    def present(self, example: Example) -> tuple[Presentation, ...]:
        """The orders in which the choices of an example are shown; the first is its own."""
        shifts = self.shifts if self.task in (None, example.task) else 1
        return shifted_presentations(example, shifts, what=self.what, move_none=self.move_none)


@dataclass(frozen=True, slots=True)
class Rule:
    """How the posterior of one task becomes an answer: see `decode`, `temper` and `letter_prior`.

    An answer whose probability is below `abstain_below` is not given; null always answers.
    """

    decoding: Decoding = "map"
    temperature: float = 1.0
    threshold: float | None = None
    abstain_below: float | None = None
    letter_prior: LetterPrior = field(default_factory=dict)


Rules = Mapping[Task, Rule]


def build_rules(decoding: Decoding = "map", abstain_below: float | None = None) -> dict[Task, Rule]:
    """The same rule for both tasks, without calibration."""
    rule = Rule(decoding, abstain_below=abstain_below)
    return {"hallucination": rule, "factuality": rule}


@dataclass(frozen=True, slots=True)
class Judge:
    """A model, how it is asked, and how its answers are made.

    `per_shift` keeps what each order says. `blind` shows a grey picture in place of each image: a control of
    what the text alone gives away.
    """

    scorer: AnyScorer
    asking: Asking = field(default_factory=Asking)
    rules: Rules = field(default_factory=build_rules)
    per_shift: bool = False
    blind: bool = False

    def compute_hashes(self) -> RunHashes:
        """Hashes of all that decides the numbers, for the rows."""
        scorer = self.scorer
        way = [self.per_shift, "blind"] if self.blind else [self.per_shift]
        parts = [scorer.weights_hash, scorer.prompt_hash, scorer.collator.max_length, asdict(self.asking)]
        rules: dict[str, Any] = {"": None, **{task: asdict(rule) for task, rule in self.rules.items()}}
        texts = {task: json.dumps([*parts, rule, *way], sort_keys=True) for task, rule in rules.items()}
        runs = {task: hashlib.sha256(text.encode()).hexdigest() for task, text in texts.items()}
        return RunHashes(scorer.prompt_hash, runs, self.blind)


def combine_orders(
    example: Example, scored: ScoredRecord, shown: Sequence[Presentation], asking: Asking, rule: Rule
) -> Combined:
    """What all orders of a record say together, without the letter prior where it is to be divided out.

    Args:
        example: the record.
        scored: its answers and their log-probabilities in every order.
        shown: the orders.
        asking: how to combine them.
        rule: of its task.

    Returns:
        The posterior before any temperature.
    """
    log_probs = scored.log_probs
    if asking.debias == "prior":
        log_probs = remove_letter_prior(scored.answers, log_probs, shown, rule.letter_prior)
    return combine(scored.answers, log_probs, asking.combination)


def decide(example: Example, posterior: Posterior, rule: Rule) -> tuple[Posterior, Answer]:
    """The calibrated posterior and the answer chosen from it; whether to give it is left to the caller."""
    calibrated = temper(posterior, rule.temperature)
    return calibrated, decode(calibrated, rule.decoding, none_id=example.none_id, threshold=rule.threshold)
