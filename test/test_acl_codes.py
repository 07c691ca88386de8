# SPDX-License-Identifier: Apache-2.0
"""Proves that docs/ascend.md and its Chinese version list the error codes that the suite explains, and no others."""

from __future__ import annotations

import re

import numpy as np
import pytest

from wav2vec2_eval.engines.npu.acl_codes import ACL_DTYPE, MEANINGS
from wav2vec2_eval.files.tensors import DTYPE

from conftest import ROOT


def documented(name: str) -> dict[int, str]:
    """Code -> meaning, from the rows `| code | meaning | what to do |` of a document."""
    rows = re.findall(r"^\| (\d{6}) \| ([^|]*) \|", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len({code for code, _ in rows}), "a code is listed twice"
    return {int(code): meaning for code, meaning in rows}


def test_the_table_of_the_document_is_the_table_of_the_code():
    assert documented("ascend.md") == MEANINGS


def test_the_chinese_table_explains_the_same_codes():
    """In Chinese: a meaning that was left in English is an acronym at most."""
    chinese = documented("ascend.zh-CN.md")
    assert list(chinese) == list(documented("ascend.md"))
    assert [meaning for meaning in chinese.values() if not re.search(r"[\u4e00-\u9fff]", meaning)] == []


@pytest.mark.parametrize("code", ACL_DTYPE)
def test_every_type_of_acl_is_a_type_of_the_suite(code):
    assert np.dtype(ACL_DTYPE[code]) == DTYPE[ACL_DTYPE[code]]
