"""``evenseg data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evenseg.errors import InputError

if TYPE_CHECKING:
    from evenseg.data.split_registry import Registry

data = typer.Typer(
    name="data",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@data.callback()
def _data() -> None:
    """What there is to know of data before training.

    \b
    evenseg data splits
    evenseg data splits pascal/aug_1_16_662/u2pl
    """


@data.command("splits", short_help="Published lists of labeled images: which there are, and get one.")
def splits(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME | get NAME]", help="A list, DATASET/PROTOCOL/SOURCE, or the front of some."),
    ] = None,
    copy: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="With get: read a clone of the repository, or a folder with NAME/labeled.txt, and not the network.",
        ),
    ] = None,
) -> None:
    """List the published lists of labeled images, tell all about one, or get it, so that `data.labeled: NAME` finds it.

    Results on unlike lists are not comparable, even of one size. Getting verifies the hash of the images and keeps the
    list in the user's cache; what is kept is never overwritten.

    \b
    evenseg data splits
    evenseg data splits cityscapes
    evenseg data splits pascal/aug_1_16_662/u2pl
    evenseg data splits get pascal/aug_1_16_662/u2pl
    evenseg data splits get pascal/aug_1_16_662/u2pl --from U2PL
    """
    from evenseg.data.memory import user_cache_dir
    from evenseg.data.split_lists import get
    from evenseg.data.split_registry import registry

    known, words, cache_dir = registry(), words or [], user_cache_dir()
    if words[:1] == ["get"]:
        if len(words) != 2:
            raise InputError("`evenseg data splits get` takes one NAME; see `evenseg data splits`")
        path = get(words[1], cache_dir, copy=copy)
        print(f"{path}: {known[words[1]].images} images, verified; use it as data.labeled: {words[1]}")
        return
    if copy is not None:
        raise InputError("--from belongs to `evenseg data splits get NAME`")
    if len(words) > 1:
        raise InputError(f"{' '.join(words)!r}: one NAME at a time; see `evenseg data splits --help`")
    front = words[0].strip("/") if words else ""
    if front in known.splits:
        _describe(front, known, cache_dir)
        return
    names = [name for name in known.splits if not front or name.startswith(f"{front}/")]
    if not names:
        raise InputError(f"there is no published split {front!r}{known.hint(front) or '; see `evenseg data splits`'}")
    _list(names, known, cache_dir)


def _list(names: list[str], known: Registry, cache_dir: Path) -> None:
    from evenseg.cli.tables import print_table
    from evenseg.data.split_lists import kept_file

    rows = []
    for name in names:
        split = known.splits[name]
        hashes = list(dict.fromkeys(known.splits[other].ids_sha256 for other in known.of_one_protocol(name)))
        letter = "abcdefghijklmnopqrstuvwxyz"[hashes.index(split.ids_sha256)] + ("*" if split.family else "")
        kept = "kept" if kept_file(name, cache_dir).exists() else ""
        rows.append([name, str(split.images), letter, kept, ", ".join(split.papers)])
    print_table(["split", "images", "set", "here", "papers"], rows)
    print("\nLists of one DATASET/PROTOCOL with the same letter hold the same images: results on them are comparable,")
    print("where unlabeled images and protocol are the same too. Other letters are other draws, and not comparable.")
    if any(known.splits[name].family for name in names):
        print(
            "* takes the 1464 finely labeled images before any other. The other lists of the 10582 have coarser labels:"
        )
        print("  a difference between the two tells of the labels and not of the methods.")
    print("`evenseg data splits NAME` tells more of one, `evenseg data splits get NAME` gets it.")


def _describe(name: str, known: Registry, cache_dir: Path) -> None:
    from evenseg.benchmark.published import published_tables
    from evenseg.data.split_lists import kept_file

    split, dataset = known[name], known.dataset(name)
    equal = _equal(name, known)
    unlike = [other for other in known.of_one_protocol(name) if other != name and other not in equal]
    tables = [
        f"{table} ({column})"
        for table, one in published_tables().items()
        for column, images in one.table.splits.items()
        if images.ids_sha256 == split.ids_sha256
    ]
    path = kept_file(name, cache_dir)
    print(f"{name}: {split.images} labeled of {dataset.train} images of {dataset.title}")
    print(f"ids_sha256: {split.ids_sha256}")
    for title, lines in {
        "family": [split.family] if split.family else [],
        "note": [split.note] if split.note else [],
        "papers": [
            f"{known.papers[key].venue}, {key}, {known.papers[key].title}, {known.papers[key].url}"
            for key in split.papers
        ],
        "same images, comparable": equal,
        "other images, not comparable": unlike,
        "tables (evenseg list published)": tables,
        "files": [
            f"https://github.com/{file.repository}, {file.path}, "
            + (f"commit {file.commit}" if file.commit else "commit not on record")
            for file in split.files
        ],
        "lines": [dataset.line("ID")],
        "here": [str(path) if path.exists() else f"no; evenseg data splits get {name}"],
    }.items():
        for line in lines[:1] if len(lines) == 1 else []:
            print(f"{title}: {line}")
        if len(lines) > 1:
            print(f"{title}:")
            for line in lines:
                print(f"  {line}")


def _equal(name: str, known: Registry) -> list[str]:
    """The other lists of the same images."""
    return [other for other in known.with_images(known[name].ids_sha256) if other != name]
