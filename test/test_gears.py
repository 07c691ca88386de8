# SPDX-License-Identifier: Apache-2.0
"""Proves that best_gears finds the gears with the least padding, and that --gears reads what the command writes."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from wav2vec2_eval import gears
from wav2vec2_eval.cli import parse_gears
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.speech.padding import GEARS

from conftest import endless_file

TEST_CLEAN = Path(__file__).parent / "bench/test_clean_lengths.txt"


def by_trying_all(lengths, count):
    """The least sum of padded lengths over all sets of `count` gears from the distinct lengths."""
    distinct = sorted(set(lengths))
    best = min(
        sum(min(gear for gear in chosen if gear >= length) for length in lengths)
        for chosen in combinations(distinct, min(count, len(distinct)))
        if chosen[-1] == distinct[-1]
    )
    return best / sum(lengths) - 1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [1, 2, 3, 5, 99])
def test_best_gears_are_the_best(seed, count):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(400, 430 + 10 * seed, generator.integers(1, 12)).tolist()
    found = gears.best_gears(lengths, count)
    assert len(found) <= count
    assert found == sorted(set(found))
    assert found[-1] == max(lengths)
    assert gears.waste(lengths, found) == pytest.approx(by_trying_all(lengths, count), abs=1e-12)


def test_best_gears_halve_the_padding_of_test_clean():
    lengths = gears.read_lengths(TEST_CLEAN)
    assert (len(lengths), max(lengths)) == (2620, 559_280)
    assert gears.waste(lengths, GEARS) == pytest.approx(0.0418, abs=5e-5)
    assert gears.waste(lengths, gears.best_gears(lengths, 56)) < 0.0418 / 2


def test_the_command_writes_or_prints_the_gears(chain, tmp_path, capsys):
    output = tmp_path / "gears.txt"
    lengths = chain / "pre_data/clean/utterances.tsv"
    assert gears.main([f"--lengths={lengths}", "--count=2", f"--output={output}"]) == 0
    assert parse_gears(str(output)) == (10_000, 33_361)
    assert "56 uniform gears: padding adds 35.51 %" in capsys.readouterr().out
    gears.main([f"--lengths={lengths}", "--count=1"])
    assert capsys.readouterr().out.endswith("\n33361\n")
    gears.main([f"--lengths={lengths}", "--count=1", "--quiet"])
    assert capsys.readouterr().out == "33361\n"


def test_long_recordings_count_with_their_chunks(tmp_path):
    """A day of audio is no gear; its chunks of a second are."""
    path = tmp_path / "utterances.tsv"
    path.write_text(f"0\tday\t{24 * 3600 * 16_000}\t\tno reference\n1\tshort\t9000\tA\n")
    (tmp_path / "run.json").write_text(
        '{"script": "preprocess.py", "format": 2, "chunk_samples": 16000, "stride_samples": 3200}'
    )
    lengths = gears.read_lengths(path)
    assert (len(lengths), set(lengths)) == (144_001, {16_000, 9_600, 9_000})
    (tmp_path / "run.json").unlink()
    with pytest.raises(SuiteError, match="expected lengths of 400 to"):
        gears.read_lengths(path)


@pytest.mark.parametrize(
    "content",
    [None, "", "abc\n", "399\n", "500\n-1\n", "1.5\n", f"{10**20}\n", f"{2**62}\n", "9" * 5000, "0\tid\t399\tTEXT\n"],
)
def test_read_lengths_refuses(tmp_path, content):
    path = tmp_path / "lengths.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SuiteError, match=r"lengths\.txt") as error:
        gears.read_lengths(path)
    assert len(str(error.value)) < 300 + len(str(path))


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_read_lengths_reads_no_file_without_end(tmp_path, kind):
    path = endless_file(tmp_path, kind)
    with pytest.raises(SuiteError, match="expected lengths"):
        gears.read_lengths(path)


def not_ours(path):
    path.write_text("my notes\n")


def longer(path):
    path.write_text("10000\n33361\n40000\n")


def a_link_to_nothing(path):
    path.symlink_to("nothing")


@pytest.mark.parametrize("make", [not_ours, longer, a_link_to_nothing, Path.mkdir, os.mkfifo])
def test_no_file_is_replaced(chain, tmp_path, make):
    path = tmp_path / "gears.txt"
    make(path)
    before = path.read_text() if path.is_file() else None
    with pytest.raises(SuiteError, match=r"gears\.txt: expected a name for a new file"):
        gears.main([f"--lengths={chain / 'pre_data/clean/utterances.tsv'}", "--count=2", f"--output={path}"])
    assert (path.read_text() if path.is_file() else None) == before
    assert [each.name for each in tmp_path.iterdir()] == ["gears.txt"]


def test_the_same_gears_may_be_written_again(chain, tmp_path):
    for _ in range(2):
        gears.main([f"--lengths={chain / 'pre_data/clean/utterances.tsv'}", "--count=2", f"--output={tmp_path / 'g'}"])
    assert (tmp_path / "g").read_text() == "10000\n33361\n"
