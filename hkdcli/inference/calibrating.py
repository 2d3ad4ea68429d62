"""Calibration of a model on labelled records: asked, fitted, and ready for calibration.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from hkdcli.data.datasets import Dataset, hash_examples
from hkdcli.data.examples import Example
from hkdcli.data.records import Task
from hkdcli.errors import BadRow, DataError
from hkdcli.inference.asking import Asking, Judge
from hkdcli.inference.calibration import MIN_RECORDS, Labelled, fit_task, split_ids
from hkdcli.inference.calibration_file import AskedHow, Fit
from hkdcli.inference.decode import Array, Decoding, Posterior, build_posterior, decode_map
from hkdcli.inference.judging import Answered
from hkdcli.inference.letter_prior import CycledRecord, estimate_letter_prior, remove_letter_prior
from hkdcli.inference.rounds import ask_all
from hkdcli.inference.scored import AnyScorer
from hkdcli.inference.task_fit import TaskFit
from hkdcli.reporter import Reporter

Said = list[tuple[Example, Answered]]


def fit_judge(
    dataset: Dataset,
    scorer: AnyScorer,
    asking: Asking,
    *,
    decoding: Decoding | None = None,
    batch_size: int | None = 8,
    workers: int = 0,
    reporter: Reporter,
) -> Fit:
    """Ask about labelled records, and fit what turns the answers into calibrated ones.

    To divide out a letter prior, records are asked under every shift; what is fitted then is their first
    order without that prior.

    Args:
        dataset: the records of one or both tasks.
        scorer: the model.
        asking: how it will be asked later.
        decoding: how it will decode; None chooses, see `fit_task`.
        batch_size: records at once; None: as many as memory holds.
        workers: processes that load images ahead.
        reporter: told of progress, and of records that failed.

    Returns:
        The fit, of every task that has enough records.

    Raises:
        DataError: no record has an answer, or no task enough of them, and no letter prior was asked for.
    """
    needs_prior = asking.debias == "prior"
    if not needs_prior and all(example.answer is None for example in dataset.examples):
        raise DataError(
            f"{dataset.name}: no record has an answer to calibrate on",
            hint="Give records with correct_choice.",
        )
    asked = replace(asking, shifts=None, debias="none") if needs_prior else asking
    said = _ask(dataset, Judge(scorer, asked), batch_size, workers, reporter)
    tasks, priors = _fit_tasks(said, decoding, needs_prior=needs_prior, reporter=reporter)
    if needs_prior and not priors:
        raise DataError(f"{dataset.name}: no record tells a letter prior", hint="Give other records.")
    if not tasks and not priors:
        raise DataError(
            f"{dataset.name}: no task has {MIN_RECORDS} labelled records to calibrate on",
            hint="Give more with a gold answer; some hundred make it reliable.",
        )
    return Fit(
        asking=AskedHow(**asdict(asking)),
        tasks=tasks,
        letter_prior=priors,
        data=dataset.name,
        data_hash=hash_examples(dataset.examples),
    )


def _fit_tasks(
    said: Said, decoding: Decoding | None, *, needs_prior: bool, reporter: Reporter
) -> tuple[dict[Task, TaskFit], dict[Task, dict[int, tuple[float, ...]]]]:
    """The fits and the letter priors by task, of the tasks that have one."""
    tasks: dict[Task, TaskFit] = {}
    priors: dict[Task, dict[int, tuple[float, ...]]] = {}
    for task in sorted({example.task for example, _ in said}):
        own = [(example, answered) for example, answered in said if example.task == task]
        wanted = None if task == "factuality" else decoding
        fit, prior = _fit_one(task, own, wanted, needs_prior=needs_prior, reporter=reporter)
        if fit is not None:
            tasks[task] = fit
        if prior:
            priors[task] = {count: tuple(map(float, logs)) for count, logs in prior.items()}
    return tasks, priors


def _fit_one(
    task: Task, said: Said, decoding: Decoding | None, *, needs_prior: bool, reporter: Reporter
) -> tuple[TaskFit | None, dict[int, Array] | None]:
    """The fit of a task, None where its labelled records are too few; and its letter prior, where needed."""
    # What is counted on the test half must have had no part in anything that is fitted.
    _, test_ids = split_ids(example.id for example, _ in said if example.answer)
    prior = _estimate_prior([each for each in said if each[0].id not in test_ids]) if needs_prior else None
    labelled = _label_all(said, prior, reporter)
    if prior:
        _compare(task, [each for each in said if each[0].id in test_ids], labelled, reporter)
    if len(labelled) < MIN_RECORDS:
        if labelled:
            reporter.warn(f"{task}: {len(labelled)} labelled records are too few; it stays uncalibrated")
        return None, prior
    fit = fit_task(task, labelled, decoding=decoding)
    if fit.nll_after > fit.nll_before or fit.exact_match_after < fit.exact_match_before:
        reporter.warn(
            f"{task}: what was fitted is no better on the other half (see before and after); "
            "more labelled records would tell"
        )
    return fit, prior


def _ask(dataset: Dataset, judge: Judge, batch_size: int | None, workers: int, reporter: Reporter) -> Said:
    said: Said = []
    bad: list[BadRow] = list(dataset.bad_rows)
    reporter.start("calibrate", len(dataset.examples))
    asked = ask_all(
        judge, dataset.examples, dataset.images, batch_size=batch_size, workers=workers, reporter=reporter
    )
    try:
        for batch in asked:
            said += [(e, answered) for e, answered in batch if not isinstance(answered, BadRow)]
            bad += [row for _, row in batch if isinstance(row, BadRow)]
            reporter.advance(len(said) + len(bad))
    finally:
        reporter.finish()
    if not said:
        raise DataError(
            f"{dataset.name}: no record could be asked",
            bad,
            hint="Look at what is wrong with them: hkd doctor DATA.",
        )
    if bad:
        reporter.warn(f"{len(bad)} records could not be asked and are left out (first: {bad[0]})")
    return said


def _estimate_prior(said: Said) -> dict[int, Array]:
    return estimate_letter_prior(
        CycledRecord(answered.combined.posterior.answers, answered.log_probs, answered.shown)
        for _, answered in said
    )


def _compare(task: Task, said: Said, labelled: Sequence[Labelled], reporter: Reporter) -> None:
    """Warn where answers are worse without the prior than with it, on records that it was not taken from."""
    without = {item.id: decode_map(item.posterior) == item.gold for item in labelled}
    pairs = [
        (decode_map(build_posterior(a.combined.posterior.answers, a.log_probs[0])) == e.answer, without[e.id])
        for e, a in said
        if e.id in without
    ]
    before, after = (sum(each) for each in zip(*pairs, strict=True)) if pairs else (0, 0)
    if after < before:
        reporter.warn(
            f"{task}: dividing the letter prior out makes answers worse, {after} right instead of {before} "
            f"of {len(pairs)} that it was not taken from: leave --debias out"
        )


def _label_all(said: Said, prior: Mapping[int, Array] | None, reporter: Reporter) -> list[Labelled]:
    """The records that have an answer, less those whose number of choices the prior does not know."""
    labelled: list[Labelled] = []
    bad: list[BadRow] = []
    for example, answered in said:
        try:
            labelled += [_label(example, answered, prior)] if example.answer else []
        except DataError as error:
            bad += error.rows
    if bad:
        reporter.warn(f"{len(bad)} labelled records are left out of the fit (first: {bad[0]})")
    return labelled


def _label(example: Example, answered: Answered, prior: Mapping[int, Array] | None) -> Labelled:
    posterior = answered.combined.posterior
    if prior is not None:
        posterior = _remove(answered, posterior, prior)
    return Labelled(example.id, posterior, example.answer or frozenset(), example.none_id)


def _remove(answered: Answered, posterior: Posterior, prior: Mapping[int, Array]) -> Posterior:
    """What the first order says without the prior."""
    first = remove_letter_prior(posterior.answers, answered.log_probs[:1], answered.shown[:1], prior)
    return build_posterior(posterior.answers, first[0])
