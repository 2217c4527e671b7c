"""The chunks of a PNG file, read without decoding it."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

_SIGNATURE_LENGTH = 8

# Chunks that neither turn nor recolour an image of true colours. A colour profile is not among
# them, as libpng prints warnings of odd ones, nor is text, which may hold an orientation.
PLAIN = frozenset({b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"bKGD", b"sBIT"})


def read_chunks(stream: BinaryIO, *, verify: bool) -> set[bytes]:
    """Types of all chunks of a PNG file up to its end.

    verify: also compare the checksums of the critical chunks. Raises ``ValueError`` on damage.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(_SIGNATURE_LENGTH)
    types: set[bytes] = set()
    while b"IEND" not in types:
        head = stream.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or stream.tell() + length + 4 > size:
            raise ValueError("the file is truncated")
        types.add(kind)
        if verify and kind[:1].isupper():
            checksum = zlib.crc32(stream.read(length), zlib.crc32(kind))
            if checksum != int.from_bytes(stream.read(4), "big"):
                raise ValueError("the file is damaged: a checksum does not match")
        else:
            stream.seek(length + 4, io.SEEK_CUR)
    return types
