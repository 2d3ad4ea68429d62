"""Records: which cannot be used, which say something twice or against each other, and what they give away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from hkdcli.data.datasets import Dataset, ImageScan, scan_images
from hkdcli.data.leaks import compute_leak, find_conflicts, find_duplicates
from hkdcli.data.records import Example
from hkdcli.data.refusals import render_first_ids
from hkdcli.doctor.examination import Examination, Finding
from hkdcli.errors import BadRow

if TYPE_CHECKING:
    from hkdcli.evaluation.join import Table

_CHECKS = ("images", "sizes", "duplicates", "conflict", "gold", "classes", "constant")


def examine_records(
    examination: Examination,
    dataset: Dataset,
    prefix: str = "data",
    *,
    needs_gold: bool = False,
    max_bad: float = 0.0,
) -> ImageScan | None:
    """Check records and their images; every image is loaded once.

    Args:
        examination: Told what was found.
        dataset: The records, with the rows that are none in `bad_rows`.
        prefix: What the names of the checks begin with.
        needs_gold: Whether they are to be learned from, or measured on.
        max_bad: The share of bad rows that whoever uses them leaves out, in [0, 1]: more is a failure.

    Returns:
        What loading the images showed; None where that itself failed.
    """
    examination.look(f"{prefix}.rows", check_rows, dataset, max_bad)
    scan: ImageScan | None = examination.look(f"{prefix}.images", check_images, dataset, max_bad)
    if scan is None:
        examination.skip([f"{prefix}.{name}" for name in _CHECKS[1:4]], "the images could not be looked at")
    else:
        examination.look(f"{prefix}.sizes", describe_sizes, scan)
        examination.look(f"{prefix}.duplicates", check_duplicates, dataset, scan)
        examination.look(f"{prefix}.conflict", check_conflicts, dataset, scan)
    examination.look(f"{prefix}.gold", check_gold, dataset.examples, needs_gold=needs_gold)
    examination.look(f"{prefix}.classes", check_classes, dataset.examples)
    examination.look(f"{prefix}.constant", describe_constant, dataset.examples)
    return scan


def check_rows(dataset: Dataset, max_bad: float = 0.0) -> Finding:
    """Which rows of the file are no records; no failure up to the share `max_bad` of them."""
    total = len(dataset.examples) + len(dataset.bad_rows)
    if dataset.bad_rows:
        found = f"{len(dataset.bad_rows)} of {total} rows cannot be used: {_list(dataset.bad_rows)}"
        hint = _first_hint(dataset.bad_rows) or "Correct them, or let them be left out (on_bad)."
        return Finding(found, "failed" if len(dataset.bad_rows) > max_bad * total else "warning", hint)
    tasks = Counter(example.task for example in dataset.examples)
    found = f"{total} records: " + ", ".join(f"{count} {task}" for task, count in tasks.items())
    if dataset.warnings:
        return Finding(f"{found}; {'; '.join(dataset.warnings)}", "warning", "See that this is meant.")
    return Finding(found)


def check_images(dataset: Dataset, max_bad: float = 0.0) -> Finding:
    """Load every image once; the value is what that showed. `max_bad` as of `check_rows`."""
    scan = scan_images(dataset)
    count = len(scan.pixel_hashes) + len(scan.bad_rows)
    noted = ", ".join(f"{note} {times}" for note, times in sorted(scan.notes.items()))
    noted = f"; noted: {noted}" if noted else ""
    if scan.bad_rows:
        rows = list(scan.bad_rows.values())
        found = f"{len(rows)} of {count} images cannot be used: {_list(rows)}{noted}"
        lost = len(dataset.bad_rows) + sum(example.image in scan.bad_rows for example in dataset.examples)
        is_much = lost > max_bad * (len(dataset.bad_rows) + len(dataset.examples))
        hint = _first_hint(rows) or "Replace them, or let their records be left out (on_bad)."
        return Finding(found, "failed" if is_much else "warning", hint, scan)
    alike = count - len(set(scan.pixel_hashes.values()))
    same = f", {alike} of them copies of another" if alike else ""
    return Finding(f"{count} images load{same}{noted}", value=scan)


def describe_sizes(scan: ImageScan) -> Finding:
    """Sizes and aspects of the images that load, as a model sees them."""
    if not scan.sizes:
        return Finding("no image loads", "skipped")
    sides = sorted(scan.sizes.values(), key=lambda size: size[0] * size[1])
    aspects = [max(size) / min(size) for size in sides]
    shown = [f"{width} x {height}" for width, height in (sides[0], sides[len(sides) // 2], sides[-1])]
    return Finding(
        f"smallest {shown[0]}, median {shown[1]}, largest {shown[2]} px; long side over short side: median "
        f"{median(aspects):.2f}, at most {max(aspects):.2f}"
    )


def check_duplicates(dataset: Dataset, scan: ImageScan) -> Finding:
    """Records that stand more than once under different ids."""
    rows = find_duplicates(dataset, scan)
    if rows:
        hint = "Each counts once more in training and in scores: keep one of each."
        return Finding(f"{len(rows)} records repeat another: {_name_first(rows)}", "warning", hint)
    return Finding("no record stands twice")


def check_conflicts(dataset: Dataset, scan: ImageScan) -> Finding:
    """Records that ask the same of the same pixels and have another answer."""
    rows = find_conflicts(dataset, scan)
    if rows:
        hint = "One of each pair is wrong: look at both, and correct or drop one."
        return Finding(f"{len(rows)} records contradict another: {_name_first(rows)}", "warning", hint)
    return Finding("no two records contradict each other")


def check_leak(
    known: Dataset, known_scan: ImageScan | None, dataset: Dataset, scan: ImageScan | None
) -> Finding:
    """Records whose id or pixels are also in other records.

    Args:
        known: The other records: those of training.
        known_scan: Of its images.
        dataset: The records that are looked at.
        scan: Of its images.

    Returns:
        A warning where there are some.
    """
    leak = compute_leak(known, dataset, train_scan=known_scan, test_scan=scan)
    if leak.rows:
        found = (
            f"{leak.leak_rate:.1%} of the records are known from {known.name}: {len(leak.shared_ids)} by id, "
            f"{len(leak.shared_images)} by image: {_name_first(leak.rows)}"
        )
        return Finding(found, "warning", "Scores on them are too high: leave them out of one of the two.")
    return Finding(f"shares neither ids nor images with {known.name}")


def check_gold(examples: Sequence[Example], *, needs_gold: bool) -> Finding:
    """How many records have no gold answer."""
    without = [example for example in examples if example.answer is None]
    if not without:
        return Finding("every record has a gold answer")
    found = f"{len(without)} of {len(examples)} records have no gold answer"
    if needs_gold:
        return Finding(found, "failed", "correct_choice holds the gold letters.")
    if len(without) == len(examples):
        return Finding(f"{found}: they can be predicted, not scored")
    return Finding(found, "warning", "Scoring needs all of them: correct_choice holds the gold letters.")


def check_classes(examples: Sequence[Example]) -> Finding:
    """How the gold answers are spread over the classes."""
    tables = _build_tables(examples)
    if not tables:
        return Finding("no record has a gold answer", "skipped")
    said, lonely = [], []
    for task, table in tables.items():
        counts = Counter(_name_classes(table))
        shares = (f"{name} {count / counts.total():.0%}" for name, count in counts.most_common())
        said.append(f"{task}: {', '.join(shares)}")
        lonely += [task] if len(counts) == 1 and counts.total() > 1 else []
    if lonely:
        hint = "Nothing can be learned from, or measured on, one answer alone."
        return Finding("; ".join(said), "warning", hint)
    return Finding("; ".join(said))


def describe_constant(examples: Sequence[Example]) -> Finding:
    """What one reaches without looking at an image."""
    from hkdcli.evaluation.baseline import find_best_constant

    tables = _build_tables(examples)
    if not tables:
        return Finding("no record has a gold answer", "skipped")
    best = {task: find_best_constant(table) for task, table in tables.items()}
    return Finding(
        "; ".join(
            f"{task}: {each.name} has micro-F1 {each.confusion.f1 or 0:.3f}" for task, each in best.items()
        )
    )


def _build_tables(examples: Sequence[Example]) -> Mapping[str, Table]:
    """Labelled records by task."""
    from hkdcli.evaluation.join import build_table

    labelled = [example for example in examples if example.answer is not None]
    tasks = dict.fromkeys(example.task for example in labelled)
    return {task: build_table([each for each in labelled if each.task == task], {}) for task in tasks}


def _name_classes(table: Table) -> list[str]:
    """The class of each gold choice."""
    return [table.labels[label] for label in table.label[table.gold]]


def _list(rows: Iterable[BadRow]) -> str:
    return "; ".join(render_first_ids(rows))


def _name_first(rows: Sequence[BadRow]) -> str:
    shown = ", ".join(f"{row.id} ({row.detail})" for row in rows[:3])
    return shown + (" ..." if len(rows) > 3 else "")


def _first_hint(rows: Sequence[BadRow]) -> str:
    return next((row.hint for row in rows if row.hint), "")
