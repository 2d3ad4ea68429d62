"""Policies: which operations are drawn how often, and how strong they are.

probability   light  standard  strong     what is drawn
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hkdcli.augment.operations import Evidence, get_operations
from hkdcli.errors import UsageError

PolicyName = Literal["light", "standard", "strong"]

OWN_PROBABILITY = 0.5
"""Of an operation that a user has added, under every policy."""
_STRENGTHS: dict[PolicyName, float] = {"light": 0.4, "standard": 0.7, "strong": 1.0}
# Of each operation, under light, standard and strong.
_PROBABILITIES: dict[str, tuple[float, float, float]] = {
    "swap_object": (0.0, 0.25, 0.4),
    "swap_attribute": (0.0, 0.25, 0.4),
    "swap_relation": (0.0, 0.25, 0.4),
    "repair": (0.0, 0.25, 0.4),
    "question": (0.3, 0.5, 0.8),
    "instruction": (0.3, 0.5, 0.8),
    "context_order": (0.3, 0.5, 0.5),
    "context_drop": (0.0, 0.3, 0.5),
    "brightness": (0.3, 0.5, 0.8),
    "contrast": (0.3, 0.5, 0.8),
    "saturation": (0.3, 0.5, 0.8),
    "hue": (0.0, 0.3, 0.5),
    "blur": (0.1, 0.2, 0.4),
    "noise": (0.1, 0.2, 0.4),
    "jpeg": (0.1, 0.2, 0.4),
    "rescale": (0.1, 0.2, 0.4),
    "crop": (0.0, 0.3, 0.5),
    "flip": (0.5, 0.5, 0.5),
    # Where every record came in another order, a small model learned no verdicts: docs/results/benchmarks.md.
    "order": (0.5, 0.5, 0.5),
    "letters": (0.0, 0.0, 0.2),
}
_COLUMNS: tuple[PolicyName, ...] = ("light", "standard", "strong")


@dataclass(frozen=True, slots=True)
class Policy:
    """How variants are drawn.

    Attributes:
        probabilities: of each operation, by name, from 0 to 1; what is not named is not drawn.
        strength: of the operations, above 0 up to 1.
        evidence: how a swap has to be known to be false.
    """

    probabilities: Mapping[str, float]
    strength: float
    evidence: Evidence = "listed"


def build_policy(
    name: PolicyName, changes: Mapping[str, float] | None = None, *, evidence: Evidence = "listed"
) -> Policy:
    """Build a policy from a named one.

    Args:
        name: the policy to begin with.
        changes: other probabilities, by the name of the operation; 0 leaves one out.
        evidence: how a swap has to be known to be false.

    Returns:
        The policy, with every operation that is registered.

    Raises:
        UsageError: a change names no operation.
    """
    column = _COLUMNS.index(name)
    known = get_operations()
    probabilities = {each: _PROBABILITIES.get(each, (OWN_PROBABILITY,) * 3)[column] for each in known}
    for each, probability in (changes or {}).items():
        if each not in known:
            near = difflib.get_close_matches(each, known, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"no operation is called {each}{meant}", hint=f"There are: {', '.join(known)}.")
        probabilities[each] = probability
    return Policy(probabilities, _STRENGTHS[name], evidence)
