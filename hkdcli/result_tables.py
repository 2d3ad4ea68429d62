"""Scores and comparisons as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hkdcli.evaluation import HEADLINE
from hkdcli.outcome import Table
from hkdcli.tables import render_figure, tabulate

if TYPE_CHECKING:
    from hkdcli.evaluation.comparison import ComparedPart, Comparison, Difference, Flips
    from hkdcli.evaluation.results import GainOfTask, Results, ScoredPart

COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)  # rows of the table; the document has all
SHOWN_CHANGES = 20


def tabulate_results(results: Results) -> list[Table]:
    """The scores of all tasks side by side; then classes, kinds of choices, slices, and what was counted."""
    blocks: dict[str, ScoredPart] = {"all": results, **results.tasks}
    names = list(results.metrics)
    rows = [[name, *(_render_score(block, name) for block in blocks.values())] for name in names]
    classes = [
        [task, label, *(render_figure(values.get(name)) for name in ("precision", "recall", "f1", "support"))]
        for task, found in results.tasks.items()
        for label, values in found.per_class.items()
    ]
    return [
        Table("Scores", ("metric", *blocks), rows),
        Table("Per class", ("task", "class", "precision", "recall", "f1", "support"), classes),
        *_tabulate_phenomena(results),
        *_tabulate_slices(results),
        *_tabulate_risk(results),
        *_tabulate_parsing(results),
        *_tabulate_blind(results),
        tabulate("Counts", results.counts),
    ]


def tabulate_comparison(comparison: Comparison) -> list[Table]:
    """The headline scores of both with their differences, tests, flips, and the first changed records."""
    blocks: dict[str, ComparedPart] = {"all": comparison, **comparison.tasks}
    scores = [
        [part, name, *_render_difference(block.scores[name])]
        for part, block in blocks.items()
        for name in HEADLINE
        if name in block.scores
    ]
    tests = [
        [part, str(found.only_a), str(found.only_b), f"{found.p_value:.4f}"]
        for part, found in ((part, block.mcnemar) for part, block in blocks.items())
    ]
    flips = [[part, "", *_render_flips(block.flips)] for part, block in blocks.items()]
    flips += [
        [task, f"{key}: {value}", *_render_flips(found)]
        for task, block in comparison.tasks.items()
        for key, values in block.slices.items()
        for value, found in values.items()
    ]
    changed = [
        [each.change, each.id, _render_answer(each.gold), _render_answer(each.a), _render_answer(each.b)]
        for each in comparison.changed[:SHOWN_CHANGES]
    ]
    left = len(comparison.changed) - len(changed)
    more = f", the first {len(changed)} of {len(comparison.changed)}" if left else ""
    header = ("part", "score", "a", "b", "b - a", "95 %", "p", "detectable")
    return [
        Table("Scores", header, scores),
        Table("Exact match, McNemar", ("part", "only a", "only b", "p"), tests),
        Table("Flips", ("part", "slice", "records", "fixed", "broken", "other"), flips),
        *([Table(f"Changed records{more}", ("change", "id", "gold", "a", "b"), changed)] if changed else []),
    ]


def _render_score(block: Any, name: str) -> str:
    """A figure, with half the width of its interval where there is one."""
    interval = block.intervals.get(name)
    text = render_figure(block.metrics[name])
    return f"{text} ± {interval['half_width']:.3f}" if interval else text


def _tabulate_phenomena(results: Results) -> list[Table]:
    """Which kinds of choices are found, and which are suspected where they are true."""
    names = ("found_rate", "false_alarm_rate", "false_choices", "true_choices")
    rows = [
        [task, f"{key}: {value}", *(render_figure(found.get(name)) for name in names)]
        for task, block in results.tasks.items()
        for key, values in block.phenomena.items()
        for value, found in values.items()
    ]
    return [Table("Choices", ("task", "choices", *names), rows)] if rows else []


def _tabulate_slices(results: Results) -> list[Table]:
    rows = [
        [
            task,
            f"{key}: {value}",
            _render_half(found),
            render_figure(found["exact_match"]),
            str(found["records"]),
        ]
        for task, block in results.tasks.items()
        for key, values in block.slices.items()
        for value, found in values.items()
    ]
    return [Table("Slices", ("task", "slice", "micro_f1", "exact_match", "records"), rows)] if rows else []


def _render_half(found: Mapping[str, Any]) -> str:
    interval, text = found["interval"], render_figure(found["micro_f1"])
    return f"{text} ± {interval['half_width']:.3f}" if interval else text


def _tabulate_risk(results: Results) -> list[Table]:
    """How many of the most confident answers are wrong, at some coverages; nothing without confidences."""
    blocks: dict[str, ScoredPart] = {"all": results, **results.tasks}
    shown = {
        name: {point["coverage"]: point["risk"] for point in block.risk_coverage}
        for name, block in blocks.items()
        if block.risk_coverage
    }
    rows = [
        [f"{coverage:.2f}", *(render_figure(risks.get(coverage)) for risks in shown.values())]
        for coverage in COVERAGES
    ]
    return [Table("Risk among the most confident", ("coverage", *shown), rows)] if shown else []


def _tabulate_parsing(results: Results) -> list[Table]:
    parsing = results.parsing
    if parsing is None:
        return []
    rows = [
        [name, f"{unparsed} of {parsing.texts}", render_figure(micro_f1)]
        for name, unparsed, micro_f1 in (
            ("strict", parsing.strict_unparsed, parsing.strict_micro_f1),
            ("lenient", parsing.lenient_unparsed, parsing.lenient_micro_f1),
        )
    ]
    title = f"Answers that are text, scored as the {parsing.parser} parser reads them"
    return [Table(title, ("parser", "unparsed", "micro_f1"), rows)]


def _tabulate_blind(results: Results) -> list[Table]:
    blind = results.blind
    if blind is None:
        return []
    rows = []
    blocks: dict[str, GainOfTask] = {"all": blind, **blind.tasks}
    for part, found in blocks.items():
        for name in HEADLINE:
            if found.gain.get(name) is not None:
                interval = found.gain_intervals.get(name)
                half = f" ± {interval['half_width']:.3f}" if interval else ""
                scores: Mapping[str, Any] = found.metrics
                rows.append([part, name, render_figure(scores[name]), f"{found.gain[name]:+.3f}{half}"])
    return [Table("What the images add", ("part", "score", "blind", "gain"), rows)]


def _render_difference(found: Difference) -> list[str]:
    interval = found.interval
    return [
        render_figure(found.a),
        render_figure(found.b),
        "-" if found.difference is None else f"{found.difference:+.3f}",
        f"{interval['low']:+.3f} to {interval['high']:+.3f}" if interval else "-",
        "-" if found.p_value is None else f"{found.p_value:.4f}",
        render_figure(found.smallest_detectable),
    ]


def _render_flips(flips: Flips) -> list[str]:
    return [str(each) for each in (flips.records, flips.fixed, flips.broken, flips.other)]


def _render_answer(answer: list[str] | None) -> str:
    return "-" if answer is None else ", ".join(answer)
