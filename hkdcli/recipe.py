"""The recipe: everything that decides what a run computes, typed and documented field by field.

The sentence under a field is at once its entry in `docs/recipes.md`, its description in the JSON
Schema (`hkd schema`) and its comment in `recipe.resolved.yaml`. Unknown keys are refused, values are
not converted ("12" is no number), and a feature that is off is `null`.

Here is what concerns the pyramid; data, training loop, adapters and runtime are in `recipe_blocks`.
`recipe_file` turns YAML into a `Recipe`; only `engine` and the stages read one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from hkdcli.recipe_blocks import (
    Augment,
    Data,
    Fraction,
    LoraTuning,
    PositiveFloat,
    PositiveInt,
    Quantization,
    QuantizedParts,
    RecipePart,
    Runtime,
    Train,
    Tuning,
    build_problem,
)


class Level(RecipePart):
    """One model of the pyramid."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """Name of the level in logs, folders and `hkd infer --level`."""
    model: str = Field(min_length=1)
    """A folder, a run folder, a hub id with an optional @revision, or scenes:NAME for a bundled model."""
    level: str | None = Field(default=None, min_length=1)
    """Where `model` is a run folder: which of its levels; null is the run's student."""
    adapter: str | None = Field(default=None, min_length=1)
    """Trained adapter to put on the model: a folder, a hub id with an optional @revision, or scenes:NAME."""
    quantization: Quantization = "none"
    """Precision that the weights are held in."""
    quantized_parts: QuantizedParts = "language"
    """What is quantized: the language model, or vision tower and projector too; the head never is."""
    tuning: Tuning = Field(default_factory=LoraTuning)
    """How the level is trained: `full`, or `lora: {...}`."""
    weight: PositiveFloat = 1.0
    """How much the level counts where it is one of several teachers; weights are normalised."""
    train: Train | None = Field(default_factory=Train)
    """What differs from the top-level `train`; null means the level comes ready and is not trained."""

    @field_validator("quantized_parts")
    @classmethod
    def _check_parts(cls, parts: QuantizedParts, info: ValidationInfo) -> QuantizedParts:
        if parts == "all" and info.data.get("quantization") == "none":
            raise build_problem("nothing is quantized; give quantization: nf4 or int8, or leave it out")
        return parts

    @field_validator("tuning")
    @classmethod
    def _check_tuning(cls, tuning: Tuning, info: ValidationInfo) -> Tuning:
        if tuning == "full" and info.data.get("quantization", "none") != "none":
            raise build_problem(
                "quantized weights cannot be trained in full; use lora, or quantization: none"
            )
        if tuning == "full" and info.data.get("adapter") is not None:
            raise build_problem("a model with an adapter cannot be trained in full; use lora, or no adapter")
        quantized = (
            info.data.get("quantization", "none") != "none" and info.data.get("quantized_parts") == "all"
        )
        if quantized and tuning != "full" and tuning.lora.train_projector:
            raise build_problem(
                "a quantized projector cannot be trained (train_projector); use quantized_parts: language"
            )
        return tuning


class LambdaSchedule(RecipePart):
    """Weight of the teachers against the labels, lambda_t, over the steps of a level."""

    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Course from start to end."""
    start: Fraction = 0.5
    """Weight at the first step: 0 is labels alone, 1 is teachers alone."""
    end: Fraction | None = None
    """Weight at the last step; null with a constant schedule."""

    @field_validator("end")
    @classmethod
    def _check_end(cls, end: float | None, info: ValidationInfo) -> float | None:
        schedule, start = info.data.get("schedule"), info.data.get("start")
        if schedule in ("linear", "cosine") and end is None:
            raise build_problem(f"a {schedule} schedule needs an end")
        if schedule == "constant" and end is not None and end != start:
            raise build_problem("a constant schedule has no other end; use linear or cosine, or null")
        return end


class TeacherCheck(RecipePart):
    """What a teacher has to show before it teaches."""

    size: PositiveInt = 64
    """How many records of `data.dev` (`data.train` where there is no dev) every teacher answers."""
    on_fail: Literal["stop", "warn"] = "stop"
    """What a teacher no better than the best constant answer does: end the run (exit 6), or warn."""


class Divergence(RecipePart):
    """How two distributions are compared."""

    divergence: Literal["forward_kl", "reverse_kl", "jsd", "skew_kl"] = "forward_kl"
    """How far the student's distribution is from the teacher's."""
    beta: float | None = Field(default=None, ge=0, le=1)
    """Mixing weight of jsd and skew_kl; null with the others."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """Temperature on both sides."""
    scale_by_temperature: bool = True
    """Multiply the divergence by the temperature's square, so that its gradients keep their size."""

    @field_validator("beta")
    @classmethod
    def _check_beta(cls, beta: float | None, info: ValidationInfo) -> float | None:
        divergence = info.data.get("divergence")
        if divergence in ("jsd", "skew_kl") and beta is None:
            raise build_problem(f"{divergence} needs a number from 0 to 1")
        if divergence == "skew_kl" and beta == 1.0:
            raise build_problem("skew_kl with 1 compares the teacher with itself; use a number below 1")
        if divergence in ("forward_kl", "reverse_kl") and beta is not None:
            raise build_problem(f"{divergence} has no beta; use jsd or skew_kl, or null")
        return beta


class Distill(Divergence):
    """What a level learns from the levels above it."""

    teachers: Literal["parent", "all"] = "parent"
    """Who teaches a level: the one above it, or all above it by their `weight`."""
    mutual: bool = False
    """Let the level above learn too, from the labels and from the student; both are saved."""
    teacher_check: TeacherCheck | None = Field(default_factory=TeacherCheck)
    """Check of every teacher before a level is trained; null checks nothing."""
    top_k: PositiveInt | None = None
    """Compare the teacher's k likeliest tokens and the mass of all others as one; null compares them all."""
    choice_weight: Fraction = 0.5
    """alpha: 0 compares answer tokens, 1 the choice of the first letter, all that other tokenizers share."""
    lambda_: LambdaSchedule = Field(default_factory=LambdaSchedule, alias="lambda")
    """Weight of the teachers against the labels."""

    @field_validator("choice_weight")
    @classmethod
    def _check_top_k(cls, choice_weight: float, info: ValidationInfo) -> float:
        if choice_weight == 1.0 and info.data.get("top_k") is not None:
            raise build_problem("1 compares no tokens, so top_k does nothing; leave it out")
        return choice_weight


class RunRecipe(RecipePart):
    """What the recipes of both stages have in common."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Name of the run; its folder is runs/<name> unless --out says otherwise."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of data order, initialisation and dropout."""
    data: Data
    """The records of the run."""
    augment: Augment | None = None
    """Show records of `data.train` in a new variant each time they come; null shows them as they are."""
    train: Train = Field(default_factory=Train)
    """The training loop of every level, unless a level says otherwise."""
    pyramid: tuple[Level, ...] = Field(strict=False, json_schema_extra={"minItems": 1})
    """The levels, largest first (the apex), the one to deploy last; a single one learns from labels."""
    runtime: Runtime = Field(default_factory=Runtime)
    """Where and in which precision it runs."""

    @property
    def mutual(self) -> bool:
        """Whether a teacher learns beside its student."""
        return False

    @property
    def teacher_check(self) -> TeacherCheck | None:
        """Check of every teacher; None: none."""
        raise NotImplementedError

    @field_validator("train")
    @classmethod
    def _check_train(cls, train: Train, info: ValidationInfo) -> Train:
        return _checked(train, info.data.get("data"))

    @field_validator("pyramid")
    @classmethod
    def _check_pyramid(cls, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        if not levels:
            raise build_problem("a pyramid has at least one level")
        names = [level.name for level in levels]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise build_problem(f"level names must differ; used more than once: {', '.join(repeated)}")
        if levels[-1].train is None:
            raise build_problem("the last level is the one to distil; its train cannot be null")
        return levels

    @field_validator("pyramid")
    @classmethod
    def _fill_in_train(cls, levels: tuple[Level, ...], info: ValidationInfo) -> tuple[Level, ...]:
        """Give each trained level the whole settings: its own fields over the top-level ones."""
        if "train" not in info.data:
            return levels
        return tuple(_with_train(level, info.data["train"], info.data.get("data")) for level in levels)


class Recipe(RunRecipe):
    """A whole run of `hkd distill-online`."""

    distill: Distill = Field(default_factory=Distill)
    """What a level learns from the levels above it."""

    @property
    def mutual(self) -> bool:
        """Whether the level above learns beside its student."""
        return self.distill.mutual

    @property
    def teacher_check(self) -> TeacherCheck | None:
        """Check of every teacher; None: none."""
        return self.distill.teacher_check

    @field_validator("distill")
    @classmethod
    def _check_mutual(cls, distill: Distill, info: ValidationInfo) -> Distill:
        if distill.mutual and len(info.data.get("pyramid", "??")) == 1:
            raise build_problem("mutual needs a level above; this pyramid has one level")
        return distill


def _with_train(level: Level, shared: Train, data: Data | None) -> Level:
    if level.train is None:
        return level
    own = {field: getattr(level.train, field) for field in level.train.model_fields_set}
    train = _checked(shared.model_copy(update=own), data, f"level {level.name}: ")
    return level.model_copy(update={"train": train})


def _checked(train: Train, data: Data | None, where: str = "") -> Train:
    """Check what only the whole settings can tell: a level's block alone is not complete."""
    if train.warmup_steps > train.max_steps:
        raise build_problem(
            f"{where}warmup_steps ({train.warmup_steps}) is more than max_steps ({train.max_steps})"
        )
    if train.early_stopping is not None and train.evaluate_every is None:
        raise build_problem(f"{where}early_stopping needs evaluations: evaluate_every")
    if train.evaluate_every is not None and data is not None and data.dev is None:
        raise build_problem(f"{where}evaluate_every needs records to evaluate on: data.dev")
    return train
