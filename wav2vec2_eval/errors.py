# SPDX-License-Identifier: Apache-2.0
"""SuiteError, for everything that the user can put right, and one_line(), for the messages of other libraries."""

from __future__ import annotations

import re

# Control characters, line separators, and surrogates: what a line of a terminal or of a UTF-8 table cannot hold.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(error: Exception, limit: int = 300) -> str:
    """The message of another library's error, cut to one line of at most `limit` characters."""
    return " ".join(str(error).split())[:limit]


class SuiteError(Exception):
    """Bad input. The message is one line: what was expected, what was found, what to do.

    `cli.run` prints it without a traceback and ends the script with status 2.
    """


class Unusable(SuiteError):
    """An utterance that cannot be used. The others can."""

    def with_remedy(self) -> Unusable:
        """The error for a script that was not told to leave such utterances out."""
        return Unusable(f"{self}; --skip_unusable leaves such utterances out")
