"""What is said of the published lists is true of them, and hangs together."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest
from pydantic import ValidationError

from evenseg.benchmark.published import published_tables
from evenseg.data.image_ids import ids_sha256, image_id
from evenseg.data.split_lists import get
from evenseg.data.split_registry import Registry, registry
from evenseg.errors import InputError
from tests.data.split_toys import toy_split, use_registry

SPLITS = Path(__file__).resolve().parents[2] / "../shared/data/splits"
FULL = "pascal/aug_full_10582/unimatch"
needs_lists = pytest.mark.skipif(not SPLITS.exists(), reason="needs ../shared")


def original(name: str) -> Path:
    return SPLITS / "pascal/all_train_aug.txt" if name == FULL else SPLITS / name / "labeled.txt"


@needs_lists
@pytest.mark.parametrize("name", registry().splits)
def test_count_hash_and_lines_are_those_of_the_public_list(name: str, tmp_path: Path) -> None:
    lines = original(name).read_text().splitlines()
    ids = [image_id(line.split()[0]) for line in lines]
    split = registry()[name]
    assert (split.images, split.ids_sha256) == (len(set(ids)), ids_sha256(ids))
    path = get(name, tmp_path, copy=original(name) if name == FULL else SPLITS)
    assert path.read_text().splitlines() == lines
    bare = tmp_path / "bare.txt"  # as most sources have it
    bare.write_bytes("\r\n".join(ids).encode())
    assert get(name, tmp_path / "other", copy=bare).read_text() == path.read_text()


@needs_lists
def test_every_public_list_is_known() -> None:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| [\d/]+ \| (.*) \|$", (SPLITS / "README.md").read_text(), re.MULTILINE)
    named, equal = set(), {}
    for dataset, protocol, sources in rows:
        for source, letter in re.findall(r"(\w+) \[(\w)\]", sources):
            name = f"{dataset}/{protocol}/{source}"
            named.add(name)
            equal.setdefault((dataset, protocol, letter), set()).add(registry()[name].ids_sha256)
    assert named | {FULL} == set(registry().splits)
    assert all(len(hashes) == 1 for hashes in equal.values())
    assert len(set.union(*equal.values())) == len(equal)


@needs_lists
def test_the_high_quality_family_takes_the_finely_labeled_images_first() -> None:
    fine = {image_id(line.split()[0]) for line in (SPLITS / "pascal/all_train_classic.txt").read_text().splitlines()}
    for name, split in registry().splits.items():
        if name.startswith("pascal/aug_") and name != FULL:
            ids = {image_id(line.split()[0]) for line in original(name).read_text().splitlines()}
            assert (split.family == "high-quality first") == (ids <= fine or fine <= ids), name


def test_lists_that_share_a_hash_share_size_and_family() -> None:
    def by_hash(item: tuple[str, object]) -> str:
        return registry()[item[0]].ids_sha256

    for _, group in groupby(sorted(registry().splits.items(), key=by_hash), key=by_hash):
        assert len({(split.images, split.family, name.split("/")[0]) for name, split in group}) == 1


def test_a_fraction_in_a_name_is_what_it_says() -> None:
    for name, split in registry().splits.items():
        dataset = registry().dataset(name)
        if match := re.search(r"/(?:aug_)?1_(\d+)", name):
            assert split.images == pytest.approx(dataset.train / int(match[1]), rel=0.02), name
        if match := re.search(r"(?:1_\d+|full)_(\d+)/", name):
            assert split.images == pytest.approx(int(match[1]), abs=1), name


def test_files_are_on_record_with_commit_or_said_not_to_be() -> None:
    without = {name for name, split in registry().splits.items() if not any(file.url for file in split.files)}
    assert without == {"ade20k/1_64/unimatch_v2"}
    for split in registry().splits.values():
        for file in split.files:
            assert file.url is None or re.fullmatch(r"https://[\w./+-]+", file.url)
            assert file.permutes in (None, FULL)


def test_hashes_of_published_tables_lead_to_names() -> None:
    table = published_tables()["usrn_voc"].table
    found = [registry().with_images(str(split.ids_sha256)) for split in table.splits.values()]
    assert found == [
        ["pascal/aug_1_64_165/usrn"],
        ["pascal/aug_1_32_331/usrn"],
        ["pascal/aug_1_16_662/pixelssl_seed0", "pascal/aug_1_16_662/usrn"],
    ]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"no published split 'pascal/aug_1_16_662/u2p' \(did you mean pascal/aug_1_16_"
    ):
        registry()["pascal/aug_1_16_662/u2p"]
    with pytest.raises(InputError, match="see `evenseg data splits`"):
        registry()["nothing like it"]


def test_lines_of_each_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = registry().dataset("cityscapes/1_16_186/cps")
    expected = "leftImg8bit/train/ulm/ulm_000007_000019_leftImg8bit.png gtFine/train/ulm/ulm_000007_000019_gtFine_"
    for image in ("/images/train/ulm_000007_000019.png", "ulm_000007_000019", "x/ulm_000007_000019_leftImg8bit.png"):
        assert dataset.line(image) == f"{expected}labelTrainIds.png"
    assert registry().dataset("acdc/x/y").line("data/slices/patient1_slice_2.h5") == "data/slices/patient1_slice_2.h5"


@pytest.mark.parametrize(
    "splits",
    [
        {"toy/two": toy_split("ab")},
        {"toys/one/two": toy_split("ab")},
        {"toy/one/two": toy_split("ab", papers=["None"])},
        {"toy/one/two": toy_split("ab", {"commit": "main"})},
        {"toy/one/two": toy_split("ab", ids_sha256="12")},
        {"toy/one/two": toy_split("ab", images=0)},
    ],
)
def test_a_slip_in_the_file_does_not_pass(splits: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        use_registry(splits, tmp_path, monkeypatch)
    assert isinstance(registry(), Registry)
