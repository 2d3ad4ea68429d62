"""The bootstrap over images: what a score would have been, had other images of their kind been drawn.

All records of an image are drawn together, since they are right and wrong together (clustered bootstrap). A
resample draws as many images as there are, with replacement. Images with equal counts are exchangeable, so
what is drawn is how often each *kind* of image occurs: one multinomial over the kinds is the same
distribution as drawing the images one by one, and its price does not grow with the number of images.

Dimension letters:
    R  records     G  images
    K  kinds of images, those with equal counts     C  columns of counts
    B  resamples
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from hkdcli.evaluation.calibration import Floats
from hkdcli.evaluation.join import Ints
from hkdcli.evaluation.results import MIN_IMAGES, BootstrapUsed, IntervalOf
from hkdcli.evaluation.tally import Tally

_CHUNK_BYTES = 64 * 2**20
_KINDS_PER_IMAGE = 1 / 10  # above this share a multinomial costs more than drawing the images themselves


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are drawn: `resamples` of all images, from `seed`, and the middle `level` of them."""

    resamples: int = 10_000
    seed: int = 0
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the middle `level` of the resampled scores lie; `half_width` is half the distance."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """What stands behind the ±."""
        return (self.high - self.low) / 2

    def to_json(self) -> IntervalOf:
        """As the results hold it."""
        return {"low": self.low, "high": self.high, "half_width": self.half_width}


def count_images(tally: Tally) -> int:
    """How many different images the records of a tally have."""
    return len(set(tally.images))


def describe_bootstrap(bootstrap: Bootstrap, tally: Tally) -> BootstrapUsed:
    """Say how the intervals of a tally are drawn, as the documents hold it."""
    return BootstrapUsed(
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
        level=bootstrap.level,
        images=count_images(tally),
    )


def resample(
    tally: Tally,
    score: Callable[[Mapping[str, Floats]], Mapping[str, Floats]],
    bootstrap: Bootstrap,
) -> dict[str, Floats]:
    """Score many resamples of a tally.

    Args:
        tally: of at least one record.
        score: a formula over summed columns.
        bootstrap: how many resamples, and the seed. Equal tallies give equal resamples, whatever the order
            of their records.

    Returns:
        What `score` says of each resample, [B]; NaN where it is undefined.
    """
    names = sorted(tally.columns)
    kinds, sizes = _find_kinds(tally, names)
    parts = []
    for weights in _draw_weights(sizes, bootstrap):
        sums = weights @ kinds
        parts.append(score({name: sums[:, place] for place, name in enumerate(names)}))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def keep_defined(values: Floats) -> Floats:
    """The resampled scores that are not NaN, or none of them where fewer than half are not."""
    defined = values[~np.isnan(values)]
    return defined if 2 * len(defined) >= len(values) else defined[:0]


def find_interval(values: Floats, level: float, images: int) -> Interval | None:
    """The expanded percentile interval of resampled scores, those that are undefined left out.

    Resamples of G images spread too little, by sqrt((G - 1) / G), and a spread that is itself estimated asks
    for Student's t in place of the normal distribution. So the interval reaches as much further into the
    tails (Hesterberg, arXiv 1411.5279); with many images the middle `level` of the resamples lie in it.

    Args:
        values: [B].
        level: how often the interval should hold the true score, in (0, 1).
        images: how many images were drawn from, G, at least 1.

    Returns:
        The interval; None of fewer than `MIN_IMAGES` images, where fewer than half of the resamples are
        defined, or all are equal: then
        resampling these images says nothing of others.
    """
    defined = keep_defined(values)
    if images < MIN_IMAGES or not len(defined) or not np.ptp(defined) > 0:
        return None
    tail = ndtr(stdtrit(images - 1, (1 - level) / 2) * np.sqrt(images / (images - 1)))
    low, high = np.quantile(defined, [tail, 1 - tail]).tolist()
    return Interval(low, high)


def find_intervals(values: Mapping[str, Floats], level: float, images: int) -> dict[str, Interval | None]:
    """The interval of each resampled score, [B] each: see `find_interval`."""
    return {name: find_interval(each, level, images) for name, each in values.items()}


def _find_kinds(tally: Tally, names: list[str]) -> tuple[Floats, Ints]:
    """The different rows of counts of images, [K, C], and how many images have each, [K]; both sorted."""
    places = {image: place for place, image in enumerate(dict.fromkeys(tally.images))}
    image = np.array([places[name] for name in tally.images], np.int64)
    counts = np.stack([np.bincount(image, weights=tally.columns[name]) for name in names], axis=1)
    distinct, sizes = np.unique(counts.astype(np.int64), axis=0, return_counts=True)
    return distinct.astype(np.float64), sizes


def _draw_weights(sizes: Ints, bootstrap: Bootstrap) -> Iterator[Floats]:
    """How often each kind of image occurs in some of the resamples, [., K]."""
    rng = np.random.default_rng(bootstrap.seed)
    images, kinds = int(sizes.sum()), len(sizes)
    owners = np.repeat(np.arange(kinds), sizes)
    drawn_singly = kinds > _KINDS_PER_IMAGE * images
    step = max(1, _CHUNK_BYTES // (8 * (images if drawn_singly else kinds)))
    for start in range(0, bootstrap.resamples, step):
        count = min(step, bootstrap.resamples - start)
        if drawn_singly:
            drawn = owners[rng.integers(0, images, (count, images))]
            drawn += kinds * np.arange(count)[:, None]
            rows = np.bincount(drawn.ravel(), minlength=count * kinds)
            yield rows.reshape(count, kinds).astype(np.float64)
        else:
            yield rng.multinomial(images, sizes / images, size=count).astype(np.float64)
