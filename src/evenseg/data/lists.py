"""List files and folders: which images, and which label belongs to each.

A list file is UTF-8 text, one image a line, paths relative to ``data.root`` or absolute:
``image_path label_path`` in a labeled list, ``image_path`` in an unlabeled one, whose second
column is ignored. Columns are separated by blanks; in a line that holds a tab, by tabs alone, so
that paths may hold blanks (``my image.jpg<TAB>``). Empty lines are skipped; there are no comments.

A folder in place of a list means all images in it and its subfolders, sorted by path. Their labels
have the same path below a folder of labels, up to the suffix:

* ``data.labels`` where it is given: its subfolder named like the image folder if there is one
  (``labels/train`` for ``images/train``), else the folder itself;
* otherwise the folder in which ``labels`` takes the place of the last ``images`` in the path
  (``ROOT/labels/train`` for ``ROOT/images/train``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from evenseg.data.image_io import IMAGE_SUFFIXES, LABEL_SUFFIXES
from evenseg.errors import InputError


class Entry(NamedTuple):
    """One image. image, label: paths as written in the list, relative to the root or absolute.
    where: the list and line, or the folder, it comes from."""

    image: str
    label: str | None
    where: str


def read_source(value: str, root: Path, *, key: str, labeled: bool, labels: str | None = None) -> list[Entry]:
    """Read a list file or a folder of images.

    Args:
        value: the file or folder, relative to ``root`` or absolute.
        root: the root of the data.
        key: the configuration key, for messages.
        labeled: whether every image needs a label. Otherwise no label is looked for.
        labels: the folder of labels (``data.labels``), for folders only.

    Raises:
        InputError: nothing there, nothing in it, a line of the wrong form, an image without label,
            an image twice.
    """
    if not value.strip():  # it would mean the root itself
        raise InputError(f"data.{key} is empty; set it to a list or folder, or leave the key out")
    path = root / os.path.expanduser(value)
    if os.path.isdir(path):
        entries = read_folder(path, root, labels=labels) if labeled else _image_entries(path, root)
    elif os.path.exists(path):
        entries = read_list(path, labeled=labeled)
    else:
        raise InputError(f"data.{key}: {path}: no such list or folder; relative paths start at data.root")
    _refuse_duplicates(entries)
    return entries


def read_list(path: Path, *, labeled: bool) -> list[Entry]:
    """Read a list file; see the module for its form."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(
            f"{path}: cannot be read as a list ({reason}); a list is a text file, one image a line"
        ) from None
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if columns := _columns(line):
            entries.append(_entry(columns, f"{path} line {number}", labeled=labeled))
    if not entries:
        raise InputError(f"{path}: the list is empty; write one image a line, or leave the key out")
    return entries


def format_line(entry: Entry) -> str:
    """The line of a list file that reads back as the entry."""
    columns = [entry.image] if entry.label is None else [entry.image, entry.label]
    if not any(character.isspace() for column in columns for character in column):
        return " ".join(columns)
    return "\t".join(columns) + ("\t" if len(columns) == 1 else "")


def read_folder(folder: Path, root: Path, *, labels: str | None) -> list[Entry]:
    """Images of a folder with their labels; see the module for where these are looked for."""
    images = _image_entries(folder, root)
    label_folder = _label_folder(folder, root, labels)
    by_stem: dict[str, Path] = {}
    for path in _files(label_folder, LABEL_SUFFIXES):
        stem = _stem(path, label_folder)
        if stem in by_stem:
            raise InputError(
                f"{by_stem[stem]} and {path} are both labels of the same image; keep one, or write a list file"
            )
        by_stem[stem] = path
    entries: dict[str, Entry] = {}
    for image in images:
        stem = _stem(root / image.image, folder)
        if stem in entries:
            raise InputError(
                f"{folder}: {entries[stem].image} and {image.image} would share one label; "
                "rename one, or write a list file"
            )
        if stem not in by_stem:
            raise InputError(
                f"{folder}: {image.image} has no label, {label_folder / stem} with "
                f"{', '.join(LABEL_SUFFIXES)} was looked for; set data.labels to the folder of labels, "
                "or write a list file of `image label` lines"
            )
        entries[stem] = image._replace(label=_relative(by_stem[stem], root))
    return list(entries.values())


def _columns(line: str) -> list[str]:
    if "\t" not in line:
        return line.split()
    columns = [column.strip() for column in line.split("\t")]
    while columns and not columns[-1]:
        columns.pop()
    return columns


def _entry(columns: Sequence[str], where: str, *, labeled: bool) -> Entry:
    expected = "`image label`" if labeled else "`image`, or `image label`"
    if len(columns) > 2 or (labeled and len(columns) < 2) or not all(columns):
        raise InputError(
            f"{where}: {len(columns)} {'column' if len(columns) == 1 else 'columns'} where {expected} is expected; "
            "separate the columns by a tab if a path holds blanks"
        )
    return Entry(columns[0], columns[1] if labeled else None, where)


def _refuse_duplicates(entries: Sequence[Entry]) -> None:
    first: dict[str, Entry] = {}
    for entry in entries:
        earlier = first.setdefault(os.path.normpath(entry.image), entry)
        if earlier is not entry:
            raise InputError(
                f"{entry.where}: {entry.image} is listed before, at {earlier.where}; remove one of the two lines"
            )


def _image_entries(folder: Path, root: Path) -> list[Entry]:
    entries = [Entry(_relative(path, root), None, str(folder)) for path in _files(folder, IMAGE_SUFFIXES)]
    if not entries:
        raise InputError(
            f"{folder}: no images in this folder; it has to hold files ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    return entries


def _files(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Files of a folder and its subfolders by suffix, sorted by path; hidden ones are left out."""
    found = []
    visited = set()
    for parent, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a folder above
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [
            Path(parent, name) for name in names if not name.startswith(".") and name.lower().endswith(tuple(suffixes))
        ]
    return iter(sorted(found, key=lambda path: path.as_posix()))


def _label_folder(folder: Path, root: Path, labels: str | None) -> Path:
    if labels is not None:
        label_folder = root / os.path.expanduser(labels)
        if not os.path.isdir(label_folder):
            raise InputError(f"data.labels: {label_folder}: no such folder; relative paths start at data.root")
        named = label_folder / folder.name
        return named if named.is_dir() else label_folder
    parts = list(Path(_relative(folder, root)).parts)  # a folder above the root may be called images too
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
        label_folder = root / Path(*parts)
        if label_folder.is_dir():
            return label_folder
    raise InputError(
        f"{folder}: no labels found for this folder of images; set data.labels to the folder of labels, "
        "or write a list file of `image label` lines"
    )


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
