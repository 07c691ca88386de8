# SPDX-License-Identifier: Apache-2.0
"""Proves pyacl_infer.py --check_device: what it prints on an NPU and on a CPU, and how it fails."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from wav2vec2_eval.engines import trial
from wav2vec2_eval.engines.base import Arrays, Conditions, Engine, Result, TensorSpec
from wav2vec2_eval.engines.npu import facts
from wav2vec2_eval.engines.npu.acl_runtime import Acl
from wav2vec2_eval.errors import SuiteError

from conftest import ROOT, check_clean, compile_on_ascend, on_ascend, run_ok, run_script, small_graph

FLOAT32 = np.dtype(np.float32)


def check(cwd: Path, model: str, *options: str, **emulator: object) -> tuple[int, str, str]:
    """Status, stdout and stderr of --check_device on the emulator."""
    command = (sys.executable, ROOT / "pyacl_infer.py", "--check_device", f"--model_path=./models/{model}")
    done = on_ascend(*command, *options, cwd=cwd, environment=None, **emulator)
    return done.returncode, done.stdout, done.stderr


def labels(stdout: str) -> list[str]:
    return [line.partition(": ")[0] for line in stdout.splitlines()]


HOST = ["Python", "numpy", "CANN", "driver"]
DEVICE = ["acl", "chip", "device memory", "model"]
END = ["gears", "output 0", "first execution", "the device works"]


@pytest.mark.parametrize("sync", ["True", "False"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_working_npu(tmp_path, masked, sync):
    name = "model-masked" if masked else "model"
    (tmp_path / "models").mkdir()
    onnx.save(small_graph(masked), tmp_path / f"models/{name}.onnx")
    (tmp_path / "gears.txt").write_text("30000\n20000\n50000\n")
    assert compile_on_ascend(tmp_path, name, "--gears_from=gears.txt").returncode == 0
    before = sorted(tmp_path.rglob("*"))
    status, stdout, stderr = check(tmp_path, f"{name}.om", f"--sync_infer={sync}")
    assert (status, stderr) == (0, "")
    check_clean(tmp_path)
    inputs = ["input 0", "input 1"] if masked else ["input 0"]
    assert labels(stdout) == [*HOST, *DEVICE, *inputs, *END]
    assert "\nchip: Ascend310P3\n" in stdout
    assert "\ninput 0: input float32 (1,*)\n" in stdout
    assert ("\ninput 1: attention_mask float32 (1,*)\n" in stdout) == masked
    assert "\ngears: 3, 20000 to 50000 samples\noutput 0: float32 (1,62,8), finite\n" in stdout
    assert stdout.endswith("\nthe device works: Ascend310P3, device 0 inferred 20000 samples of silence\n")
    assert {path.name for path in set(tmp_path.rglob("*")) - set(before)} == {"report.json"}  # of the emulator


def damage(user: Path) -> None:
    path = user / "models/wav2vec2-base-960h.om"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("options", "emulator", "prepare", "expected"),
    [
        (("--device_id=3",), {}, None, "107001"),
        ((), {"SOC": "Ascend910B3"}, None, "(?i)soc"),  # the chip of the host
        ((), {}, damage, "wav2vec2-base-960h.om|acl.mdl.load_from_file"),
        ((), {"MEMORY_MB": 0}, None, "207001|memory"),
        (("--sync_infer=False",), {"FAIL_ASYNC": 1}, None, "507011"),
        (("--batch_size=2",), {}, None, "--batch_size=2"),
    ],
)
def test_an_npu_that_does_not_work(ascend_user, options, emulator, prepare, expected):
    """One line, after what is known of the host."""
    if prepare:
        prepare(ascend_user)
    status, stdout, stderr = check(ascend_user, "wav2vec2-base-960h.om", *options, **emulator)
    assert status == 2 and re.fullmatch("pyacl_infer.py: error: .*\n", stderr) and re.search(expected, stderr), stderr
    assert labels(stdout)[:4] == HOST and "works" not in stdout


def test_without_cann(ascend_user):
    done = run_script("pyacl_infer.py", "--check_device", "--model_path=models/wav2vec2-base-960h.om", cwd=ascend_user)
    assert done.returncode == 2 and labels(done.stdout) == HOST
    assert re.fullmatch("pyacl_infer.py: error: the Python module acl cannot be imported .*\n", done.stderr)


def test_a_cpu(ascend_user):
    output = run_ok("pyacl_infer.py", "--check_device", "--model_path=models/wav2vec2-base-960h.onnx", cwd=ascend_user)
    assert labels(output) == ["Python", "numpy", "engine", "device", "model", "input 0", *END]
    assert "\ngears: none\noutput 0: float32 (1,49,8), finite\n" in output
    assert re.search(r"^the device works: cpu \(.*\) inferred 16000 samples of silence$", output, re.MULTILINE)


def test_an_answer_that_is_no_number_is_an_error(tmp_path):
    """The logarithm of silence."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n"]) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Log", ["input"], ["output"])], "log", ends[:1], ends[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), tmp_path / "log.onnx"
    )
    done = run_script("pyacl_infer.py", "--check_device", "--model_path=log.onnx", cwd=tmp_path)
    assert done.returncode == 2 and "works" not in done.stdout
    assert "model output 0: expected finite numbers for silence, found 16000 of 16000 that are not; " in done.stderr
    assert done.stderr.count("\n") == 1


NEITHER = "--check_device takes neither --input_info_file_path nor --infer_res_save_path"
RUN_OPTIONS = ("--input_info_file_path=x", "--infer_res_save_path=y")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--check_device"], "the following arguments are required: --model_path"),
        ([], "the following arguments are required: --model_path, --input_info_file_path, --infer_res_save_path"),
        (["--model_path=m.om", RUN_OPTIONS[0]], "the following arguments are required: --infer_res_save_path"),
        *[
            (
                ["--model_path=m.om", *words],
                NEITHER,
            )
            for option in RUN_OPTIONS
            for words in (["--check_device", option], [option, "--check_device"])
        ],
    ],
)
def test_which_options_go_together(tmp_path, options, message):
    done = run_script("pyacl_infer.py", *options, cwd=tmp_path)
    expected = f"pyacl_infer.py: error: {message} (see pyacl_infer.py --help)\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


# The silent utterance


class FakeEngine(Engine):
    """Returns the sum of each input."""

    conditions = Conditions("fake", "nowhere", "f32")

    def __init__(self, inputs: list[TensorSpec], gears: list[tuple[int, ...]] | None = None) -> None:
        self.inputs, self.gears = inputs, gears

    def _infer(self, utterances: Iterable[Arrays]) -> Generator[Result, None, None]:
        for arrays in utterances:
            yield Result([np.array([array.sum() for array in arrays])], 1_500_000)

    def close(self) -> None:
        pass


def spec(name: str, *shape: int | None, dtype: np.dtype = FLOAT32) -> TensorSpec:
    return TensorSpec(name, dtype, shape)


MASKED = [spec("input", 1, None), spec("attention_mask", 1, None)]


@pytest.mark.parametrize(
    ("engine", "shapes"),
    [
        (FakeEngine([spec("input", None, None)]), [(1, 16000)]),
        (FakeEngine([spec("input", None)]), [(16000,)]),
        (FakeEngine([spec("input", 1, 12000)]), [(1, 12000)]),
        (FakeEngine([spec("input", 1, None)], [(1, 30000), (1, 9000), (1, 40000)]), [(1, 9000)]),
        (FakeEngine(MASKED, [(1, 30000, 1, 30000), (1, 20000, 1, 20000)]), [(1, 20000), (1, 20000)]),
        (FakeEngine(MASKED), [(1, 16000), (1, 16000)]),
    ],
)
def test_the_shapes_of_silence(engine, shapes):
    assert [array.shape for array in trial.silence(engine)] == shapes


def test_silence_is_zeros_that_are_all_real():
    float16 = np.dtype(np.float16)
    samples, mask = trial.silence(FakeEngine([spec("input", 1, 8, dtype=float16), spec("attention_mask", 1, 8)]))
    assert (samples.dtype, mask.dtype) == (float16, FLOAT32)
    assert not samples.any() and (mask == 1).all()


def test_the_facts_of_a_result():
    result, num_samples = trial.infer_silence(FakeEngine(MASKED))
    assert num_samples == 16000
    assert result.outputs[0].tolist() == [0, 16000]
    assert trial.result_facts(result) == {"output 0": "float32 (2), finite", "first execution": "1.50 ms"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_wrong_number_is_enough(monkeypatch, value):
    outputs = [np.zeros((1, 5, 8)), np.zeros((1, 2))]
    outputs[1][0, 1] = value
    monkeypatch.setattr(FakeEngine, "_infer", lambda *_: (Result(outputs, 1) for _ in range(1)))
    with pytest.raises(SuiteError, match=r"model output 1: .* found 1 of 2 that are not"):
        trial.infer_silence(FakeEngine(MASKED))


# What an Ascend host says of itself


@pytest.mark.parametrize(
    ("content", "version"),
    [
        ("Version=24.1.rc2\nascendhal_version=7.35.19\n", "24.1.rc2"),
        ("ascendhal_version=7.35.19\nVersion= 23.0.3 \r\n", "23.0.3"),
        ("MyVersion=1\n", "unknown"),
        ("Version=\n", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_version_of_the_driver(tmp_path, content, version):
    path = tmp_path / "version.info"
    if content is not None:
        path.write_text(content)
    assert facts.driver_version(path) == version


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({}, ("unknown", "unknown", "unknown")),  # an older CANN, and no chip
        ({"version": (1, 14, 0, 0), "chip": "Ascend910B2"}, ("1.14.0", "Ascend910B2", "unknown")),
        ({"version": (1, 14, 0, 500000)}, ("unknown", "unknown", "unknown")),
        ({"memory": {1: (60_000_000_000, 65_536_000_000, 0)}}, ("unknown", "unknown", "HBM 60.0 of 65.5 GB free")),
        ({"memory": {0: (1_000_000_000, 22_000_000_000, 0)}}, ("unknown", "unknown", "DDR 1.0 of 22.0 GB free")),
        ({"memory": {1: (0, 0, 0)}}, ("unknown", "unknown", "unknown")),
        ({"memory": {}}, ("unknown", "unknown", "unknown")),
    ],
)
def test_the_facts_of_a_device(monkeypatch, answers, expected):
    pending = ["text of a call that failed"]
    acl = SimpleNamespace(rt=SimpleNamespace(), mdl=SimpleNamespace())
    acl.get_soc_name = lambda: answers.get("chip")
    acl.get_recent_err_msg = lambda: pending.pop() if pending else None
    if "version" in answers:
        acl.get_version = lambda: answers["version"]
    if "memory" in answers:
        acl.rt.get_mem_info = lambda kind: answers["memory"].get(kind, (0, 0, 100000))
    monkeypatch.setitem(sys.modules, "acl", acl)
    found = facts.device_facts(Acl())
    assert tuple(found.values()) == expected and list(found) == ["acl", "chip", "device memory"]
    failed = answers.get("version", (0,))[-1] or ("memory" in answers and len(answers["memory"]) < 2)
    assert (pending == []) == bool(failed)  # the next error must not show that text


@pytest.mark.parametrize(("home", "shown"), [("/", "/"), (None, "unknown"), ("", "unknown")])
def test_the_place_of_cann(monkeypatch, home, shown):
    monkeypatch.delenv("ASCEND_TOOLKIT_HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("ASCEND_TOOLKIT_HOME", home)
    assert facts.host_facts()["CANN"] == shown
