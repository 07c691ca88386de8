#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How speed and memory grow with the work: utterances of 1 to 35 s, on one thread and on all threads.

The engines and models are those of engines.py, and so is the bound of the machine, of which the table has the share
that each engine reaches. Each engine runs in its own process for each number of threads. The memory is the peak of that
process after the utterances of this length and of all shorter ones. Prints a table; writes scaling.json and
scaling.png.

    python test/bench/scaling.py --work_dir=/tmp/bench
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bound import Bound, Shape, best_rates, bound_rtfx, read_shape, work_per_second
from common import conditions, make_model, new_figure, new_parser
from engines import CALIBRATION_NOISE, PACKAGES, Bench, with_exports
from peers import ENTRIES, Round, Setup

from wav2vec2_eval import cli
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.machine.cpu import default_threads
from wav2vec2_eval.speech.audio import SAMPLE_RATE

NAMES = ("pytorch-f32", "suite-f32", "suite-bf16", "suite-int8")
SECONDS = (1, 2, 5, 8, 15, 34.9)  # the last gear holds 35.0 s
AUDIO_S = 60  # of each length in a round


class Point(NamedTuple):
    """One engine, number of threads and length of utterance."""

    engine: str
    threads: int
    utterance_s: float
    rtfx: float
    peak_mb: float
    bound_rtfx: float  # at the sizes of the model's own layers


def prepare(bench: Bench) -> list[str]:
    """Export the models, and let each engine write its cache. Returns the engines that this processor can run."""
    bench.make_models(NAMES)
    found = []
    for name in NAMES:
        try:
            bench.open_worker(name).close()
            found.append(name)
        except SuiteError as error:
            print(f"{ENTRIES[name].title}: left out: {error}")
    return found


def measure(bench: Bench, names: Sequence[str], shape: Shape, rounds: int) -> Iterator[Point]:
    """Short utterances first; within each round, the engines in turn, and then the bound."""
    threads = bench.setup.threads
    workers = {name: bench.open_worker(name) for name in names}
    bound = Bound(shape, threads, bench.work / "logs/bound.txt")
    for seconds in SECONDS:
        lengths = [round(seconds * SAMPLE_RATE)] * max(2, round(AUDIO_S / seconds))
        found: dict[str, list[Round]] = {name: [] for name in names}
        rates = []
        for number in range(rounds + 1):
            for name in names[:: 1 if number % 2 else -1]:
                found[name].append(workers[name].run(lengths))
            rates.append(bound.rates())
        work = work_per_second(shape, lengths[:1])
        for name, results in found.items():
            taken_s = median(result.seconds for result in results[1:])  # the first round is the warm-up
            rtfx = sum(lengths) / SAMPLE_RATE / taken_s
            most = bound_rtfx(work, best_rates(rates), ENTRIES[name].precision) or 0.0
            yield Point(ENTRIES[name].title, threads, seconds, rtfx, results[-1].peak_mb, most)
    for process in (*workers.values(), bound):
        process.close()


def draw(points: list[Point], title: str, path: Path) -> None:
    figure = new_figure(11, 4)
    speed, memory = figure.subplots(1, 2)
    most = max(point.threads for point in points)
    names = list(dict.fromkeys(point.engine for point in points))
    for name, colour in zip(names, ("0.5", "tab:green", "tab:blue", "tab:red")):
        for threads in sorted({point.threads for point in points}):
            chosen = [point for point in points if (point.engine, point.threads) == (name, threads)]
            lengths = [point.utterance_s for point in chosen]
            style = {"color": colour, "linestyle": "-" if threads == most else "--", "marker": "o"}
            label = f"{name}, {threads} thread{'s' * (threads > 1)}"
            speed.plot(lengths, [point.rtfx for point in chosen], label=label, **style)
            memory.plot(lengths, [point.peak_mb for point in chosen], label=label, **style)
    speed.set(xlabel="utterance, s", ylabel="RTFx", ylim=0)
    memory.set(xlabel="utterance, s", ylabel="peak memory, MB", ylim=0)
    speed.grid(alpha=0.3)
    memory.grid(alpha=0.3)
    figure.legend(*memory.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    parser.add_argument(
        "--rounds",
        type=cli.integer(1),
        default=3,
        metavar="N",
        help="timed rounds of each length, after one to warm up",
    )
    args = parser.parse_args(argv)
    work: Path = args.work_dir
    header = conditions(*PACKAGES)
    print(*header, sep="\n")
    model = str(make_model(work / "model"))
    setup = with_exports(Setup(model, "", default_threads(), CALIBRATION_NOISE), work)
    bench = Bench(work, setup, setup, None)
    names, shape = prepare(bench), read_shape(setup.model)
    points: list[Point] = []
    for threads in sorted({1, setup.threads}):
        points += measure(bench._replace(setup=setup._replace(threads=threads)), names, shape, args.rounds)
    print("| engine | threads | utterance (s) | RTFx | of the bound (%) | peak memory (MB) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for point in points:
        share = 100 * point.rtfx / point.bound_rtfx
        figures = f"{point.utterance_s} | {point.rtfx:.1f} | {share:.0f} | {point.peak_mb:.0f}"
        print(f"| {point.engine} | {point.threads} | {figures} |")
    document = {"conditions": header, "points": [point._asdict() for point in points]}
    (work / "scaling.json").write_text(json.dumps(document, indent=2) + "\n")
    draw(points, header[0], work / "scaling.png")
    print(f"written: {work / 'scaling.json'}, {work / 'scaling.png'}")
    return 0


if __name__ == "__main__":
    cli.run(main)
