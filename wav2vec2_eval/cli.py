# SPDX-License-Identifier: Apache-2.0
"""What the scripts' command lines share: option types, common options, and how a script ends.

A user's mistake ends in one line on stderr and exit status 2, without a traceback.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO, TypeVar

from . import MODEL_ID, __version__
from .errors import UNPRINTABLE, SuiteError
from .machine.cpu import default_threads
from .machine.needs import lacking
from .machine.signals import Terminated, end_signals, raise_signals
from .machine.terminal import be_quiet
from .sources.splits import CUSTOM, parse_name
from .speech import normalization

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from .speech.chunks import Chunking

EXIT_USER_ERROR = 2

DEEPEST = 200  # folders in a path: Python makes folders by recursion
MOST_AT_ONCE = 1024  # processes, or utterances: a larger number is a mistake, and would take minutes to fail
MOST_THREADS = max(64, 4 * default_threads())  # with more, an execution takes minutes
LAST_DEVICE = 1023
SHORTEST_CHUNK_S = 0.2  # by default
LARGEST = 999_999_999  # for numbers that cost nothing

_LONGEST_GEARS_FILE = 4_000_000  # characters; every length of test-clean's range takes less

Value = TypeVar("Value")


class ArgumentParser(argparse.ArgumentParser):
    """argparse that knows --version, and reports a bad option in one line instead of repeating the whole usage."""

    def __init__(self, description: str | None) -> None:
        super().__init__(_program(), description=description, formatter_class=_HelpFormatter)
        self.add_argument("--version", action=_Version, help="print the version of the suite, and end")

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        print(self.format_help(), end="", file=file)  # argparse would keep quiet about a full disk

    def error(self, message: str) -> NoReturn:
        _say(f"{self.prog}: error: {message} (see {self.prog} --help)")
        self.exit(EXIT_USER_ERROR)


class _Version(argparse.Action):
    """Prints the program's name and the suite's version."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"{parser.prog} {__version__}")  # argparse would keep quiet about a full disk
        parser.exit()


class _Quiet(argparse.Action):
    """Makes the process quiet. Making a parser ends that, for the next command in the same process."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, help=help)
        be_quiet(False)

    def __call__(self, _parser: object, namespace: argparse.Namespace, *_: object) -> None:
        setattr(namespace, self.dest, True)
        be_quiet(True)


class Instead(argparse.Action):
    """A switch that replaces other options: with it, the options in `replaced` are not required."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, replaced: Sequence[argparse.Action], help: str
    ) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, help=help)
        self._replaced = replaced

    def __call__(self, _parser: object, namespace: argparse.Namespace, *_: object) -> None:
        setattr(namespace, self.dest, True)
        for option in self._replaced:  # argparse looks for required options last
            option.required = False


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Shows a script's docstring as written, and every default that is a value."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def boolean(text: str) -> bool:
    """`True` or `False` in any case. (`type=bool` would take "False" for true.)"""
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}") from None


def integer(minimum: int, maximum: int = LARGEST) -> Callable[[str], int]:
    """An option type for whole numbers from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and minimum <= int(text) <= maximum):
            raise argparse.ArgumentTypeError(f"expected a whole number, {minimum} to {maximum}, found {_shown(text)}")
        return int(text)

    return parse


def number(text: str) -> float:
    """An option type for decimal numbers from 0 on; not infinity or NaN, with which comparisons mean nothing."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?(e-[0-9]{1,2})?", text):
        raise argparse.ArgumentTypeError(f"expected a number like 0.04, found {_shown(text)}")
    return float(text)


def checked(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Make an option type of a function that raises SuiteError (argparse hides the texts of other errors)."""

    def option_type(text: str) -> Value:
        try:
            return parse(text)
        except SuiteError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return option_type


def expand_path(text: str) -> str:
    """The path that a user gave, with the home folder for a leading `~`. Raises SuiteError if it cannot be used.

    A shell expands `~` at the start of a word only, so that of `--option=~/folder` arrives here. A path must also fit
    on one line of the suite's tables, which are UTF-8.
    """
    if not text or UNPRINTABLE.search(text):
        raise SuiteError(
            f"expected a path of printable UTF-8 characters, found {_shown(text)}; rename it, or link to it"
        )
    if text.count("/") > DEEPEST:
        raise SuiteError(f"expected a path of at most {DEEPEST} folders, found {_shown(text)}; choose a shorter one")
    expanded = os.path.expanduser(text)  # noqa: PTH111 (Path would normalise the text)
    if expanded.startswith("~"):
        raise SuiteError(f"expected the home folder of a user, found {_shown(text)}; if it is a name, write ./{text}")
    return expanded


path_text = checked(expand_path)  # an option type for paths that are kept as text


def path(text: str) -> Path:
    """An option type for paths."""
    return Path(path_text(text))


def _shown(text: str, limit: int = 80) -> str:
    """What the user gave, in quotes, cut to `limit` characters."""
    return repr(text if len(text) <= limit else f"{text[:limit]}…")


def parse_gears(text: str) -> tuple[int, ...] | None:
    """Read the value of `--gears`: `none`, `default`, numbers with commas, or a file with one number a line.

    Returns ascending lengths in samples, or None for "do not pad". `padding_lens.txt` is such a file.
    """
    from .speech.audio import LONGEST, RECEPTIVE_FIELD, is_length
    from .speech.padding import GEARS

    if text == "none":
        return None
    if text == "default":
        return GEARS
    numbers = text.replace(",", " ").split()
    if not all(map(str.isdecimal, numbers)):
        name = expand_path(text)
        if not os.path.isfile(name):  # noqa: PTH113 (Path.is_file fails if a list of gears is too long for a name)
            raise SuiteError(
                f"expected 'none', 'default', numbers of samples with commas, or a file with one number "
                f"a line; found {_shown(text)}"
            )
        with Path(name).open(encoding="utf-8", errors="replace") as file:
            numbers = file.read(_LONGEST_GEARS_FILE).split()
            if file.read(1):
                raise SuiteError(f"expected a file of numbers of samples, found more than 4 MB: {text}")
    if not numbers or not all(map(is_length, numbers)):
        wrong = next((each for each in numbers if not is_length(each)), "")
        raise SuiteError(f"expected whole numbers of samples, {RECEPTIVE_FIELD} to {LONGEST}; found {_shown(wrong)}")
    return tuple(sorted(set(map(int, numbers))))


def add_dataset_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`--which_dataset`, `--dataset_path`, `--limit`, and the columns of a custom table."""
    parser.add_argument(
        "--which_dataset",
        required=required,
        type=checked(parse_name),
        metavar="NAME",
        help="validation: LibriSpeech's 73-utterance dummy set; clean: test-clean; other: test-other; with "
        "--dataset_path also the name of any split's folder, such as dev-other; custom: your own recordings",
    )
    parser.add_argument(
        "--dataset_path",
        type=path_text,
        metavar="PATH",
        help="a local LibriSpeech tree (clean: test-clean, other: test-other, validation: dev-clean), a split's folder "
        "of one, or a local copy of the hub's data set; of custom recordings a table or a folder; read instead of the "
        "hub, without touching the network",
    )
    parser.add_argument("--limit", metavar="N", type=integer(1), help="use only the first N utterances")
    add_column_options(parser)


def add_column_options(parser: argparse.ArgumentParser) -> None:
    """`--audio_column` and `--text_column`."""
    parser.add_argument("--audio_column", metavar="NAME", help="the column of a custom table with the audio files")
    parser.add_argument("--text_column", metavar="NAME", help="the column of a custom table with the texts")


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """`--chunk_s`, `--stride_s` and `--skip_unusable`."""
    parser.add_argument(
        "--chunk_s",
        type=number,
        metavar="S",
        help="cut utterances longer than S seconds into overlapping chunks, 0: cut none (default: the last gear, or "
        "35 s without gears, for --which_dataset=custom; else 0)",
    )
    parser.add_argument(
        "--stride_s",
        type=number,
        metavar="S",
        help="how far a chunk overlaps its neighbours on either side, in seconds (default: a sixth of --chunk_s)",
    )
    parser.add_argument(
        "--skip_unusable",
        action="store_true",
        help="leave out utterances that are damaged, too short or too long, and list them in skipped.tsv",
    )


def chunking(args: argparse.Namespace) -> Chunking | None:
    """What `--chunk_s` and `--stride_s` ask for with these gears; None: no utterance is cut."""
    from .speech.audio import SAMPLE_RATE, SAMPLES_PER_FRAME
    from .speech.chunks import new_chunking
    from .speech.padding import LONGEST_GEAR

    longest = args.gears[-1] if args.gears else None
    chunk_s = args.chunk_s
    if chunk_s is None:
        if args.which_dataset != CUSTOM:
            if args.stride_s is not None:
                raise SuiteError("--stride_s: expected --chunk_s with it, found none")
            return None
        chunk_s = (longest or LONGEST_GEAR) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME / SAMPLE_RATE
        if chunk_s < SHORTEST_CHUNK_S:  # these gears are no lengths to cut to
            chunk_s = 0
    if not chunk_s:
        if args.stride_s is not None:
            raise SuiteError("--stride_s: without chunks there is no overlap; leave it out, or see --chunk_s")
        return None
    found = new_chunking(chunk_s, args.stride_s)
    if longest is not None and found.chunk > longest:
        raise SuiteError(
            f"--chunk_s={chunk_s:g}: {found.chunk} samples are longer than the last gear, {longest}; choose a shorter "
            f"chunk, or longer --gears"
        )
    return found


def add_model_option(parser: argparse.ArgumentParser, default: str | None = MODEL_ID) -> None:
    """`--model_name_or_path` and `--target_lang`."""
    parser.add_argument(
        "--model_name_or_path",
        type=path_text,
        default=default,
        metavar="MODEL",
        help="hub id, or local folder with the hub's files",
    )
    parser.add_argument(
        "--target_lang",
        metavar="LANG",
        help="language of a model for several, such as MMS; without it, the one that the model's tokenizer names",
    )


def add_scoring_options(parser: argparse.ArgumentParser) -> None:
    """`--normalize_text` and `--word_times`."""
    parser.add_argument(
        "--normalize_text",
        choices=normalization.CHOICES,
        default=normalization.NONE,
        help="also score without what this normalizer of Whisper ignores, such as case and punctuation",
    )
    parser.add_argument(
        "--word_times",
        action="store_true",
        help="also write when each word was said: words.ctm, <key>.srt, and words in utterances.jsonl",
    )


def add_quiet_option(parser: argparse.ArgumentParser) -> None:
    """`--quiet`, which takes effect at once."""
    parser.add_argument(
        "--quiet", action=_Quiet, help="print nothing but errors, warnings and the last line, the result"
    )


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    """`--num_threads`."""
    parser.add_argument(
        "--num_threads", type=integer(1, MOST_THREADS), default=default_threads(), metavar="N", help="CPU threads"
    )


def add_workspace_option(parser: argparse.ArgumentParser, default: int | None, default_text: str = "") -> None:
    """`--workspace`, stored as `warm_up`."""
    parser.add_argument(
        "--workspace",
        dest="warm_up",
        type=integer(0),
        default=default,
        metavar="N",
        help=f"leave the first N inferences out of the averages (warm-up){default_text}",
    )


def run(main: Callable[[Sequence[str] | None], int], hint: str = "") -> NoReturn:
    """Run a script's `main` and exit with its status. `hint` is added to the line that reports an interruption.

    SuiteError, a missing package, OSError (disk full, no permission) and a lack of memory become one line and status 2.
    SIGTERM ends the script like Ctrl-C, through every `finally`, so that temporary files and devices are released.
    """
    script = _program()
    status: str | int | None
    try:
        status = _run_to_end(main)
    except SuiteError as error:
        status = _fail(script, str(error))
    except ImportError as error:
        status = _fail(script, lacking(error, script))
    except BrokenPipeError:  # the reader of our output has closed it, as `head` does
        status = 128 + signal.SIGPIPE
    except MemoryError:
        status = _fail(script, "not enough memory; see --num_workers, or free some")
    except RuntimeError as error:
        if "start new thread" not in str(error):  # Python's words where the system has no place for one
            raise
        status = _fail(script, "no thread can be started; end other processes, or raise their limit (ulimit -u)")
    except OSError as error:
        status = _fail(script, f"{error.strerror or error}{_place_of(error)}")
    except (KeyboardInterrupt, Terminated) as interruption:
        _say(f"{script}: interrupted{hint and '; '}{hint}")
        status = interruption.code if isinstance(interruption, Terminated) else 128 + signal.SIGINT
    for stream in (sys.stdout, sys.stderr):
        if not _flushed(stream):  # Python would report the same error once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)


def _program() -> str:
    """The name of this process's program: `report.py` where Python runs the package `report`."""
    path = Path(sys.argv[0])
    return f"{path.parent.name}.py" if path.name == "__main__.py" else path.name


def _run_to_end(main: Callable[[Sequence[str] | None], int]) -> str | int | None:
    """The exit status of `main`, whose output has been written. Signals are exceptions in here, and nowhere else."""
    try:
        raise_signals()
        if not sys.warnoptions:  # libraries' warnings would stand beside our line; `python -W default` shows them
            warnings.simplefilter("ignore")
            os.environ["PYTHONWARNINGS"] = "ignore"  # for worker processes
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # an ASCII terminal gets a question mark, not a traceback
        status: str | int | None
        try:
            status = main(None)
        except Terminated:
            raise
        except SystemExit as end:  # raised by argparse, whose text may still be in the buffer
            status = end.code
        sys.stdout.flush()
        return status
    finally:  # too late to interrupt: no second line, and no traceback during interpreter shutdown
        end_signals()


def _fail(script: str, message: str) -> int:
    _say(f"{script}: error: {message}")
    return EXIT_USER_ERROR


def _say(message: str) -> None:
    """Write one line to stderr, whatever `message` holds, at once and without Python's buffer."""
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    line = UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], line)
    _flushed(sys.stderr)
    with suppress(OSError):  # nobody can be told
        os.write(2, f"{line}\n".encode(sys.stderr.encoding, errors="replace"))


def _place_of(error: OSError) -> str:
    """Where the error occurred, as the end of a sentence. Standard output fails without a name."""
    if error.filename is not None:
        return f": {error.filename}"
    return "" if _flushed(sys.stdout) else ": standard output"


def _flushed(stream: TextIO) -> bool:
    """Write what is buffered. False if that fails."""
    try:
        stream.flush()
    except OSError:
        return False
    return True
