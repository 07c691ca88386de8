# SPDX-License-Identifier: Apache-2.0
"""Access to the Hugging Face hub: when it is used, downloading one file, and the message of a failure.

The hub's client would try again for minutes, in silence. Here its first failure is final for the whole process: what
was downloaded before is taken from the client's cache, and anything else is an error.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import SuiteError, one_line
from ..machine.terminal import say

TIMEOUT_S = 10  # for connecting and for each answer; HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT may raise it

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_UNAVAILABLE = (408, 429, 500, 502, 503, 504)  # the answers after which the client would try again

_asked: set[str] = set()
_failure: str | None = None  # the first failure of this process


def is_local(model: str) -> bool:
    """True for a folder, False for a hub id; SuiteError for a path that is no folder."""
    path = Path(model)
    if model and path.is_dir():
        return True
    if not _HUB_ID.fullmatch(model) or os.path.lexists(path):
        raise SuiteError(
            f"{model}: expected a model folder or a hub id, found no such folder; see --model_name_or_path"
        )
    return False


def snapshot(folder: Path) -> Path:
    """The files of a copy that the hub's client keeps: those of the revision that refs/main names, or of the only one.

    The client's cache has a folder `models--org--name` or `datasets--org--name` for each repository, with a sub-folder
    of `snapshots` for each revision. Any other folder is returned as it is. Raises SuiteError for several revisions of
    which none is named.
    """
    if not (folder / "snapshots").is_dir() or (folder / "config.json").exists():
        return folder
    revisions = sorted(path for path in (folder / "snapshots").iterdir() if path.is_dir())
    main = folder / "refs/main"
    named = main.read_text(encoding="utf-8", errors="replace").strip() if main.is_file() else ""
    chosen = [path for path in revisions if path.name == named] or revisions
    if len(chosen) != 1:
        found = ", ".join(path.name[:12] for path in revisions[:3]) or "none"
        raise SuiteError(
            f"{folder}: expected one revision in snapshots, or its name in refs/main, found {len(revisions)} "
            f"({found}); give the folder of one"
        )
    return chosen[0]


def ask(name: str) -> None:
    """Say on stdout that the hub is asked for `name`, and prepare its client: to be called before each use of it."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils.logging import set_verbosity

    if not _asked:
        set_verbosity(logging.CRITICAL)  # hub_error reports the failure
        client = huggingface_hub.get_session()
        client.send = partial(_send_once, client.send)  # type: ignore[method-assign]
    if name not in _asked and not constants.HF_HUB_OFFLINE:
        say(f"asking the hub for {name} (endpoint: {_endpoint()})")
    _asked.add(name)


def _send_once(send: Callable[..., Any], request: Any, **options: Any) -> Any:
    """Send a request of the hub's client, unless an earlier one failed.

    Raises OfflineModeIsEnabled for any failure: the client and the libraries above it know that this is no case for
    another try, but one for the cache.
    """
    global _failure
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    limit_s = max(TIMEOUT_S, constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT)
    request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), limit_s)
    if _failure is None:
        try:
            response = send(request, **options)
            if response.status_code not in _UNAVAILABLE:
                return response
            response.close()
            _failure = f"HTTP status {response.status_code} (tried once)"
        except OfflineModeIsEnabled:  # by HF_HUB_OFFLINE
            raise
        except Exception as error:  # errors of the HTTP library and the system
            _failure = f"{type(error).__name__}: {one_line(error, 200)} (tried once, for at most {limit_s} s)"
    raise OfflineModeIsEnabled(_failure)


def hub_error(what: str, error: Exception, local_option: str) -> SuiteError:
    """The error for a failed hub access: it names the id, the endpoint, and the option that avoids the hub."""
    return SuiteError(
        f"{what}: not loaded from the hub (endpoint: {_endpoint()}; a mirror can be set by HF_ENDPOINT): "
        f"{_reason(error)}; offline, give a local copy by {local_option}"
    )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "the hub's default")


def _reason(error: Exception) -> str:
    """What went wrong. The libraries hide a failed connection behind errors of their own."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    if _failure is not None:
        return _failure
    if constants.HF_HUB_OFFLINE and isinstance(error, (LocalEntryNotFoundError, ConnectionError)):
        return "HF_HUB_OFFLINE is set, and the cache of the hub's client has no copy"
    return f"{type(error).__name__}: {one_line(error, 200)}"


def model_file(model: str, name: str, required: bool) -> Path | None:
    """A file of a model: in its folder, where it may be missing, or downloaded. None if the hub has no such file."""
    return snapshot(Path(model)) / name if is_local(model) else download(model, name, required)


def download(model: str, name: str, required: bool) -> Path | None:
    """The local copy of a file of hub id `model`. None if there is no such file and it is not required."""
    import huggingface_hub

    ask(model)
    try:
        return Path(huggingface_hub.hf_hub_download(model, name))
    except Exception as error:  # errors of the hub client, its HTTP library and the system
        if not required and _is_absent(model, name, error):
            return None
        raise hub_error(f"{model}/{name}", error, "--model_name_or_path") from None


def _is_absent(model: str, name: str, error: Exception) -> bool:
    """Whether a failed download proves that the hub has no such file. A failed connection does not."""
    from huggingface_hub import _CACHED_NO_EXIST, constants, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if not isinstance(error, LocalEntryNotFoundError):
        return isinstance(error, EntryNotFoundError)
    if try_to_load_from_cache(model, name) is _CACHED_NO_EXIST:  # the hub has said so earlier
        return True
    # With HF_HUB_OFFLINE, the user says that what is in the cache of this model is all that there is.
    return constants.HF_HUB_OFFLINE and isinstance(try_to_load_from_cache(model, "config.json"), str)
