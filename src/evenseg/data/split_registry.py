"""Published lists of labeled images by name: how many, which (as a hash), for which papers, and where they are public.

The lists themselves are not here; ``split_lists`` gets them.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Annotated

from pydantic import Field, model_validator

from evenseg.config.section import Section, Size
from evenseg.data.image_ids import image_id
from evenseg.errors import InputError
from evenseg.schema import nearest

FILE = resources.files("evenseg") / "published" / "splits.json"


class SplitPaper(Section):
    """A paper that trains on a list."""

    title: str
    venue: str
    url: str


class SplitDataset(Section):
    """The layout that a list is written for. image, label: paths below the root, of ``{id}`` and ``{city}``; label is
    None where image and label share a file. train: number of all training images, labeled or not."""

    title: str
    image: str
    label: str | None
    train: Size

    def line(self, image: str) -> str:
        """The line of a list file for an image, which may be given by its id or by any path."""
        name = image_id(image)
        columns = [self.image] if self.label is None else [self.image, self.label]
        return " ".join(column.format(id=name, city=name.partition("_")[0]) for column in columns)


class SplitFile(Section):
    """A public file. commit: at which it was seen; None: it is known to be in the repository, not at which commit.
    permutes: the file is a permutation of the sorted ids of this list, and the first of them are meant."""

    repository: str  # owner/name on GitHub
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None
    path: str
    permutes: str | None = None

    @property
    def url(self) -> str | None:
        """Where the file is to be had alone."""
        return self.commit and f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


class PublishedList(Section):
    """A list. ids_sha256: see ``image_ids``; equal for equal sets. family: how the images were chosen, where lists of
    one size must not be taken for draws of one kind. files: the same list, first where it was published first."""

    images: Size
    ids_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    papers: Annotated[list[str], Field(min_length=1)]
    family: str | None = None
    note: str | None = None
    files: Annotated[list[SplitFile], Field(min_length=1)]


class Registry(Section):
    """All that is known. Lists are named DATASET/PROTOCOL/SOURCE; those of one protocol have one size, or nearly."""

    papers: dict[str, SplitPaper]
    datasets: dict[str, SplitDataset]
    splits: dict[str, PublishedList]

    @model_validator(mode="after")
    def _names_are_known(self) -> Registry:
        for name, split in self.splits.items():
            if name.count("/") != 2 or name.partition("/")[0] not in self.datasets:
                raise ValueError(f"{name}: a name is DATASET/PROTOCOL/SOURCE")
            if unknown := set(split.papers) - set(self.papers):
                raise ValueError(f"{name}: no paper {', '.join(sorted(unknown))}")
        return self

    def __getitem__(self, name: str) -> PublishedList:
        """A list by name. Raises InputError where there is none."""
        if name not in self.splits:
            raise InputError(f"there is no published split {name!r}{self.hint(name) or '; see `evenseg data splits`'}")
        return self.splits[name]

    def hint(self, name: str) -> str:
        """Which lists may be meant by a name that is none; empty where nothing is like it."""
        below = [other for other in self.splits if other.startswith(f"{name.rstrip('/')}/")]
        return f" (there are {', '.join(below)})" if 0 < len(below) <= 10 else nearest(name, self.splits)

    def dataset(self, name: str) -> SplitDataset:
        """The data set of a list."""
        return self.datasets[name.partition("/")[0]]

    def of_one_protocol(self, name: str) -> list[str]:
        """The lists of the same data set and protocol, this one among them."""
        return [other for other in self.splits if other.rpartition("/")[0] == name.rpartition("/")[0]]

    def with_images(self, ids_sha256: str) -> list[str]:
        """Names of the lists that hold exactly the images of this hash, in whatever order."""
        return [name for name, split in self.splits.items() if split.ids_sha256 == ids_sha256]


@cache
def registry() -> Registry:
    """The lists that come with evenseg."""
    return Registry.model_validate_json(FILE.read_text(encoding="utf-8"))
