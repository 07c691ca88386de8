# SPDX-License-Identifier: Apache-2.0
"""The engines that engines.py compares: the models that they read, and the processes that they run in.

A process runs the suite's code of this checkout, or of another one that the variable BENCH_SUITE names. So this module
takes from the suite only what an earlier commit has, too. Requests and answers are lines of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from common import DEMO, DEMO_MODEL, SUITE_VARIABLE, memory_kb

from wav2vec2_eval import cli
from wav2vec2_eval.engines.base import Engine
from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.engines.precision import PRECISIONS
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.export.new_model import new_model
from wav2vec2_eval.files.names import INPUT
from wav2vec2_eval.machine.cpu import cpu_name, lacks_bfloat16
from wav2vec2_eval.sources import model_folder
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.sources.model_input import Preparation, model_inputs
from wav2vec2_eval.speech.audio import SAMPLE_RATE
from wav2vec2_eval.speech.ctc import greedy_decode
from wav2vec2_eval.speech.padding import GEARS, masked_input, padded_length
from wav2vec2_eval.speech.wer import total, word_errors

FIRST_SAMPLES = 80_000  # length of the utterance that ends the measurement of a start
FLOAT_CONVOLUTIONS = 4  # of plain int8: without them in float, wav2vec2 is of no use, as was published
MODEL = "model"  # what an entry reads: the model itself, or one of the exports
PLAIN, MASKED, INT8 = "plain.onnx", "masked.onnx", "masked-int8.onnx"
DYNAMIC, PLAIN_INT8 = "plain-dynamic.onnx", "plain-int8.xml"
PEER, SUITE, BEFORE, GPU = "peer", "suite", "before", "gpu"  # kinds of entries

Waveforms = Sequence[np.ndarray]  # (T,) normalised, unpadded


class Recognised(NamedTuple):
    """One utterance through an engine."""

    output: np.ndarray | str  # (F, V) logits, or the text
    latency_ms: float


Infer = Callable[[Waveforms], Iterator[Recognised]]
Open = Callable[[str, int], Infer]  # the model that the entry reads, threads -> how to infer


class Setup(NamedTuple):
    """What the processes of all engines have in common."""

    model: str  # hub id or folder
    exports: str  # the folder of the exported models
    threads: int
    calibration: Sequence[int]  # utterances that calibrate int8
    dataset: tuple[str, str] | None = None  # name and path; None: noise

    def file(self, name: str) -> str:
        """The path of MODEL or of an export."""
        return self.model if name == MODEL else str(Path(self.exports) / name)


# Utterances. Without a data set, the number of an utterance is its length in samples.


def noise(lengths: Iterable[int]) -> list[np.ndarray]:
    """An utterance of noise for each length in samples, always the same."""
    return [np.random.default_rng(length).standard_normal(length, dtype=np.float32) for length in lengths]


def utterances(setup: Setup, numbers: Sequence[int]) -> tuple[list[np.ndarray], list[str | None]]:
    """The waveforms with these numbers, normalised and unpadded, and their references."""
    if setup.dataset is None:
        return noise(numbers), [None] * len(numbers)
    dataset = open_dataset(*setup.dataset)
    how = Preparation(model_folder.feature_extractor(setup.model))
    waveforms = [item.samples[0] for number in numbers for item in model_inputs(dataset, number, how)]
    return waveforms, [dataset.texts[number] for number in numbers]


def demo_setup(threads: int) -> Setup:
    """The demo's model and corpus. Half of the corpus calibrates."""
    return Setup(str(DEMO_MODEL), "", threads, demo_numbers()[::2], ("clean", str(DEMO / "LibriSpeech")))


def demo_numbers() -> list[int]:
    """All utterances of the demo's corpus."""
    return list(range(len(open_dataset("clean", str(DEMO / "LibriSpeech")))))


def demo_waveforms() -> list[np.ndarray]:
    """The demo's corpus, normalised and unpadded."""
    return utterances(demo_setup(1), demo_numbers())[0]


def gear_input(waveform: np.ndarray) -> list[np.ndarray]:
    """The inputs of the masked model, padded to the gear of the waveform."""
    return masked_input(waveform, padded_length(len(waveform), GEARS))


# The exported models, without the proof: the tests and export_onnx.py are responsible for it.


def export_graph(path: Path, _source: str, setup: Setup, masked: bool) -> None:
    from wav2vec2_eval.export import graph
    from wav2vec2_eval.sources.pytorch_model import load_model

    model = load_model(setup.model, attention="eager")
    graph.fold_weight_norm(model)
    with new_model(path) as new:
        graph.write_graph(model, new, attention_mask=masked)


def export_int8(path: Path, source: str, setup: Setup) -> None:
    from wav2vec2_eval.export import int8

    waveforms, _ = utterances(setup, setup.calibration)
    with new_model(path) as new:
        int8.quantize(Path(source), new, [gear_input(waveform) for waveform in waveforms])


def export_dynamic(path: Path, source: str, _setup: Setup) -> None:
    """onnxruntime's own int8: the weights of the matrix products, whose inputs are quantized as they come."""
    sys.path.remove(str(Path(__file__).parent))  # its float16.py hides a module that onnxruntime imports by this name
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with new_model(path) as new:
        quantize_dynamic(source, new, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)


def export_plain_int8(path: Path, source: str, setup: Setup) -> None:
    """NNCF's post-training quantization of the plain model, with nothing of the suite."""
    import nncf
    import openvino

    model = openvino.Core().read_model(source)
    names = [each.get_friendly_name() for each in model.get_ordered_ops() if each.get_type_name() == "Convolution"]
    waveforms, _ = utterances(setup, setup.calibration)
    quantized = nncf.quantize(
        model,
        nncf.Dataset(waveforms, lambda waveform: {INPUT: waveform[None]}),
        subset_size=len(waveforms),
        ignored_scope=nncf.IgnoredScope(names=names[:FLOAT_CONVOLUTIONS]),
        model_type=nncf.ModelType.TRANSFORMER,
    )
    with TemporaryDirectory(dir=path.parent) as temporary:
        written = Path(temporary) / path.name
        openvino.save_model(quantized, written, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):  # the file that others look for comes last
            written.with_suffix(suffix).replace(path.with_suffix(suffix))


# A file -> the file that it is made of, and how.
MAKERS: dict[str, tuple[str, Callable[[Path, str, Setup], None]]] = {
    PLAIN: (MODEL, partial(export_graph, masked=False)),
    MASKED: (MODEL, partial(export_graph, masked=True)),
    INT8: (MASKED, export_int8),
    DYNAMIC: (PLAIN, export_dynamic),
    PLAIN_INT8: (PLAIN, export_plain_int8),
}


def make_models(files: Iterable[str], setup: Setup) -> None:
    """Write those of these files, and of those that they are made of, that do not exist."""
    for name in files:
        path = Path(setup.file(name))
        if name != MODEL and not path.exists():
            source, make = MAKERS[name]
            make_models([source], setup)
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path, setup.file(source), setup)


# Opening. Each function imports its own packages, because it runs in its own process, whose end closes the engine.


def open_pytorch(precision: str, device: str = "cpu") -> Open:
    def open_model(model: str, threads: int) -> Infer:
        return through(pytorch_engine(model, threads, precision, device, compiled=False))

    return open_model


def open_compiled(precision: str) -> Open:
    def open_model(model: str, threads: int) -> Infer:
        return through(pytorch_engine(model, threads, precision, "cpu", compiled=True))

    return open_model


def pytorch_engine(model: str, threads: int, precision: str, device: str, compiled: bool) -> Engine:
    """The baseline's engine. Compiled, the model takes any length after the first compilation."""
    import torch

    from wav2vec2_eval.engines.pytorch import PytorchEngine, open_device
    from wav2vec2_eval.sources.pytorch_model import load_model

    torch.set_num_threads(threads)
    loaded = load_model(model)
    if compiled:
        loaded.forward = torch.compile(loaded.forward, dynamic=True)
    return PytorchEngine(loaded, open_device(device), precision, threads)


def open_pipeline(model: str, threads: int) -> Infer:
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    recognise = pipeline("automatic-speech-recognition", model=model, device="cpu")

    def infer_one(waveform: np.ndarray) -> str:
        answer = recognise({"raw": waveform, "sampling_rate": SAMPLE_RATE})  # normalises the waveform a second time
        text: str = answer["text"]  # type: ignore[call-overload]  # declared as a list, which is for several inputs
        return text

    return one_at_a_time(infer_one)


def open_onnxruntime(model: str, threads: int) -> Infer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return one_at_a_time(lambda waveform: session.run(None, {INPUT: waveform[None]})[0][0])


def compile_openvino(model: str, threads: int, precision: str, **properties: object) -> Any:
    """A compiled model. The float parts of an int8 model run as OpenVINO prefers."""
    import openvino

    properties["INFERENCE_NUM_THREADS"] = threads
    if precision != "int8":
        properties["INFERENCE_PRECISION_HINT"] = precision
    return openvino.Core().compile_model(model, "CPU", properties)


def open_openvino(precision: str) -> Open:
    def open_model(model: str, threads: int) -> Infer:
        compiled = compile_openvino(model, threads, precision)
        return one_at_a_time(lambda waveform: compiled([waveform[None]])[0][0].copy())

    return open_model


def open_throughput(precision: str) -> Open:
    """As many requests at once as OpenVINO suggests."""

    def open_model(model: str, threads: int) -> Infer:
        import openvino

        compiled = compile_openvino(model, threads, precision, PERFORMANCE_HINT="THROUGHPUT")
        queue = openvino.AsyncInferQueue(compiled)
        done: dict[int, Recognised] = {}

        def receive(request: Any, sent: tuple[int, float]) -> None:
            number, start = sent
            elapsed_ms = 1000 * (time.perf_counter() - start)
            done[number] = Recognised(request.get_output_tensor(0).data[0].copy(), elapsed_ms)

        queue.set_callback(receive)

        def infer(waveforms: Waveforms) -> Iterator[Recognised]:
            done.clear()
            for number, waveform in enumerate(waveforms):
                queue.get_idle_request_id()  # waits for a free request, so that the clock starts with the inference
                queue.start_async([waveform[None]], (number, time.perf_counter()))
            queue.wait_all()
            yield from (done[number] for number in range(len(waveforms)))

        return infer

    return open_model


def open_suite(precision: str) -> Open:
    def open_model(model: str, threads: int) -> Infer:
        return through(open_engine(Path(model), num_threads=threads, precision=precision))

    return open_model


def through(engine: Engine) -> Infer:
    """Infer through an engine of the suite."""
    is_masked = len(engine.inputs) == 2

    def infer(waveforms: Waveforms) -> Iterator[Recognised]:
        inputs = (gear_input(waveform) if is_masked else [waveform[None]] for waveform in waveforms)
        for result in engine.stream(inputs):
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


class Entry(NamedTuple):
    """An engine of the comparison."""

    title: str
    precision: str
    reads: str  # MODEL, or one of MAKERS
    open: Open
    kind: str = PEER

    @property
    def keeps(self) -> bool:
        """Whether its first start writes what later ones read: compiled kernels, or a conversion of the model."""
        return self.open is COMPILED or (self.kind in (SUITE, BEFORE) and self.precision != "f32")


COMPILED = open_compiled("bf16")
SUITE_MODELS = {"f32": PLAIN, "bf16": MASKED, "int8": INT8}  # in bfloat16 and int8 the suite runs on gears

ENTRIES: dict[str, Entry] = {
    "pytorch-f32": Entry("PyTorch float32", "f32", MODEL, open_pytorch("f32")),
    "pytorch-bf16": Entry("PyTorch bfloat16", "bf16", MODEL, open_pytorch("bf16")),
    "compile-bf16": Entry("torch.compile bfloat16", "bf16", MODEL, COMPILED),
    "pipeline-f32": Entry("transformers pipeline float32", "f32", MODEL, open_pipeline),
    "onnxruntime-f32": Entry("onnxruntime float32", "f32", PLAIN, open_onnxruntime),
    "onnxruntime-int8": Entry("onnxruntime dynamic int8", "int8", DYNAMIC, open_onnxruntime),
    **{
        f"{name}-{precision}": Entry(
            f"OpenVINO {PRECISIONS[precision]}, {label}",
            precision,
            PLAIN_INT8 if precision == "int8" else PLAIN,
            open_in(precision),
        )
        for name, label, open_in in (
            ("openvino", "default settings", open_openvino),
            ("throughput", "throughput", open_throughput),
        )
        for precision in SUITE_MODELS
    },
    **{
        f"{kind}-{precision}": Entry(
            f"suite {PRECISIONS[precision]}{label}", precision, SUITE_MODELS[precision], open_suite(precision), kind
        )
        for kind, label in ((BEFORE, ", before"), (SUITE, ""))
        for precision in SUITE_MODELS
    },
    "cuda-f32": Entry("PyTorch float32, cuda", "f32", MODEL, open_pytorch("f32", "cuda"), GPU),
    "cuda-f16": Entry("PyTorch float16, cuda", "f16", MODEL, open_pytorch("f16", "cuda"), GPU),
}


def check_available(name: str) -> None:
    """Raise SuiteError if this host lacks what an engine needs and would emulate, or report late and at length."""
    entry = ENTRIES[name]
    if entry.precision == "bf16" and (lacks_bfloat16() or "BF16" not in openvino_capabilities()):
        raise SuiteError(f"{cpu_name()} has no bfloat16 instructions")
    if name.startswith("compile-") and not any(map(shutil.which, [os.environ.get("CXX", "g++"), "clang++"])):
        raise SuiteError("torch.compile finds no C++ compiler; install g++, or set CXX")
    if entry.kind == GPU:
        import torch

        if not torch.cuda.is_available():
            raise SuiteError("PyTorch finds no GPU")


def openvino_capabilities() -> list[str]:
    """What OpenVINO says that this processor can do."""
    import openvino

    found: list[str] = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


# The processes


class Round(NamedTuple):
    """What the process of an engine measured in one round."""

    audio_s: float
    seconds: float
    cpu_s: float  # of all threads of the process
    others: float | None  # share of the time of its cores that other processes took; None: the system does not say
    latencies_ms: Sequence[float]
    peak_mb: float  # of the process until now
    errors: int = 0  # in words
    words: int = 0  # of the references; 0: there are none
    transcripts: str = ""  # a digest


def busy_s() -> float | None:
    """For how long the cores of this process have been busy since the start of the system, with any process."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    fields = [line.split() for line in lines if line.split()[0] in cores]
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = sum(int(number) for field in fields for number in (*field[1:4], *field[6:9]))
    return ticks / os.sysconf("SC_CLK_TCK")


def share_of_others(before_s: float | None, after_s: float | None, own_s: float, seconds: float) -> float | None:
    """The share of the time of all cores that other processes took, 0 to 1; `own_s` is this process's CPU time."""
    if before_s is None or after_s is None or after_s <= before_s:
        return None
    return min(1.0, max(0.0, after_s - before_s - own_s) / (seconds * len(os.sched_getaffinity(0))))


def serve(name: str, setup: Setup) -> None:
    """Open the engine, infer the first utterance, then answer each line: the numbers of a round's utterances."""
    check_available(name)
    entry = ENTRIES[name]
    make_models([entry.reads], setup)
    infer = entry.open(setup.file(entry.reads), setup.threads)
    list(infer([np.ones(FIRST_SAMPLES, np.float32)]))
    answer({})
    for line in sys.stdin:
        waveforms, references = utterances(setup, json.loads(line))
        busy, cpu_s, start = busy_s(), time.process_time(), time.perf_counter()
        found = list(infer(waveforms))
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_s
        others = share_of_others(busy, busy_s(), cpu_s, seconds)
        audio_s = sum(map(len, waveforms)) / SAMPLE_RATE
        peak_mb = memory_kb(os.getpid()) / 1024
        latencies_ms = [each.latency_ms for each in found]
        scores = score(setup, references, [each.output for each in found])
        answer(Round(audio_s, seconds, cpu_s, others, latencies_ms, peak_mb, *scores)._asdict())


def score(setup: Setup, references: Sequence[str | None], outputs: Sequence[np.ndarray | str]) -> tuple[int, int, str]:
    """Errors and words of the utterances with references, and a digest of their transcripts."""
    pairs = [pair for pair in zip(references, outputs) if pair[0]]
    if not pairs:
        return 0, 0, ""
    symbols = model_folder.symbols(setup.model)
    texts = [output if isinstance(output, str) else greedy_decode(output, symbols) for _, output in pairs]
    counts = total(word_errors([reference or "" for reference, _ in pairs], texts))
    return counts.errors, counts.words, hashlib.sha256("\n".join(texts).encode()).hexdigest()


def answer(figures: Mapping[str, object]) -> None:
    print(json.dumps(figures), flush=True)


class Process:
    """A process that answers lines of JSON. Raises SuiteError, with the last line of its stderr, when it fails."""

    def __init__(self, role: Sequence[object], log: Path, suite: Path | None = None, script: str = __file__) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **({SUITE_VARIABLE: str(suite)} if suite else {})}
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, script, json.dumps(role)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )

    def read(self) -> dict[str, Any]:
        """The next answer; other lines, which a library prints, are skipped."""
        assert self._process.stdout, "it is a pipe"
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise SuiteError(self._failure())

    def ask(self, request: object) -> dict[str, Any]:
        assert self._process.stdin, "it is a pipe"
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SuiteError(self._failure()) from None
        return self.read()

    def close(self) -> None:
        """End the process, and wait for its end."""
        self._process.communicate()

    def _failure(self) -> str:
        status = self._process.wait()
        lines = self._log.read_text(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), f"ended with status {status}")
        return said.removeprefix(f"{Path(__file__).name}: error: ")


class Worker(Process):
    """An engine in its own process, ready to infer."""

    def __init__(self, name: str, setup: Setup, log: Path, suite: Path | None = None) -> None:
        start = time.perf_counter()
        super().__init__(["serve", name, setup], log, suite)
        self.read()
        self.first_s = time.perf_counter() - start  # from the start of the process to its first result

    def run(self, numbers: Sequence[int]) -> Round:
        """Infer the utterances with these numbers."""
        return Round(**self.ask(list(numbers)))


def main(argv: Sequence[str] | None = None) -> int:
    role, what, setup = json.loads((argv or sys.argv[1:])[0])
    if role == "make":
        make_models(what, Setup(*setup))
        answer({})
    else:
        serve(what, Setup(*setup))
    return 0


if __name__ == "__main__":
    cli.run(main)
