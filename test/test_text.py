# SPDX-License-Identifier: Apache-2.0
"""Proves that whatever stands in the place of a text file gives its content or one line of error, and never a wait."""

from __future__ import annotations

import os
import socket

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.text import parse_json, read_bytes, read_text


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


PLACES = {
    "nothing": lambda path: None,
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": make_socket,
    "below a file": lambda path: path.parent.rmdir() or path.parent.touch(),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_is_refused(tmp_path, place):
    path = tmp_path / "sub/x.txt"
    path.parent.mkdir()
    PLACES[place](path)
    with pytest.raises((SuiteError, OSError)) as raised:
        read_bytes(path, "do this")
    assert isinstance(raised.value, SuiteError) or raised.value.filename


@pytest.mark.parametrize("content", [b"", b"text\n", "Čapek\n".encode(), b"\0"])
def test_utf_8_is_read(tmp_path, content):
    (tmp_path / "x.txt").write_bytes(content)
    assert read_text(tmp_path / "x.txt", "do this").encode() == content


@pytest.mark.parametrize("content", [b"\xd6", b"A\xff\xfe", "\ud800".encode("utf-8", "surrogatepass")])
def test_other_bytes_are_refused(tmp_path, content):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(SuiteError, match=r"x\.txt: expected UTF-8 text, found other bytes; do this"):
        read_text(tmp_path / "x.txt", "do this")


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000, '{"a":' * 100_000, "9" * 5_000, '"\\ud800"', "nul"])
def test_broken_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize(("text", "value"), [("{}", {}), ('["a", 1]', ["a", 1]), ('"\\ud83d\\ude00"', "😀")])
def test_json_is_read(text, value):
    assert parse_json(text) == value
