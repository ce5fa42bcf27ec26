"""The published weights: Keras' own download, from a server on the loopback, and everything that can go wrong with it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.model_files import ModelFiles
from tests.common.export.conftest import SMALLEST, run_python

pytestmark = pytest.mark.framework

SCRIPT = Path(__file__).with_name("run_imagenet.py")
#: what Keras asks for
FILE = "weights_mobilenet_v3_small_224_1.0_float.h5"
#: nothing listens on the discard port of this machine
NOBODY = "http://127.0.0.1:9/"
CLASSES = json.dumps({str(i): [f"n{i:08d}", f"class_{i}"] for i in range(1000)}).encode()


class Server:
    """Serves the weights, and spoils them in the way that the first part of the path names."""

    def __init__(self, content: bytes) -> None:
        self.requested: list[str] = []
        ended = self._ended = threading.Event()
        requested = self.requested

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requested.append(self.path)
                fault, _, name = self.path.lstrip("/").partition("/")
                body = CLASSES if name == "classes.json" else content
                if fault == "stall":
                    ended.wait(60)
                    return
                if fault == "missing" or name not in (FILE, "classes.json"):
                    self.send_error(404, "Not Found")
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if fault == "cut":
                    body = body[: len(body) // 2]
                if fault == "corrupt":
                    body = body[:-1000] + bytes(1000)
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def published(
    exported: ModelFiles, tensorflow_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, dict[str, Any]]]:
    """A server that has the exported model's weights in the published form, and the request that names it."""
    file = tmp_path_factory.mktemp("published") / FILE
    done = run_python(tensorflow_python, SCRIPT, "weights", exported.root, file)
    assert done.returncode == 0, done.stderr[-3000:]
    server = Server(file.read_bytes())
    yield server, {"module": "mobilenet_v3", "model": SMALLEST, "md5": done.stdout.split()[-1], "timeout_s": 2.0}
    server.close()


def run(
    python: Path, what: str, request: dict[str, Any], folder: Path, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    (folder / "request.json").write_text(json.dumps(request))
    return run_python(python, SCRIPT, what, folder / "request.json", *arguments)


def test_published_weights_are_downloaded_exported_and_said(
    published: tuple[Server, dict[str, Any]], exported: ModelFiles, tensorflow_python: Path, tmp_path: Path
) -> None:
    server, request = published
    out = tmp_path / "models"
    # what a killed export left: half a file, and nobody who goes on with it
    partial = out / ".keras" / "models" / FILE
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"half a file")
    os.utime(partial, (0, 0))
    request = {**request, "url": server.url + "good/", "class_index_url": server.url + "good/classes.json"}
    request["class_index_md5"] = hashlib.md5(CLASSES).hexdigest()
    done = run(
        tensorflow_python, "export", request, tmp_path, "--model", SMALLEST, "--out", out, "--weights", "imagenet"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]  # progress alone, no bar of Keras
    model = ModelFiles.read(out / lines[-1]["folder"])
    assert model.weights == "imagenet"
    assert model.weights_note == "The weights are the ImageNet weights that Keras publishes."
    # the same weights as those that were served, in a model of its own
    reference = [np.load(one.path(one.reference)) for one in (model, exported)]
    np.testing.assert_allclose(reference[0]["outputs"], reference[1]["outputs"], rtol=1e-6, atol=1e-9)
    extra = json.loads((model.root / "model.json").read_text())
    assert extra["class_names"] == "classes.txt"
    names = (model.root / "classes.txt").read_text().splitlines()
    assert (len(names), names[0], names[999]) == (1000, "class_0", "class_999")
    assert (out / ".keras" / "models" / FILE).stat().st_size > 1_000_000  # not in the user's home
    assert extra["onnx_check_rel_l2"] < 1e-4
    assert extra["onnx_node_counts"]["Transpose"] == 1


def test_a_download_that_fails_is_seeded_weights_under_auto_and_an_error_under_imagenet(
    published: tuple[Server, dict[str, Any]], tensorflow_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, request = published
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    faults = ("missing", "cut", "corrupt", "stall")
    tries = [[NOBODY, "imagenet"], *[[f"{server.url}{fault}/", "imagenet"] for fault in faults]]
    tries += [[f"{server.url}cut/", "auto"], [f"{server.url}good/", "auto"]]
    done = run(tensorflow_python, "attempts", {**request, "attempts": tries}, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    *failed, seeded, good = json.loads(done.stdout.splitlines()[-1])
    reasons = ["Connection refused", "404 -- Not Found", "retrieval incomplete", "Incomplete or corrupted", "timed out"]
    for answer, reason in zip(failed, reasons, strict=True):
        error = answer["error"]
        assert error.startswith(f"the ImageNet weights of {SMALLEST} cannot be had: "), answer
        assert reason in error and "\n" not in error, answer
        assert error.endswith("put the file that Keras asks for into $KERAS_HOME/models, or take seeded weights)")
        # nothing half is left that a later export could take; what has the wrong hash is fetched again
        assert answer["left"] == ([FILE] if "corrupted" in error else []), answer
    assert seeded["origin"] == "seeded"
    assert seeded["note"].startswith("The weights are seeded random numbers, calibrated so that outputs differ")
    assert (good["origin"], good["left"]) == ("imagenet", [FILE])


def test_a_download_that_breaks_off_ends_the_command_with_one_line_and_code_2(
    published: tuple[Server, dict[str, Any]], tensorflow_python: Path, tmp_path: Path
) -> None:
    server, request = published
    out = tmp_path / "models"
    # in the middle of the download, where Keras' progress bar has no end of line
    request = {**request, "url": server.url + "cut/", "class_index_url": NOBODY}
    done = run(
        tensorflow_python, "export", request, tmp_path, "--model", SMALLEST, "--out", out, "--weights", "imagenet"
    )
    assert done.returncode == 2, done.stderr[-3000:]
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(rf"error: the ImageNet weights of {SMALLEST} cannot be had: .*retrieval incomplete.*", last), (
        last
    )
    assert not list(out.glob("[!.]*")) and not list(out.glob(".tmp-*"))
