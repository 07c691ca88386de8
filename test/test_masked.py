# SPDX-License-Identifier: Apache-2.0
"""Proves that the masked model answers in every gear what transformers' unpadded model answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.export import masked
from wav2vec2_eval.sources.pytorch_model import load_model
from wav2vec2_eval.speech.audio import frame_count
from wav2vec2_eval.speech.padding import GEARS

from conftest import SYMBOLS, infer_on_ascend, make_model, noise, run_ok, run_script

FAMILIES = {
    "base": {},
    "large": {"feat_extract_norm": "layer", "conv_bias": True},
    "stable": {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True},
    "hubert": {"kind": "hubert"},
    "hubert-large": {"kind": "hubert", "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True},
    "hubert-unnormalised": {"kind": "hubert", "feat_proj_layer_norm": False},
    "data2vec": {"kind": "data2vec-audio"},
    "unispeech": {"kind": "unispeech-sat"},
    "mms": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "adapter_attn_dim": 8},
    "odd": {"conv_kernel": (10, 3, 3, 3, 3, 2, 3), "num_conv_pos_embeddings": 15},
}


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    folder = make_model(tmp_path_factory.mktemp(request.param), **FAMILIES[request.param])
    if request.param == "odd":  # whose frames the suite refuses
        return Wav2Vec2ForCTC.from_pretrained(folder, attn_implementation="eager").eval()
    return load_model(str(folder), attention="eager")


def padded(waveform, length):
    mask = torch.zeros(1, length)
    mask[:, : waveform.shape[1]] = 1
    return torch.nn.functional.pad(waveform, (0, length - waveform.shape[1])), mask


@pytest.mark.parametrize("num_samples", [720, 9_999, 10_000, 33_360])
def test_padding_changes_nothing(model, num_samples):
    waveform = torch.from_numpy(noise(num_samples)[None].astype(np.float32))
    wrapper = masked.MaskedWav2Vec2(model).eval()
    with torch.inference_mode():
        expected = model(waveform).logits
        frames = expected.shape[1]
        for length in (num_samples, num_samples + 1, *[gear for gear in GEARS if gear > num_samples][:8:2]):
            logits = wrapper(*padded(waveform, length))
            error = (logits[:, :frames] - expected).abs().max() / expected.abs().max()
            assert error < 1e-5, length
            assert (logits[:, frames:].argmax(-1) == 0).all()


def test_the_plain_model_is_not_exact(model):
    """Otherwise test_padding_changes_nothing could not fail."""
    waveform = torch.from_numpy(noise(33_360)[None].astype(np.float32))
    with torch.inference_mode():
        expected = model(waveform).logits
        logits = model(padded(waveform, 60_000)[0]).logits[:, : expected.shape[1]]
    assert (logits - expected).abs().max() / expected.abs().max() > 1e-4


def test_garbage_after_the_end_changes_nothing(model):
    waveform = torch.from_numpy(noise(20_000)[None].astype(np.float32))
    samples, mask = padded(waveform, 50_000)
    wrapper = masked.MaskedWav2Vec2(model).eval()
    with torch.inference_mode():
        expected = wrapper(samples, mask)
        samples[:, 20_000:] = 5 * torch.randn(1, 30_000)
        assert (wrapper(samples, mask) - expected).abs().max() / expected.abs().max() < 1e-5


@pytest.mark.parametrize("scale", [0.03, 0.3, 3.0])
@pytest.mark.parametrize("share", [0.5, 0.83, 1.0])
def test_float16_statistics(scale, share):
    """As on a device that computes in float16, in gears that an utterance fills half or more."""
    length = 40_000
    hidden = scale * torch.randn(1, 8, length, generator=torch.Generator().manual_seed(0)) + scale
    real = (torch.arange(length) < share * length).to(hidden.dtype)[None, None]
    norm = torch.nn.GroupNorm(8, 8)
    with torch.inference_mode():
        expected = norm(hidden[..., : int(real.sum())])
        half = masked._masked_group_norm(hidden.half(), real.half(), norm.half())
    error = (half[..., : expected.shape[-1]].float() - expected).abs().max() / expected.abs().max()
    assert error < 5e-3


@pytest.mark.parametrize("options", [{"add_adapter": True}, {"conv_pos_batch_norm": True}])
def test_what_cannot_be_exact_is_refused(tmp_path, options):
    make_model(tmp_path)
    model = load_model(str(tmp_path))
    for name, value in options.items():
        setattr(model.config, name, value)
    with pytest.raises(SuiteError, match=f"models with {next(iter(options))} cannot be made exact"):
        masked.MaskedWav2Vec2(model)


def test_another_position_bias_is_refused(tmp_path):
    model = load_model(str(make_model(tmp_path, kind="wavlm")))
    with pytest.raises(SuiteError, match="a model of model_type wavlm cannot be made exact; export without it"):
        masked.MaskedWav2Vec2(model)


@pytest.mark.parametrize("blank", [0, 4])
def test_padding_frames_become_the_blank_that_decoding_drops(tmp_path, blank):
    """config.json may name another symbol."""
    make_model(tmp_path, pad_token_id=7)
    special = json.loads((tmp_path / "special_tokens_map.json").read_text())
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special | {"pad_token": SYMBOLS[blank]}))
    wrapper = masked.MaskedWav2Vec2(load_model(str(tmp_path), attention="eager")).eval()
    logits = wrapper(*padded(torch.from_numpy(noise(9_000)[None].astype(np.float32)), 20_000))
    assert (logits[:, frame_count(9_000) :].argmax(-1) == blank).all()


@pytest.mark.parametrize("on_npu", [False, True])
def test_the_whole_chain_equals_unpadded_transformers(masked_export, speech, model_folder, tmp_path, on_npu):
    """Preprocess with masks, infer on the CPU and on the emulated NPU; the transcripts equal unpadded PyTorch's."""
    (tmp_path / "models").mkdir()
    exported = Path(shutil.copy(masked_export.path, tmp_path / "models"))
    data = ("--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}")
    run_ok("preprocess.py", "--pre_data_save_path=./pre", "--attention_mask", *data, cwd=tmp_path)
    manifest = (tmp_path / "pre/bin_file.info").read_text().splitlines()
    assert manifest[:2] == ["0 ./pre/0.bin (1,40000)", "0 ./pre/0.mask.bin (1,40000)"]
    mask = np.fromfile(tmp_path / "pre/0.mask.bin", np.float32)
    assert (mask.sum(), mask[:33_361].min(), len(mask)) == (33_361, 1, 40_000)

    if on_npu:
        infer_on_ascend(tmp_path, exported.stem, "--input_dtypes=float32,float32")
    else:
        run_ok(
            "pyacl_infer.py",
            f"--model_path=./models/{exported.name}",
            "--input_info_file_path=./pre/bin_file.info",
            "--infer_res_save_path=./res",
            "--input_dtypes=float32,float32",
            cwd=tmp_path,
        )
    run_ok("postprocess.py", "--bin_file_path=res", "--res_save_path=res/t.txt", *data, cwd=tmp_path)
    run_ok("pth_online_infer.py", "--pred_res_save_path=pth/t.txt", *data, cwd=tmp_path)
    assert (tmp_path / "res/t.txt").read_text() == (tmp_path / "pth/t.txt").read_text()
    assert (tmp_path / "res/wer.txt").read_text() == (tmp_path / "pth/wer.txt").read_text()
    logits = np.fromfile(tmp_path / "res/0.0.bin", np.float32).reshape(-1, 32)
    assert (logits[frame_count(33_361) :].argmax(-1) == 0).all()


def test_batches_equal_single_utterances(masked_export, speech, model_folder, tmp_path):
    """Five utterances of different lengths in batches of two: 2, 2 and 1."""
    data = ("--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}")
    run_ok("preprocess.py", "--pre_data_save_path=./pre", "--gears=none", "--attention_mask", *data, cwd=tmp_path)
    for size in (1, 2):
        run_ok(
            "pyacl_infer.py",
            f"--model_path={masked_export.path}",
            "--input_info_file_path=./pre/bin_file.info",
            f"--infer_res_save_path=./res{size}",
            "--input_dtypes=float32,float32",
            f"--batch_size={size}",
            cwd=tmp_path,
        )
        run_ok("postprocess.py", f"--bin_file_path=res{size}", f"--res_save_path=res{size}/t.txt", *data, cwd=tmp_path)
    for key in range(5):
        single, batched = (np.fromfile(tmp_path / f"res{size}/{key}.0.bin", np.float32) for size in (1, 2))
        assert np.abs(batched - single).max() / np.abs(single).max() < 1e-5
    assert (tmp_path / "res1/t.txt").read_text() == (tmp_path / "res2/t.txt").read_text()


def test_a_plain_model_may_not_batch(chain, tmp_path):
    done = run_script(
        "pyacl_infer.py",
        "--model_path=./models/wav2vec2-base-960h.onnx",
        "--input_info_file_path=./pre_data/clean/bin_file.info",
        f"--infer_res_save_path={tmp_path / 'res'}",
        "--batch_size=2",
        cwd=chain,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--batch_size=2 needs a model with attention_mask" in done.stderr


def test_masks_belong_to_the_folder(speech, model_folder, tmp_path):
    """preprocess.py without --attention_mask removes the masks of an earlier run."""
    data = ("--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}")
    run_ok("preprocess.py", "--pre_data_save_path=./pre", "--attention_mask", *data, cwd=tmp_path)
    run_ok("preprocess.py", "--pre_data_save_path=./pre", *data, cwd=tmp_path)
    assert not list((tmp_path / "pre").glob("*.mask.bin"))
    (tmp_path / "pre/0.mask.bin").touch()  # now it is the user's
    done = run_script("preprocess.py", "--pre_data_save_path=./pre", *data, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "holds files that preprocess.py did not write (0.mask.bin)" in done.stderr
