"""A loaded model as a Python object: checks captions and claims against pictures, one or many at a time.

    from hkdcli import Detector

    detector = Detector.load("runs/x", shift=True)
    verdict = detector.check_caption("cat.jpg", "A cat on a red mat.")
    verdict.hallucinated                                  # ("red mat",)
    detector.explain("cat.jpg", verdict).write("why.png")

Several threads may share a detector: they wait for each other, since tokenizers and models answer one at a
time. Processes load their own, after they were started.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hkdcli.data.datasets import Dataset
from hkdcli.data.given_images import GivenImages, ImageInput, load_given_image
from hkdcli.data.images import ImagePolicy
from hkdcli.data.records import Example
from hkdcli.errors import BadRow, DataError, RefusedError, UsageError
from hkdcli.given_options import check_given
from hkdcli.inference.evidence import Evidence, compute_evidence
from hkdcli.inferring import InferOptions, build_judge
from hkdcli.opening import find_model
from hkdcli.reporter import SILENT, Reporter
from hkdcli.scorers import load_scorer
from hkdcli.verdicts import (
    CaptionRequest,
    CaptionVerdict,
    ClaimRequest,
    ClaimVerdict,
    Row,
    build_caption_example,
    build_claim_example,
    choose_subject,
    read_caption_verdict,
    read_claim_verdict,
    read_refusal,
)

if TYPE_CHECKING:
    from hkdcli.data.records import Task
    from hkdcli.runtime import DeviceName

AnswerRecords = Callable[[Dataset, Sequence[Example]], Sequence[Row]]
"""Rows of predictions for some records of a dataset, one each and in order."""

T = TypeVar("T")
Request = TypeVar("Request", CaptionRequest, ClaimRequest)
Verdict = TypeVar("Verdict", CaptionVerdict, ClaimVerdict)


class Detector:
    """Checks captions and claims against pictures.

    Args:
        answer: What answers records; `Detector.load` makes it of a model.
        batch_size: How many requests are answered at once.
        policy: What pictures are accepted; None is the policy of `hkd infer`.
    """

    def __init__(
        self, answer: AnswerRecords, *, batch_size: int = 8, policy: ImagePolicy | None = None
    ) -> None:
        self._answer = answer
        self._batch_size = batch_size
        self._policy = policy or ImagePolicy()
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        level: str | None = None,
        base: str | None = None,
        shift: bool = False,
        shifts: int | None = None,
        abstain_below: float | None = None,
        device: DeviceName = "auto",
        batch_size: int = 8,
        policy: ImagePolicy | None = None,
    ) -> Detector:
        """Load a model as `hkd infer` does, with its calibration where it has one.

        Args:
            model: A run folder, model folder, hub id or scenes:NAME.
            level: A level of the run; None is the distilled base.
            base: Where an adapter's base model is, should it have moved.
            shift: Show the choices in every cyclic order and average.
            shifts: Show them in this many orders instead.
            abstain_below: Give no answer less probable than this, in [0, 1]; None always answers.
            device: `auto` takes a usable GPU where there is one; the model stays on its device.
            batch_size: How many requests are answered at once, at least 1.
            policy: What pictures are accepted; None is the policy of `hkd infer`.

        Returns:
            The detector. What cannot be found or loaded raises as `find_model` and `load_model` say.

        Raises:
            UsageError: Both `shift` and `shifts`; or as `open` raises.
        """
        if shift and shifts is not None:
            raise UsageError(
                "shift and shifts exclude each other",
                hint="Give one of them: shift uses every order, shifts as many as it says.",
            )
        orders = 1 if shifts is None else shifts
        options = InferOptions(
            level=level, base=base, shifts=None if shift else orders, abstain_below=abstain_below
        )
        return cls.open(str(model), options, device=device, batch_size=batch_size, policy=policy)

    @classmethod
    def open(
        cls,
        model: str,
        options: InferOptions,
        *,
        tasks: Collection[Task] | None = None,
        device: DeviceName = "auto",
        batch_size: int = 8,
        policy: ImagePolicy | None = None,
        reporter: Reporter | None = None,
    ) -> Detector:
        """Load a model with all that the options of `hkd infer` say about asking and answering.

        Args:
            model: A run folder, model folder, hub id or scenes:NAME.
            options: How to predict.
            tasks: Those that will be asked about; None: both that the options can be kept for.
            device: `auto` takes a usable GPU where there is one.
            batch_size: How many requests are answered at once, at least 1.
            policy: What pictures are accepted; None is the policy of `hkd infer`.
            reporter: Told what it runs on, and why a calibration is left out.

        Returns:
            The detector. What cannot be meant (a number out of range or of another kind, an unknown device)
            raises `UsageError` before anything is loaded.
        """
        check_given(options, device, batch_size, policy)
        answer = _build_answer(model, options, tasks, device, reporter or SILENT)
        return cls(answer, batch_size=batch_size, policy=policy)

    def check_caption(
        self, image: ImageInput, caption: str, phrases: Sequence[str] | None = None, *, question: str = ""
    ) -> CaptionVerdict:
        """Find the phrases of a caption that a picture contradicts.

        Args:
            image: A path, bytes of an image file, PIL image or numpy array (`ImageInput`).
            caption: What is judged.
            phrases: 1 to 25 parts of it to judge; None proposes them (`propose_phrases`).
            question: What the caption answers, empty where it answers none.

        Returns:
            The verdict. `ImageError` for the picture, `DataError` for the texts: `.row` and `.rows` have the
            codes.
        """
        return _get(self.check_captions([CaptionRequest(image, caption, phrases, question)])[0])

    def check_claim(self, image: ImageInput, claim: str, context: str = "") -> ClaimVerdict:
        """Say whether a claim is true, given a picture and a context.

        Args:
            image: As in `check_caption`.
            claim: What is judged.
            context: Text that belongs to the picture, empty where there is none.

        Returns:
            The verdict, or errors as of `check_caption`.
        """
        return _get(self.check_claims([ClaimRequest(image, claim, context)])[0])

    def check_captions(self, requests: Iterable[CaptionRequest]) -> list[CaptionVerdict | RefusedError]:
        """Check many captions, `batch_size` at once.

        Args:
            requests: What to check, read to its end first; pictures are opened batch by batch.

        Returns:
            For each request its verdict, or the `ImageError` or `DataError` why there is none (of the code
            `request.wrong_type` where it is no `CaptionRequest`): returned, not raised, so that no request is
            lost through another. What fails for all is raised: `ModelError` where the model gives NaN,
            `MachineLimitError` where memory runs out.
        """
        return self._check(requests, CaptionRequest, build_caption_example, read_caption_verdict)

    def check_claims(self, requests: Iterable[ClaimRequest]) -> list[ClaimVerdict | RefusedError]:
        """Check many claims; as `check_captions`."""
        return self._check(requests, ClaimRequest, build_claim_example, read_claim_verdict)

    def explain(
        self,
        image: ImageInput,
        verdict: CaptionVerdict | ClaimVerdict,
        *,
        phrase: str | None = None,
        grid: int = 7,
    ) -> Evidence:
        """Show which parts of a picture a verdict rests on; asks about 1 + grid^2 pictures.

        Args:
            image: The picture of the verdict.
            verdict: What was said of it; `choose_subject` says what evidence is then sought for.
            phrase: The phrase of a caption; None is the one most probably hallucinated.
            grid: Cells along each side, a whole number of at least 1.

        Returns:
            The map; see `compute_evidence`. `ImageError` where the picture cannot be used, `UsageError` where
            verdict, phrase or grid cannot.
        """
        subject, loaded = choose_subject(verdict, phrase), load_given_image(image, self._policy)

        def score(pictures: Sequence[ImageInput]) -> list[float]:
            examples = [replace(subject.example, id=str(i), image=str(i)) for i in range(len(pictures))]
            marginals = [_get(row)["marginals"][subject.choice_id] for row in self._ask(pictures, examples)]
            return [p if subject.is_affirmed else 1 - p for p in marginals]

        values = compute_evidence(loaded.image, score, grid=grid, batch_size=self._batch_size)
        return Evidence(subject.verdict, subject.probability, values, loaded.image)

    def _check(
        self,
        requests: Iterable[Request],
        kind: type[Request],
        build: Callable[[str, Request], Example],
        read: Callable[[Example, Row], Verdict],
    ) -> list[Verdict | RefusedError]:
        requests = list(requests)
        examples = [_build_or_refuse(kind, build, str(i), request) for i, request in enumerate(requests)]
        usable = [example for example in examples if isinstance(example, Example)]
        pictures = [request.image if isinstance(request, kind) else b"" for request in requests]
        rows = iter(self._ask(pictures, usable))
        results: list[Verdict | RefusedError] = []
        for example in examples:
            if isinstance(example, DataError):
                results.append(example)
                continue
            row = next(rows)
            results.append(row if isinstance(row, RefusedError) else read(example, row))
        return results

    def _ask(self, pictures: Sequence[ImageInput], examples: Sequence[Example]) -> list[Row | RefusedError]:
        """Rows for examples whose `image` is the index of their picture."""
        images = GivenImages(pictures, self._policy)
        dataset = Dataset("requests", tuple(examples), images)
        rows: list[Row | RefusedError] = []
        for start in range(0, len(examples), self._batch_size):
            batch = examples[start : start + self._batch_size]
            with self._lock:
                answered = self._answer(dataset, batch)
            for example, row in zip(batch, answered, strict=True):
                failed = row["status"] == "error"
                rows.append(images.refused.get(example.image) or read_refusal(row) if failed else row)
        return rows


def _build_answer(
    model: str, options: InferOptions, tasks: Collection[Task] | None, device: DeviceName, reporter: Reporter
) -> AnswerRecords:
    from hkdcli.inference.predict import answer_examples
    from hkdcli.inference.rows import RunHashes

    source = find_model(model, options.level)
    scorer = load_scorer(source, base=options.base, device=device, reporter=reporter)
    judge = build_judge(source, scorer, options, tasks, reporter)
    hashes = RunHashes(scorer.prompt_hash, {})  # rows of no file
    return lambda dataset, examples: answer_examples(dataset, examples, judge, hashes)


def _build_or_refuse(
    kind: type[Request], build: Callable[[str, Request], Example], name: str, request: Request
) -> Example | DataError:
    if not isinstance(request, kind):
        detail = f"a {type(request).__name__} is no {kind.__name__}"
        row = BadRow("request.wrong_type", name, "request", detail, f"give a {kind.__name__}")
        return DataError("the request cannot be asked", [row])
    try:
        return build(name, request)
    except DataError as error:
        return error


def _get(result: T | RefusedError) -> T:
    if isinstance(result, RefusedError):
        raise result
    return result
