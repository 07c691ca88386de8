#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the suite adds to the time of an NPU, measured on the emulated one.

The emulator computes nothing and takes 10 ms per utterance of 160,000 samples. A synchronous execution holds Python's
global lock meanwhile, as pyACL does; asynchronous ones queue. So what is measured is this suite's own host work, with
the emulator's own on top; nothing is said about a real device's speed.

    source test/emulator/set_env.sh && python test/bench/npu.py --work_dir=/tmp/bench_npu
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from chain import ROOT, memory_kb  # first: it puts the suite on the path

from wav2vec2_eval import cli
from wav2vec2_eval.timing import parse_figures

DEVICE_MS = 10.0
SAMPLES = 160_000
RUNS = 3


def make_model(cwd: Path) -> None:
    """Compile a model with the shapes of base-960h: (1, T) -> (1, F, 32)."""
    import onnx
    from onnx import TensorProto, helper

    (cwd / "models").mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Unsqueeze", ["input"], ["channel"], axes=[1]),
        helper.make_node("Conv", ["channel", "kernel"], ["features"], strides=[320]),
        helper.make_node("Transpose", ["features"], ["output"], perm=[0, 2, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "shapes",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, "data_len"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, "frames", 32])],
        [onnx.numpy_helper.from_array(np.zeros((32, 1, 400), np.float32), "kernel")],
    )
    model = helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", 11)])
    onnx.save(model, cwd / "models/wav2vec2-base-960h.onnx")
    subprocess.run(["bash", ROOT / "onnx2om.sh", "Ascend310P3"], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def make_manifest(cwd: Path, count: int) -> str:
    """`count` utterances of SAMPLES samples that share ten files; returns the manifest's path."""
    folder = cwd / f"pre{count}"
    folder.mkdir(exist_ok=True)
    lines = []
    for key in range(count):
        path = folder / f"{key % 10}.bin"
        if not path.exists():
            np.random.default_rng(key).standard_normal(SAMPLES).astype(np.float32).tofile(path)
        lines.append(f"{key} {path} (1,{SAMPLES})\n")
    (folder / "bin_file.info").write_text("".join(lines))
    return str(folder / "bin_file.info")


def infer(cwd: Path, manifest: str, sync: bool, device_ms: float) -> tuple[dict[str, float], dict[int, int]]:
    """Run pyacl_infer.py; its figures, and its resident memory (KiB) by the number of results there were."""
    command = [
        sys.executable,
        str(ROOT / "pyacl_infer.py"),
        "--model_path=./models/wav2vec2-base-960h.om",
        f"--input_info_file_path={manifest}",
        f"--infer_res_save_path=./res_{sync}",
        f"--sync_infer={sync}",
        "--workspace=10",
    ]
    shutil.rmtree(cwd / f"res_{sync}", ignore_errors=True)  # its journal tells how far this run is
    environment = {**os.environ, "ACL_EMULATOR_DEVICE_MS": str(device_ms)}
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL)
    journal = cwd / f"res_{sync}/results.tsv"
    memory: dict[int, int] = {}
    while process.poll() is None:
        time.sleep(0.05)
        done = sum(1 for _ in journal.open("rb")) if journal.exists() else 0
        if resident := memory_kb(process.pid, "VmRSS"):  # none once it has ended
            memory[done] = resident
    if process.returncode:
        sys.exit("pyacl_infer.py failed")
    return parse_figures((cwd / f"res_{sync}/infer_time.txt").read_text()), memory


def main() -> int:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("--work_dir", type=Path, required=True, help="where data and results are written, and kept")
    parser.add_argument("--count", type=int, default=500, help="utterances per timed run")
    parser.add_argument("--long_count", type=int, default=10_000, help="utterances of the memory run")
    args = parser.parse_args()
    cwd: Path = args.work_dir.resolve()
    cwd.mkdir(parents=True, exist_ok=True)
    make_model(cwd)
    print(f"{cli.cpu_name()}, {cli.default_threads()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, emulated NPU: {DEVICE_MS} ms per utterance of {SAMPLES} samples")
    print(f"{args.count} utterances, {RUNS} runs of each mode in turn, medians\n")

    manifest = make_manifest(cwd, args.count)
    wall_ms: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(RUNS):
        for sync in (True, False):
            figures, _memory = infer(cwd, manifest, sync, DEVICE_MS)
            wall_ms[sync].append(figures["average infer time(ms)"])
    medians = {sync: sorted(values)[RUNS // 2] for sync, values in wall_ms.items()}
    ratio, overhead = medians[False] / DEVICE_MS, medians[True] - DEVICE_MS
    print(f"async: {medians[False]:.3f} ms per utterance, {ratio:.4f} x device time (target <= 1.03: {ratio <= 1.03})")
    print(f"sync: {medians[True]:.3f} ms per utterance, {overhead:.3f} ms of host (target <= 1.5: {overhead <= 1.5})")

    reached = ratio <= 1.03 and overhead <= 1.5
    manifest = make_manifest(cwd, args.long_count)
    for sync in (True, False):
        _figures, memory = infer(cwd, manifest, sync, 1.0)
        later = [resident for done, resident in memory.items() if done >= 500]
        early = later[0]
        growth = (max(later) - early) / 1024
        reached = reached and growth <= 5
        print(
            f"{'sync' if sync else 'async'}, {args.long_count} inferences: {early / 1024:.1f} MB after the first 500, "
            f"{growth:+.1f} MB later  (target <= 5: {growth <= 5})"
        )
    return 0 if reached else 1


if __name__ == "__main__":
    cli.run(lambda _argv: main())
