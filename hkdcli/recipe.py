"""The recipe: everything that decides what a run computes, typed and documented field by field.

The sentence under a field is at once its entry in `docs/recipes.md`, its description in the JSON
Schema (`hkd schema`) and its comment in `recipe.resolved.yaml`. Unknown keys are refused, values are
not converted ("12" is no number), and a feature that is off is `null`.

`recipe_file` turns YAML into a `Recipe`; only `engine` reads one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

Quantization = Literal["none", "int8", "nf4"]
Task = Literal["hallucination", "factuality"]

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _problem(text: str) -> PydanticCustomError:
    """A problem in our own words: pydantic puts no "Value error, " before it."""
    return PydanticCustomError("recipe", "{text}", {"text": text})


class RecipePart(BaseModel):
    """What every block of a recipe has in common: frozen, strict, no unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
        serialize_by_alias=True,
    )


class SceneSource(RecipePart):
    """Drawn scenes that need no files: the same split, size and seed give the same records."""

    split: Literal["train", "dev", "test"]
    """Which split to draw; no scene occurs in two splits."""
    size: PositiveInt | None = None
    """How many records to draw; null takes the size that the split has by itself."""
    seed: int = Field(default=0, ge=0)
    """Seed of the drawing."""
    tasks: tuple[Task, ...] = Field(default=("hallucination", "factuality"), min_length=1, strict=False)
    """Which of the two tasks to ask, mixed in equal parts."""


class DataSource(RecipePart):
    """Where one split comes from: either `scenes`, or `file` with its images."""

    scenes: SceneSource | None = None
    """Draw records instead of reading them."""
    file: str | None = Field(default=None, min_length=1)
    """File of records (JSON array, JSONL or Parquet), relative to the folder `hkd` is started in."""
    images: str | None = Field(default=None, min_length=1)
    """Folder of the images; null means the file's own folder or its `images` subfolder."""
    encoding: str = "utf-8"
    """Text encoding of the file."""
    allow_outside_root: bool = False
    """Let image names and links lead out of the folder of the images."""

    @field_validator("file")
    @classmethod
    def _check_one_source(cls, file: str | None, info: ValidationInfo) -> str | None:
        if "scenes" in info.data and (file is None) == (info.data["scenes"] is None):
            raise _problem("give either scenes or file, one of the two")
        return file

    @field_validator("images")
    @classmethod
    def _check_images(cls, images: str | None, info: ValidationInfo) -> str | None:
        if images is not None and info.data.get("scenes") is not None:
            raise _problem("scenes draw their own images; leave it out")
        return images


class Data(RecipePart):
    """The records of the run."""

    train: DataSource
    """Records that every trained level learns from."""
    dev: DataSource | None = None
    """Records that training is watched on; null watches nothing."""
    test: DataSource | None = None
    """Records that every level is scored on once, at the end; null scores nothing."""
    on_bad: Literal["error", "skip"] = "error"
    """What an unusable record does: stop the run, or be left out and counted."""
    max_bad: Fraction = 0.01
    """Largest share of unusable records that `on_bad: skip` accepts."""
    strict: bool = False
    """Refuse records whose correct_answer and correct_choice disagree; otherwise they are warned of."""


class Lora(RecipePart):
    """Low-rank adapters."""

    rank: PositiveInt = 16
    """Rank of the two factors."""
    alpha: PositiveInt = 32
    """Scale: the update is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the input of the adapters."""
    targets: Literal["language", "all"] = "language"
    """Linear layers that get adapters: those of the language model, or all (vision tower included)."""


class LoraTuning(RecipePart):
    """Train low-rank adapters and keep the weights as they are."""

    lora: Lora = Field(default_factory=Lora)
    """Settings of the adapters."""


def _name_tuning(value: Any) -> str | None:
    """Tell the two ways of tuning apart, so that an error speaks of the one that was meant.

    The angle brackets let `recipe_file` drop the tag from the key that it shows.
    """
    if value == "full":
        return "<full>"
    return "<lora>" if isinstance(value, dict | LoraTuning) else None


Tuning = Annotated[
    Annotated[Literal["full"], Tag("<full>")] | Annotated[LoraTuning, Tag("<lora>")],
    Discriminator(
        _name_tuning, custom_error_type="tuning", custom_error_message="is not one of: full, lora: {...}"
    ),
]


class Train(RecipePart):
    """The training loop; a step is one optimizer step, always."""

    max_steps: PositiveInt = 1000
    """Optimizer steps."""
    micro_batch_size: PositiveInt = 8
    """Examples that are on the device at once."""
    gradient_accumulation_steps: PositiveInt = 1
    """Micro-batches in one step; the loss is normalised over all of them, so this changes no result."""
    learning_rate: PositiveFloat = 1e-4
    """Peak learning rate of AdamW."""
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Course of the learning rate after the warm-up; linear and cosine end at zero."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises from zero."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of AdamW."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Gradients of a larger norm are scaled down to it; null clips nothing."""
    log_every: PositiveInt = 10
    """Steps between two lines of log.jsonl."""
    checkpoint_every: PositiveInt | None = 200
    """Steps between two checkpoints; null keeps only the one at the end."""
    keep_checkpoints: PositiveInt = 2
    """How many of this run's checkpoints stay on disk."""
    evaluate_every: PositiveInt | None = None
    """Steps between two evaluations on `data.dev`, whose figures go to log.jsonl; null evaluates nothing."""


class Level(RecipePart):
    """One model of the pyramid."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    """Name of the level in logs, folders and `hkd infer --level`."""
    model: str = Field(min_length=1)
    """A folder, a hub id with an optional @revision, or scenes:NAME for a bundled model."""
    adapter: str | None = Field(default=None, min_length=1)
    """Trained adapter or tuned weights to put on the model: a folder, a hub id or scenes:NAME."""
    quantization: Quantization = "none"
    """Precision that the weights are held in."""
    tuning: Tuning = Field(default_factory=LoraTuning)
    """How the level is trained: `full`, or `lora: {...}`."""
    train: Train | None = Field(default_factory=Train)
    """What differs from the top-level `train`; null means the level comes ready and is not trained."""

    @field_validator("tuning")
    @classmethod
    def _check_tuning(cls, tuning: Tuning, info: ValidationInfo) -> Tuning:
        if tuning == "full" and info.data.get("quantization", "none") != "none":
            raise _problem("quantized weights cannot be trained in full; use lora, or quantization: none")
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
            raise _problem(f"a {schedule} schedule needs an end")
        if schedule == "constant" and end is not None and end != start:
            raise _problem("a constant schedule has no other end; use linear or cosine, or null")
        return end


class Distill(RecipePart):
    """What a level learns from the levels above it."""

    teachers: Literal["parent", "all"] = "parent"
    """Who teaches a level: the one above it, or all above it with equal weights."""
    divergence: Literal["forward_kl", "reverse_kl", "jsd", "skew_kl"] = "forward_kl"
    """How far the student's distribution is from the teacher's."""
    beta: float | None = Field(default=None, ge=0, le=1)
    """Mixing weight of jsd and skew_kl; null with the others."""
    temperature: PositiveFloat = 1.0
    """Temperature on both sides; the divergence is multiplied by its square."""
    choice_weight: Fraction = 0.5
    """alpha: 1 compares only the choice of the first letter, 0 only the answer tokens."""
    lambda_: LambdaSchedule = Field(default_factory=LambdaSchedule, alias="lambda")
    """Weight of the teachers against the labels."""

    @field_validator("beta")
    @classmethod
    def _check_beta(cls, beta: float | None, info: ValidationInfo) -> float | None:
        divergence = info.data.get("divergence")
        if divergence in ("jsd", "skew_kl") and beta is None:
            raise _problem(f"{divergence} needs a number from 0 to 1")
        if divergence in ("forward_kl", "reverse_kl") and beta is not None:
            raise _problem(f"{divergence} has no beta; use jsd or skew_kl, or null")
        return beta


class Runtime(RecipePart):
    """Where and in which precision it runs."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device; auto takes a CUDA GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Computing precision; auto is bfloat16 on a GPU that has it, float32 elsewhere."""


class Recipe(RecipePart):
    """A whole run of `hkd distill-online`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """Name of the run; its folder is runs/<name> unless --out says otherwise."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of data order, initialisation and dropout."""
    data: Data
    """The records of the run."""
    train: Train = Field(default_factory=Train)
    """The training loop of every level, unless a level says otherwise."""
    pyramid: tuple[Level, ...] = Field(strict=False, json_schema_extra={"minItems": 1})
    """The levels, largest first (the apex), the one to deploy last; a single one learns from labels."""
    distill: Distill = Field(default_factory=Distill)
    """What a level learns from the levels above it."""
    runtime: Runtime = Field(default_factory=Runtime)
    """Where and in which precision it runs."""

    @field_validator("train")
    @classmethod
    def _check_train(cls, train: Train, info: ValidationInfo) -> Train:
        return _checked(train, info.data.get("data"))

    @field_validator("pyramid")
    @classmethod
    def _check_pyramid(cls, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        if not levels:
            raise _problem("a pyramid has at least one level")
        names = [level.name for level in levels]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise _problem(f"level names must differ; used more than once: {', '.join(repeated)}")
        if levels[-1].train is None:
            raise _problem("the last level is the one to distil; its train cannot be null")
        return levels

    @field_validator("pyramid")
    @classmethod
    def _fill_in_train(cls, levels: tuple[Level, ...], info: ValidationInfo) -> tuple[Level, ...]:
        """Give each trained level the whole settings: its own fields over the top-level ones."""
        if "train" not in info.data:
            return levels
        return tuple(_with_train(level, info.data["train"], info.data.get("data")) for level in levels)


def _with_train(level: Level, shared: Train, data: Data | None) -> Level:
    if level.train is None:
        return level
    own = {field: getattr(level.train, field) for field in level.train.model_fields_set}
    train = _checked(shared.model_copy(update=own), data, f"level {level.name}: ")
    return level.model_copy(update={"train": train})


def _checked(train: Train, data: Data | None, where: str = "") -> Train:
    """Check what only the whole settings can tell: a level's block alone is not complete."""
    if train.warmup_steps > train.max_steps:
        raise _problem(
            f"{where}warmup_steps ({train.warmup_steps}) is more than max_steps ({train.max_steps})"
        )
    if train.evaluate_every is not None and data is not None and data.dev is None:
        raise _problem(f"{where}evaluate_every needs records to evaluate on: data.dev")
    return train
