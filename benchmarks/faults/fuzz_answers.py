"""Targets that read what models and other systems answered: texts, predictions, submissions, replies."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from fuzz_targets import Seeds, Target

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "data"))
from record_makers import make_choices, make_factuality, make_hallucination, make_rows

from hkdcli.answers.text import parse_text
from hkdcli.data.datasets import hash_record
from hkdcli.data.records import Example
from hkdcli.data.rows import parse_row
from hkdcli.errors import BadRow, DataError, UsageError
from hkdcli.evaluation.columns import HKD_COLUMNS, Columns
from hkdcli.evaluation.metrics import join_predictions, score_tables
from hkdcli.evaluation.predictions import Prediction, read_predictions
from hkdcli.evaluation.submission import build_submission, check_submission, write_submission
from hkdcli.evaluation.texts import read_texts
from hkdcli.inference.row_files import merge_shards, put_in_order, read_done_rows
from hkdcli.inference.rows import RunHashes, render_failure, render_line
from hkdcli.inference.vllm_client import Question, ReplyError, VllmClient

HASHES = RunHashes("p" * 64, {"": "r" * 64})
TEXTS = (
    "B, C",
    "The answer is (B).",
    "<think>A or B?</think> **Final answer:** C, because the shelf is not blue.",
    'so \\boxed{\\text{B}} ```json\n{"answer": ["B", "C"]}\n```',
    "A is visible. B is hallucinated. Option C: blue wire shelf is not in the image.",
    "None of the above. There is no hallucination.",
    "So the claim is partially true. I cannot verify the rest.",
)


def parse_example(row: dict[str, Any]) -> Example:
    """The example of a row that is one."""
    example = parse_row(row, "")
    assert isinstance(example, Example)
    return example


RECORDS = {
    "hallucination": parse_example(make_hallucination()),
    "factuality": parse_example(make_factuality()),
    "odd ids": parse_example(
        make_hallucination(
            gold=None, choices=make_choices("None", "BED", "no", "a (b)", ids=("b", "B", "no", "1"))
        )
    ),
}


def read_answer(variant: str, content: bytes, folder: Path) -> None:
    text, example = content.decode("utf-8", "surrogateescape"), RECORDS[variant]
    ids = {choice.id for choice in example.choices}
    strict, lenient = (parse_text(text, example, parser) for parser in ("strict", "lenient"))
    for reading in (strict, lenient):
        assert reading.choices is None or (reading.choices and reading.choices <= ids)
    assert strict.how == "unparsed" or lenient == strict, "lenient takes what strict reads"


def make_answers() -> Seeds:
    yield from ((variant, text.encode()) for variant in RECORDS for text in TEXTS)


def read_prediction_file(variant: str, content: bytes, folder: Path) -> None:
    path = folder / f"predictions.{variant if variant != 'columns' else 'json'}"
    path.write_bytes(content)
    columns = Columns("question_id", "model.response", "score") if variant == "columns" else HKD_COLUMNS
    rows = read_predictions(path, columns)
    assert len({row.id for row in rows}) == len(rows)
    read, _ = read_texts(rows, _list_examples(), "lenient")
    results = score_tables(join_predictions(read, _list_examples()), read, _list_examples())
    json.dumps(results.to_json(), allow_nan=False)


@cache
def _list_examples() -> tuple[Example, ...]:
    return tuple(map(parse_example, make_rows()))


def make_prediction_files() -> Seeds:
    said = {example.id: sorted(example.answer or ()) for example in _list_examples()}
    rows = [
        {"id": key, "prediction": ids, "confidence": 0.5, "status": "ok", "shifts": 4, "flip_rate": 0.25}
        | {"all_agree": True, "posterior": [{"answer": ids, "p": 0.5}], "approximate": False}
        for key, ids in said.items()
    ]
    yield "jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode()
    yield "jsonl", json.dumps({key: ", ".join(ids) for key, ids in said.items()}).encode()
    table = [
        "id,prediction,confidence,status",
        *(f'{key},"{",".join(ids)}",0.5,ok' for key, ids in said.items()),
    ]
    yield "csv", "\r\n".join(table).encode()
    yield (
        "tsv",
        "\n".join(["id\tprediction", *(f"{key}\t{' '.join(ids)}" for key, ids in said.items())]).encode(),
    )
    other = [
        {"question_id": key, "model": {"response": f"({ids[0]})"}, "score": 1} for key, ids in said.items()
    ]
    yield "columns", json.dumps(other).encode()


def read_submission(variant: str, content: bytes, folder: Path) -> None:
    (folder / "results").write_bytes(content)
    check_submission(folder / "results", _list_examples())


def make_submissions() -> Seeds:
    import tempfile

    said = [Prediction(example.id, example.answer) for example in _list_examples()]
    rows = build_submission(_list_examples(), said)
    yield "json", json.dumps(rows).encode()
    with tempfile.TemporaryDirectory() as folder:
        write_submission(Path(folder) / "results.zip", rows)
        yield "zip", (Path(folder) / "results.zip").read_bytes()


def read_rows(variant: str, content: bytes, folder: Path) -> None:
    """Rows of a killed run: gone on with, put in order and merged as a shard."""
    path = folder / "predictions.jsonl"
    path.write_bytes(content)
    records = {example.id: hash_record(example) for example in _list_examples()[:2]}
    done = read_done_rows(path, HASHES, records)
    assert done.end <= path.stat().st_size and done.status.keys() <= records.keys()
    if variant == "all":
        put_in_order(path, list(done.status))
        merge_shards([path], records, folder / "merged.jsonl")


def make_rows_of_a_run() -> Seeds:
    failed = BadRow("image.missing", "", "x", "no such file")
    lines = [render_line(render_failure(failed, example, HASHES)) for example in _list_examples()[:2]]
    yield "all", b"".join(reversed(lines))
    yield "some", lines[0] + lines[1][:40]


class _Replying(VllmClient):
    """A client whose server says what it is told to."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(1, "key", "model")
        self._reply = status, body

    def _send(self, *asked: Any, **options: Any) -> tuple[int, bytes]:
        return self._reply


def read_reply(variant: str, content: bytes, folder: Path) -> None:
    client = _Replying(400 if variant == "refusal" else 200, content)
    assert isinstance(client.read_version(), str)
    assert all(isinstance(name, str) for name in client.list_models())
    found = client.ask(Question(({"role": "user", "content": "?"},), (3, 4), continues=False))
    assert found.keys() == {3, 4} and max(found.values()) <= 1e-6


def make_replies() -> Seeds:
    top = [{"token": "token_id:4", "logprob": -0.6931472}, {"token": "token_id:5", "logprob": -9999.0}]
    content = [{"token": "token_id:3", "logprob": -0.6931472, "top_logprobs": top}]
    reply = {"choices": [{"logprobs": {"content": content}, "message": {"content": "A"}}]}
    yield "answer", json.dumps({**reply, "version": "1", "data": [{"id": "model"}]}).encode()


TARGETS = {
    "answer text": Target(read_answer, "parse_text", tuple(RECORDS), (), make_answers),
    "predictions": Target(
        read_prediction_file,
        "read_predictions",
        ("jsonl", "csv", "tsv", "columns"),
        (DataError,),
        make_prediction_files,
    ),
    "submission": Target(
        read_submission, "check_submission", ("json", "zip"), (DataError,), make_submissions
    ),
    "rows of a run": Target(
        read_rows, "read_done_rows", ("all", "some"), (DataError, UsageError), make_rows_of_a_run
    ),
    "reply of vLLM": Target(read_reply, "_Replying", ("answer", "refusal"), (ReplyError,), make_replies),
}
