# SPDX-License-Identifier: Apache-2.0
"""Proves that load_model gives a model ready for inference, and refuses weights that are not those of config.json."""

from __future__ import annotations

import json
import os
import resource
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCTC, Wav2Vec2ForCTC

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.model_folder import symbols as read_symbols
from wav2vec2_eval.sources.pytorch_model import load_model
from wav2vec2_eval.speech.audio import frame_count

from conftest import KINDS, SYMBOLS, make_model, noise


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


def with_older_names(weights):
    """The names of weight norm before PyTorch 2, as in the files of base-960h."""
    new, old = ".parametrizations.weight.original", ".weight_"
    found = {key.replace(f"{new}0", f"{old}g").replace(f"{new}1", f"{old}v"): weights[key] for key in weights}
    assert found.keys() != weights.keys()
    return found


def without_prefix(weights):
    """The names in the files of a model's body, before it got a head."""
    return {key if key.startswith("lm_head") else key.partition(".")[2]: weights[key] for key in weights}


@pytest.mark.parametrize("older", [dict, with_older_names, without_prefix])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_each_type_is_the_one_that_transformers_loads(tmp_path, kind, older):
    folder = make_model(tmp_path, kind=kind)
    expected = AutoModelForCTC.from_pretrained(folder)
    if kind != "data2vec-audio" or older != with_older_names:
        change_weights(folder, older)
    model = load_model(str(folder))
    assert type(model) is type(expected)
    waveform = torch.from_numpy(noise(9_000)[None].astype(np.float32))
    with torch.inference_mode():
        assert torch.equal(model(waveform).logits, expected.eval()(waveform).logits)
    assert model(waveform).logits.shape[1] == frame_count(9_000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_each_type_needs_its_head_and_all_layers(tmp_path, kind):
    folder = make_model(tmp_path, kind=kind)
    change_config(folder, num_hidden_layers=3)
    with pytest.raises(
        SuiteError, match=r"weights are missing \(first: .*layers\.2\..*; expected a fine-tuned .*ForCTC"
    ):
        load_model(str(folder))
    change_config(folder, num_hidden_layers=2)
    change_weights(folder, lambda weights: {key: weights[key] for key in weights if not key.startswith("lm_head")})
    with pytest.raises(SuiteError, match=r"2 weights are missing \(first: lm_head\.bias\)"):
        load_model(str(folder))


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2-bert", "unispeech", "", None, 5, ["hubert"], {"a": [0] * 5_000}])
def test_a_model_of_another_type_is_refused_before_its_weights_are_read(folder, kind):
    change_config(folder, model_type=kind)
    (folder / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(
        SuiteError, match=f"^{folder}: expected a CTC model of model_type wav2vec2, hubert, "
    ) as failure:
        load_model(str(folder))
    assert len(str(failure.value)) < 500


# Models for several languages


LANGUAGES = {"eng": SYMBOLS, "fra": ["<pad>", "<s>", "</s>", "<unk>", "|", "é", "à"]}


@pytest.fixture
def several(tmp_path):
    """A model for several languages, with an adapter of fra that has an output layer of its own."""
    options = {"adapter_attn_dim": 8, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
    folder = make_model(tmp_path / "several", **options)
    nested = {name: {symbol: index for index, symbol in enumerate(symbols)} for name, symbols in LANGUAGES.items()}
    (folder / "vocab.json").write_text(json.dumps(nested))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_lang": "eng"}))
    other = make_model(tmp_path / "other", seed=1, vocab_size=len(LANGUAGES["fra"]), **options)
    weights = load_file(other / "model.safetensors")
    chosen = {key: weights[key] for key in weights if ".adapter_layer." in key or key.startswith("lm_head.")}
    save_file(chosen, folder / "adapter.fra.safetensors", {"format": "pt"})
    return folder


def logits(model):
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(noise(9_000)[None].astype(np.float32))).logits


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_the_adapter_of_a_language_is_the_one_that_transformers_loads(several, suffix):
    path = several / "adapter.fra.safetensors"
    if suffix == ".bin":
        torch.save(load_file(path), path.with_suffix(suffix))
        path.unlink()
    expected = logits(Wav2Vec2ForCTC.from_pretrained(several, target_lang="fra", ignore_mismatched_sizes=True))
    model = load_model(str(several), target_lang="fra")
    assert torch.equal(logits(model), expected)
    assert expected.shape[2] == len(LANGUAGES["fra"]) == len(read_symbols(str(several), "fra").table)
    assert not model.training and not any(weight.requires_grad for weight in model.parameters())
    half = load_model(str(several), target_lang="fra", dtype=torch.float16)
    assert {weight.dtype for weight in half.parameters()} == {torch.float16}


def test_the_folders_own_language_may_have_an_adapter_or_not(several):
    expected = logits(Wav2Vec2ForCTC.from_pretrained(several))
    assert torch.equal(logits(load_model(str(several))), expected)
    assert torch.equal(logits(load_model(str(several), target_lang="eng")), expected)
    path = several / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_lang": "fra"}))
    assert torch.equal(logits(load_model(str(several))), logits(load_model(str(several), target_lang="fra")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: weights | {"wav2vec2.x": torch.zeros(3)},
            r"1 weights are not in the model \(first: wav2vec2.x",
        ),
        (lambda weights: {"lm_head.bias": weights["lm_head.bias"]}, "weights are missing"),
        (lambda weights: weights | {"lm_head.weight": torch.zeros(7, 3)}, r"of another shape \(first: lm_head.weight"),
        (lambda weights: {}, "expected an adapter with an lm_head"),
        (lambda weights: weights | {"lm_head.bias": torch.zeros(9)}, "outputs in adapter.fra.safetensors is 9"),
    ],
)
def test_an_adapter_of_another_model_is_refused(several, change, message):
    path = several / "adapter.fra.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})
    with pytest.raises(SuiteError, match=message) as failure:
        read_symbols(str(several), "fra")
        load_model(str(several), target_lang="fra")
    assert len(str(failure.value).splitlines()) == 1


@pytest.mark.parametrize("language", ["../fra", "a/b", "deu", "fra\n"])
def test_a_language_that_is_not_there_is_refused(several, language):
    for read in (read_symbols, lambda name, language: load_model(name, target_lang=language)):
        with pytest.raises(
            SuiteError, match=r"has no vocabulary of|has no adapter|expected the name of a language"
        ) as failure:
            read(str(several), language)
        assert len(str(failure.value).splitlines()) == 1


def test_a_language_without_an_adapter_is_refused(several):
    """Its symbols would name the outputs of another language, unseen where both have equally many."""
    (several / "vocab.json").write_text(
        json.dumps({key: {symbol: index for index, symbol in enumerate(LANGUAGES["eng"])} for key in LANGUAGES})
    )
    (several / "adapter.fra.safetensors").unlink()
    for read in (read_symbols, lambda name, language: load_model(name, target_lang=language)):
        with pytest.raises(SuiteError, match=r"--target_lang=fra: .* has no adapter\.fra\.safetensors"):
            read(str(several), "fra")
    load_model(str(several), target_lang="eng")


def change_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def change_weights(folder, change):
    """Replace the weights by what `change` makes of them: name -> tensor."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def as_bin(folder, change=dict, **options):
    """Store the weights as older versions of transformers did."""
    path = folder / "model.safetensors"
    torch.save(change(load_file(path)), folder / "pytorch_model.bin", **options)
    path.unlink()


def as_parts(folder):
    """Store the weights as those of large models, in two files."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    path.unlink()
    names = {key: f"model-0000{number % 2}.safetensors" for number, key in enumerate(sorted(weights))}
    for name in set(names.values()):
        save_file({key: weights[key] for key in names if names[key] == name}, folder / name, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def with_training_parts(weights):
    return weights | {f"{part}.weight": torch.zeros(3, 4) for part in ("quantizer", "project_q", "project_hid")}


@pytest.mark.parametrize(
    "store",
    [
        lambda folder: change_weights(folder, with_older_names),
        lambda folder: change_weights(folder, with_training_parts),
        lambda folder: change_weights(folder, lambda weights: {k: w for k, w in weights.items() if "masked" not in k}),
        lambda folder: change_config(folder, mask_time_prob=0.0, mask_feature_prob=0.0),  # then it is too much
        as_bin,
        lambda folder: as_bin(folder, with_older_names),
        lambda folder: as_bin(folder, _use_new_zipfile_serialization=False),
        as_parts,
    ],
)
def test_weights_may_be_stored_in_other_ways(folder, store):
    expected = load_model(str(folder)).state_dict()
    store(folder)
    actual = load_model(str(folder)).state_dict()
    for name in expected.keys() - {"wav2vec2.masked_spec_embed"}:
        assert torch.equal(actual[name], expected[name])


def test_a_model_without_a_head_is_refused(folder):
    """Otherwise transformers would make a random head."""
    Wav2Vec2ForCTC.from_pretrained(folder).wav2vec2.save_pretrained(folder)
    with pytest.raises(SuiteError, match=r"2 weights are missing .*lm_head.*; expected a fine-tuned Wav2Vec2ForCTC"):
        load_model(str(folder))


def test_a_head_of_another_size_is_refused(folder, tmp_path):
    shutil.copy(make_model(tmp_path / "other", vocab_size=40) / "config.json", folder)
    with pytest.raises(SuiteError, match=r"2 weights are of another shape \(first: lm_head\.bias\)"):
        load_model(str(folder))


EXTRA = "wav2vec2.encoder.layers.7.layer_norm.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: change_config(f, num_hidden_layers=1), r"16 weights are not in the model \(first: .*layers\.1\."),
        (lambda f: change_config(f, num_hidden_layers=0), "32 weights are not in the model"),
        (lambda f: change_config(f, num_hidden_layers=3), r"16 weights are missing \(first: .*layers\.2\."),
        (lambda f: change_config(f, intermediate_size=10**6), r"6 weights are of another shape \(first: .*feed_for"),
        (lambda f: change_config(f, conv_bias=True), "7 weights are missing"),
        (lambda f: change_config(f, feat_extract_norm="layer"), "weights are missing"),
        (lambda f: change_config(f, add_adapter=True), "weights are missing"),
        (lambda f: change_weights(f, lambda w: w | {EXTRA: torch.zeros(3)}), f"first: {EXTRA}"),
        (lambda f: change_weights(f, lambda w: w | {"quantizer": torch.zeros(3)}), "first: quantizer"),
        (lambda f: change_weights(f, lambda w: w | {"lm_head.quantizer.x": torch.zeros(3)}), "first: lm_head.quant"),
        (lambda f: as_bin(f, lambda w: w | {EXTRA: torch.zeros(3)}), f"first: {EXTRA}"),
    ],
)
def test_weights_of_another_model_are_refused(folder, change, message):
    """transformers ignores what is too much, and makes random weights for what is missing."""
    change(folder)
    with pytest.raises(SuiteError, match=f"^{folder}: compared with config.json, .*{message}"):
        load_model(str(folder))


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 100_000},
        {"hidden_size": 10**9, "num_attention_heads": 1},
        {"intermediate_size": 10**12},
        {"vocab_size": 10**12},
        {"conv_dim": [10**9] * 7},
        {"conv_dim": [16] * 10**5, "conv_kernel": [1] * 10**5, "conv_stride": [1] * 10**5},
        {"add_adapter": True, "num_adapter_layers": 100_000},
        {"add_adapter": True, "output_hidden_size": 10**9},
        {"num_hidden_layers": 10**400},
        {"num_attention_heads": 0},
        {"num_hidden_layers": "2"},
        {"hidden_size": None},
        {"conv_dim": {"a": 1}},
    ],
    ids="-".join,
)
def test_absurd_values_are_refused_before_a_model_is_built(folder, values):
    """No value takes the memory, or the time, of the model that it describes."""
    change_config(folder, **values)
    load_model(str(make_model(folder / "other")))  # what every model takes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SuiteError, match=f"^{folder}") as failure:
        load_model(str(folder))
    assert len(str(failure.value).splitlines()) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def replaced(name, replace):
    def change(folder):
        (folder / name).unlink()
        replace(folder / name)

    return change


NO_LOADING = "cannot be loaded as Wav2Vec2ForCTC"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("config.json", lambda path: None), "/config.json: no such file"),
        (replaced("config.json", os.mkfifo), "/config.json: expected a regular file"),
        (replaced("config.json", lambda path: path.write_text("[" * 200_000)), "/config.json: expected JSON"),
        (replaced("config.json", lambda path: path.write_text("{}")), ""),  # the values of base-960h
        (replaced("model.safetensors", lambda path: None), f": {NO_LOADING} .no model.safetensors"),
        (replaced("model.safetensors", os.mkfifo), "/model.safetensors: expected a regular file"),
        (replaced("model.safetensors", lambda path: path.mkdir()), "/model.safetensors: expected a regular file"),
        (replaced("model.safetensors", lambda path: path.symlink_to("gone")), "/model.safetensors: expected a regular"),
        (replaced("model.safetensors", lambda path: path.write_bytes(b"")), f": {NO_LOADING}"),
        (replaced("model.safetensors", lambda path: path.write_bytes(b"\xff" * 99)), f": {NO_LOADING}"),
        (
            replaced("model.safetensors", lambda p: p.with_name("pytorch_model.bin").write_bytes(b"x")),
            f": {NO_LOADING}",
        ),
        (lambda folder: as_bin(folder, lambda weights: [5]), f": {NO_LOADING}"),
        (lambda folder: as_bin(folder, lambda weights: {"state_dict": weights}), f": {NO_LOADING}"),
        (lambda folder: as_parts(folder) or (folder / "model-00001.safetensors").unlink(), "/model-00001.safetensors"),
        (
            lambda folder: (
                as_parts(folder)
                or (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x"}}')
            ),
            "/model.safetensors.index.json: expected a weight_map",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_in_one_line(folder, capfd, change, message):
    change(folder)
    with pytest.raises(SuiteError, match=f"^{folder}{message}") as failure:
        load_model(str(folder))
    assert len(str(failure.value).splitlines()) == 1
    assert capfd.readouterr().err == ""


def test_cut_weights_are_refused_in_one_line(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SuiteError, match=NO_LOADING) as failure:
        load_model(str(folder))
    assert len(str(failure.value).splitlines()) == 1


def test_a_failure_of_the_hub_names_the_way_around_it():
    """The tests have no network."""
    with pytest.raises(SuiteError, match=r"nobody/nothing/.*: not loaded from the hub .* by --model_name_or_path"):
        load_model("nobody/nothing")
