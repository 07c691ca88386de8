# SPDX-License-Identifier: Apache-2.0
"""When each word was said, beside the transcriptions: `words.ctm`, and captions of each utterance, `<key>.srt`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ..speech.captions import captions, format_srt
from ..speech.words import Word, format_ctm
from .folder import OutputFolder, Staging
from .names import CTM_NAME, captions_name, is_word_times


class WordTimes:
    """The words of a run's utterances. Its files are written aside, and `publish` puts them into the folder."""

    def __init__(self, folder: OutputFolder, staged: Staging, writing: ExitStack) -> None:
        self._folder = folder
        self._staged = staged
        self._writing = writing
        self._ctm = writing.enter_context(staged.writing(CTM_NAME))

    def add(self, key: str, utterance_id: str, words: Sequence[Word]) -> None:
        """Write the words of the next utterance. Raises SuiteError if its captions would replace a file of the user.

        `utterance_id` is as `UtteranceIds` gives it: without blanks, and no other utterance's.
        """
        name = captions_name(key)
        self._folder.check_free(name)
        self._ctm.write("".join(format_ctm(utterance_id, word) for word in words).encode())
        self._staged.write_text(name, format_srt(captions(words)))

    def publish(self) -> None:
        """Replace the word times of an earlier run by these."""
        self._writing.close()
        remove_word_times(self._folder)
        self._folder.adopt(self._staged)


@contextmanager
def writing_word_times(folder: OutputFolder) -> Iterator[WordTimes]:
    """Write word times for `folder`, which stays as it is until `publish`. Memory does not grow with the data.

    Raises SuiteError if files of the user, or links, are in the place of the files.
    """
    folder.check_free(CTM_NAME, *_earlier(folder))
    with folder.staging() as staged, ExitStack() as writing:
        yield WordTimes(folder, staged, writing)


def remove_word_times(folder: OutputFolder) -> None:
    """Remove the word times of an earlier run."""
    folder.remove(*_earlier(folder))


def _earlier(folder: OutputFolder) -> Iterator[str]:
    return filter(is_word_times, folder.files() or ())
