# SPDX-License-Identifier: Apache-2.0
"""As sitecustomize.py: any access to the network ends the script with an AssertionError."""

from __future__ import annotations

import socket
from typing import NoReturn


def refuse(*_arguments: object, **_options: object) -> NoReturn:
    raise AssertionError("network access")


for owner, name in ((socket.socket, "connect"), (socket.socket, "connect_ex"), (socket, "getaddrinfo")):
    setattr(owner, name, refuse)
