# SPDX-License-Identifier: Apache-2.0
"""Proves the names of tensors, results and exported models, and which names are plain."""

from __future__ import annotations

import pytest

from wav2vec2_eval.files import names


@pytest.mark.parametrize(
    ("layout", "expected"),
    [("suite", ["12.bin", "12.mask.bin"]), ("ais_bench", ["input/12.npy", "attention_mask/12.npy"])],
)
@pytest.mark.parametrize("folder", ["", "./", "./pre data/clean/", "/input/", "input/"])
def test_the_name_of_a_tensor_is_found_in_its_path(layout, expected, folder):
    assert names.tensor_names("12", layout) == expected
    assert [names.tensor_name(f"{folder}{name}") for name in expected] == expected
    assert all(map(names.is_recordable, expected))


@pytest.mark.parametrize(
    ("path", "expected"),
    [("./input/0.bin", "0.bin"), ("other/0.npy", "0.npy"), ("0.npy", "0.npy"), ("input//0.npy", "0.npy")],
)
def test_a_folder_with_the_name_of_an_input_may_hold_all_tensors(path, expected):
    assert names.tensor_name(path) == expected


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "input/", "input/..", "input/a/b", "input/input/a", "/input/a", "../input/a", "Input/a"]
)
def test_other_names_are_not_recorded(name):
    assert not names.is_recordable(name)


@pytest.mark.parametrize("name", ["0.bin", "a b.txt", "ä.txt", ".hidden", "...", "你好"])
def test_plain_names_name_a_file_in_the_folder(name):
    assert names.is_plain(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/a", "../a", "a\nb", "a\tb", "a\0", "\u2028", "\ud800", "a\x7f"]
)
def test_other_names_are_not_plain(name):
    assert not names.is_plain(name)


@pytest.mark.parametrize("key", ["0", "61-1-0", "a.b", "a.0", "a.0.bin"])
@pytest.mark.parametrize("output", [0, 11])
@pytest.mark.parametrize("res_save_type", ["bin", "npy"])
def test_the_name_of_a_result_gives_back_its_key(key, output, res_save_type):
    name = names.result_name(key, output, res_save_type)
    assert name == f"{key}.{output}.{res_save_type}"
    assert names.result_key(name) == key


@pytest.mark.parametrize(
    "name", ["", "0.bin", ".0.bin", "0.mask.bin", "0.0.txt", "0.0.bin.tmp", "results.tsv", "run.json"]
)
def test_other_names_are_no_results(name):
    assert names.result_key(name) is None


@pytest.mark.parametrize("key", ["0", "61-1-0", "a.0.bin", "words.ctm"])
def test_captions_and_the_words_file_are_word_times(key):
    assert names.captions_name(key) == f"{key}.srt"
    assert names.is_word_times(f"{key}.srt") and names.is_word_times("words.ctm")


@pytest.mark.parametrize("name", ["0.bin", "wer.txt", "transcriptions.txt", "0.SRT", "my.words.ctm", "srt"])
def test_other_names_are_no_word_times(name):
    assert not names.is_word_times(name)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "m.onnx"),
        ({"attention_mask": True}, "m-masked.onnx"),
        ({"int8": True}, "m-int8.onnx"),
        ({"attention_mask": True, "int8": True}, "m-masked-int8.onnx"),
    ],
)
def test_the_name_of_a_model_tells_its_kind(options, expected):
    assert names.model_name("m", **options) == expected


@pytest.mark.parametrize("model", ["m", "m.v2-masked", "m+"])
def test_the_name_of_weights_tells_their_model(model):
    name = names.weights_name(model, "0123456789abcdef0123")
    assert name == f"{model}-0123456789abcdef.data"
    assert names.is_weights_of(model, name)


@pytest.mark.parametrize("name", ["m.data", "m-0123.data", "other-0123456789abcdef.data", "x/m-0123456789abcdef.data"])
def test_other_names_are_not_those_of_weights(name):
    assert not names.is_weights_of("m", name)


def test_transcriptions_have_no_name_of_another_file():
    fixed = [value for name, value in vars(names).items() if name.endswith("_NAME")]
    assert len(fixed) > 10
    assert not any(map(names.is_free, (*fixed, "0.0.bin", "a.1.npy", "0.srt", ".srt", "", "a/b", "..")))
    assert all(map(names.is_free, ("transcriptions.txt", "0.bin", "ä b.txt", "srt", "0.srt.txt", "0.ctm")))


@pytest.mark.parametrize("name", ["wav2vec2-base-960h", "a", "a.b", "my model", "masked", "int8", "a-masked-2"])
def test_base_names_of_exported_models(name):
    assert names.is_base_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", ".a", "-a", "a/b", "a-masked", "a-int8", "a-openvino", "a.onnx", "a.om", "a.om2"]
)
def test_names_that_would_say_something_else_are_no_base_names(name):
    assert not names.is_base_name(name)
