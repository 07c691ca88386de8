# SPDX-License-Identifier: Apache-2.0
"""Proves the NPU engine on the emulated CANN: results to the bit, every failure, interruptions, whole runs."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from wav2vec2_eval.speech.latency import parse_figures
from wav2vec2_eval.speech.padding import GEARS

from conftest import (
    BEHIND_SET_ENV,
    ROOT,
    check_clean,
    compile_on_ascend,
    emulator_environment,
    emulator_report,
    on_ascend,
    program_on_ascend,
    small_graph,
    wait_until,
    write_inputs,
)


def infer_command(*options: str, model: str = "wav2vec2-base-960h") -> list[str]:
    """pyacl_infer.py on the NPU."""
    return [
        sys.executable,
        str(ROOT / "pyacl_infer.py"),
        f"--model_path=./models/{model}.om",
        "--input_info_file_path=./pre/bin_file.info",
        "--infer_res_save_path=./res",
        *options,
    ]


def infer(cwd: Path, *options: str, model: str = "wav2vec2-base-960h", **emulator: object):
    return on_ascend(*infer_command(*options, model=model), cwd=cwd, environment=None, **emulator)


def by_onnxruntime(path: Path, utterances: list[list[np.ndarray]]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    names = [value.name for value in session.get_inputs()]
    return [session.run(None, dict(zip(names, arrays)))[0] for arrays in utterances]


def read_results(cwd: Path, expected: list[np.ndarray], save_type: str = "bin") -> list[np.ndarray]:
    def read(key: int, like: np.ndarray) -> np.ndarray:
        path = cwd / f"res/{key}.0.{save_type}"
        return np.load(path) if save_type == "npy" else np.fromfile(path, like.dtype).reshape(like.shape)

    return [read(key, like) for key, like in enumerate(expected)]


@pytest.mark.parametrize("masked", [False, True])
def test_older_chips_have_selectors_of_int64(tmp_path, masked):
    name = "model-masked" if masked else "model"
    (tmp_path / "models").mkdir()
    onnx.save(small_graph(masked), tmp_path / f"models/{name}.onnx")
    assert compile_on_ascend(tmp_path, name).returncode == 0
    utterances = write_inputs(tmp_path, [GEARS[2], GEARS[0], GEARS[1]], masked)
    expected = by_onnxruntime(tmp_path / f"models/{name}.onnx", utterances)
    dtypes = "--input_dtypes=" + ",".join(["float32"] * (1 + masked))
    done = infer(tmp_path, "--sync_infer=False", dtypes, model=name, SELECTOR_INT64=1)
    assert (done.returncode, done.stderr) == (0, "")
    check_clean(tmp_path)
    for actual, wanted in zip(read_results(tmp_path, expected), expected):
        assert actual.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("cpu_run", ["True", "False"])
@pytest.mark.parametrize("sync", ["True", "False"])
@pytest.mark.parametrize(("masked", "save_type"), [(False, "bin"), (False, "npy"), (True, "bin"), (True, "npy")])
def test_results_equal_onnxruntime_to_the_bit_in_every_gear(tmp_path, masked, save_type, sync, cpu_run):
    name = "model-masked" if masked else "model"
    (tmp_path / "models").mkdir()
    onnx.save(small_graph(masked), tmp_path / f"models/{name}.onnx")
    assert compile_on_ascend(tmp_path, name).returncode == 0
    order = np.random.default_rng(0).permutation(GEARS).tolist()
    utterances = write_inputs(tmp_path, order, masked)
    expected = by_onnxruntime(tmp_path / f"models/{name}.onnx", utterances)
    options = (f"--sync_infer={sync}", f"--cpu_run={cpu_run}", f"--res_save_type={save_type}")
    done = infer(tmp_path, *options, "--input_dtypes=" + ",".join(["float32"] * (1 + masked)), model=name)
    assert (done.returncode, done.stderr) == (0, "")
    check_clean(tmp_path)
    for actual, wanted in zip(read_results(tmp_path, expected, save_type), expected):
        assert actual.tobytes() == wanted.tobytes()
        assert actual.dtype == wanted.dtype
    figures = parse_figures((tmp_path / "res/infer_time.txt").read_text())
    assert figures["total infer num"] == len(GEARS)
    assert ("average device time(ms)" in figures) == (sync == "False")


@pytest.mark.parametrize("sync", ["True", "False"])
@pytest.mark.parametrize("fixed", [True, False])
def test_models_without_gears_and_with_half_precision(tmp_path, sync, fixed):
    """A single gear is compiled as a fixed shape. Inputs are converted to float16; float16 outputs stay."""
    (tmp_path / "models").mkdir()
    onnx.save(small_graph(masked=False), tmp_path / "models/model.onnx")
    lengths = [10_000] * 3 if fixed else [20_000, 10_000, 20_000]
    (tmp_path / "gears.txt").write_text("".join(f"{length}\n" for length in sorted(set(lengths))))
    half = () if fixed else ("--input_fp16_nodes=input", "--output_type=FP16")
    done = compile_on_ascend(tmp_path, "model", "--gears_from=gears.txt", *half)
    assert done.returncode == 0, done.stdout
    utterances = write_inputs(tmp_path, lengths, masked=False)
    if not fixed:
        utterances = [[array.astype(np.float16).astype(np.float32) for array in arrays] for arrays in utterances]
    expected = by_onnxruntime(tmp_path / "models/model.onnx", utterances)
    if not fixed:
        expected = [array.astype(np.float16) for array in expected]
    done = infer(tmp_path, f"--sync_infer={sync}", model="model")
    assert (done.returncode, done.stderr) == (0, "")
    check_clean(tmp_path)
    for actual, wanted in zip(read_results(tmp_path, expected), expected):
        assert actual.tobytes() == wanted.tobytes()
    assert json.loads((tmp_path / "res/run.json").read_text()).get("gears") == (None if fixed else 2)


def tensors(cwd: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (cwd / "res").glob("*.bin")}


TIME_CALL = "acl.rt.event_elapsed_time"


def failable_calls(cwd: Path, mode: str) -> list[str]:
    """The names of the calls that may fail, in the order of a whole run."""
    done = infer(cwd, f"--sync_infer={mode}")
    assert done.returncode == 0
    names = emulator_report(cwd)["failable_call_names"]
    assert len(names) == emulator_report(cwd)["failable_calls"]
    return names


@pytest.mark.parametrize("sync", ["True", "False"])
def test_every_acl_call_may_fail(ascend_user, sync):
    """As in SQLite's tests: a run fails at its n-th call, for every n up to the number of calls in a whole run.

    Of more than two equal calls in a row, the first and the last fail.
    """
    user = ascend_user
    names = failable_calls(user, sync)
    expected = tensors(user)
    assert len(names) > 40
    failed = set()
    for number in range(1, len(names) + 1):
        if names[number - 2 : number + 1].count(names[number - 1]) == 3:
            continue
        shutil.rmtree(user / "res", ignore_errors=True)
        done = infer(user, f"--sync_infer={sync}", FAIL_CALL=number)
        call = emulator_report(user)["injected"]
        failed.add(call)
        if call == TIME_CALL:  # costs no result
            assert (done.returncode, done.stderr, tensors(user)) == (0, "", expected), (number, call)
            continue
        assert done.returncode == 2, (number, call, done.stderr)
        assert done.stderr.count("\n") == 1, (number, call, done.stderr)
        code = "gave no handle" if call.startswith(("acl.create", "acl.mdl.create")) else "507011"
        assert f"{call} " in done.stderr and code in done.stderr, (number, call, done.stderr)
        assert "failure injected by the emulator" in done.stderr, (number, call, done.stderr)  # CANN's own text
        check_clean(user)
        assert not (user / "res/infer_time.txt").exists()
        for name, content in tensors(user).items():
            assert content == expected[name], f"{name} looks complete but is not, after {call} failed"
        done = infer(user, f"--sync_infer={sync}", "--resume")
        assert (done.returncode, done.stderr) == (0, ""), (number, call)
        assert tensors(user) == expected
    assert {"acl.init", "acl.mdl.load_from_file", "acl.mdl.set_input_dynamic_dims", "acl.finalize"} <= failed
    assert ("acl.mdl.execute" if sync == "True" else "acl.mdl.execute_async") in failed


@pytest.mark.parametrize("sync", ["True", "False"])
def test_all_acl_calls_fail_from_one_on(ascend_user, sync):
    """As when the device is lost for good: the user reads the first failure, and everything is released."""
    user = ascend_user
    for number in range(1, len(failable_calls(user, sync)) + 1, 5):
        shutil.rmtree(user / "res", ignore_errors=True)
        done = infer(user, f"--sync_infer={sync}", FAIL_CALL=number, FAIL_REST=1)
        call = emulator_report(user)["injected"]
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), (number, call, done.stderr)
        assert f"{call} " in (done.stdout if call == TIME_CALL else done.stderr), (number, call, done.stderr)
        check_clean(user)
        assert not (user / "res/infer_time.txt").exists()


def test_a_device_without_execution_times_costs_no_result(ascend_user):
    """The host's clock gives them then, and one line says so."""
    user = ascend_user
    names = failable_calls(user, "False")
    expected = tensors(user)
    shutil.rmtree(user / "res")
    done = infer(user, "--sync_infer=False", FAIL_CALL=names.index(TIME_CALL) + 1, FAIL_CODE=107006)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("execution times") == 1
    assert f"({TIME_CALL} failed with code 107006 (an event was not waited for)" in done.stdout
    check_clean(user)
    assert tensors(user) == expected
    figures = parse_figures((user / "res/infer_time.txt").read_text())
    assert figures["total pure infer time(ms)"] > 0
    assert "average device time(ms)" not in figures


def repeat(user: Path, count: int) -> None:
    """Make a manifest of `count` utterances out of the three."""
    lines = (user / "pre/bin_file.info").read_text().splitlines()
    (user / "pre/bin_file.info").write_text("".join(f"{key}{lines[key % 3][1:]}\n" for key in range(count)))


@pytest.mark.parametrize("silent", [0, 1])
@pytest.mark.parametrize("number", [1, 2, 15, 16, 17, 18, 19, 36, 40])
def test_executions_that_fail_on_the_device(ascend_user, number, silent):
    """No garbage is stored as a result, whether the event reports the failure or only the stream does.

    Results are released in groups of sixteen, after a stream synchronisation. The failures lie around multiples of it.
    """
    user = ascend_user
    repeat(user, 40)
    failable_calls(user, "False")
    expected = tensors(user)
    shutil.rmtree(user / "res")
    done = infer(user, "--sync_infer=False", FAIL_ASYNC=number, EVENT_SILENT=silent)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "acl.rt.synchronize_" in done.stderr and "507011" in done.stderr
    check_clean(user)
    assert all(content == expected[name] for name, content in tensors(user).items())
    assert infer(user, "--sync_infer=False", "--resume").returncode == 0
    assert tensors(user) == expected


@pytest.mark.parametrize("sync", ["True", "False"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_releases_the_device(ascend_user, sync, number):
    user = ascend_user
    repeat(user, 1000)
    for wanted in (None, None, 0, 1, 40, 90):
        shutil.rmtree(user / "res", ignore_errors=True)
        process = subprocess.Popen(
            [*BEHIND_SET_ENV, *infer_command(f"--sync_infer={sync}")],
            cwd=user,
            env=emulator_environment(user, DEVICE_MS=10),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until((user / "res").exists, process)
        if wanted is None:  # interrupt while the run opens the device and loads the model
            time.sleep(random.uniform(0, 0.2))
        else:
            wait_until(lambda: (user / "res/run.json").exists() and len(tensors(user)) >= wanted, process)  # noqa: B023
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 128 + number, stderr
        if (user / "report.json").exists():  # the run had imported acl
            check_clean(user)
            (user / "report.json").unlink()
        assert "Traceback" not in stderr
        assert not (user / "res/infer_time.txt").exists()
    done = infer(user, f"--sync_infer={sync}", "--resume", DEVICE_MS=1)
    assert (done.returncode, len(tensors(user))) == (0, 1000)


@pytest.mark.parametrize("cpu_run", [True, False])
def test_two_executions_are_in_flight_and_each_has_its_own_time(ascend_user, cpu_run):
    """The next execution is queued before one is waited for. A slow reader does not lengthen an execution's time."""
    printed = program_on_ascend("read_slowly.py", int(cpu_run), cwd=ascend_user, DEVICE_MS=10)
    steps, times_ms = json.loads(printed)
    assert steps[:3] == (["queue", "queue", "collect"] if cpu_run else ["queue", "collect", "queue"])
    assert min(times_ms) >= 9.99
    assert statistics.median(times_ms) < 450, times_ms  # 500 ms lie between two inputs


def logged_calls(user: Path, sync: bool, *lengths: int) -> list[list[str]]:
    """The pyACL calls of a run, each with its arguments."""
    logged = json.loads(program_on_ascend("log_acl_calls.py", int(sync), *lengths, cwd=user))
    assert logged["error"] is None
    return logged["calls"]


# The documented order. The functions of one line may be called in any order.
RELEASES = (
    ("acl.destroy_data_buffer",),
    ("acl.mdl.destroy_dataset",),
    ("acl.rt.free", "acl.rt.free_host"),
    ("acl.mdl.unload",),
    ("acl.mdl.destroy_desc",),
    ("acl.rt.destroy_event",),
    ("acl.rt.destroy_stream",),
    ("acl.rt.destroy_context",),
    ("acl.rt.reset_device",),
    ("acl.finalize",),
)


@pytest.mark.parametrize(("sync", "slots"), [(True, 1), (False, 2)])
def test_resources_are_released_in_the_documented_order(ascend_user, sync, slots):
    calls = logged_calls(ascend_user, sync, 10_000)
    rank = {name: number for number, names in enumerate(RELEASES) for name in names}
    released = [rank[function] for function, *_ in calls if function in rank]
    assert set(released) | ({5, 6} if sync else set()) == set(range(len(RELEASES)))
    steps_back = [pair for pair in zip(released, released[1:]) if pair[1] < pair[0]]
    assert steps_back == [(2, 0)] * (slots - 1)  # one slot is released after the other


@pytest.mark.parametrize("sync", [True, False])
def test_only_the_bytes_of_the_gear_are_copied(ascend_user, sync):
    copied = {"1": [], "2": []}  # to the device, to the host
    for function, *arguments in logged_calls(ascend_user, sync, 10_000, 20_000, 10_000):
        if function.startswith("acl.rt.memcpy"):
            copied[arguments[4]].append(int(arguments[3]))
    assert copied == {"1": [40_000, 80_000, 40_000], "2": [31 * 8 * 4, 62 * 8 * 4, 31 * 8 * 4]}


@pytest.mark.parametrize("sync", [True, False])
def test_an_input_beyond_the_models_buffers_is_refused_before_it_is_copied(ascend_user, sync):
    """The engine itself guards host and device memory. Here nobody calls check_shapes first."""
    logged = json.loads(program_on_ascend("log_acl_calls.py", int(sync), 20_001, cwd=ascend_user))
    assert "an input of shape (1, 20001) is longer than the model's" in logged["error"]
    assert not [function for function, *_ in logged["calls"] if function.startswith("acl.rt.memcpy")]


def test_a_signal_during_the_release_is_held_back(ascend_user):
    """SIGINT counts only after everything is released, whichever thread of the process receives it."""
    assert program_on_ascend("interrupt_release.py", cwd=ascend_user) == "interrupted\n"


def unchanged(_user: Path) -> None:
    pass


def cut_model(user: Path) -> None:
    path = user / "models/wav2vec2-base-960h.om"
    path.write_bytes(path.read_bytes()[:-100])


def write_another_length(user: Path) -> None:
    (user / "pre/1.bin").write_bytes(bytes(4 * 15_000))
    path = user / "pre/bin_file.info"
    path.write_text(path.read_text().replace("20000", "15000"))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (cut_model, (), "acl.mdl.load_from_file failed with code 145006"),
        (unchanged, ("--device_id=7",), "acl.rt.set_device failed with code 107001 (no such device id)"),
        (
            write_another_length,
            (),
            "utterance 1: 15000 samples are no gear of the model; run preprocess.py with --gears=10000,20000",
        ),
        (unchanged, ("--input_dtypes=int32",), "the model's inputs are input float32"),
    ],
    ids=["cut model", "no such device", "no gear", "other dtype"],
)
def test_what_an_ascend_user_gets_wrong(ascend_user, change, options, message):
    change(ascend_user)
    done = infer(ascend_user, *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    check_clean(ascend_user)


def test_an_om2_is_inferred_like_an_om(ascend_user):
    om = ascend_user / "models/wav2vec2-base-960h.om"
    done = infer(ascend_user, f"--model_path={shutil.copy(om, om.with_suffix('.om2'))}")
    assert (done.returncode, done.stderr) == (0, "")
    check_clean(ascend_user)


def test_a_model_of_another_soc(ascend_user):
    done = infer(ascend_user, SOC="Ascend910B3")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "compiled for Ascend310P3, but this host has Ascend910B3" in done.stderr
    assert "bash onnx2om.sh Ascend910B3 wav2vec2-base-960h (" in done.stderr


def test_without_cann_the_error_says_so(ascend_user):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # acl may lie there
    done = subprocess.run(
        infer_command(), cwd=ascend_user, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "source its set_env.sh first" in done.stderr


@pytest.mark.parametrize("finalize", ["finalize", "finalize_reference"])
def test_acl_may_be_initialised_already(ascend_user, finalize):
    """Another part of the process initialised acl: the engine leaves acl usable, and the other part finalises it."""
    program_on_ascend("acl_in_use.py", finalize, cwd=ascend_user)


def test_the_whole_evaluation_on_an_ascend_host(chain, model_folder, speech, tmp_path):
    """As a user runs the evaluation, from set_env.sh to the table."""
    done = on_ascend(
        "bash",
        ROOT / "test/eval_acc_perf.sh",
        "--which_dataset=clean",
        f"--dataset_path={speech}",
        f"--model_name_or_path={model_folder}",
        "--gears=default",
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "NPU: Ascend310P3, device 0" in done.stdout
    assert "compiling ./models/wav2vec2-base-960h.onnx for Ascend310P3 with 3 gears" in done.stdout
    run = json.loads((tmp_path / "eval_res/clean/npu/run.json").read_text())
    assert run["device"] == "Ascend310P3, device 0"
    assert run["data"]["padded"] is True
    # The chain's utterances were padded in the same way and ran on onnxruntime; test_end_to_end.py compares the chain
    # with transformers.
    for name in ("transcriptions.txt", "wer.txt"):
        expected = (chain / f"om_infer_res_clean/{name}").read_text()
        assert (tmp_path / f"eval_res/clean/npu/{name}").read_text() == expected
