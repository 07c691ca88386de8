# SPDX-License-Identifier: Apache-2.0
"""Proves that no damaged file crashes a script, changes a file of others, or, where files are listed, changes the WER.

Each file that a script reads is damaged in ways that hypothesis chooses; the choice is the same in every run. More and
other damages: `bash test/fuzz.sh SEED NUMBER`.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import onnx
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.names import LOCK_NAME
from wav2vec2_eval.report import command as report

from conftest import SPEECH, make_tree, run_script, script_main, small_graph

NUMBER = int(os.environ.get("FUZZ_NUMBER", "8"))  # damages of each file
PREPROCESS, INFER, POSTPROCESS, TRANSCRIBE = (
    script_main(f"{name}.py") for name in ("preprocess", "pyacl_infer", "postprocess", "pth_online_infer")
)
DATASET = ("--which_dataset=clean", "--dataset_path=speech", "--model_name_or_path=model", "--num_workers=1")


def preprocess() -> None:
    PREPROCESS(["--pre_data_save_path=out/data", "--gears=gears.txt", *DATASET])


def preprocess_parquet() -> None:
    PREPROCESS(["--pre_data_save_path=out/data", *DATASET, "--dataset_path=hub"])


def transcribe() -> None:
    options = ("--pred_res_save_path=out/scores/t.txt", "--model_name_or_path=model", "--device=cpu")
    TRANSCRIBE([*DATASET[:2], *options, "--limit=2"])


def infer(results: str = "out/results", *options: str) -> None:
    where = ("--input_info_file_path=data/bin_file.info", f"--infer_res_save_path={results}")
    INFER(["--model_path=model.onnx", *where, "--num_threads=1", *options])


def infer_and_score() -> None:
    infer()
    POSTPROCESS(["--bin_file_path=out/results", "--res_save_path=out/scores/t.txt"])


def resume_and_score() -> None:
    infer("results", "--resume")
    score()


def score() -> None:
    POSTPROCESS(["--bin_file_path=results", "--res_save_path=out/scores/t.txt"])


def score_by_model() -> None:
    options = ("--res_save_path=out/scores/t.txt", "--model_name_or_path=model")
    POSTPROCESS(["--bin_file_path=results", *options])


def summarise() -> None:
    report.main(["results", "--output=out/report"])


class Target(NamedTuple):
    """A file that is damaged, and what reads it. `writes`: the folders that may change besides out/."""

    name: str
    read: Callable[[], None]
    writes: tuple[str, ...] = ()


# Files of a folder with a list: whatever is read of them is verified.
LISTED = [
    *(Target(f"data/{name}", infer_and_score) for name in ("bin_file.info", "utterances.tsv", "0.bin", "model.json")),
    *(Target(f"data/{name}", infer_and_score) for name in ("run.json", "files.tsv")),
    *(Target(f"results/{name}", score) for name in ("bin_file.info", "utterances.tsv", "results.tsv", "0.0.npy")),
    *(Target(f"results/{name}", score) for name in ("model.json", "run.json", "files.tsv")),
    *(Target(f"results/{name}", resume_and_score, ("results",)) for name in ("0.0.npy", "results.tsv", "run.json")),
    *(Target(f"results/{name}", summarise) for name in ("infer_time.txt", "wer.txt", "run.json")),
]
# The same files in folders of other tools and of older versions, and the files that users bring.
OTHERS = [
    *(target for target in LISTED if not target.name.endswith("files.tsv") and "resume" not in target.read.__name__),
    Target("gears.txt", preprocess),
    *(Target(f"model/{name}", preprocess) for name in ("preprocessor_config.json", "vocab.json", "config.json")),
    *(Target(f"model/{name}", score_by_model) for name in ("vocab.json", "tokenizer_config.json", "config.json")),
    *(Target(f"model/{name}", score_by_model) for name in ("special_tokens_map.json", "preprocessor_config.json")),
    Target("speech/test-clean/61/123/61-123-0000.flac", preprocess),
    Target("speech/test-clean/61/70968/61-70968.trans.txt", preprocess),
    Target("hub/clean/test/0000.parquet", preprocess_parquet),
    Target("model/model.safetensors", transcribe),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory, model_folder) -> Path:
    """What a user has after a run of the chain on five short utterances."""
    folder = tmp_path_factory.mktemp("base")
    make_tree(folder / "speech")
    shutil.copytree(model_folder, folder / "model")
    write_parquet(folder / "hub/clean/test/0000.parquet", folder / "speech")
    (folder / "gears.txt").write_text("10000\n40000\n")
    onnx.save(small_graph(masked=False, num_symbols=32), folder / "model.onnx")
    with inside(folder):
        PREPROCESS(["--pre_data_save_path=data", "--gears=none", *DATASET])
        infer("results", "--res_save_type=npy")
        POSTPROCESS(["--bin_file_path=results", "--res_save_path=results/t.txt"])
    return folder


def write_parquet(path: Path, tree: Path) -> None:
    """The utterances of a LibriSpeech tree, as the hub has them."""
    flacs = sorted(tree.rglob("*.flac"))
    columns = {
        "id": [flac.stem for flac in flacs],
        "text": [SPEECH[flac.stem][1] for flac in flacs],
        "audio": [{"bytes": flac.read_bytes(), "path": flac.name} for flac in flacs],
    }
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.table(columns), path)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        os.chdir(before)


NASTY = [
    *(
        b"",
        b"\xff",
        b"\xd6",
        b"\0",
        b"\n",
        b"\t",
        b" ",
        b"\r\n",
        "\u2028".encode(),
        b"-",
        b"0",
        b"-1",
        b"nan",
        b"1e400",
    ),
    *(b"9" * 5_000, b"[" * 5_000, b'{"a":' * 2_000, b'"\\ud800"', b"../x", b"/etc/passwd"),
    *(b"true", b"null", b"[]", b"{}"),
]


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A function that damages the content of a file: a part is cut out, replaced, repeated, or overwritten."""
    kind = draw(st.sampled_from(["replace", "overwrite", "cut", "repeat", "whole", "line"]))
    start, length = draw(st.floats(0, 1)), draw(st.sampled_from([0, 1, 1, 2, 5, 40, 100_000]))
    new = draw(st.one_of(st.sampled_from(NASTY), st.binary(max_size=8)))

    def damage(content: bytes) -> bytes:
        begin = round(start * len(content))
        end = min(begin + length, len(content))
        if kind == "whole":
            return new
        if kind == "cut":
            return content[:begin]
        if kind == "repeat":
            return content[:end] + content[begin:]
        if kind == "overwrite":
            return content[:begin] + (new * length)[: end - begin].ljust(end - begin, b"\0") + content[end:]
        if kind == "line":  # as an editor leaves it, or a copy that was interrupted
            lines = content.splitlines(keepends=True)
            kept = round(start * len(lines))
            return b"".join(lines[:kept] + lines[kept + length :])
        return content[:begin] + new + content[end:]

    return damage


def digest(folder: Path, left_out: Sequence[str]) -> dict[str, bytes]:
    """Every file of the user's folder that must not change."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_NAME)
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(tuple(left_out))}


def check(base: Path, target: Target, damage: Callable[[bytes], bytes], *, is_listed: bool) -> None:
    with TemporaryDirectory() as temporary:
        user = Path(shutil.copytree(base, Path(temporary, "user")))
        if not is_listed:
            for folder in ("data", "results"):
                (user / folder / "files.tsv").unlink()
                run = (user / folder / "run.json").read_text()
                (user / folder / "run.json").write_text(run.replace('"format": 2,', ""))
        path = user / target.name
        before_damage = path.read_bytes()
        path.write_bytes(damage(before_damage))
        is_damaged = path.read_bytes() != before_damage
        before = digest(user, ("out/", *target.writes))
        message = ""
        try:
            with inside(user):
                target.read()
        except (SuiteError, OSError) as error:
            message = str(error)
            assert message
        except SystemExit as end:
            assert end.code == 2  # of argparse
        assert digest(user, ("out/", *target.writes)) == before
        found = user / "out/scores/wer.txt"
        if is_listed and is_damaged and found.exists():
            assert found.read_bytes() == (base / "results/wer.txt").read_bytes(), "another WER without an error"


def fuzz(number: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The settings of a property test. FUZZ_SEED stands for another seed than the fixed one."""
    fixture = HealthCheck.function_scoped_fixture
    return settings(
        max_examples=number,
        derandomize="FUZZ_NUMBER" not in os.environ,
        deadline=None,
        database=None,
        suppress_health_check=[fixture, HealthCheck.too_slow],
    )


@pytest.mark.parametrize("target", LISTED, ids=lambda target: f"{target.name} by {target.read.__name__}")
@fuzz(NUMBER)
@given(damage=damages())
def test_a_damaged_file_of_the_suite_gives_the_same_wer_or_an_error(base, target, damage):
    check(base, target, damage, is_listed=True)


@pytest.mark.parametrize("target", OTHERS, ids=lambda target: f"{target.name} by {target.read.__name__}")
@fuzz(NUMBER)
@given(damage=damages())
def test_a_damaged_file_of_others_is_no_crash(base, target, damage):
    check(base, target, damage, is_listed=False)


@fuzz(max(1, NUMBER // 3))
@given(damage=damages())
def test_a_damaged_model_is_one_line(base, damage):
    """In a process of its own, because a library may crash on it."""
    with TemporaryDirectory() as temporary:
        user = Path(shutil.copytree(base, Path(temporary, "user")))
        path = user / "model.onnx"
        path.write_bytes(damage(path.read_bytes()))
        before = digest(user, ["out/"])
        options = ("--input_info_file_path=data/bin_file.info", "--infer_res_save_path=out/results")
        done = run_script("pyacl_infer.py", "--model_path=model.onnx", *options, cwd=user)
        assert (done.returncode, done.stderr.count("\n")) in ((0, 0), (2, 1)), done.stderr
        assert digest(user, ["out/"]) == before
