"""Images are the same ones whatever their folder, file type and order."""

import hashlib

import pytest

from evenseg.data.image_ids import ids_sha256, image_id


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("JPEGImages/2007_000032.jpg", "2007_000032"),
        ("/SegmentationClass/2007_000032.png", "2007_000032"),
        ("leftImg8bit/train/jena/jena_000078_000019_leftImg8bit.png", "jena_000078_000019"),
        ("jena_000078_000019.png", "jena_000078_000019"),
        ("a.b.jpg", "a.b"),
        ("my photo.jpg", "my photo"),
    ],
)
def test_an_id_is_the_name_of_the_file(name, expected):
    assert image_id(name) == expected


def test_the_hash_is_of_sorted_ids_one_a_line():
    expected = hashlib.sha256(b"a\nb\nc").hexdigest()
    assert ids_sha256(["x/c.png", "a.jpg", "y/z/b_leftImg8bit.png"]) == expected
    assert ids_sha256(["b", "a", "c"]) == expected
    assert ids_sha256(["a", "b"]) != expected
    assert ids_sha256(["ab"]) != ids_sha256(["a", "b"])
