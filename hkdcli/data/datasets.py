"""A dataset: examples, the images they speak of, and what to do about those that are bad."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from hkdcli.data.examples import Example, ReadResult, read_examples
from hkdcli.data.fact_file import read_facts
from hkdcli.data.facts import FactSource, NoFacts
from hkdcli.data.images import ImageError, ImageFolder, ImagePolicy, ImageSource
from hkdcli.data.refusals import render_first_ids
from hkdcli.data.rows import render_question, render_row
from hkdcli.errors import BadRow, DataError

_ENCODER = json.JSONEncoder(sort_keys=True, allow_nan=False)  # json.dumps would make one for each row

OnBad = Literal["error", "skip", "keep"]
_ADVICE = "Correct them, or leave out up to max_bad of them with on_bad: skip (--on-bad skip)."


@dataclass(frozen=True)
class Dataset:
    """Examples, the source that opens their images, and what is known of those beyond the records.

    `bad_rows` are the rows of the file that are no examples: empty after `on_bad="error"`; after
    "skip" they were left out, and after "keep" the caller owes an error row for each.
    """

    name: str
    examples: tuple[Example, ...]
    images: ImageSource
    bad_rows: tuple[BadRow, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: FactSource = field(default_factory=NoFacts)


def load_dataset(
    source: str | Path,
    *,
    images: Path | None = None,
    policy: ImagePolicy | None = None,
    on_bad: OnBad = "error",
    max_bad: float = 0.01,
    encoding: str = "utf-8",
    strict: bool = False,
    facts: Path | None = None,
) -> Dataset:
    """Read the records of a file or folder and open the folder of their images.

    Args:
        source: What `read_examples` reads.
        images: The image folder; by default `images/` beside the records where it holds them, else
            the folder of the records.
        policy: What the image loader accepts; None is the default policy.
        on_bad: Bad rows are an error once all rows were read ("error"), are left out ("skip"), or
            are handed on in `bad_rows` ("keep"). No row is ever put in another's place.
        max_bad: The largest share of bad rows that "skip" leaves out.
        encoding: Of JSON text.
        strict: Refuse records whose `correct_answer` and `correct_choice` disagree.
        facts: File of what is known of the images, as `read_facts` reads it; None: nothing is known.

    Returns:
        The dataset; no image was opened yet.

    Raises:
        DataError: The file is unusable, or its bad rows are more than `on_bad` permits. Two different
            records of one id are never permitted: predictions are joined by id.
    """
    source = Path(source)
    result = read_examples(source, encoding=encoding, strict=strict)
    _check_bad_rows(result, source.name, on_bad, max_bad)
    folder = images or find_image_folder(source, result.examples)
    if not folder.is_dir():
        row = BadRow("image.folder", "", str(folder), "no such image folder", "name it with --images DIR")
        raise DataError(f"{source.name}: its images cannot be found", [row])
    warnings = result.warnings
    if result.bad_rows and on_bad == "skip":
        warnings += (
            f"{len(result.bad_rows)} bad rows left out: {'; '.join(render_first_ids(result.bad_rows))}",
        )
    known = NoFacts() if facts is None else read_facts(facts)
    return Dataset(
        source.name, result.examples, ImageFolder(folder, policy), result.bad_rows, warnings, known
    )


def take_shard(dataset: Dataset, index: int, count: int) -> Dataset:
    """Every `count`-th record from the `index`-th on, which counts from 0: all shards are the dataset."""
    return replace(dataset, examples=dataset.examples[index::count], bad_rows=dataset.bad_rows[index::count])


def find_image_folder(source: Path, examples: Iterable[Example]) -> Path:
    """Choose between the folder of the records and its `images/`, by where the first images are."""
    beside = source if source.is_dir() else source.parent
    below = beside / "images"
    if not below.is_dir():
        return beside
    names = [example.image for example, _ in zip(examples, range(20), strict=False)]
    hits = {folder: sum(_is_file(folder, name) for name in names) for folder in (below, beside)}
    return beside if hits[beside] > hits[below] else below


def check_dataset(dataset: Dataset, *, need_answers: bool, check_images: bool) -> None:
    """Check what reading alone cannot know, and name everything found at once.

    Args:
        dataset: What to check.
        need_answers: Every example must have gold.
        check_images: Every image must load; each is decoded, each bad one is named once.

    Raises:
        DataError: With one row per example without gold (`record.no_answer`) and per bad image.
    """
    rows: list[BadRow] = []
    if need_answers:
        unlabelled = [example for example in dataset.examples if example.answer is None]
        if unlabelled and len(unlabelled) == len(dataset.examples):
            hint = "Write the gold letters of each record into its correct_choice."
            raise DataError(f"{dataset.name}: no gold in {len(unlabelled)} rows", hint=hint)
        rows += [BadRow("record.no_answer", each.id, dataset.name, "no gold") for each in unlabelled]
    if check_images:
        rows += scan_images(dataset).bad_rows.values()
    if rows:
        raise DataError(_render_refusal(dataset.name, rows, len(dataset.examples)), rows, hint=_ADVICE)


@dataclass(frozen=True, slots=True)
class ImageScan:
    """What loading every image once showed, by the image's name; and how often each note came.

    `sizes` are (width, height) in pixels as a model sees them.
    """

    pixel_hashes: Mapping[str, str]
    bad_rows: Mapping[str, BadRow]
    notes: Mapping[str, int]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def scan_images(dataset: Dataset) -> ImageScan:
    """Load every image of a dataset once.

    Args:
        dataset: Whose images.

    Returns:
        Pixel hashes and bad rows by image name, in the order of the examples. A bad row carries the
        id of the first example that needs the image.
    """
    hashes: dict[str, str] = {}
    bad_rows: dict[str, BadRow] = {}
    notes: Counter[str] = Counter()
    sizes: dict[str, tuple[int, int]] = {}
    for example in dataset.examples:
        if example.image in hashes or example.image in bad_rows:
            continue
        try:
            loaded = dataset.images.load(example.image)
        except ImageError as error:
            bad_rows[example.image] = replace(error.row, id=example.id)
        else:
            hashes[example.image] = loaded.pixel_hash
            sizes[example.image] = loaded.image.size
            notes.update(loaded.notes)
    return ImageScan(hashes, bad_rows, dict(notes), sizes)


def skip_bad_images(dataset: Dataset, *, max_bad: float = 0.01) -> Dataset:
    """Leave out the examples whose image cannot be loaded.

    Args:
        dataset: What `load_dataset(on_bad="skip")` returned.
        max_bad: The largest share of rows, bad ones of the file included, that may be left out.

    Returns:
        The rest, with the bad images among `bad_rows`.

    Raises:
        DataError: More than `max_bad` would be left out.
    """
    bad = scan_images(dataset).bad_rows
    lost = [replace(bad[each.image], id=each.id) for each in dataset.examples if each.image in bad]
    rows = (*dataset.bad_rows, *lost)
    total = len(dataset.examples) + len(dataset.bad_rows)
    if len(rows) > max_bad * total:
        raise DataError(_render_refusal(dataset.name, rows, total, max_bad), rows, hint=_ADVICE)
    kept = tuple(each for each in dataset.examples if each.image not in bad)
    more = (
        (f"{len(lost)} rows left out for their images: {'; '.join(render_first_ids(lost))}",) if lost else ()
    )
    return replace(dataset, examples=kept, bad_rows=rows, warnings=dataset.warnings + more)


def hash_examples(examples: Iterable[Example]) -> str:
    """Hash the content of rows, in order: sha256 hex, equal for every file form of the same rows."""
    digest = hashlib.sha256()
    for example in examples:
        text = _ENCODER.encode([example.task, render_row(example)])
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def hash_record(example: Example | None) -> str | None:
    """Sha256, shortened, of all that a record asks, its gold answer left out; null where it is not read."""
    if example is None:
        return None
    text = _ENCODER.encode([example.task, render_question(example)])
    return hashlib.sha256(text.encode() + b"\n").hexdigest()[:16]


def hash_facts(dataset: Dataset) -> str:
    """Hash what is known of the images of a dataset beyond its records: sha256 hex."""
    digest = hashlib.sha256()
    for name in dict.fromkeys(example.image for example in dataset.examples):
        facts = asdict(dataset.facts.get_facts(name))
        digest.update(json.dumps({**facts, "vocabulary": sorted(facts["vocabulary"])}).encode())
    return digest.hexdigest()


def _check_bad_rows(result: ReadResult, name: str, on_bad: OnBad, max_bad: float) -> None:
    rows, total = result.bad_rows, len(result.examples) + len(result.bad_rows)
    allowed = {"error": 0.0, "skip": max_bad, "keep": 1.0}[on_bad]
    ambiguous = any(row.code == "record.duplicate_id" for row in rows)
    if ambiguous or not result.examples or len(rows) > allowed * total:
        limit = max_bad if on_bad == "skip" else None
        advice = "Give each record an id of its own." if ambiguous else _ADVICE
        raise DataError(_render_refusal(name, rows, total, limit), rows, hint=advice)


def _render_refusal(name: str, rows: Iterable[BadRow], total: int, max_bad: float | None = None) -> str:
    rows = list(rows)
    limit = "" if max_bad is None else f" (at most {max_bad:.3g} of them may be left out)"
    lines = [f"{name}: {len(rows)} of {total} rows cannot be used{limit}", *render_first_ids(rows)]
    return "\n  ".join(lines)


def _is_file(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except (OSError, ValueError):
        return False
