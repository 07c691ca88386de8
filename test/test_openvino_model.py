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

from wav2vec2_eval.engines import model_file, openvino_model
from wav2vec2_eval.engines.base import Port
from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.names import LIST_NAME, LOCK_NAME

from conftest import noise

openvino = pytest.importorskip("openvino")


@pytest.fixture(autouse=True)
def small_weights_are_large(monkeypatch):
    """The test's model has no tensor of the size that stays outside the graph."""
    for module in (model_file, openvino_model):
        monkeypatch.setattr(module, "LARGE", 2_000)


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


@pytest.fixture
def kept(plain):
    """The folder in which the conversion of the model is kept."""
    return plain.with_name(f"{plain.stem}-openvino")


def names_in(folder: Path) -> set[str]:
    """The files of the conversion."""
    return {path.name for path in folder.iterdir()} - {LOCK_NAME, LIST_NAME}


def test_the_conversion_computes_what_the_model_computes(plain):
    with open_engine(plain, num_threads=1, engine="onnxruntime") as engine:
        (result,) = engine.stream([[waveform(9_000)]])
    (expected,) = result.outputs
    for _ in range(2):  # converted now, then read from the cache
        actual = logits_in_2d(plain, waveform(9_000))
        assert actual.shape == expected.shape
        assert np.abs(actual - expected).max() / np.abs(expected).max() < 1e-4


def test_the_conversion_is_kept_until_the_model_changes(plain, kept, masked_export):
    logits_in_2d(plain, waveform(400))
    first = {name: (kept / name).stat().st_mtime_ns for name in names_in(kept)}
    assert sorted(name.rpartition(".")[2] for name in first) == ["data", "onnx"]
    logits_in_2d(plain, waveform(400))
    assert {name: (kept / name).stat().st_mtime_ns for name in names_in(kept)} == first
    shutil.copy(masked_export.path, plain)
    logits_in_2d(plain, waveform(400), np.ones((1, 400), np.float32))
    second = names_in(kept)
    assert len(second) == 2 and second.isdisjoint(first)


@pytest.mark.parametrize("suffix", ["onnx", "data", "txt"])
def test_files_of_the_user_stay(plain, kept, suffix):
    """If one has the name of a conversion, the conversion is not kept."""
    logits = logits_in_2d(plain, waveform(400))
    (path,) = kept.glob("*.onnx")
    shutil.rmtree(kept)
    kept.mkdir()
    mine = kept / f"{path.stem}.{suffix}"
    mine.write_text("mine")
    assert logits_in_2d(plain, waveform(400)).tobytes() == logits.tobytes()
    assert mine.read_text() == "mine"
    assert len(names_in(kept)) == (3 if suffix == "txt" else 1)


def move_weights_out(path: Path) -> Path:
    """Put the weights of a model into another file; returns its path."""
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    return path.with_name("w.data")


def test_weights_outside_the_model_file_are_a_part_of_the_model(plain):
    """The cache must not answer with the old weights."""
    expected = logits_in_2d(plain, waveform(9_000))
    weights = move_weights_out(plain)
    assert np.abs(logits_in_2d(plain, waveform(9_000)) - expected).max() < 1e-5 * np.abs(expected).max()
    numbers = np.frombuffer(weights.read_bytes(), np.float32)
    weights.write_bytes((numbers * 1.1).tobytes())
    with open_engine(plain, num_threads=1, engine="onnxruntime") as engine:
        (result,) = engine.stream([[waveform(9_000)]])
    changed = result.outputs[0]
    assert np.abs(changed - expected).max() > 1e-2 * np.abs(expected).max()
    assert np.abs(logits_in_2d(plain, waveform(9_000)) - changed).max() < 1e-4 * np.abs(changed).max()


def test_a_conversion_is_not_limited_by_the_size_of_a_protobuf_message(plain, monkeypatch):
    """It is saved without its weights, which lie in a second file."""
    save = onnx.save
    saved = []

    def saved_and_looked_at(model, path, **options):
        save(model, path, **options)
        saved.append(onnx.load(path, load_external_data=False))

    monkeypatch.setattr(onnx, "save", saved_and_looked_at)
    move_weights_out(plain)
    saved.clear()
    logits_in_2d(plain, waveform(400))
    (model,) = saved
    assert max(len(tensor.raw_data) for tensor in model.graph.initializer) < 1024


def test_weights_inside_and_outside_the_graph(plain):
    """Small tensors may be in a file, too, and large ones in it and in another one."""
    expected = logits_in_2d(plain, waveform(9_000))
    model = onnx.load(plain)
    for number, tensor in enumerate(model.graph.initializer):
        if number % 2:
            onnx.external_data_helper.set_external_data(tensor, f"{number % 3}.data")
    onnx.save(model, plain)
    assert len({path.name for path in plain.parent.glob("*.data")}) == 3
    assert logits_in_2d(plain, waveform(9_000)).tobytes() == expected.tobytes()


def test_a_file_of_weights_that_is_cut_is_named(plain, kept):
    weights = move_weights_out(plain)
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(SuiteError, match=r"w\.data: ends before the weights of .*; export it again"):
        logits_in_2d(plain, waveform(400))
    assert not kept.exists()


def test_a_file_of_weights_that_is_missing_is_named(plain, kept):
    move_weights_out(plain).unlink()
    with pytest.raises(SuiteError, match=r"w\.data: no such file, but wav2vec2-base-960h\.onnx has weights in it"):
        logits_in_2d(plain, waveform(400))
    assert not kept.exists()


@pytest.mark.parametrize("what", ["CONVERSION", "OpenVINO's version"])
def test_the_conversion_is_made_again_by_another_version(plain, kept, monkeypatch, what):
    logits_in_2d(plain, waveform(400))
    first = names_in(kept)
    if what == "CONVERSION":
        monkeypatch.setattr(openvino_model, "CONVERSION", openvino_model.CONVERSION + 1)
    else:
        monkeypatch.setattr(openvino, "__version__", "another")
    logits_in_2d(plain, waveform(400))
    second = names_in(kept)
    assert len(second) == 2 and second.isdisjoint(first)


def test_a_folder_that_cannot_be_written(plain, kept):
    kept.write_text("in the way")
    assert logits_in_2d(plain, waveform(720)).shape == (1, 2, 32)
    assert kept.read_text() == "in the way"


@pytest.mark.parametrize("suffix", ["onnx", "data"])
@pytest.mark.parametrize("change", [lambda old: old[:1000], lambda old: bytes(len(old)), lambda _: None])
def test_a_conversion_that_is_not_whole_is_made_again(plain, kept, suffix, change):
    expected = logits_in_2d(plain, waveform(9_000))
    (path,) = kept.glob(f"*.{suffix}")
    content = change(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (kept / LOCK_NAME).write_text(".0123456789abcdef")  # left by a run that was killed
    (kept / ".0123456789abcdef").mkdir()
    (kept / ".0123456789abcdef/x.bin").touch()
    assert logits_in_2d(plain, waveform(9_000)).tobytes() == expected.tobytes()
    assert path.stat().st_size > 1000
    assert len(names_in(kept)) == 2


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
def test_what_cannot_be_converted_is_refused_and_leaves_nothing(plain, kept, damage, message):
    damage(plain)
    with pytest.raises(SuiteError, match=message) as refusal:
        logits_in_2d(plain, waveform(9_000))
    assert str(refusal.value).startswith(str(plain))
    assert not kept.exists()


def test_a_full_disk_beside_the_model(plain, kept, monkeypatch):
    """The conversion goes to another folder, and the full disk keeps nothing of it."""
    save = onnx.save

    def save_elsewhere(model, path, *arguments, **options):
        if Path(path).is_relative_to(kept):
            Path(path).write_bytes(b"the first bytes")
            raise OSError("disk full")
        save(model, path, *arguments, **options)

    monkeypatch.setattr(onnx, "save", save_elsewhere)
    assert logits_in_2d(plain, waveform(720)).shape == (1, 2, 32)
    assert not kept.exists()


def test_an_interrupted_conversion_leaves_nothing(plain, kept, monkeypatch):
    def interrupted(model, path, **options):
        Path(path).write_bytes(b"the first bytes")
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        logits_in_2d(plain, waveform(720))
    assert not kept.exists()


def test_two_that_convert_at_once(plain, kept):
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda _: logits_in_2d(plain, waveform(9_000)).tobytes(), range(2))
        assert len(set(both)) == 1
    assert len(names_in(kept)) == 2


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


@pytest.mark.parametrize(
    ("element", "name"),
    [
        ("boolean", "bool"),
        ("i8", "int8"),
        ("u16", "uint16"),
        ("i64", "int64"),
        ("f16", "float16"),
        ("f64", "float64"),
        # In NumPy, OpenVINO gives these as other types, with other numbers.
        ("bf16", "bf16"),
        ("f8e4m3", "f8e4m3"),
        ("u4", "u4"),
        ("string", "string"),
    ],
)
@pytest.mark.parametrize(("shape", "axes"), [([1, -1], (1, None)), ([], ()), (None, None)])
def test_ports_name_types_as_numpy_does(element, name, shape, axes):
    partial_shape = openvino.PartialShape.dynamic() if shape is None else openvino.PartialShape(shape)
    parameter = openvino.op.Parameter(getattr(openvino.Type, element), partial_shape)
    parameter.output(0).get_tensor().set_names({"x"})
    model = openvino.Model([parameter.output(0)], [parameter], "m")
    assert openvino_model.ports(model) == ([Port("x", name, axes)], [Port("x", name, axes)])


def test_where_openvino_is_not_installed(monkeypatch):
    assert openvino_model.is_installed()
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert not openvino_model.is_installed()
