# SPDX-License-Identifier: Apache-2.0
"""Proves that the onnxruntime engine equals onnxruntime to the bit, shares out time fairly, and reports errors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from wav2vec2_eval.engines.onnxruntime_cpu import OnnxruntimeEngine
from wav2vec2_eval.errors import SuiteError

from conftest import BARE_ENVIRONMENT, ROOT, noise, write_two_input_model


def waveform(length: int) -> np.ndarray:
    return noise(length, seed=length).astype(np.float32)[None]


def test_onnx_engine_equals_onnxruntime_to_the_bit(chain):
    path = chain / "models/wav2vec2-base-960h.onnx"
    samples = np.fromfile(chain / "pre_data/clean/0.bin", np.float32)[None]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    expected = onnxruntime.InferenceSession(path, options).run(None, {"input": samples})[0]
    with OnnxruntimeEngine(path, num_threads=2) as engine:
        (result,) = engine.stream([[samples]])
    assert result.outputs[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("model", "names", "shape"),
    [("plain", ["input"], (None, None)), ("masked", ["input", "attention_mask"], (None, None))],
)
def test_inputs_and_conditions(chain, masked_export, model, names, shape):
    path = chain / "models/wav2vec2-base-960h.onnx" if model == "plain" else masked_export.path
    with OnnxruntimeEngine(path, num_threads=2) as engine:
        assert [(spec.name, spec.dtype.name, spec.shape) for spec in engine.inputs] == [
            (name, "float32", shape) for name in names
        ]
        assert engine.gears is None
        assert engine.conditions.engine == f"onnxruntime {onnxruntime.__version__}"
        assert engine.conditions[2:] == ("float32", 2, 1, None, None)


def test_a_batch_equals_single_utterances_and_shares_its_time(masked_export):
    """Five utterances in batches of two: 2, 2 and 1."""
    lengths = [9_000, 33_361, 400, 21_037, 10_000]
    utterances = [[waveform(length), np.ones((1, length), np.float32)] for length in lengths]
    with OnnxruntimeEngine(masked_export.path, num_threads=2) as engine:
        single = list(engine.stream(utterances))
    with OnnxruntimeEngine(masked_export.path, num_threads=2, batch_size=2) as engine:
        batched = list(engine.stream(utterances))
        assert engine.conditions.batch_size == 2
    for one, other in zip(single, batched, strict=True):
        (expected,), (actual,) = one.outputs, other.outputs
        np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())
    times = [result.pure_ns for result in batched]
    assert times[0] == times[1] > 0 and times[2] == times[3] > 0 and times[4] > 0


def test_a_plain_model_takes_no_batches(chain):
    with pytest.raises(SuiteError, match="--batch_size=2 needs a model with attention_mask"):
        OnnxruntimeEngine(chain / "models/wav2vec2-base-960h.onnx", num_threads=1, batch_size=2)


def test_an_utterance_that_fails_is_named_by_its_shape(chain):
    """The results before the failure are yielded."""
    with OnnxruntimeEngine(chain / "models/wav2vec2-base-960h.onnx", num_threads=1) as engine:
        results = engine.stream([[waveform(5_000)], [waveform(100)]])
        assert next(results).outputs[0].shape == (1, 15, 32)
        with pytest.raises(SuiteError, match=r"onnxruntime failed on inputs of shape \(1, 100\): ") as failure:
            next(results)
    assert "\n" not in str(failure.value)


def test_the_precision_must_be_the_models(tmp_path):
    path = write_two_input_model(tmp_path / "m.onnx")
    with pytest.raises(SuiteError, match="--precision=int8, but the model's weights are f32"):
        OnnxruntimeEngine(path, num_threads=1, precision="int8")
    model = onnx.load(path)
    helper.set_model_props(model, {"precision": "int8"})
    onnx.save(model, path)
    with OnnxruntimeEngine(path, num_threads=1, precision="int8") as engine:
        assert engine.conditions.precision == "int8"


def test_a_type_that_the_suite_does_not_know_is_refused(tmp_path):
    value = [helper.make_tensor_value_info(name, TensorProto.STRING, [1]) for name in ("text", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["text"], ["same"])], "text", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(SuiteError, match=r"model input text: expected a tensor of float16 .*, found string"):
        OnnxruntimeEngine(tmp_path / "m.onnx", num_threads=1)


def test_a_model_that_onnxruntime_refuses_is_one_line(tmp_path, capfd):
    """onnxruntime would print four lines about another provider, and try it."""
    path = write_two_input_model(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes().replace(b"Sub", b"S\xffb"))  # an operator that does not exist
    with pytest.raises(SuiteError, match=r"m\.onnx: cannot be loaded \(.*\); export it again") as refusal:
        OnnxruntimeEngine(path, num_threads=1)
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def test_names_that_are_no_utf8(tmp_path, capfd):
    path = write_two_input_model(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes().replace(b"difference", b"differ\xffnce"))
    with pytest.raises(SuiteError, match=r"m\.onnx: cannot be loaded \(.*codec can't decode.*\); export it again"):
        OnnxruntimeEngine(path, num_threads=1)
    assert capfd.readouterr() == ("", "")


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from wav2vec2_eval import cli
from wav2vec2_eval.engines.onnxruntime_cpu import OnnxruntimeEngine

def main(_):
    engine = OnnxruntimeEngine(Path(sys.argv[1]), num_threads=1)
    arrays = [np.ones((1, 20_000_000), np.float32)] * 2
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000,) * 2)
    list(engine.stream([arrays]))

cli.run(main)
"""


def test_a_lack_of_memory_is_one_line(tmp_path):
    path = write_two_input_model(tmp_path / "m.onnx")
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, str(path)],
        env={**BARE_ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    expected = "onnxruntime failed on inputs of shape (1, 20000000), (1, 20000000): not enough memory"
    assert done.stderr == f"-c: error: {expected}\n"


def test_where_onnxruntime_is_not_installed(chain, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SuiteError, match=r"onnxruntime is not installed, .*; pip install onnxruntime"):
        OnnxruntimeEngine(chain / "models/wav2vec2-base-960h.onnx", num_threads=1)
