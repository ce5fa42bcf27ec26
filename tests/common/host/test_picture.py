"""The user's picture: layouts, ranges, and one clear line for what is none."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from common import pixels
from common.errors import UserError
from common.host import picture
from common.host.bench.opening import _prepared_picture
from common.model_files import ModelFiles

RED, BLUE = (250, 10, 20), (10, 20, 240)


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    (tmp_path / "model.json").write_text("{}")
    return ModelFiles(
        root=tmp_path, name="toy", hash="0123456789ab", onnx="model.onnx", keras=None, saved_model=None,
        reference="reference.npz", input_shape=(6, 8, 3), layout="NHWC", onnx_input="x", onnx_output="y",
        output_kind="raw", classes=2, weights="user", weights_note="A toy.",
    )  # fmt: skip


@pytest.fixture
def two_coloured(tmp_path: Path) -> Path:
    """A PNG of 60 x 80 pixels, left half red, right half blue."""
    colours = np.empty((60, 80, 3), np.uint8)
    colours[:, :40], colours[:, 40:] = RED, BLUE
    file = tmp_path / "two.png"
    Image.fromarray(colours).save(file)
    return file


def load(image: str | Path, model: ModelFiles, tmp_path: Path) -> np.ndarray:
    picture.prepare(str(image), model, tmp_path / "picture.npy")
    array: np.ndarray = np.load(tmp_path / "picture.npy")
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    return array


def test_channels_last(model: ModelFiles, two_coloured: Path, tmp_path: Path) -> None:
    array = load(two_coloured, model, tmp_path)
    assert array.shape == (1, 6, 8, 3)
    assert array[0, 3, 0].tolist() == list(RED)
    assert array[0, 3, 7].tolist() == list(BLUE)


def test_channels_first(model: ModelFiles, two_coloured: Path, tmp_path: Path) -> None:
    array = load(two_coloured, replace(model, layout="NCHW", input_shape=(3, 6, 8)), tmp_path)
    assert array.shape == (1, 3, 6, 8)
    assert array[0, :, 3, 0].tolist() == list(RED)


def test_grey(model: ModelFiles, two_coloured: Path, tmp_path: Path) -> None:
    array = load(two_coloured, replace(model, layout="NCHW", input_shape=(1, 6, 8)), tmp_path)
    assert array.shape == (1, 1, 6, 8)
    assert array[0, 0, 3, 0] > array[0, 0, 3, 7]  # red is brighter than blue


def test_range_of_the_model(model: ModelFiles, two_coloured: Path, tmp_path: Path) -> None:
    (model.root / "model.json").write_text(json.dumps({"input_range": [-1, 1]}))
    array = load(two_coloured, model, tmp_path)
    np.testing.assert_allclose(array[0, 3, 0], np.array(RED) / 127.5 - 1, atol=1e-6)


def test_mean_and_std_of_the_model(model: ModelFiles, two_coloured: Path, tmp_path: Path) -> None:
    values = pixels.parse(mean="0.485,0.456,0.406", std="0.229,0.224,0.225")
    (model.root / "model.json").write_text(json.dumps({"weights": "user", **values.described()}))
    array = load(two_coloured, model, tmp_path)
    expected = (np.array(RED) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(array[0, 3, 0], expected, atol=1e-5)


def test_classes_are_claimed_only_where_the_values_are_known(model: ModelFiles) -> None:
    description = model.root / "model.json"
    for known in ({"weights": "seeded"}, {"weights": "user", **pixels.parse("0,1").described()}):
        description.write_text(json.dumps(known))
        assert picture.why_no_classes(model) is None
    for unknown in (
        {"weights": "user", "input_range": [0.0, 255.0]},
        {"weights": "user", **pixels.parse().described()},
    ):
        description.write_text(json.dumps(unknown))
        assert "--mean and --std" in (picture.why_no_classes(model) or "")
        taken_as_bytes = replace(model, inputs=(replace(model.inputs[0], dtype="uint8"),))
        assert picture.why_no_classes(taken_as_bytes) is None, "a byte is 0 to 255"


def test_other_proportions_are_cropped_around_the_centre(model: ModelFiles, two_coloured: Path, tmp_path: Path) -> None:
    array = load(two_coloured, replace(model, input_shape=(8, 4, 3)), tmp_path)
    # bicubic filters overshoot a little beside an edge
    np.testing.assert_allclose(array[0, 4, 0], RED, atol=5)
    np.testing.assert_allclose(array[0, 4, 3], BLUE, atol=5)


def test_turned_upright(model: ModelFiles, two_coloured: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    with Image.open(two_coloured) as original:
        original.save(turned, exif=exif)
    assert load(turned, model, tmp_path)[0, 3, 0].tolist() == list(BLUE)


def assert_refused(image: str | Path, model: ModelFiles, tmp_path: Path, *parts: str) -> None:
    with pytest.raises(UserError) as raised:
        picture.prepare(str(image), model, tmp_path / "picture.npy")
    message = str(raised.value)
    assert "\n" not in message
    for part in (str(image), *parts):
        assert part in message
    assert not (tmp_path / "picture.npy").exists()


def test_text_is_no_picture(model: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_text("not a cat")
    assert_refused(tmp_path / "cat.jpg", model, tmp_path, "not a picture")


def test_truncated_picture(model: ModelFiles, tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.effect_noise((200, 200), 80).save(out, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(out.getvalue()[: out.tell() // 2])
    assert_refused(tmp_path / "cut.jpg", model, tmp_path, "damaged")


def test_missing_file_and_folder(model: ModelFiles, tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.png", model, tmp_path, "No such file")
    assert_refused(tmp_path, model, tmp_path, "it is a folder")
    os.mkfifo(tmp_path / "fifo.png")
    assert_refused(tmp_path / "fifo.png", model, tmp_path, "it is a FIFO")


def test_too_large(
    model: ModelFiles, two_coloured: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "MAX_BYTES", 50)
    assert_refused(two_coloured, model, tmp_path, "larger than")
    assert_refused(f"{server}/two.png", model, tmp_path, "larger than")


def test_more_pixels_than_reasonable(
    model: ModelFiles, two_coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "MAX_PIXELS", 1000)
    assert_refused(two_coloured, model, tmp_path, "more than 1,000 pixels")


def test_a_small_file_of_many_pixels(model: ModelFiles, tmp_path: Path) -> None:
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    assert_refused(tmp_path / "bomb.png", model, tmp_path, "more than 64,000,000 pixels")


@pytest.mark.parametrize("suffix", ["eps", "pdf", "ppm", "ico", "icns", "dds", "pcx", "tga", "sgi", "im"])
def test_other_decoders_of_pillow_are_not_offered(model: ModelFiles, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"picture.{suffix}"
    Image.new("RGB", (64, 64), RED).save(file)
    file = file.rename(tmp_path / "picture.png")  # its content counts, not its name
    assert_refused(file, model, tmp_path, "is not a picture that can be decoded (PNG, JPEG")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif"])
def test_what_cameras_and_browsers_write(model: ModelFiles, tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (64, 64), RED).save(tmp_path / f"p.{suffix}")
    pixels = load(tmp_path / f"p.{suffix}", model, tmp_path)
    assert np.abs(pixels - np.array(RED, np.float32)).max() < 6


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled(model: ModelFiles, tmp_path: Path, suffix: str) -> None:
    ramp = np.repeat(np.linspace(0, 65_535, 64).astype(np.uint16)[None], 64, axis=0)
    Image.fromarray(ramp).save(tmp_path / f"p.{suffix}")
    pixels = load(tmp_path / f"p.{suffix}", model, tmp_path)
    assert pixels.min() < 20 and pixels.max() > 235
    assert 115 < pixels.mean() < 140, "neither black nor white"


def test_numbers_that_are_none_are_refused(model: ModelFiles, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "p.tif")
    assert_refused(tmp_path / "p.tif", model, tmp_path, "damaged")


@pytest.mark.parametrize("cut", [9, 30, 60, 90, 200])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp"])
def test_damage_anywhere_is_one_line(model: ModelFiles, tmp_path: Path, suffix: str, cut: int) -> None:
    rng = np.random.default_rng(cut)
    Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(tmp_path / f"p.{suffix}")
    raw = bytearray((tmp_path / f"p.{suffix}").read_bytes())
    raw[cut : cut + 40] = bytes(40)
    (tmp_path / f"p.{suffix}").write_bytes(raw[: len(raw) - cut])
    try:
        load(tmp_path / f"p.{suffix}", model, tmp_path)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.fixture
def server(two_coloured: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a server on loopback that has /two.png and nothing else."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content = two_coloured.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/two.png"
            self.send_response(200 if found else 404)
            self.end_headers()
            if found:
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_from_a_url(model: ModelFiles, tmp_path: Path, server: str) -> None:
    assert load(f"{server}/two.png", model, tmp_path)[0, 3, 0].tolist() == list(RED)


def test_url_that_does_not_exist(model: ModelFiles, tmp_path: Path, server: str) -> None:
    assert_refused(f"{server}/none.png", model, tmp_path, "HTTP 404")


def test_server_that_is_not_there(model: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert_refused("http://127.0.0.1:9/cat.png", model, tmp_path, "cannot be fetched")


def test_class_names_only_when_they_fit(model: ModelFiles) -> None:
    assert picture.class_names(model) is None
    (model.root / "classes.txt").write_text("cat\ndog\n")
    assert picture.class_names(model) == ["cat", "dog"]
    assert picture.class_names(replace(model, classes=3)) is None


def test_a_run_says_why_it_claims_no_classes(model: ModelFiles, two_coloured: Path) -> None:
    for known in (False, True):
        values = pixels.parse("0,1") if known else pixels.parse()
        (model.root / "model.json").write_text(json.dumps({"weights": "user", **values.described()}))
        out = io.StringIO()
        with _prepared_picture(str(two_coloured), model, Console(file=out, width=300)) as path:
            assert (path is not None) == known
        assert ("the picture's classes are not shown" in out.getvalue()) == (not known)


OK = b"HTTP/1.1 200 OK\r\n"
#: what a server answers, what is said
ANSWERS = {
    "no status": (b"\x1b[31mGARBAGE\r\n\r\n", "cannot be fetched"),
    "a line of megabytes": (OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n", "cannot be fetched"),
    "a thousand headers": (OK + b"X: a\r\n" * 1000 + b"\r\n", "cannot be fetched"),
    "chunks that are none": (OK + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n", "cannot be fetched"),
    "less than it says": (OK + b"Content-Length: 999\r\n\r\nx", "is not a picture"),
    "to a file": (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "is not allowed"),
    "to FTP": (b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1:9/x\r\n\r\n", "unknown url type"),
    "to data": (b"HTTP/1.1 302 Found\r\nLocation: data:text/plain,x\r\n\r\n", "is not allowed"),
    "to itself": (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
}


@pytest.mark.parametrize(("answer", "words"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_none(
    model: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, words: str
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            self.wfile.write(answer)

    with TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            assert_refused(f"http://127.0.0.1:{server.server_address[1]}/", model, tmp_path, words)
        finally:
            server.shutdown()
            thread.join()


def test_an_answer_that_comes_drop_by_drop_ends(
    model: ModelFiles, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "FETCH_MAX_S", -1.0)
    assert_refused(f"{server}/two.png", model, tmp_path, "it took longer than")


@pytest.mark.parametrize(
    "address", ["http://a b/", "http://[::1", "http://", "http://x\0/", "http://127.0.0.1:9/\u202e"]
)
def test_an_address_that_is_none(model: ModelFiles, tmp_path: Path, address: str) -> None:
    assert_refused(address, model, tmp_path, "cannot be fetched")
