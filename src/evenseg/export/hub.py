"""Folders from and to the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from evenseg.errors import InputError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def download(repository: str, names: list[str]) -> Path:
    """A folder with the named files of ``OWNER/NAME``; downloaded unless cached.

    Raises:
        InputError: there is no such repository, or the hub cannot be reached.
    """
    if not _HUB_ID.fullmatch(repository):
        raise InputError(f"{repository}: no such folder; give one that save_pretrained wrote, or OWNER/NAME on the hub")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=names))
    except (OSError, ValueError) as error:  # the hub's own errors are among these
        raise InputError(
            f"{repository}: no such folder, and not to be had from the hub ({_first_line(error)}); "
            "check the name and the connection"
        ) from None


def upload(folder: Path, repository: str, *, private: bool, token: str | None) -> str:
    """Upload a folder into ``OWNER/NAME``, which is made if missing; returns the address of the commit.

    Raises:
        InputError: the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="A model trained by evenseg")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{repository}: cannot be uploaded ({_first_line(error)}); check the name, the connection and "
            "`hf auth login`"
        ) from None
    return str(commit)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
