"""What a detector is asked about one picture, and what it says: plain values, without a model or a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hkdcli.data.given_images import ImageInput
from hkdcli.data.images import ImageError
from hkdcli.data.phrases import propose_phrases
from hkdcli.data.prompts import LETTERS
from hkdcli.data.records import NO_HALLUCINATION, Example
from hkdcli.data.rows import parse_row
from hkdcli.errors import BadRow, DataError, RefusedError, UsageError
from hkdcli.scenes.records import FACTUALITY_QUESTION, HALLUCINATION_QUESTION, VERDICTS

Label = Literal["True", "False", "Partially True", "Not Verifiable"]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class CaptionRequest:
    """Which phrases of a caption does the picture contradict?

    `phrases` None proposes them (`propose_phrases`). More than 25 phrases are refused, since no one question
    holds them: ask in several requests. `question` is what the caption answers, empty where it answers none.
    """

    image: ImageInput
    caption: str
    phrases: Sequence[str] | None = None
    question: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ClaimRequest:
    """Is a claim true, given the picture and the context?"""

    image: ImageInput
    claim: str
    context: str = ""


@dataclass(frozen=True, slots=True)
class PhraseVerdict:
    """A phrase, the probability that it is hallucinated, and whether the answer says so."""

    text: str
    probability: float
    hallucinated: bool


@dataclass(frozen=True, slots=True)
class CaptionVerdict:
    """What the detector says of a caption.

    Attributes:
        caption: As it was given.
        question: As it was given.
        phrases: In the order of the request. Each probability is a marginal of the posterior over all sets
            of phrases; `hallucinated` is the set that was decoded from it.
        clean: Probability that no phrase is hallucinated.
        confidence: Probability of exactly the decoded set.
        flip_rate: Share of the orders in which the phrases were shown whose own answer is another set.
        approximate: A beam chose the sets that were scored: there were too many for all.
        abstained: The answer is too uncertain to be given: no phrase is called hallucinated, and none clean.
    """

    caption: str
    question: str
    phrases: tuple[PhraseVerdict, ...]
    clean: float
    confidence: float
    flip_rate: float
    approximate: bool = False
    abstained: bool = False

    @property
    def hallucinated(self) -> tuple[str, ...]:
        """The phrases that are called hallucinated."""
        return tuple(phrase.text for phrase in self.phrases if phrase.hallucinated)

    def to_json(self) -> dict[str, Any]:
        """Everything as a JSON object."""
        return {**asdict(self), "hallucinated": list(self.hallucinated)}


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """What the detector says of a claim.

    Attributes:
        claim: As it was given.
        context: As it was given.
        label: The answer; None where it is too uncertain to be given.
        probabilities: Of each label, in the challenge's order; they sum to 1.
        confidence: Probability of the answer, given or not.
        flip_rate: Share of the orders in which the labels were shown whose own answer is another.
        truncated: The context was too long for the model and was shortened.
    """

    claim: str
    context: str
    label: Label | None
    probabilities: Mapping[Label, float]
    confidence: float
    flip_rate: float
    truncated: bool = False

    @property
    def abstained(self) -> bool:
        """Whether the answer is too uncertain to be given."""
        return self.label is None

    def to_json(self) -> dict[str, Any]:
        """Everything as a JSON object."""
        return {**asdict(self), "abstained": self.abstained}


def build_caption_example(name: str, request: CaptionRequest) -> Example:
    """Ask about a caption in the challenge's words.

    Where no phrases are given and none are found, the caption is asked about as a whole.

    Args:
        name: Id of the record and name of its image.
        request: What to ask.

    Returns:
        The record: "No hallucination" is A, the phrases follow in their order.

    Raises:
        DataError: The request cannot be asked; the codes are those of a record of a file.
    """
    phrases, caption = request.phrases, request.caption
    if phrases is None:
        phrases = (isinstance(caption, str) and propose_phrases(caption)) or (caption,)
    if isinstance(phrases, str) or not isinstance(phrases, Iterable):
        kind = type(phrases).__name__
        row = BadRow("record.wrong_type", name, "request", f"phrases is a {kind}, not a sequence of phrases")
        raise DataError("the request cannot be asked", [row])
    texts = {"system1_answer": caption, "system1_question": request.question}
    return _parse(name, {**texts, "system2_question": HALLUCINATION_QUESTION}, [NO_HALLUCINATION, *phrases])


def build_claim_example(name: str, request: ClaimRequest) -> Example:
    """Ask about a claim in the challenge's words; raises DataError as `build_caption_example` does."""
    texts = {"claim": request.claim, "context": request.context, "question": FACTUALITY_QUESTION}
    return _parse(name, texts, VERDICTS)


def read_caption_verdict(example: Example, row: Row) -> CaptionVerdict:
    """Read the row of predictions that answers a caption's record."""
    marginals, decoded = row["marginals"], row["prediction"] or ()
    none, *phrases = example.choices
    return CaptionVerdict(
        caption=example.caption,
        question=example.caption_question,
        phrases=tuple(PhraseVerdict(p.text, marginals[p.id], p.id in decoded) for p in phrases),
        clean=marginals[none.id],
        confidence=row["confidence"],
        flip_rate=row["flip_rate"],
        approximate=bool(row.get("approximate")),
        abstained=row["status"] == "abstain",
    )


def read_claim_verdict(example: Example, row: Row) -> ClaimVerdict:
    """Read the row of predictions that answers a claim's record."""
    labels: dict[str, Any] = {choice.id: choice.text for choice in example.choices}
    answered = row["status"] == "ok"
    return ClaimVerdict(
        claim=example.claim,
        context=example.context,
        label=labels[row["prediction"][0]] if answered else None,
        probabilities={labels[choice_id]: p for choice_id, p in row["marginals"].items()},
        confidence=row["confidence"],
        flip_rate=row["flip_rate"],
        truncated=bool(row.get("truncated")),
    )


def read_refusal(row: Row) -> RefusedError:
    """The error of a row that answers nothing."""
    error = row["error"]
    bad = BadRow(error["code"], row["id"], "request", error["detail"], error["hint"])
    return ImageError(bad) if bad.code.startswith("image.") else DataError("a request was refused", [bad])


@dataclass(frozen=True, slots=True)
class Subject:
    """What evidence is sought for: that the answer to `example` holds a choice, or (not affirmed) lacks it.

    `verdict` says it in words; `probability` is that of the picture as it is.
    """

    example: Example
    choice_id: str
    is_affirmed: bool
    verdict: str
    probability: float


def choose_subject(verdict: CaptionVerdict | ClaimVerdict, phrase: str | None) -> Subject:
    """Choose what of a verdict to explain.

    Args:
        verdict: Of a caption or a claim.
        phrase: One of the caption's; None is the one most probably hallucinated.

    Returns:
        That the phrase is hallucinated, or is not, as the verdict says; or that the claim's label is right.
        Where the detector abstained, what is the more probable.

    Raises:
        UsageError: The verdict is none, or about no such phrase.
    """
    if not isinstance(verdict, (CaptionVerdict, ClaimVerdict)):
        hint = "Give what check_caption or check_claim returned."
        raise UsageError(f"a {type(verdict).__name__} is no verdict", hint=hint)
    if isinstance(verdict, ClaimVerdict):
        if phrase is not None:
            raise UsageError("a claim is explained as a whole", hint="Leave phrase out.")
        best, _ = max(verdict.probabilities.items(), key=lambda item: item[1])
        label = verdict.label or best
        example = build_claim_example("0", ClaimRequest(b"", verdict.claim, verdict.context))
        choice_id = example.choices[VERDICTS.index(label)].id
        return Subject(example, choice_id, True, f"the claim is {label}", verdict.probabilities[label])
    texts = [each.text for each in verdict.phrases]
    if phrase is not None and phrase not in texts:
        raise UsageError(f"the verdict has no phrase {phrase!r}", hint=f"It has: {', '.join(texts)}.")
    suspicion = [each.probability for each in verdict.phrases]
    index = suspicion.index(max(suspicion)) if phrase is None else texts.index(phrase)
    chosen = verdict.phrases[index]
    example = build_caption_example("0", CaptionRequest(b"", verdict.caption, texts, verdict.question))
    is_affirmed = chosen.probability >= 0.5 if verdict.abstained else chosen.hallucinated
    said = f"{chosen.text!r} is {'' if is_affirmed else 'not '}hallucinated"
    probability = chosen.probability if is_affirmed else 1 - chosen.probability
    return Subject(example, example.choices[index + 1].id, is_affirmed, said, probability)


def _parse(name: str, texts: Mapping[str, str], choices: Sequence[str]) -> Example:
    """Through the reader of records, whose limits and codes then hold here too."""
    lettered = [{"id": LETTERS[i % len(LETTERS)], "choice": text} for i, text in enumerate(choices)]
    example = parse_row({"id": name, "image_id": name, "choices": lettered, **texts}, "request")
    if isinstance(example, BadRow):
        raise DataError("the request cannot be asked", [example])
    return example
