#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether the report can take a large set: time, memory and the size of its page.

Writes the scored results of two runs over --count utterances, as pyacl_infer.py with postprocess.py, and
pth_online_infer.py, would have written them; one word in 25 is wrong. Then runs the report on one of them, and on both.
Peak memory is VmHWM, as Linux counts it. Needs about 1 KB of disk for each utterance.

    python test/bench/report.py --work_dir=/tmp/bench
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from chain import print_row
from common import LENGTHS, ROOT, conditions, memory_kb, new_parser

from wav2vec2_eval import cli
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.journal import HEADER, Finished, Output, format_finished
from wav2vec2_eval.files.names import (
    INFER_TIME_NAME,
    JOURNAL_NAME,
    JSON_LINES_NAME,
    MANIFEST_NAME,
    PAGE_NAME,
    SCORES_NAME,
    UTTERANCES_NAME,
    WER_NAME,
)
from wav2vec2_eval.files.run import Run
from wav2vec2_eval.files.scored import Scored, Transcript, format_header, format_json, format_row, score
from wav2vec2_eval.files.scores import format_wer
from wav2vec2_eval.files.utterances import Utterance, format_utterance
from wav2vec2_eval.speech.audio import SAMPLE_RATE, frame_count
from wav2vec2_eval.speech.latency import Latency, format_figures, summarise
from wav2vec2_eval.speech.padding import GEARS
from wav2vec2_eval.speech.totals import Totals

DISTINCT = 3000  # texts; they come again with other ids
WRONG = 0.04
MS_PER_SECOND = 10  # of speech
MOST_S, MOST_MB, MOST_PAGE_MB = 60, 500, 3


def score_texts(seed: int) -> list[Scored]:
    """Texts of about 17 words, with wrong words that depend on the seed."""
    chance = random.Random(0)
    words = [f"{'ABCDEFGHIJ'[number % 10]}{number}" for number in range(20_000)]
    texts = [" ".join(words[int(chance.paretovariate(0.7)) % len(words)] for _ in range(17)) for _ in range(DISTINCT)]
    chance.seed(seed)
    wrong = [
        " ".join(chance.choice(words) if chance.random() < WRONG else word for word in text.split()) for text in texts
    ]
    return list(score(Transcript(Utterance("0", "x", 400, text), said) for text, said in zip(texts, wrong)))


def make_results(path: Path, count: int, seed: int, script: str) -> None:
    """Write a folder of scored results."""
    texts = score_texts(seed)
    chance = np.random.default_rng(seed)
    slowness = chance.uniform(0.9, 1.4, count)
    lengths = [LENGTHS[index % len(LENGTHS)] for index in range(count)]
    latencies = [
        Latency(pure_ms := MS_PER_SECOND * length / SAMPLE_RATE * slow, pure_ms * 1.1)
        for length, slow in zip(lengths, slowness)
    ]
    totals = Totals()

    def items() -> Iterator[Scored]:
        for index, length in enumerate(lengths):
            item = texts[index % DISTINCT]
            utterance = Utterance(
                str(index), f"{index // 500 + 1}-{index // 50}-{index:06d}", length, item.utterance.text
            )
            transcript = Transcript(utterance, item.hypothesis, latencies[index].pure_ms / 1000)
            yield Scored(transcript, item.raw)

    with output_folder(path, script) as folder:
        with folder.writing(SCORES_NAME) as table, folder.writing(JSON_LINES_NAME) as json_lines:
            table.write(format_header().encode())
            for item in items():
                totals.add(item.raw)
                table.write(format_row(item).encode())
                json_lines.write(format_json(item).encode())
        if script == "pyacl_infer.py":
            gears = [next(gear for gear in GEARS if gear >= length) for length in lengths]
            folder.write_text(
                MANIFEST_NAME, "".join(f"{key} ./pre_data/x/{key}.bin (1,{gear})\n" for key, gear in enumerate(gears))
            )
            folder.write_text(UTTERANCES_NAME, "".join(format_utterance(item.utterance) for item in items()))
            dtype = np.dtype("float32")
            rows = (
                format_finished(str(key), Finished(latency, (Output(dtype, (1, frame_count(gear), 32)),)))
                for key, (latency, gear) in enumerate(zip(latencies, gears))
            )
            folder.write_text(JOURNAL_NAME, HEADER + "".join(rows))
        folder.write_text(WER_NAME, format_wer(totals.words, totals.more()))
        times = summarise(latencies, lengths_s=[length / SAMPLE_RATE for length in lengths])
        folder.write_text(INFER_TIME_NAME, format_figures(times))
        data = Run(which_dataset="train-other-500", padded=script == "pyacl_infer.py", utterances=count)
        folder.write_run(Run(script, engine=f"engine {seed}", precision="float32", warm_up=1, data=data))


def measure(output: Path, *folders: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB of a report."""
    command = [sys.executable, "-m", "wav2vec2_eval.report", *map(str, folders), f"--output={output}"]
    start, peak_kb = time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak_kb = max(peak_kb, memory_kb(process.pid))
        time.sleep(0.02)
    if process.returncode:
        raise SuiteError(f"the report ended with status {process.returncode}")
    return time.perf_counter() - start, peak_kb / 1024


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=cli.integer(2), default=300_000, metavar="N", help="utterances")
    args = parser.parse_args(argv)
    work = args.work_dir.resolve()
    folders = [work / "suite", work / "pytorch"]
    for seed, (folder, script) in enumerate(zip(folders, ("pyacl_infer.py", "pth_online_infer.py"))):
        if not (folder / INFER_TIME_NAME).exists():
            make_results(folder, args.count, seed, script)
    print("\n".join(conditions("numpy", "jiwer", "matplotlib", "jinja2")))
    for number in (1, 2):
        seconds, peak_mb = measure(work / "report", *folders[:number])
        what = f"report, {args.count} utterances, runs: {number}"
        print_row(f"{what}, time", f"{seconds:.1f} s", f"<= {MOST_S} s", seconds <= MOST_S)
        print_row(f"{what}, memory", f"{peak_mb:.0f} MB", f"<= {MOST_MB} MB", peak_mb <= MOST_MB)
        page_mb = (work / "report" / PAGE_NAME).stat().st_size / 1e6
        print_row(f"{what}, page", f"{page_mb:.2f} MB", f"< {MOST_PAGE_MB} MB", page_mb < MOST_PAGE_MB)
    return 0


if __name__ == "__main__":
    cli.run(main)
