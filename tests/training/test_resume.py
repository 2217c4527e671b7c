"""A killed run that is started again ends as if it had never been killed, bit by bit."""

import json
import random
import signal

import pytest

from evenseg import registry

from .helpers import PSEUDO_LABELED, assert_equal, checkpoint, follow_to, start, train, write_pseudo_labels

STEPS = 9
# checkpoints at 3 and 6, lines of the log at 4, 8 and 9: each checkpoint falls between two lines
RHYTHM = [f"train.steps={STEPS}", "train.checkpoint_every=3", "train.log_every=4", "health.every=2", "health.views=2"]
RECIPES = {
    # usrn_joint needs what an earlier stage makes: tests/recipes/test_usrn.py
    **{name: [f"method={name}"] for name in registry.names("method") if name != "usrn_joint"},
    "cutmix_seg, all options": [
        f"data.pseudo_labeled={PSEUDO_LABELED}",
        "train.pseudo_labeled_batch=4",
        "train.pseudo_labeled_power=1",
        "method=cutmix_seg",
        "method.loss=cross_entropy",
        "method.supervised_steps=3",
        "method.ramp_steps=4",
        "method.supervised_loss=class_weighted",
        "optim.name=adamw",
        "train.micro_batches=2",
        "train.unlabeled_batch=4",
        "train.clip_norm=1.0",
        "train.precision=bf16-mixed",
    ],
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_kill_and_resume_is_exact(tmp_path, recipe, request, monkeypatch):
    options = [*recipe, *RHYTHM]
    monkeypatch.chdir(tmp_path)
    write_pseudo_labels(tmp_path, seed=3)
    assert train(tmp_path, tmp_path / "whole", *options) == 0
    kill_at = random.Random(request.node.name).choice((4, 8))
    process = start(tmp_path, tmp_path / "killed", *options)
    follow_to(process, kill_at)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert train(tmp_path, tmp_path / "killed", *options) == 0

    assert_equal(checkpoint(tmp_path / "killed"), checkpoint(tmp_path / "whole"))
    assert_equal(checkpoint(tmp_path / "killed", "best"), checkpoint(tmp_path / "whole", "best"))
    for name in ("metrics.jsonl", "result.json", "metrics.csv"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()
    steps = [json.loads(line)["step"] for line in (tmp_path / "whole" / "metrics.jsonl").open()]
    assert steps == sorted(steps)
    assert sorted(set(steps)) == [4, 8, STEPS]


def test_requests_that_are_pending_survive_a_kill(tmp_path):
    """AEL asks for images 32 steps ahead; these runs are long enough to be given them."""
    options = [
        "method=ael",
        "method.paste_source=containing",
        "network.architecture=linknet",
        "network.encoder=tu-test_resnet",
        "train.steps=48",
        "train.checkpoint_every=5",
        "train.log_every=8",
        "train.validate_every=48",
        "health.every=0",
        "data.workers=2",
    ]
    assert train(tmp_path, tmp_path / "whole", *options) == 0
    state = checkpoint(tmp_path / "whole")["method"]
    assert (state["mixer.requests.image"] >= 0).any()  # partners were known
    assert (state["components.3.requests.image"] >= 0).any()
    process = start(tmp_path, tmp_path / "killed", *options)
    follow_to(process, 40)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert train(tmp_path, tmp_path / "killed", *options) == 0
    assert_equal(checkpoint(tmp_path / "killed"), checkpoint(tmp_path / "whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(tmp_path, number):
    options = ["method=cutmix_seg", f"train.steps={STEPS}", "train.checkpoint_every=1000", "train.log_every=3"]
    process = start(tmp_path, tmp_path / "run", *options)
    follow_to(process, 3)
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == 128 + number
    assert "the same command resumes the run" in out
    assert err == ""
    saved = checkpoint(tmp_path / "run")["progress"]["step"]
    assert 3 <= saved < STEPS
    assert train(tmp_path, tmp_path / "run", *options) == 0
    assert train(tmp_path, tmp_path / "whole", *options) == 0
    assert_equal(checkpoint(tmp_path / "run"), checkpoint(tmp_path / "whole"))
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_a_finished_run_is_reported_and_left_alone(tmp_path, capsys):
    options = ["method=supervised", "train.steps=2"]
    assert train(tmp_path, tmp_path / "run", *options) == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file() and p.name != ".lock"}
    capsys.readouterr()
    assert train(tmp_path, tmp_path / "run", *options) == 0
    assert "finished before" in capsys.readouterr().out
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before


def test_a_run_of_another_configuration_is_refused(tmp_path, capsys):
    assert train(tmp_path, tmp_path / "run", "method=supervised", "train.steps=2") == 0
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    capsys.readouterr()
    assert train(tmp_path, tmp_path / "run", "method=supervised", "train.steps=3") == 2
    message = capsys.readouterr().err
    assert "train.steps: 2 there, 3 here" in message
    assert message.count("\n") == 1
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before


def test_keys_that_change_no_result_may_change(tmp_path):
    options = ["method=supervised", "train.steps=4"]
    assert train(tmp_path, tmp_path / "run", *options) == 0
    assert train(tmp_path, tmp_path / "run", *options, "data.workers=0", "train.checkpoint_every=1") == 0
    assert train(tmp_path, tmp_path / "other", *options, "data.workers=0") == 0
    assert_equal(checkpoint(tmp_path / "run"), checkpoint(tmp_path / "other"))
