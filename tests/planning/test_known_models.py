"""Known models: shapes that add up to the published sizes, and readers that make the right image tokens."""

import pytest
import torch

from hkdcli.models.loading import load_processor, read_config
from hkdcli.planning.hollow import build_from_config
from hkdcli.planning.known_models import build_config, list_known_models, write_known_folder
from hkdcli.planning.records import find_longest, make_up_records

# Parameters in the safetensors of the hub, as their index files and model pages give them.
PARAMETERS = {
    "HuggingFaceTB/SmolVLM-256M-Instruct": 256_484_928,
    "HuggingFaceTB/SmolVLM-500M-Instruct": 507_482_304,
    "HuggingFaceTB/SmolVLM-Instruct": 2_246_272_880,
    "OpenGVLab/InternVL3-2B-hf": 2_088_957_440,
    "OpenGVLab/InternVL3-8B-hf": 7_944_373_760,
    "OpenGVLab/InternVL3-38B-hf": 38_388_164_992,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3_754_622_976,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "Qwen/Qwen2.5-VL-32B-Instruct": 33_452_718_336,
    "Qwen/Qwen2.5-VL-72B-Instruct": 73_410_777_344,
    "Qwen/Qwen3-VL-2B-Instruct": 2_127_532_032,
    "Qwen/Qwen3-VL-4B-Instruct": 4_437_815_808,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
    "Qwen/Qwen3-VL-32B-Instruct": 33_357_390_064,
}

# Of a picture of 640 x 480: patches of 28 or 32 pixels to a token; tiles of 448, 512 or 384 pixels, and one
# of the whole picture.
IMAGE_TOKENS = {
    "Qwen/Qwen2.5-VL-3B-Instruct": 17 * 23,
    "Qwen/Qwen3-VL-4B-Instruct": 15 * 20,
    "OpenGVLab/InternVL3-2B-hf": 13 * 256,
    "HuggingFaceTB/SmolVLM-256M-Instruct": 13 * 64,
    "HuggingFaceTB/SmolVLM-Instruct": 13 * 81,
}


def test_every_model_of_the_shipped_recipes_is_known():
    assert set(list_known_models()) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_shapes_add_up_to_the_parameters_of_the_real_model(name):
    hollow = build_from_config(build_config(list_known_models()[name]), dtype=torch.bfloat16)
    assert sum(parameter.numel() for parameter in hollow.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", IMAGE_TOKENS)
def test_a_stand_in_reads_images_as_the_real_processor_and_text_by_words(name, tmp_path):
    folder = write_known_folder(list_known_models()[name], tmp_path / "model")
    assert read_config(folder).image_token_id == load_processor(folder).image_token_id
    _, lengths = find_longest(make_up_records(), load_processor(folder))
    assert lengths.image_most == IMAGE_TOKENS[name]
    # Instruction, 60 words of caption, question and four choices; SmolVLM writes rows and columns of tiles.
    rows = 13 * 9 if "SmolVLM" in name else 0
    assert 150 < lengths.longest - lengths.image_most - rows < 350


def test_a_stand_in_has_as_many_tokens_as_the_real_tokenizer(tmp_path):
    known = list_known_models()["Qwen/Qwen2.5-VL-3B-Instruct"]
    tokenizer = load_processor(write_known_folder(known, tmp_path / "model")).tokenizer
    assert len(tokenizer) == known.family["tokens"] <= known.shape["text_config"]["vocab_size"]
    letters = [tokenizer(letter, add_special_tokens=False).input_ids for letter in "ABC"]
    assert all(len(ids) == 1 for ids in letters) and letters[0] != letters[1]
    assert len(tokenizer("A photograph of two dogs.").input_ids) == 7  # "photograph" is two pieces
