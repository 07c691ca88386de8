# SPDX-License-Identifier: Apache-2.0
"""Proves that the list of a folder is read as it was appended, and that nothing but what was written is read as it."""

from __future__ import annotations

import zlib

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.file_list import HEADER, Content, Source, content_of, content_of_file, format_line, read_list
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.run import Run

HEAD = HEADER.decode()
CONTENT = Content(3, zlib.crc32(b"abc"))


@pytest.fixture
def folder(tmp_path):
    """A folder with a.txt, which was written, and begun.txt, which was not finished."""
    with output_folder(tmp_path, "a.py") as out:
        out.write_run(Run("a.py"))
        out.write_text("a.txt", "abc")
        out.begin("begun.txt")
    (tmp_path / "begun.txt").write_text("ab")
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", {}),
        ("a.bin\t-\t-\n", {"a.bin": None}),
        ("a.bin\t-\t-\na.bin\t3\t352441c2\n", {"a.bin": CONTENT}),
        ("a.bin\t3\t352441c2\na.bin\t-\t-\n", {"a.bin": None}),
        ("a.bin\t3\t352441c2\nb.bin\t3\t35", {"a.bin": CONTENT}),
        ("ä ö.txt\t0\t00000000\n", {"ä ö.txt": Content(0, 0)}),
        ("input/a.npy\t0\t00000000\n", {"input/a.npy": Content(0, 0)}),
    ],
)
def test_the_last_whole_line_of_a_name_counts(tmp_path, lines, expected):
    (tmp_path / "files.tsv").write_text(f"{HEAD}{lines}")
    found = read_list(tmp_path)
    assert found == expected
    rewritten = b"".join(format_line(name, found[name]) for name in found).decode()
    (tmp_path / "files.tsv").write_text(f"{HEAD}{rewritten}")
    assert read_list(tmp_path) == expected


@pytest.mark.parametrize(
    "content",
    [
        "",
        "mine",
        "file\tbytes\n",
        *(
            f"{HEAD}{line}\n"
            for line in (
                "",
                "a",
                "a\t1",
                "a\t1\t2\t3",
                "a\t-1\t00000000",
                "a\t1\tx",
                "a\t1\t0000000g",
                "a\t-\t00000000",
            )
        ),
        *(
            f"{HEAD}{name}\t1\t00000000\n"
            for name in ("../a", "/a", "a/b", ".", "..", "", "a\0", "a\u2028b", "input/..", "input/a/b")
        ),
        f"{HEAD}a\t{'9' * 5_000}\t00000000\n",
        f"{HEAD}a\t\u0663\t00000000\n",
        f"{HEAD}a\t3\t+0_1_2_3\n",
    ],
)
def test_what_is_no_list_is_refused(tmp_path, content):
    (tmp_path / "files.tsv").write_text(content)
    with pytest.raises(SuiteError, match=r"files\.tsv"):
        read_list(tmp_path).check()


def test_a_folder_without_a_list_is_read_as_it_is(tmp_path):
    (tmp_path / "a.txt").write_text("anything")
    source = Source(tmp_path)
    assert (source.list, source.run) == (None, None)
    assert source.has("a.txt")
    assert not source.has("b.txt")
    assert source.read("a.txt") == b"anything"


def test_what_was_written_is_read(folder):
    source = Source(folder)
    assert source.has("a.txt")
    assert source.read("a.txt") == b"abc"
    assert source.expected("a.txt") == content_of(b"abc") == content_of_file(folder / "a.txt") == CONTENT
    source.verify_file("a.txt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "abd", "damaged or replaced: expected 3 bytes with CRC-32 352441c2"),
        ("a.txt", "ab", "found 2 bytes"),
        ("a.txt", "abcd", "found 4 bytes"),
        ("a.txt", "\0\0\0", "damaged or replaced"),
        ("a.txt", None, "no such file"),
        ("begun.txt", "ab", "not finished"),
        ("mine.txt", "abc", r"not in files\.tsv, so no script wrote it"),
    ],
)
def test_anything_else_is_refused(folder, name, content, message):
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(SuiteError, match=message):
        Source(folder).read(name)
    with pytest.raises((SuiteError, FileNotFoundError), match="(?i)" + message):
        Source(folder).verify_file(name)
    with pytest.raises(SuiteError, match=message):
        list(Source(folder).lines(name))


def test_lines_are_read_one_by_one(folder, tmp_path):
    assert list(Source(folder).lines("a.txt")) == [b"abc"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/b.txt").write_bytes(b"one\r\n\ntwo\n")
    assert list(Source(tmp_path / "other").lines("b.txt")) == [b"one\r\n", b"\n", b"two\n"]


def test_a_missing_list_is_noticed(folder):
    (folder / "files.tsv").unlink()
    with pytest.raises(SuiteError, match=r"files\.tsv: no such file, but .* was written with one"):
        Source(folder)
