# SPDX-License-Identifier: Apache-2.0
"""Proves that every split of a local LibriSpeech tree has a name, from preprocessing to the table."""

from __future__ import annotations

import json
import shutil

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.report import command as report
from wav2vec2_eval.sources.choose import check_paths, open_dataset
from wav2vec2_eval.sources.splits import SPLITS, find_split, parse_name

from conftest import ORDER, run_ok, run_script

OTHERS = ("dev-other", "dev-clean-2", "train-clean-5", "train-clean-100", "my_split.v2")


@pytest.mark.parametrize("name", [*SPLITS, *OTHERS, "a", "7", "_x", "a" * 100])
def test_a_name_is_read_as_it_is(name):
    assert parse_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".dev", "-dev", "dev/other", "a b", "ä", "a\n", "a" * 101])
def test_what_cannot_name_a_folder_is_refused(name):
    with pytest.raises(
        SuiteError, match="expected validation, clean, other, custom, or a split's folder such as dev-other"
    ):
        parse_name(name)


def test_the_hub_has_the_first_three_only():
    for name in SPLITS:
        assert find_split(name, None) == find_split(name, "here") == SPLITS[name]
        check_paths(name, None, None)
    for read in (lambda: find_split("dev-other", None), lambda: check_paths("dev-other", None, None)):
        with pytest.raises(SuiteError, match=r"^--which_dataset=dev-other: from the hub only .* by --dataset_path$"):
            read()
    assert find_split("dev-other", "here").folder == "dev-other"


@pytest.fixture
def tree(speech, tmp_path):
    """A LibriSpeech tree whose splits are folders and links to folders."""
    root = tmp_path / "data/LibriSpeech"
    for name in OTHERS[:-1]:
        shutil.copytree(speech / "test-clean", root / name)
    (root / OTHERS[-1]).symlink_to(speech / "test-clean")
    (root / "BOOKS.TXT").write_text("a list")
    (root / "books/ascii").mkdir(parents=True)
    return root


@pytest.mark.parametrize("name", OTHERS)
def test_a_split_is_found_from_every_place(tree, name):
    places = [tree, tree.parent]
    if not (tree / name).is_symlink():  # a link's target has another name
        places.append(tree / name)
    for place in places:
        assert list(open_dataset(name, str(place)).ids) == ORDER


def test_a_link_to_a_splits_folder_is_that_split(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree / "dev-other")
    assert list(open_dataset("dev-other", str(tmp_path / "link"), 2).ids) == ORDER[:2]
    with pytest.raises(SuiteError, match="expected a split's folder link, found dev-other;"):
        open_dataset("link", str(tmp_path / "link"))
    with pytest.raises(SuiteError, match="expected a split's folder 121, found dev-other;"):  # a speaker
        open_dataset("121", str(tree / "dev-other"))


@pytest.mark.parametrize("name", ["dev-othr", "LibriSpeech", "books", "BOOKS.TXT", "data", "9001"])
def test_any_other_folder_is_refused_with_a_list_of_the_splits(tree, name):
    """Above all the folder of all splits: their utterances would be mixed."""
    for place in (tree, tree.parent):
        with pytest.raises(SuiteError) as refused:
            open_dataset(name, str(place))
        assert str(refused.value) == (
            f"{place}: expected a split's folder {name}, found dev-clean-2, dev-other, my_split.v2, train-clean-100, "
            f"train-clean-5; see --which_dataset"
        )


def test_an_empty_folder_has_no_split(tmp_path):
    with pytest.raises(SuiteError, match="expected a split's folder dev-other, found none; see --which_dataset"):
        open_dataset("dev-other", str(tmp_path))


def test_the_name_travels_to_the_table(chain, tree, tmp_path, model_folder):
    """Its results are those of the same utterances in test-clean."""
    data = ("--which_dataset=dev-clean-2", f"--dataset_path={tree}", f"--model_name_or_path={model_folder}")
    run_ok("preprocess.py", "--pre_data_save_path=./pre", *data, cwd=tmp_path)
    assert json.loads((tmp_path / "pre/run.json").read_text())["which_dataset"] == "dev-clean-2"
    model = f"--model_path={chain}/models/wav2vec2-base-960h.onnx"
    folders = ("--input_info_file_path=./pre/bin_file.info", "--infer_res_save_path=./res")
    run_ok("pyacl_infer.py", model, *folders, cwd=tmp_path)
    score = ("--bin_file_path=./res", "--res_save_path=./res/t.txt")
    done = run_script("postprocess.py", *score, "--which_dataset=dev-clean", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "its results are of --which_dataset=dev-clean-2, not dev-clean" in done.stderr
    run_ok("postprocess.py", *score, "--which_dataset=dev-clean-2", cwd=tmp_path)
    expected = (chain / "om_infer_res_clean/transcriptions.txt").read_text()
    assert (tmp_path / "res/t.txt").read_text() == expected
    assert report.main([f"{tmp_path}/res", f"--output={tmp_path}/table"]) == 0
    conditions = json.loads((tmp_path / "table/summary.json").read_text())["conditions"]["onnxruntime float32"]
    assert conditions["data set"] == f"dev-clean-2, from {tree}, padded to gears"
