# SPDX-License-Identifier: Apache-2.0
"""Proves that the journal is read as it was written, that a cut last line is ignored, and a malformed line refused."""

from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.file_list import Source
from wav2vec2_eval.files.journal import HEADER, Finished, Output, format_finished, read_journal
from wav2vec2_eval.speech.latency import Latency

FLOATS = Output(np.dtype("float32"), (1, 3, 32))
IDS = Output(np.dtype("int64"), (7,))


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (Finished(Latency(1.5, 2.25), (FLOATS, IDS)), "k\t1.500000\t2.250000\t-\t-\tfloat32 (1,3,32)\tint64 (7)\n"),
        (
            Finished(Latency(0.000001, 3, 0.5, 0.25), (IDS,)),
            "k\t0.000001\t3.000000\t0.500000\t0.250000\tint64 (7)\n",
        ),
    ],
)
def test_a_line_is_read_as_it_was_written(tmp_path, item, line):
    assert format_finished("k", item) == line
    (tmp_path / "results.tsv").write_text(line)
    assert read_journal(Source(tmp_path)) == {"k": item}


@pytest.mark.parametrize("header", ["", HEADER])  # an older version wrote none
def test_a_cut_last_line_is_ignored(tmp_path, header):
    lines = [format_finished(key, Finished(Latency(1, 2), (FLOATS,))) for key in ("a", "key")]
    text = header + "".join(lines)
    for end in range(len(text) + 1):
        (tmp_path / "results.tsv").write_text(text[:end])
        whole = text[:end].count("\n") - bool(header)
        assert list(read_journal(Source(tmp_path))) == ["a", "key"][: max(whole, 0)]


def test_the_header_names_every_field(tmp_path):
    line = format_finished("k", Finished(Latency(1, 2), (FLOATS,)))
    assert len(line.split("\t")) == len(HEADER.split("\t"))


@pytest.mark.parametrize("header", [HEADER.upper(), HEADER.replace("wall_ms", "ms"), HEADER * 2])
def test_another_header_is_refused(tmp_path, header):
    (tmp_path / "results.tsv").write_text(header)
    with pytest.raises(SuiteError, match=r"results\.tsv, line [12]: malformed"):
        read_journal(Source(tmp_path))


def test_a_missing_journal_is_refused(tmp_path):
    with pytest.raises(SuiteError, match=r"results\.tsv: no such file"):
        read_journal(Source(tmp_path))


@pytest.mark.parametrize(
    "line",
    [
        "a",
        "a\t1",
        "a\tx\t1\t-\t-\tint8 (1)",
        "a\t1\t1\t-\tint8 (1)",
        "a\t1\t1\t-\t-",
        "a\t1\t1\t-\t-\tint7 (1)",
        "a\t1\t1\t-\t-\tint8 [1]",
        "a\t1\t1\t-\t-\tint8 ()",
        "a\t-1\t1\t-\t-\tint8 (1)",
        "a\tnan\t1\t-\t-\tint8 (1)",
        "a\t1\tinf\t-\t-\tint8 (1)",
        "a\t-\t1\t-\t-\tint8 (1)",
        f"a\t1\t1\t-\t-\tint8 ({'9' * 5_000})",
        "",
    ],
)
def test_a_malformed_journal_is_refused(tmp_path, line):
    (tmp_path / "results.tsv").write_text(f"{line}\n")
    with pytest.raises(SuiteError, match=r"results\.tsv, line 1: malformed"):
        read_journal(Source(tmp_path)).check()


@pytest.mark.parametrize("content", [b"\xff\t1\t1\t-\t-\tint8 (1)\n", b"a\t1\xd6\n"])
def test_bytes_that_are_no_text_are_refused(tmp_path, content):
    (tmp_path / "results.tsv").write_bytes(content)
    with pytest.raises(SuiteError, match=r"results\.tsv, line 1: expected UTF-8"):
        read_journal(Source(tmp_path))
