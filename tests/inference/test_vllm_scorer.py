"""Numbers through HTTP against the model itself, and what happens to a record whose reply is no answer."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_vllm import FakeServer, answer_by_hash, serve_in_thread
from PIL import Image
from tiny_families import FAMILIES
from tiny_records import DrawnImages, make_choices, make_factuality, make_hallucination, make_image

from hkdcli.data.chat import ChatFrame, read_chat_frame
from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.data.prompts import build_legal_answers, identity_presentation
from hkdcli.errors import DataError, MachineLimitError, ModelError, SetupError
from hkdcli.inference.asking import Judge
from hkdcli.inference.predict import answer_examples
from hkdcli.inference.rows import RunHashes
from hkdcli.inference.shift import shifted_presentations
from hkdcli.inference.trie import build_trie
from hkdcli.inference.vllm_client import VllmClient
from hkdcli.inference.vllm_prompts import PromptMessages, render_chat_template, render_data_url
from hkdcli.inference.vllm_scorer import VllmScorer
from hkdcli.models.folders import find_model_folder
from hkdcli.models.loading import load_model, load_processor

EXAMPLES = [
    make_hallucination(),
    make_factuality(),
    make_hallucination("h2", ("a round thing", "x"), caption="short"),
    make_factuality("f2", choices=make_choices("True", "False"), answer=frozenset("A"), context=""),
]
IMAGES = [make_image(0), make_image(1, (64, 40)), make_image(2, (28, 60)), make_image(3)]
SHIFTS = [shifted_presentations(example, 2) for example in EXAMPLES]


class RunningServer:
    """In place of a VllmServer: a fake that runs in this process, and what is done when it is lost."""

    def __init__(self, fake: FakeServer, restart: Callable[[], None]) -> None:
        self.client = VllmClient(fake.server_address[1], "key", "m", timeout_s=20)
        self._restart = restart
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        self._restart()

    def describe_end(self) -> str:
        return "its last words"


def make_scorer(fake: FakeServer, processor: Any, restart: Callable[[], None] = lambda: None) -> VllmScorer:
    server: Any = RunningServer(fake, restart)
    return VllmScorer(server, PromptMessages(Collator(processor)), "hash")


@pytest.fixture(scope="module")
def processor(tiny_llava: Path) -> Any:
    return load_processor(tiny_llava)


@pytest.fixture
def fake():
    with serve_in_thread() as server:
        server.most = 26
        yield server


def answer_by_model(loaded: Any, request: dict[str, Any]) -> dict[int, float]:
    """What vLLM does: render the conversation, decode the image, restrict the next token, normalise."""
    shown, text = request["messages"][0]["content"]
    data = base64.b64decode(shown["image_url"]["url"].partition(",")[2])
    messages = [{"role": "user", "content": [{"type": "image"}, text]}, *request["messages"][1:]]
    rendered = loaded.processor.apply_chat_template(
        messages,
        chat_template=render_chat_template(read_chat_frame(loaded.processor)),
        tokenize=False,
        add_generation_prompt=request["add_generation_prompt"],
        continue_final_message=request["continue_final_message"],
    )
    with torch.no_grad():
        inputs = loaded.processor(
            text=[rendered],
            images=[[Image.open(io.BytesIO(data))]],
            add_special_tokens=False,
            return_tensors="pt",
        )
        logits = loaded.model(**inputs).logits[0, -1].double()
    allowed = request["allowed_token_ids"]
    return dict(zip(allowed, logits[allowed].log_softmax(-1).tolist(), strict=True))


def compute_local_posterior(loaded: Any, example: Any, image: Any, shown: Any) -> list[float]:
    """Whole passes of the model: at each token of each answer, normalised over what is legal there."""
    collator, answers = Collator(loaded.processor), build_legal_answers(example)
    prompt = collator.builder.build(example, shown)
    trie = build_trie([collator.encode_answer(example, prompt, shown, answer) for answer in answers])
    legal: dict[int, set[int]] = {}
    for path in trie.steps:
        for node, token in path:
            legal.setdefault(node, set()).add(token)
    totals = []
    for answer, path in zip(answers, trie.steps, strict=True):
        batch = collator([example], [image], [shown], [answer])
        with torch.no_grad():
            logits = loaded.model(**batch.model_inputs).logits[0, batch.answer_columns].double()
        total = 0.0
        for row, (node, token) in zip(logits, path, strict=True):
            allowed = sorted(legal[node])
            total += float(row[allowed].log_softmax(-1)[allowed.index(token)])
        totals.append(total)
    return totals


@pytest.mark.parametrize("family", ["tiny_llava", "tiny_qwen"])
def test_numbers_are_the_model_s_own_normalised_at_every_step(family, request):
    loaded = load_model(request.getfixturevalue(family))
    with serve_in_thread(lambda asked: answer_by_model(loaded, asked)) as fake:
        scored = make_scorer(fake, loaded.processor).score(EXAMPLES, IMAGES, SHIFTS)
    for example, image, shown, result in zip(EXAMPLES, IMAGES, SHIFTS, scored, strict=True):
        expected = [compute_local_posterior(loaded, example, image, order) for order in shown]
        np.testing.assert_allclose(result.log_probs, expected, atol=2e-5)
        assert np.ptp(result.log_probs[0]) > 0.01  # the numbers say something


def test_law_what_is_normalised_at_every_step_is_normalised(fake, processor):
    for result in make_scorer(fake, processor).score(EXAMPLES, IMAGES, SHIFTS):
        np.testing.assert_allclose(np.logaddexp.reduce(result.log_probs, axis=-1), 0, atol=1e-9)


def test_r20_batch_1_equals_batch_n_equals_any_order(fake, processor):
    scorer = make_scorer(fake, processor)
    together = scorer.score(EXAMPLES, IMAGES, SHIFTS)
    mixed = scorer.score(EXAMPLES[::-1], IMAGES[::-1], SHIFTS[::-1])[::-1]
    for index, (one, other) in enumerate(zip(together, mixed, strict=True)):
        (alone,) = scorer.score([EXAMPLES[index]], [IMAGES[index]], [SHIFTS[index]])
        np.testing.assert_array_equal(one.log_probs, other.log_probs)
        np.testing.assert_array_equal(one.log_probs, alone.log_probs)


def test_only_choices_are_asked_and_the_first_question_of_a_record_goes_first(fake, processor):
    identity = [(identity_presentation(example),) for example in EXAMPLES[:2]]
    make_scorer(fake, processor).score(EXAMPLES[:2], IMAGES[:2], identity)
    # "", "B", "B,", "B, C" and "C" of four choices; "" alone where one letter is the answer.
    asked = [request["messages"][1:] for request in fake.requests]
    assert asked[:2] == [[], []]
    begun = [message["content"][0]["text"] for (message,) in asked[2:]]
    assert sorted(begun) == ["B", "B,", "B, C", "C"]
    sizes = [len(request["allowed_token_ids"]) for request in fake.requests]
    assert sizes == [4, 4, 2, 2, 2, 2]
    assert all(request["temperature"] == 0 for request in fake.requests)


def test_i09_the_image_that_is_sent_has_the_pixels_that_were_loaded():
    data = base64.b64decode(render_data_url(IMAGES[1]).partition(",")[2])
    assert Image.open(io.BytesIO(data)).tobytes() == IMAGES[1].image.tobytes()


def test_26_choices_are_one_question(fake, processor):
    example = make_factuality(choices=make_choices(*[f"answer {i}" for i in range(26)]))
    scored = make_scorer(fake, processor).score([example], IMAGES[:1], [(identity_presentation(example),)])
    assert scored[0].log_probs.shape == (1, 26)
    assert len(fake.requests) == 1


def test_d16_a_long_context_is_cut_as_it_is_for_the_built_in_scorer(fake, processor):
    example = make_factuality(context="The shop sells many fresh vegetables. " * 40)
    server: Any = RunningServer(fake, lambda: None)
    scorer = VllmScorer(server, PromptMessages(Collator(processor, max_length=200)), "hash")
    (result,) = scorer.score([example], IMAGES[:1], [(identity_presentation(example),)])
    assert result.truncated
    assert "[...]" in fake.requests[0]["messages"][0]["content"][1]["text"]


def make_dataset(n: int) -> Dataset:
    examples = [make_factuality(f"r{i}", image=f"{i}.png") for i in range(n)]
    return Dataset("test", tuple(examples), DrawnImages())


def answer(scorer: Any, dataset: Dataset) -> list[Any]:
    return answer_examples(dataset, dataset.examples, Judge(scorer), RunHashes("p", {}))


PROSE = {"choices": [{"message": {"content": "I think that A is right."}, "logprobs": None}]}


def is_about(example: Any, request: dict[str, Any]) -> bool:
    return f"Claim: {example.claim}" in request["messages"][0]["content"][1]["text"]


def test_r19_a_record_that_gets_no_answer_fails_alone_and_has_no_letter(fake, processor):
    dataset = make_dataset(4)
    odd = dataclasses.replace(dataset.examples[2], claim="Prose, please.")
    dataset = dataclasses.replace(dataset, examples=(*dataset.examples[:2], odd, dataset.examples[3]))
    whole = answer(make_scorer(fake, processor), dataset)
    fake.change = lambda request, reply: PROSE if is_about(odd, request) else reply
    rows = answer(make_scorer(fake, processor), dataset)
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok"]
    assert (rows[2]["error"]["code"], rows[2]["prediction"]) == ("engine.invalid_answer", None)
    assert "I think that A" in rows[2]["error"]["detail"]
    assert [rows[i] for i in (0, 1, 3)] == [whole[i] for i in (0, 1, 3)]


def test_r19_one_bad_reply_is_asked_again(fake, processor):
    expected = make_scorer(fake, processor).score(EXAMPLES, IMAGES, SHIFTS)
    seen: set[int] = set()

    def break_first_of_each(request, reply):
        key = hash(str(request))
        broken = PROSE if key not in seen else reply
        seen.add(key)
        return broken

    fake.change = break_first_of_each
    scored = make_scorer(fake, processor).score(EXAMPLES, IMAGES, SHIFTS)
    for one, other in zip(expected, scored, strict=True):
        np.testing.assert_array_equal(one.log_probs, other.log_probs)


def test_too_many_choices_are_one_record_s_failure(fake, processor):
    many = make_hallucination("many", choices=make_choices("No hallucination", *"abcdefgh"))
    dataset = make_dataset(2)
    rows = answer(
        make_scorer(fake, processor), dataclasses.replace(dataset, examples=(*dataset.examples, many))
    )
    assert [row["status"] for row in rows] == ["ok", "ok", "error"]
    assert rows[2]["error"]["code"] == "choices.too_many"


def test_r11_a_lost_engine_is_started_once_more_and_the_batch_asked_again(fake, processor):
    expected = make_scorer(fake, processor).score(EXAMPLES, IMAGES, SHIFTS)
    scorer = make_scorer(fake, processor, restart=lambda: server_comes_back())
    there = scorer._server.client.port

    def server_comes_back() -> None:
        scorer._server.client.port = there

    scorer._server.client.port = 1
    scored = scorer.score(EXAMPLES, IMAGES, SHIFTS)
    assert scorer._server.starts == 1
    for one, other in zip(expected, scored, strict=True):
        np.testing.assert_array_equal(one.log_probs, other.log_probs)


def test_r11_an_engine_that_is_lost_twice_is_a_machine_limit(fake, processor):
    scorer = make_scorer(fake, processor)
    scorer._server.client.port = 1
    with pytest.raises(
        MachineLimitError, match="(?s)vLLM was lost.*its last words.*lost once more"
    ) as caught:
        scorer.score(EXAMPLES, IMAGES, SHIFTS)
    assert scorer._server.starts == 1
    assert "--resume" in caught.value.hint


def test_r11_an_engine_that_does_not_start_again_is_a_machine_limit(fake, processor):
    def refuse() -> None:
        raise SetupError("no GPU left")

    scorer = make_scorer(fake, processor, restart=refuse)
    scorer._server.client.port = 1
    with pytest.raises(MachineLimitError, match="(?s)its last words.*not be started again: no GPU left"):
        scorer.score(EXAMPLES, IMAGES, SHIFTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_asked_what_its_own_template_says(family, tmp_path):
    processor = load_processor(FAMILIES[family](tmp_path / family))
    collator = Collator(processor)
    PromptMessages(collator)  # which compares text and tokens, at the root and within an answer
    example = make_factuality()
    shown = identity_presentation(example)
    prompt = collator.builder.build(example, shown)
    conversation = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}]
    template = render_chat_template(collator.builder.frame)
    ours = processor.tokenizer.apply_chat_template(conversation, chat_template=template, tokenize=False)
    own = processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert ours.endswith(own)  # before it at most the token that the tokenizer begins a text with
    assert prompt.prefix.startswith(ours.partition("Which?")[0])


@pytest.mark.parametrize(
    "text", ['say "{{ x }}"', "line\n\ttab", "back\\slash \\n", "it's {% if %} é \U0001f600", ""]
)
def test_law_the_template_renders_any_frame_as_it_is(processor, text):
    template = render_chat_template(ChatFrame(f"<{text}", f"{text}>", "", "</s>"))
    parts = [{"type": "image"}, {"type": "text", "text": " a  b\n"}]
    messages = [{"role": "user", "content": parts}]
    render = processor.tokenizer.apply_chat_template
    opened = render(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    assert opened == f"<{text} a  b\n{text}>"
    messages.append({"role": "assistant", "content": [{"type": "text", "text": " B,"}]})
    begun = render(messages, chat_template=template, tokenize=False, continue_final_message=True)
    assert begun == f"{opened} B,"


def test_a_tokenizer_that_joins_the_parts_of_a_prompt_is_refused():
    collator = Collator(load_processor(find_model_folder("scenes:small")))
    with pytest.raises(ModelError, match="other tokens of a whole conversation"):
        PromptMessages(collator)


def test_a_record_that_would_be_rendered_otherwise_fails_alone(fake, processor):
    scorer = make_scorer(fake, processor)
    scorer._messages.chat_template = scorer._messages.chat_template.replace(
        "part.text", "part.text | replace('shelf', 'table')"
    )
    scorer.score(EXAMPLES[:1], IMAGES[:1], SHIFTS[:1])
    asked = len(fake.requests)
    with pytest.raises(DataError) as caught:
        scorer.score(EXAMPLES[1:2], IMAGES[1:2], SHIFTS[1:2])
    assert caught.value.rows[0].code == "engine.other_prompt"
    assert len(fake.requests) == asked


def test_the_fake_tells_conversations_apart():
    content = [{"type": "image_url", "image_url": {"url": "x"}}]
    one, two = ({"messages": [text, content], "allowed_token_ids": [1, 2]} for text in "ab")
    assert answer_by_hash(one) != answer_by_hash(two)
