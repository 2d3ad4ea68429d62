"""One picture and one text: the verdict as a person reads it, and what in the picture it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hkdcli.errors import UsageError
from hkdcli.inferring import InferOptions
from hkdcli.outcome import Outcome, Table
from hkdcli.reporter import SILENT, Reporter

if TYPE_CHECKING:
    from hkdcli.data.records import Task
    from hkdcli.verdicts import CaptionVerdict, ClaimVerdict

_BAR = 10  # characters that probability 1 is drawn with


@dataclass(frozen=True, slots=True)
class PictureQuestion:
    """A picture with either a caption (and phrases of it, or those that are proposed) or a claim."""

    image: Path
    caption: str | None = None
    phrases: tuple[str, ...] | None = None
    claim: str | None = None
    context: str = ""


def infer_picture(
    model: str,
    question: PictureQuestion,
    options: InferOptions,
    *,
    evidence: Path | None = None,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Judge a caption or a claim, and draw what the verdict rests on where that is wanted.

    Args:
        model: A run folder, model folder, hub id or scenes:NAME.
        question: What to judge.
        options: How to ask.
        evidence: The PNG to draw the evidence into; null draws nothing.
        reporter: Told what it runs on.

    Returns:
        The verdict.

    Raises:
        UsageError: Another engine than the built-in one was asked for.
    """
    if options.engine != "transformers":
        raise UsageError("--engine vllm is for many records", hint="Leave it out for one picture.")
    from hkdcli.detector import Detector

    task: Task = "factuality" if question.caption is None else "hallucination"
    size = options.batch_size or 8
    detector = Detector.open(model, options, tasks=(task,), batch_size=size, reporter=reporter)
    verdict: CaptionVerdict | ClaimVerdict
    if question.caption is not None:
        verdict = detector.check_caption(question.image, question.caption, question.phrases)
        outcome = _show_caption(verdict)
    else:
        verdict = detector.check_claim(question.image, question.claim or "", question.context)
        outcome = _show_claim(verdict)
    if evidence is None:
        return outcome
    found = detector.explain(question.image, verdict)
    found.write(evidence)
    reporter.note(f"{evidence}: where the picture speaks for (red) and against (blue): {found.verdict}")
    drawn: dict[str, Any] = {"evidence": {"file": str(evidence), "verdict": found.verdict}}
    return Outcome({**outcome.document, **drawn}, outcome.tables, outcome.text)


def _show_caption(verdict: CaptionVerdict) -> Outcome:
    said = {True: "hallucinated", False: "-"} if not verdict.abstained else dict.fromkeys((True, False), "?")
    rows = [
        (phrase.text, f"{phrase.probability:.3f}", _draw_bar(phrase.probability), said[phrase.hallucinated])
        for phrase in verdict.phrases
    ]
    rows.append(("(no hallucination)", f"{verdict.clean:.3f}", _draw_bar(verdict.clean), ""))
    found = ", ".join(verdict.hallucinated) or "none"
    lines = [f"Hallucinated: {'too uncertain to say' if verdict.abstained else found}"]
    lines.append(_tell_certainty(verdict.confidence, verdict.flip_rate, verdict.approximate))
    table = Table("Phrases", ("phrase", "probability", "", "verdict"), rows)
    return Outcome(verdict.to_json(), [table], "\n".join(lines))


def _show_claim(verdict: ClaimVerdict) -> Outcome:
    rows = [(label, f"{p:.3f}", _draw_bar(p)) for label, p in verdict.probabilities.items()]
    lines = [f"The claim is: {verdict.label or 'too uncertain to say'}"]
    lines.append(_tell_certainty(verdict.confidence, verdict.flip_rate, False))
    return Outcome(verdict.to_json(), [Table("Labels", ("label", "probability", ""), rows)], "\n".join(lines))


def _tell_certainty(confidence: float, flip_rate: float, approximate: bool) -> str:
    said = f"confidence {confidence:.3f}"
    said += f", {flip_rate:.0%} of the shifts say something else" if flip_rate else ""
    return said + (", approximate: too many phrases for all sets" if approximate else "")


def _draw_bar(probability: float) -> str:
    return ("#" * round(_BAR * probability)).ljust(_BAR, ".")
