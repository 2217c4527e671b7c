"""What every rule keeps of adversarial predictions, against sorting all confidences."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evenseg.errors import InputError
from evenseg.functional.pseudo_label import labeling_quota
from evenseg.stages.pseudo_label.images import Images
from evenseg.stages.pseudo_label.label import Labeling
from evenseg.stages.pseudo_label.rules import Rule
from tests.stages.fakes import SIZES, FakeNetwork, classes, everything, label_all

PRIOR = torch.tensor([700, 200, 60, 39, 1])
COUNT = 40


def written(selected) -> np.ndarray:
    """All written labels, one after the other."""
    files = [line.split()[1] for line in selected.list_file.read_text().splitlines()]
    return np.concatenate([np.array(Image.open(file)).ravel() for file in files])


def expected_quota(rule: Rule, confidence: np.ndarray, label: np.ndarray) -> list[int]:
    if rule.name == "cbst":
        return [int(rule.ratio * (label == c).sum() + 1e-9) for c in range(len(PRIOR))]
    return labeling_quota(PRIOR, len(label), rule.ratio).tolist()


@pytest.mark.parametrize("kind", ["random", "equal", "sure", "certain"])
@pytest.mark.parametrize("ratio", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("name", ["dars", "da", "cbst", "st"])
def test_labels_are_what_sorting_gives(name: str, ratio: float, kind: str, tmp_path: Path) -> None:
    rule, network = Rule(name, ratio), FakeNetwork(5, kind)
    confidence, label = everything(network, COUNT)
    labels = written(label_all(tmp_path, rule, PRIOR, network=network))
    kept = labels != 255
    assert (labels[kept] == label[kept]).all()
    if name == "st":
        wanted = int(ratio * len(label))
        threshold = np.sort(confidence)[::-1][wanted - 1] if wanted else np.inf
        assert np.array_equal(kept, confidence >= threshold)
        return
    for index, quota in enumerate(expected_quota(rule, confidence, label)):
        mine = label == index
        taken = min(quota, int(mine.sum()))
        reached = mine & (confidence >= np.sort(confidence[mine])[::-1][taken - 1]) if taken else mine & False
        if name == "dars":
            assert (kept & mine).sum() == taken
            assert not (kept & mine & ~reached).any()
        else:
            assert np.array_equal(kept & mine, reached)


@pytest.mark.parametrize("kind", ["random", "equal", "sure", "certain"])
def test_among_ties_nothing_above_the_threshold_is_lost(kind: str, tmp_path: Path) -> None:
    network = FakeNetwork(5, kind)
    confidence, label = everything(network, COUNT)
    small, large = (
        written(label_all(tmp_path, Rule("dars", ratio, scope="ties"), PRIOR, network=network, name=str(ratio)))
        for ratio in (0.1, 0.3)
    )
    for index, quota in enumerate(labeling_quota(PRIOR, len(label), 0.1).tolist()):
        mine = label == index
        taken = min(quota, int(mine.sum()))
        assert (small == index).sum() == taken
        if taken:
            threshold = np.sort(confidence[mine])[::-1][taken - 1]
            assert (small[mine & (confidence > threshold)] == index).all()
    assert (large[small != 255] == small[small != 255]).all()  # a larger ratio keeps what a smaller one does


def test_on_average_is_near_the_quota(tmp_path: Path) -> None:
    network = FakeNetwork(5, "equal")
    _, label = everything(network, 200)
    quota, size = int(labeling_quota(PRIOR, len(label), 0.2)[0]), int((label == 0).sum())
    share = quota / size
    for seed in range(3):
        rule = Rule("dars", 0.2, sampling="bernoulli")
        got = label_all(tmp_path, rule, PRIOR, network=network, count=200, seed=seed, name=f"seed{seed}")
        kept = (written(got) == 0).sum()
        assert kept != quota
        assert abs(kept - quota) < 6 * (size * share * (1 - share)) ** 0.5


def test_the_seed_decides_which_pixels_and_not_how_many(tmp_path: Path) -> None:
    network = FakeNetwork(5, "equal")
    one, other = (
        written(label_all(tmp_path, Rule(), PRIOR, network=network, seed=seed, name=f"seed{seed}")) for seed in (0, 1)
    )
    assert np.array_equal(np.bincount(one), np.bincount(other))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", ["equal", "certain"])
def test_equally_confident_pixels_of_all_images_have_equal_chances(kind: str, tmp_path: Path) -> None:
    network = FakeNetwork(2, kind)
    confidence, label = everything(network, 400)
    assert len(np.unique(confidence)) == 1
    selected = label_all(tmp_path, Rule(ratio=0.3), torch.tensor([1, 1]), network=network, count=400)
    for each in selected.report["classes"].values():
        assert each["tied"] == each["predicted"]
        assert each["threshold"] == confidence[0]
    labels = written(selected)
    share = (labels == 0).sum() / (label == 0).sum()
    sizes = np.array([h * w for h, w in SIZES * 100])
    block = np.repeat(np.arange(400) // 40, sizes)
    size = np.bincount(block[label == 0])
    kept = np.bincount(block[labels == 0], minlength=10)
    chi_square = ((kept - share * size) ** 2 / (size * share * (1 - share))).sum()
    assert chi_square < 27.9  # 0.1 % at 9 degrees of freedom


def test_shares_are_those_of_the_labels_where_predictions_suffice(tmp_path: Path) -> None:
    prior = torch.tensor([5, 3, 0, 2])
    report = label_all(tmp_path, Rule(ratio=0.3), prior, network=FakeNetwork(4)).report
    assert report["kl"] < 1e-4
    assert report["missing"] == []
    assert report["classes"]["class 2"]["quota"] == 0


@pytest.mark.parametrize("sampling", ["survivors", "ties"])
@pytest.mark.parametrize("kind", ["random", "equal", "certain"])
def test_no_share_is_further_off_than_rounding(kind: str, sampling: str, tmp_path: Path) -> None:
    prior, rule = torch.tensor([50, 31, 0, 19]), Rule(ratio=0.3, scope=sampling)
    got = label_all(tmp_path, rule, prior, network=FakeNetwork(4, kind)).report
    kept = torch.tensor([each["kept"] for each in got["classes"].values()])
    assert all(each["predicted"] >= each["quota"] for each in got["classes"].values())
    assert kept.sum() == round(0.3 * got["pixels"])
    bound = 2 / (0.3 * got["pixels"])
    assert ((kept / kept.sum() - prior / 100).abs() <= bound).all()
    assert got["kl"] <= 4 * bound**2 / 0.19 * 3  # of second order in what shares are off


def test_a_class_of_one_pixel(tmp_path: Path) -> None:
    """Predicted in a single pixel, of the one image of one pixel; its quota is met by it, or by nothing."""

    class Once(FakeNetwork):
        def outcome(self, number: int) -> tuple[torch.Tensor, tuple[int, int]]:
            logits, size = super().outcome(number)
            logits[1] = 60 if size == (1, 1) else -60
            return logits, size

    network = Once(3)
    _, label = everything(network, 4)
    assert (label == 1).sum() == 1
    for prior, kept in (([90, 1, 0], 1), ([90000, 1, 0], 0), ([1, 90, 0], 1)):
        rule = Rule(ratio=0.5, deficit="keep_all")
        got = label_all(tmp_path, rule, torch.tensor(prior), network=network, count=4, name=f"labels{prior[0]}").report
        assert got["classes"]["class 1"]["kept"] == kept


def test_an_image_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    twice = Images(("a", "b", "a"), ("a.jpg", "b.jpg", "a.jpg"))
    with pytest.raises(InputError, match="a: is among the images twice"):
        Labeling(tmp_path, twice, classes(4)).predict(FakeNetwork(4), None)
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("deficit", ["keep_all", "shrink", "refill"])
def test_a_class_that_is_never_predicted(deficit: str, tmp_path: Path) -> None:
    got = label_all(tmp_path, Rule(ratio=0.5, deficit=deficit), PRIOR).report
    assert got["classes"]["class 2"]["kept"] == 0
    assert got["missing"] == (["class 2"] if deficit != "shrink" else list(got["classes"]))
    wanted = round(0.5 * got["pixels"])
    assert (got["pseudo_labels"] == wanted) == (deficit == "refill")


def test_where_predictions_are_distributed_as_labels_all_rules_but_one_agree(tmp_path: Path) -> None:
    """With distinct confidences and a prior proportional to the predictions."""
    network = FakeNetwork(3)
    confidence, label = everything(network, 8)
    prior = torch.from_numpy(np.bincount(label, minlength=3))
    total = len(label)
    for c in range(3):  # a ratio at which no threshold is tied
        values = np.sort(confidence[label == c])[::-1]
        taken = len(values) // 4
        assert not taken or values[taken - 1] > values[taken]
    rules = [Rule(name, ratio=0.25, rounding="floor") for name in ("cbst", "da", "dars")]
    found = [written(label_all(tmp_path, rule, prior, network=network, count=8, name=rule.name)) for rule in rules]
    assert total > 300
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[1], found[2])


def test_a_single_class(tmp_path: Path) -> None:
    got = label_all(tmp_path, Rule(ratio=0.5), torch.tensor([3]), network=FakeNetwork(1), count=10)
    assert (written(got) == 0).sum() == round(0.5 * sum(h * w for h, w in (SIZES * 3)[:10]))
    assert got.report["kl"] == 0


@pytest.mark.parametrize("count", [0, 1, 3])
def test_hardly_any_image(count: int, tmp_path: Path) -> None:
    got = label_all(tmp_path, Rule(ratio=1.0), PRIOR, count=count)
    assert len(got.list_file.read_text().splitlines()) == count
    assert got.report["pixels"] == sum(h * w for h, w in SIZES[:count])


def test_three_hundred_classes(tmp_path: Path) -> None:
    prior = torch.ones(300)
    network = FakeNetwork(300)
    _, label = everything(network, 20)
    got = label_all(tmp_path, Rule(ratio=0.5), prior, network=network, count=20)
    labels = written(got)
    assert labels.max() == 65535
    quota = labeling_quota(prior, len(label), 0.5).tolist()
    available = np.bincount(label, minlength=300)
    assert np.bincount(labels[labels < 300], minlength=300).tolist() == np.minimum(quota, available).tolist()


def test_what_is_judged_by_the_truth(tmp_path: Path) -> None:
    got = label_all(tmp_path, Rule(ratio=0.5), PRIOR, truth=True).report["classes"]
    assert got["class 1"]["precision"] == 1.0
    assert got["class 0"]["precision"] == 0.0
    assert got["class 1"]["recall"] == pytest.approx(got["class 1"]["kept"] / sum(h * w for h, w in SIZES * 10))
    assert got["class 0"]["recall"] is None
