#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How speed and memory grow with the work: utterances of 1 to 35 s, on one thread and on all threads.

The engines and models are those of engines.py. Each engine runs in its own process for each number of threads. The
memory is the peak of that process after the utterances of this length and of all shorter ones. Prints a table; writes
scaling.json and scaling.png.

    python test/bench/scaling.py --work_dir=/tmp/bench
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from common import conditions, make_model, new_figure, new_parser
from engines import PACKAGES, PYTORCH, Round, Worker, make_models

from wav2vec2_eval import cli
from wav2vec2_eval.machine.cpu import default_threads
from wav2vec2_eval.speech.audio import SAMPLE_RATE

NAMES = (PYTORCH, "suite float32", "suite bfloat16", "suite int8")
SECONDS = (1, 5, 15, 34.9)  # the last gear holds 35.0 s
AUDIO_S = 60  # of each length in a round


class Point(NamedTuple):
    """One engine, number of threads and length of utterance."""

    engine: str
    threads: int
    utterance_s: float
    rtfx: float
    peak_mb: float


def measure(work: Path, rounds: int, thread_counts: list[int]) -> Iterator[Point]:
    """Short utterances first; within each round, the engines in turn."""
    for threads in thread_counts:
        workers = [Worker(name, work, threads) for name in NAMES]
        for seconds in SECONDS:
            lengths = [round(seconds * SAMPLE_RATE)] * max(2, round(AUDIO_S / seconds))
            found: dict[str, list[Round]] = {name: [] for name in NAMES}
            for number in range(rounds + 1):
                for worker in workers if number % 2 else reversed(workers):
                    found[worker.name].append(worker.run(lengths))
            for name, results in found.items():
                taken_s = median(result.seconds for result in results[1:])  # the first round is the warm-up
                rtfx = sum(lengths) / SAMPLE_RATE / taken_s
                yield Point(name, threads, seconds, rtfx, results[-1].peak_mb)
        for worker in workers:
            worker.close()


def draw(points: list[Point], title: str, path: Path) -> None:
    figure = new_figure(11, 4)
    speed, memory = figure.subplots(1, 2)
    most = max(point.threads for point in points)
    for name, colour in zip(NAMES, ("0.5", "tab:green", "tab:blue", "tab:red")):
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
    make_models(make_model(work / "model"), work / "models")
    for name in NAMES:  # each engine writes its cache now
        Worker(name, work, default_threads()).close()
    points = list(measure(work, args.rounds, sorted({1, default_threads()})))
    print("| engine | threads | utterance (s) | RTFx | peak memory (MB) |\n| --- | ---: | ---: | ---: | ---: |")
    for point in points:
        print(f"| {point.engine} | {point.threads} | {point.utterance_s} | {point.rtfx:.1f} | {point.peak_mb:.0f} |")
    document = {"conditions": header, "points": [point._asdict() for point in points]}
    (work / "scaling.json").write_text(json.dumps(document, indent=2) + "\n")
    draw(points, header[0], work / "scaling.png")
    print(f"written: {work / 'scaling.json'}, {work / 'scaling.png'}")
    return 0


if __name__ == "__main__":
    cli.run(main)
