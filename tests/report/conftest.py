"""Two small runs that reports are made of, trained once."""

from pathlib import Path

import pytest

from tests.training.helpers import train

OPTIONS = ["train.steps=8", "data.test_images=12", "data.val_images=4", "health.every=1", "health.pictures=2"]
OPTIONS += ["health.views=8"]  # of held-out images


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("report")
    methods = {
        "supervised": ["method=supervised"],
        "cutmix_seg": ["method=cutmix_seg", "method.threshold=0", "method.supervised_steps=2"],
    }
    for name, options in methods.items():
        assert train(folder, folder / name, *options, *OPTIONS) == 0
    return {name: folder / name for name in methods}
