# SPDX-License-Identifier: Apache-2.0
"""Proves that WavLM's position bias in the exported form is the one that transformers computes, at every distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wav2vec2_eval.export.graph import write_graph
from wav2vec2_eval.export.wavlm import exportable
from wav2vec2_eval.sources.pytorch_model import load_model

from conftest import SYMBOLS, infer_on_ascend, load_for_export, make_model, write_inputs

OPTIONS = {"default": {}, "few": {"num_buckets": 16, "max_bucket_distance": 10}, "far": {"max_bucket_distance": 3_000}}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_bias_is_the_same(tmp_path, options):
    model = load_model(str(make_model(tmp_path, kind="wavlm", **options)))
    (attention,) = (module for module in model.modules() if hasattr(module, "rel_attn_embed"))
    theirs = attention.compute_bias
    for frames in (1, 2, 5, 799, 1_748):
        expected = attention.compute_bias(frames, frames)
        with exportable(model):
            assert attention.compute_bias != theirs
            assert torch.equal(attention.compute_bias(frames, frames), expected)
    assert attention.compute_bias == theirs


def test_a_failure_leaves_the_model_as_it_was(tmp_path):
    model = load_model(str(make_model(tmp_path, kind="wavlm")))
    with pytest.raises(OSError, match="no"), exportable(model):
        raise OSError("no")
    assert not any("compute_bias" in vars(module) for module in model.modules())


def test_other_models_are_left_alone(model_folder):
    model = load_model(str(model_folder))
    with exportable(model):
        assert not any("compute_bias" in vars(module) for module in model.modules())


def test_it_compiles_and_runs_on_the_emulated_npu(tmp_path):
    """atc knows the operators of the position bias, and every gear has a fixed shape."""
    model = load_for_export(make_model(tmp_path / "wavlm", kind="wavlm"))
    (tmp_path / "models").mkdir()
    write_graph(model, tmp_path / "models/mine.onnx", attention_mask=False)
    waveforms = write_inputs(tmp_path, [10_000, 20_000], masked=False)
    infer_on_ascend(tmp_path, "mine")
    for key, (waveform,) in enumerate(waveforms):
        logits = np.fromfile(tmp_path / f"res/{key}.0.bin", np.float32).reshape(-1, len(SYMBOLS))
        with torch.inference_mode():
            expected = model(torch.from_numpy(waveform)).logits[0].numpy()
        assert abs(logits - expected).max() < 1e-4 * abs(expected).max()
