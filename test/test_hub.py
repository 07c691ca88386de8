# SPDX-License-Identifier: Apache-2.0
"""Proves which model names mean a folder and which the hub, and that a hub that fails is asked once."""

from __future__ import annotations

import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources import hub

from conftest import BARE_ENVIRONMENT, ROOT


def test_a_folder_is_local_also_if_its_name_could_be_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facebook/model").mkdir(parents=True)
    for name in ("facebook", "facebook/model", "./facebook", str(tmp_path)):
        assert hub.is_local(name)


@pytest.mark.parametrize("name", ["facebook/wav2vec2-base-960h", "gpt2", "a.b/c_d-e.1"])
def test_a_hub_id_is_not_local(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not hub.is_local(name)


@pytest.mark.parametrize(
    "name", ["./no such folder", "/no/such/folder", "../x", "a/b/c", "a/", "~/x", "a\\b", "a\0", ""]
)
def test_a_path_without_a_folder_is_refused(name):
    with pytest.raises(SuiteError, match="found no such folder"):
        hub.is_local(name)


def make_cache(folder: Path, revisions: list[str], main: str | None) -> Path:
    """A repository's folder in the cache of the hub's client."""
    for revision in revisions:
        (folder / "snapshots" / revision).mkdir(parents=True)
        (folder / "snapshots" / revision / "config.json").write_text(f'{{"revision": "{revision}"}}')
    (folder / "snapshots").mkdir(parents=True, exist_ok=True)
    (folder / "snapshots/.DS_Store").touch()
    if main is not None:
        (folder / "refs").mkdir()
        (folder / "refs/main").write_text(main)
    return folder


@pytest.mark.parametrize(
    ("revisions", "main", "expected"),
    [(["a1"], None, "a1"), (["a1"], "gone", "a1"), (["a1", "b2"], "b2", "b2"), (["a1", "b2"], "a1\n", "a1")],
)
def test_a_folder_of_the_clients_cache_is_read_from_one_revision(tmp_path, revisions, main, expected):
    folder = make_cache(tmp_path / "models--org--name", revisions, main)
    assert hub.snapshot(folder) == folder / "snapshots" / expected
    path = hub.model_file(str(folder), "config.json", required=True)
    assert path is not None and expected in path.read_text()


@pytest.mark.parametrize(("revisions", "main"), [(["a1", "b2"], None), (["a1", "b2"], "gone"), ([], None), ([], "a1")])
def test_no_revision_is_guessed(tmp_path, revisions, main):
    folder = make_cache(tmp_path / "models--org--name", revisions, main)
    with pytest.raises(SuiteError, match=rf"expected one revision in snapshots, .* found {len(revisions)} ") as error:
        hub.snapshot(folder)
    assert len(str(error.value).splitlines()) == 1


def test_any_other_folder_is_read_as_it_is(tmp_path):
    assert hub.snapshot(tmp_path) == tmp_path
    make_cache(tmp_path, ["a1"], None)
    (tmp_path / "config.json").touch()  # a model folder with a sub-folder of this name
    assert hub.snapshot(tmp_path) == tmp_path


@pytest.mark.parametrize("make", [lambda path: path.touch(), os.mkfifo, lambda path: path.symlink_to("gone")])
def test_a_file_is_refused_as_a_model_folder(tmp_path, monkeypatch, make):
    make(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    for name in ("model", str(tmp_path / "model")):
        with pytest.raises(SuiteError, match="found no such folder"):
            hub.is_local(name)


def test_a_failed_download_names_id_endpoint_and_remedy(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    with pytest.raises(SuiteError) as error:
        hub.download("nobody/no-such-model", "vocab.json", required=True)
    for part in ("nobody/no-such-model", "https://mirror.example", "--model_name_or_path", "HF_HUB_OFFLINE is set"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("failure", "is_absent"),
    [
        (EntryNotFoundError("a/b has no x.json"), True),
        (LocalEntryNotFoundError("no connection, and no copy of a/b"), False),  # a subclass of the other
        (ConnectionError("a/b: no route"), False),
        (OSError("a/b: disk full"), False),
    ],
)
@pytest.mark.parametrize("required", [True, False])
def test_only_an_optional_file_may_be_missing_and_only_if_the_hub_says_so(monkeypatch, failure, is_absent, required):
    def refuse(model, name):
        raise failure

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    if is_absent and not required:
        assert hub.download("a/b", "x.json", required) is None
    else:
        with pytest.raises(SuiteError, match=r"a/b/x\.json: not loaded from the hub .*a/b"):
            hub.download("a/b", "x.json", required)


def test_a_downloaded_file_is_a_path(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda model, name: f"{tmp_path}/{model}/{name}")
    assert hub.download("a/b", "x.json", required=False) == tmp_path / "a/b/x.json"


def test_a_hub_error_is_one_line(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    message = str(hub.hub_error("a/b", OSError("no\n  route"), "--option"))
    assert message.startswith("a/b: not loaded from the hub (endpoint: the hub's default;")
    assert message.endswith("OSError: no route; offline, give a local copy by --option")


# With a hub


PROGRAM = """
import sys
from huggingface_hub import constants
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.sources import hub

hub.TIMEOUT_S = constants.HF_HUB_ETAG_TIMEOUT = constants.HF_HUB_DOWNLOAD_TIMEOUT = 1
try:
    exec(sys.argv[1])
except SuiteError as error:
    print(error)
"""

SYMBOLS = "from wav2vec2_eval.sources.model_folder import symbols; print(len(symbols('me/demo').table))"
EXTRACTOR = "from wav2vec2_eval.sources.model_folder import feature_extractor; print(feature_extractor('me/demo'))"
MODEL = "from wav2vec2_eval.sources.pytorch_model import load_model; print(type(load_model('me/demo')).__name__)"
DATASET = "from wav2vec2_eval.sources.choose import open_dataset; open_dataset('clean')"


def use_hub(code, port, home, **environment):
    """The lines that `code` prints in a new process, which may use the hub on this port."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, code],
        env={
            **BARE_ENVIRONMENT,
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


@contextmanager
def listening(answer: bytes | None) -> Iterator[tuple[int, list[socket.socket]]]:
    """A server that gives each connection the same answer, or none; its port and the connections so far."""
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connections.append(server.accept()[0])
                if answer is not None:
                    connections[-1].recv(4096)
                    connections[-1].sendall(answer)
                    connections[-1].shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], connections
        server.shutdown(socket.SHUT_RDWR)


BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (None, SYMBOLS, "ReadTimeout"),
        (None, EXTRACTOR, "ReadTimeout"),
        (None, MODEL, "ReadTimeout"),
        (None, DATASET, "ReadTimeout"),
        (b"", SYMBOLS, "RemoteProtocolError"),
        (b"nonsense\r\n\r\n", SYMBOLS, "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", SYMBOLS, "RemoteProtocolError"),
        (BUSY, SYMBOLS, "HTTP status 503"),
        (BUSY, DATASET, "HTTP status 503"),
        (b"HTTP/1.1 429 Slow down\r\nRetry-After: 1000\r\nContent-Length: 0\r\n\r\n", SYMBOLS, "HTTP status 429"),
    ],
)
def test_a_hub_that_fails_is_asked_once(tmp_path, answer, code, message):
    with listening(answer) as (port, connections):
        asking, error = use_hub(code, port, tmp_path)
    name = "openslr/librispeech_asr" if code == DATASET else "me/demo"
    assert asking == f"asking the hub for {name} (endpoint: http://127.0.0.1:{port})"
    assert error.startswith(name) and message in error and "offline, give a local copy by --" in error
    assert len(connections) == 1


def test_a_hub_that_is_not_there_is_asked_once(tmp_path):
    with listening(None) as (port, _):
        pass
    asking, error = use_hub(SYMBOLS, port, tmp_path)
    assert asking.startswith("asking the hub for me/demo") and "ConnectError" in error and "tried once" in error


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers for the files of `server.folder`, which is the only revision of every model."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.server.folder / self.path.partition("/resolve/main/")[2]
        content = path.read_bytes() if path.is_file() else b""
        self.send_response(200 if path.is_file() else 404)
        self.send_header("X-Repo-Commit", "0a" * 20)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def test_a_model_comes_from_the_hub_and_later_from_its_cache(tmp_path, model_folder):
    small = f"{EXTRACTOR}; {SYMBOLS}"
    everything = f"{small}; {MODEL}"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.folder = model_folder
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        asking, *found = use_hub(everything, port, tmp_path)
        server.shutdown()
    assert asking == f"asking the hub for me/demo (endpoint: http://127.0.0.1:{port})"
    assert found == ["FeatureExtractor(do_normalize=True, padding_value=0.0)", "32", "Wav2Vec2ForCTC"]
    # Now the hub is gone. That a file was absent is known, too.
    assert use_hub(everything, port, tmp_path) == [asking, *found]
    assert use_hub(small, port, tmp_path, HF_HUB_OFFLINE="1") == found[:2]


def test_a_cache_without_marks_is_whole_if_the_user_works_offline(tmp_path, model_folder):
    """As `hf download` leaves it: what is not there may be absent from the hub, or may not have been downloaded."""
    cache = tmp_path / "hub/models--me--demo"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text("0a" * 20)
    (cache / "snapshots").mkdir()
    (cache / "snapshots" / ("0a" * 20)).symlink_to(model_folder)
    with listening(BUSY) as (port, _):
        assert use_hub(SYMBOLS, port, tmp_path, HF_HUB_OFFLINE="1") == ["32"]
        assert "me/demo/added_tokens.json: not loaded from the hub" in use_hub(SYMBOLS, port, tmp_path)[-1]
