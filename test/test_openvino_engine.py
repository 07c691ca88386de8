# SPDX-License-Identifier: Apache-2.0
"""The OpenVINO engine against onnxruntime, an independent implementation of the same file."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from wav2vec2_eval import engines
from wav2vec2_eval.errors import SuiteError

from conftest import ROOT, noise, run_ok, run_script

openvino = pytest.importorskip("openvino")
HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="the processor has no bfloat16 instructions")

# The first has a single frame, after which a fused attention would answer wrongly; see SNIPPETS_MODE.
LENGTHS = (400, 400, 33_361, 720, 9_000, 21_037, 10_000, 33_360, 5_000)


@pytest.fixture(scope="module")
def models(tmp_path_factory, model_folder):
    """A folder with the plain and the masked model, without what the engine keeps beside them."""
    folder = tmp_path_factory.mktemp("models")
    for options in ([], ["--attention_mask"]):
        run_ok("export_onnx.py", "--model_save_dir=.", f"--model_name_or_path={model_folder}", *options, cwd=folder)
    shutil.rmtree(folder / "openvino_cache", ignore_errors=True)
    return folder


@pytest.fixture
def plain(models, tmp_path):
    return Path(shutil.copy(models / "wav2vec2-base-960h.onnx", tmp_path))


def waveforms(lengths=LENGTHS):
    return [[noise(length, seed).astype(np.float32)[None]] for seed, length in enumerate(lengths)]


def logits(path, inputs, **options):
    with engines.open_engine(path, **{"num_threads": 2, **options}) as engine:
        return [result.outputs[0] for result in engine.stream(iter(inputs))]


def error(actual, expected):
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("in_flight", [None, 2, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_equals_onnxruntime_in_order(plain, threads, in_flight):
    expected = logits(plain, waveforms(), engine="onnxruntime")
    actual = logits(plain, waveforms(), engine="openvino", num_threads=threads, in_flight=in_flight)
    assert max(map(error, actual, expected)) < 5e-6


def test_batches_of_a_masked_model_equal_single_utterances(models):
    path = models / "wav2vec2-base-960h-masked.onnx"
    inputs = [[waveform, np.ones_like(waveform)] for (waveform,) in waveforms()]
    expected = logits(path, inputs, engine="onnxruntime")
    for batch_size in (1, 4):  # both are padded to multiples of 10,000 samples
        actual = logits(path, inputs, engine="openvino", batch_size=batch_size)
        assert max(map(error, actual, expected)) < 1e-5


@needs_bf16
def test_bf16_is_near(plain):
    expected = logits(plain, waveforms())
    actual = logits(plain, waveforms(), precision="bf16")
    errors = list(map(error, actual, expected))
    assert 1e-4 < max(errors) < 5e-2  # it was bfloat16, and not much worse than that


def test_bf16_needs_the_processor(plain, monkeypatch):
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32"])
    with pytest.raises(SuiteError, match=r"--precision=bf16: .* has no bfloat16 instructions; use f32"):
        engines.open_engine(plain, num_threads=1, engine="openvino", precision="bf16")


def test_the_engines_time_is_neither_the_readers_nor_the_consumers(plain):
    count = 6
    with engines.open_engine(plain, num_threads=2, engine="openvino", in_flight=2) as engine:
        assert engine.conditions["in_flight"] == 2
        own_ms = statistics.median(result.own_ms for result in engine.stream(iter(waveforms([16_000] * 3 * count))))
        pause_s = max(0.1, 20 * own_ms / 1000)  # so long that the machine may be busy with other things, too

        def slowly():
            for inputs in waveforms([16_000] * count):
                time.sleep(pause_s)
                yield inputs

        for utterances, consumer_s in ((slowly(), 0), (iter(waveforms([16_000] * count)), pause_s)):
            results = []
            for result in engine.stream(utterances):
                results.append(result)
                time.sleep(consumer_s)
            assert all(result.pure_ns > 0 and result.own_ms > 0 for result in results)
            assert sum(result.pure_ns for result in results) < count / 2 * 1e9 * pause_s


def test_float32_has_one_in_flight(plain):
    with engines.open_engine(plain, num_threads=2, engine="openvino") as engine:
        (result,) = engine.stream(iter(waveforms([5000])))
        assert engine.conditions["in_flight"] == 1
    assert result.own_ms is None


@needs_bf16
def test_the_conversion_is_kept_until_the_model_changes(plain, tmp_path, models):
    logits(plain, waveforms([400]), precision="bf16")
    cache = tmp_path / "openvino_cache"
    first = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert sorted(name.rpartition(".")[2] for name in first) == ["bin", "xml"]
    logits(plain, waveforms([400]), precision="bf16")
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == first
    (cache / "wav2vec2-base-960h-masked-0123456789abcdef.xml").touch()  # another model's
    shutil.copy(models / "wav2vec2-base-960h-masked.onnx", plain)
    inputs = [[*waveforms([400])[0], np.ones((1, 400), np.float32)]]
    logits(plain, inputs, precision="bf16")
    second = {path.name for path in cache.iterdir()}
    assert len(second) == 3 and second.isdisjoint(first)
    assert "wav2vec2-base-960h-masked-0123456789abcdef.xml" in second


@needs_bf16
def test_a_folder_that_cannot_be_written(plain, tmp_path):
    (tmp_path / "openvino_cache").write_text("in the way")
    assert logits(plain, waveforms([720]), precision="bf16")[0].shape == (1, 2, 32)
    assert (tmp_path / "openvino_cache").read_text() == "in the way"


@needs_bf16
@pytest.mark.parametrize("suffix", ["xml", "bin"])
def test_a_conversion_that_is_not_whole_is_made_again(plain, tmp_path, suffix):
    (expected,) = logits(plain, waveforms([9_000]), precision="bf16")
    cache = tmp_path / "openvino_cache"
    (path,) = cache.glob(f"*.{suffix}")
    path.write_bytes(path.read_bytes()[:1000])
    (cache / "new").mkdir()  # a killed run's
    (cache / "new/x.bin").touch()
    (again,) = logits(plain, waveforms([9_000]), precision="bf16")
    assert again.tobytes() == expected.tobytes()
    assert path.stat().st_size > 1000
    assert len(list(cache.iterdir())) == 2


def mark_as_int8(path: Path) -> None:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"precision": "int8"})
    onnx.save(model, path)


@needs_bf16
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "cannot be loaded"),
        (mark_as_int8, "--precision=bf16, but the model's weights are int8"),
    ],
    ids=["corrupt", "int8"],
)
def test_what_cannot_be_converted_is_refused_and_leaves_nothing(plain, tmp_path, damage, message):
    damage(plain)
    with pytest.raises(SuiteError, match=message) as refusal:
        logits(plain, waveforms([9_000]), precision="bf16")
    assert str(refusal.value).startswith(str(plain))
    assert not (tmp_path / "openvino_cache").exists()


@needs_bf16
@pytest.mark.parametrize("function", ["openvino.save_model", "onnx.save"])
def test_a_full_disk_beside_the_model(plain, tmp_path, monkeypatch, function):
    """The conversion goes elsewhere, and nothing is left."""
    module, name = function.split(".")
    save = getattr(sys.modules[module], name)

    def save_elsewhere(model, path, *arguments, **options):
        if Path(path).is_relative_to(tmp_path / "openvino_cache"):
            Path(path).write_bytes(b"the first bytes")
            raise RuntimeError("basic_ios::clear: iostream error") if module == "openvino" else OSError("disk full")
        save(model, path, *arguments, **options)

    monkeypatch.setattr(function, save_elsewhere)
    assert logits(plain, waveforms([720]), precision="bf16")[0].shape == (1, 2, 32)
    assert not (tmp_path / "openvino_cache").exists()


@needs_bf16
def test_an_interrupted_conversion_leaves_nothing(plain, tmp_path, monkeypatch):
    def interrupted(model, path, **options):
        Path(path).write_bytes(b"the first bytes")
        raise KeyboardInterrupt

    monkeypatch.setattr(openvino, "save_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        logits(plain, waveforms([720]), precision="bf16")
    assert not (tmp_path / "openvino_cache").exists()


@pytest.mark.parametrize("text", ["", "hi", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"])
@pytest.mark.parametrize("precision", ["f32", pytest.param("bf16", marks=needs_bf16)])
def test_text_that_is_no_model_is_refused_in_one_line(chain, tmp_path, text, precision):
    (tmp_path / "model.onnx").write_text(text)
    options = ("--engine=openvino", f"--precision={precision}", f"--infer_res_save_path={tmp_path / 'res'}")
    manifest_option = "--input_info_file_path=pre_data/clean/bin_file.info"
    done = run_script("pyacl_infer.py", f"--model_path={tmp_path / 'model.onnx'}", manifest_option, *options, cwd=chain)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "model.onnx: cannot be loaded" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


CLOSE_TWO = f"""
import gc, signal, sys, threading
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from wav2vec2_eval.engines import open_engine

engines = [open_engine(Path(sys.argv[1]), num_threads=1, engine="openvino") for _ in range(2)]
if sys.argv[2] == "in the order of opening":
    while engines:
        engines.pop(0).__exit__()
        gc.collect()
else:
    thread = threading.Thread(target=engines.clear)
    thread.start()
    thread.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("caught")
"""


@pytest.mark.parametrize("how", ["in the order of opening", "in another thread"])
def test_a_signal_after_engines_are_closed(plain, how):
    """OpenVINO alone would leave a signal stack that is unmapped, and the process would die of the next signal."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSE_TWO, str(plain), how], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "caught\n", "")


def test_a_mask_of_another_length_is_refused(models):
    inputs = [[waveform, np.ones((1, 4000), np.float32)] for (waveform,) in waveforms([5000])]
    with pytest.raises(
        SuiteError, match=r"expected a waveform and a mask of one shape, found \(1, 5000\) and \(1, 4000\)"
    ):
        logits(models / "wav2vec2-base-960h-masked.onnx", inputs, engine="openvino")


@needs_bf16
def test_two_that_convert_at_once(plain, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda _: logits(plain, waveforms([9_000]), precision="bf16")[0].tobytes(), range(2))
        assert len(set(both)) == 1
    assert len(list((tmp_path / "openvino_cache").iterdir())) == 2


def test_an_utterance_that_fails_ends_the_run_and_its_threads(plain):
    before = threading.active_count()
    with (
        engines.open_engine(plain, num_threads=2, engine="openvino", in_flight=2) as engine,
        pytest.raises(SuiteError, match=r"OpenVINO failed on inputs of shape \(1, 100\)"),
    ):
        list(engine.stream(iter(waveforms([5000, 100, 5000, 5000]))))
    assert threading.active_count() == before


def test_a_failure_of_the_reader_comes_in_its_turn(plain):
    def reader():
        yield from waveforms([5000, 9000])
        raise SuiteError("no more")

    with engines.open_engine(plain, num_threads=2, engine="openvino", in_flight=2) as engine:
        stream = engine.stream(reader())
        assert [next(stream).outputs[0].shape[1] for _ in range(2)] == [15, 27]
        with pytest.raises(SuiteError, match="no more"):
            next(stream)


def test_leaving_early_ends_the_threads(plain):
    before = threading.active_count()
    with engines.open_engine(plain, num_threads=2, engine="openvino", in_flight=2) as engine:
        stream = engine.stream(iter(waveforms()))
        next(stream)
        stream.close()
    assert threading.active_count() == before


def test_a_masked_utterance_without_a_frame_is_refused(models):
    path = models / "wav2vec2-base-960h-masked.onnx"
    with pytest.raises(SuiteError, match="an utterance of 100 samples gives no frame; expected at least 400"):
        logits(path, [[np.ones((1, 100), np.float32)] * 2], engine="openvino")


def test_two_rows_in_one_utterance(models):
    path = models / "wav2vec2-base-960h-masked.onnx"
    rows = [np.concatenate([each[0] for each in waveforms([9_000, 9_000])]), np.ones((2, 9_000), np.float32)]
    single = [[each[:1] for each in rows]]
    for batch_size in (1, 2):
        first, second = logits(path, [rows, *single], engine="openvino", batch_size=batch_size)
        assert (first.shape, second.shape) == ((2, 27, 32), (1, 27, 32))
        assert error(first[:1], second) < 1e-5


def test_nothing_to_infer(plain):
    assert logits(plain, [], engine="openvino") == []


@needs_bf16
def test_auto_is_the_engine_that_is_best_for_the_precision(plain):
    for precision, name in (("f32", "onnxruntime"), ("bf16", "OpenVINO")):
        with engines.open_engine(plain, num_threads=1, precision=precision) as engine:
            assert engine.conditions["engine"].startswith(name)


def test_where_it_is_not_installed(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SuiteError, match=r"--precision=bf16: onnxruntime .* pip install -r"):
        engines.open_engine(plain, num_threads=1, precision="bf16")
    with pytest.raises(SuiteError, match="--engine=openvino: OpenVINO cannot be imported; pip install -r"):
        engines.open_engine(plain, num_threads=1, engine="openvino")


def test_pyacl_infer_says_which_engine(chain, tmp_path):
    common = ("--model_path=models/wav2vec2-base-960h.onnx", "--input_info_file_path=pre_data/clean/bin_file.info")
    for options, engine in (([], "onnxruntime"), (["--engine=openvino"], "OpenVINO")):
        folder = tmp_path / engine
        output = run_ok("pyacl_infer.py", *common, f"--infer_res_save_path={folder}", *options, cwd=chain)
        assert output.startswith(f"{engine} ")
        assert "p99 pure infer time(ms): " in (folder / "infer_time.txt").read_text()
    folder = tmp_path / "two"
    options = ("--engine=openvino", "--in_flight=2")
    run_ok("pyacl_infer.py", *common, f"--infer_res_save_path={folder}", *options, cwd=chain)
    assert "p99 latency(ms): " in (folder / "infer_time.txt").read_text()
    refused = run_script(
        "pyacl_infer.py",
        *common,
        f"--infer_res_save_path={tmp_path / 'OpenVINO'}",
        "--resume",
        "--engine=onnxruntime",
        cwd=chain,
    )
    assert refused.returncode == 2
    assert "cannot be resumed: its results were made with engine = OpenVINO" in refused.stderr
