from __future__ import annotations

import json
from pathlib import Path

import pytest

from evenseg.data.classes import load_classes, palette
from evenseg.errors import InputError

CAMVID = Path(__file__).resolve().parents[2] / "../shared/data/camvid/classes.json"


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_reads_every_key(tmp_path: Path) -> None:
    content = {"names": ["a", "b"], "colors": [[1, 2, 3], [4, 5, 6]], "ignore_index": 7, "tail": ["b"], "other": 1}
    classes = load_classes(write(tmp_path / "c.json", content))
    assert classes.names == ("a", "b")
    assert classes.colors == ((1, 2, 3), (4, 5, 6))
    assert classes.ignore_index == 7
    assert classes.tail == ("b",)
    assert (classes.num_classes, classes.ignore_label) == (2, 255)


def test_defaults(tmp_path: Path) -> None:
    classes = load_classes(write(tmp_path / "c.json", {"names": ["a", "b"]}))
    assert classes.ignore_index == 255
    assert classes.tail is None
    assert len(set(classes.colors)) == 2
    many = load_classes(write(tmp_path / "m.json", {"names": [f"c{i}" for i in range(300)]}))
    assert (many.ignore_index, many.ignore_label) == (65535, 65535)
    assert load_classes(write(tmp_path / "n.json", {"names": ["a"], "ignore_index": None})).ignore_index is None


def test_palette_is_that_of_voc_without_black() -> None:
    assert palette(4) == ((128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    colors = palette(2000)
    assert len(set(colors)) == 2000
    assert (0, 0, 0) not in colors


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{broken", "not valid JSON"),
        ("[1]", "JSON object"),
        ({}, "`names`"),
        ({"names": []}, "`names`"),
        ({"names": ["a", 3]}, "`names`"),
        ({"names": ["a", "b", "a"]}, "'a' twice"),
        ({"names": ["a"], "num_classes": 2}, "num_classes"),
        ({"names": ["a"], "tail": ["z"]}, "'z'"),
        ({"names": ["a"], "tail": "a"}, "`tail`"),
        ({"names": ["a", "b"], "colors": [[0, 0, 0]]}, "2 colours"),
        ({"names": ["a"], "colors": [[0, 0, 256]]}, "0..255"),
        ({"names": ["a"], "colors": [[0, True, 0]]}, "0..255"),
        ({"names": ["a", "b"], "ignore_index": 1}, "`ignore_index`"),
        ({"names": ["a", "b"], "ignore_index": -1}, "`ignore_index`"),
        ({"names": ["a", "b"], "ignore_index": "255"}, "`ignore_index`"),
    ],
)
def test_refuses(tmp_path: Path, content: object, fault: str) -> None:
    path = write(tmp_path / "classes.json", content)
    with pytest.raises(InputError, match=fault) as caught:
        load_classes(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refuses_what_is_no_text_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_classes(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        load_classes(tmp_path)
    (tmp_path / "latin.json").write_bytes('{"names": ["Stra\xdfe"]}'.encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        load_classes(tmp_path / "latin.json")


@pytest.mark.skipif(not CAMVID.exists(), reason="needs ../shared")
def test_camvid() -> None:
    classes = load_classes(CAMVID)
    assert classes.num_classes == 11
    assert classes.names[0] == "sky"
    assert classes.tail == ("pole", "sign_symbol", "fence", "pedestrian", "bicyclist")
