# SPDX-License-Identifier: Apache-2.0
"""The Ascend path on the emulated CANN installation: results, faults, interruptions, and the whole evaluation."""

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
from onnx import TensorProto, helper

from wav2vec2_eval.audio import GEARS
from wav2vec2_eval.timing import parse_figures

from conftest import ROOT, wait_until

SET_ENV = ROOT / "test/emulator/set_env.sh"


BEHIND_SET_ENV = ("bash", "-c", 'source "$0" && exec "$@"', str(SET_ENV))


def emulator_environment(cwd: Path, **emulator: object) -> dict[str, str]:
    """The emulator's settings; its report is left in cwd/report.json."""
    return {
        **os.environ,
        "ACL_EMULATOR_REPORT": str(cwd / "report.json"),
        **{f"ACL_EMULATOR_{name}": str(value) for name, value in emulator.items()},
    }


def on_ascend(*command: object, cwd: Path, **emulator: object) -> subprocess.CompletedProcess[str]:
    """Run a command behind the emulator's set_env.sh."""
    return subprocess.run(
        [*BEHIND_SET_ENV, *map(str, command)],
        cwd=cwd,
        env=emulator_environment(cwd, **emulator),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
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
    return on_ascend(*infer_command(*options, model=model), cwd=cwd, **emulator)


def report(cwd: Path) -> dict:
    return json.loads((cwd / "report.json").read_text())


def check_clean(cwd: Path) -> None:
    assert (report(cwd)["violations"], report(cwd)["leaks"]) == ([], [])


def onnx2om(cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return on_ascend("bash", ROOT / "onnx2om.sh", "Ascend310P3", *options, cwd=cwd)


def small_graph(masked: bool, length: int | None = None, element: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """(1, T) -> (1, F, 8): one convolution as the model's frames are, of the waveform times a mask if there is one."""
    shape = [1, length or "data_len"]
    names = ["input", "attention_mask"] if masked else ["input"]
    nodes = [helper.make_node("Mul", names, ["masked"])] if masked else []
    nodes += [
        helper.make_node("Unsqueeze", ["masked" if masked else "input"], ["channel"], axes=[1]),
        helper.make_node("Conv", ["channel", "kernel"], ["features"], strides=[320]),
        helper.make_node("Transpose", ["features"], ["output"], perm=[0, 2, 1]),
    ]
    kernel = np.random.default_rng(0).standard_normal((8, 1, 400)).astype(helper.tensor_dtype_to_np_dtype(element))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, element, shape) for name in names],
        [helper.make_tensor_value_info("output", element, [1, "frames", 8])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    return helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", 11)])


def write_inputs(cwd: Path, lengths: list[int], masked: bool) -> list[list[np.ndarray]]:
    """A manifest with utterances of these padded lengths; returns their inputs."""
    folder = cwd / "pre"
    folder.mkdir()
    utterances, lines = [], []
    for key, length in enumerate(lengths):
        waveform = np.random.default_rng(key).standard_normal((1, length)).astype(np.float32)
        mask = (np.arange(length) < length - 1_000).astype(np.float32)[None]
        utterances.append([waveform, mask][: 1 + masked])
        for name, array in zip((f"{key}.bin", f"{key}.mask.bin"), utterances[-1]):
            array.tofile(folder / name)
            lines.append(f"{key} ./pre/{name} (1,{length})\n")
    (folder / "bin_file.info").write_text("".join(lines))
    return utterances


def by_onnxruntime(path: Path, utterances: list[list[np.ndarray]]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    names = [value.name for value in session.get_inputs()]
    return [session.run(None, dict(zip(names, arrays)))[0] for arrays in utterances]


def read_results(cwd: Path, expected: list[np.ndarray], save_type: str = "bin") -> list[np.ndarray]:
    def read(key: int, like: np.ndarray) -> np.ndarray:
        path = cwd / f"res/{key}.0.{save_type}"
        return np.load(path) if save_type == "npy" else np.fromfile(path, like.dtype).reshape(like.shape)

    return [read(key, like) for key, like in enumerate(expected)]


@pytest.mark.parametrize("cpu_run", ["True", "False"])
@pytest.mark.parametrize("sync", ["True", "False"])
@pytest.mark.parametrize(("masked", "save_type"), [(False, "bin"), (False, "npy"), (True, "bin"), (True, "npy")])
def test_results_equal_onnxruntime_to_the_bit_in_every_gear(tmp_path, masked, save_type, sync, cpu_run):
    name = "model-masked" if masked else "model"
    (tmp_path / "models").mkdir()
    onnx.save(small_graph(masked), tmp_path / f"models/{name}.onnx")
    assert onnx2om(tmp_path, name).returncode == 0
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
    """One gear is compiled as a fixed shape; float16 inputs and outputs are converted and stored as they are."""
    (tmp_path / "models").mkdir()
    onnx.save(small_graph(masked=False), tmp_path / "models/model.onnx")
    lengths = [10_000] * 3 if fixed else [20_000, 10_000, 20_000]
    (tmp_path / "gears.txt").write_text("".join(f"{length}\n" for length in sorted(set(lengths))))
    half = () if fixed else ("--input_fp16_nodes=input", "--output_type=FP16")
    done = onnx2om(tmp_path, "model", "--gears_from=gears.txt", *half)
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


@pytest.fixture(scope="module")
def ascend(tmp_path_factory) -> Path:
    """An Ascend user's folder: a compiled model, and three utterances in two gears."""
    cwd = tmp_path_factory.mktemp("ascend")
    (cwd / "models").mkdir()
    onnx.save(small_graph(masked=False), cwd / "models/wav2vec2-base-960h.onnx")
    (cwd / "gears.txt").write_text("20000\n10000\n")
    assert onnx2om(cwd, "--gears_from", "gears.txt").returncode == 0
    write_inputs(cwd, [10_000, 20_000, 10_000], masked=False)
    return cwd


@pytest.fixture
def user(ascend, tmp_path) -> Path:
    return shutil.copytree(ascend, tmp_path / "user")


def tensors(cwd: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (cwd / "res").glob("*.bin")}


def count_calls(cwd: Path, mode: str) -> int:
    done = infer(cwd, f"--sync_infer={mode}")
    assert done.returncode == 0
    return report(cwd)["failable_calls"]


@pytest.mark.parametrize("sync", ["True", "False"])
def test_every_acl_call_may_fail(user, sync):
    """In the manner of SQLite's tests: the n-th call fails, for every n of a run, until a run has fewer calls."""
    last = count_calls(user, sync)
    expected = tensors(user)
    assert last > 40
    failed = set()
    for number in range(1, last + 1):
        shutil.rmtree(user / "res", ignore_errors=True)
        done = infer(user, f"--sync_infer={sync}", FAIL_CALL=number)
        call = report(user)["injected"]
        failed.add(call)
        assert done.returncode == 2, (number, call, done.stderr)
        assert done.stderr.count("\n") == 1, (number, call, done.stderr)
        code = "gave no handle" if call.startswith(("acl.create", "acl.mdl.create")) else "507011"
        assert f"{call} " in done.stderr and code in done.stderr, (number, call, done.stderr)
        assert "failure injected by the emulator" in done.stderr, (number, call, done.stderr)  # CANN's own text
        check_clean(user)
        assert not (user / "res/infer_time.txt").exists()
        for name, content in tensors(user).items():
            assert content == expected[name], f"{name} looks complete and is not, after {call} failed"
        done = infer(user, f"--sync_infer={sync}", "--resume")
        assert (done.returncode, done.stderr) == (0, ""), (number, call)
        assert tensors(user) == expected
    assert {"acl.init", "acl.mdl.load_from_file", "acl.mdl.set_input_dynamic_dims", "acl.finalize"} <= failed
    assert ("acl.mdl.execute" if sync == "True" else "acl.mdl.execute_async") in failed


@pytest.mark.parametrize("sync", ["True", "False"])
def test_all_acl_calls_fail_from_one_on(user, sync):
    """As when the device is lost for good: the first failure is what the user reads, and everything is let go."""
    for number in range(1, count_calls(user, sync) + 1, 5):
        shutil.rmtree(user / "res", ignore_errors=True)
        done = infer(user, f"--sync_infer={sync}", FAIL_CALL=number, FAIL_REST=1)
        call = report(user)["injected"]
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), (number, call, done.stderr)
        assert f"{call} " in done.stderr, (number, call, done.stderr)
        check_clean(user)
        assert not (user / "res/infer_time.txt").exists()


def repeat(user: Path, count: int) -> None:
    """Make a manifest of `count` utterances of the three."""
    lines = (user / "pre/bin_file.info").read_text().splitlines()
    (user / "pre/bin_file.info").write_text("".join(f"{key}{lines[key % 3][1:]}\n" for key in range(count)))


@pytest.mark.parametrize("silent", [0, 1])
@pytest.mark.parametrize("number", [1, 2, 15, 16, 17, 18, 19, 36, 40])
def test_executions_that_fail_on_the_device(user, number, silent):
    """Whether the event tells or only the stream: no garbage is stored as a result.

    Results are handed out sixteen at a time, after the stream has vouched for them; failures come around that number.
    """
    repeat(user, 40)
    count_calls(user, "False")
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
def test_an_interrupted_run_releases_the_device(user, sync, number):
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
        if wanted is None:  # while it opens the device and loads the model
            time.sleep(random.uniform(0, 0.2))
        else:
            wait_until(lambda: (user / "res/run.json").exists() and len(tensors(user)) >= wanted, process)  # noqa: B023
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 128 + number, stderr
        if (user / "report.json").exists():  # acl was there already
            check_clean(user)
            (user / "report.json").unlink()
        assert "Traceback" not in stderr
        assert not (user / "res/infer_time.txt").exists()
    done = infer(user, f"--sync_infer={sync}", "--resume", DEVICE_MS=1)
    assert (done.returncode, len(tensors(user))) == (0, 1000)


@pytest.mark.parametrize("cpu_run", [True, False])
def test_two_executions_are_in_flight_and_each_has_its_own_time(user, cpu_run):
    """A slow reader does not lengthen an execution's time; the next one is queued before one is waited for."""
    (user / "client.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "import json, time\nimport numpy as np\nfrom pathlib import Path\n"
        "from wav2vec2_eval.npu_engine import NpuEngine\n"
        "log = []\n"
        "class Logged(NpuEngine):\n"
        "    def _queue(self, *a):\n        log.append('queue')\n        return super()._queue(*a)\n"
        "    def _collect(self, *a):\n        log.append('collect')\n        return super()._collect(*a)\n"
        "def slow():\n"
        "    for _ in range(4):\n        time.sleep(0.5)\n        yield [np.zeros((1, 10_000), np.float32)]\n"
        f"with Logged(Path('models/wav2vec2-base-960h.om'), 0, False, {cpu_run}) as engine:\n"
        "    times = [result.pure_ns / 1e6 for result in engine.stream(slow())]\n"
        "print(json.dumps([log, times]))\n"
    )
    done = on_ascend(sys.executable, user / "client.py", cwd=user, DEVICE_MS=10)
    assert (done.returncode, done.stderr) == (0, "")
    log, times = json.loads(done.stdout)
    check_clean(user)
    expected = ["queue", "queue", "collect"] if cpu_run else ["queue", "collect", "queue"]
    assert log[:3] == expected
    assert min(times) >= 9.99
    assert statistics.median(times) < 450, times  # 500 ms lie between two inputs


CLIENT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import json
from pathlib import Path
import acl
import numpy as np
from wav2vec2_eval.acl_runtime import Acl
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.npu_engine import NpuEngine

log = []
call = Acl.call
def logged(self, function, *arguments):
    log.append([function, *map(repr, arguments)])
    return call(self, function, *arguments)
Acl.call = logged

def run(lengths, sync):
    with NpuEngine(Path("models/wav2vec2-base-960h.om"), 0, sync, True) as engine:
        return list(engine.stream([np.zeros((1, length), np.float32)] for length in lengths))
"""


def run_client(user: Path, code: str) -> str:
    """Run Python code that drives the engine by itself, after CLIENT; returns its stdout."""
    (user / "client.py").write_text(CLIENT + code)
    done = on_ascend(sys.executable, user / "client.py", cwd=user)
    assert (done.returncode, done.stderr) == (0, "")
    check_clean(user)
    return done.stdout


# The documented order. Those of one line may come in any order.
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
def test_resources_are_released_in_the_documented_order(user, sync, slots):
    log = json.loads(run_client(user, f"run([10_000], {sync})\nprint(json.dumps(log))"))
    rank = {name: number for number, names in enumerate(RELEASES) for name in names}
    released = [rank[function] for function, *_ in log if function in rank]
    assert set(released) | ({5, 6} if sync else set()) == set(range(len(RELEASES)))
    steps_back = [pair for pair in zip(released, released[1:]) if pair[1] < pair[0]]
    assert steps_back == [(2, 0)] * (slots - 1)  # one slot after the other


@pytest.mark.parametrize("sync", [True, False])
def test_only_the_bytes_of_the_gear_are_copied(user, sync):
    log = json.loads(run_client(user, f"run([10_000, 20_000, 10_000], {sync})\nprint(json.dumps(log))"))
    copied = {"1": [], "2": []}  # to the device, to the host
    for function, *arguments in log:
        if function.startswith("acl.rt.memcpy"):
            copied[arguments[4]].append(int(arguments[3]))
    assert copied == {"1": [40_000, 80_000, 40_000], "2": [31 * 8 * 4, 62 * 8 * 4, 31 * 8 * 4]}


@pytest.mark.parametrize("sync", [True, False])
def test_an_input_beyond_the_models_buffers_is_refused_before_it_is_copied(user, sync):
    """Nobody but `check_inputs` stands before the engine; host and device memory must be safe without it."""
    said = run_client(user, f"try:\n    run([20_001], {sync})\nexcept SuiteError as error:\n    print(error)")
    assert "an input of shape (1, 20001) is longer than the model's" in said


@pytest.mark.parametrize(
    ("data_type", "size", "works"), [(3, 4, True), (9, 8, True), (9, 4, False), (3, 8, False), (0, 4, False)]
)
def test_a_selector_that_the_library_would_fill_wrongly_is_refused(user, data_type, size, works):
    """The library writes 8-byte elements if there is room, whatever the graph reads."""
    code = f"""
data_type, size = acl.mdl.get_input_data_type, acl.mdl.get_input_size_by_index
acl.mdl.get_input_data_type = lambda desc, index: {data_type} if index == 1 else data_type(desc, index)
acl.mdl.get_input_size_by_index = lambda desc, index: {size} if index == 1 else size(desc, index)
try:
    with NpuEngine(Path("models/wav2vec2-base-960h.om"), 0, True, True):
        print("works")
except SuiteError as error:
    print(error)
"""
    said = run_client(user, code)
    refused = f"ascend_mbatch_shape_data has {size} bytes of type {data_type}, expected 4 of type 3"
    assert ("works" if works else refused) in said


def test_a_signal_during_the_release_is_held_back(user):
    """Also where another thread of the process takes it: everything is released, then it counts."""
    (user / "client.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "import os, signal, threading, time\nfrom pathlib import Path\n"
        "from wav2vec2_eval.acl_runtime import Acl\nfrom wav2vec2_eval.npu_engine import NpuEngine\n"
        "threading.Thread(target=time.sleep, args=(1,), daemon=True).start()\n"
        "call = Acl.call\n"
        "def call_and_interrupt(self, function, *arguments):\n"
        "    if function in ('acl.rt.free', 'acl.rt.destroy_stream'):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return call(self, function, *arguments)\n"
        "Acl.call = call_and_interrupt\n"
        "try:\n"
        "    with NpuEngine(Path('models/wav2vec2-base-960h.om'), 0, False, True):\n        pass\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    done = on_ascend(sys.executable, user / "client.py", cwd=user)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
    check_clean(user)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda cwd: cut(cwd / "models/wav2vec2-base-960h.om"), (), "acl.mdl.load_from_file failed with code 145006"),
        (lambda cwd: None, ("--device_id=7",), "acl.rt.set_device failed with code 107001 (no such device id)"),
        (
            lambda cwd: (
                (cwd / "pre/1.bin").write_bytes(bytes(4 * 15_000))
                and rewrite(cwd / "pre/bin_file.info", "20000", "15000")
            ),
            (),
            "utterance 1: 15000 samples are no gear of the model; run preprocess.py with --gears=10000,20000",
        ),
        (lambda cwd: None, ("--input_dtypes=int32",), "the model's inputs are input float32"),
    ],
)
def test_what_an_ascend_user_gets_wrong(user, change, options, message):
    change(user)
    done = infer(user, *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    check_clean(user)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def rewrite(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def test_a_model_of_another_soc(user):
    done = infer(user, SOC="Ascend910B3")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "failed with code 507008 (SoC version; the model was probably compiled for another SoC)" in done.stderr


def test_without_cann_the_error_says_so(user):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # where acl may be
    done = subprocess.run(infer_command(), cwd=user, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "source its set_env.sh first" in done.stderr


@pytest.mark.parametrize("finalize", ["finalize", "finalize_reference"])
def test_acl_may_be_initialised_already(user, finalize):
    """Another part of the process did it; it stays theirs, and it is theirs to finalize."""
    (user / "client.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "import acl\nfrom pathlib import Path\nfrom wav2vec2_eval.engines import open_engine\n"
        "assert acl.init() == 0\n"
        "for _ in range(2):\n"
        "    with open_engine(Path('models/wav2vec2-base-960h.om'), num_threads=1):\n        pass\n"
        f"assert acl.{finalize}() in (0, (0, 0))\n"
    )
    done = on_ascend(sys.executable, user / "client.py", cwd=user)
    assert (done.returncode, done.stderr) == (0, "")
    check_clean(user)


def test_the_whole_evaluation_on_an_ascend_host(chain, model_folder, speech, tmp_path):
    """As its user would run it, from set_env.sh to the table."""
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
    summary = json.loads((tmp_path / "eval_res/clean/summary.json").read_text())
    assert summary["conditions"]["suite"]["device"] == "Ascend310P3, device 0"
    # The chain's were padded alike, ran on onnxruntime, and are compared with transformers in test_end_to_end.py.
    for name in ("transcriptions.txt", "wer.txt"):
        assert (tmp_path / f"om_infer_res_clean/{name}").read_text() == (
            chain / f"om_infer_res_clean/{name}"
        ).read_text()
    assert summary["conditions"]["suite"]["data set"].endswith("padded to gears")
