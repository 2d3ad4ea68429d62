"""The arms of the ablation: which recipe, changed in what, and whose student it goes on from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hkdcli.recipe import Recipe, RunRecipe
from hkdcli.recipe_file import read_recipe
from hkdcli.recipe_refine import RefineRecipe

RECIPES = Path(__file__).parents[1] / "recipes" / "scenes"
KINDS: Mapping[str, type[RunRecipe]] = {"online": Recipe, "refine": RefineRecipe}

Stage = Literal["online", "refine"]

_JUDGE = '{name: large, model: "scenes:large", adapter: "scenes:large-tuned", quantization: nf4, train: null}'
_SMALL = '{name: small, model: "scenes:small", tuning: full}'
_MEDIUM = '{name: medium, model: "scenes:medium", tuning: full, train: {learning_rate: 5e-4}}'
# A larger model as the judge was tuned: adapters on four bits.
_LARGE = '{name: large, model: "scenes:large", quantization: nf4, tuning: {lora: {rank: 32, alpha: 64}}}'
_ABOVE = '{name: medium, model: "<medium, taught>", train: null}'
# The tiny models know 80 words, so paraphrases are left out. Choices of captions stand in any order already.
VARIANTS = "augment={policy: standard, probabilities: {question: 0, instruction: 0, order: 0}}"


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: what the tables call it.
        stage: which of the two recipes in recipes/scenes it changes.
        steps: optimizer steps of the student.
        changes: to that recipe; `<NAME>` is the run of the arm of that name and the same seed.
    """

    name: str
    stage: Stage
    steps: int
    changes: tuple[str, ...] = ()

    def list_changes(self, seed: int, folders: Mapping[str, Path]) -> tuple[str, ...]:
        """All changes to the recipe, with the runs that it goes on from.

        Args:
            seed: of training records and order.
            folders: run folder of each earlier arm, by its name.

        Returns:
            `key=value` texts.
        """
        check = {"online": "distill", "refine": "refine"}[self.stage]
        drawn = (f"seed={seed}", f"data.train.scenes.seed={seed}", "data.test=null")
        # An arm may turn out to teach badly; that is for the table to say.
        changes = (
            *drawn,
            f"{check}.teacher_check.on_fail=warn",
            f"train.max_steps={self.steps}",
            *self.changes,
        )
        for name, folder in folders.items():
            changes = tuple(each.replace(f"<{name}>", str(folder)) for each in changes)
        return changes

    def hash_settings(self, seed: int) -> str:
        """A hash of all that decides what the arm trains, but for the runs that it goes on from."""
        recipe = read_recipe(self.path, KINDS[self.stage], self.list_changes(seed, {}))
        return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:16]

    @property
    def start(self) -> str | None:
        """The arm whose student it goes on from; None: it begins with a pretrained one."""
        found = re.search(r"^pyramid\.small\.model=<(.+)>$", "\n".join(self.changes), re.MULTILINE)
        return found[1] if found else None

    @property
    def path(self) -> Path:
        """The recipe that it changes."""
        return RECIPES / f"{self.stage}.yaml"


def _train_one(level: str) -> tuple[str, ...]:
    return (f"pyramid=[{level}]",)


def _refine(start: str, store: str = "signals") -> tuple[str, ...]:
    return (f"pyramid.small.model=<{start}>", f"refine.store=<{start}>-{store}")


def build_chains(online: int, refine: int, compute: Mapping[str, int]) -> tuple[tuple[Arm, ...], ...]:
    """All arms, in chains: an arm goes on from earlier arms of its own chain alone.

    Args:
        online: steps of stage one where stage two follows.
        refine: steps of stage two.
        compute: steps of each arm that is stopped at equal compute, by its name.

    Returns:
        Chains that may be trained side by side, those that matter most first.
    """
    both, stage_one = online + refine, "online, short"
    return (
        (
            Arm("medium, labels", "online", both, _train_one(_MEDIUM)),
            Arm("labels", "online", both, _train_one(_SMALL)),
            Arm("labels, variants", "online", both, (*_train_one(_SMALL), VARIANTS)),
        ),
        (
            Arm(stage_one, "online", online),
            Arm("online, refine", "refine", refine, _refine(stage_one)),
            Arm("without feature", "refine", refine, (*_refine(stage_one), "refine.feature=null")),
            Arm("without relation", "refine", refine, (*_refine(stage_one), "refine.relation=null")),
            # Less is stored of each answer where no response is compared: that arm has a store of its own.
            Arm(
                "without response", "refine", refine, (*_refine(stage_one, "states"), "refine.response=null")
            ),
        ),
        (Arm("online", "online", both),),
        (
            Arm("online, short, variants", "online", online, (VARIANTS,)),
            Arm(
                "online, refine, variants",
                "refine",
                refine,
                ("pyramid.small.model=<online, short, variants>", VARIANTS, "refine.signals=live"),
            ),
        ),
        (Arm("online, variants", "online", both, (VARIANTS,)),),
        (Arm("large, labels", "online", both, _train_one(_LARGE)),),
        *_build_compute(compute),
        _build_teachers(online),
        (
            Arm("labels, short", "online", online, _train_one(_SMALL)),
            Arm("choices alone", "online", online, ("distill.choice_weight=1",)),
            Arm("tokens alone", "online", online, ("distill.choice_weight=0",)),
        ),
    )


def _build_teachers(online: int) -> tuple[Arm, ...]:
    return (
        Arm("medium, taught", "online", online, (f"pyramid=[{_JUDGE}, {_MEDIUM}]",)),
        Arm("teachers: parent", "online", online, (f"pyramid=[{_ABOVE}, {_SMALL}]",)),
        Arm(
            "teachers: all",
            "online",
            online,
            (f"pyramid=[{_JUDGE}, {_ABOVE}, {_SMALL}]", "distill.teachers=all"),
        ),
        Arm(
            "teachers: parent, mutual",
            "online",
            online,
            (f"pyramid=[{_ABOVE.replace('}', ', tuning: full}')}, {_SMALL}]", "distill.mutual=true"),
        ),
    )


def _build_compute(steps: Mapping[str, int]) -> Sequence[tuple[Arm, ...]]:
    changes: dict[str, tuple[str, ...]] = {
        "large, labels, as dear": _train_one(_LARGE),
        "medium, labels, as dear": _train_one(_MEDIUM),
        "labels, as dear": _train_one(_SMALL),
        "labels, variants, as dear": (*_train_one(_SMALL), VARIANTS),
        "online, as dear": (),
        "online, variants, as dear": (VARIANTS,),
    }
    return [(Arm(name, "online", steps[name], each),) for name, each in changes.items() if name in steps]
