#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether the suite keeps up with its device: speed and memory of every step around the model.

Makes a synthetic test-clean (2620 FLAC files with the lengths of the real ones, 5.4 h) and a base-size model with
random weights. Runs the scripts on them as a user does, and prints each figure beside its target. Then the same for
--count utterances of one frame each and a model of one convolution: what each utterance costs, whatever its length.
(LibriSpeech's training set has 281,241 utterances.) Needs about 4 GB of disk, and 5 KB for each of the --count
utterances. Peak memory is that of the largest single process (VmHWM), as Linux counts it.

    python test/bench/chain.py --work_dir=/tmp/bench
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import soundfile
from common import LENGTHS, conditions, hours, make_model, memory_kb, new_parser, script_command, verdict
from onnx import helper

from wav2vec2_eval import MODEL_NAME, cli
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import results
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.manifest import open_manifest
from wav2vec2_eval.files.model_record import read_record
from wav2vec2_eval.files.names import (
    INFER_TIME_NAME,
    INPUT,
    JOURNAL_NAME,
    MANIFEST_NAME,
    OUTPUT,
    UTTERANCES_NAME,
    model_name,
)
from wav2vec2_eval.files.run import Run
from wav2vec2_eval.machine.cpu import default_threads
from wav2vec2_eval.speech.audio import RECEPTIVE_FIELD, SAMPLE_RATE, SAMPLES_PER_FRAME, frame_count
from wav2vec2_eval.speech.latency import Latency, parse_figures

WORDS = ["THE", "QUICK", "BROWN", "FOX", "JUMPS", "OVER", "A", "LAZY", "DOG", "AND", "RUNS", "AWAY"]
SCRIPTS = ("preprocess.py", "export_onnx.py", "pyacl_infer.py", "postprocess.py", "pth_online_infer.py")
NUM_SYMBOLS = 32
FRAME = 0.1 * np.random.default_rng(0).standard_normal(RECEPTIVE_FIELD)  # the shortest utterance


class Measured(NamedTuple):
    """One run of a script."""

    seconds: float
    peak_mb: float  # of the largest of its processes


def write_flac(path: Path, num_samples: int, seed: int) -> None:
    """Write noise that falls off towards high frequencies as speech does, so that FLAC has as much work."""
    white = np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32)
    soft = np.convolve(white, np.hanning(9).astype(np.float32) / 4, mode="same")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.05 * soft, SAMPLE_RATE, subtype="PCM_16")


def make_tree(root: Path) -> Path:
    """Write the synthetic data set, unless it exists; returns `root`."""
    if (root / "complete").exists():
        return root
    jobs = []
    for index, num_samples in enumerate(LENGTHS):
        speaker, utterance = divmod(index, 66)  # 40 speakers, as in test-clean
        folder = root / f"test-clean/{speaker}/0"
        jobs.append((folder / f"{speaker}-0-{utterance:04d}.flac", num_samples, index))
    with ProcessPoolExecutor(default_threads()) as executor:
        list(executor.map(write_flac, *zip(*jobs), chunksize=16))
    texts: dict[Path, list[str]] = {}
    for path, num_samples, index in jobs:
        words = np.random.default_rng(index).choice(WORDS, size=max(1, num_samples // 6_000))
        texts.setdefault(path.parent, []).append(f"{path.stem} {' '.join(words)}\n")
    for folder, lines in texts.items():
        (folder / f"{folder.parent.name}-0.trans.txt").write_text("".join(lines), encoding="utf-8")
    (root / "complete").touch()
    return root


def measure(name: str, *options: object, cwd: Path, until: Callable[[], bool] | None = None) -> Measured:
    """Run a script of the suite, or end it as soon as `until` is true. Raises SuiteError if the script fails."""
    start = time.perf_counter()
    process = subprocess.Popen(script_command(name, *options), cwd=cwd, stdout=subprocess.DEVNULL)
    peak_kb = 0
    while process.poll() is None:
        peak_kb = max([peak_kb, *map(memory_kb, descendants(process.pid))])
        if until is not None and until():
            seconds = time.perf_counter() - start
            process.terminate()
            process.wait()
            return Measured(seconds, peak_kb / 1024)
        time.sleep(0.02)
    if process.returncode:
        raise SuiteError(f"{name}: ended with status {process.returncode}")
    return Measured(time.perf_counter() - start, peak_kb / 1024)


def descendants(pid: int) -> list[int]:
    """The process `pid` and all processes below it."""
    found = [pid]
    for task in found:
        try:
            found += map(int, Path(f"/proc/{task}/task/{task}/children").read_text().split())
        except OSError:
            continue
    return found


def print_row(what: str, measured: str, target: str = "", reached: bool | None = None) -> None:
    """Print a figure beside its target, if it has one."""
    print(f"{what:58s} {measured:>16s}   {target:16s} {'' if reached is None else verdict(reached)}".rstrip())


def bench_preprocess(data: tuple[str, ...], cwd: Path) -> None:
    """Speed of preprocess.py, and whether its memory grows with the number of utterances."""
    options = (*data, "--num_workers=2")
    few = measure("preprocess.py", "--pre_data_save_path=./few", *options, "--limit=500", cwd=cwd)
    runs = [measure("preprocess.py", "--pre_data_save_path=./pre_data/clean", *options, cwd=cwd) for _ in range(3)]
    seconds = sorted(run.seconds for run in runs)
    peak_mb = max(run.peak_mb for run in runs)
    rate = 3600 * hours(LENGTHS) / seconds[1]
    spread = ", ".join(f"{second:.1f}" for second in seconds)
    print_row(f"preprocess, 2 workers (runs: {spread} s)", f"{rate:.0f} x real time", ">= 400 x", rate >= 400)
    print_row("preprocess, peak memory of any process", f"{peak_mb:.0f} MB", "< 700 MB", peak_mb < 700)
    growth_mb = peak_mb - few.peak_mb
    what = f"preprocess, memory from 500 to {len(LENGTHS)} utterances"
    print_row(what, f"{growth_mb:+.1f} MB", "flat (< 5 MB)", growth_mb < 5)


def bench_postprocess(data: tuple[str, ...], cwd: Path) -> None:
    """Speed of postprocess.py on random logits, which take as long to decode and to score as a model's."""
    folder = cwd / "results"
    generator = np.random.default_rng(0)
    with (
        open_manifest(cwd / "pre_data/clean" / MANIFEST_NAME) as inputs,
        output_folder(folder, "pyacl_infer.py") as out,
    ):
        record = read_record(inputs.source)
        results.begin(out, Run("pyacl_infer.py"), inputs, inputs.references(), record, resume=False)
        with results.Store(out, "bin") as store:
            for key, (entry,) in inputs.rows():
                logits = generator.standard_normal((1, frame_count(entry.shape[1]), NUM_SYMBOLS), dtype=np.float32)
                store(key, [logits], Latency(1, 1))
        out.write_text(INFER_TIME_NAME, "")
    done = measure("postprocess.py", f"--bin_file_path={folder}", "--res_save_path=./scores/t.txt", *data, cwd=cwd)
    print_row(f"postprocess of {len(LENGTHS)} results", f"{done.seconds:.1f} s", "< 30 s", done.seconds < 30)
    print_row("postprocess, peak memory", f"{done.peak_mb:.0f} MB")


def bench_help(cwd: Path) -> None:
    """How long a user waits for --help."""
    for name in SCRIPTS:
        seconds = sorted(measure(name, "--help", cwd=cwd).seconds for _ in range(5))[2]
        print_row(f"{name} --help (median of 5)", f"{seconds:.2f} s", "< 1 s", seconds < 1)


def bench_infer(model: Path, count: int, cwd: Path) -> None:
    """What pyacl_infer.py adds to the model's own time, on the first `count` utterances."""
    measure("export_onnx.py", "--model_save_dir=./models", f"--model_name_or_path={model}", cwd=cwd)
    part = cwd / "part"
    part.mkdir(exist_ok=True)
    for name in (MANIFEST_NAME, UTTERANCES_NAME):
        lines = (cwd / "pre_data/clean" / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (part / name).write_text("".join(lines[:count]), encoding="utf-8")
    whole = measure(
        "pyacl_infer.py",
        f"--model_path=./models/{model_name(MODEL_NAME)}",
        f"--input_info_file_path=./part/{MANIFEST_NAME}",
        "--infer_res_save_path=./part_results",
        cwd=cwd,
    )
    figures = parse_figures((cwd / "part_results" / INFER_TIME_NAME).read_text(encoding="utf-8"))
    pure_ms, wall_ms = figures["average pure infer time(ms)"], figures["average infer time(ms)"]
    share = 100 * (1 - pure_ms / wall_ms)
    print_row(f"pyacl_infer, time outside the model ({count} utterances)", f"{share:.2f} %", "< 3 %", share < 3)
    start_s = whole.seconds - count * wall_ms / 1000
    print(
        f"  {figures['total audio(s)']:.0f} s of audio; per utterance {pure_ms:.0f} ms pure, {wall_ms:.1f} ms wall; "
        f"start and end of the script {start_s:.1f} s"
    )
    # A run of the whole test-clean spreads the start and the end over all its utterances.
    total_s = len(LENGTHS) * wall_ms / 1000 + start_s
    share = 100 * (1 - len(LENGTHS) * pure_ms / 1000 / total_s)
    what = f"the same with start and end, for {len(LENGTHS)} utterances"
    print_row(what, f"{share:.2f} %", "< 3 %", share < 3)


def make_many(root: Path, count: int) -> Path:
    """Write a tree of `count` utterances of one frame each, unless it exists; returns `root`."""
    if (root / "complete").exists():
        return root
    for first in range(0, count, 50):
        speaker, chapter = divmod(first // 50, 100)
        folder = root / f"test-clean/{speaker}/{chapter}"
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"{speaker}-{chapter}-{number - first:04d}" for number in range(first, min(first + 50, count))]
        for name in names:
            soundfile.write(folder / f"{name}.flac", FRAME, SAMPLE_RATE, subtype="PCM_16")
        text = "".join(f"{name} {' '.join(WORDS)}\n" for name in names)
        (folder / f"{speaker}-{chapter}.trans.txt").write_text(text, encoding="utf-8")
    (root / "complete").touch()
    return root


def make_small_model(path: Path) -> None:
    """Write a model of one convolution with the frames of wav2vec 2.0: (B, T) -> (B, F, NUM_SYMBOLS)."""
    nodes = [
        helper.make_node("Unsqueeze", [INPUT], ["channel"], axes=[1]),
        helper.make_node("Conv", ["channel", "kernel"], ["features"], strides=[SAMPLES_PER_FRAME]),
        helper.make_node("Transpose", ["features"], [OUTPUT], perm=[0, 2, 1]),
    ]
    kernel = np.random.default_rng(0).standard_normal((NUM_SYMBOLS, 1, RECEPTIVE_FIELD)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["batch_size", "data_len"])],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["batch_size", "frames", NUM_SYMBOLS])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    onnx.save(helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", 11)]), path)


def bench_many(model: Path, count: int, cwd: Path) -> None:
    """Memory and time of each step for many small utterances."""
    print(f"\n{count} utterances of one frame each")
    tree = make_many(cwd / "LibriSpeech", count)
    make_small_model(cwd / "small.onnx")
    data = ("--which_dataset=clean", f"--dataset_path={tree}", f"--model_name_or_path={model}", "--gears=none")
    small = measure("preprocess.py", "--pre_data_save_path=./few", *data, "--limit=500", cwd=cwd)
    done = measure("preprocess.py", "--pre_data_save_path=./pre", *data, cwd=cwd)
    each = (done.peak_mb - small.peak_mb) * 2**20 / count
    print_row(
        f"preprocess: {done.seconds:.0f} s, {done.peak_mb:.0f} MB; each utterance",
        f"{each:.0f} bytes",
        "<= 200",
        each <= 200,
    )
    first = measure(
        "pyacl_infer.py",
        "--model_path=./small.onnx",
        f"--input_info_file_path=./pre/{MANIFEST_NAME}",
        "--infer_res_save_path=./res",
        cwd=cwd,
        until=lambda: _has_content(cwd / "res" / JOURNAL_NAME),
    )
    print_row("pyacl_infer, to its first result", f"{first.seconds:.1f} s", "<= 6 s", first.seconds <= 6)
    print_row("pyacl_infer, peak memory until then", f"{first.peak_mb:.0f} MB", "<= 250 MB", first.peak_mb <= 250)
    options = (f"--input_info_file_path=./pre/{MANIFEST_NAME}", "--infer_res_save_path=./res", "--resume")
    done = measure("pyacl_infer.py", "--model_path=./small.onnx", *options, cwd=cwd)
    print_row("pyacl_infer, whole", f"{done.seconds:.0f} s, {done.peak_mb:.0f} MB")
    done = measure("postprocess.py", "--bin_file_path=./res", "--res_save_path=./scores/t.txt", cwd=cwd)
    print_row(
        f"postprocess: {done.seconds:.0f} s, peak memory", f"{done.peak_mb:.0f} MB", "<= 250 MB", done.peak_mb <= 250
    )


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--inferred", type=cli.integer(1), default=40, metavar="N", help="utterances through the model")
    parser.add_argument("--count", type=cli.integer(1), default=30_000, metavar="N", help="utterances of one frame")
    args = parser.parse_args(argv)
    cwd: Path = args.work_dir.resolve()
    cwd.mkdir(parents=True, exist_ok=True)

    print(*conditions("numpy", "soundfile", "onnxruntime", "jiwer"), sep="\n")
    print(f"synthetic test-clean: {len(LENGTHS)} utterances, {hours(LENGTHS):.2f} h\n")
    tree = make_tree(cwd / "LibriSpeech")
    model = make_model(cwd / "model")
    data = ("--which_dataset=clean", f"--dataset_path={tree}", f"--model_name_or_path={model}")
    bench_help(cwd)
    bench_preprocess(data, cwd)
    bench_postprocess(data, cwd)
    bench_infer(model, args.inferred, cwd)
    bench_many(model, args.count, cwd / f"many{args.count}")
    return 0


if __name__ == "__main__":
    cli.run(main)
