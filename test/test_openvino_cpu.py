# SPDX-License-Identifier: Apache-2.0
"""Proves the OpenVINO engine against onnxruntime, an independent implementation of the same model file."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from peers import demo_waveforms

from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.export import int8
from wav2vec2_eval.export.graph import fold_weight_norm, write_graph
from wav2vec2_eval.sources.pytorch_model import load_model
from wav2vec2_eval.speech.padding import masked_input

from conftest import BARE_ENVIRONMENT, DEMO, PROGRAMS, ROOT, noise, run_ok, run_script

openvino = pytest.importorskip("openvino")
HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="the processor has no bfloat16 instructions")

# The first utterance has a single frame. After such a start, fused attention may answer wrongly; see SNIPPETS_MODE.
LENGTHS = (400, 400, 33_361, 720, 9_000, 21_037, 10_000, 33_360, 5_000)


@pytest.fixture
def plain(chain, tmp_path):
    """A copy of the plain model, in a folder without the engine's cache."""
    return Path(shutil.copy(chain / "models/wav2vec2-base-960h.onnx", tmp_path))


@pytest.fixture
def masked(masked_export):
    return masked_export.path


def waveforms(lengths=LENGTHS):
    return [[noise(length, seed).astype(np.float32)[None]] for seed, length in enumerate(lengths)]


def logits(path, inputs, **options):
    with open_engine(path, **{"num_threads": 2, **options}) as engine:
        return [result.outputs[0] for result in engine.stream(iter(inputs))]


def error(actual, expected):
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() / np.abs(expected).max()


def mean_error(actual, expected):
    """Of all logits: int8 misses single ones by much, a wrong kernel most of them."""
    assert actual.shape == expected.shape
    return np.abs(actual - expected).mean() / np.abs(expected).max()


@pytest.mark.parametrize(("threads", "in_flight"), [(1, None), (2, None), (1, 1), (2, 2), (3, 3)])
def test_equals_onnxruntime_in_order(plain, threads, in_flight):
    expected = logits(plain, waveforms(), engine="onnxruntime")
    actual = logits(plain, waveforms(), engine="openvino", num_threads=threads, in_flight=in_flight)
    assert max(map(error, actual, expected)) < 5e-6


def test_batches_of_a_masked_model_equal_single_utterances(masked):
    inputs = [[waveform, np.ones_like(waveform)] for (waveform,) in waveforms()]
    expected = logits(masked, inputs, engine="onnxruntime")
    for batch_size in (1, 4):  # the engine pads both to multiples of 10,000 samples
        actual = logits(masked, inputs, engine="openvino", batch_size=batch_size)
        assert max(map(error, actual, expected)) < 1e-5


@needs_bf16
def test_bf16_is_near(plain, tmp_path):
    expected = logits(plain, waveforms())
    actual = logits(plain, waveforms(), precision="bf16")
    errors = list(map(error, actual, expected))
    assert 1e-4 < max(errors) < 5e-2  # the precision was bfloat16, and not much worse than that
    assert (tmp_path / f"{plain.stem}-openvino").exists(), "bfloat16 runs on the conversion to two dimensions"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The demo's trained model, masked: in float, and in int8 if NNCF is there."""
    folder = tmp_path_factory.mktemp("trained")
    model = load_model(str(DEMO / "model"), attention="eager")
    fold_weight_norm(model)
    write_graph(model, folder / "float.onnx", attention_mask=True)
    if find_spec("nncf"):
        calibration = [masked_input(waveform, len(waveform)) for waveform in demo_waveforms()[::8]]
        int8.quantize(folder / "float.onnx", folder / "int8.onnx", calibration)
    return folder


@pytest.fixture(scope="module")
def cut_speech():
    """Speech of LENGTHS, with masks."""
    waveforms = sorted(demo_waveforms(), key=len)[-len(LENGTHS) :]
    return [masked_input(waveform[:length], length) for waveform, length in zip(waveforms, LENGTHS)]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize(
    ("precision", "most"), [("f32", 1e-6), pytest.param("bf16", 5e-3, marks=needs_bf16), ("int8", 0.1)]
)
def test_attention_is_right_after_an_utterance_of_one_frame(
    trained, cut_speech, monkeypatch, precision, most, in_flight, batch_size
):
    """Attention is fused, because every execution has 31 frames or more."""
    path = trained / ("int8.onnx" if precision == "int8" else "float.onnx")
    if not path.exists():
        pytest.skip("NNCF is not installed")
    properties = spy_on_properties(monkeypatch)
    expected = logits(trained / "float.onnx", cut_speech, engine="onnxruntime")
    options = {"engine": "openvino", "precision": precision, "in_flight": in_flight, "batch_size": batch_size}
    actual = logits(path, cut_speech, **options)
    assert max(map(mean_error, actual, expected)) < most
    assert all("SNIPPETS_MODE" not in each for each in properties)
    for first in (1, 2):  # the same answers as after another beginning
        others = logits(path, cut_speech[first:] + cut_speech[:first], **options)
        assert max(map(mean_error, others[-first:] + others[:-first], actual)) < most


def spy_on_properties(monkeypatch) -> list[dict[str, object]]:
    """The properties with which models are compiled, of all that are opened from now on."""
    compile_model, found = openvino.Core.compile_model, []

    def compile_and_note(core, model, device, properties):
        found.append(properties)
        return compile_model(core, model, device, properties)

    monkeypatch.setattr(openvino.Core, "compile_model", compile_and_note)
    return found


def test_attention_is_not_fused_where_an_execution_can_have_a_single_frame(plain, monkeypatch):
    properties = spy_on_properties(monkeypatch)
    logits(plain, waveforms([400]), engine="openvino")
    (found,) = properties
    assert found["SNIPPETS_MODE"] == "DISABLE"


def test_bf16_needs_the_processor(plain, monkeypatch):
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32"])
    with pytest.raises(SuiteError, match=r"--precision=bf16: .* has no bfloat16 instructions; use f32"):
        open_engine(plain, num_threads=1, engine="openvino", precision="bf16")


def test_the_engines_time_is_neither_the_readers_nor_the_consumers(plain):
    count = 6
    with open_engine(plain, num_threads=2, engine="openvino", in_flight=2) as engine:
        assert engine.conditions.in_flight == 2
        results = list(engine.stream(iter(waveforms([16_000] * 3 * count))))
        elapsed_ms = statistics.median(result.elapsed_ms for result in results)
        pause_s = max(0.1, 20 * elapsed_ms / 1000)  # long, because other processes may slow this machine down

        def slowly():
            for inputs in waveforms([16_000] * count):
                time.sleep(pause_s)
                yield inputs

        for utterances, consumer_s in ((slowly(), 0), (iter(waveforms([16_000] * count)), pause_s)):
            results = []
            for result in engine.stream(utterances):
                results.append(result)
                time.sleep(consumer_s)
            assert all(result.pure_ns > 0 and result.elapsed_ms > 0 for result in results)
            assert sum(result.pure_ns for result in results) < count / 2 * 1e9 * pause_s


def test_float32_has_one_in_flight(plain):
    with open_engine(plain, num_threads=2, engine="openvino") as engine:
        (result,) = engine.stream(iter(waveforms([5000])))
        assert engine.conditions.in_flight == 1
    assert result.elapsed_ms is None


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


@pytest.mark.parametrize("how", ["in the order of opening", "in another thread"])
def test_a_signal_after_engines_are_closed(plain, how):
    """OpenVINO alone would leave an unmapped signal stack, and the next signal would kill the process."""
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "close_two_openvino_engines.py"), str(plain), how],
        env={**BARE_ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "caught\n", "")


@pytest.mark.parametrize("attempt", range(6))  # without the remedy, about every second one would hang
def test_first_inferences_at_the_same_moment(plain, attempt):
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "start_two_openvino_requests.py"), str(plain)],
        env={**BARE_ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), f"attempt {attempt}: {done.stderr}"


def test_a_mask_of_another_length_is_refused(masked):
    inputs = [[waveform, np.ones((1, 4000), np.float32)] for (waveform,) in waveforms([5000])]
    with pytest.raises(
        SuiteError, match=r"expected a waveform and a mask of one shape, found \(1, 5000\) and \(1, 4000\)"
    ):
        logits(masked, inputs, engine="openvino")


def test_an_utterance_that_fails_ends_the_run_and_its_threads(plain):
    before = threading.active_count()
    with (
        open_engine(plain, num_threads=2, engine="openvino", in_flight=2) as engine,
        pytest.raises(SuiteError, match=r"OpenVINO failed on inputs of shape \(1, 100\)"),
    ):
        list(engine.stream(iter(waveforms([5000, 100, 5000, 5000]))))
    assert threading.active_count() == before


def test_a_failure_of_the_reader_comes_in_its_turn(plain):
    def reader():
        yield from waveforms([5000, 9000])
        raise SuiteError("no more")

    with open_engine(plain, num_threads=2, engine="openvino", in_flight=2) as engine:
        stream = engine.stream(reader())
        assert [next(stream).outputs[0].shape[1] for _ in range(2)] == [15, 27]
        with pytest.raises(SuiteError, match="no more"):
            next(stream)


def test_leaving_early_ends_the_threads(plain):
    before = threading.active_count()
    with open_engine(plain, num_threads=2, engine="openvino", in_flight=2) as engine:
        stream = engine.stream(iter(waveforms()))
        next(stream)
        stream.close()
    assert threading.active_count() == before


def test_a_masked_utterance_without_a_frame_is_refused(masked):
    with pytest.raises(SuiteError, match="an utterance of 100 samples gives no frame; expected at least 400"):
        logits(masked, [[np.ones((1, 100), np.float32)] * 2], engine="openvino")


def test_two_rows_in_one_utterance(masked):
    rows = [np.concatenate([each[0] for each in waveforms([9_000, 9_000])]), np.ones((2, 9_000), np.float32)]
    single = [[each[:1] for each in rows]]
    for batch_size in (1, 2):
        first, second = logits(masked, [rows, *single], engine="openvino", batch_size=batch_size)
        assert (first.shape, second.shape) == ((2, 27, 32), (1, 27, 32))
        assert error(first[:1], second) < 1e-5


def test_nothing_to_infer(plain):
    assert logits(plain, [], engine="openvino") == []


@needs_bf16
def test_auto_is_the_engine_that_is_best_for_the_precision(plain):
    for precision, name in (("f32", "onnxruntime"), ("bf16", "OpenVINO")):
        with open_engine(plain, num_threads=1, precision=precision) as engine:
            assert engine.conditions.engine.startswith(name)


def test_pyacl_infer_says_which_engine(chain, tmp_path):
    common = ("--model_path=models/wav2vec2-base-960h.onnx", "--input_info_file_path=pre_data/clean/bin_file.info")
    for options, engine in (([], "onnxruntime"), (["--engine=openvino"], "OpenVINO")):
        folder = tmp_path / engine
        output = run_ok("pyacl_infer.py", *common, f"--infer_res_save_path={folder}", *options, cwd=chain)
        assert any(line.startswith(f"{engine} ") for line in output.splitlines())
        assert "p99 pure infer time(ms): " in (folder / "infer_time.txt").read_text()
    folder = tmp_path / "two"
    options = ["--engine=openvino", "--in_flight=2"]
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
