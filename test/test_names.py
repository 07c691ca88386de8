# SPDX-License-Identifier: Apache-2.0
"""Proves which utterance a tensor file belongs to, and the name of each exported model."""

from __future__ import annotations

import pytest

from wav2vec2_eval.files import names


@pytest.mark.parametrize(
    ("index", "attention_mask", "expected"),
    [(0, False, ["0.bin"]), (12, True, ["12.bin", "12.mask.bin"])],
)
def test_tensor_names_have_the_index_of_their_utterance(index, attention_mask, expected):
    found = names.tensor_names(index, attention_mask)
    assert found == expected
    assert {names.tensor_index(name) for name in found} == {index}


@pytest.mark.parametrize("name", ["0", ".bin", "a.bin", "0.npy", "0.0.bin", "-1.bin", "0.bin.tmp", "\u0663.bin"])
def test_other_names_are_no_tensors_of_the_data_folder(name):
    assert names.tensor_index(name) is None


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
