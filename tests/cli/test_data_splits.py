"""``evenseg data splits``, and a run whose config names a published list."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evenseg.config import DataConfig
from evenseg.data.build import build_data
from evenseg.data.image_ids import ids_sha256
from evenseg.errors import InputError
from tests.data.split_toys import toy_split, use_registry

from .conftest import Cli, Folder

NAME = "toy/1_4/official"


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lists of images of the small data set, and one equal to the first."""
    splits = {
        NAME: toy_split(["5", "2"]),
        "toy/1_4/again": toy_split(["2", "5"], family="high-quality first"),
        "toy/1_4/another": toy_split(["2", "4"], note="another draw"),
    }
    use_registry(splits, tmp_path, monkeypatch)

    def no_network(url: str, timeout: float) -> Any:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository that has the first list."""
    (tmp_path / "Toy/lists").mkdir(parents=True)
    (tmp_path / "Toy/lists/some.txt").write_text("5\n2\n")
    return tmp_path / "Toy"


def test_all_lists(cli: Cli) -> None:
    text = cli("data", "splits").out
    rows = {line.split()[0]: line for line in text.splitlines() if line.count("/") >= 2}
    assert len(rows) == 81
    found = {name: line.split(maxsplit=3)[1:] for name, line in rows.items()}
    sixteenth = [found[f"pascal/aug_1_16_662/{source}"][1] for source in ("cps", "unimatch", "usrn", "pixelssl_seed0")]
    assert sixteenth == ["a", "a", "b", "b"]
    assert [cell.rstrip() for cell in found["pascal/aug_1_16_662/u2pl"]] == ["662", "e*", "U2PL"]
    assert [cell.rstrip() for cell in found["pascal/aug_1_16_662/unimatch_u2pl_variant"]] == ["662", "e*", "UniMatch"]
    assert [cell.rstrip() for cell in found["pascal/classic_1_2_732/cps_pseudoseg"]] == ["732", "a", "PseudoSeg, CPS"]
    assert found["pascal/classic_1_2_732/u2pl"][1] == found["pascal/classic_1_2_732/unimatch"][1] == "b"
    some = cli("data", "splits", "cityscapes/1_8_372").out
    assert len(re.findall("^cityscapes/1_8_372/", some, re.MULTILINE)) == 5
    assert "pascal" not in some
    assert "finely" not in some


def test_one_list(cli: Cli) -> None:
    text = cli("data", "splits", "pascal/aug_1_16_662/usrn").out
    assert "662 labeled of 10582 images of PASCAL VOC 2012\n" in text
    assert "\nsame images, comparable: pascal/aug_1_16_662/pixelssl_seed0\n" in text
    unlike = text.partition("not comparable:\n")[2].partition("\ntables")[0].split()
    assert unlike == [
        f"pascal/aug_1_16_662/{n}"
        for n in ("cps", "pixelssl_seed1", "pixelssl_seed2", "u2pl", "unimatch", "unimatch_u2pl_variant")
    ]
    assert "\ntables (evenseg list published): usrn_voc (1/16)\n" in text
    assert "https://github.com/Dayan-Guan/USRN, dataloaders/voc_splits0/662_train_supervised.txt, commit" in text
    assert "\nhere: no; evenseg data splits get pascal/aug_1_16_662/usrn\n" in text


@pytest.mark.usefixtures("toys")
def test_get(cli: Cli, clone: Path, tmp_path: Path) -> None:
    kept = tmp_path / "cache/evenseg/splits" / NAME / "labeled.txt"
    assert cli("data", "splits", "get", NAME, "--from", clone).out.startswith(f"{kept}: 2 images, verified; ")
    assert kept.read_text() == "images/5.png labels/5.png\nimages/2.png labels/2.png\n"
    assert cli("data", "splits", "get", NAME).code == 0  # it is here: nobody asks the network
    assert re.search(rf"^{NAME} .* kept +Toy", cli("data", "splits").out, re.MULTILINE)
    assert f"\nhere: {kept}\n" in cli("data", "splits", NAME).out


@pytest.mark.usefixtures("toys")
def test_what_is_refused(refused: Callable[..., str], clone: Path, folder: Folder, tmp_path: Path) -> None:
    assert "fetch it where there is a network, save it as FOLDER/lists/some.txt" in refused(
        "data", "splits", "get", NAME
    )
    assert "is another list: 2 images" in refused("data", "splits", "get", "toy/1_4/another", "--from", clone)
    assert "did you mean toy/1_4/official" in refused("data", "splits", "get", "toy/1_4/oficial")
    assert f"there are {NAME}, toy/1_4/again" in refused("data", "splits", "get", "toy/1_4", "--from", clone)
    assert "did you mean" in refused("data", "splits", "toy/1_4/oficial")
    assert "see `evenseg data splits`" in refused("data", "splits", "nothing")
    assert "takes one NAME" in refused("data", "splits", "get")
    assert "one NAME at a time" in refused("data", "splits", NAME, "toy/1_4/again")
    assert "belongs to `evenseg data splits get NAME`" in refused("data", "splits", NAME, "--from", clone)
    run = ("train", folder.config, "--output", tmp_path / "run")
    assert f"get it with `evenseg data splits get {NAME}`" in refused(*run, f"data.labeled={NAME}")
    assert f"did you mean {NAME}" in refused(*run, "data.labeled=toy/1_4/oficial")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("toys")
def test_a_run_on_a_published_list(cli: Cli, clone: Path, folder: Folder, tmp_path: Path) -> None:
    assert cli("data", "splits", "get", NAME, "--from", clone).code == 0
    lines = [f"images/{i}.png labels/{i}.png" for i in range(8)]
    (folder.root / "train.txt").write_text("\n".join(lines))
    given = [f"data.labeled={NAME}", "data.train=train.txt", "data.unlabeled=null"]
    run = tmp_path / "run"
    outcome = cli("train", folder.config, "--output", run, *given)
    assert outcome.code == 0, outcome.err
    assert (run / "lists/labeled.txt").read_text().split("\n")[:2] == [lines[5], lines[2]]
    unlabeled = (run / "lists/unlabeled.txt").read_text().split()
    assert unlabeled == [f"images/{i}.png" for i in range(8) if i not in (2, 5)]
    recorded = json.loads((run / "environment.json").read_text())
    assert recorded["ids_sha256"]["labeled"] == ids_sha256(["2", "5"])
    assert recorded["published_split"] == [NAME, "toy/1_4/again"]
    assert f"labeled: {NAME}\n" in (run / "config.yaml").read_text()


@pytest.mark.usefixtures("toys")
def test_the_full_list_may_be_a_published_one(cli: Cli, clone: Path, folder: Folder) -> None:
    cli("data", "splits", "get", NAME, "--from", clone)
    config = DataConfig(root=str(folder.root), labeled=NAME, train="toy/1_4/another")
    assert build_data(config, seed=0, needs_unlabeled=False).lists["labeled"][0] == "images/5.png labels/5.png"
    with pytest.raises(InputError, match=r"data.train: the published split toy/1_4/another is not on this machine"):
        build_data(config, seed=0)
    (clone / "lists/some.txt").write_text("2\n4\n")
    assert cli("data", "splits", "get", "toy/1_4/another", "--from", clone).code == 0
    assert build_data(config, seed=0).lists["unlabeled"] == ["images/4.png"]
    drawn = config.model_copy(update={"labeled": 1})
    assert build_data(drawn, seed=0, needs_unlabeled=False).lists["labeled"][0].startswith("images/")


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("labels", [True, False])
def test_paths_are_those_of_the_full_list_where_it_has_labels(
    cli: Cli, clone: Path, folder: Folder, tmp_path: Path, labels: bool
) -> None:
    cli("data", "splits", "get", NAME, "--from", clone)
    (folder.root / "labels").rename(folder.root / ("other" if labels else "labels"))
    lines = [f"./images/{i}.png" + (f" other/{i}.png" if labels else "") for i in range(8)]
    (folder.root / "train.txt").write_text("\n".join(lines))
    config = DataConfig(root=str(folder.root), labeled=NAME, train="train.txt")
    splits = build_data(config, seed=0)
    assert splits.lists["labeled"] == (
        [lines[5], lines[2]] if labels else ["images/5.png labels/5.png", "images/2.png labels/2.png"]
    )
    assert splits.lists["unlabeled"] == [f"./images/{i}.png" for i in range(8) if i not in (2, 5)]


def test_the_help_says_how(cli: Cli) -> None:
    assert "evenseg data splits\n" in cli("data", "--help").out
    text = cli("data", "splits", "--help").out
    assert "evenseg data splits get pascal/aug_1_16_662/u2pl --from U2PL\n" in text
