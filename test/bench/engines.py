#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the suite is on this CPU, beside every engine that one would pick instead.

Each engine has a process of its own, all threads, and a base-size model with random weights. In every round all take
the same utterances in turn: noise, of lengths of LibriSpeech test-clean that no round before had. Below float32 the
suite runs its padding-exact model on gears, which answers as on unpadded utterances and meets fewer lengths. WER is
that of the demo's model and corpus in the same engine; half of the corpus calibrates int8. Prints a table; writes
engines.json and engines.png.

    python test/bench/engines.py --work_dir=/tmp/bench
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from chain import LENGTHS, ROOT, make_model, memory_kb  # first: it puts the suite on the path

from wav2vec2_eval import audio, cli, ctc, model_folder, results, scoring, timing

PYTORCH = "PyTorch float32"
PLAIN_BF16 = "OpenVINO bfloat16, default settings"
# Figure -> (engine, peer, ratio of their speeds to reach).
TARGETS = (
    ("suite int8", PYTORCH, 3.7),
    ("suite int8", PLAIN_BF16, 1.45),
    ("suite bfloat16", PYTORCH, 2.8),
    ("suite bfloat16", PLAIN_BF16, 1.15),
    ("suite float32", PYTORCH, 1.25),
)
FIRST_SAMPLES = 80_000  # of the utterance whose result tells how long the start takes
WARM_UP = 60  # utterances: as many gears as there are in a few minutes of a real run
DEMO = ROOT / "test/demo"

Waveforms = Sequence[np.ndarray]  # (T,) normalised
Infer = Callable[[Waveforms], Iterator[tuple[Any, float]]]  # logits (F, V) or a text, and a latency in ms, of each


class Models(NamedTuple):
    """The same weights in every form that an engine takes."""

    folder: Path
    plain: Path
    masked: Path
    int8: Path


def make_models(folder: Path, work: Path) -> Models:
    """Export the model, once; without the proof, which test_*.py and export_onnx.py itself are for."""
    models = Models(folder, work / "plain.onnx", work / "masked.onnx", work / "masked-int8.onnx")
    if models.int8.exists():
        return models
    import export_onnx
    from wav2vec2_eval import quantize
    from wav2vec2_eval.pytorch import load_model

    work.mkdir(parents=True, exist_ok=True)
    model = load_model(str(folder), attention="eager")
    export_onnx.fold_weight_norm(model)
    for path, masked in ((models.plain, False), (models.masked, True)):
        names = ["input", "attention_mask"] if masked else ["input"]
        export_onnx.trace(export_onnx.wrap(model, masked), names, path)
        export_onnx.remove_no_ops(path)
    del model
    waveforms = demo_waveforms()[::2] if folder == DEMO / "model" else noise(lengths_of(0, 16))
    quantize.quantize(models.masked, models.int8, [masked_inputs(waveform) for waveform in waveforms])
    return models


def masked_inputs(waveform: np.ndarray) -> list[np.ndarray]:
    """A waveform and its mask, padded to the gear."""
    gear = audio.padded_length(len(waveform), audio.GEARS)
    return [audio.pad(waveform, gear)[None], audio.pad(np.ones_like(waveform), gear)[None]]


def lengths_of(round_number: int, count: int) -> list[int]:
    """Lengths of test-clean in samples, other ones for every round; round 0 is the warm-up, of WARM_UP utterances."""
    different = list(dict.fromkeys(random.Random(0).sample(LENGTHS, len(LENGTHS))))
    start = WARM_UP + (round_number - 1) * count if round_number else 0
    if start + count > len(different):
        sys.exit(f"expected at most {len(different) - WARM_UP} utterances in all rounds: there are no more lengths")
    return different[start : start + count]


def noise(lengths: Sequence[int]) -> Waveforms:
    return [np.random.default_rng(length).standard_normal(length, dtype=np.float32) for length in lengths]


def demo_waveforms() -> Waveforms:
    from wav2vec2_eval import librispeech

    dataset = librispeech.open_dataset("clean", str(DEMO / "LibriSpeech"))
    extractor = model_folder.feature_extractor(str(DEMO / "model"))
    return [librispeech.model_input(dataset, index, extractor).samples[0] for index in range(len(dataset.ids))]


# The engines: models, threads -> a function that infers waveforms. Each imports what it needs, since each is a process.


def open_pytorch(dtype: str) -> Callable[[Models, int], Infer]:
    def open_model(models: Models, threads: int) -> Infer:
        import torch

        from wav2vec2_eval.pytorch import load_model

        torch.set_num_threads(threads)
        model = load_model(str(models.folder), dtype=getattr(torch, dtype))

        def infer(waveform: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return model(torch.from_numpy(waveform[None]).to(model.dtype)).logits[0].float().numpy()

        return one_at_a_time(infer)

    return open_model


def open_pipeline(models: Models, threads: int) -> Infer:
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    recognize = pipeline("automatic-speech-recognition", model=str(models.folder), device="cpu")
    # The waveform is normalised already, and the pipeline does it again.
    return one_at_a_time(lambda waveform: recognize({"raw": waveform, "sampling_rate": audio.SAMPLE_RATE})["text"])


def open_onnxruntime(models: Models, threads: int) -> Infer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(models.plain, options, providers=["CPUExecutionProvider"])
    return one_at_a_time(lambda waveform: session.run(None, {"input": waveform[None]})[0][0])


def open_openvino(precision: str) -> Callable[[Models, int], Infer]:
    def open_model(models: Models, threads: int) -> Infer:
        import openvino

        properties = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(models.plain, "CPU", properties)
        return one_at_a_time(lambda waveform: compiled([waveform[None]])[0][0].copy())

    return open_model


def open_suite(precision: str) -> Callable[[Models, int], Infer]:
    def open_model(models: Models, threads: int) -> Infer:
        from wav2vec2_eval.engines import open_engine

        path = {"f32": models.plain, "bf16": models.masked, "int8": models.int8}[precision]
        engine = open_engine(path, num_threads=threads, precision=precision)
        to_inputs = masked_inputs if len(engine.inputs) == 2 else lambda waveform: [waveform[None]]

        def infer(waveforms: Waveforms) -> Iterator[tuple[np.ndarray, float]]:
            for result in engine.stream(map(to_inputs, waveforms)):
                yield result.outputs[0][0], result.own_ms or result.pure_ns / 1e6

        return infer

    return open_model


def one_at_a_time(infer_one: Callable[[np.ndarray], Any]) -> Infer:
    def infer(waveforms: Waveforms) -> Iterator[tuple[Any, float]]:
        for waveform in waveforms:
            start = time.perf_counter()
            output = infer_one(waveform)
            yield output, 1000 * (time.perf_counter() - start)

    return infer


ENGINES: dict[str, Callable[[Models, int], Infer]] = {
    PYTORCH: open_pytorch("float32"),
    "PyTorch bfloat16": open_pytorch("bfloat16"),
    "transformers pipeline float32": open_pipeline,
    "onnxruntime float32": open_onnxruntime,
    "OpenVINO float32, default settings": open_openvino("f32"),
    PLAIN_BF16: open_openvino("bf16"),
    "suite float32": open_suite("f32"),
    "suite bfloat16": open_suite("bf16"),
    "suite int8": open_suite("int8"),
}


# Processes


def serve(name: str, work: Path, threads: int) -> None:
    """What a worker does: answers each line of JSON on stdin by one on stdout."""
    models = make_models(work / "model", work / "models")
    infer = ENGINES[name](models, threads)
    list(infer([np.ones(FIRST_SAMPLES, np.float32)]))
    answer({"ready": True})
    for line in sys.stdin:
        waveforms = noise(json.loads(line))
        start = time.perf_counter()
        latencies = [latency for _, latency in infer(waveforms)]
        seconds = time.perf_counter() - start
        answer({"seconds": seconds, "latencies": latencies, "peak_mb": memory_kb(os.getpid()) / 1024})


def answer(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


def score(name: str, work: Path, threads: int) -> None:
    """The WER of the demo's model and corpus in one engine."""
    digest = results.file_digest(DEMO / "model/model.safetensors")[:8]  # an older demo's exports stay apart
    models = make_models(DEMO / "model", work / f"demo_models_{digest}")
    from wav2vec2_eval import librispeech

    symbols = model_folder.symbols(str(DEMO / "model"))
    outputs = [output for output, _ in ENGINES[name](models, threads)(demo_waveforms())]
    texts = [each if isinstance(each, str) else ctc.greedy_decode(each, symbols) for each in outputs]
    references = librispeech.open_dataset("clean", str(DEMO / "LibriSpeech")).texts
    answer({"wer": scoring.corpus_errors(references, texts).wer, "texts": texts})


class Worker:
    """An engine in a process of its own."""

    def __init__(self, name: str, work: Path, threads: int) -> None:
        self.name = name
        command = [sys.executable, __file__, f"--work_dir={work}", f"--threads={threads}", f"--serve={name}"]
        start = time.perf_counter()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()
        self.first_s = time.perf_counter() - start  # until the first result

    def run(self, lengths: Sequence[int]) -> dict[str, Any]:
        """Infer utterances of these lengths: seconds, latencies in ms, peak memory so far in MB."""
        self._process.stdin.write(json.dumps(list(lengths)) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"failed: {self.name}")


def time_start(name: str, work: Path, threads: int) -> float:
    """Seconds from the start of a process to its first result, with files in memory, before others need that memory."""
    times_s = []
    for _ in range(4):  # the first makes what an engine keeps on disk
        worker = Worker(name, work, threads)
        worker.close()
        times_s.append(worker.first_s)
    return median(times_s[1:])


def conditions(threads: int) -> list[str]:
    names = ("torch", "transformers", "onnxruntime", "openvino", "nncf")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    known = sorted({"avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"} & cli.cpu_features())
    return [
        f"{cli.cpu_name()} ({' '.join(known)}), {threads} threads, load {os.getloadavg()[0]:.1f} at the start",
        f"Python {platform.python_version()}, {packages}",
    ]


def measure(workers: Sequence[Worker], rounds: int, count: int) -> dict[str, dict[str, Any]]:
    """All engines in turn on the same utterances, round by round."""
    found: dict[str, dict[str, Any]] = {worker.name: {"seconds": [], "latencies": []} for worker in workers}
    audio_s = []
    for number in range(rounds + 1):
        lengths = lengths_of(number, count if number else WARM_UP)
        for worker in workers if number % 2 else reversed(workers):
            done = worker.run(lengths)
            figures = found[worker.name]
            figures["peak memory (MB)"] = done["peak_mb"]
            if number:
                figures["seconds"].append(done["seconds"])
                figures["latencies"] += done["latencies"]
        if number:
            audio_s.append(sum(lengths) / audio.SAMPLE_RATE)
    for figures in found.values():
        figures["RTFx of each round"] = [length / taken for length, taken in zip(audio_s, figures.pop("seconds"))]
        figures["RTFx"] = median(figures["RTFx of each round"])
        latencies = figures.pop("latencies")
        figures["p50 (ms)"], figures["p99 (ms)"] = (timing.percentile(latencies, percent) for percent in (50, 99))
    return found


def ratio(found: dict[str, dict[str, Any]], name: str, peer: str) -> float:
    """How many times as fast `name` is: the median over the rounds, in each of which both had the same work."""
    rounds = zip(found[name]["RTFx of each round"], found[peer]["RTFx of each round"])
    return median(ours / theirs for ours, theirs in rounds)


def table(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    names = ("RTFx", "p50 (ms)", "p99 (ms)", "first result (s)", "peak memory (MB)")
    yield f"| engine | {' | '.join(names)} | WER, demo | x PyTorch | x OpenVINO bf16 |"
    yield "| --- |" + " ---: |" * (len(names) + 3)
    for name, figures in found.items():
        values = [f"{figures[key]:.0f}" if key[0] == "p" else f"{figures[key]:.1f}" for key in names]
        values.append(f"{100 * figures['WER, demo']:.2f} %")
        values += [f"{ratio(found, name, peer):.2f}" for peer in (PYTORCH, PLAIN_BF16)]
        yield f"| {name} | {' | '.join(values)} |"


def draw(found: dict[str, dict[str, Any]], title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = sorted(found, key=lambda name: found[name]["RTFx"])
    values = [found[name]["RTFx"] for name in names]
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    colours = ["tab:blue" if name.startswith("suite") else "0.7" for name in names]
    axes.bar_label(axes.barh(names, values, color=colours), fmt="%.1f", padding=3)
    axes.set(xlabel="RTFx: seconds of speech per second, median of the rounds", xlim=(0, 1.1 * max(values)))
    figure.suptitle(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    option = parser.add_argument
    option("--work_dir", type=Path, required=True, help="where models and results are written, and kept")
    option("--count", type=cli.integer(2), default=20, metavar="N", help="utterances a round")
    option("--rounds", type=cli.integer(1), default=7, metavar="N")
    option("--threads", type=cli.integer(1), default=cli.default_threads(), metavar="N")
    option("--serve", choices=ENGINES, help=argparse.SUPPRESS)
    option("--score", choices=ENGINES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    if args.serve or args.score:
        (serve if args.serve else score)(args.serve or args.score, args.work_dir, args.threads)
        return 0
    lengths_of(args.rounds, args.count)  # whether there are so many
    work: Path = args.work_dir
    header = conditions(args.threads)
    print(*header, sep="\n")
    make_models(make_model(work / "model"), work / "models")
    starts_s = {name: time_start(name, work, args.threads) for name in ENGINES}
    workers = [Worker(name, work, args.threads) for name in ENGINES]
    found = measure(workers, args.rounds, args.count)
    for worker in workers:
        worker.close()
    for name, figures in found.items():
        command = [sys.executable, __file__, f"--work_dir={work}", f"--threads={args.threads}", f"--score={name}"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        answer_of = json.loads(output.splitlines()[-1])
        figures["WER, demo"], figures["transcripts"] = answer_of["wer"], answer_of["texts"]
        figures["first result (s)"] = starts_s[name]

    header.append(f"{args.rounds} rounds of {args.count} utterances with lengths of test-clean, base-size model")
    print(header[-1], *table(found), sep="\n")
    same = found["suite float32"]["transcripts"] == found[PYTORCH]["transcripts"]
    print(f"\ndemo transcripts of suite float32 and PyTorch float32: {'equal' if same else 'DIFFERENT'}")
    for name, peer, wanted in TARGETS:
        reached = ratio(found, name, peer)
        print(f"{name} / {peer}: {reached:.2f}, to reach {wanted}: {'reached' if reached >= wanted else 'NOT REACHED'}")
    (work / "engines.json").write_text(json.dumps({"conditions": header, "engines": found}, indent=2) + "\n")
    draw(found, header[0] + "\n" + header[-1], work / "engines.png")
    print(f"written: {work / 'engines.json'}, {work / 'engines.png'}")
    return 0


if __name__ == "__main__":
    cli.run(lambda _argv: main())
