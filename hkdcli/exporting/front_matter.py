"""The front matter of a model card: what the hub reads of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hkdcli.exporting.origin import Origin, Run, name_data

FIGURES = {  # figure of results.json: the hub's name of such a metric, and words
    "micro_f1": ("f1", "micro-F1 over choices"),
    "hallucinated_f1": ("f1", "F1 over hallucinated choices"),
    "exact_match": ("exact_match", "exact match of the set"),
}
TAGS = ("hkd", "hallucination-detection", "fact-checking", "knowledge-distillation")
_TASK = "image-text-to-text"


def render_front_matter(origin: Origin, *, lora: bool, adapter: bool) -> str:
    """Render what the hub reads, the run's scores included.

    Args:
        origin: where the model comes from.
        lora: whether it was tuned by an adapter, merged by now or not.
        adapter: whether it still is one.

    Returns:
        YAML between two lines of "---".
    """
    from huggingface_hub import ModelCardData

    results = [result for run in origin.runs[:1] for result in _list_results(run)]
    learned = [run.data["train"] for run in origin.runs if "train" in run.data]
    more: dict[str, Any] = dict(origin.licence) or {"license": "unknown"}
    if origin.base_id:
        more["base_model_relation"] = "adapter" if adapter else "finetune"
    data = ModelCardData(
        base_model=origin.base_id,
        library_name="peft" if adapter else "transformers",
        pipeline_tag=_TASK,
        tags=[*TAGS, *(["lora"] if lora else [])],
        datasets=list(dict.fromkeys(map(name_data, learned))) or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        eval_results=results or None,
        model_name=origin.name if results else None,
        **more,
    )
    return f"---\n{data.to_yaml(line_break=chr(10))}\n---\n"


def _list_results(run: Run) -> Iterator[Any]:
    """The scores of each task, as entries of a model-index."""
    from huggingface_hub import EvalResult

    test = run.data.get("test")
    for task, name, value in run.list_scores() if test else ():
        if task != "all" and name in FIGURES:
            kind, words = FIGURES[name]
            yield EvalResult(
                task_type=_TASK,
                task_name=task,
                dataset_type=name_data(test or {}),
                dataset_name=name_data(test or {}),
                dataset_config=task,  # results of the same data and configuration are one entry
                dataset_split="test",
                metric_type=kind,
                metric_name=words,
                metric_value=round(value, 4),
            )
