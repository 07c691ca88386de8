# SPDX-License-Identifier: Apache-2.0
"""Which gears to compile: the K lengths that waste the least computing on a given set of utterances.

    python -m wav2vec2_eval.gears --lengths=./pre_data/clean/utterances.tsv --count=16 --output=gears.txt

Prints how much the padding adds for several numbers of gears, and for the uniform 56, and writes the best `--count`
gears, one per line, for preprocess.py --gears and onnx2om.sh --gears_from. Fewer gears compile faster into a smaller
model. Cost model: computing is proportional to the padded length. (Attention's quadratic part is left out: of
base-960h's multiplications it is 6 % at 10 s and 18 % at 35 s.)
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import cli
from .errors import SuiteError
from .files.atomic import new_file
from .files.names import UTTERANCES_NAME
from .files.parts import Parts
from .files.run import read_run
from .machine.terminal import say
from .speech.audio import LONGEST, RECEPTIVE_FIELD, is_length
from .speech.chunks import plan
from .speech.padding import GEARS, padded_length

SHOWN_COUNTS = (8, 16, 32, 56)
MOST_GEARS = 100  # CANN compiles no more
LONGEST_LINE = 100_000  # characters

_NUMBER = re.compile(r"\d{1,12}", re.ASCII)  # of samples, of a recording that is cut
_EXPECTED = f"expected lengths of {RECEPTIVE_FIELD} to {LONGEST} samples, one per line"


def read_lengths(path: Path) -> list[int]:
    """Lengths in samples from a file with one per line, or from utterances.tsv: of long recordings their chunks."""
    if not path.is_file():
        raise SuiteError(f"{path}: no such file; expected lengths in samples, one per line, or an utterances.tsv")
    lengths: list[int] = []
    chunking = Parts(read_run(path.parent)).chunking if path.name == UTTERANCES_NAME else None
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(LONGEST_LINE):
            row = line.split("\t")
            field = row[2] if len(row) in (4, 5) else line.strip()
            if is_length(field) or (chunking is not None and _NUMBER.fullmatch(field)):
                lengths += [chunk.num_samples for chunk in plan(int(field), chunking)]
            elif field:
                raise SuiteError(f"{path}: {_EXPECTED}, found {field[:40]!r}")
    if not lengths:
        raise SuiteError(f"{path}: {_EXPECTED}, found none")
    return lengths


def waste(lengths: Sequence[int], gears: Sequence[int]) -> float:
    """The share by which padding to `gears` lengthens the utterances: 0.04 is 4 % more samples."""
    return sum(padded_length(length, gears) for length in lengths) / sum(lengths) - 1


def best_gears(lengths: Sequence[int], count: int) -> list[int]:
    """The `count` gears, ascending, that minimise the sum of the padded lengths; the last holds the longest utterance.

    Exact, by dynamic programming over the distinct lengths. A best gear always equals one of these lengths: a gear
    between two lengths can be lowered to the shorter length and still holds the same utterances.
    """
    distinct, repeats = np.unique(np.asarray(lengths, dtype=np.int64), return_counts=True)
    held = np.concatenate([[0], np.cumsum(repeats)])  # utterances up to each distinct length
    size = len(distinct)
    count = min(count, size)
    # cost[j]: least sum of padded lengths of the first j distinct lengths with the gears so far.
    cost = np.concatenate([[0], distinct * held[1:]])  # with one gear
    choices = []
    for _ in range(count - 1):
        better, choice = cost.copy(), np.zeros(size + 1, dtype=np.int64)
        for end in range(1, size + 1):
            # The last gear is distinct[end - 1]; it holds all lengths after the first `start` lengths.
            candidates = cost[:end] + distinct[end - 1] * (held[end] - held[:end])
            choice[end] = candidates.argmin()
            better[end] = candidates[choice[end]]
        choices.append(choice)
        cost = better
    gears, end = [], size
    for choice in reversed(choices):
        gears.append(int(distinct[end - 1]))
        end = choice[end]
        if end == 0:
            break
    if end:
        gears.append(int(distinct[end - 1]))
    return sorted(gears)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.add_argument("--lengths", required=True, type=cli.path, metavar="FILE", help="lengths, or an utterances.tsv")
    parser.add_argument("--count", required=True, type=cli.integer(1, MOST_GEARS), metavar="K", help="how many gears")
    parser.add_argument(
        "--output", type=cli.path, metavar="FILE", help="a new file for the gears, else they are printed"
    )
    cli.add_quiet_option(parser)
    return parser.parse_args(argv)


def write_gears(path: Path, gears: Sequence[int]) -> None:
    """Write one gear per line to a new file. An existing file is kept, and is an error unless it says the same."""
    content = "".join(f"{gear}\n" for gear in gears).encode()
    try:
        with new_file(path) as file:
            file.write(content)
    except FileExistsError:
        if not (path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content):
            raise SuiteError(f"{path}: expected a name for a new file, found one with other content") from None


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    lengths = read_lengths(args.lengths)
    say(f"{len(lengths)} utterances, {min(lengths)} to {max(lengths)} samples")
    for count in sorted({*SHOWN_COUNTS, args.count}):
        say(f"{count:4d} best gears: padding adds {100 * waste(lengths, best_gears(lengths, count)):5.2f} %")
    if max(lengths) <= GEARS[-1]:
        say(f"{len(GEARS):4d} uniform gears: padding adds {100 * waste(lengths, GEARS):5.2f} %")
    gears = best_gears(lengths, args.count)
    if args.output:
        write_gears(args.output, gears)
        print(f"written: {args.output}")
    else:
        print(",".join(map(str, gears)))
    return 0


if __name__ == "__main__":
    cli.run(main)
