"""How a level answers a dataset during a run: to watch dev, and to check a teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hkdcli.data.datasets import Dataset
from hkdcli.evaluation.predictions import Prediction
from hkdcli.inference.asking import Judge
from hkdcli.inference.predict import answer_examples
from hkdcli.inference.rows import RunHashes
from hkdcli.inference.scoring import Scorer


def answer_all(scorer: Scorer, data: Dataset, batch_size: int) -> list[Prediction]:
    """Answer every record, as `hkd infer` does without a shift.

    Args:
        scorer: model and prompt.
        data: what to answer.
        batch_size: records at once.

    Returns:
        One prediction per record, in their order.
    """
    judge, no_file = Judge(scorer), RunHashes("", {})  # these rows go nowhere
    return [
        Prediction(row["id"], frozenset(row["prediction"] or ()))
        for start in range(0, len(data.examples), batch_size)
        for row in answer_examples(data, data.examples[start : start + batch_size], judge, no_file)
    ]


def take_sample(data: Dataset, size: int) -> Dataset:
    """The same random records every time, in their order.

    Args:
        data: at least one record.
        size: how many; all where there are fewer.

    Returns:
        The dataset with these records.
    """
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(data.examples))
    return replace(data, examples=tuple(data.examples[place] for place in sorted(order[:size])))
