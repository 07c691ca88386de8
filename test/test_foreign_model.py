# SPDX-License-Identifier: Apache-2.0
"""Proves that a model of another exporter, with a mask of integers, runs with the data of `--attention_mask`."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from conftest import DEMO_DATA, DEMO_MODEL, ROOT, check_clean, on_ascend, run_ok, run_script

MASKS = {name: getattr(TensorProto, name.upper()) for name in ("int32", "int64", "bool", "uint8")}
INFER = ("--input_info_file_path=./pre/bin_file.info", "--infer_res_save_path=./res", "--model_path=./foreign.onnx")
FLOATS = "--input_dtypes=float32,float32"


def foreign_model(mask: int, waveform: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """(B, T) `input_values` and `attention_mask` -> (B, F, 32) logits of the product; no metadata."""
    kernel = np.random.default_rng(0).standard_normal((32, 1, 400)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["input_values"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["values", "factor"], ["masked"]),
        helper.make_node("Unsqueeze", ["masked"], ["channel"], axes=[1]),
        helper.make_node("Conv", ["channel", "kernel"], ["features"], strides=[320]),
        helper.make_node("Transpose", ["features"], ["logits"], perm=[0, 2, 1]),
    ]
    axes = ["batch_size", "sequence_length"]
    inputs = [("input_values", waveform), ("attention_mask", mask)]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info(name, element, axes) for name, element in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", "frames", 32])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    return helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", 11)])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with three masked utterances of the demo in ./pre; not to be changed."""
    cwd = tmp_path_factory.mktemp("foreign")
    run_ok(
        "preprocess.py", "--pre_data_save_path=./pre", "--attention_mask", "--limit=3", *DEMO_DATA, DEMO_MODEL, cwd=cwd
    )
    return cwd


@pytest.fixture
def user(data, tmp_path):
    """A user's folder with these utterances."""
    (tmp_path / "pre").symlink_to(data / "pre")
    return tmp_path


def expected_logits(cwd, mask: str) -> list[np.ndarray]:
    """By onnxruntime, from a mask that numpy converts."""
    session = onnxruntime.InferenceSession(cwd / "foreign.onnx")
    pairs = [
        [np.fromfile(cwd / f"pre/{key}{name}.bin", np.float32)[None] for name in ("", ".mask")] for key in range(3)
    ]
    assert all(0 < ones.sum() < ones.size for _, ones in pairs), "every utterance is padded, or the mask says nothing"
    return [
        session.run(None, {"input_values": samples, "attention_mask": ones.astype(mask)})[0] for samples, ones in pairs
    ]


def results(cwd) -> list[np.ndarray]:
    return [np.fromfile(cwd / f"res/{key}.0.bin", np.float32).reshape(1, -1, 32) for key in range(3)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_on_a_cpu(user, engine, mask):
    if engine == "openvino":
        pytest.importorskip("openvino")
    onnx.save(foreign_model(MASKS[mask]), user / "foreign.onnx")
    run_ok("pyacl_infer.py", *INFER, FLOATS, f"--engine={engine}", cwd=user)
    for actual, wanted in zip(results(user), expected_logits(user, mask), strict=True):
        assert np.abs(actual - wanted).max() < 1e-5 * np.abs(wanted).max()
    run_ok("postprocess.py", "--bin_file_path=./res", "--res_save_path=./res/t.txt", cwd=user)
    assert len((user / "res/t.txt").read_text().splitlines()) == 3


@pytest.mark.parametrize("sync", ["True", "False"])
@pytest.mark.parametrize("mask", ["int32", "int64", "uint8"])  # atc compiles no bool
def test_on_an_npu(user, mask, sync):
    onnx.save(foreign_model(MASKS[mask]), user / "foreign.onnx")
    lengths = (user / "pre/padding_lens.txt").read_text().split()
    shapes = ["--input_shape=input_values:1,-1;attention_mask:1,-1"]
    shapes += ["--dynamic_dims=" + ";".join(f"{length},{length}" for length in lengths)]
    if len(lengths) == 1:
        shapes = [f"--input_shape=input_values:1,{lengths[0]};attention_mask:1,{lengths[0]}"]
    options = ("--framework=5", "--model=foreign.onnx", "--output=foreign", "--input_format=ND", *shapes)
    done = on_ascend("atc", *options, "--soc_version=Ascend310P3", cwd=user, STRICT=0)
    assert done.returncode == 0, done.stdout
    command = (sys.executable, ROOT / "pyacl_infer.py", *INFER[:2], "--model_path=./foreign.om", FLOATS)
    done = on_ascend(*command, f"--sync_infer={sync}", cwd=user)
    assert (done.returncode, done.stderr) == (0, "")
    check_clean(user)
    for actual, wanted in zip(results(user), expected_logits(user, mask), strict=True):
        assert actual.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("waveform", "mask", "dtypes", "message"),
    [
        ("float", "int64", "float32,int64", "0.mask.bin: expected int64 as --input_dtypes says, found float32 of"),
        # As many bytes as float32: without the data's record, 1 would be read as 1065353216.
        ("float", "int32", "float32,int32", "0.mask.bin: expected int32 as --input_dtypes says, found float32 of"),
        ("float", "int64", "float32", "the model's inputs are input_values float32, attention_mask int64; expected"),
        ("int16", "int64", "float32,float32", "utterance 0: the model's input_values is int16, expected whole numbers"),
    ],
)
def test_what_does_not_fit_ends_in_one_line_and_costs_no_results(user, waveform, mask, dtypes, message):
    onnx.save(foreign_model(MASKS["int64"]), user / "foreign.onnx")
    run_ok("pyacl_infer.py", *INFER, FLOATS, cwd=user)
    earlier = [array.tobytes() for array in results(user)]
    onnx.save(foreign_model(MASKS[mask], getattr(TensorProto, waveform.upper())), user / "foreign.onnx")
    done = run_script("pyacl_infer.py", *INFER, f"--input_dtypes={dtypes}", cwd=user)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    if waveform == "float":
        assert "--input_dtypes=float32,float32" in done.stderr
    assert [array.tobytes() for array in results(user)] == earlier
