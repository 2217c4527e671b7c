"""Image and label files to arrays: strict about damage, silent on stderr, orientation applied.

Everything is decoded by Pillow, which refuses truncated files and keeps palettes apart from
colours. Plain RGB PNG images alone go through OpenCV, a fifth to a third faster; as it prints
libpng's complaints on stderr, only files whose chunks and checksums are whole are handed to it.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

# The plugins register themselves here, once, and not in several threads at the first file.
from PIL import (
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from evenseg.data import png
from evenseg.data.orientation import oriented_size, read_orientation, turn
from evenseg.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # JPEG is lossy and WebP knows no grey

_FORMATS = [
    plugin.format
    for plugin in (
        BmpImagePlugin.BmpImageFile,
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
]
_READABLE = "JPEG, PNG, TIFF, WebP or BMP"
_PNG_BIT_DEPTH, _PNG_COLOR_TYPE, _PNG_RGB = 24, 25, 2  # offsets in the file; a value
_TIFF_BITS = 258

# What Pillow has to say about odd metadata or large files would stand on a user's stderr line by line.
warnings.filterwarnings("ignore", module=r"PIL\b")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode_image(path: str | Path) -> np.ndarray:
    """Decode an image file.

    Grey becomes RGB, transparency is dropped, 16-bit values are cut to their high byte, the EXIF
    orientation is applied.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and writable.

    Raises:
        InputError: missing, unreadable, empty, truncated, damaged, oversized or no image.
    """
    data = _read(path)
    with _naming(path):
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if image.format == "PNG":
            chunks = png.read_chunks(io.BytesIO(data), verify=True)
            if chunks <= png.PLAIN and (data[_PNG_BIT_DEPTH], data[_PNG_COLOR_TYPE]) == (8, _PNG_RGB):
                bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
                if bgr is not None:
                    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)
        image.load()
        return turn(_rgb(image), read_orientation(image))


def decode_label(path: str | Path) -> np.ndarray:
    """Decode a label file: grey of 8 or 16 bit, one bit, or the indices of a palette image.

    Returns:
        (H, W) uint8 or uint16, contiguous and writable: the values in the file, orientation applied.

    Raises:
        InputError: as ``decode_image``; also any RGB, alpha or JPEG label, even a grey-looking one.
    """
    data = _read(path)
    with _naming(path):
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        _refuse_as_label(path, image, data)
        if image.format == "PNG":
            png.read_chunks(io.BytesIO(data), verify=True)
        image.load()
        values = np.array(image)
        if image.mode == "I":  # 16-bit grey in some versions of Pillow, else 32 bit
            values = _as_uint16(values)
        values = values.astype(np.uint8 if values.dtype.itemsize == 1 else np.uint16, copy=False)
        return turn(values, read_orientation(image))


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image after its orientation, from the header alone where that is safe.

    The end of JPEG and PNG files is looked at too, so that most truncated files are found. A JPEG
    without its end marker and a PNG with metadata are decoded.

    Raises:
        InputError: as ``decode_image``, as far as header and end tell.
    """
    with _naming(path), open(path, "rb") as stream:
        image = Image.open(stream, formats=_FORMATS)
        if image.format == "PNG":
            safe = png.read_chunks(stream, verify=False) <= png.PLAIN | {b"PLTE", b"tRNS"}
        elif image.format in ("JPEG", "MPO"):
            stream.seek(-2, io.SEEK_END)
            safe = stream.read(2) == b"\xff\xd9"
        else:
            safe = True
        if safe:
            return oriented_size(image)
    height, width, _ = decode_image(path).shape
    return height, width


def _read(path: str | Path) -> bytes:
    with _naming(path):
        return Path(path).read_bytes()


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Turn whatever a decoder throws at a bad file into one line that names the file."""
    try:
        yield
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; correct the path, or leave the file out of the list") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory in place of a file; name the file itself") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read (permission denied); allow reading it") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: has too many pixels to be read as one image; cut it into tiles") from None
    except MemoryError:
        raise InputError(f"{path}: does not fit into memory; cut it into tiles") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise InputError(f"{path}: {_fault(path, error)}; replace the file, or leave it out of the list") from None


def _fault(path: str | Path, error: Exception) -> str:
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return "is empty (zero bytes)"
    if isinstance(error, UnidentifiedImageError):
        return f"is no {_READABLE} image, or its header is damaged"
    if isinstance(error, OSError) and error.strerror is not None:  # from the file system, not from a decoder
        return f"cannot be read ({error.strerror})"
    return f"cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})"


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a loaded image of any mode."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save the image with 8 or 16 bit")
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = (_as_uint16(np.asarray(image)) >> 8).astype(np.uint8)
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if "transparency" in image.info:  # straight to RGB, the transparent colour would be looked for in vain
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _as_uint16(values: np.ndarray) -> np.ndarray:
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= 65535:
        raise ValueError("its values do not fit into 16 bits; save it with 8 or 16 bit")
    return values.astype(np.uint16)


def _refuse_as_label(path: str | Path, image: Image.Image, data: bytes) -> None:
    if image.format in ("JPEG", "MPO"):
        raise InputError(
            f"{path}: a label stored as JPEG, which is lossy and changes class ids; store labels as grey PNG"
        )
    if not (image.mode in ("1", "L", "P", "I") or image.mode.startswith("I;16")):
        raise InputError(
            f"{path}: label stored in colour (mode {image.mode}); save class ids as grey or palette PNG "
            "of 8 or 16 bit, one channel, no alpha"
        )
    if image.mode == "L" and (bits := _bits(image, data)) < 8:
        # Pillow would stretch these values to 0..255, other programs would not.
        raise InputError(f"{path}: label stored with {bits} bits per pixel; save it as grey PNG of 8 or 16 bit")


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per pixel of a grey image as it lies in the file."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2.get(_TIFF_BITS, (8,))[0])
    return data[_PNG_BIT_DEPTH] if image.format == "PNG" else 8
