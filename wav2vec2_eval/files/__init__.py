# SPDX-License-Identifier: Apache-2.0
"""The files between the scripts: their names, their formats, and which of them a script may replace."""
