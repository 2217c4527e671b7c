"""The published numbers of subclasses agree with themselves."""

from importlib import resources

import yaml


def test_known_numbers_and_others_make_the_total() -> None:
    text = (resources.files("evenseg") / "published" / "subclasses" / "usrn.yaml").read_text(encoding="utf-8")
    table = yaml.safe_load(text)
    classes = {"voc": 21, "cityscapes": 19}
    assert table.keys() == classes.keys()
    for dataset, splits in table.items():
        for entry in splits.values():
            known, others = entry.get("known", {}), entry.get("others", {})
            named = sum(known.values())
            left = classes[dataset] - len(known) - sum(others.values())
            assert named + sum(size * count for size, count in others.items()) + left <= entry["total"] <= 254
    whole = table["cityscapes"][372]
    assert sum(whole["known"].values()) + sum(n * count for n, count in whole["others"].items()) == whole["total"]
