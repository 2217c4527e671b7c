"""The recipe usrn: its stages and their settings, and a tiny run of it, killed and resumed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from evenseg.config import Config, load_config
from evenseg.data.build import build_data
from evenseg.errors import InputError
from evenseg.functional.cells import to_pixels
from evenseg.functional.confidence_codes import confidence_codes
from evenseg.inference.evaluate import to_images
from evenseg.recipes.base import ClusterStage, TrainStage
from evenseg.recipes.run import stages_of
from evenseg.stages.pseudo_label.images import dataset_images
from evenseg.training.folder import read_run
from evenseg.training.use import load_method

from ..training.helpers import assert_equal, checkpoint, start, train
from .test_run import TINY as TINY_DARS
from .test_run import state

METHOD = f"{Path(__file__).parent / 'divided.py'}:Divided"
TINY = [
    "recipe={name: usrn, rule: budget, budget: 20, stride: 4}",
    f"method={METHOD}",
    *(option for option in TINY_DARS if not option.startswith("method")),
]
STAGES = ["supervised", "cluster", "joint"]


@pytest.fixture
def config(tmp_path):
    def load(*overrides: str) -> Config:
        (tmp_path / "run.yaml").write_text("")
        return load_config(str(tmp_path / "run.yaml"), [f"method={METHOD}", "recipe=usrn", *overrides])

    return load


def test_usrn_as_a_method_is_the_recipe_with_its_joint_method(tmp_path):
    (tmp_path / "run.yaml").write_text("")
    short = load_config(str(tmp_path / "run.yaml"), ["method=usrn", "method.balance=none"])
    assert short.recipe == {"name": "usrn", "balance": "none"}
    assert short.method == "usrn_joint"


def test_stages_and_their_order(config):
    stages = stages_of(config("train.steps=30", "stages.supervised.train.steps=10", "seed=3"))
    assert [stage.name for stage in stages] == STAGES
    assert [stage.inputs for stage in stages] == [(), ("supervised",), ("cluster",)]
    first, cluster, joint = stages
    assert isinstance(first, TrainStage)
    assert isinstance(cluster, ClusterStage)
    assert isinstance(joint, TrainStage)
    assert (first.config.method, first.config.train.steps) == ("supervised", 10)
    assert (joint.config.method, joint.config.train.steps, joint.after) == (METHOD, 30, None)
    assert first.config.recipe is None
    assert (cluster.options.rule, cluster.options.budget, cluster.options.balance) == ("smallest", 254, "hard")
    assert cluster.options.seed != stages_of(config("seed=4"))[1].options.seed


def test_settings_of_a_stage(config):
    changed = config(
        "recipe.budget=60",
        "stages.cluster={rule: budget, counts.road: 4, counts.car: 2, evaluate.batch: 1}",
        "stages.supervised.method.supervised_loss=class_weighted",
        "stages.joint.optim.lr=0.5",
    )
    first, cluster, joint = stages_of(changed)
    assert (cluster.options.rule, cluster.options.budget) == ("budget", 60)
    assert cluster.options.counts == {"road": 4, "car": 2}
    assert cluster.overrides == ("evaluate.batch=1",)
    assert first.config.method == {"name": "supervised", "supervised_loss": "class_weighted"}
    assert (first.config.optim.lr, joint.config.optim.lr) == (0.01, 0.5)
    assert stages_of(config("recipe={name: usrn, counts: [3, 1, 2]}"))[1].options.counts == [3, 1, 2]


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("recipe.bugdet=1", r"recipe\.bugdet is no argument of USRN \(did you mean budget\?\)"),
        ("recipe.rule=large", r"recipe\.rule must be "),
        ("stages.cluster.budget=0", r"stages\.cluster\.budget must be "),
        ("stages.cluster.counts.road=0", r"stages\.cluster\.counts"),
        ("stages.cluster.data.workers=-1", r"stages\.cluster: data\.workers"),
        ("stages.clusters.budget=1", r"stages\.clusters: this recipe has no such stage \(did you mean cluster\?\)"),
        ("stages.supervised.train.stpes=1", r"stages\.supervised: train\.stpes is no key"),
        ("stages.joint.network.encoder=resnet18", r"stages\.joint: network\.encoder is the same in all stages"),
        ("data.subclasses=sub", r"data\.subclasses: this recipe makes the maps itself"),
        (
            "method=supervised",
            r"recipe: usrn ends with a method that learns from unlabeled images, and supervised does",
        ),
        ("stages.joint.data.labeled=1/8", r"stages: data\.labeled is another one in supervised than in joint"),
        ("stages.supervised.health.holdout=2", r"stages: health\.holdout is another one in supervised than in joint"),
    ],
)
def test_faults_of_the_recipe(config, override, fault):
    with pytest.raises(InputError, match=fault):
        stages_of(config(override))


def test_what_a_later_stage_refuses_is_told_at_the_start(tmp_path, capsys):
    options = [option for option in TINY if not option.startswith("method")] + ["method=usrn_joint"]
    assert train(tmp_path, tmp_path / "run", *options) == 2
    assert "cannot be divided behind its map at stride 4" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("usrn")
    assert train(folder, folder / "run", *TINY) == 0
    return folder / "run"


def test_what_is_clustered_is_trained_on(whole, cli_main):
    report = json.loads((whole / "stages" / "cluster" / "report.json").read_text())
    counts = [each["subclasses"] for each in report["classes"].values()]
    assert max(counts) > 1
    assert json.loads((whole / "classes.json").read_text())["subclass_counts"] == counts
    assert "subclass_counts" not in json.loads((whole / "stages" / "supervised" / "classes.json").read_text())
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["stray"] for line in lines if "stray" in line] == [0.0, 0.0, 0.0]
    assert len((whole / "lists" / "subclasses.txt").read_text().splitlines()) == 8
    assert json.loads((whole / "result.json").read_text())["recipe"] == "usrn"
    assert cli_main("evaluate", whole) == 0  # the method is built again without the maps
    assert cli_main("cluster", whole, "--output", whole.parent / "again", "--rule", "budget", "--budget", "20") == 0


def test_a_later_stage_may_change_and_maps_must_not(tmp_path, whole, capsys):
    assert train(whole.parent, whole, *TINY) == 0
    assert "finished before" in capsys.readouterr().out
    assert train(whole.parent, whole, *TINY, "stages.cluster.budget=19") == 2
    assert "the stage cluster began with budget: 20, not 19" in capsys.readouterr().err
    plain = [option for option in TINY if not option.startswith("recipe")]
    subclasses, run = whole / "stages" / "cluster", tmp_path / "run"
    assert train(tmp_path, run, *plain, f"data.subclasses={subclasses}") == 0
    assert_equal(checkpoint(run), checkpoint(whole))
    other = tmp_path / "other"
    again = ("recipe={name: usrn, rule: budget, budget: 15, stride: 4}",)
    assert train(tmp_path, other, *TINY, *again) == 0
    (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace(str(subclasses), str(other / "stages" / "cluster"))
    )
    assert train(tmp_path, run, *plain, f"data.subclasses={other / 'stages' / 'cluster'}") == 2
    assert "the subclasses list has changed since this run began" in capsys.readouterr().err


def test_killed_as_stages_begin_it_ends_as_if_it_had_not_been(tmp_path, capsys):
    options = [option for option in TINY if not option.startswith("method")] + ["method=usrn_joint"]
    options += ["method.threshold=0.2", "method.gate=always", "method.share=high", "health.every=2"]
    whole = tmp_path / "whole"
    assert train(tmp_path, whole, *options) == 0
    logged = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert any(line.get("loss/subclass_self_training", 0.0) > 0 for line in logged)
    for number, at in enumerate(STAGES[1:], start=1):
        process = start(tmp_path, tmp_path / "run", *options)
        assert process.stdout is not None
        assert any(line.startswith("stage ") and line.rstrip().endswith(at) for line in process.stdout)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        stages = [tmp_path / "run" / "stages" / name for name in STAGES[:number]]
        before = [state(stage) for stage in stages]
    assert train(tmp_path, tmp_path / "run", *options) == 0
    assert [state(stage) for stage in stages] == before
    assert_equal(checkpoint(tmp_path / "run"), checkpoint(whole))
    assert (tmp_path / "run" / "result.json").read_text() == (whole / "result.json").read_text()


def test_dars_takes_its_labels_from_regularised_probabilities(tmp_path, whole, cli_main, capsys):
    branch = "{name: subclass_branch, share: high, gate: always}"
    options = [option for option in TINY_DARS if not option.startswith("method")]
    options += ["recipe={name: dars, ratios: [0.4]}", f"method={{name: supervised, components: [{branch}]}}"]
    options += [f"data.subclasses={whole / 'stages' / 'cluster'}", "train.precision=32"]
    run = tmp_path / "run"
    assert train(tmp_path, run, *options) == 0
    stages = run / "stages"
    assert json.loads((stages / "label_1" / "manifest.json").read_text())["regularized"] is True

    config, facts = read_run(stages / "round_0")
    method = load_method(stages / "round_0", config, facts, "last")
    images = dataset_images(build_data(config.data, seed=config.seed, needs_unlabeled=True).unlabeled)
    image = to_images([images.read(0).resized], "cpu")
    with torch.no_grad():
        out = method.student(image)
    size = tuple(image.shape[2:])
    counts = json.loads((stages / "round_0" / "classes.json").read_text())["subclass_counts"]
    parent = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    voted = to_pixels(parent[out.coarse["subclass"].argmax(1)], size, method.student.padded_size(*size))
    left = torch.where(torch.arange(len(counts)).view(-1, 1, 1) == voted[:, None], out.logits.softmax(1), 0)
    with np.load(stages / "label_1" / "predictions" / "000000.npz") as stored:
        label, code = torch.from_numpy(stored["label_0"]), torch.from_numpy(stored["code_0"].astype(np.int64))
    assert (label == voted[0]).float().mean() > 0.99  # whatever the classifier says
    assert (voted != out.logits.argmax(1)).any()
    assert (code - confidence_codes(left.amax(1)[0]).long()).abs().float().mean() < 1  # batches of another size

    again = ("--output", tmp_path / "labels", "--ratio", "0.4")
    assert cli_main("pseudo-label", stages / "round_0", *again, "--regularized") == 0
    assert cli_main("pseudo-label", whole, "--output", tmp_path / "none", "--regularized") == 2
    assert "was trained without USRN's branch" in capsys.readouterr().err
    fitted = ("--regularized", "--alignment", "0.5")
    assert cli_main("pseudo-label", stages / "round_0", "--output", tmp_path / "none", *fitted) == 2
    assert "neither calibrated nor aligned" in capsys.readouterr().err
