# SPDX-License-Identifier: Apache-2.0
"""As sitecustomize.py: any access to the network is noted in the file NETWORK_LOG names, and fails.

Python calls an audit hook before the access, also where a library catches the error
(https://docs.python.org/3/library/audit_events.html).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ACCESSES = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in ACCESSES:
        with Path(os.environ["NETWORK_LOG"]).open("a", encoding="utf-8") as log:
            log.write(f"{event} {arguments}\n")
        raise AssertionError("network access")


sys.addaudithook(refuse)
