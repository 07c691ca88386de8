# SPDX-License-Identifier: Apache-2.0
"""Proves which names a precision has, and which engine of a CPU computes in it."""

from __future__ import annotations

import pytest

from wav2vec2_eval.engines import precision
from wav2vec2_eval.errors import SuiteError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("f32", "f32"),
        ("float32", "f32"),
        ("bf16", "bf16"),
        ("bfloat16", "bf16"),
        ("f16", "f16"),
        ("float16", "f16"),
        ("int8", "int8"),
        ("", ""),
        ("Float32", "Float32"),
        ("f64", "f64"),
    ],
)
def test_parse_precision_knows_both_names(text, name):
    assert precision.parse_precision(text) == name


def test_every_offered_precision_has_a_name():
    assert {*precision.CPU_PRECISIONS, *precision.PYTORCH_PRECISIONS} == set(precision.PRECISIONS)


NOT_INSTALLED = "--engine=openvino: OpenVINO cannot be imported"
NOT_COMPUTED = "--precision=bf16: onnxruntime computes in float32"


@pytest.mark.parametrize(
    ("engine", "asked", "installed", "not_installed"),
    [
        ("auto", "f32", "onnxruntime", "onnxruntime"),
        ("auto", "bf16", "openvino", NOT_COMPUTED),
        ("auto", "int8", "openvino", "onnxruntime"),
        ("onnxruntime", "f32", "onnxruntime", "onnxruntime"),
        ("onnxruntime", "bf16", NOT_COMPUTED, NOT_COMPUTED),
        ("onnxruntime", "int8", "onnxruntime", "onnxruntime"),
        ("openvino", "f32", "openvino", NOT_INSTALLED),
        ("openvino", "bf16", "openvino", NOT_INSTALLED),
        ("openvino", "int8", "openvino", NOT_INSTALLED),
    ],
)
def test_the_engine_follows_from_precision_and_installation(engine, asked, installed, not_installed):
    """The last two columns hold the chosen engine or the beginning of the refusal, with and without OpenVINO."""
    for is_installed, expected in ((lambda: True, installed), (lambda: False, not_installed)):
        if expected in precision.CPU_ENGINES:
            assert precision.choose_cpu_engine(engine, asked, is_installed) == expected
        else:
            with pytest.raises(SuiteError, match=expected):
                precision.choose_cpu_engine(engine, asked, is_installed)


@pytest.mark.parametrize(("engine", "asked"), [("auto", "bf16"), ("onnxruntime", "bf16"), ("openvino", "f32")])
def test_a_refusal_says_how_to_install_openvino(engine, asked):
    with pytest.raises(SuiteError, match=precision.INSTALL_OPENVINO):
        precision.choose_cpu_engine(engine, asked, openvino_is_installed=lambda: False)
