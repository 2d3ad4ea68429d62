"""Hidden states of every family: which are taken, how pictures are pooled, and that nothing else changes."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_families import FAMILIES, SPLITTING
from tiny_records import make_factuality, make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.images import LoadedImage
from hkdcli.data.prompts import identity_presentation
from hkdcli.errors import ModelError
from hkdcli.models import families
from hkdcli.models.adapters import attach_lora
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model
from hkdcli.models.memory import enable_gradient_checkpointing
from hkdcli.models.states import StatePlan, build_pooling, match_layers
from hkdcli.models.views import View, find_image_tokens, find_views

SIZES = [(40, 32), (96, 32), (32, 96), (64, 64)]
ALL = {**FAMILIES, **SPLITTING}


def make_batch(loaded, *, learned=None, sizes=SIZES):
    examples = [make_factuality(f"f{i}") if i % 2 else make_hallucination(f"h{i}") for i in range(len(sizes))]
    images = [make_image(i, size) for i, size in enumerate(sizes)]
    shown = [identity_presentation(example) for example in examples]
    return Collator(loaded.processor)(examples, images, shown, learned=learned)


@pytest.fixture(scope="module", params=list(ALL))
def loaded(request, tmp_path_factory):
    torch.set_num_threads(1)
    return load_model(ALL[request.param](tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("learned", [None, [False, True, True, False]])
def test_states_are_those_of_the_whole_model_at_the_answers_and_over_the_picture(loaded, learned):
    batch, plan = make_batch(loaded, learned=learned), StatePlan((0, 1), 2)
    found = AnswerModel(loaded.model, plan).eval()(batch)
    language = families.get_language_model(loaded.model)[1]
    outputs = []
    hooks = [
        layer.register_forward_hook(lambda module, args, output: outputs.append(output))
        for layer in language.layers
    ]
    plain = AnswerModel(loaded.model).eval()(batch)
    for hook in hooks:
        hook.remove()
    assert torch.equal(found.logits, plain.logits) and plain.states is None
    pooling = build_pooling(loaded.model.config, batch, 2)
    for place, layer in enumerate(plan.layers):
        expected = outputs[layer][batch.answer_rows, batch.answer_columns]
        assert torch.equal(found.states.answer[place], expected)
        for example, row in enumerate(batch.answer_rows[batch.first]):
            torch.testing.assert_close(
                found.states.image[place, example], pooling[row] @ outputs[layer][row], rtol=1e-5, atol=1e-5
            )
    assert found.states.image.shape == (2, len(batch.first), 4, outputs[0].shape[-1])


def test_a_view_has_its_image_tokens_where_they_lie_in_the_picture(loaded):
    """The upper left quarter of a picture is changed: that is where the features of the view change most."""
    plain = Image.new("RGB", (64, 64), (90, 90, 90))
    marked = plain.copy()
    marked.paste((255, 0, 0), (0, 0, 32, 32))
    example, moved = make_hallucination(), []
    shown = identity_presentation(example)
    for image in (plain, marked):
        batch = Collator(loaded.processor)([example], [LoadedImage(image, "x")], [shown])
        inputs = batch.model_inputs
        taken = []
        hook = families.get_language_model(loaded.model)[1].register_forward_pre_hook(
            lambda module, args, kwargs, taken=taken: taken.append(kwargs["inputs_embeds"][0]),
            with_kwargs=True,
        )
        AnswerModel(loaded.model).eval()(batch)
        hook.remove()
        moved.append(taken[0][find_image_tokens(loaded.model.config, inputs["input_ids"])[0]])
    (view,) = find_views(loaded.model.config, inputs)
    change = (moved[0] - moved[1]).norm(dim=-1)[view.start : view.start + view.rows * view.columns]
    change = change.reshape(view.rows, view.columns)
    down, across = view.rows // 2, view.columns // 2
    assert down and across
    rows, columns = (
        {"upper": slice(down), "lower": slice(-down, None)},
        {
            "left": slice(across),
            "right": slice(-across, None),
        },
    )
    means = {(r, c): change[rows[r], columns[c]].mean().item() for r in rows for c in columns}
    assert max(means, key=means.get) == ("upper", "left"), means


def test_cells_are_means_over_their_share_of_the_picture(loaded):
    batch = make_batch(loaded)
    pooling = build_pooling(loaded.model.config, batch, 3)
    places = find_image_tokens(loaded.model.config, batch.model_inputs["input_ids"])
    torch.testing.assert_close(pooling.sum(-1), torch.ones(len(SIZES), 9))
    assert not pooling.masked_select(~places[:, None].expand_as(pooling)).any()
    for row, view in enumerate(find_views(loaded.model.config, batch.model_inputs)):
        count = view.rows * view.columns
        tokens = places[row].nonzero()[:, 0][view.start : view.start + count]
        numbers = torch.randn(1, 1, view.rows, view.columns)
        expected = torch.nn.functional.adaptive_avg_pool2d(numbers, 3).flatten()
        torch.testing.assert_close(pooling[row][:, tokens] @ numbers.flatten(), expected)


def test_gradients_reach_what_is_trained_the_same_with_activations_computed_again(loaded):
    plan = StatePlan((0, 1), 2)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(3)
        fresh = load_model(loaded.source)
        model = attach_lora(fresh.model, rank=2, alpha=4)
        if checkpointing:
            enable_gradient_checkpointing(model)
        answer = AnswerModel(model, plan).train()(make_batch(loaded))
        loss = answer.states.image.square().sum() + answer.states.answer.square().sum()
        (loss + answer.logits.square().mean()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-5)


def test_a_layout_that_is_not_known_is_refused_with_a_way_out(tiny_llava):
    loaded = load_model(tiny_llava)
    ids = make_batch(loaded).model_inputs["input_ids"]
    shorter = ids.clone()
    first = (ids[0] == loaded.model.config.image_token_id).nonzero()[0]
    shorter[0, first] = 1  # 8 image tokens are no square
    with pytest.raises(ModelError, match="8 image tokens of a llava model") as error:
        find_views(loaded.model.config, {"input_ids": shorter})
    assert "refine.feature=null" in error.value.hint


def test_a_family_whose_layout_nobody_told_is_refused_even_where_its_tokens_are_a_square(tiny_llava):
    loaded = load_model(tiny_llava)
    loaded.model.config.model_type = "mistral3"
    with pytest.raises(ModelError, match="of a mistral3 model lie over the picture is not known"):
        find_views(loaded.model.config, make_batch(loaded).model_inputs)


@pytest.mark.parametrize(
    ("layer_map", "layers", "depths", "expected"),
    [
        ("relative", 4, (4, 8), ((0, 1, 2, 3), (1, 3, 5, 7))),
        ("relative", 3, (30, 6), ((9, 19, 29), (1, 3, 5))),
        ("relative", 4, (2, 80), ((0, 1), (39, 79))),
        ("relative", 1, (5, 7), ((4,), (6,))),
        ("last", 4, (12, 80), ((11,), (79,))),
    ],
)
def test_layers_at_equal_depth_are_matched(layer_map, layers, depths, expected):
    assert match_layers(layer_map, layers, *depths) == expected


def test_matched_layers_ascend_and_end_with_the_last():
    for own, theirs, layers in np.random.default_rng(0).integers(1, 90, (300, 3)).tolist():
        for depth, matched in zip((own, theirs), match_layers("relative", layers, own, theirs), strict=True):
            assert matched[-1] == depth - 1 and len(matched) == min(own, theirs, layers)
            assert list(matched) == sorted(set(matched)) and matched[0] >= 0


def test_views_say_where_the_whole_picture_is_among_tiles(tmp_path):
    expected = {
        "internvl, split": lambda count: View(count - 4, 2, 2),
        "idefics3, split": lambda count: View(count - 4, 2, 2),
        "smolvlm, split": lambda count: View(count - 4, 2, 2),
        "llava-onevision": lambda count: View(0, 4, 4),
    }
    for name, view in expected.items():
        loaded = load_model(ALL[name](tmp_path / name.replace(", ", "-")))
        inputs = make_batch(loaded).model_inputs
        counts = find_image_tokens(loaded.model.config, inputs["input_ids"]).sum(-1).tolist()
        assert max(counts) > 4
        assert find_views(loaded.model.config, inputs) == [view(count) for count in counts]
