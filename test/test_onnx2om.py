# SPDX-License-Identifier: Apache-2.0
"""Proves what onnx2om.sh hands to atc, how it finds CANN, and how it reports errors; atc is a small shell script."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from wav2vec2_eval import __version__

from conftest import BEHIND_SET_ENV, ROOT, wait_until

SCRIPT = ROOT / "onnx2om.sh"

# Notes its arguments, and does what ATC_DOES says.
ATC = dedent(
    """\
    #!/bin/bash
    printf "%s\\n" "$@" >arguments
    case ${ATC_DOES:-} in
    fail)
        echo 'E10001: bad'
        exit 255
        ;;
    nothing) exit 0 ;;
    wait)
        sleep 60 &
        sleep 60
        ;;
    dynamic) suffix=_linux_aarch64 ;;
    esac
    if [[ " $* " == *" --mode=7 "* ]]; then new=2; fi
    sleep 0.01
    for argument in "$@"; do
        case $argument in
        --output=*) touch "${argument#*=}${suffix:-}.om${new:-}" ;;
        esac
    done
    """
)


@pytest.fixture
def host(tmp_path) -> Path:
    """A folder with a model, and ATC in front of the PATH."""
    (tmp_path / "models").mkdir()
    for name in ("wav2vec2-base-960h", "wav2vec2-base-960h-masked"):
        (tmp_path / f"models/{name}.onnx").touch()
    tool = tmp_path / "bin/atc"
    tool.parent.mkdir()
    tool.write_text(ATC)
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def run(host: Path, *arguments: str, path: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{path or host / 'bin'}:/usr/bin:/bin", "HOME": str(host), **environment}
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments], cwd=host, env=environment, capture_output=True, text=True, check=False
    )


def arguments(host: Path) -> dict[str, str]:
    lines = (host / "arguments").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


ALL_GEARS = [str(gear) for gear in range(10_000, 560_001, 10_000)]


def test_flags(host):
    done = run(host, "Ascend310P3")
    assert (done.returncode, done.stderr) == (0, "")
    assert arguments(host) == {
        "--framework": "5",
        "--model": "./models/wav2vec2-base-960h.onnx",
        "--output": "./models/wav2vec2-base-960h",
        "--input_format": "ND",
        "--input_shape": "input:1,-1",
        "--dynamic_dims": ";".join(ALL_GEARS),
        "--soc_version": "Ascend310P3",
        "--log": "error",
    }


@pytest.mark.parametrize(("options", "written"), [([], "om"), (["--mode=7"], "om2")])
def test_which_file_was_written(host, options, written):
    done = run(host, "Ascend310P3", *options)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"written: ./models/wav2vec2-base-960h.{written}")


def test_masked_models_have_two_inputs(host):
    assert run(host, "Ascend310P3", "wav2vec2-base-960h-masked").returncode == 0
    assert arguments(host)["--input_shape"] == "input:1,-1;attention_mask:1,-1"
    assert arguments(host)["--dynamic_dims"] == ";".join(f"{gear},{gear}" for gear in ALL_GEARS)


@pytest.mark.parametrize("form", [["--gears_from=my lens.txt"], ["--gears_from", "my lens.txt"]])
@pytest.mark.parametrize(
    ("lines", "shape", "dims"),
    [
        ("30000\n10000\n30000\n", "input:1,-1", "10000;30000"),
        ("30000\r\n10000\r\n", "input:1,-1", "10000;30000"),
        ("20000\n", "input:1,20000", None),
    ],
)
def test_gears_in_use(host, form, lines, shape, dims):
    (host / "my lens.txt").write_text(lines)
    assert run(host, "Ascend310P3", *form, "--precision_mode_v2=mixed_float16").returncode == 0
    assert arguments(host)["--input_shape"] == shape
    assert arguments(host).get("--dynamic_dims") == dims
    assert arguments(host)["--precision_mode_v2"] == "mixed_float16"


@pytest.mark.parametrize(
    ("options", "environment", "status", "message"),
    [
        ([], {}, 2, "expected a SoC name first, found 'nothing'"),
        (["--log=info"], {}, 2, "expected a SoC name first, found '--log=info'"),
        (["Ascend310P3", "other"], {}, 2, "./models/other.onnx: no such file; run export_onnx.py"),
        (["Ascend310P3", "--gears_from=none.txt"], {}, 2, "found no file 'none.txt'"),
        (["310P3"], {}, 2, "expected a SoC name first, found '310P3'; is it Ascend310P3?"),
        (["Ascend310P3", "m.onnx"], {}, 2, "expected a model's name without folder and suffix, found 'm.onnx'"),
        (["Ascend310P3", "./models/m"], {}, 2, "without folder and suffix, found './models/m'"),
        (["Ascend310P3", "--gears_from"], {}, 2, "found no file ''"),
        (["Ascend310P3", "--gears_from=bin/atc"], {}, 2, "bin/atc, found '#!/bin/bash'"),
        (["Ascend310P3", "--gears_from=some.txt"], {}, 2, "found '20000 x'"),
        (["Ascend310P3", "--gears_from=empty.txt"], {}, 2, "expected one whole number per line in empty.txt, found ''"),
        (["Ascend310P3", "--gears_from=gap.txt"], {}, 2, "expected one whole number per line in gap.txt, found ''"),
        (["Ascend310P3", "--gears_from=digits.txt"], {}, 2, "digits.txt, found '" + "9" * 40 + "'"),
        (["Ascend310P3", "--gears_from=zeros.txt"], {}, 2, "found a larger one 'zeros.txt'"),
        (["Ascend310P3", "--gears_from=pipe"], {}, 2, "found no file 'pipe'"),
        (["Ascend310P3", "--gears_from=/dev/zero"], {}, 2, "found no file '/dev/zero'"),
        (["Ascend310P3", "--gears_from=many.txt"], {}, 2, "expected at most 100 lengths in many.txt"),
        (["Ascend310P3", "--gears_from=a\nb"], {}, 2, "found no file 'a b'"),
        (["Ascend310P3"], {"ATC_DOES": "fail"}, 1, "atc failed with status 255"),
        (["Ascend310P3"], {"ATC_DOES": "nothing"}, 1, "wrote no ./models/wav2vec2-base-960h.om"),
        (["Ascend310P3"], {"ATC_DOES": "dynamic"}, 1, "a model of dynamic shape instead of gears"),
    ],
)
def test_errors(host, options, environment, status, message):
    (host / "some.txt").write_text("20000\n20000 x\n")
    (host / "empty.txt").write_text("")
    (host / "gap.txt").write_text("10000\n\n20000\n")
    (host / "digits.txt").write_text("9" * 5000)
    with (host / "zeros.txt").open("wb") as file:
        file.truncate(10 << 30)  # a hole, which takes no place
    os.mkfifo(host / "pipe")
    (host / "many.txt").write_text("".join(f"{gear}\n" for gear in range(1000, 1101)))
    done = run(host, *options, **environment)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert done.stderr.startswith("onnx2om.sh: error: ")
    assert message in done.stderr


def test_the_home_folder_is_expanded(host):
    """The shell leaves the ~ of --gears_from=~/FILE."""
    (host / "lens.txt").write_text("20000\n")
    assert run(host, "Ascend310P3", "--gears_from=~/lens.txt").returncode == 0
    assert arguments(host)["--input_shape"] == "input:1,20000"


@pytest.mark.parametrize(
    ("before", "after"), [(":", ""), ("/a::/b:", "/a:/b"), (":/a", "/a"), ("/a", "/a"), (None, None)]
)
def test_atc_imports_nothing_from_the_current_folder(host, before, after):
    """An empty entry of PYTHONPATH is the current folder; some set_env.sh leave one."""
    with (host / "bin/atc").open("a") as tool:
        tool.write('echo "$PYTHONSAFEPATH ${PYTHONPATH-unset}" >environment\n')
    assert run(host, "Ascend310P3", **({} if before is None else {"PYTHONPATH": before})).returncode == 0
    assert (host / "environment").read_text() == f"1 {'unset' if after is None else after}\n"


def test_an_old_om_is_no_success(host):
    (host / "models/wav2vec2-base-960h.om").write_text("old")
    assert run(host, "Ascend310P3", ATC_DOES="nothing").returncode == 1


not_on_a_cann_host = pytest.mark.skipif(
    Path("/usr/local/Ascend").exists(), reason="this host's own CANN would be found"
)


@not_on_a_cann_host
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_atc_too(host, number):
    script = subprocess.Popen(
        ["bash", str(SCRIPT), "Ascend310P3"],
        cwd=host,
        env={"PATH": f"{host / 'bin'}:/usr/bin:/bin", "HOME": str(host), "ATC_DOES": "wait"},
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_until((host / "arguments").exists, script)
    script.send_signal(number)
    script.communicate(timeout=30)  # atc and what it has started hold the other end of stdout
    assert script.returncode == -number
    assert sorted(path.name for path in (host / "models").iterdir()) == [
        "wav2vec2-base-960h-masked.onnx",
        "wav2vec2-base-960h.onnx",
    ]


def test_no_cann(host):
    done = run(host, "Ascend310P3", path="/usr/bin")
    assert done.returncode == 2
    assert "source CANN's set_env.sh first" in done.stderr


@not_on_a_cann_host
@pytest.mark.parametrize("place", ["cann", "ascend-toolkit", "ASCEND_TOOLKIT_HOME", "ASCEND_TOOLKIT_HOME/latest"])
def test_set_env_is_found(host, place):
    folder = host / ("opt" if place.startswith("ASCEND") else f"Ascend/{place}")
    folder.mkdir(parents=True)
    (folder / "set_env.sh").write_text(f'echo "$UNSET_BY_ANYBODY"; export PATH={host / "bin"}:$PATH\n')
    environment = {}
    if place.startswith("ASCEND"):
        (folder / "latest").mkdir()
        environment["ASCEND_TOOLKIT_HOME"] = str(host / place.replace("ASCEND_TOOLKIT_HOME", "opt"))
    assert run(host, "Ascend310P3", path="/usr/bin", **environment).returncode == 0


def test_a_cann_without_the_compiler_is_passed_over(host):
    for place, line in (("runtime", ":"), ("Ascend/cann", f"export PATH={host / 'bin'}:$PATH")):
        (host / place).mkdir(parents=True)
        (host / place / "set_env.sh").write_text(f"{line}\n")
    done = run(host, "Ascend310P3", path="/usr/bin", ASCEND_TOOLKIT_HOME=str(host / "runtime"))
    assert (done.returncode, done.stderr) == (0, "")


def test_cdpath_changes_nothing(host):
    (host / "suite").symlink_to(ROOT)
    environment = {"PATH": f"{host / 'bin'}:/usr/bin:/bin", "CDPATH": str(host)}
    done = subprocess.run(["bash", "suite/onnx2om.sh", "Ascend310P3"], cwd=host, env=environment, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_users_log_level_wins(host, level):
    assert run(host, "Ascend310P3", f"--log={level}").returncode == 0
    assert (host / "arguments").read_text().count("--log") == 1
    assert arguments(host)["--log"] == level


def test_help_is_help_wherever_it_stands(host):
    for options in (["--help"], ["Ascend310P3", "--help"]):
        done = run(host, *options)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: bash onnx2om.sh SOC_VERSION")
    assert not (host / "arguments").exists()


def test_the_version_is_that_of_the_suite(host):
    for options in (["--version"], ["Ascend310P3", "--version"]):
        done = run(host, *options)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"onnx2om.sh {__version__}\n", "")
    assert not (host / "arguments").exists()


def test_a_broken_npu_smi_changes_nothing(host):
    tool = host / "bin/npu-smi"
    tool.write_text("#!/bin/bash\necho 'dcmi module initialize failed. ret is -8005'\nexit 255\n")
    tool.chmod(0o755)
    done = run(host)
    assert (done.returncode, done.stderr) == (2, "onnx2om.sh: error: expected a SoC name first, found 'nothing'\n")


@pytest.mark.parametrize("soc", ["Ascend310P1", "Ascend910B4-1"])
def test_the_soc_of_this_host_is_offered(soc):
    done = subprocess.run(
        [*BEHIND_SET_ENV, "bash", str(SCRIPT)],
        env={**os.environ, "ACL_EMULATOR_SOC": soc},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"this host has {soc}" in done.stderr
    assert f"bash onnx2om.sh {soc}" in done.stdout
