"""Rows of both tasks, and files of them, for the tests of reading."""

import json
from pathlib import Path
from typing import Any

NONE = "No hallucination"


def make_hallucination(example_id: str | None = "h1", gold: Any = "C", **changes: Any) -> dict[str, Any]:
    row = {
        "id": example_id,
        "image_id": "shelf.jpg",
        "system1_question": "What type of shelf is it?",
        "system1_answer": "Leafy greens and fresh produce on a blue wire shelf.",
        "system2_question": "Which of the following systems' outputs belong to hallucination?",
        "correct_choice": gold,
        "choices": make_choices(NONE, "leafy greens", "blue wire shelf", "fresh produce"),
        "meta": {"origin": "test", "score": 0.5, "turns": [1, 2]},
    }
    row.update(changes)
    return {key: value for key, value in row.items() if value is not ...}


def make_factuality(example_id: str | None = "f1", gold: Any = "A", **changes: Any) -> dict[str, Any]:
    row = {
        "id": example_id,
        "image_id": "tower.jpg",
        "claim": "The tower stands in Paris.",
        "context": "The tower was built in 1889.",
        "question": "Please determine whether the claim is factual.",
        "correct_choice": gold,
        "choices": make_choices("True", "False", "Partially True", "Not Verifiable"),
    }
    row.update(changes)
    return {key: value for key, value in row.items() if value is not ...}


def make_choices(*texts: str, ids: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ") -> list[dict[str, str]]:
    return [{"id": ids[place], "choice": text} for place, text in enumerate(texts)]


def make_rows() -> list[dict[str, Any]]:
    rows = [make_hallucination(f"h{n}", gold) for n, gold in enumerate(["A", "B", "C,D", "B,C,D"])]
    return rows + [make_factuality(f"f{n}", gold) for n, gold in enumerate("ABCD")]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_json(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path
