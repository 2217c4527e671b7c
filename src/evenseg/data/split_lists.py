"""Published lists on this machine: got from their source or a copy, verified, kept in the cache, and found again."""

from __future__ import annotations

import contextlib
import http.client
import os
import tempfile
import time
import urllib.request
from pathlib import Path

from evenseg.data.image_ids import ids_sha256, image_id
from evenseg.data.permutation import read_permutation
from evenseg.data.split_registry import PublishedList, SplitFile, registry
from evenseg.errors import InputError

LIST = "labeled.txt"
_SECONDS, _BYTES = 60, 32 * 2**20  # of a download, in all


def kept_file(name: str, cache_dir: Path) -> Path:
    """Where a list is kept, whether or not it is there."""
    return cache_dir / "splits" / name / LIST


def resolve(value: str, root: Path, cache_dir: Path, *, key: str) -> str:
    """What a list in ``data.KEY`` stands for: the kept file if it is the name of a published list, else itself.

    Args:
        value: as in the configuration; a file or folder of that name below ``root`` goes first.
        root: the root of the data.
        cache_dir: the user's cache folder.
        key: the configuration key, for messages.

    Raises:
        InputError: the list has not been got yet, or it is not what it was; or the name is nearly one.
    """
    known = registry()
    if os.path.exists(root / os.path.expanduser(value)):
        return value
    if value in known.splits:
        if not kept_file(value, cache_dir).exists():
            raise InputError(
                f"data.{key}: the published split {value} is not on this machine; "
                f"get it with `evenseg data splits get {value}`, or set the key to a list of your own"
            )
        return str(check_kept(value, cache_dir))
    like_a_name = value.partition("/")[0] in known.datasets or value.count("/") == 2
    if like_a_name and (hint := known.hint(value)):
        raise InputError(f"data.{key}: {value} is no list or folder below data.root and no published split{hint}")
    return value


def check_kept(name: str, cache_dir: Path) -> Path:
    """The file of a list that is kept. Raises InputError where it is not what it was."""
    path = kept_file(name, cache_dir)
    if fault := _fault(_ids(_text(path.read_bytes(), str(path)), str(path)), registry()[name]):
        raise InputError(f"{path}: {fault}; remove the file and run `evenseg data splits get {name}`")
    return path


def get(name: str, cache_dir: Path, *, copy: Path | None = None) -> Path:
    """Read a list from its public source or a copy, verify it, and keep it; nothing is done where it is kept already.

    Args:
        name: of the list.
        cache_dir: the user's cache folder.
        copy: a clone of the repository, or a folder with it, a folder of DATASET/PROTOCOL/SOURCE/labeled.txt, or the
            very file; None: the source.

    Returns:
        The kept file: lines `image label` in the order of the source, paths as the data set has them by default.

    Raises:
        InputError: no such name, nothing to read, or what was read is another list.
    """
    split, path = registry()[name], kept_file(name, cache_dir)
    if path.exists():
        return check_kept(name, cache_dir)
    ids = _from_source(name, split, cache_dir) if copy is None else _from_copy(name, split, cache_dir, copy)
    dataset = registry().dataset(name)
    _write(path, "".join(f"{dataset.line(image)}\n" for image in ids))
    return path


def _from_source(name: str, split: PublishedList, cache_dir: Path) -> list[str]:
    file = next((file for file in split.files if file.url), None)
    if file is None or file.url is None:
        first = split.files[0]
        raise InputError(
            f"{name}: no commit with its list is on record; clone https://github.com/{first.repository}, "
            f"which has it as {first.path}, and add `--from CLONE`"
        )
    try:
        content = _download(file.url)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise InputError(
            f"{name}: {file.url} cannot be read ({reason}); fetch it where there is a network, "
            f"save it as FOLDER/{file.path}, and run `evenseg data splits get {name} --from FOLDER`"
        ) from None
    ids = _read(content, file.url, file, split, cache_dir)
    if fault := _fault(ids, split):
        raise InputError(f"{name}: {file.url} {fault}; get it from a clone with `--from CLONE`")
    return ids


def _from_copy(name: str, split: PublishedList, cache_dir: Path, copy: Path) -> list[str]:
    """The first of the possible files that is this list."""
    if not copy.exists():
        raise InputError(f"{copy}: no such file or folder; --from takes a clone, or a folder with {name}/{LIST}")
    places: list[tuple[Path, SplitFile | None]] = [(copy / name / LIST, None)]
    for file in split.files:
        places += [(copy / file.path, file), (copy / file.repository.rpartition("/")[2] / file.path, file)]
    if copy.is_file():
        pickled = next((file for file in split.files if file.permutes and copy.suffix == Path(file.path).suffix), None)
        places = [(copy, pickled)]
    faults = []
    for path, place in places:
        if path.is_file():
            ids = _read(path.read_bytes(), str(path), place, split, cache_dir)
            fault = _fault(ids, split)
            if fault is None:
                return ids
            faults.append(f"{path} {fault}")
    if faults:
        commit = next((file.commit for file in split.files if file.commit), None)
        at = f"; in a clone, check out commit {commit}" if commit else ""
        raise InputError(f"{name}: {faults[0]}{at}")
    named = " or ".join([f"{name}/{LIST}", *(f"{file.path} of {file.repository}" for file in split.files)])
    raise InputError(f"{copy}: has no {named}; give a clone, or a folder that is laid out so")


def _read(content: bytes, where: str, file: SplitFile | None, split: PublishedList, cache_dir: Path) -> list[str]:
    """Ids in the order of a file."""
    if file is None or file.permutes is None:
        return _ids(_text(content, where), where)
    if not kept_file(file.permutes, cache_dir).exists():
        raise InputError(
            f"{where}: reorders the list {file.permutes}; run `evenseg data splits get {file.permutes}` first"
        )
    full = check_kept(file.permutes, cache_dir)
    ids = sorted(_ids(_text(full.read_bytes(), str(full)), str(full)))
    return [ids[index] for index in read_permutation(content, where, len(ids))[: split.images]]


def _ids(text: str, where: str) -> list[str]:
    """Of the first column: an id, or any path of the image. Raises InputError where an image is listed twice."""
    ids = [image_id(line.split()[0]) for line in text.splitlines() if line.strip()]
    seen: set[str] = set()
    for image in ids:
        if image in seen:
            raise InputError(f"{where}: lists {image} twice; this is not the published list")
        seen.add(image)
    return ids


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{where}: is not UTF-8 text; this is not the published list") from None


def _fault(ids: list[str], split: PublishedList) -> str | None:
    found = ids_sha256(ids)
    if found == split.ids_sha256:
        return None
    return f"is another list: {len(ids)} images, ids {found[:12]}, in place of {split.images}, {split.ids_sha256[:12]}"


def _download(url: str) -> bytes:
    """Raises OSError, after a minute at the latest."""
    end = time.monotonic() + _SECONDS
    content = b""
    with urllib.request.urlopen(url, timeout=20) as stream:
        while block := stream.read(2**16):
            content += block
            if len(content) > _BYTES or time.monotonic() > end:
                raise TimeoutError(f"more than {_SECONDS} seconds, or {_BYTES >> 20} MiB")
    return content


def _write(path: Path, text: str) -> None:
    """In one piece or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
