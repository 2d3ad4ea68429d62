"""What a dataset of variants came to: operations applied and refused, and the classes before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """Counts of the lines of a manifest."""

    records: int = 0
    variants: int = 0
    left_out: int = 0
    applied: Counter[str] = field(default_factory=Counter)
    refused: dict[str, Counter[str]] = field(default_factory=dict)
    before: dict[str, Counter[str]] = field(default_factory=dict)
    after: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count one line."""
        task, label = entry["task"], str(entry["class"])
        if entry["copy"] == 0:
            self.records += 1
            self.before.setdefault(task, Counter())[label] += 1
        else:
            self.variants += entry["written"]
            self.left_out += not entry["written"]
        if entry["written"]:
            self.after.setdefault(task, Counter())[label] += 1
        self.applied.update(list(entry["applied"]))
        for name, reason in entry["refused"].items():
            self.refused.setdefault(name, Counter())[reason] += 1

    def to_json(self) -> dict[str, Any]:
        """Plain values; for each operation the five commonest reasons for which it left records alone."""
        names = sorted({*self.applied, *self.refused})
        return {
            "records": self.records,
            "variants": self.variants,
            "left_out": self.left_out,
            "operations": {
                name: {
                    "applied": self.applied[name],
                    "refused": sum(self.refused.get(name, Counter()).values()),
                    "reasons": dict(self.refused.get(name, Counter()).most_common(5)),
                }
                for name in names
            },
            "classes_before": {task: dict(sorted(found.items())) for task, found in self.before.items()},
            "classes_after": {task: dict(sorted(found.items())) for task, found in self.after.items()},
        }
