#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the suite adds to the time of an NPU, measured on the emulated NPU.

The emulator computes nothing and takes 10 ms per utterance of 160,000 samples. During a synchronous execution it holds
Python's global lock, as pyACL does; asynchronous executions are queued. So the figures are the suite's own work on the
host, and include the emulator's. They say nothing about the speed of a real device.

    source test/emulator/set_env.sh && python test/bench/npu.py --work_dir=/tmp/bench_npu
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from common import ROOT, conditions, memory_kb, new_parser, script_command, verdict

from wav2vec2_eval import MODEL_NAME, cli
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.manifest import format_line
from wav2vec2_eval.files.names import INFER_TIME_NAME, INPUT, JOURNAL_NAME, MANIFEST_NAME, OUTPUT, model_name
from wav2vec2_eval.speech.audio import RECEPTIVE_FIELD, SAMPLES_PER_FRAME
from wav2vec2_eval.speech.latency import parse_figures

DEVICE_MS = 10.0
SAMPLES = 160_000
NUM_SYMBOLS = 32
RUNS = 3
WARM_UP = 10  # utterances
SETTLED = 500  # utterances, after which the memory must not grow
MAX_RATIO = 1.03  # of asynchronous time to device time
MAX_HOST_MS = 1.5  # of a synchronous execution
MAX_GROWTH_MB = 5.0


def compile_model(cwd: Path) -> None:
    """Write and compile a model with the shapes of base-960h: (1, T) -> (1, F, 32)."""
    import onnx
    from onnx import TensorProto, helper

    (cwd / "models").mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Unsqueeze", [INPUT], ["channel"], axes=[1]),
        helper.make_node("Conv", ["channel", "kernel"], ["features"], strides=[SAMPLES_PER_FRAME]),
        helper.make_node("Transpose", ["features"], [OUTPUT], perm=[0, 2, 1]),
    ]
    kernel = np.zeros((NUM_SYMBOLS, 1, RECEPTIVE_FIELD), np.float32)
    graph = helper.make_graph(
        nodes,
        "shapes",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, "data_len"])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, "frames", NUM_SYMBOLS])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", 11)])
    onnx.save(model, cwd / "models" / model_name(MODEL_NAME))
    environment = {**os.environ, "PYTHON": sys.executable}  # runs the emulated compiler
    command = ["bash", str(ROOT / "onnx2om.sh"), "Ascend310P3"]
    if status := subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
        raise SuiteError(f"onnx2om.sh: ended with status {status}")


def write_manifest(cwd: Path, count: int) -> Path:
    """Write the manifest of `count` utterances of SAMPLES samples, which share ten files; returns its path."""
    folder = cwd / f"pre{count}"
    folder.mkdir(exist_ok=True)
    lines = []
    for key in range(count):
        path = folder / f"{key % 10}.bin"
        if not path.exists():
            np.random.default_rng(key).standard_normal(SAMPLES).astype(np.float32).tofile(path)
        lines.append(format_line(str(key), str(path), (1, SAMPLES)) + "\n")
    (folder / MANIFEST_NAME).write_text("".join(lines))
    return folder / MANIFEST_NAME


def infer(cwd: Path, manifest: Path, sync: bool, device_ms: float) -> tuple[dict[str, float], dict[int, int]]:
    """Run pyacl_infer.py; returns its figures, and its memory in KiB by the number of results that were written."""
    folder = cwd / f"res_{sync}"
    command = script_command(
        "pyacl_infer.py",
        f"--model_path=./models/{MODEL_NAME}.om",
        f"--input_info_file_path={manifest}",
        f"--infer_res_save_path={folder}",
        f"--sync_infer={sync}",
        f"--workspace={WARM_UP}",
    )
    shutil.rmtree(folder, ignore_errors=True)  # an old journal would be counted as this run's
    environment = {**os.environ, "ACL_EMULATOR_DEVICE_MS": str(device_ms), "ACL_EMULATOR_STRICT": "1"}
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL)
    journal = folder / JOURNAL_NAME
    memory: dict[int, int] = {}
    while process.poll() is None:
        time.sleep(0.05)
        done = max(0, sum(1 for _ in journal.open("rb")) - 1) if journal.exists() else 0  # after its header
        if resident_kb := memory_kb(process.pid, "VmRSS"):  # 0 once the process has ended
            memory[done] = resident_kb
    if process.returncode:
        raise SuiteError(f"pyacl_infer.py: ended with status {process.returncode}")
    return parse_figures((folder / INFER_TIME_NAME).read_text()), memory


def bench_time(cwd: Path, count: int) -> bool:
    """Print the time per utterance of both modes; returns whether both targets are reached."""
    manifest = write_manifest(cwd, count)
    wall_ms: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(RUNS):
        for sync, values in wall_ms.items():
            figures, _memory = infer(cwd, manifest, sync, DEVICE_MS)
            values.append(figures["average infer time(ms)"])
    async_ms, sync_ms = median(wall_ms[False]), median(wall_ms[True])
    ratio, host_ms = async_ms / DEVICE_MS, sync_ms - DEVICE_MS
    keeps_busy, is_light = ratio <= MAX_RATIO, host_ms <= MAX_HOST_MS
    print(
        f"async: {async_ms:.3f} ms per utterance, {ratio:.4f} x device time (target <= {MAX_RATIO}: "
        f"{verdict(keeps_busy)})"
    )
    print(
        f"sync: {sync_ms:.3f} ms per utterance, {host_ms:.3f} ms of them on the host (target <= {MAX_HOST_MS}: "
        f"{verdict(is_light)})"
    )
    return keeps_busy and is_light


def bench_memory(cwd: Path, count: int) -> bool:
    """Print how the memory of both modes grows in a long run; returns whether the target is reached."""
    manifest = write_manifest(cwd, count)
    reached = True
    for sync in (True, False):
        _figures, memory = infer(cwd, manifest, sync, 1.0)
        later = [resident_kb for done, resident_kb in memory.items() if done >= SETTLED]
        growth_mb = (max(later) - later[0]) / 1024
        is_flat = growth_mb <= MAX_GROWTH_MB
        reached = reached and is_flat
        print(
            f"{'sync' if sync else 'async'}, {count} inferences: {later[0] / 1024:.1f} MB after the first {SETTLED}, "
            f"{growth_mb:+.1f} MB later (target <= {MAX_GROWTH_MB:g}: {verdict(is_flat)})"
        )
    return reached


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    option = parser.add_argument
    option("--count", type=cli.integer(WARM_UP + 1), default=500, metavar="N", help="utterances per timed run")
    option(
        "--long_count", type=cli.integer(2 * SETTLED), default=10_000, metavar="N", help="utterances of a memory run"
    )
    args = parser.parse_args(argv)
    cwd: Path = args.work_dir.resolve()
    cwd.mkdir(parents=True, exist_ok=True)
    print(*conditions("numpy"), sep="\n")
    print(f"emulated NPU: {DEVICE_MS:g} ms per utterance of {SAMPLES} samples")
    print(f"{args.count} utterances, {RUNS} runs of each mode in turn, medians\n")
    compile_model(cwd)
    reached = [bench_time(cwd, args.count), bench_memory(cwd, args.long_count)]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    cli.run(main)
