# SPDX-License-Identifier: Apache-2.0
"""Proves that load_model gives a model ready for inference, and refuses weights that lack a part."""

from __future__ import annotations

import shutil

import pytest
import torch
from transformers import Wav2Vec2ForCTC

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.pytorch_model import load_model

from conftest import make_model


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of the model's folder, to be changed."""
    return shutil.copytree(model_folder, tmp_path / "model")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_model_is_ready_for_inference(folder, dtype, attention):
    model = load_model(str(folder), dtype=dtype, attention=attention)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert model.config._attn_implementation == attention


def test_the_weights_are_those_of_the_folder(folder):
    expected = Wav2Vec2ForCTC.from_pretrained(folder).state_dict()
    actual = load_model(str(folder)).state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_a_model_without_a_head_is_refused(folder):
    """Otherwise transformers would make a random head."""
    Wav2Vec2ForCTC.from_pretrained(folder).wav2vec2.save_pretrained(folder)
    with pytest.raises(SuiteError, match=r"2 weights are missing .*lm_head.*; expected a fine-tuned Wav2Vec2ForCTC"):
        load_model(str(folder))


def test_a_head_of_another_size_is_refused(folder, tmp_path):
    shutil.copy(make_model(tmp_path / "other", vocab_size=40) / "config.json", folder)
    with pytest.raises(SuiteError, match=r"of another shape .*lm_head"):
        load_model(str(folder))


def test_weights_that_only_training_reads_may_be_missing(folder):
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    weights = model.state_dict()
    del weights["wav2vec2.masked_spec_embed"]
    model.save_pretrained(folder, state_dict=weights)
    load_model(str(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "weights are missing or of another shape"),  # transformers takes base-960h's own configuration
        ("model.safetensors", "cannot be loaded as Wav2Vec2ForCTC"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_in_one_line(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(SuiteError, match=message) as failure:
        load_model(str(folder))
    assert "\n" not in str(failure.value)
    assert str(failure.value).startswith(str(folder))


def test_a_failure_of_the_hub_names_the_way_around_it():
    """The tests have no network."""
    with pytest.raises(SuiteError, match=r"nobody/nothing: not loaded from the hub .* by --model_name_or_path"):
        load_model("nobody/nothing")
