# SPDX-License-Identifier: Apache-2.0
"""Proves that a table gives the rows of its lines, in any order of access, and refuses what is malformed."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.table import LONGEST_KEY, Table


def parse(lines):
    return [tuple(line.split("\t")) for line in lines]


def table(text, **options):
    content = text if isinstance(text, bytes) else text.encode()
    return Table(Path("t.tsv"), content, options.pop("parse", parse), "do this", **options)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("", {}, {}),
        ("a\t1\nb\t2\n", {}, {"a": [("a", "1")], "b": [("b", "2")]}),
        ("a\t1\nb\t2", {}, {"a": [("a", "1")], "b": [("b", "2")]}),
        ("a\t1\r\nb\r\n", {}, {"a": [("a", "1")], "b": [("b",)]}),
        ("ä\t\u2028\n", {}, {"ä": [("ä", "\u2028")]}),
        ("\n", {}, {"": [("",)]}),
        ("head\na\t1\n", {"header": b"head\n"}, {"a": [("a", "1")]}),
        ("head\n", {"header": b"head\n"}, {}),
        ("a 1\na 2\nb 3\n", {"separator": None, "grouped": True}, {"a": [("a 1",), ("a 2",)], "b": [("b 3",)]}),
        ("a\t1\nb\t2\na\t3\n", {"appended": True}, {"b": [("b", "2")], "a": [("a", "3")]}),
        ("a\t1\nb\t2", {"appended": True}, {"a": [("a", "1")]}),
        ("a\t1\na\t2\na\t3\n", {"appended": True}, {"a": [("a", "3")]}),
        ("a", {"appended": True}, {}),
        ("head\na\t1\nb", {"appended": True, "header": b"head\n"}, {"a": [("a", "1")]}),
    ],
)
def test_rows_are_found_by_their_key(text, options, expected):
    found = table(text, **options)
    assert dict(found) == expected
    assert list(found) == list(expected)
    assert len(found) == len(expected)
    assert dict(found.rows()) == expected
    assert [found[key] for key in reversed(expected)] == [expected[key] for key in reversed(expected)]
    assert "x" not in found
    assert found.get("x") is None


def test_rows_are_found_in_any_order():
    expected = {f"k{number}": [(f"k{number}", str(number))] for number in range(2_000)}
    found = table("".join(f"{key}\t{row[0][1]}\n" for key, row in expected.items()))
    keys = [*expected, *expected]
    random.Random(0).shuffle(keys)
    for key in keys:
        assert found[key] == expected[key]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a\t1\nb\t2\na\t3\n", {}, "line 3: a is there a second time; do this"),
        ("a 1\nb 2\na 3\n", {"separator": None, "grouped": True}, "line 3: a is there a second time"),
        ("a\n", {"header": b"head\n"}, "line 1: expected 'head'"),
        ("", {"header": b"head\n"}, "line 1: expected 'head'"),
        ("a 1\n  b 1\n", {"separator": None}, "line 2: malformed"),
        ("head", {"header": b"head\n"}, "line 1: expected 'head'"),
        (b"a\t1\n\xd6\t2\n", {}, "line 2: expected UTF-8"),
        (b"a\t1\nb\t\xff\n", {}, "line 2: expected UTF-8"),
        (b"a\t" + "\u00e4".encode() * (1 << 20) + b"\nb\t\xc3", {}, "line 2: expected UTF-8"),
        ("a\n" + "k" * (LONGEST_KEY + 1), {}, "line 2: malformed"),
    ],
)
def test_malformed_tables_are_refused(text, options, message):
    with pytest.raises(SuiteError, match=rf"t\.tsv, {message}"):
        table(text, **options)


@pytest.mark.parametrize("error", [ValueError("x"), IndexError("x"), SuiteError("x")])
def test_a_malformed_row_names_its_line(error):
    def parse_row(lines):
        if lines == ["b"]:
            raise error
        return lines

    found = table("a\nb\n", parse=parse_row)
    assert found["a"] == ["a"]
    for read in (found.check, lambda: found["b"]):
        with pytest.raises(SuiteError, match=r"t\.tsv, line 2: (malformed, 'b.*'; do this|x)"):
            read()


def test_keys_with_equal_hashes_are_told_apart(monkeypatch):
    monkeypatch.setattr("wav2vec2_eval.files.table.hash", len, raising=False)
    found = table("aa\t1\nbb\t2\nc\t3\n")
    assert [found[key][0][1] for key in ("bb", "c", "aa")] == ["2", "3", "1"]
    assert "cc" not in found


def is_buffer(value):
    return hasattr(value, "nbytes") or hasattr(value, "buffer_info")


def test_a_table_takes_little_more_memory_than_its_file():
    content = "".join(f"{number}\t{number}\n" for number in range(100_000)).encode()
    found = table(content)
    arrays = [memoryview(value) for value in vars(found).values() if not isinstance(value, bytes) and is_buffer(value)]
    assert 0 < sum(array.nbytes for array in arrays) <= 50 * len(found)
    assert not any(isinstance(value, (list, dict)) and sys.getsizeof(value) > 1_000 for value in vars(found).values())
