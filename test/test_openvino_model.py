# SPDX-License-Identifier: Apache-2.0
"""Proves that models are read for OpenVINO, and that the conversion to two dimensions is cached whole or not at all.

The conversion is tested on every processor: it is compiled in float32 here, in bfloat16 by the engine.
"""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from wav2vec2_eval.engines import openvino_model
from wav2vec2_eval.engines.base import TensorSpec
from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.errors import SuiteError

from conftest import noise, write_two_input_model

openvino = pytest.importorskip("openvino")


@pytest.fixture
def plain(chain, tmp_path):
    """A copy of the plain model, in a folder without a cache."""
    return Path(shutil.copy(chain / "models/wav2vec2-base-960h.onnx", tmp_path))


def waveform(length: int) -> np.ndarray:
    return noise(length).astype(np.float32)[None]


def logits_in_2d(path: Path, *inputs: np.ndarray) -> np.ndarray:
    """Read the model in two dimensions, and infer one utterance in float32."""
    core = openvino.Core()
    model = openvino_model.read_in_2d(core, path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "SNIPPETS_MODE": "DISABLE"})
    return compiled.create_infer_request().infer(list(inputs))[0].copy()


def test_the_conversion_computes_what_the_model_computes(plain):
    with open_engine(plain, num_threads=1, engine="onnxruntime") as engine:
        (result,) = engine.stream([[waveform(9_000)]])
    (expected,) = result.outputs
    for _ in range(2):  # converted now, then read from the cache
        actual = logits_in_2d(plain, waveform(9_000))
        assert actual.shape == expected.shape
        assert np.abs(actual - expected).max() / np.abs(expected).max() < 1e-4


def test_the_conversion_is_kept_until_the_model_changes(plain, tmp_path, masked_export):
    logits_in_2d(plain, waveform(400))
    cache = tmp_path / "openvino_cache"
    first = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert sorted(name.rpartition(".")[2] for name in first) == ["bin", "xml"]
    logits_in_2d(plain, waveform(400))
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == first
    (cache / "wav2vec2-base-960h-masked-0123456789abcdef.xml").touch()  # of another model
    shutil.copy(masked_export.path, plain)
    logits_in_2d(plain, waveform(400), np.ones((1, 400), np.float32))
    second = {path.name for path in cache.iterdir()}
    assert len(second) == 3 and second.isdisjoint(first)
    assert "wav2vec2-base-960h-masked-0123456789abcdef.xml" in second


@pytest.mark.parametrize("what", ["CONVERSION", "OpenVINO's version"])
def test_the_conversion_is_made_again_by_another_version(plain, tmp_path, monkeypatch, what):
    logits_in_2d(plain, waveform(400))
    first = {path.name for path in (tmp_path / "openvino_cache").iterdir()}
    if what == "CONVERSION":
        monkeypatch.setattr(openvino_model, "CONVERSION", openvino_model.CONVERSION + 1)
    else:
        monkeypatch.setattr(openvino, "__version__", "another")
    logits_in_2d(plain, waveform(400))
    second = {path.name for path in (tmp_path / "openvino_cache").iterdir()}
    assert len(second) == 2 and second.isdisjoint(first)


def test_a_folder_that_cannot_be_written(plain, tmp_path):
    (tmp_path / "openvino_cache").write_text("in the way")
    assert logits_in_2d(plain, waveform(720)).shape == (1, 2, 32)
    assert (tmp_path / "openvino_cache").read_text() == "in the way"


@pytest.mark.parametrize("suffix", ["xml", "bin"])
def test_a_conversion_that_is_not_whole_is_made_again(plain, tmp_path, suffix):
    expected = logits_in_2d(plain, waveform(9_000))
    cache = tmp_path / "openvino_cache"
    (path,) = cache.glob(f"*.{suffix}")
    path.write_bytes(path.read_bytes()[:1000])
    (cache / "new").mkdir()  # left by a run that was killed
    (cache / "new/x.bin").touch()
    assert logits_in_2d(plain, waveform(9_000)).tobytes() == expected.tobytes()
    assert path.stat().st_size > 1000
    assert len(list(cache.iterdir())) == 2


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def mark_as_int8(path: Path) -> None:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"precision": "int8"})
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(cut, "cannot be loaded"), (mark_as_int8, "--precision=bf16, but the model's weights are int8")],
    ids=["corrupt", "int8"],
)
def test_what_cannot_be_converted_is_refused_and_leaves_nothing(plain, tmp_path, damage, message):
    damage(plain)
    with pytest.raises(SuiteError, match=message) as refusal:
        logits_in_2d(plain, waveform(9_000))
    assert str(refusal.value).startswith(str(plain))
    assert not (tmp_path / "openvino_cache").exists()


@pytest.mark.parametrize("function", ["openvino.save_model", "onnx.save"])
def test_a_full_disk_beside_the_model(plain, tmp_path, monkeypatch, function):
    """The conversion goes to another folder, and the full disk keeps nothing of it."""
    module, name = function.split(".")
    save = getattr(sys.modules[module], name)

    def save_elsewhere(model, path, *arguments, **options):
        if Path(path).is_relative_to(tmp_path / "openvino_cache"):
            Path(path).write_bytes(b"the first bytes")
            raise RuntimeError("basic_ios::clear: iostream error") if module == "openvino" else OSError("disk full")
        save(model, path, *arguments, **options)

    monkeypatch.setattr(function, save_elsewhere)
    assert logits_in_2d(plain, waveform(720)).shape == (1, 2, 32)
    assert not (tmp_path / "openvino_cache").exists()


def test_an_interrupted_conversion_leaves_nothing(plain, tmp_path, monkeypatch):
    def interrupted(model, path, **options):
        Path(path).write_bytes(b"the first bytes")
        raise KeyboardInterrupt

    monkeypatch.setattr(openvino, "save_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        logits_in_2d(plain, waveform(720))
    assert not (tmp_path / "openvino_cache").exists()


def test_two_that_convert_at_once(plain, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda _: logits_in_2d(plain, waveform(9_000)).tobytes(), range(2))
        assert len(set(both)) == 1
    assert len(list((tmp_path / "openvino_cache").iterdir())) == 2


@pytest.mark.parametrize(("precision", "fits"), [("f32", True), ("bf16", True), ("int8", False)])
def test_a_model_is_read_only_in_its_precision(plain, precision, fits):
    if fits:
        assert len(openvino_model.read_model(plain, precision).inputs) == 1
    else:
        with pytest.raises(SuiteError, match="--precision=int8, but the model's weights are f32"):
            openvino_model.read_model(plain, precision)
    mark_as_int8(plain)
    if fits:
        with pytest.raises(SuiteError, match=f"--precision={precision}, but the model's weights are int8"):
            openvino_model.read_model(plain, precision)
    else:
        assert len(openvino_model.read_model(plain, precision).inputs) == 1


@pytest.mark.parametrize("text", ["", "hi", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"])
def test_a_text_file_is_no_model(tmp_path, text):
    (tmp_path / "model.onnx").write_text(text)
    with pytest.raises(SuiteError, match=r"model\.onnx: cannot be loaded"):
        openvino_model.read_model(tmp_path / "model.onnx", "f32")


def test_inputs_as_the_suite_names_them(tmp_path):
    model = openvino_model.read_model(write_two_input_model(tmp_path / "m.onnx", onnx.TensorProto.FLOAT16), "f32")
    specs = [openvino_model.tensor_spec(node) for node in model.inputs]
    assert specs == [TensorSpec(name, np.dtype("float16"), (1, None)) for name in "ab"]


def test_a_type_that_the_suite_does_not_know_is_refused():
    node = openvino.op.Parameter(openvino.Type.string, openvino.PartialShape([1, -1])).output(0)
    node.get_tensor().set_names({"text"})
    with pytest.raises(SuiteError, match=r"model input text: expected a tensor of float16 .*, found "):
        openvino_model.tensor_spec(node)


def test_where_openvino_is_not_installed(monkeypatch):
    assert openvino_model.is_installed()
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert not openvino_model.is_installed()
