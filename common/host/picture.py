"""The user's picture (`--image FILE|URL`) as the model's input, and the names of the classes that it may show."""

from __future__ import annotations

import http.client
import io
import json
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import UserError
from common.host import regular_files
from common.host.whole_files import whole
from common.model_files import DESCRIPTION, ModelFiles
from common.pixels import PixelValues

#: without a byte, and in all
FETCH_TIMEOUT_S, FETCH_MAX_S = 15.0, 60.0
MAX_BYTES = 32 * 1024 * 1024
CLASS_NAMES = "classes.txt"
#: A redirection leads to no other kind of address: neither to files nor to FTP.
_HANDLERS = (
    urllib.request.ProxyHandler, urllib.request.UnknownHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler, urllib.request.HTTPErrorProcessor,
)  # fmt: skip
#: Decoders that may look at a picture. Others of Pillow start programs (EPS: Ghostscript) or read what no camera writes.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
#: Beyond this a small file becomes gigabytes.
MAX_PIXELS = 64 * 10**6


def prepare(image: str, model: ModelFiles, npy: Path) -> None:
    """Writes `npy`: (1, *model.input_shape) float32 in the model's layout and range of values (0..255 unless it says so).

    image: a file, or an http(s) URL. The picture is turned upright, scaled so that it covers the input, and cropped
    around its centre. Raises UserError when it cannot be fetched or read, is too large, or does not decode.
    """
    content = _fetch(image) if image.startswith(("http://", "https://")) else _read(image)
    height, width, channels = _dimensions(model)
    pixels = _decode(image, content, "RGB" if channels == 3 else "L", (width, height))
    array = np.asarray(pixels, np.float32).reshape(1, height, width, channels)
    array = PixelValues.of_description(_description(model)).of(array)
    if model.layout == "NCHW":
        array = array.transpose(0, 3, 1, 2)
    with whole(npy) as part:
        np.save(part, np.ascontiguousarray(array, np.float32))


def class_names(model: ModelFiles) -> list[str] | None:
    """Names of the model's classes in order, None where they are not known: numbers are shown then."""
    try:
        names = (model.root / CLASS_NAMES).read_text().splitlines()
    except FileNotFoundError:
        return None
    return names if len(names) == model.classes else None


def _dimensions(model: ModelFiles) -> tuple[int, int, int]:
    """Height, width and channels of the model's input. Raises UserError where it is no image of 1 or 3 channels."""
    if not model.layout or len(model.inputs) > 1:
        raise UserError(f"{model.name} does not take one image, so --image has no place in it")
    if model.layout == "NHWC":
        height, width, channels = model.input_shape
    else:
        channels, height, width = model.input_shape
    if channels not in (1, 3):
        raise UserError(f"{model.name} takes {channels} channels; a picture has 1 or 3")
    return height, width, channels


def why_no_classes(model: ModelFiles) -> str | None:
    """Why a picture's classes are not claimed: nobody said what values the model expects of it; None where that is known."""
    if (
        model.inputs[0].dtype == "uint8"
        or PixelValues.of_description({"weights": model.weights, **_description(model)}).given
    ):
        return None
    return (
        f"the picture's classes are not shown: nobody said what values {model.name} expects of it. Give --input-range "
        "LOW,HIGH (such as 0,1 or -1,1), or --mean and --std (such as 0.485,0.456,0.406 and 0.229,0.224,0.225)"
    )


def _description(model: ModelFiles) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model.root / DESCRIPTION).read_text())
    return found


def _read(name: str) -> bytes:
    try:
        # a link that the user names is followed
        return regular_files.read(Path(name).expanduser(), MAX_BYTES, follow=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"the picture {name} cannot be read: {reason}") from error


def _fetch(url: str) -> bytes:
    opener = urllib.request.OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    try:
        # some hosts of pictures refuse urllib's own name
        request = urllib.request.Request(url, headers={"User-Agent": "framewatt"})
        with opener.open(request, timeout=FETCH_TIMEOUT_S) as answer:
            content = _received(answer)
    except urllib.error.HTTPError as error:
        reason = f"HTTP {error.code} {error.reason}"
    except urllib.error.URLError as error:
        reason = str(error.reason)
    except (
        OSError,
        ValueError,
        http.client.HTTPException,
    ) as error:  # time-outs, malformed URLs, answers that are none
        reason = str(error) or type(error).__name__
    else:
        reason = ""
    if reason:
        raise UserError(f"the picture {url} cannot be fetched: {' '.join(reason.split())}")
    if len(content) > MAX_BYTES:
        raise UserError(f"the picture {url} is larger than {MAX_BYTES >> 20} MiB")
    return content


def _received(answer: http.client.HTTPResponse) -> bytes:
    """What comes, up to a byte more than a picture may have. Raises TimeoutError where it comes drop by drop."""
    deadline = time.monotonic() + FETCH_MAX_S
    content = bytearray()
    while len(content) <= MAX_BYTES:
        piece = answer.read1(2**16)  # what has come, instead of waiting for more
        if not piece:
            break
        content += piece
        if time.monotonic() > deadline:
            raise TimeoutError(f"it took longer than {FETCH_MAX_S:.0f} s")
    return bytes(content)


def _decode(name: str, content: bytes, mode: str, size: tuple[int, int]) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                upright = ImageOps.exif_transpose(picture)
                return ImageOps.fit(_eight_bits(upright, mode), size, Image.Resampling.BICUBIC)
    except UnidentifiedImageError:
        raise UserError(f"{name} is not a picture that can be decoded ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"the picture {name} has more than {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise UserError(f"the picture {name} needs more memory than there is") from None
    except (
        Exception
    ) as error:  # whatever Pillow's decoders raise for damaged files: OSError, SyntaxError, struct.error, ...
        raise UserError(
            f"the picture {name} is damaged: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error


def _eight_bits(picture: Image.Image, mode: str) -> Image.Image:
    """The picture as L or RGB. Pillow cuts values of 16 bits off at 255; here they are scaled.

    Modes I;16 are 16 bits of grey. I and F say nothing of their scale: as many as 255 levels are taken as they are, up to
    65,535 as 16 bits, anything else between its own least and greatest value.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture.convert("I") if picture.mode.startswith("I;16") else picture, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("a pixel is no number")
        low, high = float(values.min()), float(values.max())
        if picture.mode.startswith("I;16") or (low >= 0 and 255 < high <= 65_535):
            low, high = 0.0, 65_535.0
        elif low >= 0 and high <= 255:
            low, high = 0.0, 255.0
        scaled = np.rint((values - low) * (255 / max(high - low, 1e-12)))
        picture = Image.fromarray(scaled.clip(0, 255).astype(np.uint8), "L")
    return picture.convert(mode)
