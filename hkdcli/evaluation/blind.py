"""What the images add: a model's scores beside those of the same model with every image blanked."""

from __future__ import annotations

from collections.abc import Mapping

from hkdcli.evaluation.intervals import compute_gains, render_intervals, resample_gains
from hkdcli.evaluation.join import Table
from hkdcli.evaluation.resampling import Bootstrap, find_intervals
from hkdcli.evaluation.results import Blind, BlindTask, Results
from hkdcli.evaluation.tally import Tally, join_tallies, tally_records


def compare_blind(
    tables: Mapping[str, Table],
    blind_tables: Mapping[str, Table],
    blind: Results,
    bootstrap: Bootstrap | None,
) -> Blind:
    """Say what each score gains over the blind one, with paired intervals.

    Args:
        tables: gold and predictions by task.
        blind_tables: the same records with the predictions of `hkd infer --blind`.
        blind: the scores of these.
        bootstrap: how intervals are drawn; None: there are none.

    Returns:
        The block of the results.
    """
    sees = {task: tally_records(table) for task, table in tables.items()}
    control = {task: tally_records(table) for task, table in blind_tables.items()}
    whole = _gain(join_tallies(list(control.values())), join_tallies(list(sees.values())), bootstrap)
    tasks = {task: _gain(control[task], sees[task], bootstrap) for task in sees}
    return Blind(
        metrics=blind.metrics,
        tasks={task: BlindTask(metrics=blind.tasks[task].metrics, **gain) for task, gain in tasks.items()},
        **whole,
    )


def _gain(first: Tally, second: Tally, bootstrap: Bootstrap | None) -> dict[str, object]:
    intervals = {}
    if bootstrap is not None:
        drawn = resample_gains(first, second, bootstrap)
        intervals = render_intervals(find_intervals(drawn, bootstrap.level))
    return {"gain": compute_gains(first, second), "gain_intervals": intervals}
