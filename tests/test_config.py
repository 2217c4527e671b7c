"""Loading configurations: overrides, one-line errors, what makes two runs different."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenseg.config import Config, difference, dump, load_config, override_config, packaged_configs
from evenseg.errors import InputError


@pytest.fixture
def load(tmp_path: Path):
    """Load a configuration from a text."""

    def load(text: str, *overrides: str) -> Config:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return load_config(str(path), list(overrides))

    return load


@pytest.fixture
def complaint(load):
    """The error message of a configuration, without the path of its file."""

    def complaint(text: str, *overrides: str) -> str:
        with pytest.raises(InputError) as caught:
            load(text, *overrides)
        message = str(caught.value)
        assert "\n" not in message
        return message.rpartition("run.yaml: ")[2]

    return complaint


def test_an_empty_file_is_the_default_configuration(load):
    assert load("") == Config()
    assert load("train:\n  # steps: 3\n") == Config()


def test_overrides_are_yaml_and_win_over_the_file(load):
    config = load(
        "train: {steps: 5, labeled_batch: 2}\noptim: {lr: 1}",
        "train.steps=7",
        "optim.lr=1e-3",
        "data.labeled=1/16",
        "data.crop=[321, 321]",
        "data.scale=[0.5, 1.0, 2.0]",
        "network.weights=null",
    )
    assert (config.train.steps, config.train.labeled_batch) == (7, 2)
    assert config.optim.lr == 1e-3
    assert config.data.labeled == "1/16"
    assert config.data.crop == (321, 321)
    assert config.data.scale == [0.5, 1.0, 2.0]
    assert config.network.weights is None


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.e-3", ".1e-2", "+1e-3", "'1e-3'"])
def test_exponents_are_numbers(load, text):
    assert load(f"optim: {{lr: {text}}}").optim.lr == pytest.approx(1e-3)


def test_a_fraction_and_a_count_stay_what_they_are(load):
    assert load("data: {labeled: 1/16}").data.labeled == "1/16"
    assert load("data: {labeled: 0.0625}").data.labeled == 0.0625
    assert load("data: {labeled: 16}").data.labeled == 16
    assert load("data: {labeled: 1:16}").data.labeled == "1:16"  # and not 76, as YAML 1.1 has it


@pytest.mark.parametrize("value", ["32", "'32'"])
def test_precision_takes_number_and_text(load, value):
    assert load(f"train: {{precision: {value}}}").train.precision == "32"


def test_a_part_of_a_short_name_makes_a_mapping_in_any_order(load):
    expected = {"name": "fixmatch", "threshold": 0.9, "mixer": {"name": "cutmix", "area": 0.3}}
    given = ["method=fixmatch", "method.threshold=0.9", "method.mixer=cutmix", "method.mixer.area=0.3"]
    assert load("", *given).method == expected
    assert load("", *reversed(given)).method == expected


def test_a_new_method_replaces_the_arguments_of_the_old_one(load):
    assert load("method: {name: fixmatch, threshold: 0.9}", "method=mean_teacher").method == "mean_teacher"


def test_arguments_go_to_the_default_method(load):
    config = load("", "method.ema_decay=0.9")
    assert config.method_name == "supervised"
    assert config.method_arguments == {"ema_decay": 0.9}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {stpes: 3}", "train.stpes is no key (did you mean train.steps?)"),
        ("steps: 3", "steps is no key (did you mean train.steps?)"),
        ("train: {lr: 3}", "train.lr is no key (did you mean optim.lr?)"),
        ("data: {strong: {brihgtness: 3}}", "data.strong.brihgtness is no key (did you mean data.strong.brightness?)"),
        ("trian: {}", "trian is no key (did you mean train?)"),
        ("train: {steps: abc}", "train.steps must be a whole number of at least 1, not 'abc'"),
        ("train: {steps: 1.5}", "train.steps must be a whole number of at least 1, not 1.5"),
        ("train: {steps: true}", "train.steps must be a whole number of at least 1, not true"),
        ("train: {steps: 0}", "train.steps must be a whole number of at least 1, not 0"),
        ("data: {flip: 2}", "data.flip must be a number from 0 to 1, not 2"),
        ("optim: {lr: .nan}", "optim.lr must be a number above 0, not nan"),
        ("optim: {lr: .inf}", "optim.lr must be a number above 0, not inf"),
        ("optim: {momentum: 1}", "optim.momentum must be a number of at least 0 and below 1, not 1"),
        ("optim: {name: adamv}", "optim.name must be sgd, adamw or adam, not 'adamv' (did you mean adam or adamw?)"),
        ("data: {crop: [5]}", "data.crop must be a list of 2 (a whole number of at least 1 each), not [5]"),
        ("train: 5", "train must be a mapping of keys to values, not 5"),
        ("method: {gamma: 1}", "method needs a `name` beside its arguments, as in {name: fixmatch, threshold: 0.9}"),
        (
            "train: {steps: 0, log_every: 0}\nseed: -1",
            "train.steps must be a whole number of at least 1, not 0 (and 2 more)",
        ),
    ],
)
def test_faults_are_told_in_one_line(complaint, text, expected):
    assert complaint(text) == expected


@pytest.mark.parametrize("value", ["[2, 1]", "[]", "[0, 1]", "wide"])
def test_impossible_scales_are_refused(complaint, value):
    assert complaint("", f"data.scale={value}").startswith("data.scale must be a list of 2")


def test_the_file_is_named_only_for_what_stands_in_it(load, tmp_path):
    with pytest.raises(InputError, match=r"run\.yaml: train\.steps"):
        load("train: {steps: 0}")
    with pytest.raises(InputError, match=r"^train\.steps"):
        load("train: {steps: 5}", "train.steps=0")


def test_broken_yaml_is_told_with_file_and_line(load):
    with pytest.raises(InputError, match=r"run\.yaml line 2: "):
        load("train: [1,\nseed: }")
    with pytest.raises(InputError, match=r"run\.yaml line 3: the key 'seed' is given twice"):
        load("seed: 1\ntrain: {}\nseed: 2")
    with pytest.raises(InputError, match="a configuration is a mapping"):
        load("- seed")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps", "'train.steps' is no override; write key=value"),
        ("=3", "'=3' is no override"),
        ("data.crop=[1,", "the value of data.crop line 1: "),
        ("data.scale.0=1", "data.scale"),
        ("seed.x=3", "seed.x: seed has no parts"),
    ],
)
def test_broken_overrides(complaint, override, expected):
    assert complaint("seed: 0", override).startswith(expected)


def test_missing_files_and_unknown_names(tmp_path):
    with pytest.raises(InputError, match="neither a file nor a packaged configuration"):
        load_config("no_such_config", [])
    with pytest.raises(InputError, match="is a folder"):
        load_config(str(tmp_path), [])
    (tmp_path / "latin").write_bytes(b"data: {root: \xe9}")
    with pytest.raises(InputError, match="latin cannot be read: it is not UTF-8 text"):
        load_config(str(tmp_path / "latin"), [])


@pytest.mark.parametrize("name", packaged_configs())
def test_packaged_configurations_load_by_name(name):
    assert load_config(name, []) == load_config(f"{name}.yaml", [])


@pytest.mark.parametrize(
    ("text", "overrides", "crop"),
    [
        ("", [], (512, 512)),
        ("data: {size: [40, 60]}", [], (512, 512)),  # the size of another data set
        ("", ["data.dataset=synthetic"], (96, 128)),
        ("data: {dataset: synthetic}", ["data.size=[40, 60]"], (40, 60)),
        ("data: {crop: [321, 321]}", ["data.dataset=synthetic"], (321, 321)),
        ("data: {crop: [512, 512]}", ["data.dataset=synthetic"], (512, 512)),  # given, although it is the default
        ("data: {dataset: synthetic}", ["data.crop=[64, 64]"], (64, 64)),
        ("data: {dataset: synthetic}", ["data.dataset=folder"], (512, 512)),
    ],
)
def test_the_default_crop_follows_the_data_set(load, text, overrides, crop):
    config = load(text, *overrides)
    assert config.data.crop == crop
    assert load(dump(config)) == config
    assert override_config(config, ["data.size=[8, 8]"]).data.crop == crop  # what a run has resolved stays


def test_a_broken_size_is_not_taken_for_a_broken_crop(complaint):
    assert complaint("data: {dataset: synthetic, size: [5]}").startswith("data.size must be a list of 2")


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data.dataset=synthetic"],
        ["data.scale=[0.5, 1.0, 1.5]", "data.unlabeled_scale=[1, 1]", "optim.lr=1e-9", "data.root='na\u00efve: # x'"],
        ["method={name: fixmatch, mixer: {name: cutmix, area: 0.3}, components: [threshold]}", "data.resize=[4, 5]"],
        ["data.labeled=1/16", "train.precision=32", "train.clip_norm=1", "data.root='007'"],
    ],
)
def test_a_dump_reads_back_equal(load, overrides):
    config = load("", *overrides)
    assert load(dump(config)) == config
    assert difference(load(dump(config)), config) == []


def test_difference_names_what_changes_results_and_nothing_else(load):
    there = load("", "method=fixmatch", "train.steps=5")
    here = load(
        "", "method.name=fixmatch", "method.threshold=0.9", "train.steps=6", "data.workers=0", "data.cache=true"
    )
    assert difference(there, here) == ["method.threshold: null there, 0.9 here", "train.steps: 5 there, 6 here"]
    assert difference(there, load("", "method={name: fixmatch}", "train.steps=5")) == []


def test_overrides_of_a_loaded_configuration(load):
    config = load("method: fixmatch\ntrain: {steps: 5}")
    assert override_config(config, ["evaluate.flip=true"]).evaluate.flip
    assert override_config(config, []) == config
    with pytest.raises(InputError, match=r"^evaluate.flp is no key \(did you mean evaluate.flip\?\)"):
        override_config(config, ["evaluate.flp=true"])
