#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the suite is on this CPU, compared with every engine that a user might choose instead.

Each engine runs in its own process, on all threads, with the same base-size model of random weights. In every round all
engines in turn infer the same utterances: noise with lengths of LibriSpeech test-clean that no earlier round had. In
bfloat16 and int8 the suite runs its masked model on gears: the answers are those of unpadded utterances, and the model
sees fewer lengths. The WER is that of the demo's model and corpus in the same engine; half of the corpus calibrates the
int8 model. Prints a table; writes engines.json and engines.png.

    python test/bench/engines.py --work_dir=/tmp/bench
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from common import DEMO, DEMO_MODEL, LENGTHS, conditions, make_model, memory_kb, new_figure, new_parser, verdict

from wav2vec2_eval import cli
from wav2vec2_eval.engines.base import Engine
from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.engines.precision import PRECISIONS
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.export.new_model import new_model
from wav2vec2_eval.files.atomic import file_digest
from wav2vec2_eval.files.names import INPUT
from wav2vec2_eval.machine.cpu import default_threads
from wav2vec2_eval.sources import model_folder
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.model_input import Preparation, model_inputs
from wav2vec2_eval.speech.audio import SAMPLE_RATE
from wav2vec2_eval.speech.ctc import greedy_decode
from wav2vec2_eval.speech.latency import percentile
from wav2vec2_eval.speech.padding import GEARS, masked_input, padded_length
from wav2vec2_eval.speech.wer import total, word_errors

PYTORCH = "PyTorch float32"
PLAIN_BF16 = "OpenVINO bfloat16, default settings"
PACKAGES = ("torch", "transformers", "onnxruntime", "openvino", "nncf")
FIRST_SAMPLES = 80_000  # length of the utterance that ends the measurement of a start
WARM_UP = 60  # utterances; they have as many gears as a few minutes of a real run


class Target(NamedTuple):
    """How many times as fast as its peer an engine must be."""

    engine: str
    peer: str
    ratio: float


TARGETS = (
    Target("suite int8", PYTORCH, 3.7),
    Target("suite int8", PLAIN_BF16, 1.45),
    Target("suite bfloat16", PYTORCH, 2.8),
    Target("suite bfloat16", PLAIN_BF16, 1.15),
    Target("suite float32", PYTORCH, 1.25),
)


class Models(NamedTuple):
    """The same weights in every form that an engine reads."""

    folder: Path
    plain: Path
    masked: Path
    int8: Path


class Recognised(NamedTuple):
    """One utterance through an engine."""

    output: np.ndarray | str  # (F, V) logits, or the text
    latency_ms: float


Waveforms = Sequence[np.ndarray]  # (T,) normalised
Infer = Callable[[Waveforms], Iterator[Recognised]]
Open = Callable[[Models, int], Infer]  # models, threads -> how to infer


def make_models(folder: Path, work: Path) -> Models:
    """Export the model, unless that is done. Without the proof: the tests and export_onnx.py are responsible for it."""
    models = Models(folder, work / "plain.onnx", work / "masked.onnx", work / "masked-int8.onnx")
    if models.int8.exists():  # written last
        return models
    from wav2vec2_eval.export import graph, int8
    from wav2vec2_eval.sources.pytorch_model import load_model

    work.mkdir(parents=True, exist_ok=True)
    model = load_model(str(folder), attention="eager")
    graph.fold_weight_norm(model)
    graph.write_graph(model, models.plain, attention_mask=False)
    graph.write_graph(model, models.masked, attention_mask=True)
    del model
    waveforms = demo_waveforms()[::2] if folder == DEMO_MODEL else noise(lengths_of(0, 16))
    with new_model(models.int8) as new:
        int8.quantize(models.masked, new, [gear_input(waveform) for waveform in waveforms])
    return models


def gear_input(waveform: np.ndarray) -> list[np.ndarray]:
    """The inputs of the masked model, padded to the gear of the waveform."""
    return masked_input(waveform, padded_length(len(waveform), GEARS))


def lengths_of(round_number: int, count: int) -> list[int]:
    """`count` lengths of test-clean in samples, different in every round.

    Round 0 is the warm-up, of WARM_UP utterances. Raises SuiteError if test-clean has too few different lengths.
    """
    different = list(dict.fromkeys(random.Random(0).sample(LENGTHS, len(LENGTHS))))
    start = WARM_UP + (round_number - 1) * count if round_number else 0
    if start + count > len(different):
        raise SuiteError(
            f"expected at most {len(different) - WARM_UP} utterances in all rounds, because test-clean has no more "
            f"different lengths; see --rounds and --count"
        )
    return different[start : start + count]


def noise(lengths: Sequence[int]) -> list[np.ndarray]:
    """An utterance of noise for each length in samples, always the same."""
    return [np.random.default_rng(length).standard_normal(length, dtype=np.float32) for length in lengths]


def demo_waveforms() -> list[np.ndarray]:
    """The demo's corpus, normalised and unpadded."""
    dataset = open_dataset("clean", str(DEMO / "LibriSpeech"))
    extractor = model_folder.feature_extractor(str(DEMO_MODEL))
    how = Preparation(extractor)
    return [item.samples[0] for index in range(len(dataset)) for item in model_inputs(dataset, index, how)]


# The engines. Each imports its own packages, because it runs in its own process; the end of the process closes it.


def open_pytorch(precision: str) -> Open:
    def open_model(models: Models, threads: int) -> Infer:
        import torch

        from wav2vec2_eval.engines.pytorch import PytorchEngine, open_device
        from wav2vec2_eval.sources.pytorch_model import load_model

        model = load_model(str(models.folder), dtype=getattr(torch, PRECISIONS[precision]))
        return through(PytorchEngine(model, open_device("cpu"), precision, threads))

    return open_model


def open_pipeline(models: Models, threads: int) -> Infer:
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    recognise = pipeline("automatic-speech-recognition", model=str(models.folder), device="cpu")

    def infer_one(waveform: np.ndarray) -> str:
        answer = recognise({"raw": waveform, "sampling_rate": SAMPLE_RATE})  # normalises the waveform a second time
        text: str = answer["text"]  # type: ignore[call-overload]  # declared as a list, which is for several inputs
        return text

    return one_at_a_time(infer_one)


def open_onnxruntime(models: Models, threads: int) -> Infer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(models.plain, options, providers=["CPUExecutionProvider"])
    return one_at_a_time(lambda waveform: session.run(None, {INPUT: waveform[None]})[0][0])


def open_openvino(precision: str) -> Open:
    def open_model(models: Models, threads: int) -> Infer:
        import openvino

        properties = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(models.plain, "CPU", properties)
        return one_at_a_time(lambda waveform: compiled([waveform[None]])[0][0].copy())

    return open_model


def open_suite(precision: str) -> Open:
    def open_model(models: Models, threads: int) -> Infer:
        path = {"f32": models.plain, "bf16": models.masked, "int8": models.int8}[precision]
        return through(open_engine(path, num_threads=threads, precision=precision))

    return open_model


def through(engine: Engine) -> Infer:
    """Infer through an engine of the suite."""
    is_masked = len(engine.inputs) == 2

    def infer(waveforms: Waveforms) -> Iterator[Recognised]:
        utterances = (gear_input(waveform) if is_masked else [waveform[None]] for waveform in waveforms)
        for result in engine.stream(utterances):
            elapsed_ms = result.pure_ns / 1e6 if result.elapsed_ms is None else result.elapsed_ms
            yield Recognised(result.outputs[0][0], elapsed_ms)

    return infer


def one_at_a_time(infer_one: Callable[[np.ndarray], np.ndarray | str]) -> Infer:
    """Infer through a function that takes one waveform."""

    def infer(waveforms: Waveforms) -> Iterator[Recognised]:
        for waveform in waveforms:
            start = time.perf_counter()
            output = infer_one(waveform)
            yield Recognised(output, 1000 * (time.perf_counter() - start))

    return infer


ENGINES: dict[str, Open] = {
    PYTORCH: open_pytorch("f32"),
    "PyTorch bfloat16": open_pytorch("bf16"),
    "transformers pipeline float32": open_pipeline,
    "onnxruntime float32": open_onnxruntime,
    "OpenVINO float32, default settings": open_openvino("f32"),
    PLAIN_BF16: open_openvino("bf16"),
    "suite float32": open_suite("f32"),
    "suite bfloat16": open_suite("bf16"),
    "suite int8": open_suite("int8"),
}


# The processes of the engines. They write JSON, a line for each answer.


class Round(NamedTuple):
    """What a worker measured in one round."""

    seconds: float
    latencies_ms: list[float]
    peak_mb: float  # of the worker's process until now


@dataclass(frozen=True)
class Score:
    """The demo in one engine."""

    wer: float
    transcripts: list[str]


def serve(name: str, work: Path, threads: int) -> None:
    """In the worker's process: open the engine, infer the first utterance, then answer each line of lengths."""
    infer = ENGINES[name](make_models(work / "model", work / "models"), threads)
    list(infer([np.ones(FIRST_SAMPLES, np.float32)]))
    answer({})
    for line in sys.stdin:
        waveforms = noise(json.loads(line))
        start = time.perf_counter()
        latencies_ms = [recognised.latency_ms for recognised in infer(waveforms)]
        seconds = time.perf_counter() - start
        answer(Round(seconds, latencies_ms, memory_kb(os.getpid()) / 1024)._asdict())


def score(name: str, work: Path, threads: int) -> None:
    """In a process of its own: answer with the Score of the engine."""
    digest = file_digest(DEMO_MODEL / "model.safetensors")[:8]  # exports of an older demo are not used
    models = make_models(DEMO_MODEL, work / f"demo_models_{digest}")
    symbols = model_folder.symbols(str(DEMO_MODEL))
    outputs = [recognised.output for recognised in ENGINES[name](models, threads)(demo_waveforms())]
    texts = [each if isinstance(each, str) else greedy_decode(each, symbols) for each in outputs]
    references = [text or "" for text in open_dataset("clean", str(DEMO / "LibriSpeech")).texts]
    answer(asdict(Score(total(word_errors(references, texts)).wer, texts)))


def answer(figures: Mapping[str, object]) -> None:
    print(json.dumps(figures), flush=True)


def role_command(role: str, name: str, work: Path, threads: int) -> list[str]:
    """The command of a process that serves or scores the engine `name`."""
    return [sys.executable, __file__, f"--work_dir={work}", f"--threads={threads}", f"--{role}={name}"]


class Worker:
    """An engine in its own process, ready to infer. Raises SuiteError when the process fails."""

    def __init__(self, name: str, work: Path, threads: int) -> None:
        self.name = name
        start = time.perf_counter()
        self._process = subprocess.Popen(
            role_command("serve", name, work, threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin and self._process.stdout, "both are pipes"
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._read()
        self.first_s = time.perf_counter() - start  # from the start of the process to its first result

    def run(self, lengths: Sequence[int]) -> Round:
        """Infer utterances of these lengths in samples."""
        self._requests.write(json.dumps(list(lengths)) + "\n")
        self._requests.flush()
        return Round(**json.loads(self._read()))

    def close(self) -> None:
        self._requests.close()
        self._process.wait()

    def _read(self) -> str:
        """The next line of JSON; lines that a library prints are skipped."""
        for line in self._answers:
            if line.startswith("{"):
                return line
        raise SuiteError(f"{self.name}: its process failed")


def time_start(name: str, work: Path, threads: int) -> float:
    """Seconds from the start of a process to its first result, with the model's files in memory.

    To be called before the other workers exist, because they need that memory.
    """
    times_s = []
    for _ in range(4):  # in the first, the engine writes its cache
        worker = Worker(name, work, threads)
        worker.close()
        times_s.append(worker.first_s)
    return median(times_s[1:])


def demo_score(name: str, work: Path, threads: int) -> Score:
    """Score the demo in a process of its own."""
    done = subprocess.run(role_command("score", name, work, threads), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SuiteError(f"{name}: its process failed")
    return Score(**json.loads(done.stdout.splitlines()[-1]))


# The measurement


@dataclass(frozen=True)
class Speed:
    """All timed rounds of one engine."""

    rtfx: float  # median of the rounds
    rtfx_of_rounds: list[float]
    p50_ms: float
    p99_ms: float
    peak_memory_mb: float


@dataclass(frozen=True)
class Figures:
    """All figures of one engine."""

    speed: Speed
    first_result_s: float
    demo: Score


def measure(workers: Sequence[Worker], rounds: int, count: int) -> dict[str, Speed]:
    """All engines in turn on the same utterances, round by round."""
    audio_s = []
    done: dict[str, list[Round]] = {worker.name: [] for worker in workers}
    for number in range(rounds + 1):
        lengths = lengths_of(number, count if number else WARM_UP)
        audio_s.append(sum(lengths) / SAMPLE_RATE)
        for worker in workers if number % 2 else reversed(workers):
            done[worker.name].append(worker.run(lengths))
    return {name: summarise(audio_s, results) for name, results in done.items()}


def summarise(audio_s: Sequence[float], results: Sequence[Round]) -> Speed:
    """The figures of one engine, with the duration of the speech of each round. The first round is the warm-up."""
    rtfx = [duration_s / result.seconds for duration_s, result in zip(audio_s[1:], results[1:])]
    latencies_ms = [latency for result in results[1:] for latency in result.latencies_ms]
    p50_ms, p99_ms = (percentile(latencies_ms, percent) for percent in (50, 99))
    return Speed(median(rtfx), rtfx, p50_ms, p99_ms, results[-1].peak_mb)


def ratio(found: Mapping[str, Figures], name: str, peer: str) -> float:
    """How many times as fast as `peer` the engine `name` is: the median over the rounds, which had the same work."""
    rounds = zip(found[name].speed.rtfx_of_rounds, found[peer].speed.rtfx_of_rounds)
    return median(ours / theirs for ours, theirs in rounds)


def table(found: Mapping[str, Figures]) -> Iterator[str]:
    """The lines of the result, as Markdown."""
    titles = ["engine", "RTFx", "p50 (ms)", "p99 (ms)", "first result (s)", "peak memory (MB)", "WER, demo"]
    yield f"| {' | '.join([*titles, 'x PyTorch', 'x OpenVINO bf16'])} |"
    yield "| --- |" + " ---: |" * 8
    for name, figures in found.items():
        speed = figures.speed
        values = [f"{speed.rtfx:.1f}", f"{speed.p50_ms:.0f}", f"{speed.p99_ms:.0f}", f"{figures.first_result_s:.1f}"]
        values += [f"{speed.peak_memory_mb:.0f}", f"{100 * figures.demo.wer:.2f} %"]
        values += [f"{ratio(found, name, peer):.2f}" for peer in (PYTORCH, PLAIN_BF16)]
        yield f"| {name} | {' | '.join(values)} |"


def draw(found: Mapping[str, Figures], title: str, path: Path) -> None:
    names = sorted(found, key=lambda name: found[name].speed.rtfx)
    values = [found[name].speed.rtfx for name in names]
    figure = new_figure(8, 4)
    axes = figure.subplots()
    colours = ["tab:blue" if name.startswith("suite") else "0.7" for name in names]
    axes.bar_label(axes.barh(names, values, color=colours), fmt="%.1f", padding=3)
    axes.set(xlabel="RTFx: seconds of speech per second, median of the rounds", xlim=(0, 1.1 * max(values)))
    figure.suptitle(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    option = parser.add_argument
    option("--count", type=cli.integer(2), default=20, metavar="N", help="utterances per round")
    option("--rounds", type=cli.integer(1), default=7, metavar="N", help="timed rounds, after one to warm up")
    option("--threads", type=cli.integer(1), default=default_threads(), metavar="N", help="CPU threads of each engine")
    option("--serve", choices=ENGINES, help=argparse.SUPPRESS)
    option("--score", choices=ENGINES, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    work, threads = args.work_dir, args.threads
    if args.serve:
        serve(args.serve, work, threads)
        return 0
    if args.score:
        score(args.score, work, threads)
        return 0
    lengths_of(args.rounds, args.count)  # raises SuiteError now if there are too few lengths
    header = [
        *conditions(*PACKAGES),
        f"base-size model, {threads} threads; {args.rounds} rounds of {args.count} utterances, lengths of test-clean",
    ]
    print(*header, sep="\n")
    make_models(make_model(work / "model"), work / "models")
    starts_s = {name: time_start(name, work, threads) for name in ENGINES}
    workers = [Worker(name, work, threads) for name in ENGINES]
    speeds = measure(workers, args.rounds, args.count)
    for worker in workers:
        worker.close()
    found = {name: Figures(speed, starts_s[name], demo_score(name, work, threads)) for name, speed in speeds.items()}

    print(*table(found), sep="\n")
    same = found["suite float32"].demo.transcripts == found[PYTORCH].demo.transcripts
    print(f"\ndemo transcripts of suite float32 and PyTorch float32: {'equal' if same else 'DIFFERENT'}")
    for target in TARGETS:
        reached = ratio(found, target.engine, target.peer)
        print(
            f"{target.engine} / {target.peer}: {reached:.2f}, target {target.ratio}: {verdict(reached >= target.ratio)}"
        )
    document = {"conditions": header, "engines": {name: asdict(figures) for name, figures in found.items()}}
    (work / "engines.json").write_text(json.dumps(document, indent=2) + "\n")
    draw(found, f"{header[0]}\n{header[-1]}", work / "engines.png")
    print(f"written: {work / 'engines.json'}, {work / 'engines.png'}")
    return 0


if __name__ == "__main__":
    cli.run(main)
