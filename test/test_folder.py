# SPDX-License-Identifier: Apache-2.0
"""Proves that a script replaces and removes what the scripts wrote into a folder, and nothing else."""

from __future__ import annotations

import os

import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.file_list import Source, read_list
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.names import LIST_NAME, LOCK_NAME, RUN_NAME
from wav2vec2_eval.files.run import Run, format_run, read_run

OURS = {LIST_NAME, LOCK_NAME, RUN_NAME}


def names(folder):
    return {path.name for path in folder.iterdir()}


def write(folder, *files, script="a.py"):
    """Publish these files, with their names as content, and `m` last."""
    with output_folder(folder, script) as out, out.staging() as staged:
        staged.write_text(RUN_NAME, format_run(Run(script)))
        for name in (*files, "m"):
            (staged.path / name).parent.mkdir(exist_ok=True)
            staged.write_text(name, name)
        out.publish(staged, marker="m")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "out", "1", "2")
    return tmp_path / "out"


def test_a_published_folder_is_whole_and_recorded(folder):
    assert names(folder) == OURS | {"1", "2", "m"}
    source = Source(folder)
    assert source.run == Run("a.py", format=2)
    assert set(source.list) == {"1", "2", "m", RUN_NAME}
    assert all(source.read(name) == name.encode() for name in ("1", "2", "m"))


def test_publishing_replaces_what_was_published(folder):
    write(folder, "2", "3")
    assert names(folder) == OURS | {"2", "3", "m"}
    assert set(read_list(folder)) == {"2", "3", "m", RUN_NAME}


@pytest.mark.parametrize("is_ours", [True, False])
def test_staged_files_join_those_of_the_folder_and_replace_no_file_of_the_user(folder, is_ours):
    with output_folder(folder) as out, out.staging() as staged:
        staged.write_text("2", "new")
        staged.write_text("3", "new")
        if is_ours:
            out.adopt(staged)
        else:
            (folder / "3").write_text("mine")
            with pytest.raises(SuiteError, match="no script wrote this file"):
                out.adopt(staged)
    assert names(folder) == OURS | {"1", "2", "3", "m"}
    assert [(folder / name).read_text() for name in "123"] == (["1", "new", "new"] if is_ours else ["1", "2", "mine"])
    assert {name for name in "123" if Source(folder).has(name)} == set("123" if is_ours else "12")
    Source(folder).read("2")


FOREIGN = {
    "a file in the sub-folder": lambda folder: (folder / "input/mine.npy").write_text("mine"),
    "a folder in the sub-folder": lambda folder: (folder / "input/mine").mkdir(),
    "a link in the sub-folder": lambda folder: (folder / "input/9").symlink_to("../../thesis.txt"),
    "a link for a file": lambda folder: replaced(folder / "input/1").symlink_to("../../thesis.txt"),
    "a folder for a file": lambda folder: replaced(folder / "input/1").mkdir(),
    "a link for the sub-folder": lambda folder: replaced(folder / "input").symlink_to(folder.parent / "mine"),
    "a file for the sub-folder": lambda folder: replaced(folder / "input").write_text("mine"),
    "a folder of the other input": lambda folder: (folder / "attention_mask").mkdir(),
}


def replaced(path):
    """The place of a file or folder that is moved away."""
    path.rename(path.parent.parent / f"old {path.name}")
    return path


@pytest.mark.parametrize("what", FOREIGN)
def test_a_sub_folder_that_holds_something_else_is_refused(tmp_path, what):
    folder = tmp_path / "out"
    write(folder, "input/1", "2")
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/1").write_text("mine")
    FOREIGN[what](folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SuiteError, match=r"holds files that a\.py did not write|expected a regular file"):
        write(folder, "3")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "thesis.txt").read_text() == (tmp_path / "mine/1").read_text() == "mine"


@pytest.mark.parametrize("earlier", [(), ("1", "2"), ("input/1", "input/2"), ("input/9", "attention_mask/9")])
@pytest.mark.parametrize("files", [("1",), ("input/1",), ("input/1", "attention_mask/1")])
def test_sub_folders_come_and_go_with_their_files(tmp_path, earlier, files):
    folder = tmp_path / "out"
    if earlier:
        write(folder, *earlier)
    write(folder, *files)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert found == OURS | {"m", *files, *(name.partition("/")[0] for name in files)}
    assert all(Source(folder).read(name) == name.encode() for name in files)


def test_a_sub_folder_of_which_a_killed_run_left_nothing_is_taken_over(tmp_path):
    folder = tmp_path / "out"
    write(folder, "input/1")
    (folder / "input/1").unlink()
    write(folder, "2")
    assert names(folder) == OURS | {"2", "m"}


def test_a_failure_before_publishing_leaves_everything(folder):
    before = {path: path.read_bytes() for path in folder.iterdir() if path.name != LOCK_NAME}
    with pytest.raises(KeyError), output_folder(folder, "a.py") as out, out.staging() as staged:
        staged.write_text("1", "new")
        raise KeyError
    assert {path: path.read_bytes() for path in folder.iterdir() if path.name != LOCK_NAME} == before


def test_a_failure_in_a_new_folder_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), output_folder(tmp_path / "x/new", "a.py") as out, out.staging():
        raise KeyError
    assert not (tmp_path / "x/new").exists()


PLANTED = {
    "a file": lambda path: path.write_text("mine"),
    "a link": lambda path: path.symlink_to("../thesis.txt"),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
}
NEVER_OURS = ["thesis.txt", "1.tmp", ".partial", "run.json.tmp", "3", "1.bin", ".1", LIST_NAME + ".tmp", " 1"]


@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.parametrize("name", NEVER_OURS)
def test_what_no_script_wrote_is_refused_before_anything_is_touched(folder, name, what):
    (folder.parent / "thesis.txt").write_text("mine")
    PLANTED[what](folder / name)
    before = names(folder)
    with pytest.raises(SuiteError, match=r"holds files that a\.py did not write"):
        write(folder, "3")
    assert names(folder) == before
    assert (folder.parent / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("what", [what for what in PLANTED if what != "a file"])
@pytest.mark.parametrize("name", ["1", "m", RUN_NAME, LIST_NAME])
def test_a_recorded_name_of_something_else_is_refused(folder, name, what):
    (folder.parent / "thesis.txt").write_text("mine")
    (folder / name).unlink()
    PLANTED[what](folder / name)
    before = names(folder)
    with pytest.raises((SuiteError, OSError)):
        write(folder, "3")
    assert names(folder) | {LOCK_NAME} == before
    assert (folder.parent / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["run.json", "thesis.txt", "files.tsv", ".hidden"])
def test_a_folder_of_others_is_refused(tmp_path, name):
    (tmp_path / name).write_text('{"script": "a.py"}')
    with pytest.raises(SuiteError):
        write(tmp_path, "1")
    assert names(tmp_path) == {name}


def test_a_folder_of_an_older_version_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "run.json").write_text('{"script": "a.py"}')
    (tmp_path / "0.bin").touch()
    with pytest.raises(SuiteError, match=r"older version, which kept no files\.tsv; delete it, or choose another"):
        write(tmp_path, "1")


def test_a_folder_of_another_script_is_refused(folder):
    with pytest.raises(SuiteError, match=r"holds files of a\.py; choose another folder for b\.py"):
        write(folder, "1", script="b.py")


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(SuiteError, match="found a file"):
        write(tmp_path / "x", "1")


def test_writing_replaces_a_recorded_file(folder):
    with output_folder(folder, "a.py") as out:
        out.write_text("1", "new")
        assert Source(folder).read("1") == b"new"
        with pytest.raises(KeyError), out.writing("1") as file:
            file.write(b"half")
            raise KeyError
    assert Source(folder).read("1") == b"new"
    assert names(folder) == OURS | {"1", "2", "m"}


@pytest.mark.parametrize("what", PLANTED)
def test_writing_does_not_replace_what_appeared_meanwhile(tmp_path, what):
    (tmp_path / "thesis.txt").write_text("mine")
    with output_folder(tmp_path / "out", "a.py") as out:
        PLANTED[what](tmp_path / "out/1")
        with pytest.raises(SuiteError, match="no script wrote this file"):
            out.write_text("1", "new")
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert names(tmp_path / "out") == {"1"}


def test_appended_files_are_recorded_at_their_end(tmp_path):
    with output_folder(tmp_path, "a.py") as out:
        out.begin("j")
        (tmp_path / "j").write_text("lines\n")
        with pytest.raises(SuiteError, match="not finished"):
            Source(tmp_path).read("j")
        out.end("j")
        assert Source(tmp_path).read("j") == b"lines\n"


def test_keep_removes_the_other_recorded_files(folder):
    with output_folder(folder, "a.py") as out:
        out.keep(lambda name: name in ("1", RUN_NAME))
        assert set(read_list(folder)) == {"1", RUN_NAME}
        out.write_text("2", "new")
    assert names(folder) == OURS | {"1", "2"}
    (folder / "m").write_text("mine")
    with pytest.raises(SuiteError, match="did not write"):
        write(folder, "3")


def test_a_list_that_was_cut_while_it_was_appended_goes_on(folder):
    for cut in range(1, len("2\t1\t00000000\n")):
        content = (folder / LIST_NAME).read_bytes()
        (folder / LIST_NAME).write_bytes(content[:-cut])
        with output_folder(folder) as out:
            out.write_text("9", "new")
        assert Source(folder).read("9") == b"new"
        (folder / "9").unlink()
        (folder / LIST_NAME).write_bytes(content)


def test_check_free_allows_new_and_recorded_names(folder):
    with output_folder(folder) as out:
        out.check_free("1", "m", "new")
        (folder / "wer.txt").touch()
        with pytest.raises(SuiteError, match=r"wer\.txt: no script wrote this file"):
            out.check_free("new", "wer.txt")


def test_the_folder_is_locked(folder):
    with output_folder(folder, "a.py"), pytest.raises(SuiteError, match="another run"):
        write(folder, "1")
    assert read_run(folder).script == "a.py"


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_list_of_the_user_is_left_alone(tmp_path, ending):
    content = f"my table\tof files{ending}"
    (tmp_path / LIST_NAME).write_text(content)
    with pytest.raises(SuiteError, match=r"files\.tsv, line 1: expected"), output_folder(tmp_path):
        pass
    assert (tmp_path / LIST_NAME).read_text() == content


def test_a_backup_of_hard_links_stays_as_it_is(folder, tmp_path):
    backup = tmp_path / "backup"
    backup.mkdir()
    for path in folder.iterdir():
        os.link(path, backup / path.name)
    before = {path.name: path.read_bytes() for path in backup.iterdir()}
    with output_folder(folder, "a.py") as out:
        out.write_text("1", "new")
        out.remove("2")
    write(folder, "3")
    assert {path.name: path.read_bytes() for path in backup.iterdir()} == before
    assert Source(backup).read("1") == b"1"


def test_a_removed_file_is_no_longer_recorded(folder):
    with output_folder(folder, "a.py") as out:
        out.remove("1", "never")
        assert set(read_list(folder)) == {"2", "m", RUN_NAME}
    (folder / "1").write_text("mine")
    with output_folder(folder) as out, pytest.raises(SuiteError, match="no script wrote this file"):
        out.check_free("1")


def test_a_link_to_nothing_is_no_folder(tmp_path):
    (tmp_path / "x").symlink_to("gone")
    with pytest.raises(SuiteError, match="expected a folder, found a link to nothing"):
        write(tmp_path / "x", "1")
