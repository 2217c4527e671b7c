"""The stages of self-training: their settings, without training anything."""

from __future__ import annotations

import pytest

from evenseg.config import Config, load_config
from evenseg.errors import InputError
from evenseg.recipes.base import LabelStage, TrainStage
from evenseg.recipes.run import stages_of
from evenseg.recipes.self_training import widened


@pytest.fixture
def config(tmp_path):
    def load(*overrides: str) -> Config:
        (tmp_path / "run.yaml").write_text("")
        return load_config(str(tmp_path / "run.yaml"), ["method=dars", "train.steps=10", *overrides])

    return load


def rounds(config: Config) -> dict[str, Config]:
    return {stage.name: stage.config for stage in stages_of(config) if isinstance(stage, TrainStage)}


def labels(config: Config) -> dict[str, LabelStage]:
    return {stage.name: stage for stage in stages_of(config) if isinstance(stage, LabelStage)}


def test_dars_as_a_method_is_the_recipe_with_a_supervised_student(config):
    short = config("method.ratios=[0.3]", "method.scope=ties")
    assert short.recipe == {"name": "dars", "ratios": [0.3], "scope": "ties"}
    assert short.method == "supervised"
    assert short.recipe_name == "dars"
    same = config("method=supervised", "recipe=self_training", "recipe.ratios=[0.3]", "recipe.scope=ties")
    assert stages_of(same) == stages_of(short)
    assert rounds(config("method=fixmatch", "recipe=dars"))["round_1"].method == "fixmatch"


def test_stages_and_their_order(config):
    stages = stages_of(config())
    assert [stage.name for stage in stages] == ["round_0", "label_1", "round_1", "label_2", "round_2"]
    assert [stage.inputs for stage in stages] == [
        (),
        ("round_0",),
        ("round_0", "label_1"),
        ("round_1",),
        ("round_1", "label_2"),
    ]
    assert [(each.options.rule.name, each.options.rule.ratio) for each in labels(config()).values()] == [
        ("dars", 0.2),
        ("dars", 0.5),
    ]
    first, second = (each.options.seed for each in labels(config()).values())
    assert first != second
    assert all(each.recipe is None and each.stages == {} for each in rounds(config()).values())


def test_steps_are_counted_on_where_the_learning_rate_is_continued(config):
    own = "stages.round_1={train.steps: 4}"
    continued, restarted = (
        rounds(config(own)),
        rounds(config(own, "recipe.learning_rate=restart", "method=supervised", "recipe.name=dars")),
    )
    assert [each.train.steps for each in continued.values()] == [10, 14, 24]
    assert [each.train.steps for each in restarted.values()] == [10, 4, 10]


def test_the_last_of_several_rounds_sees_a_wider_range_of_scales(config):
    assert widened([0.25, 1.0], 0.2, 0.5) == pytest.approx([0.2, 1.5])  # the paper's, of 361 and 713 pixels
    assert widened([0.5, 2.0], 0.2, 0.25) == pytest.approx([0.4, 2.5])
    scales = [each.data.scale for each in rounds(config("data.scale=[0.25, 1.0]")).values()]
    assert scales == [(0.25, 1.0), (0.25, 1.0), pytest.approx((0.2, 1.5))]
    assert {each.data.scale for each in rounds(config("method.widen=null")).values()} == {(0.5, 2.0)}
    assert {each.data.scale for each in rounds(config("method.ratios=[0.2]")).values()} == {(0.5, 2.0)}
    assert rounds(config("stages.round_2.data.scale=[1, 2]"))["round_2"].data.scale == (1, 2)


def test_every_round_has_its_alignment(config):
    """CReST+: the power decreases from round to round."""
    assert [each.options.alignment for each in labels(config()).values()] == [None, None]
    crest = labels(
        config("method=supervised", "recipe=self_training", "recipe.rule=crest", "recipe.alignments=[1,0.5]")
    )
    assert [each.options.alignment for each in crest.values()] == [1.0, 0.5]
    own = config("method.alignments=[1,0.5]", "stages.label_2.alignment=0")
    assert [each.options.alignment for each in labels(own).values()] == [1.0, 0.0]


def test_settings_of_a_stage_are_those_of_no_other(config):
    changed = config("stages.label_2={ratio: 0.4, evaluate.flip: true}", "stages.round_0.train.labeled_batch=16")
    first, second = labels(changed).values()
    assert (first.options.rule.ratio, second.options.rule.ratio) == (0.2, 0.4)
    assert (first.overrides, second.overrides) == ((), ("evaluate.flip=true",))
    assert [each.train.labeled_batch for each in rounds(changed).values()] == [16, 8, 8]


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("method.ratoi=1", r"recipe\.ratoi is no argument of SelfTraining"),
        ("method.ratios=[1.5]", r"recipe\.ratios must be a list \(a number from 0 to 1 each\)"),
        ("method.ratios=[]", "recipe: ratios: give one for each round"),
        ("method.alignments=[1]", "recipe: alignments: give one for each of the ratios"),
        (
            "stages.label_1.alignment=1 stages.label_1.distribution=estimated",
            r"stages\.label_1: alignment needs the labeled",
        ),
        ("method.widen=[1, 0.5]", "recipe: widen: .*choose less than 1"),
        ("data.scale=[1, 2, 3]", r"data\.scale: a list to choose from cannot be widened"),
        ("data.pseudo_labeled=a.txt", r"data\.pseudo_labeled: this recipe makes pseudo-labels itself"),
        ("stages.round_3.train.steps=1", r"stages\.round_3: this recipe has no such stage \(did you mean round_"),
        ("stages.round_1.train.stpes=1", r"stages\.round_1: train\.stpes is no key \(did you mean train\.steps\?\)"),
        ("stages.round_1.network.encoder=resnet18", r"stages\.round_1: network\.encoder is the same in all stages"),
        ("stages.label_1.ratio=2", r"stages\.label_1\.ratio must be a number from 0 to 1, not 2"),
        ("stages.label_1.evaluate.flp=2", r"stages\.label_1: evaluate\.flp is no key"),
        ("recipe=dars", "method: dars is a recipe, and recipe names one too"),
        ("recipe=drs method=supervised", r"recipe: 'drs' is no recipe \(did you mean dars\?\)"),
        ("stages.round_0.train.steps=1 method=supervised", "a run without a recipe has no stages"),
    ],
)
def test_faults_of_a_recipe(config, override, fault):
    with pytest.raises(InputError, match=fault):
        stages_of(config(*([override] if "[" in override else override.split())))
