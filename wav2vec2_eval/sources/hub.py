# SPDX-License-Identifier: Apache-2.0
"""Access to the Hugging Face hub: when it is used, downloading one file, and the message of a failure."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from ..errors import SuiteError, one_line

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def is_local(model: str) -> bool:
    """True for a folder, False for a hub id; SuiteError for a path that is no folder."""
    if model and Path(model).is_dir():
        return True
    if not _HUB_ID.fullmatch(model):
        raise SuiteError(
            f"{model}: expected a model folder or a hub id, found no such folder; see --model_name_or_path"
        )
    return False


def hub_error(what: str, error: Exception, local_option: str) -> SuiteError:
    """The error for a failed hub access: it names the id, the endpoint, and the option that avoids the hub."""
    endpoint = os.environ.get("HF_ENDPOINT", "the hub's default")
    return SuiteError(
        f"{what}: not loaded from the hub (endpoint: {endpoint}; a mirror can be set by HF_ENDPOINT): "
        f"{type(error).__name__}: {one_line(error, 200)}; offline, give a local copy by {local_option}"
    )


def silence_hub() -> None:
    """Keep the hub client from logging each of its retries; the final failure is reported by `hub_error`."""
    from huggingface_hub.utils.logging import set_verbosity

    set_verbosity(logging.CRITICAL)


def download(model: str, name: str, required: bool) -> Path | None:
    """The local copy of a file of hub id `model`. None if there is no such file and it is not required."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    silence_hub()
    try:
        return Path(hf_hub_download(model, name))
    except EntryNotFoundError as error:
        if required:
            raise hub_error(f"{model}/{name}", error, "--model_name_or_path") from None
        return None
    except Exception as error:  # errors of the hub client, its HTTP library and the system
        raise hub_error(f"{model}/{name}", error, "--model_name_or_path") from None
