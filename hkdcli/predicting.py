"""The ways in which `hkd infer` works: a file, a stream, several processes; and shards put together again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.errors import EXIT_SOME_RECORDS_FAILED, UsageError
from hkdcli.inferring import InferOptions, open_judge
from hkdcli.launch import launch
from hkdcli.locks import hold_lock
from hkdcli.opening import DataOptions, open_data
from hkdcli.outcome import Outcome
from hkdcli.ranks import find_place
from hkdcli.reporter import Reporter
from hkdcli.runs import check_output
from hkdcli.tables import tabulate

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset


@dataclass(frozen=True, slots=True)
class Output:
    """Where predictions go, and what is done with what is there."""

    path: Path
    resume: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Refuse what is there, unless it was said what to do with it; make its folder."""
        check_output(self.path, resume=self.resume, overwrite=self.overwrite)
        self.path.parent.mkdir(parents=True, exist_ok=True)


def predict_file(
    model: str,
    data: DataOptions,
    options: InferOptions,
    output: Output,
    *,
    shard: tuple[int, int] = (0, 1),
    reporter: Reporter,
) -> Outcome:
    """Write a row for every record of a file, or of a share of it.

    Args:
        model: As in `open_judge`.
        data: The records.
        options: How to predict.
        output: The file of rows. One of several processes writes its own, see `predict_in_processes`.
        shard: (index, count): only this share of the records.
        reporter: Told about progress.

    Returns:
        Counts.
    """
    place = find_place()
    if place.size > 1:
        shard, output = (place.rank, place.size), Output(_name_part(output.path, *shard_of(place)), True)
    output.check()
    from hkdcli.data.datasets import take_shard

    dataset = take_shard(open_data(data, reporter), *shard)
    with hold_lock(output.path.with_name(f".{output.path.name}.lock")):
        from hkdcli.inference.predict import predict

        tasks = {example.task for example in dataset.examples}
        with open_judge(model, options, tasks, reporter) as judge:
            if output.overwrite:
                output.path.unlink(missing_ok=True)
            summary = predict(
                dataset,
                judge,
                out=output.path,
                resume=output.resume,
                batch_size=options.batch_size,
                workers=options.choose_workers(judge.scorer),
                reporter=reporter,
            )
    counts = summary.to_json()
    return Outcome(counts, tables=[tabulate(str(output.path), counts)], failed_records=summary.failed)
