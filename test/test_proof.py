# SPDX-License-Identifier: Apache-2.0
"""Proves the proof of an export: a file that differs from PyTorch in any way is found, and is not kept."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from wav2vec2_eval.engines.model_file import external_files, read_metadata
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.export import graph, masked, proof
from wav2vec2_eval.files.locks import locked

from conftest import KINDS, load_for_export, make_model, run_script, write_big


@pytest.fixture
def model(model_folder):
    """The model as export_onnx.py traces it."""
    return load_for_export(model_folder)


@pytest.fixture
def models(tmp_path):
    """A folder with an earlier export, which is no model."""
    (tmp_path / "new.onnx").write_text("earlier")
    return tmp_path


def check_untouched(models) -> None:
    assert [path.name for path in models.iterdir()] == ["new.onnx"]
    assert (models / "new.onnx").read_text() == "earlier"


@pytest.mark.parametrize("big", [False, True])
def test_an_export_that_differs_leaves_no_file(model, models, monkeypatch, big):
    """The proof really compares: weights that change between export and comparison make it fail."""
    if big:
        write_big(monkeypatch)
    trace = graph.trace

    def trace_and_change(module, input_names, path):
        trace(module, input_names, path)
        model.lm_head.bias.add_(1e-2)

    monkeypatch.setattr(graph, "trace", trace_and_change)
    with pytest.raises(SuiteError, match=r"differ by .* expected at most 1e-04"):
        proof.export_proven(model, models / "new.onnx", num_threads=2)
    check_untouched(models)


@pytest.mark.parametrize("attention_mask", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_each_type_is_proven(tmp_path, monkeypatch, kind, attention_mask):
    if attention_mask and kind not in masked.MASKABLE_TYPES:
        pytest.skip("refused, see test_masked.py")
    monkeypatch.setattr(proof, "GEARS", proof.GEARS[:8])
    monkeypatch.setattr(proof, "MASKED_PROOF_SAMPLES", (400, 33_360))
    model = load_for_export(make_model(tmp_path / "model", kind=kind))
    path = tmp_path / "models/new.onnx"
    proof.export_proven(model, path, attention_mask=attention_mask, num_threads=2)
    graph = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 11)]
    assert not {node.op_type for node in graph.graph.node} & {"Identity", "If", "Loop", "NonZero", "Min", "Log"}


def test_a_graph_that_is_not_finite_fails(model, models):
    model.lm_head.bias.fill_(float("nan"))
    with pytest.raises(SuiteError, match="differ by nan"):
        proof.export_proven(model, models / "new.onnx", num_threads=2)
    check_untouched(models)


def test_a_wrong_mask_fails_the_export(model, models, monkeypatch):
    """The proof looks at the padding: it finds a slice that is one position off."""

    class OneFrameOff(masked.MaskedWav2Vec2):
        def forward(self, waveform, attention_mask):
            late = torch.nn.functional.pad(attention_mask[:, :-320], (320, 0), value=1.0)
            return super().forward(waveform, late)

    monkeypatch.setattr(graph, "MaskedWav2Vec2", OneFrameOff)
    monkeypatch.setattr(proof, "MASKED_PROOF_SAMPLES", (33_360,))
    with pytest.raises(SuiteError, match="differ by"):
        proof.export_proven(model, models / "new.onnx", attention_mask=True, num_threads=2)
    check_untouched(models)


def test_frames_beyond_the_end_that_are_no_blanks_fail_the_export(model, models, monkeypatch):
    """Their logits are compared with nothing, but their decoded text must be empty."""

    class Speaking(masked.MaskedWav2Vec2):
        def __init__(self, model):
            super().__init__(model)
            self.blank = self.blank.roll(5)

    monkeypatch.setattr(graph, "MaskedWav2Vec2", Speaking)
    monkeypatch.setattr(proof, "MASKED_PROOF_SAMPLES", (33_360,))
    with pytest.raises(SuiteError, match="differ by inf"):
        proof.export_proven(model, models / "new.onnx", attention_mask=True, num_threads=2)
    check_untouched(models)


def test_an_engine_other_than_onnxruntime_is_compared_too(model, models, monkeypatch):
    pytest.importorskip("openvino")
    error = proof.relative_error
    shown = []

    def openvino_is_wrong(actual, expected):
        return error(actual, expected) + ("openvino" in shown)

    open_engine = proof.open_engine

    def opened(path, *, engine, **options):
        shown.append(engine)
        return open_engine(path, engine=engine, **options)

    monkeypatch.setattr(proof, "open_engine", opened)
    monkeypatch.setattr(proof, "relative_error", openvino_is_wrong)
    with pytest.raises(SuiteError, match=r"not written: openvino and PyTorch differ by 1\.0e\+00"):
        proof.export_proven(model, models / "new.onnx", num_threads=2)
    assert shown == ["onnxruntime", "openvino"]
    check_untouched(models)


def test_a_proven_export_replaces_the_earlier_one(model, models, capsys):
    proof.export_proven(model, models / "new.onnx", num_threads=2)
    assert [path.name for path in models.iterdir()] == ["new.onnx"]
    assert (models / "new.onnx").stat().st_size > 10_000
    output = capsys.readouterr().out
    assert "1 x    400 samples: relative error" in output and "2 x  10000 samples: relative error" in output


def test_an_export_above_2_gb_is_proven_with_its_weights(model, models, monkeypatch):
    """In every engine. An export that is interrupted leaves the earlier one as it was."""
    write_big(monkeypatch)
    path = models / "new.onnx"
    proof.export_proven(model, path, metadata={"key": "value"}, num_threads=2)
    before = {each.name: each.read_bytes() for each in models.iterdir()}
    (weights,) = external_files(path)
    assert set(before) == {"new.onnx", weights}
    assert read_metadata(path) == {"key": "value"}

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    model.lm_head.bias.add_(1)
    monkeypatch.setattr(proof, "prove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        proof.export_proven(model, path, num_threads=2)
    assert {each.name: each.read_bytes() for each in models.iterdir()} == before


def test_the_masked_proof_covers_every_gear(masked_export):
    output = masked_export.output
    assert output.count("0 other symbols") == output.count("samples in") >= 5
    assert "400 samples in 56 gears" in output


def test_two_exports_do_not_meet(model_folder, models):
    with locked(models):
        done = run_script("export_onnx.py", "--model_save_dir=.", f"--model_name_or_path={model_folder}", cwd=models)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert ": another run is writing into it" in done.stderr
    check_untouched(models)


def test_relative_error_is_of_the_largest_logit():
    expected = np.array([[1.0, -4.0, 2.0]])
    assert proof.relative_error(expected, expected) == 0
    assert proof.relative_error(expected + np.array([0, 0, 0.5]), expected) == 0.125
    assert np.isnan(proof.relative_error(expected * [1, np.nan, 1], expected))


@pytest.mark.parametrize("shape", [(1, 3, 2), (2, 3), (3, 1)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(SuiteError, match=r"expected logits of shape \(1, 3\), the exported model gives"):
        proof.relative_error(np.ones(shape), np.ones((1, 3)))
