# SPDX-License-Identifier: Apache-2.0
"""Proves that the baseline's engine equals transformers, and fences the clock on a device that computes by itself."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForCTC
from transformers.modeling_outputs import CausalLMOutput

from wav2vec2_eval.engines import pytorch
from wav2vec2_eval.engines.base import TensorSpec
from wav2vec2_eval.engines.pytorch import Device, PytorchEngine, open_device
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources.pytorch_model import load_model

from conftest import DEMO, ORDER, noise, script_main

LENGTHS = (9_000, 400, 33_361)
NPU_SECONDS = 0.02  # of the fake device's work


def waveforms(lengths=LENGTHS):
    return [[noise(length, seed).astype(np.float32)[None]] for seed, length in enumerate(lengths)]


def cpu_device(synchronize=None):
    """The CPU, with a `synchronize` as a GPU has it."""
    return Device(torch.device("cpu"), "a device", synchronize)


@pytest.fixture
def model(model_folder):
    return load_model(str(model_folder))


def test_logits_equal_transformers(model, model_folder):
    plain = Wav2Vec2ForCTC.from_pretrained(model_folder).eval()
    with PytorchEngine(model, open_device("cpu"), "f32", num_threads=2) as engine:
        assert engine.inputs == [TensorSpec("input", np.dtype("float32"), (None, None))]
        results = list(engine.stream(iter(waveforms())))
    for result, (waveform,) in zip(results, waveforms(), strict=True):
        with torch.no_grad():
            expected = plain(torch.from_numpy(waveform)).logits.numpy()
        (logits,) = result.outputs
        assert (logits.shape, logits.dtype) == (expected.shape, np.float32)
        assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-6
        assert result.pure_ns > 0 and result.device_ms is None and result.elapsed_ms is None


@pytest.mark.parametrize(("shape", "found"), [((), r"\(\)"), ((1, 0, 32), r"\(1,0,32\)")])
def test_logits_that_no_file_holds_are_refused(model, monkeypatch, shape, found):
    monkeypatch.setattr(model, "forward", lambda _waveform: CausalLMOutput(logits=torch.ones(shape)))
    with (
        PytorchEngine(model, open_device("cpu"), "f32", num_threads=1) as engine,
        pytest.raises(SuiteError, match=f"model output 0: expected a tensor of .*, found float32 {found}"),
    ):
        next(engine.stream(waveforms()))


def test_nothing_to_infer(model):
    with PytorchEngine(model, open_device("cpu"), "f32", num_threads=1) as engine:
        assert list(engine.stream([])) == []


def test_the_clock_is_fenced_before_and_after_each_forward_pass(model, monkeypatch):
    """The fake device has finished its work when `synchronize` returns; the time includes that, and nothing else."""
    events = []
    forward = model.forward

    def synchronize():
        events.append("synchronize")
        if events[-2:-1] == ["forward"]:
            threading.Event().wait(NPU_SECONDS)

    def recorded(*arguments, **options):
        events.append("forward")
        return forward(*arguments, **options)

    def slow_inputs():
        for arrays in waveforms([9_000] * 3):
            threading.Event().wait(20 * NPU_SECONDS)
            yield arrays

    monkeypatch.setattr(model, "forward", recorded)
    with PytorchEngine(model, cpu_device(synchronize), "f32", num_threads=1) as engine:
        times_ns = [result.pure_ns for result in engine.stream(slow_inputs())]
    assert events == ["synchronize", "forward", "synchronize"] * 3
    assert min(times_ns) >= NPU_SECONDS * 1e9
    assert sorted(times_ns)[1] < 20 * NPU_SECONDS * 1e9


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
def test_lower_precisions_are_near_and_named_as_pytorch_names_them(model_folder, precision):
    name = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}[precision]
    exact = load_model(str(model_folder))
    lower = load_model(str(model_folder))
    with PytorchEngine(exact, open_device("cpu"), "f32", num_threads=2) as engine:
        expected = [result.outputs[0] for result in engine.stream(waveforms())]
    with PytorchEngine(lower, open_device("cpu"), precision, num_threads=2) as engine:
        assert engine.conditions.precision == name
        actual = [result.outputs[0] for result in engine.stream(waveforms())]
    errors = [np.abs(one - other).max() / np.abs(other).max() for one, other in zip(actual, expected, strict=True)]
    assert all(logits.dtype == np.float32 for logits in actual)
    if precision == "f32":
        assert max(errors) == 0
    else:
        assert 1e-5 < max(errors) < 0.1  # the precision was lower, and not much worse than that


def test_the_weights_are_those_that_are_loaded_in_the_precision(model, model_folder):
    loaded = load_model(str(model_folder), dtype=torch.bfloat16)
    with PytorchEngine(model, open_device("cpu"), "bf16", num_threads=1):
        for weight, expected in zip(model.parameters(), loaded.parameters(), strict=True):
            assert weight.dtype == torch.bfloat16 and torch.equal(weight, expected)


def wrong_below_float32(model, monkeypatch, change):
    """Let the model compute `change` of its logits below float32."""
    forward = model.forward

    def changed(samples):
        logits = forward(samples).logits
        return CausalLMOutput(logits=logits if samples.dtype == torch.float32 else change(logits))

    monkeypatch.setattr(model, "forward", changed)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
@pytest.mark.parametrize(
    "change",
    [
        torch.zeros_like,
        lambda logits: logits.roll(1, 1),
        lambda logits: logits * torch.nan,
        lambda logits: logits[:, 1:],
    ],
)
def test_a_precision_in_which_the_model_is_wrong_is_refused(model, monkeypatch, precision, change):
    wrong_below_float32(model, monkeypatch, change)
    with pytest.raises(SuiteError, match=r"PyTorch .* computes wrongly: .*; use --dtype=float32, or ") as refusal:
        PytorchEngine(model, cpu_device(), precision, num_threads=1)
    assert "\n" not in str(refusal.value) and " on a device, " in str(refusal.value)


def test_float32_is_the_reference_and_costs_nothing(model, monkeypatch):
    monkeypatch.setattr(model, "forward", lambda _: pytest.fail("an utterance that nobody asked for"))
    PytorchEngine(model, open_device("cpu"), "f32", num_threads=1)


def test_the_script_ends_with_the_refusal(speech, model_folder, tmp_path, monkeypatch):
    main = script_main("pth_online_infer.py")
    monkeypatch.setattr(pytorch, "relative_error", lambda *_: 1.2)
    options = ("--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}")
    with pytest.raises(
        SuiteError, match=r"bfloat16 computes wrongly: .* by 1\.2e\+00 relative, expected at most 8e-02"
    ):
        main([f"--pred_res_save_path={tmp_path / 't.txt'}", "--dtype=bfloat16", *options])
    assert not (tmp_path / "t.txt").exists()


def test_narrow_convolutions_stay_in_float32_on_a_cpu():
    """The demo's positional convolution has 12 channels per group and 64 taps."""
    model = load_model(str(DEMO / "model"))
    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv1d)]
    seen = []
    convolutions[-1].register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    with PytorchEngine(model, open_device("cpu"), "bf16", num_threads=2) as engine:
        assert [module.weight.dtype for module in convolutions] == [torch.bfloat16] * 7 + [torch.float32]
        (result,) = engine.stream(waveforms([9_000]))
    assert seen[-1] == (torch.float32, torch.float32), "before the engine's own hook"
    with PytorchEngine(load_model(str(DEMO / "model")), open_device("cpu"), "f32", num_threads=2) as engine:
        (expected,) = engine.stream(waveforms([9_000]))
    assert 1e-4 < np.abs(result.outputs[0] - expected.outputs[0]).max() / np.abs(expected.outputs[0]).max() < 0.05


def test_conditions(model):
    with PytorchEngine(model, cpu_device(), "f32", num_threads=2) as engine:
        conditions = engine.conditions
    assert conditions.engine.startswith(f"PyTorch {torch.__version__}, transformers ")
    assert conditions[1:] == ("a device", "float32", 2, None, None, None)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_a_host_without_accelerators_has_a_cpu(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device = open_device(name)
    assert (device.torch_device.type, device.synchronize) == ("cpu", None)
    assert device.name.startswith("cpu (")


@pytest.mark.parametrize("name", ["cuda", "npu"])
def test_a_device_that_is_not_there(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        SuiteError, match=f"--device={name}: PyTorch .* finds no such device on this host; try --device"
    ):
        open_device(name)


@pytest.mark.parametrize("name", ["cuda", "auto"])
def test_a_gpu_comes_first_and_is_synchronised(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "a GPU")
    device = open_device(name)
    assert (device.torch_device.type, device.name) == ("cuda", "a GPU")
    assert device.synchronize is torch.cuda.synchronize


@pytest.fixture
def baseline(speech, model_folder, tmp_path, monkeypatch):
    """run(synchronize) runs pth_online_infer.py in this process on such a device; returns its folder."""
    main = script_main("pth_online_infer.py")

    def run(synchronize, name="results"):
        monkeypatch.setattr(pytorch, "open_device", lambda _name: cpu_device(synchronize))
        options = ("--which_dataset=clean", f"--dataset_path={speech}", f"--model_name_or_path={model_folder}")
        assert main([f"--pred_res_save_path={tmp_path / name / 't.txt'}", *options]) == 0
        return tmp_path / name

    return run


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_the_baseline_on_a_device_that_is_synchronised(baseline):
    """As on a GPU: the clock is fenced, a thread reads ahead, and the results are those of a CPU."""
    seen = []
    fenced = baseline(lambda: seen.append(threads()), "fenced")
    assert len(seen) == 2 * len(ORDER)
    assert "read-ahead" in seen[0]
    assert "read-ahead" not in threads()
    plain = baseline(None, "plain")
    for name in ("t.txt", "wer.txt", "utterance_scores.tsv"):
        assert (fenced / name).read_text() == (plain / name).read_text()
    assert json.loads((fenced / "run.json").read_text())["device"] == "a device"


def test_the_baseline_reads_ahead_only_of_a_device(baseline, monkeypatch):
    """On a CPU, a thread that reads ahead would take a core from the model."""
    seen = []
    stream = PytorchEngine.stream

    def recorded(self, utterances):
        for result in stream(self, utterances):
            seen.extend(threads())
            yield result

    monkeypatch.setattr(PytorchEngine, "stream", recorded)
    baseline(None)
    assert seen and "read-ahead" not in seen


def test_a_baseline_that_fails_ends_the_thread_that_reads_ahead(baseline, monkeypatch):
    def failing(self, utterances):
        next(iter(utterances))
        raise SuiteError("the device is lost")
        yield

    monkeypatch.setattr(PytorchEngine, "stream", failing)
    with pytest.raises(SuiteError, match="the device is lost"):
        baseline(lambda: None)
    assert "read-ahead" not in threads()
