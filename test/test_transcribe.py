# SPDX-License-Identifier: Apache-2.0
"""Proves that speech in memory becomes the text that transformers gives, by the very lines that the docs show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile

from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.engines.transcribe import transcribe, transcriber
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.model_record import record_of_model

from conftest import BARE_ENVIRONMENT, DEMO, DEMO_MODEL, ROOT, noise, run_ok, small_graph

NAME = "wav2vec2-base-960h.onnx"


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A user's folder with the demo's model; not to be changed."""
    cwd = tmp_path_factory.mktemp("python")
    run_ok("export_onnx.py", "--model_save_dir=./models", DEMO_MODEL, cwd=cwd)
    return cwd


@pytest.fixture(scope="module")
def recordings() -> list[Path]:
    return sorted((DEMO / "LibriSpeech").rglob("*.flac"))[::13]


def by_transformers(folder: Path, waveforms: list[np.ndarray]) -> list[str]:
    """The texts of transformers' own pipeline."""
    import transformers

    pipe: Any = transformers.pipeline("automatic-speech-recognition", model=str(folder), device="cpu")
    return [pipe({"raw": waveform, "sampling_rate": 16_000})["text"] for waveform in waveforms]


def test_the_documented_lines_give_the_text_of_transformers(exported, recordings):
    page = (ROOT / "docs/cpu.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(list(filter(None, example.splitlines()))) == 5
    waveforms = [soundfile.read(path, dtype="float32")[0] for path in recordings]
    expected = by_transformers(DEMO / "model", waveforms)
    assert len(set(expected)) == len(recordings) > 2
    (exported / "speech.flac").unlink(missing_ok=True)
    for path, text in zip(recordings, expected):
        (exported / "speech.flac").write_bytes(path.read_bytes())
        done = subprocess.run(
            [sys.executable, "-c", example],
            cwd=exported,
            env={**BARE_ENVIRONMENT, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{text}\n", "")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_plain_and_masked_models_give_the_same(chain, masked_export, model_folder, engine, dtype):
    if engine == "openvino":
        pytest.importorskip("openvino")
    waveforms = [noise(length, length).astype(dtype) for length in (400, 21_037, 9_000)]
    expected = by_transformers(model_folder, [waveform.astype(np.float32) for waveform in waveforms])
    assert any(expected)
    for path in (chain / "models" / NAME, str(masked_export.path)):
        with transcriber(path, num_threads=1, engine=engine) as to_text:
            assert [to_text(waveform) for waveform in waveforms] == expected


def test_a_model_with_gears_gets_padding_and_mask(masked_export, model_folder):
    waveforms = [noise(length, length).astype(np.float32) for length in (9_000, 20_000)]
    with open_engine(masked_export.path, num_threads=1) as engine:
        record = record_of_model(engine.metadata, "m.onnx")
        assert record is not None
        engine.gears = [(1, 20_000, 1, 20_000), (1, 10_000, 1, 10_000)]
        texts = [transcribe(engine, record, waveform) for waveform in waveforms]
        assert texts == by_transformers(model_folder, waveforms)
        with pytest.raises(SuiteError, match="20001 samples are longer than the last gear, 20000"):
            transcribe(engine, record, np.zeros(20_001, np.float32))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((1, 9_000), np.float32), r"expected \(T,\) finite floats .*, found float32 \(1,9000\)"),
        (np.zeros((9_000, 2)), r"found float64 \(9000,2\)"),
        (np.zeros(9_000, np.int16), r"found int16 \(9000\); convert the samples, integers by dividing"),
        (np.full(9_000, np.nan), r"found float64 \(9000\)"),
        (np.array([*[0.0] * 900, np.inf]), r"found float64 \(901\)"),
        (np.zeros(399, np.float32), "399 samples are too short"),
        (np.zeros(0, np.float32), "0 samples are too short"),
    ],
)
def test_arrays_that_are_no_utterance_are_refused(chain, samples, message):
    with transcriber(chain / "models" / NAME, num_threads=1) as to_text, pytest.raises(SuiteError, match=message):
        to_text(samples)


def test_a_model_of_another_exporter_is_refused_and_closed(tmp_path):
    onnx.save(small_graph(masked=False), tmp_path / "m.onnx")
    with pytest.raises(SuiteError, match=r"m\.onnx: does not say which symbols"), transcriber(tmp_path / "m.onnx"):
        pass
    with pytest.raises(SuiteError, match=r"none\.onnx: no such model file"), transcriber(tmp_path / "none.onnx"):
        pass


def test_a_record_of_other_symbols_is_refused(chain, tmp_path):
    """The model gives 8 logits a frame, the record has 32 symbols."""
    onnx.save(small_graph(masked=False), tmp_path / "m.onnx")
    with open_engine(chain / "models" / NAME, num_threads=1) as engine:
        record = record_of_model(engine.metadata, NAME)
    assert record is not None
    shape = pytest.raises(SuiteError, match="the model has logits of shape")
    with open_engine(tmp_path / "m.onnx", num_threads=1) as engine, shape:
        transcribe(engine, record, np.zeros(9_000, np.float32))
