# SPDX-License-Identifier: Apache-2.0
"""The documents are true: options, files, modules, links, commands and figures in them are those of the suite."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

import wav2vec2_eval
from wav2vec2_eval.files import names
from wav2vec2_eval.machine.overlap import Spent
from wav2vec2_eval.speech.latency import Latency, summarise

from conftest import BARE_ENVIRONMENT, ROOT

DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("test/*/README.md"), *ROOT.glob(".github/**/*.md")]
)
TRANSLATED = (("README.md", "README.zh-CN.md"), ("docs/ascend.md", "docs/ascend.zh-CN.md"))
PACKAGE = Path(wav2vec2_eval.__file__).parent

SCRIPTS = ("preprocess.py", "export_onnx.py", "pyacl_infer.py", "postprocess.py", "pth_online_infer.py")
# The section of docs/options.md that describes a command -> the command.
COMMANDS = {
    **{script: [sys.executable, script] for script in SCRIPTS},
    **{script: ["bash", script] for script in ("onnx2om.sh", "test/eval_acc_perf.sh")},
    **{
        f"python -m wav2vec2_eval.{name}": [sys.executable, "-m", f"wav2vec2_eval.{name}"]
        for name in ("gears", "report")
    },
}
OTHER_OPTIONS = {
    "ais_bench": {
        *("--auto_set_dymdims_mode", "--divide-input", "--dymDims", "--input", "--loop", "--model", "--outfmt"),
        *("--output_dirname", "--pipeline"),
    },
    "atc": {
        *("--dynamic_dims", "--framework", "--input_shape", "--mode", "--model"),
        *("--op_precision_mode", "--precision_mode_v2"),
    },
    "git, hf, python": {"--local-dir", "--version"},
    "pip": {"--dest", "--find-links", "--no-index", "--only-binary", "--platform", "--python-version"},
    "ruff": {"--check"},
    "test/bench": {
        *("--count", "--engines", "--prepare", "--record", "--resume", "--rounds", "--skip_demo", "--skip_starts"),
        *("--suite_before", "--threads", "--warm_up", "--work_dir"),
    },
    "test/demo/make_demo.py": {"--hours", "--resume", "--speaker"},
}
MODEL_SUFFIXES = (".onnx", ".om")
FILE_SUFFIXES = (".ctm", ".html", ".info", ".json", ".jsonl", ".lock", ".md", ".trn", ".tsv", ".txt")


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def fenced(text: str, language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def first_cells(text: str) -> list[str]:
    """The first cell of every table row, headers and rules included."""
    return re.findall(r"^\| ([^|]*?) *\|", text, re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """Title -> text of each second-level section."""
    title_and_text = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(title_and_text[::2], title_and_text[1::2]))


def anchors(text: str) -> set[str]:
    """The anchors that a forge gives to the headings of a document."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def file_names(text: str) -> set[str]:
    """The last component of each path in backticks, without folders and placeholders."""
    last = {path.split("/")[-1] for path in re.findall(r"`([^` ]+)`", text)}
    return {name for name in last if "." in name and "<" not in name}


@cache
def options_in_help(command: str) -> frozenset[str]:
    """The options that a command defines: those at the start of a line of its --help."""
    done = subprocess.run(
        [*COMMANDS[command], "--help"],
        cwd=ROOT,
        env=BARE_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return frozenset(re.findall(r"^  (--[\w-]+)", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_each_command(command):
    documented = " ".join(first_cells(sections(read("docs/options.md"))[command]))
    assert set(re.findall(r"--[a-z][\w-]*", documented)) == options_in_help(command)


def test_each_command_has_a_section():
    assert set(sections(read("docs/options.md"))) == set(COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids(DOCUMENTS))
def test_options_that_documents_mention_exist(document):
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", document.read_text(encoding="utf-8")))
    known = {"--help"}.union(*map(options_in_help, COMMANDS), *OTHER_OPTIONS.values())
    assert mentioned - known == set()


def test_files_are_those_of_the_module_of_names():
    in_module = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and value.endswith(FILE_SUFFIXES)
    }
    table = sections(read("docs/files.md").replace("# Files", "## Files", 1))["Files"]
    in_table = file_names("\n".join(first_cells(table)))
    assert {name for name in in_table if not name.endswith(MODEL_SUFFIXES)} == in_module


def test_labels_of_infer_time_are_those_of_the_code():
    """Percentiles stand in one row: `min …`, `max latency(ms)`."""
    rows = first_cells(sections(read("docs/files.md"))["infer_time.txt"])[2:]
    in_rows = [re.findall("`([^`]+)`", row) for row in rows]
    documented = [label.replace("…", row[-1].partition(" ")[2]) for row in in_rows for label in row]
    latencies = [Latency(1, 1, 1), Latency(1, 1, elapsed_ms=1)]
    written = [label for latency in latencies for label in summarise([latency], lengths_s=[1])]
    assert sorted(documented) == sorted({*written, *Spent().figures()})


def test_models_are_those_of_the_module_of_names():
    stems = {name.rpartition(".")[0] for name in file_names(read("docs/files.md")) if name.endswith(MODEL_SUFFIXES)}
    assert stems == {
        names.model_name(wav2vec2_eval.MODEL_NAME, attention_mask=attention_mask, int8=int8).removesuffix(".onnx")
        for attention_mask in (False, True)
        for int8 in (False, True)
    }


def test_modules_are_those_of_the_package():
    rows = re.findall(r"^\| `([\w/]+)/` \| ([^|]+) \|", read("docs/architecture.md"), re.MULTILINE)
    documented = {folder.removeprefix("wav2vec2_eval"): set(re.findall(r"`(\w+)`", cell)) for folder, cell in rows}
    found = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            found[path.parent.relative_to(PACKAGE).as_posix().removeprefix(".")].add(path.stem)
    assert documented == found


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids(DOCUMENTS))
def test_source_files_exist(document):
    mentioned = re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|sh))`", document.read_text(encoding="utf-8"))
    folders = (ROOT, PACKAGE, document.parent)
    assert [path for path in mentioned if not any((folder / path).is_file() for folder in folders)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids(DOCUMENTS))
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text(encoding="utf-8")))
    broken = []
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.is_file() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids(DOCUMENTS))
def test_commands_parse(document):
    for block in fenced(document.read_text(encoding="utf-8"), "bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), block


def commands(text: str) -> list[str]:
    """The lines of all fenced code blocks of a document, without comments."""
    lines = "".join(fenced(text, r"\w*")).splitlines()
    return [re.sub(r"(^|\s+)#.*", "", line) for line in lines]


def numbers(text: str) -> list[str]:
    """The numbers in a text, with their dots and commas: `3.7.5`, `559,280`, `E10001`; not those inside names."""
    return re.findall(r"(?<![A-Za-z0-9_])E?\d+(?:[.,]\d+)*", text)


def figures(text: str) -> list[list[str]]:
    """The numbers of each table row, in order; then those of each section's sentences, sorted, for word order differs.

    Commands and the targets of links are left out.
    """
    prose = re.sub(r"^```.*?^```$|\]\([^)]*\)", "", text, flags=re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\|.*$", prose, re.MULTILINE)
    sentences = re.split(r"^#+ ", re.sub(r"^\|.*$", "", prose, flags=re.MULTILINE), flags=re.MULTILINE)
    return [*map(numbers, rows), *(sorted(numbers(section)) for section in sentences)]


def structure(text: str) -> list[str]:
    """The level of each heading, and the number of cells of each table row, in order."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^(?:#+ |\|).*$", prose, re.MULTILINE)
    return [line.split()[0] if line.startswith("#") else f"{line.count('|') - 1} cells" for line in lines]


@pytest.mark.parametrize("held", [commands, figures, structure])
@pytest.mark.parametrize(("english", "chinese"), TRANSLATED)
def test_translations_hold_the_same(english, chinese, held):
    assert held(read(english)) == held(read(chinese)) != []


PAGE = """# Title

Takes 2 commands, up to 559,280 samples, from Python 3.7.5 on; see [page 4](page.md#4).

## Commands

| code | meaning |
| --- | --- |
| 100000 | of 2 kinds |

```bash
python a.py --limit=3    # a comment
```
"""


@pytest.mark.parametrize(
    ("held", "old", "new", "same"),
    [
        (commands, "a comment", "ein Kommentar", True),
        (commands, "--limit=3", "--limit=4", False),
        (commands, "python a.py --limit=3    # a comment\n", "", False),
        (commands, "bash", "text", True),
        (figures, "Takes 2 commands, up to 559,280", "559,280, and 2", True),
        (figures, "page.md#4", "seite.md#5", True),
        (figures, "page 4", "page 5", False),
        (figures, "559,280", "559,281", False),
        (figures, "3.7.5", "3.7", False),
        (figures, "2 commands", "two commands", False),
        (figures, "100000", "E100000", False),
        (figures, "meaning", "meaning2", True),
        (figures, "of 2 kinds", "of 3 kinds", False),
        (figures, "## Commands", "\n", False),
        (structure, "## Commands", "## Befehle", True),
        (structure, "## Commands", "### Commands", False),
        (structure, "## Commands", "Commands", False),
        (structure, "| 100000 | of 2 kinds |\n", "", False),
        (structure, "| 100000 | of 2 kinds |", "| 100000 |", False),
        (structure, "a comment", "a comment\n# another", True),
    ],
)
def test_a_translation_that_differs_is_found(held, old, new, same):
    assert PAGE.count(old) == 1
    assert (held(PAGE) == held(PAGE.replace(old, new))) == same


def test_results_stand_in_one_place():
    """The benchmarks' README refers to the table of results, and does not repeat it."""
    row = re.compile(r"^\| \*\*(?:suite|本套件).*$", re.MULTILINE)
    holding = [str(path.relative_to(ROOT)) for path in DOCUMENTS if row.search(path.read_text(encoding="utf-8"))]
    assert holding == ["README.md", "README.zh-CN.md"]
