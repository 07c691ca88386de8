# SPDX-License-Identifier: Apache-2.0
"""atc refuses what the documented compiler refuses, with the same code; set_env.sh lets any script find atc and acl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from .client import EMULATOR, compile_om, conv_graph, run_atc

ONE = "--input_shape=input:1,-1"
REFUSED = [
    ("E10001", [ONE, "--dynamic_dims=10; 20"]),
    ("E10001", [ONE, "--dynamic_dims=10;-20"]),
    ("E10001", ["--input_shape=input:1,30", "--dynamic_dims=10;20"]),
    ("E10035", [ONE, "--dynamic_dims=10"]),
    ("E10036", [ONE, "--dynamic_dims=" + ";".join(str(gear) for gear in range(10, 111))]),
    ("E10003", [ONE, "--dynamic_dims=10;20,20"]),
    ("E10003", [ONE, "--dynamic_dims=10,10;20,20"]),
    ("E10038", [ONE, "--dynamic_dims=0;20"]),
    ("E10039", [ONE, "--dynamic_dims=10;20;10"]),
    ("E10058", [ONE, "--dynamic_dims="]),
    ("E19999", [ONE, "--dynamic_dims=2;20"]),
    ("E10004", ["--dynamic_dims=10;20"]),
    ("E10004", []),
    ("E10001", ["--input_shape=other:1,-1"]),
    ("E10002", ["--input_shape=input"]),
    ("E10002", ["--input_shape=input:1, -1"]),
    ("E10049", ["--input_shape=input:-1"]),
    ("E10001", ["--input_shape=input:2,-1"]),
    ("E10009", [ONE, "--dynamic_dims=10;20", "--dynamic_batch_size=1,2"]),
    ("E10001", [ONE, "--precision_mode=force_fp16", "--precision_mode_v2=fp16"]),
    ("E10001", [ONE, "--precision_mode_v2=mixed_bfloat16"]),
    ("E13000", [ONE, "--op_precision_mode=missing.ini"]),
    ("E10001", [ONE, "--soc_version=310P3"]),
    ("E10003", [ONE, "--framework=4"]),
    ("E10003", [ONE, "--input_format=NHWC"]),
    ("E10001", [ONE, "--log=verbose"]),
    ("E10001", [ONE, "--no_such_flag=1"]),
    ("E10001", [ONE, "--auto_tune_mode=RL"]),
    ("E10001", [ONE, "--input_fp16_nodes=other"]),
    ("E10001", [ONE, "--output_type=BF16"]),
    ("E10054", [ONE, "20000"]),
    ("E10054", [ONE, "--log"]),
    ("E10054", ["--log", ONE]),
    ("E13000", [ONE, "--model=missing.onnx"]),
    ("E13000", [ONE, "--output=missing/folder/m"]),
]


@pytest.mark.parametrize(("code", "flags"), REFUSED, ids=[f"{code} {flags[-1:]}" for code, flags in REFUSED])
def test_atc_refuses(models, tmp_path, capsys, code, flags):
    assert compile_om(models / "one", f"--output={tmp_path / 'm'}", *flags) == 255
    printed = capsys.readouterr()
    assert printed.out.startswith("ATC start working now, please wait for a moment.\nATC run failed")
    assert f"\n{code}: " in printed.out
    assert printed.err == ""
    assert list(tmp_path.iterdir()) == []


def with_input_type(elem_type: int) -> onnx.ModelProto:
    model = conv_graph(masked=True)
    model.graph.input[1].type.tensor_type.elem_type = elem_type
    return model


def with_operator(name: str) -> onnx.ModelProto:
    model = conv_graph(masked=False)
    model.graph.node[0].op_type = name
    return model


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("E16001", conv_graph(masked=False, opset=10).SerializeToString()),
        ("E16001", with_input_type(TensorProto.INT64).SerializeToString()),
        ("E16001", with_input_type(TensorProto.BOOL).SerializeToString()),
        ("E16002", with_operator("NonZero").SerializeToString()),
        ("E16002", with_operator("Unheard").SerializeToString()),
        ("E16004", b"this is no ONNX file"),
        ("E16004", b""),
    ],
    ids=["opset", "int64", "bool", "NonZero", "unknown operator", "text", "empty"],
)
def test_atc_refuses_graphs(tmp_path, capsys, code, content):
    (tmp_path / "m.onnx").write_bytes(content)
    shape = "--input_shape=input:1,-1;attention_mask:1,-1"
    assert compile_om(tmp_path / "m", shape) == 255
    assert f"\n{code}: " in capsys.readouterr().out


@pytest.mark.parametrize(("strict", "status"), [("1", 255), ("0", 0)])
def test_integer_inputs_are_against_the_list_of_restrictions(tmp_path, monkeypatch, strict, status):
    monkeypatch.setenv("ACL_EMULATOR_STRICT", strict)
    model = conv_graph(masked=False)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    model.graph.node.insert(0, helper.make_node("Cast", ["input"], ["samples"], to=TensorProto.FLOAT))
    model.graph.node[1].input[0] = "samples"
    onnx.save(model, tmp_path / "m.onnx")
    assert compile_om(tmp_path / "m", "--input_shape", "input:1,-1", "--dynamic_dims", "10;20") == status


@pytest.mark.parametrize("missing", ["--model", "--framework", "--output", "--soc_version"])
def test_atc_needs_its_flags(models, tmp_path, capsys, missing):
    flags = [
        f"--model={models / 'one.onnx'}",
        "--framework=5",
        f"--output={tmp_path}/m",
        "--soc_version=Ascend310P3",
    ]
    assert run_atc(*(flag for flag in flags if not flag.startswith(missing))) == 255
    assert f"E10054: {missing}" in capsys.readouterr().out


def test_atc_needs_its_environment(models, monkeypatch, capsys):
    monkeypatch.delenv("ASCEND_OPP_PATH")
    assert compile_om(models / "fixed") == 255
    assert "E10501" in capsys.readouterr().out


def test_shapes_that_stay_dynamic_give_another_file(models, tmp_path):
    assert compile_om(models / "one", ONE, f"--output={tmp_path / 'm'}") == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"m_linux_{os.uname().machine}.om"]


def test_a_trailing_semicolon_is_tolerated(models, tmp_path):
    assert compile_om(models / "one", ONE, "--dynamic_dims=10;20;", f"--output={tmp_path / 'm'}") == 0
    assert (tmp_path / "m.om").is_file()


def test_set_env_serves_any_script(tmp_path):
    """A strict shell in another folder finds atc, npu-smi and acl, also if the installation's path contains a blank."""
    home = tmp_path / "a CANN"
    shutil.copytree(EMULATOR, home, ignore=shutil.ignore_patterns("__pycache__"))
    onnx.save(conv_graph(masked=False, length=30), tmp_path / "m.onnx")
    script = f"""
        set -euo pipefail
        unset PYTHONPATH
        source '{home}/set_env.sh'
        test "$ASCEND_TOOLKIT_HOME" = '{home}'
        npu-smi info
        atc --model=m.onnx --framework=5 --output=m --soc_version=Ascend310P3
        test -s m.om
        "$PYTHON" -c 'import acl; print(acl.__file__, acl.rt.get_device_count())'
        atc --model=missing.onnx --framework=5 --output=m --soc_version=Ascend310P3
    """
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 255, done.stderr
    assert "| 0       310P3 " in done.stdout
    assert "ATC start working now, please wait for a moment.\nATC run success" in done.stdout
    assert f"{home}/python/site-packages/acl/__init__.py (1, 0)" in done.stdout
    assert "ATC run failed" in done.stdout and "E13000: " in done.stdout
