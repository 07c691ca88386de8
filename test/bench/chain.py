#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether the suite keeps up with its device: speed and memory of every step around the model.

Makes a synthetic test-clean (2620 FLAC files with the lengths of the real ones, 5.4 h) and a base-size model with
random weights, runs the scripts on them as a user does, and prints what was measured beside what it must reach. Needs
about 4 GB of disk; peak memory is that of the largest single process (VmHWM), as Linux counts it.

    python test/bench/chain.py --work_dir=/tmp/bench
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from wav2vec2_eval import cli, results, timing  # noqa: E402
from wav2vec2_eval.audio import SAMPLE_RATE, frame_count  # noqa: E402
from wav2vec2_eval.manifest import read_manifest, read_utterances  # noqa: E402

LENGTHS = [int(line) for line in (Path(__file__).parent / "test_clean_lengths.txt").read_text().split()]
WORDS = ["THE", "QUICK", "BROWN", "FOX", "JUMPS", "OVER", "A", "LAZY", "DOG", "AND", "RUNS", "AWAY"]
SCRIPTS = ("preprocess.py", "export_onnx.py", "pyacl_infer.py", "postprocess.py", "pth_online_infer.py")


class Run(NamedTuple):
    seconds: float
    peak_mb: float  # of the largest process


def write_flac(path: Path, num_samples: int, seed: int) -> None:
    """Noise that falls off towards high frequencies as speech does, so that FLAC has as much to do."""
    white = np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32)
    soft = np.convolve(white, np.hanning(9).astype(np.float32) / 4, mode="same")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.05 * soft, SAMPLE_RATE, subtype="PCM_16")


def make_tree(root: Path) -> Path:
    """Write the synthetic data set once; returns its root."""
    if (root / "complete").exists():
        return root
    jobs = []
    for index, num_samples in enumerate(LENGTHS):
        speaker, utterance = divmod(index, 66)  # 40 speakers, as in test-clean
        folder = root / f"test-clean/{speaker}/0"
        jobs.append((folder / f"{speaker}-0-{utterance:04d}.flac", num_samples, index))
    with ProcessPoolExecutor(cli.default_threads()) as executor:
        list(executor.map(write_flac, *zip(*jobs), chunksize=16))
    texts: dict[Path, list[str]] = {}
    for path, num_samples, index in jobs:
        words = np.random.default_rng(index).choice(WORDS, size=max(1, num_samples // 6_000))
        texts.setdefault(path.parent, []).append(f"{path.stem} {' '.join(words)}\n")
    for folder, lines in texts.items():
        (folder / f"{folder.parent.name}-0.trans.txt").write_text("".join(lines), encoding="utf-8")
    (root / "complete").touch()
    return root


def make_model(folder: Path) -> Path:
    """A model folder of base-960h's size with random weights; returns it."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    from conftest import make_model as make_small

    if not (folder / "model.safetensors").exists():
        make_small(folder)  # for the small files
        Wav2Vec2ForCTC(Wav2Vec2Config()).save_pretrained(folder)
    return folder


def run(*command: object, cwd: Path) -> Run:
    """Run a command; its wall time, and the peak memory of the largest of its processes."""
    start = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], cwd=cwd, stdout=subprocess.DEVNULL)
    peak_kb = 0
    while process.poll() is None:
        peak_kb = max([peak_kb, *map(memory_kb, descendants(process.pid))])
        time.sleep(0.02)
    if process.returncode:
        sys.exit(f"failed: {command}")
    return Run(time.perf_counter() - start, peak_kb / 1024)


def descendants(pid: int) -> list[int]:
    """`pid` and all processes below it."""
    found = [pid]
    for task in found:
        try:
            found += map(int, Path(f"/proc/{task}/task/{task}/children").read_text().split())
        except OSError:
            continue
    return found


def memory_kb(pid: int, field: str = "VmHWM") -> int:
    """Memory of a process by Linux's account: peak (VmHWM) or resident now (VmRSS); 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(field)), 0)


def script(name: str, *options: object, cwd: Path) -> Run:
    return run(sys.executable, ROOT / name, *options, cwd=cwd)


def row(what: str, measured: str, target: str, reached: bool) -> None:
    print(f"{what:58s} {measured:>16s}   {target:16s} {'reached' if reached else 'NOT REACHED'}")


def bench_preprocess(data: tuple[str, ...], cwd: Path) -> None:
    hours_s = sum(LENGTHS) / SAMPLE_RATE
    options = (*data, "--num_workers=2")
    few = script("preprocess.py", "--pre_data_save_path=./few", *options, "--limit=500", cwd=cwd)
    runs = [script("preprocess.py", "--pre_data_save_path=./pre_data/clean", *options, cwd=cwd) for _ in range(3)]
    seconds = sorted(run.seconds for run in runs)
    peak_mb = max(run.peak_mb for run in runs)
    rate = hours_s / seconds[1]
    spread = ", ".join(f"{second:.1f}" for second in seconds)
    row(f"preprocess, 2 workers (runs: {spread} s)", f"{rate:.0f} x real time", ">= 400 x", rate >= 400)
    row("preprocess, peak memory of any process", f"{peak_mb:.0f} MB", "< 700 MB", peak_mb < 700)
    growth = peak_mb - few.peak_mb
    row("preprocess, memory from 500 to 2620 utterances", f"{growth:+.1f} MB", "flat (< 5 MB)", growth < 5)


def bench_postprocess(data: tuple[str, ...], cwd: Path) -> None:
    """Random logits stand for the model's: decoding and scoring do not care."""
    manifest = cwd / "pre_data/clean/bin_file.info"
    folder = cwd / "results"
    folder.mkdir(exist_ok=True)
    inputs, references = read_manifest(manifest), read_utterances(manifest.with_name("utterances.tsv"))
    results.begin(folder, "pyacl_infer.py", {}, inputs, references, resume=False)
    generator = np.random.default_rng(0)
    with results.Store(folder, "bin") as store:
        for key, (entry,) in inputs.items():
            logits = generator.standard_normal((1, frame_count(entry.shape[1]), 32), dtype=np.float32)
            store(key, [logits], timing.Latency(1, 1))
    done = script("postprocess.py", f"--bin_file_path={folder}", "--res_save_path=./t.txt", *data, cwd=cwd)
    row(f"postprocess of {len(LENGTHS)} results", f"{done.seconds:.1f} s", "< 30 s", done.seconds < 30)
    row("postprocess, peak memory", f"{done.peak_mb:.0f} MB", "-", True)


def bench_help(cwd: Path) -> None:
    for name in SCRIPTS:
        seconds = sorted(script(name, "--help", cwd=cwd).seconds for _ in range(5))[2]
        row(f"{name} --help (median of 5)", f"{seconds:.2f} s", "< 1 s", seconds < 1)


def bench_infer(model: Path, count: int, cwd: Path) -> None:
    """The first `count` utterances through the base-size model."""
    script("export_onnx.py", "--model_save_dir=./models", f"--model_name_or_path={model}", cwd=cwd)
    lines = (cwd / "pre_data/clean/bin_file.info").read_text().splitlines(keepends=True)[:count]
    part = cwd / "part"
    part.mkdir(exist_ok=True)
    (part / "bin_file.info").write_text("".join(lines))
    utterances = (cwd / "pre_data/clean/utterances.tsv").read_text().splitlines(keepends=True)[:count]
    (part / "utterances.tsv").write_text("".join(utterances))
    whole = script(
        "pyacl_infer.py",
        "--model_path=./models/wav2vec2-base-960h.onnx",
        "--input_info_file_path=./part/bin_file.info",
        "--infer_res_save_path=./part_results",
        cwd=cwd,
    )
    figures = timing.parse_figures((cwd / "part_results/infer_time.txt").read_text())
    pure, wall = figures["average pure infer time(ms)"], figures["average infer time(ms)"]
    share = 100 * (1 - pure / wall)
    audio_s = sum(item.num_samples for item in read_utterances(part / "utterances.tsv").values()) / SAMPLE_RATE
    row(f"pyacl_infer, own work per utterance ({count} utterances)", f"{share:.2f} %", "< 3 %", share < 3)
    start_s = whole.seconds - count * wall / 1000
    print(f"  {audio_s:.0f} s of audio, {pure:.0f} ms pure, {wall:.1f} ms wall each; start and end {start_s:.1f} s")
    # The real set amortises start and end over 2620 utterances.
    total = len(LENGTHS) * wall / 1000 + start_s
    share = 100 * (1 - len(LENGTHS) * pure / 1000 / total)
    row(f"pyacl_infer, start and end included, for {len(LENGTHS)}", f"{share:.2f} %", "< 3 %", share < 3)


def main() -> int:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("--work_dir", type=Path, required=True, help="where data and results are written, and kept")
    parser.add_argument("--count", type=int, default=40, help="utterances through the base-size model")
    args: argparse.Namespace = parser.parse_args()
    cwd: Path = args.work_dir
    cwd.mkdir(parents=True, exist_ok=True)

    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "soundfile", "onnxruntime", "jiwer"))
    print(f"{cli.cpu_name()}, {cli.default_threads()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, {packages}")
    print(f"synthetic test-clean: {len(LENGTHS)} utterances, {sum(LENGTHS) / SAMPLE_RATE / 3600:.2f} h\n")
    tree = make_tree(cwd / "LibriSpeech")
    model = make_model(cwd / "model")
    data = ("--which_dataset=clean", f"--dataset_path={tree}", f"--model_name_or_path={model}")
    bench_help(cwd)
    bench_preprocess(data, cwd)
    bench_postprocess(data, cwd)
    bench_infer(model, args.count, cwd)
    return 0


if __name__ == "__main__":
    cli.run(lambda _argv: main())
