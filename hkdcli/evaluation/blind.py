"""What the images add: a model's scores beside those of the same model with every image blanked."""

from __future__ import annotations

from collections.abc import Mapping

from hkdcli.evaluation.intervals import compute_gains, render_intervals, resample_gains
from hkdcli.evaluation.join import Table
from hkdcli.evaluation.resampling import Bootstrap, count_images, find_intervals
from hkdcli.evaluation.results import Blind, GainOfTask, Intervals, Results
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
    whole = (join_tallies(list(control.values())), join_tallies(list(sees.values())))
    return Blind(
        metrics=blind.metrics,
        gain=dict(compute_gains(*whole)),
        gain_intervals=_draw_intervals(*whole, bootstrap),
        tasks={
            task: GainOfTask(
                metrics=blind.tasks[task].metrics,
                gain=dict(compute_gains(control[task], sees[task])),
                gain_intervals=_draw_intervals(control[task], sees[task], bootstrap),
            )
            for task in sees
        },
    )


def _draw_intervals(first: Tally, second: Tally, bootstrap: Bootstrap | None) -> Intervals:
    if bootstrap is None:
        return {}
    drawn = resample_gains(first, second, bootstrap)
    return render_intervals(find_intervals(drawn, bootstrap.level, count_images(first)))
