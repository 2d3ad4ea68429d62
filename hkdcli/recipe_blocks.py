"""The blocks of a recipe that stand on their own: data, adapters, training loop, runtime."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

Quantization = Literal["none", "int8", "nf4"]
QuantizedParts = Literal["language", "all"]
Task = Literal["hallucination", "factuality"]

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def build_problem(text: str) -> PydanticCustomError:
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
    facts: str | None = Field(default=None, min_length=1)
    """File of what is known of the images (see docs/augment.md), by which augmentation swaps words."""
    encoding: str = "utf-8"
    """Text encoding of the file."""
    allow_outside_root: bool = False
    """Let image names and links lead out of the folder of the images."""

    @field_validator("file")
    @classmethod
    def _check_one_source(cls, file: str | None, info: ValidationInfo) -> str | None:
        if "scenes" in info.data and (file is None) == (info.data["scenes"] is None):
            raise build_problem("give either scenes or file, one of the two")
        return file

    @field_validator("images")
    @classmethod
    def _check_images(cls, images: str | None, info: ValidationInfo) -> str | None:
        if images is not None and info.data.get("scenes") is not None:
            raise build_problem("scenes draw their own images; leave it out")
        return images

    @field_validator("facts")
    @classmethod
    def _check_facts(cls, facts: str | None, info: ValidationInfo) -> str | None:
        if facts is not None and info.data.get("scenes") is not None:
            raise build_problem("everything is known of scenes; leave it out")
        return facts


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


class Augment(RecipePart):
    """Variants of records: which operations are drawn, how often, and how strong they are."""

    policy: Literal["light", "standard", "strong"] = "standard"
    """How often operations are drawn and how strong they are, as docs/augment.md lists them."""
    probabilities: dict[str, Fraction] = Field(default_factory=dict)
    """Other probabilities than the policy's, by operation; 0 leaves one out."""
    evidence: Literal["listed", "record"] = "listed"
    """What a swapped word is known to be absent by: the facts of the image, or the record's silence alone."""


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
    train_projector: bool = False
    """Train the projector between vision tower and language model too, in full."""

    @field_validator("train_projector")
    @classmethod
    def _check_projector(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and info.data.get("targets") == "all":
            raise build_problem("targets: all puts adapters on the projector already; use targets: language")
        return wanted


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
    """Most examples that are on a device at once."""
    gradient_accumulation_steps: PositiveInt = 1
    """Micro-batches in one step, shared by all processes; their loss is normalised over the whole step."""
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
    keep_best: bool = True
    """End with the weights that had the highest micro-F1 when evaluated; false: with the last ones."""
    early_stopping: PositiveInt | None = None
    """Stop after so many evaluations in a row without a higher micro-F1; null goes on to max_steps."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, slower."""


class Runtime(RecipePart):
    """Where and in which precision it runs."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device; auto takes a CUDA GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Computing precision; auto is bfloat16 on a GPU that has it, float32 elsewhere."""
