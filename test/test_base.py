# SPDX-License-Identifier: Apache-2.0
"""Proves which ids and texts a data set may have, and that no file of a data set is missed or read twice."""

from __future__ import annotations

import os
import socket

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources import base
from wav2vec2_eval.sources.packed import PackedStrings


@pytest.mark.parametrize("utterance_id", ["61-1-1", "61-1-1 b", "ä/€", "../x", "a\u00a0b"])
def test_ids_that_fit_into_a_table_are_accepted(utterance_id):
    base.check_utterance(utterance_id, "TEXT", "x.parquet")


@pytest.mark.parametrize(
    "utterance_id",
    [None, 5, b"a", "", "a\tb", "a\nb", "a\rb", "a\0", "\x1b[2J", "a\x85b", "a\u2028b", "a\u2029b", "a\x0bb", "\ud800"],
)
def test_ids_that_fit_into_no_table_are_refused(utterance_id):
    with pytest.raises(SuiteError, match=r"^x\.parquet: expected an utterance id without tabs") as error:
        base.check_utterance(utterance_id, "TEXT", "x.parquet")
    error.value.args[0].encode()  # can be printed


@pytest.mark.parametrize("text", ["", "HELLO", "ä\u00a0€", "a\tb\nc\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029d"])
def test_texts_may_hold_white_space_of_any_kind(text):
    base.check_utterance("1", text, "x.parquet")
    assert len(" ".join(text.split()).splitlines()) <= 1  # what a table makes of it


@pytest.mark.parametrize("text", [None, 5, 1.5, b"a", ["a"], "a\0", "a\x1bb", "a\x7f", "\ud800"])
def test_other_texts_are_refused_with_the_id(text):
    with pytest.raises(SuiteError, match=r"^x\.parquet: expected a text .* for utterance 61-1-1, found") as error:
        base.check_utterance("61-1-1", text, "x.parquet")
    error.value.args[0].encode()


def test_a_repeated_id_is_refused_with_both_places():
    base.check_unique(PackedStrings(["a", "A", "b"]), str)
    with pytest.raises(SuiteError, match=r"^utterance b is there twice \(file 1 and file 2\); remove one"):
        base.check_unique(PackedStrings(["a", "b", "b", "a"]), lambda index: f"file {index}")


@pytest.fixture
def tree(tmp_path):
    """tmp_path/tree with a/1.flac and a/b/2.flac, and a file of another kind."""
    (tmp_path / "tree/a/b").mkdir(parents=True)
    for name in ("a/1.flac", "a/b/2.flac", "a/notes.txt"):
        (tmp_path / "tree" / name).touch()
    return tmp_path / "tree"


def found(tree):
    return [str(path.relative_to(tree)) for path in base.find_files(tree, ".flac")]


def test_files_are_found_in_the_order_of_their_paths(tree):
    (tree / "a-b.flac").touch()
    assert found(tree) == ["a/1.flac", "a/b/2.flac", "a-b.flac"]
    (tree / "a/b/1.wav").touch()
    assert list(base.walk(tree, ".flac", ".wav")) == [
        (str(tree), ["a-b.flac"]),
        (f"{tree}/a", ["1.flac"]),
        (f"{tree}/a/b", ["1.wav", "2.flac"]),
    ]


@pytest.mark.parametrize(
    ("links", "names"),
    [
        ({"loop": "."}, ["a/1.flac", "a/b/2.flac"]),
        ({"a/b/up": "../..", "a/b/self": "."}, ["a/1.flac", "a/b/2.flac"]),
        ({f"a/loop{number}": ".." for number in range(9)}, ["a/1.flac", "a/b/2.flac"]),
        ({"0": "a/b", "1": "a/b"}, ["0/2.flac", "a/1.flac"]),
        ({"z": "a"}, ["a/1.flac", "a/b/2.flac"]),
        ({"a/3.flac": "1.flac"}, ["a/1.flac", "a/3.flac", "a/b/2.flac"]),
        ({"outside": "../data"}, ["a/1.flac", "a/b/2.flac", "outside/4.flac"]),
    ],
)
def test_each_real_folder_is_visited_once(tree, links, names):
    """Otherwise links that point upwards take for ever, and links to one folder double its files."""
    (tree.parent / "data").mkdir()
    (tree.parent / "data/4.flac").touch()
    for name, target in links.items():
        (tree / name).symlink_to(target)
    assert found(tree) == names


def bind(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("3.flac", os.mkfifo, "expected a regular file"),
        ("3.flac", bind, "expected a regular file"),
        ("3.flac", lambda path: path.symlink_to("/dev/null"), "expected a regular file"),
        ("3.flac", lambda path: path.symlink_to("nowhere"), "cannot be read"),
        ("3.flac", lambda path: path.symlink_to(path.name), "cannot be read"),
        ("speaker", lambda path: path.symlink_to("/not/mounted"), "cannot be read"),
    ],
)
def test_what_is_no_file_is_refused_with_its_path(tree, monkeypatch, name, make, message):
    monkeypatch.chdir(tree / "a")  # the path of a socket must be short
    make((tree / "a" / name).relative_to(tree / "a"))
    with pytest.raises(SuiteError, match=f"^{tree}/a/{name}: {message}"):
        found(tree)


def test_pipes_and_sockets_of_other_names_are_ignored(tree):
    os.mkfifo(tree / "pipe")
    assert found(tree) == ["a/1.flac", "a/b/2.flac"]


def test_a_folder_that_cannot_be_read_is_not_skipped(tree, monkeypatch):
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("a/b"):
            raise PermissionError(13, "Permission denied", folder)  # root may read everything
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SuiteError, match=rf"^{tree}/a/b: cannot be read \(Permission denied\)"):
        found(tree)
