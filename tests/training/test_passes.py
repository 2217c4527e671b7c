"""Global pooling under batch norm: one image at a time is refused before the run folder is made."""

import pytest

from evenseg import registry
from evenseg.config import Config
from evenseg.errors import InputError
from evenseg.networks import SegmentationNetwork
from evenseg.training.run import _check_norm, _check_passes

REFUSED = [
    ({"labeled_batch": 1}, 1, {}),
    ({"unlabeled_batch": 1}, 1, {}),
    ({"labeled_batch": 2, "micro_batches": 2}, 1, {}),
    ({"labeled_batch": 2}, 2, {}),
    ({"labeled_batch": 1, "sync_batchnorm": True}, 1, {}),  # nothing to synchronise with
    ({"labeled_batch": 2, "micro_batches": 2, "sync_batchnorm": True}, 2, {}),
]
ALLOWED = [
    ({"labeled_batch": 4, "unlabeled_batch": 4}, 2, {}),
    ({"labeled_batch": 2, "sync_batchnorm": True}, 2, {}),
    ({"labeled_batch": 1, "unlabeled_batch": 1}, 1, {"norm": "group"}),
    ({"labeled_batch": 1, "unlabeled_batch": 1}, 1, {"norm": "frozen"}),
    ({"labeled_batch": 1, "unlabeled_batch": 1}, 1, {"architecture": "fpn"}),
    ({"unlabeled_batch": 1}, 1, {"method": "supervised"}),
    ({"unlabeled_batch": 1, "steps": 5}, 1, {"method": {"name": "mean_teacher", "supervised_steps": 5}}),
]


def check(train, ranks, *, method="mean_teacher", architecture="deeplabv3plus", norm="batch"):
    config = Config.model_validate({"method": method, "train": train})
    network = SegmentationNetwork(architecture, "tu-test_efficientnet", num_classes=3, norm=norm)
    _check_passes(registry.build("method", config.method, network=network), config, ranks)


@pytest.mark.parametrize(("train", "ranks", "others"), REFUSED)
def test_refused(train, ranks, others):
    with pytest.raises(InputError, match="at least two images at a time"):
        check(train, ranks, **others)


@pytest.mark.parametrize(("train", "ranks", "others"), ALLOWED)
def test_allowed(train, ranks, others):
    check(train, ranks, **others)


@pytest.mark.parametrize(("wanted", "ranks", "device"), [(True, 1, "cpu"), (False, 2, "cpu"), (True, 2, "cuda")])
def test_synchronised_batch_norm_where_it_can_be(wanted, ranks, device):
    _check_norm(Config.model_validate({"train": {"sync_batchnorm": wanted}}), ranks, device)


def test_synchronised_batch_norm_of_processes_on_a_cpu_is_refused():
    with pytest.raises(InputError, match="on GPUs only; leave it out"):
        _check_norm(Config.model_validate({"train": {"sync_batchnorm": True}}), 2, "cpu")
