#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the suite is on this CPU, compared with every engine that a user might choose instead.

Each engine runs in its own process, on all threads, with the same base-size model of random weights. In every round all
engines in turn infer the same utterances, which no earlier round had: noise with lengths of LibriSpeech test-clean. The
next round takes the engines in the opposite order. Peers see unpadded utterances; in bfloat16 and int8 the suite runs
its masked model on gears. The same round measures how fast this machine multiplies matrices, which bounds every engine.
The WER is that of the demo's model and corpus in the same engine; half of the corpus calibrates int8. With
--model_name_or_path and --dataset_path, model and utterances are yours, and so is the WER, where there are references.

Prints a table, and how the suite's engines compare with the strongest peer of their precision. Writes engines.json and
engines.png. An engine that cannot run here is left out, with a line that says why. Idle processes end when memory is
short; they start, and warm up, again for their next round.

    python test/bench/engines.py --work_dir=/tmp/bench
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

from bound import KINDS, Bound, Rates, Shape, Work, best_rates, bound_rtfx, read_shape, work_per_second
from common import LENGTHS, ROOT, conditions, fast_features, make_model, new_figure, new_parser
from peers import (
    BEFORE,
    ENTRIES,
    MAKERS,
    MODEL,
    SUITE,
    Process,
    Round,
    Setup,
    Worker,
    demo_numbers,
    demo_setup,
    utterances,
)
from records import PYTORCH, Progress, Rows, comparisons, new_record, resume, summarise, table, this_record

from wav2vec2_eval import cli
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.atomic import file_digest
from wav2vec2_eval.machine.cpu import cpu_name, default_threads
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.speech.padding import GEARS, padded_length

PACKAGES = ("torch", "transformers", "onnxruntime", "openvino", "nncf")
STATE = "engines-rounds.json"  # what --resume reads
CALIBRATED = 16  # utterances, at most
CALIBRATION_NOISE = (32_000, 48_000)  # samples; random weights have no accuracy to lose
STARTS = 3  # that are timed
LEAST_FREE_MB = 6_000  # more than any engine takes while it starts

Item = TypeVar("Item")


# What is inferred


class Utterance(NamedTuple):
    """One utterance that processes know by its number."""

    number: int
    samples: int


def gear_of(utterance: Utterance) -> int:
    return padded_length(utterance.samples, GEARS)


def plan(found: Sequence[Utterance], rounds: int, count: int, warm_up: int) -> list[list[Utterance]]:
    """The utterances of the warm-up, then those of each round; all different.

    The warm-up has an utterance of each gear, the most frequent gears first: so even a short one leaves few kernels to
    compile while the clock runs, as a long run of the suite does. Raises SuiteError if there are too few utterances.
    """
    if warm_up + rounds * count > len(found):
        raise SuiteError(
            f"expected at most {len(found)} different utterances, found --warm_up={warm_up} + --rounds={rounds} x "
            f"--count={count}; choose fewer"
        )
    frequent = [gear for gear, _ in Counter(map(gear_of, found)).most_common()]
    firsts = {gear_of(each): each for each in reversed(found)}
    warming = list(dict.fromkeys([*(firsts[gear] for gear in frequent), *found]))[:warm_up]
    left = [each for each in found if each not in set(warming)]
    return [warming, *(left[start : start + count] for start in range(0, rounds * count, count))]


def shuffled(items: Sequence[Item]) -> list[Item]:
    """In an order that is always the same."""
    return random.Random(0).sample(items, len(items))


def noise_of_test_clean() -> list[Utterance]:
    """As many utterances of noise as test-clean has different lengths."""
    return [Utterance(length, length) for length in dict.fromkeys(shuffled(LENGTHS))]


def own_utterances(setup: Setup, most: int) -> list[Utterance]:
    """Up to `most` utterances of the data set. Raises SuiteError for one that fits no gear."""
    assert setup.dataset, "there is one"
    numbers = shuffled(range(len(open_dataset(*setup.dataset))))[:most]
    waveforms, _ = utterances(setup, numbers)
    found = [Utterance(number, len(waveform)) for number, waveform in zip(numbers, waveforms)]
    for each in found:
        gear_of(each)
    return found


def numbers_of(chosen: Sequence[Utterance]) -> list[int]:
    return [each.number for each in chosen]


# The models


def model_digest(model: str) -> str:
    """What tells apart two models: the content of a folder's files, or the hub's name."""
    folder = Path(model)
    files = sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".bin", ".json"))
    return digest_of([model] if not folder.is_dir() else [f"{path.name} {file_digest(path)}" for path in files])


def code_digest(checkout: Path) -> str:
    """What tells apart two states of the suite's code."""
    files = sorted(checkout.glob("wav2vec2_eval/**/*.py"))
    return digest_of(f"{path.relative_to(checkout)} {file_digest(path)}" for path in files)


def digest_of(parts: Iterator[str] | Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def commit_of(checkout: Path) -> str | None:
    """The commit that is checked out, with "-dirty" if a file differs from it; None outside of git."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


class Bench(NamedTuple):
    """What a run works with: the common setup, the one with the exports of the code before, and their checkouts."""

    work: Path
    setup: Setup
    setup_before: Setup
    before: Path | None

    def names(self, chosen: Sequence[str]) -> list[str]:
        """The entries that were chosen; without --suite_before there is none of that kind."""
        return [name for name in chosen if self.before or ENTRIES[name].kind != BEFORE]

    def setup_of(self, name: str) -> Setup:
        return self.setup_before if ENTRIES[name].kind == BEFORE else self.setup

    def open_worker(self, name: str, setup: Setup | None = None) -> Worker:
        """A process of this engine, which sees the code that its entry asks for."""
        suite = self.before if ENTRIES[name].kind == BEFORE else None
        return Worker(name, setup or self.setup_of(name), self.work / f"logs/{name}.txt", suite)

    def make_models(self, names: Sequence[str]) -> None:
        """Export with both checkouts: first the graphs, then what is made of them, each file in a process of its own.

        The worker of an engine whose export fails will say so.
        """
        wanted = {(ENTRIES[name].kind == BEFORE, ENTRIES[name].reads) for name in names if ENTRIES[name].reads != MODEL}
        sources = {file: source for file, (source, _) in MAKERS.items()}
        graphs = {(before, file if sources[file] == MODEL else sources[file]) for before, file in wanted}
        for files in (graphs, wanted - graphs):
            processes = []
            for before, file in sorted(files):
                suite, setup = (self.before, self.setup_before) if before else (None, self.setup)
                log = self.work / f"logs/make-{BEFORE if before else SUITE}-{file}.txt"
                processes.append(Process(["make", [file], setup], log, suite))
            for process in processes:
                process.close()


# The measurement


class Workers:
    """The processes of the engines. When memory is short, those end that have not been used for longest."""

    def __init__(self, open_one: Callable[[str], Worker], free_mb: Callable[[], float]) -> None:
        self._open = open_one
        self._free_mb = free_mb
        self._open_ones: OrderedDict[str, Worker] = OrderedDict()

    def get(self, name: str) -> Worker:
        """The process of this engine, opened if need be."""
        idle = [each for each in self._open_ones if each != name]
        while idle and self._free_mb() < LEAST_FREE_MB:
            self._open_ones.pop(idle.pop(0)).close()
        if name not in self._open_ones:
            self._open_ones[name] = self._open(name)
        self._open_ones.move_to_end(name)
        return self._open_ones[name]

    def close(self) -> None:
        while self._open_ones:
            self._open_ones.popitem()[1].close()


def free_mb() -> float:
    """Memory that a new process could take now."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024


@contextmanager
def or_left_out(progress: Progress, name: str) -> Iterator[None]:
    """Leave an engine out of the run from here on, with its reason, if its process fails in this block."""
    try:
        yield
    except SuiteError as error:
        progress.left_out[name] = str(error)
        print(f"{ENTRIES[name].title}: left out: {error}", flush=True)


def time_start(open_one: Callable[[], Worker]) -> float:
    """Seconds from the start of a process to its first result, with the model's files in memory; a median."""
    times_s = []
    for _ in range(1 + STARTS):  # in the first, the engine may write its cache
        worker = open_one()
        worker.close()
        times_s.append(worker.first_s)
    return median(times_s[1:])


class Run:
    """A run of some engines. Its progress is saved after each step; what is saved is not measured again."""

    def __init__(self, bench: Bench, names: Sequence[str], progress: Progress) -> None:
        self._bench = bench
        self._names = names
        self._path = bench.work / STATE
        self.progress = progress

    def left(self) -> list[str]:
        """The engines that have not been left out."""
        return [name for name in self._names if name not in self.progress.left_out]

    def time_starts(self) -> None:
        """To be called before other processes exist, because starts need memory."""
        for name in self.left():
            if name not in self.progress.starts_s:
                with or_left_out(self.progress, name):
                    self.progress.starts_s[name] = time_start(partial(self._bench.open_worker, name))
                self.progress.save(self._path)

    def measure(self, plans: Sequence[Sequence[int]], shape: Shape) -> None:
        """The rounds, all engines in turn, then the bound; the first of `plans` are the utterances of the warm-up."""
        left = range(len(self.progress.rounds), len(plans) - 1)
        if not left:
            return

        def open_warm(name: str) -> Worker:
            worker = self._bench.open_worker(name)
            worker.run(plans[0])
            return worker

        workers = Workers(open_warm, free_mb)
        bound = Bound(shape, self._bench.setup.threads, self._bench.work / "logs/bound.txt")
        for number in left:
            found: dict[str, Round] = {}
            for name in self.left()[:: -1 if number % 2 else 1]:
                with or_left_out(self.progress, name):
                    found[name] = workers.get(name).run(plans[number + 1])
            self.progress.rates.append(bound.rates())
            self.progress.rounds.append(found)
            self.progress.save(self._path)
            print(f"round {number + 1} of {len(plans) - 1} is saved", flush=True)
        workers.close()
        bound.close()

    def score_demo(self) -> None:
        """The demo in each engine, with exports of its own."""
        work, before = self._bench.work, self._bench.before
        setup = demo_setup(self._bench.setup.threads)
        demo = Bench(work / "demo", with_exports(setup, work), with_exports(setup, work, before), before)
        demo.make_models(self.left())
        for name in self.left():
            if name not in self.progress.demo:
                with or_left_out(self.progress, name):
                    worker = demo.open_worker(name)
                    self.progress.demo[name] = worker.run(demo_numbers())
                    worker.close()
                self.progress.save(self._path)

    def rows(self, work: Work) -> Rows:
        """The figures of the engines that took part in all rounds, by title."""
        rates = best_rates(self.progress.rates)
        found = [
            summarise(
                name,
                [results[name] for results in self.progress.rounds],
                self.progress.starts_s.get(name),
                self.progress.demo.get(name),
                bound_rtfx(work, rates, ENTRIES[name].precision),
            )
            for name in self.left()
        ]
        return {row.title: row for row in found}


# What is printed


def bound_lines(work: Work, rates: Rates) -> Iterator[str]:
    """The bound of each precision, as Markdown."""
    gflop = [each / 1e9 for each in (work.total, *work)]
    yield "{:.1f} GFLOP for each second of audio: {:.1f} convolutions, {:.1f} layers, {:.1f} attention".format(*gflop)
    yield "| bound | layers (TFLOP/s) | convolutions (TFLOP/s) | squares (TFLOP/s) | RTFx | RTFx as squares |"
    yield "| --- |" + " ---: |" * 5
    for precision, kinds in rates.items():
        rtfx = [bound_rtfx(work, rates, precision, best) or 0.0 for best in (False, True)]
        values = [*(f"{kinds[kind] / 1e12:.3f}" for kind in KINDS), *(f"{each:.1f}" for each in rtfx)]
        yield f"| {precision} | {' | '.join(values)} |"


def transcripts_line(rows: Rows) -> str:
    """Whether the suite in float32 writes the demo's transcripts as PyTorch does; empty if that is not known."""
    both = {rows[title].transcripts for title in (PYTORCH, ENTRIES["suite-f32"].title) if title in rows}
    if "" in both or len(rows.keys() & {PYTORCH, ENTRIES["suite-f32"].title}) < 2:
        return ""
    return f"demo transcripts of suite float32 and PyTorch float32: {'equal' if len(both) == 1 else 'DIFFERENT'}"


def draw(rows: Rows, title: str, path: Path) -> None:
    """The speed of each engine, if matplotlib is there."""
    if find_spec("matplotlib") is None:
        print(f"{path.name}: left out: matplotlib is missing")
        return
    shown = sorted(rows.values(), key=lambda row: row.rtfx)
    values = [row.rtfx for row in shown]
    figure = new_figure(8, 1 + 0.3 * len(shown))
    axes = figure.subplots()
    colours = ["tab:blue" if row.kind == SUITE else "0.7" for row in shown]
    axes.bar_label(axes.barh([row.title for row in shown], values, color=colours), fmt="%.1f", padding=3)
    axes.set(xlabel="RTFx: seconds of speech per second, median of the rounds", xlim=(0, 1.1 * max(values)))
    figure.suptitle(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


# The command


def engine_names(text: str) -> list[str]:
    """The entries that are named with commas, in the order of the table: `suite-f32`, or a part such as `f32`."""
    wanted = text.split(",")
    for each in wanted:
        if not any(each == name or each in name.split("-") for name in ENTRIES):
            raise SuiteError(f"expected names of {', '.join(ENTRIES)}, or parts of them, found {each!r}")
    return [name for name in ENTRIES if {name, *name.split("-")} & set(wanted)]


def checkout(text: str) -> Path:
    """A folder with the suite's code."""
    folder = Path(cli.expand_path(text)).resolve()
    if not (folder / "wav2vec2_eval/__init__.py").is_file():
        raise SuiteError(f"expected a checkout of the suite, found no wav2vec2_eval in {text}")
    return folder


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    option = parser.add_argument
    option("--count", type=cli.integer(2), default=20, metavar="N", help="utterances per round")
    option("--rounds", type=cli.integer(1), default=7, metavar="N", help="timed rounds")
    option("--warm_up", type=cli.integer(1), default=30, metavar="N", help="utterances that warm each process up")
    option("--threads", type=cli.integer(1), default=default_threads(), metavar="N", help="CPU threads of each engine")
    option(
        "--engines",
        type=cli.checked(engine_names),
        default=list(ENTRIES),
        metavar="NAMES",
        help=f"with commas, some of {', '.join(ENTRIES)}; a part names several, as suite or int8 (default: all)",
    )
    option(
        "--suite_before",
        type=cli.checked(checkout),
        metavar="FOLDER",
        help="a checkout of an earlier commit, whose engines and exports are measured in the same rounds",
    )
    option("--model_name_or_path", type=cli.path_text, metavar="MODEL", help="your model instead of random weights")
    option("--which_dataset", default="custom", metavar="NAME", help="which set --dataset_path holds")
    option("--dataset_path", type=cli.path_text, metavar="PATH", help="your utterances instead of noise")
    option("--skip_starts", action="store_true", help="do not measure the first result of a new process")
    option("--skip_demo", action="store_true", help="do not measure the WER of the demo")
    option("--prepare", action="store_true", help="export the models, let the engines write their caches, and end")
    option("--resume", action="store_true", help="go on with a run of the same options that was interrupted")
    option("--record", action="store_true", help="also keep the result in test/bench/records, for README's table")
    args = parser.parse_args(argv)
    if args.dataset_path and not args.model_name_or_path:
        parser.error("--dataset_path: expected --model_name_or_path with it: random weights recognise nothing")
    return args


def with_exports(setup: Setup, work: Path, before: Path | None = None) -> Setup:
    """The setup with a folder for its exports by this code, or by the checkout `before`.

    Exports of another model, other code or another calibration are in other folders, and so not used by mistake.
    """
    what = [setup.model, model_digest(setup.model), code_digest(before or ROOT)]
    what.append(json.dumps([setup.dataset, setup.calibration]))
    return setup._replace(exports=str(work / f"exports/{'before' if before else 'now'}-{digest_of(what)}"))


def open_bench(args: argparse.Namespace) -> tuple[Bench, list[list[Utterance]]]:
    """What the options ask for, and the utterances of the warm-up and of all rounds."""
    work: Path = args.work_dir
    model = args.model_name_or_path or str(make_model(work / "model"))
    dataset = (args.which_dataset, args.dataset_path) if args.dataset_path else None
    setup = Setup(model, "", args.threads, CALIBRATION_NOISE, dataset)
    most = args.warm_up + args.rounds * args.count
    found = own_utterances(setup, most) if dataset else noise_of_test_clean()
    plans = plan(found, args.rounds, args.count, args.warm_up)
    if dataset:
        setup = setup._replace(calibration=numbers_of(plans[0][:CALIBRATED]))
    before: Path | None = args.suite_before
    return Bench(work, with_exports(setup, work), with_exports(setup, work, before), before), plans


def run_setup(args: argparse.Namespace, bench: Bench, names: Sequence[str]) -> dict[str, Any]:
    """What two runs must have in common for one to resume the other."""
    options = ("count", "rounds", "warm_up", "threads", "model_name_or_path", "which_dataset", "dataset_path")
    return {
        **{f"--{name}": getattr(args, name) for name in options},
        "--engines": ",".join(names),
        "--suite_before": str(args.suite_before or ""),
        "processor": f"{cpu_name()}, {fast_features()}",
        "versions": {package: version(package) for package in PACKAGES},
        "models and code": [bench.setup.exports, bench.setup_before.exports],
    }


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    work: Path = args.work_dir
    work.mkdir(parents=True, exist_ok=True)
    bench, plans = open_bench(args)
    names = bench.names(args.engines)
    if not names:
        raise SuiteError("--engines: expected --suite_before with engines of an earlier commit alone, found none")
    setup = run_setup(args, bench, names)
    progress = resume(work / STATE, setup) if args.resume else Progress(setup)
    header = [
        *conditions(*PACKAGES),
        f"{args.model_name_or_path or 'base-size model'}, {args.threads} threads; {args.rounds} rounds of {args.count} "
        f"utterances, {args.dataset_path or 'lengths of test-clean'}; warm-up {args.warm_up}",
    ]
    print(*header, sep="\n", flush=True)
    bench.make_models(names)
    run = Run(bench, names, progress)
    if args.prepare:
        for name in names:
            if ENTRIES[name].keeps:
                with or_left_out(progress, name):
                    bench.open_worker(name).close()
        return 0
    if not args.skip_starts:
        run.time_starts()
    shape = read_shape(bench.setup.model)
    run.measure([numbers_of(each) for each in plans], shape)
    if not (args.skip_demo or args.dataset_path):
        run.score_demo()

    asked = work_per_second(shape, [each.samples for chosen in plans[1:] for each in chosen])
    rates, rows = best_rates(progress.rates), run.rows(asked)
    print(*table(rows), "", *bound_lines(asked, rates), "", transcripts_line(rows), sep="\n")
    for each in comparisons(rows):
        print(each.line())
    document = new_record(rows, args.threads, commit_of(ROOT))
    document |= {"conditions": header, "setup": setup, "left out": progress.left_out}
    document |= {"commit before": args.suite_before and commit_of(args.suite_before)}
    document |= {"work": asked._asdict(), "rates": rates}
    paths = [work / "engines.json", *([this_record()] if args.record else [])]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    draw(rows, f"{header[0]}\n{header[-1]}", work / "engines.png")
    print(f"written: {', '.join(map(str, [*paths, work / 'engines.png']))}")
    failed = [name for name in progress.left_out if ENTRIES[name].kind == SUITE and ENTRIES[name].precision in rates]
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
