#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast a user's own recordings are preprocessed: 44.1 kHz stereo WAV files, short ones and one of an hour.

Makes --count recordings of a minute, and one of an hour, which is cut into chunks. Runs preprocess.py on them with two
workers, three times in turn with its peer: soundfile and soxr alone, which decode, average and resample in two
processes, and write nothing. Needs 1.3 GB of disk. Peak memory is that of the largest single process (VmHWM).

    python test/bench/recordings.py --work_dir=/tmp/bench
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr
from chain import measure, print_row
from common import DEMO_MODEL, conditions, new_parser

from wav2vec2_eval import cli
from wav2vec2_eval.speech.audio import SAMPLE_RATE

RATE = 44_100
ROUNDS = 3


def write_recordings(folder: Path, count: int, minutes: int) -> Path:
    """Write stereo recordings, each of `minutes` minutes, unless they exist; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    minute = 0.05 * np.random.default_rng(0).standard_normal((60 * RATE, 2)).astype(np.float32)
    for index in range(count):
        path = folder / f"{index:04d}.wav"
        if not path.exists():
            with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
                for _ in range(minutes):
                    file.write(minute)
    return folder


def decode(path: Path) -> int:
    """What the peer does to a recording. Returns its number of samples at 16 kHz."""
    samples, rate = soundfile.read(path, dtype="float32")
    return len(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE))


def peer_seconds(folder: Path) -> float:
    """Seconds for all recordings of a folder, from the start of the processes."""
    start = time.perf_counter()
    with ProcessPoolExecutor(2) as executor:
        list(executor.map(decode, sorted(folder.iterdir())))
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=cli.integer(2), default=60, metavar="N", help="recordings of a minute")
    args = parser.parse_args(argv)
    short = write_recordings(args.work_dir / "minutes", args.count, 1)
    long = write_recordings(args.work_dir / "hour", 1, 60)
    print("\n".join(conditions("numpy", "soundfile", "soxr")))
    options = ("--which_dataset=custom", f"--model_name_or_path={DEMO_MODEL}", "--num_workers=2", "--gears=none")

    def preprocess(folder: Path, *more: str) -> tuple[float, float]:
        output = f"--pre_data_save_path=./pre_{folder.name}"
        return measure(
            "preprocess.py", output, f"--dataset_path={folder.resolve()}", *options, *more, cwd=args.work_dir
        )

    few = preprocess(short, "--limit=2")
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(preprocess(short))
        theirs.append(peer_seconds(short))
    hour = preprocess(long)
    rate = 60 * args.count / statistics.median(seconds for seconds, _ in ours)
    peer = 60 * args.count / statistics.median(theirs)
    peak_mb = max(peak for _, peak in ours)
    print_row(f"preprocess, {args.count} minutes, 2 workers", f"{rate:.0f} x real time", ">= 300 x", rate >= 300)
    print_row("soundfile and soxr alone, 2 processes, nothing written", f"{peer:.0f} x real time")
    print_row("preprocess, one hour in one file, 1 worker busy", f"{3600 / hour[0]:.0f} x real time")
    print_row("memory of the largest process: 2 minutes", f"{few[1]:.0f} MB")
    print_row(f"  {args.count} minutes", f"{peak_mb:.0f} MB", "flat (+- 30 MB)", abs(peak_mb - few[1]) < 30)
    print_row("  one hour in one file", f"{hour[1]:.0f} MB", "flat (+- 30 MB)", hour[1] - few[1] < 30)
    return 0


if __name__ == "__main__":
    cli.run(main)
