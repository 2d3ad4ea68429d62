"""What one dataset gives away of another, and where one contradicts itself, told by pixels."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from hkdcli.data.datasets import Dataset, ImageScan, scan_images
from hkdcli.data.records import Example
from hkdcli.errors import BadRow


@dataclass(frozen=True, slots=True)
class Leak:
    """What test shares with train.

    Attributes:
        shared_ids: Ids that stand in both, in test order.
        shared_images: Ids of the test examples whose pixels train has seen, under whatever name.
        leak_rate: Share of the test examples that are in either, 0 to 1.
        rows: One `data.leak` row per such example.
        unread: How many images of test cannot be loaded, so that nobody knows whether train has them.
    """

    shared_ids: tuple[str, ...]
    shared_images: tuple[str, ...]
    leak_rate: float
    rows: tuple[BadRow, ...] = ()
    unread: int = 0


def compute_leak(
    train: Dataset, test: Dataset, *, train_scan: ImageScan | None = None, test_scan: ImageScan | None = None
) -> Leak:
    """Find the test examples whose id or pixels train has seen.

    Args:
        train: What is learned from; its images are all loaded once.
        test: What is measured on; likewise. Images that cannot be loaded are never shared.
        train_scan: What `scan_images` found in train; None scans it now.
        test_scan: What it found in test; None scans it now.

    Returns:
        The overlap; a rate of 0 where there is none or test is empty.
    """
    known_ids = {example.id for example in train.examples}
    known_pixels = set((train_scan or scan_images(train)).pixel_hashes.values())
    scan = test_scan or scan_images(test)
    pixels = scan.pixel_hashes
    by_id = [each.id for each in test.examples if each.id in known_ids]
    by_pixels = [each.id for each in test.examples if pixels.get(each.image) in known_pixels]
    reasons = dict.fromkeys(by_id, f"its id is in {train.name}")
    reasons |= dict.fromkeys(by_pixels, f"its image is in {train.name}")
    rows = tuple(
        BadRow("data.leak", each.id, test.name, reasons[each.id])
        for each in test.examples
        if each.id in reasons
    )
    return Leak(
        tuple(by_id), tuple(by_pixels), len(rows) / max(1, len(test.examples)), rows, len(scan.bad_rows)
    )


def find_conflicts(dataset: Dataset, scan: ImageScan | None = None) -> tuple[BadRow, ...]:
    """Find examples that ask the same of the same pixels and disagree on the answer.

    Args:
        dataset: What to look through.
        scan: What `scan_images` found in it; None scans it now.

    Returns:
        One `data.conflict` row per example that contradicts an earlier one.
    """
    detail = "the same question about the same pixels as {}, another answer"
    return tuple(
        BadRow("data.conflict", again.id, dataset.name, detail.format(first.id))
        for first, again in _pair_repeated(dataset, scan)
        if _collect_gold(first) != _collect_gold(again)
    )


def find_duplicates(dataset: Dataset, scan: ImageScan | None = None) -> tuple[BadRow, ...]:
    """Find examples that ask the same of the same pixels and agree on the answer.

    Args:
        dataset: What to look through.
        scan: What `scan_images` found in it; None scans it now.

    Returns:
        One `data.duplicate` row per example that repeats an earlier one.
    """
    return tuple(
        BadRow("data.duplicate", again.id, dataset.name, f"the same record as {first.id}")
        for first, again in _pair_repeated(dataset, scan)
        if _collect_gold(first) == _collect_gold(again)
    )


def _pair_repeated(dataset: Dataset, scan: ImageScan | None) -> Iterator[tuple[Example, Example]]:
    """Each labelled example that asks what an earlier one asks of the same pixels, behind that one."""
    pixels = (scan or scan_images(dataset)).pixel_hashes
    first: dict[Hashable, Example] = {}
    for example in dataset.examples:
        if example.answer is None or example.image not in pixels:
            continue
        texts = frozenset(choice.text for choice in example.choices)
        asked = (example.task, example.question, example.caption, example.claim, example.context, texts)
        earlier = first.setdefault((pixels[example.image], asked), example)
        if earlier is not example:
            yield earlier, example


def _collect_gold(example: Example) -> frozenset[str]:
    return frozenset(choice.text for choice in example.choices if choice.id in (example.answer or ()))
