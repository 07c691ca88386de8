# SPDX-License-Identifier: Apache-2.0
"""The whole evaluation, from audio to one table: accuracy and speed of the suite beside PyTorch.

On an Ascend host the model runs on the NPU, elsewhere on the CPU. All files are written below the current folder. The
environment variable PYTHON names the Python to use, default python3.

    bash test/eval_acc_perf.sh --demo
    bash test/eval_acc_perf.sh --which_dataset=clean --dataset_path=/data/LibriSpeech
    bash test/eval_acc_perf.sh --which_dataset=clean --attention_mask --precision=f32,int8
"""

# eval_acc_perf.sh starts this module before the suite's Python is found: it needs Python 3.9 and no package.

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from . import MODEL_ID, MODEL_NAME, cli
from .engines.precision import CPU_ENGINES, CPU_PRECISIONS, choose_cpu_engine, parse_precision
from .errors import SuiteError
from .files.names import (
    GEARS_NAME,
    MANIFEST_NAME,
    MASKED_SUFFIX,
    PAGE_NAME,
    SCORES_NAME,
    SKIPPED_NAME,
    UTTERANCES_NAME,
    model_name,
)
from .files.run import read_run
from .machine.cpu import cpu_name, lacks_bfloat16
from .machine.signals import Terminated
from .machine.terminal import is_quiet, say
from .sources.splits import CUSTOM, find_split, parse_name
from .speech.audio import SAMPLE_RATE
from .speech.normalization import NONE

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "test/demo"
DEMO_FOLDER = Path("demo_res")  # keeps the demo's results apart from those of real data
TRANSCRIPTIONS_NAME = "transcriptions.txt"
# The folders of the results, beside the files of the report, are named after precisions or so:
NPU, BASELINE = "npu", "pytorch"

Value = TypeVar("Value")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.ArgumentParser(__doc__)
    parser.allow_abbrev = False
    option = parser.add_argument
    option("--demo", action="store_true", help="the corpus and model of test/demo, in ./demo_res; needs no hub")
    option(
        "--which_dataset",
        type=cli.checked(parse_name),
        default="clean",
        metavar="NAME",
        help="validation, clean, other, the name of any split's folder in the tree of --dataset_path, or custom: your "
        "own recordings",
    )
    option(
        "--dataset_path",
        type=cli.path_text,
        metavar="PATH",
        help="a local LibriSpeech tree, read instead of the hub; of custom recordings the table or folder",
    )
    option(
        "--model_name_or_path",
        type=cli.path_text,
        metavar="MODEL",
        help=f"hub id or local folder (default: {MODEL_ID})",
    )
    option("--limit", type=cli.integer(1), metavar="N", help="use only the first N utterances")
    cli.add_column_options(parser)
    cli.add_recording_options(parser)
    option(
        "--gears",
        type=cli.path_text,  # which leaves everything but a path as it is
        metavar="GEARS",
        help="padding as in preprocess.py (default: 'default' on an NPU or with --attention_mask, else 'none')",
    )
    option("--attention_mask", action="store_true", help="the padding-exact model, with a second input")
    option("--engine", choices=CPU_ENGINES, default="auto", help="CPU; auto: onnxruntime in f32, else openvino")
    option(
        "--precision",
        type=cli.checked(parse_precisions),
        default="f32",
        metavar="NAMES",
        help="CPU: f32, bf16 or int8, or several with commas, each with results of its own; bf16, int8: OpenVINO",
    )
    option(
        "--calibration",
        type=if_given(cli.path_text),
        metavar="FILE",
        help="the manifest that calibrates int8 (default: the evaluated set's own)",
    )
    option("--soc_version", metavar="SOC", help="the NPU, for example Ascend310P3 (default: what npu-smi shows)")
    option("--device_id", type=cli.integer(0, cli.LAST_DEVICE), default=0, metavar="N", help="which NPU")
    option("--skip_baseline", action="store_true", help="leave PyTorch out")
    cli.add_scoring_options(parser)
    option("--max_wer", type=if_given(cli.number), metavar="X", help="fail if a WER is above X, for example 0.04")
    cli.add_quiet_option(parser)
    args = parser.parse_args(argv)
    check_together(args)
    return args


def if_given(option_type: Callable[[str], Value]) -> Callable[[str], Value | None]:
    """Let an option's text be empty for "not given", as a shell's --max_wer="$LIMIT" may be."""
    return lambda text: option_type(text) if text else None


def parse_precisions(text: str) -> tuple[str, ...]:
    """Read the value of `--precision`: one, or several with commas. Raises SuiteError for others, and for repeats."""
    found = tuple(map(parse_precision, text.split(",")))
    wrong = next((each for each in found if each not in CPU_PRECISIONS), None)
    if wrong is not None:
        raise SuiteError(f"expected {', '.join(CPU_PRECISIONS)}, or several with commas; found {wrong!r:.80}")
    if len(set(found)) < len(found):
        raise SuiteError(f"expected each precision once; found {text!r:.80}")
    return found


def check_together(args: argparse.Namespace) -> None:
    """Raise SuiteError for options that contradict each other, before anything is run."""
    for precision in args.precision:
        choose_cpu_engine(args.engine, precision, openvino_is_installed=lambda: True)
    if "bf16" in args.precision and lacks_bfloat16():
        raise SuiteError(f"--precision=bf16: {cpu_name()} has no bfloat16 instructions; leave bf16 out")
    if args.calibration and "int8" not in args.precision:
        raise SuiteError("--calibration: only --precision=int8 is calibrated")
    if args.calibration and not _is_file(args.calibration):
        raise SuiteError(f"--calibration={args.calibration}: no such file")
    if args.demo and (args.dataset_path, args.model_name_or_path) != (None, None):
        raise SuiteError("--demo has a data set and a model of its own; give no other")
    if not args.demo:
        find_split(args.which_dataset, args.dataset_path)


def enter_demo_folder(args: argparse.Namespace) -> None:
    """Make the demo's folder the current one, and evaluate the demo's corpus and model."""
    for name in ("gears", "calibration"):
        path = getattr(args, name)
        if path and _is_file(path):
            setattr(args, name, os.path.realpath(path))
    args.dataset_path, args.model_name_or_path = DEMO / "LibriSpeech", DEMO / "model"
    DEMO_FOLDER.mkdir(exist_ok=True)
    os.chdir(DEMO_FOLDER)


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises an error where a list of gears is too long a name)


def find_python(args: argparse.Namespace) -> str:
    """The Python that runs the scripts. If there is none with their packages, an environment is made."""
    engines = [choose_cpu_engine(args.engine, each, openvino_is_installed=lambda: True) for each in args.precision]
    needs_openvino = "openvino" in engines or "int8" in args.precision  # NNCF, which quantizes, comes with OpenVINO
    requirements = ROOT / ("requirements-openvino.txt" if needs_openvino else "requirements.txt")
    python = shell_function("test/environment.sh", "python_with", str(requirements))
    say(f"Python: {python}")
    return python


def find_npu(args: argparse.Namespace, python: str) -> str:
    """The SoC version of the NPU that runs the model; empty if the CPU does.

    Raises SuiteError if there is no NPU for `--soc_version`, or if an option of the CPU is given and there is one.
    """
    soc_version, lacking = args.soc_version, ""
    if not shutil.which("atc"):
        lacking = "CANN's atc was not found"
    elif not (soc_version := soc_version or shell_function("wav2vec2_eval/ascend_env.sh", "detect_soc")):
        lacking = "npu-smi shows none"
    elif reason := import_error(python, "acl"):
        lacking = f"Python's acl: {reason}"
    if lacking:
        if args.soc_version:
            raise SuiteError(f"--soc_version={args.soc_version}: no NPU can be used here ({lacking})")
        say(f"no NPU can be used here ({lacking}): the model runs on this host's CPU")
        return ""
    say(f"NPU: {soc_version}, device {args.device_id}")
    if (args.engine, args.precision) != ("auto", ("f32",)):
        raise SuiteError(
            "--engine and --precision are the CPU's, but the model runs on the NPU; see onnx2om.sh for its precision"
        )
    return str(soc_version)


def import_error(python: str, module: str) -> str:
    """The last line of the traceback if `module` cannot be imported, else an empty text."""
    done = subprocess.run(
        [python, "-P", "-c", f"import {module}"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    return (done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1] if done.returncode else ""


def name_variants(precisions: Sequence[str], npu: bool, attention_mask: bool) -> dict[str, str]:
    """What is evaluated, by the names of the results folders: the precision of each, of which the NPU has its own."""
    suffix = MASKED_SUFFIX if attention_mask else ""
    return {f"{NPU if npu else precision}{suffix}": precision for precision in precisions}


class Evaluation:
    """The stages from audio to the table. The data set's name is part of every folder's name, so sets stay apart."""

    def __init__(self, args: argparse.Namespace, python: str, soc_version: str) -> None:
        """`soc_version` names the NPU; it is empty if the model runs on the CPU."""
        self.args, self.python, self.soc_version = args, python, soc_version
        self.data = f"./pre_data/{args.which_dataset}{MASKED_SUFFIX if args.attention_mask else ''}"
        self.output = f"./eval_res/{args.which_dataset}"
        self.variants = name_variants(args.precision, bool(soc_version), args.attention_mask)
        self.selection = given(args, "which_dataset", "dataset_path", "model_name_or_path", "limit")
        self.selection += given(args, "audio_column", "text_column")
        self.unusable = ["--skip_unusable"] if args.skip_unusable else []
        self.scoring = ["--word_times"] if args.word_times else []
        if args.normalize_text != NONE:
            self.scoring += given(args, "normalize_text")
        self.masked = ["--attention_mask"] if args.attention_mask else []

    def results(self, variant: str) -> str:
        """The folder for the results of a variant, or of the baseline."""
        return f"{self.output}/{variant}"

    def stages(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """The title of each stage, and the function that runs it, in order."""
        yield "preprocess", self.preprocess
        if "int8" in self.args.precision:  # which writes the float model, too
            yield "export to ONNX, and quantize to int8", self.quantize
        else:
            yield "export to ONNX", self.export
        if self.soc_version:
            yield f"compile for {self.soc_version}", self.compile
        for variant, precision in self.variants.items():
            yield f"{variant}: infer", partial(self.infer, variant, precision)
            yield f"{variant}: decode and score", partial(self.score, variant)
        if not self.args.skip_baseline:
            yield "PyTorch baseline", self.baseline
        yield "result", self.report

    def preprocess(self) -> None:
        gears = self.args.gears or ("default" if self.soc_version or self.args.attention_mask else "none")
        options = [f"--pre_data_save_path={self.data}", f"--gears={gears}", *given(self.args, "chunk_s", "stride_s")]
        self._script("preprocess.py", *options, *self.selection, *self.unusable, *self.masked)

    def export(self, *quantization: str) -> None:
        name = f"--model_name={MODEL_NAME}"  # given, so that the export of another model is replaced
        options = ["--model_save_dir=./models", name, *given(self.args, "model_name_or_path"), *self.masked]
        self._script("export_onnx.py", *options, *quantization)

    def quantize(self) -> None:
        if not self.args.calibration:
            say("int8 is calibrated on a part of the evaluated set itself; see --calibration")
        self.export("--quantize=int8", f"--calibration={self.args.calibration or f'{self.data}/{MANIFEST_NAME}'}")

    def compile(self) -> None:
        gears = f"--gears_from={self.data}/{GEARS_NAME}"
        run(["bash", f"{ROOT}/onnx2om.sh", self.soc_version, self._model().stem, gears], environment())

    def infer(self, variant: str, precision: str) -> None:
        self._script(
            "pyacl_infer.py",
            f"--model_path=./models/{self._model(precision)}",
            f"--device_id={self.args.device_id}",
            f"--input_dtypes={'float32,float32' if self.args.attention_mask else 'float32'}",
            f"--engine={self.args.engine}",
            f"--precision={precision}",
            self._warm_up(),
            f"--input_info_file_path={self.data}/{MANIFEST_NAME}",
            f"--infer_res_save_path={self.results(variant)}",
        )

    def score(self, variant: str) -> None:
        results = self.results(variant)
        options = [f"--bin_file_path={results}", f"--res_save_path={results}/{TRANSCRIPTIONS_NAME}", *self.scoring]
        self._script("postprocess.py", *options, *self.selection)

    def baseline(self) -> None:
        transcriptions = f"--pred_res_save_path={self.results(BASELINE)}/{TRANSCRIPTIONS_NAME}"
        skipped = Path(self.data, SKIPPED_NAME)
        listed = [f"--skip_listed={skipped}"] if skipped.exists() else []
        options = [self._warm_up(), transcriptions, *self.scoring, *self._chunks(), *self.unusable, *listed]
        self._script("pth_online_infer.py", *options, *self.selection)

    def report(self) -> None:
        variants = [*self.variants] if self.args.skip_baseline else [*self.variants, BASELINE]
        results = [self.results(each) for each in variants]
        reference = results[0] if self.args.skip_baseline else results[-1]
        options = [f"--output={self.output}", f"--reference={reference}"]
        if self.soc_version:
            options.append(f"--soc_version={self.soc_version}")
        if self.args.max_wer is not None:
            options.append(f"--max_wer={self.args.max_wer}")
        if self.args.dataset_path is not None:
            options += [f"--audio={self.args.dataset_path}", *given(self.args, "audio_column", "text_column")]
        self._python("-m", "wav2vec2_eval.report", *results, *options)

    def _model(self, precision: str = "f32") -> Path:
        """The name of the file that computes in a precision."""
        onnx = model_name(MODEL_NAME, attention_mask=self.args.attention_mask, int8=precision == "int8")
        return Path(onnx).with_suffix(".om" if self.soc_version else ".onnx")

    def _chunks(self) -> list[str]:
        """The chunks into which the suite's data were cut: PyTorch gets the same."""
        run = read_run(Path(self.data))
        if run is None or run.chunk_samples is None:
            return ["--chunk_s=0"] if self.args.which_dataset == CUSTOM else []
        chunk, stride = run.chunk_samples, run.stride_samples or 0
        return [f"--chunk_s={chunk / SAMPLE_RATE}", f"--stride_s={stride / SAMPLE_RATE}"]

    def _warm_up(self) -> str:
        """Leave the first inference out of the averages, in the baseline too. A single inference is not left out."""
        lines = Path(self.data, UTTERANCES_NAME).read_text(encoding="utf-8").count("\n")
        return f"--workspace={int(lines > 1)}"

    def _script(self, name: str, *options: str) -> None:
        self._python(f"{ROOT}/{name}", *options)

    def _python(self, *arguments: str) -> None:
        """Run Python with the suite on its module path. -P keeps the current folder off it, in worker processes too."""
        quiet = ["--quiet"] if is_quiet() else []
        run([self.python, "-P", *arguments, *quiet], environment(str(ROOT)))


def given(args: argparse.Namespace, *names: str) -> list[str]:
    """The options `names` that the user gave. The scripts have their own defaults for the others."""
    return [f"--{name}={value}" for name in names if (value := getattr(args, name)) is not None]


def shell_function(file: str, function: str, *arguments: str) -> str:
    """What a function of one of the suite's shell files prints."""
    command = ["bash", "-c", 'source "$0" && "$@"', str(ROOT / file), function, *arguments]
    return run(command, environment(), captured=True).strip()


def environment(*module_folders: str) -> dict[str, str]:
    """This process's environment with `module_folders` in front of PYTHONPATH.

    Empty entries of PYTHONPATH are left out: Python takes them for the current folder. Some set_env.sh leave one.
    """
    inherited = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*module_folders, *inherited])}


def run(command: Sequence[str], variables: dict[str, str], captured: bool = False) -> str:
    """Run a command to its end. Returns what it printed, if `captured`.

    If the command fails, this process ends with the same exit status. It adds no message, because the command has
    printed one, except where a signal killed the command.
    """
    stdout = subprocess.PIPE if captured else None
    with subprocess.Popen(command, env=variables, stdout=stdout, text=True) as process:
        try:
            printed, _ = process.communicate()
        except Terminated as end:  # the command prints "interrupted"
            process.terminate()
            process.wait()
            sys.exit(end.code)
        except KeyboardInterrupt:  # Ctrl-C has reached the command, too
            process.wait()
            sys.exit(128 + signal.SIGINT)
    if process.returncode < 0:
        print(f"{Path(sys.argv[0]).name}: error: signal {-process.returncode} ended {command}", file=sys.stderr)
        sys.exit(128 - process.returncode)
    if process.returncode:
        sys.exit(process.returncode)
    return printed or ""


def show_examples(results: Path) -> None:
    """Some of the demo's utterances."""
    say("\nSynthetic speech and a small model: the figures show that the suite works, not how well wav2vec2 does.")
    say(f"All files are in {Path.cwd()}. Some of the utterances, reference / hypothesis:")
    for line in (results / SCORES_NAME).read_text(encoding="utf-8").splitlines()[2::10][:5]:
        reference, hypothesis = line.split("\t")[7:9]
        say(f"  {reference} / {hypothesis}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.demo:
        enter_demo_folder(args)
    say("\n[1] environment")
    python = find_python(args)
    evaluation = Evaluation(args, python, find_npu(args, python))
    for position, (title, run_stage) in enumerate(evaluation.stages(), start=2):
        say(f"\n[{position}] {title}")
        run_stage()
    if args.demo:
        show_examples(Path(evaluation.results(next(iter(evaluation.variants)))))
        say(f"The page: {Path(evaluation.output, PAGE_NAME).resolve()}")
    return 0
