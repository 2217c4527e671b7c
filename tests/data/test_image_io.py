from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from evenseg.data.image_io import decode_image, decode_label, read_size
from evenseg.errors import InputError
from tests.data.tiny_data import random_image, save

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pytest lifts the filter of image_io

FORMATS = {
    "a.png": {},
    "a.bmp": {},
    "a.tif": {},
    "lzw.tif": {"compression": "tiff_lzw"},
    "deflate.tiff": {"compression": "tiff_deflate"},
    "a.webp": {"lossless": True},
    "a.jpg": {"quality": 90},
    "progressive.jpeg": {"progressive": True},
}
IDS = np.arange(192, dtype=np.uint8).reshape(12, 16)


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, random_image(0), **FORMATS[name])
    image = decode_image(path)
    assert (image.dtype, image.shape) == (np.uint8, (12, 16, 3))
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert np.array_equal(image, np.asarray(Image.open(path)))
    assert read_size(path) == (12, 16)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_image_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    path = tmp_path / f"image.{suffix}"
    stored = Image.fromarray(random_image(1)).convert(mode)
    stored.save(path)
    assert np.array_equal(decode_image(path), np.asarray(Image.open(path).convert("RGB")))
    assert read_size(path) == (12, 16)


def test_transparency_is_dropped(tmp_path: Path) -> None:
    rgb = random_image(2)
    save(tmp_path / "alpha.png", np.dstack([rgb, np.zeros((12, 16), np.uint8)]))
    assert np.array_equal(decode_image(tmp_path / "alpha.png"), rgb)
    save(tmp_path / "key.png", rgb, transparency=(1, 2, 3))
    assert np.array_equal(decode_image(tmp_path / "key.png"), rgb)
    palette = Image.fromarray(rgb).quantize(8)
    palette.save(tmp_path / "palette.png", transparency=bytes(range(8)))
    assert np.array_equal(decode_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_cut_to_its_high_byte(tmp_path: Path, suffix: str) -> None:
    grey = np.linspace(0, 65535, 192).astype(np.uint16).reshape(12, 16)
    image = decode_image(save(tmp_path / f"grey.{suffix}", grey))
    assert np.array_equal(image, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_floating_point_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "float.tif", np.ones((4, 4), np.float32))
    with pytest.raises(InputError, match="floating-point"):
        decode_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_images(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[274] = orientation
    save(path, random_image(3), exif=exif)
    image = decode_image(path)
    assert np.array_equal(image, np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")))
    assert image.shape == ((16, 12, 3) if orientation > 4 else (12, 16, 3))
    assert read_size(path) == image.shape[:2]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_labels_alike(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    image = decode_image(save(tmp_path / f"image.{suffix}", np.dstack([IDS] * 3), exif=exif))
    label = decode_label(save(tmp_path / f"label.{suffix}", IDS, exif=exif))
    assert np.array_equal(label, image[..., 0])
    assert label.flags.c_contiguous


def test_damaged_exif_orients_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "image.png", random_image(4), exif=b"Exif\0\0nonsense")
    assert np.array_equal(decode_image(path), random_image(4))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_labels(tmp_path: Path, dtype: type, suffix: str) -> None:
    values = IDS.astype(dtype) * (1 if dtype == np.uint8 else 300)
    label = decode_label(save(tmp_path / f"label.{suffix}", values))
    assert label.dtype == dtype
    assert np.array_equal(label, values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_labels_are_indices_whatever_the_colours(tmp_path: Path, bits: int) -> None:
    values = (IDS.astype(int) % 2**bits).astype(np.uint8)
    label = Image.fromarray(values, mode="P")
    label.putpalette([9, 9, 9] * 2**bits)  # all classes look the same
    label.save(tmp_path / "label.png", bits=bits)
    assert np.array_equal(decode_label(tmp_path / "label.png"), values)


def test_one_bit_labels(tmp_path: Path) -> None:
    Image.fromarray(IDS % 2 == 1).save(tmp_path / "label.png")
    assert np.array_equal(decode_label(tmp_path / "label.png"), IDS % 2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colour_labels_are_refused_even_when_they_look_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "label.png"
    Image.fromarray(IDS).convert(mode).save(path)
    with pytest.raises(
        InputError, match=rf"label\.png: label stored in colour \(mode {mode}\); save class ids as grey"
    ):
        decode_label(path)


def test_lossy_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="JPEG"):
        decode_label(save(tmp_path / "label.jpg", IDS))


def test_labels_of_four_bits_are_refused(tmp_path: Path) -> None:
    """Pillow and others disagree on whether 3 of 15 is the id 3 or the id 51."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 1, 4, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0\x01\x23")
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / "label.png").write_bytes(data)
    with pytest.raises(InputError, match="4 bits"):
        decode_label(tmp_path / "label.png")
    assert decode_image(tmp_path / "label.png").shape == (1, 4, 3)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("name", FORMATS)
def test_truncation_is_found(tmp_path: Path, name: str, kept: float) -> None:
    path = save(tmp_path / name, random_image(5, (80, 90)), **FORMATS[name])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError) as caught:
        decode_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "progressive.jpeg"])
def test_headers_show_a_missing_end(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, random_image(5, (80, 90)), **FORMATS[name])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="truncated"):
        read_size(path)


def test_bytes_behind_the_end_do_no_harm(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        path = save(tmp_path / name, random_image(6))
        before = decode_image(path)
        path.write_bytes(path.read_bytes() + bytes(100))
        assert np.array_equal(decode_image(path), before)
        assert read_size(path) == (12, 16)


@pytest.mark.parametrize("decode", [decode_image, decode_label])
def test_changed_bytes_of_a_png_are_found(tmp_path: Path, decode: object, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = random_image(7) if decode is decode_image else IDS
    path = save(tmp_path / "a.png", pixels)
    data = bytearray(path.read_bytes())
    position = data.index(b"IDAT") + 20
    data[position] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        decode(path)  # type: ignore[operator]
    assert capfd.readouterr().err == ""  # no complaint of a library


def test_odd_colour_profile_is_not_complained_about(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.png", random_image(8), icc_profile=b"nonsense" * 20)
    assert np.array_equal(decode_image(path), random_image(8))
    assert read_size(path) == (12, 16)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("read", [decode_image, decode_label, read_size])
def test_what_is_no_image(tmp_path: Path, read: object) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    for name, fault in {
        "empty.png": "zero bytes",
        "text.png": "no JPEG, PNG",
        "folder.png": "is a directory",
        "none.png": "no such file",
        "text.png/below.png": "no such file",
        "x" * 300 + ".png": "too long",
    }.items():
        with pytest.raises(InputError, match=fault) as caught:
            read(tmp_path / name)  # type: ignore[operator]
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", random_image(9))
    path.chmod(0)
    with pytest.raises(InputError, match="permission"):
        decode_image(path)


@pytest.mark.parametrize("read", [decode_image, decode_label, read_size])
def test_oversized_image(tmp_path: Path, read: object, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", IDS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(InputError, match="too many pixels"):
        read(path)  # type: ignore[operator]


def test_odd_files_leave_stderr_alone(tmp_path: Path) -> None:
    """Warnings of Pillow: of many pixels, of broken metadata, of palettes with transparency."""
    large = save(tmp_path / "large.png", IDS)
    odd = save(tmp_path / "odd.tif", random_image(5), compression="tiff_lzw")
    odd.write_bytes(odd.read_bytes()[:-10])
    Image.fromarray(random_image(6)).quantize(8).save(tmp_path / "palette.png", transparency=bytes(range(8)))
    program = (
        "import sys; from PIL import Image; from evenseg.data import image_io; from evenseg.errors import InputError\n"
        "Image.MAX_IMAGE_PIXELS = 100\n"  # 192 pixels: above it, below twice as many
        "for path in sys.argv[1:]:\n"
        "    try: image_io.decode_image(path)\n"
        "    except InputError: pass\n"
    )
    paths = [str(large), str(odd), str(tmp_path / "palette.png")]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert done.stderr == ""
