"""What a run records of its lists."""

from evenseg.config import DataConfig
from evenseg.data.build import build_data
from evenseg.data.image_ids import ids_sha256
from evenseg.training.environment import environment


def test_the_ids_of_the_images_are_recorded(tmp_path):
    config = DataConfig(dataset="synthetic", size=(32, 32), labeled=4, train_images=8, val_images=2, test_images=2)
    splits = build_data(config, seed=0, cache_dir=tmp_path)
    recorded = environment("32", 1, splits)
    assert set(recorded["ids_sha256"]) == set(recorded["split_sha256"]) == {"labeled", "unlabeled", "val", "test"}
    for key, hash_ in recorded["ids_sha256"].items():
        assert hash_ == ids_sha256(line.split()[0] for line in splits.lists[key])
