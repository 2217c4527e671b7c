"""INPUT... to images and names."""

import os
from pathlib import Path

import pytest

from evenseg.errors import InputError
from evenseg.inference.inputs import expand_inputs


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ["a/x.jpg", "a/y.PNG", "a/deep/z.tif", "a/notes.txt", "a/.hidden.png", "a/.cache/w.png", "b/x.jpg"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*inputs: str, exclude: Path | None = None) -> dict[str, str]:
    sources = expand_inputs(inputs, exclude=exclude)
    assert [source.path for source in sources] == sorted(source.path for source in sources)
    return {source.path.relative_to(Path.cwd()).as_posix(): source.name for source in sources}


def test_folder_is_searched_with_its_subfolders(tree: Path) -> None:
    assert names("a") == {"a/x.jpg": "x", "a/y.PNG": "y", "a/deep/z.tif": "deep/z"}
    assert names(str(tree / "a")) == names("a/") == names("a")


def test_files_are_taken_as_named(tree: Path) -> None:
    assert names("a/x.jpg") == {"a/x.jpg": "x"}
    assert names("a/notes.txt", "a/.hidden.png") == {"a/.hidden.png": ".hidden", "a/notes.txt": "notes"}


def test_names_of_several_inputs_are_relative_to_the_folder_of_all(tree: Path) -> None:
    assert names("a/x.jpg", "b/x.jpg") == {"a/x.jpg": "a/x", "b/x.jpg": "b/x"}
    assert names("b", "a/deep") == {"a/deep/z.tif": "a/deep/z", "b/x.jpg": "b/x"}
    assert names("a/y.PNG", "a/x.jpg") == {"a/x.jpg": "x", "a/y.PNG": "y"}


def test_an_image_given_twice_is_one(tree: Path) -> None:
    assert names("a", "a/x.jpg", "a/../a/x.jpg") == names("a")


def test_patterns(tree: Path) -> None:
    assert names("a/*.jpg") == {"a/x.jpg": "x"}
    assert names("*/x.*") == {"a/x.jpg": "a/x", "b/x.jpg": "b/x"}
    assert names("**/*.tif") == {"a/deep/z.tif": "a/deep/z"}
    assert names("a/*") == names("a")  # folders among the matches are searched, other files left out


def test_a_file_named_like_a_pattern_is_a_file(tree: Path) -> None:
    (tree / "a" / "[1].png").touch()
    assert names("a/[1].png") == {"a/[1].png": "[1]"}


def test_suffix_stays_where_it_alone_tells_images_apart(tree: Path) -> None:
    (tree / "b" / "x.png").touch()
    assert names("b") == {"b/x.jpg": "x.jpg", "b/x.png": "x.png"}
    (tree / "b" / "x.jpg.tif").touch()  # whose short name is the full name of another
    assert names("b") == {"b/x.jpg": "x.jpg", "b/x.jpg.tif": "x.jpg.tif", "b/x.png": "x.png"}


def test_names_differ_in_more_than_case(tree: Path) -> None:
    (tree / "b" / "X.png").touch()
    found = names("b")
    assert len({name.casefold() for name in found.values()}) == len(found) == 2


def test_outputs_inside_the_input_are_left_out(tree: Path) -> None:
    (tree / "a" / "out" / "labels").mkdir(parents=True)
    (tree / "a" / "out" / "labels" / "x.png").touch()
    assert "a/out/labels/x.png" in names("a")
    assert names("a", exclude=Path("a/out")) == {"a/x.jpg": "x", "a/y.PNG": "y", "a/deep/z.tif": "deep/z"}


def test_links_are_followed_but_not_in_circles(tree: Path) -> None:
    os.symlink(tree / "b", tree / "a" / "deep" / "link")
    os.symlink(tree / "a", tree / "a" / "deep" / "circle")
    assert names("a") == {"a/x.jpg": "x", "a/y.PNG": "y", "a/deep/z.tif": "deep/z", "a/deep/link/x.jpg": "deep/link/x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("missing.jpg", "no such file"), ("empty", "no image there"), ("a/*.webp", "no image there")],
)
def test_inputs_without_images_are_named(tree: Path, text: str, message: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=message) as caught:
        expand_inputs(["a", text])
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_nothing_given(tree: Path) -> None:
    with pytest.raises(InputError, match="nothing given"):
        expand_inputs([])
