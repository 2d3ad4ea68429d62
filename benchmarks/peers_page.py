"""The figures of hkd and its peers as a page: nothing on it is written by hand but what does not change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAMES = {
    "hkd": "hkd, teacher",
    "gold": "TRL GOLD, off-policy",
    "gold-kept": "TRL GOLD, freed memory kept",
    "hkd-labels": "hkd, labels alone",
    "trainer": "`transformers.Trainer`, labels alone",
    "trainer-kept": "`transformers.Trainer`, freed memory kept",
}
PEERS = {"hkd": "hkd", "gold": "GOLD", "trainer": "Trainer"}
ABILITIES = {
    "answer_tokens_alone": "run the head on answer tokens alone",
    "teacher": "learn from a teacher",
    "bad_teacher": "stop before a teacher of random weights teaches",
    "wider_student": "leave a teacher's head as it is where the student's is wider",
    "accumulation": "have the same gradient when answers of unequal length are accumulated",
    "not_finite": "keep weights finite when a gradient is not",
    "resume": "resume a full fine-tuning bit for bit",
}
INFERENCE = (
    "contender",
    "CPU s per record",
    "micro-F1",
    "answered",
    "unread",
    "illegal",
    "with a posterior",
    "could not do",
)
TRAINING = (
    "contender",
    "first loss",
    "CPU s per step",
    "times hkd's",
    "peak memory over loaded, MB",
    "times hkd's",
    "could not do",
)
LEAD = """\
Training on the same two rows and the same weights, a random Qwen2.5-VL of width 64 with heads as large
as real ones; then inference on the same records and weights. The run gives no figures unless contenders
of one objective had the same tokens, the same answer tokens and the same loss of the first step. Ratios
are taken within a round, in brackets the least and the most of the rounds; above 1 the peer costs more.
The machine had other work, which moves seconds more than ratios."""
KEPT = """\
*freed memory kept*: the same, with glibc told not to give large tensors back after each step
(`MALLOC_MMAP_THRESHOLD_`, `MALLOC_TRIM_THRESHOLD_`), which hkd does by itself on a CPU. hkd opens its
pictures from files in every step; GOLD and Trainer are given them."""
TRIED = """\
Each cell is what this run showed: on tiny models of the same family, with two rows whose answers have 6
and 4 tokens, and on the models above for the first line. How each was tried stands in
`benchmarks/peers_abilities.py`."""
ASKED = """\
*orders*: every cyclic order of the choices; hkd takes the mean of logs over one shared prefix, the loop
the most frequent answer. *unread*: the lenient parser of `hkd evaluate` found no choices in the text;
*illegal*: it found what no answer may be, such as "No hallucination" beside a phrase; both count as
wrong. The loop is greedy, with as many new tokens as the longest legal answer has. All in one process,
freed memory kept. The tuned model was tuned on verdicts in one order: other orders mislead it, and a
mean of logs suffers more from that than a vote."""
LIMITS = """\
- Backbones are tiny, so the head is most of a step's work. The larger the backbone, the smaller the
  share that scoring answer tokens alone saves; what it saves in logits stays the same. Nothing here is
  of a GPU.
- The peers do what hkd does not: GOLD learns from what the student generates (`lmbda` above 0), which is
  left out here, and Trainer trains other models on other objectives. Gradient checkpointing, which saves
  memory for time, is off everywhere.
- *could not do* is of these versions, of this family of models and of each library as it comes; code of
  one's own around it can mend much of it. Trainer takes the mean of the micro-batches' means here
  because the forward of Qwen2.5-VL does not take the number of tokens (its `model_accepts_loss_kwargs`
  is false).
- micro-F1 is of few drawn records; it shows what becomes of answers that are not read, not which way of
  asking is better.
- `generate` with `output_scores` also gives the scores of each next token after those that it took; a
  probability for every legal answer takes more passes than that."""


def render_page(document: Mapping[str, Any]) -> str:
    """Render the page.

    Args:
        document: of the benchmark.

    Returns:
        Markdown, from its heading to its last line.
    """
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    code = f", code at `{document['code']}`" if document["code"] else ""
    parts = [
        "# hkd beside its peers, on a CPU",
        LEAD,
        f'```\npip install -c constraints.txt -e ".[bench]"\n{document["command"]}\n```',
        f"{document['cpu']}, one thread; {versions}{code}. All figures: [peers.json](peers.json).",
        f"## Training, {document['tokens']} tokens",
        render_table(TRAINING, list_training(document)),
        KEPT,
        "## What each could do",
        TRIED,
        render_table(("to", *PEERS.values()), list_abilities(document["abilities"])),
        "## Inference",
        ASKED,
        *list_inference(document["inference"]),
        "## What this does not show",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def list_training(document: Mapping[str, Any]) -> Iterator[list[str]]:
    training = document["training"]
    for name, report in training["contenders"].items():
        ratios = [
            show_ratio(training, training["spread"], f"{what}_ratio_vs_{name}") for what in ("time", "memory")
        ]
        seconds, memory = report["cpu_seconds_per_step"], report["peak_memory_mb_over_loaded"]
        abilities = document["abilities"][name.partition("-")[0]]
        lacking = "as above" if name.endswith("-kept") else list_lacking(abilities)
        figures = [f"{report['loss']:.6g}", f"{seconds:.3f}", ratios[0], f"{memory:.0f}", ratios[1]]
        yield [NAMES[name], *figures, lacking]


def list_lacking(abilities: Mapping[str, Any]) -> str:
    """What was tried in vain, in words; a dash where all could be done."""
    lacking = [
        words
        for name, words in ABILITIES.items()
        if abilities.get(name) is not None and not abilities[name]["able"]
    ]
    return "; ".join(lacking) or "-"


def list_abilities(abilities: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    for name, words in ABILITIES.items():
        yield [words, *(show_found(abilities[peer][name]) for peer in PEERS)]


def show_found(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    return f"{'yes' if found['able'] else '**no**'}: {found['found']}"


def list_inference(models: Mapping[str, Any]) -> Iterator[str]:
    """For each model a heading line, its table, and the ratios."""
    for model, report in models.items():
        yield (
            f"`{model}` ({report['model']}), {report['records']} records, at most {report['batch']} at once, "
            f"{report['new_tokens']} new tokens:"
        )
        yield render_table(INFERENCE, list_asked(report, is_scored=model != "random"))
        same = report["same_answer_alone"]
        lines = [
            f"- {name}: {show_ratio(report['ratios'], report['spread'], name)}" for name in report["ratios"]
        ]
        alike = ", ".join(f"{name} {count}" for name, count in same.items())
        yield "\n".join([*lines, f"- same answer alone as in a batch, of {report['records']}: {alike}"])


def list_asked(report: Mapping[str, Any], *, is_scored: bool) -> Iterator[list[str]]:
    for name, found in report["contenders"].items():
        counts = [str(found[key]) for key in ("answered", "unread", "illegal", "posteriors")]
        lost, lacking = found["unread"] + found["illegal"], []
        if lost:
            lacking.append(f"answer {lost} of {report['records']} records")
        if found["posteriors"] < report["records"]:
            lacking.append("say how probable an answer is")
        score = f"{found['micro_f1']:.3f}" if is_scored else "-"
        yield [name, f"{found['cpu_seconds_per_record']:.4f}", score, *counts, "; ".join(lacking) or "-"]


def show_ratio(ratios: Mapping[str, float], spread: Mapping[str, Sequence[float]], name: str) -> str:
    """A ratio with its least and most; a dash where there is none."""
    if name not in spread:
        return "-"
    least, most = spread[name]
    return f"{ratios[name]:.2f} ({least:.2f} to {most:.2f})"


def render_table(names: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = [list(names), *rows]
    shown = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([shown[0], "|" + "---|" * len(names), *shown[1:]])
