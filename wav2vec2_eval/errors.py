# SPDX-License-Identifier: Apache-2.0
"""The one exception that stands for "the user can put this right"."""

from __future__ import annotations


class SuiteError(Exception):
    """Bad input. The message is one line: what was expected, what was found, what to do.

    `cli.run` prints it without a traceback and ends the script with status 2.
    """
