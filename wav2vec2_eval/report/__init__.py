# SPDX-License-Identifier: Apache-2.0
"""The report: scored results side by side, as a table, as JSON, and as a page."""
