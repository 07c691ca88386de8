# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from wav2vec2_eval import manifest
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.manifest import Entry, Utterance


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("0 ./pre_data/clean/0.bin (1,160000)", Entry("0", Path("pre_data/clean/0.bin"), (1, 160_000))),
        ("7 /data/my set (new)/7.bin (1,10000)", Entry("7", Path("/data/my set (new)/7.bin"), (1, 10_000))),
        ("a-b_c.d x.bin (3,)", Entry("a-b_c.d", Path("x.bin"), (3,))),
        ("0 x.bin (1, 2, 3)", Entry("0", Path("x.bin"), (1, 2, 3))),
        ("0 x.bin (400)\n", Entry("0", Path("x.bin"), (400,))),
    ],
)
def test_parse_line(line, entry):
    assert manifest.parse_line(line) == entry


@pytest.mark.parametrize(
    "line",
    [
        "",
        "0",
        "0 x.bin",
        "0 (1,2)",
        "0 x.bin ()",
        "0 x.bin (,)",
        "0 x.bin (1,,2)",
        "0 x.bin (0,5)",
        "0 x.bin (-1,5)",
        "0 x.bin (1.5)",
        "0 x.bin 1,5",
        "0 x.bin (__import__('os').system('touch pwned'))",
        "0 x.bin (exit())",
        "../0 x.bin (1,5)",
        "a/b x.bin (1,5)",
        ".. x.bin (1,5)",
        ".hidden x.bin (1,5)",
        "0 x.bin (\u0661,\u0665)",
    ],
)
def test_parse_line_refuses(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError):
        manifest.parse_line(line)
    assert not list(tmp_path.iterdir())


def test_format_and_parse_are_inverse():
    line = manifest.format_line("3", "./my data/3.bin", (1, 20_000))
    assert line == "3 ./my data/3.bin (1,20000)"
    assert manifest.parse_line(line) == Entry("3", Path("my data/3.bin"), (1, 20_000))


def test_read_manifest_groups_the_inputs_of_an_utterance(tmp_path):
    path = tmp_path / "bin_file.info"
    path.write_text("0 0.bin (1,5)\n0 0.mask.bin (1,5)\n1 1.bin (1,6)\n1 1.mask.bin (1,6)\n")
    utterances = manifest.read_manifest(path)
    assert {key: [entry.path.name for entry in entries] for key, entries in utterances.items()} == {
        "0": ["0.bin", "0.mask.bin"],
        "1": ["1.bin", "1.mask.bin"],
    }


def test_read_manifest_finds_tensors_beside_itself_when_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "bin_file.info").write_text("0 ./pre_data/clean/0.bin (1,5)\n")
    assert manifest.read_manifest(moved / "bin_file.info")["0"][0].path == moved / "0.bin"
    here = tmp_path / "pre_data/clean/0.bin"
    here.parent.mkdir(parents=True)
    here.touch()
    assert manifest.read_manifest(moved / "bin_file.info")["0"][0].path.samefile(here)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "empty"), (b"\xff\xfe\x00", "UTF-8"), (b"0 x (1,5)\nnonsense\n", "line 2")],
)
def test_read_manifest_refuses(tmp_path, content, message):
    path = tmp_path / "bin_file.info"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SuiteError, match=message):
        manifest.read_manifest(path)


def test_utterances_round_trip(tmp_path):
    utterances = [Utterance("0", "61-70968-0000", 78_480, "HE BEGAN"), Utterance("1", "x", 400, "")]
    path = tmp_path / "utterances.tsv"
    path.write_text(manifest.format_utterances(utterances))
    assert list(manifest.read_utterances(path).values()) == utterances


def test_utterances_keep_to_one_line():
    text = manifest.format_utterances([Utterance("0", "x", 400, "TWO\tWORDS\nMORE\u2028LINES")])
    assert text == "0\tx\t400\tTWO WORDS MORE LINES\n"


@pytest.mark.parametrize(
    "line", ["0\tx\t400", "0\tx\tmany\tA", "0\tx\t400\tA\tB", "../0\tx\t400\tA", "a\tx\t1\tA\na\tx\t1\tA"]
)
def test_read_utterances_refuses(tmp_path, line):
    path = tmp_path / "utterances.tsv"
    path.write_text(f"{line}\n")
    with pytest.raises(SuiteError):
        manifest.read_utterances(path)


def test_check_same_keys():
    manifest.check_same_keys({"a": 1}, {"a": 2}, "results")
    with pytest.raises(SuiteError, match=r"results: expected 2 keys, found 2: 1 missing \(b\), 1 extra \(c\)"):
        manifest.check_same_keys({"a": 1, "b": 1}, {"a": 1, "c": 1}, "results")
