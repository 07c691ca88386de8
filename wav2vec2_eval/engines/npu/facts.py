# SPDX-License-Identifier: Apache-2.0
"""What an Ascend host says of itself, for reports of errors. What it does not say is "unknown", and never an error."""

from __future__ import annotations

import os
from pathlib import Path

from .acl_codes import MEMORY
from .acl_runtime import Acl

UNKNOWN = "unknown"
DRIVER_INFO = Path("/usr/local/Ascend/driver/version.info")  # lines "Name=value", in the usual place


def cann_home() -> str | None:
    """The folder of the CANN that set_env.sh chose, if any. Its real path names the version."""
    home = os.environ.get("ASCEND_TOOLKIT_HOME")
    return os.path.realpath(home) if home else None


def host_facts() -> dict[str, str]:
    """What is known before a device is opened: label -> text."""
    return {"CANN": cann_home() or UNKNOWN, "driver": driver_version()}


def driver_version(path: Path = DRIVER_INFO) -> str:
    """The driver's version, from the file that its installer writes."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return UNKNOWN
    versions = (line.partition("=")[2].strip() for line in lines if line.startswith("Version="))
    return next(versions, "") or UNKNOWN


def device_facts(acl: Acl) -> dict[str, str]:
    """What CANN says of itself and of the open device: label -> text."""
    chip = acl.get("acl.get_soc_name") or UNKNOWN
    return {"acl": acl_version(acl), "chip": chip, "device memory": device_memory(acl)}


def acl_version(acl: Acl) -> str:
    """The version of the interface acl, which is not CANN's."""
    numbers = acl.ask("acl.get_version")
    return UNKNOWN if numbers is None else ".".join(map(str, numbers))


def device_memory(acl: Acl) -> str:
    """Free and whole memory of the open device, of each kind that it has."""
    known = []
    for kind, code in MEMORY.items():
        free, total = acl.ask("acl.rt.get_mem_info", code) or (0, 0)  # bytes
        if total:
            known.append(f"{kind} {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    return ", ".join(known) or UNKNOWN
