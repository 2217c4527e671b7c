"""What users get wrong: exit code 2, one plain line that names it, nothing written, nothing lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import Cli, Folder, plain_line

Spoil = Callable[[Folder], None]


def state(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content, every folder with None."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def rewrite(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def save(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def strange_ids(folder: Folder) -> None:
    label = np.zeros((40, 48), np.uint8)
    label[:3], label[10:12] = 7, 255
    save(folder.label(2), label)


def grey_in_colour(folder: Folder) -> None:
    save(folder.label(3), np.ones((40, 48, 3), np.uint8))


def truncated_jpeg(folder: Folder) -> None:
    whole = folder.image(0).with_suffix(".jpg")
    Image.open(folder.image(0)).save(whole, quality=95)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    folder.image(0).unlink()
    rewrite(folder.root / "labeled.txt", "images/0.jpg labels/0.png")


def directory_for_file(folder: Folder) -> None:
    folder.image(1).unlink()
    folder.image(1).mkdir()


DATA: dict[str, tuple[Spoil, list[str]]] = {
    "missing root": (lambda f: f.root.rename(f.root.with_name("moved")), ["data.root", "does not exist"]),
    "missing classes": (lambda f: (f.root / "classes.json").unlink(), ["classes.json", "no such file"]),
    "broken classes": (lambda f: rewrite(f.root / "classes.json", "{names"), ["classes.json", "not valid JSON"]),
    "missing list": (lambda f: (f.root / "labeled.txt").unlink(), ["data.labeled", "labeled.txt"]),
    "missing image": (lambda f: f.image(1).unlink(), ["labeled.txt", "images/1.png", "no such file"]),
    "missing label": (lambda f: f.label(1).unlink(), ["labeled.txt", "labels/1.png", "no such file"]),
    "missing unlabeled image": (lambda f: f.image(7).unlink(), ["unlabeled.txt", "images/7.png"]),
    "missing validation label": (lambda f: f.label(9).unlink(), ["val.txt", "labels/9.png"]),
    "columns": (
        lambda f: rewrite(f.root / "labeled.txt", "images/0.png labels/0.png", "images/1.png"),
        ["labeled.txt", "2", "image"],
    ),
    "empty list": (lambda f: rewrite(f.root / "labeled.txt"), ["labeled.txt", "empty"]),
    "empty validation list": (lambda f: rewrite(f.root / "val.txt"), ["val.txt", "empty"]),
    "label size": (
        lambda f: save(f.label(4), np.zeros((40, 47), np.uint8)),
        ["labels/4.png", "47x40", "images/4.png", "48x40"],
    ),
    "label ids": (strange_ids, ["labels/2.png", "7"]),
    "label in colour": (grey_in_colour, ["labels/3.png", "colour", "grey"]),
    "truncated image": (truncated_jpeg, ["images/0.jpg", "truncated"]),
    "zero bytes": (lambda f: f.image(5).write_bytes(b""), ["images/5.png", "empty"]),
    "zero bytes label": (lambda f: f.label(5).write_bytes(b""), ["labels/5.png", "empty"]),
    "directory": (directory_for_file, ["images/1.png", "directory"]),
    "leak": (
        lambda f: rewrite(f.root / "val.txt", "images/8.png labels/8.png", "images/3.png labels/3.png"),
        ["images/3.png", "labeled.txt", "val.txt"],
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_faults_of_the_data(name: str, folder: Folder, refused: Callable[..., str], tmp_path: Path) -> None:
    spoil, parts = DATA[name]
    spoil(folder)
    before = state(tmp_path)
    line = refused("train", folder.config, "--output", tmp_path / "run")
    for part in parts:
        assert part in line
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert state(tmp_path) == before


def pseudo_labels(folder: Folder, *lines: str) -> None:
    """A list beside the others, and labels in which nothing was selected."""
    for index in (3, 6, 7, 8):
        save(folder.root / f"pseudo{index}.png", np.full((40, 48), 255, np.uint8))
    rewrite(folder.root / "pseudo.txt", "images/7.png pseudo7.png", *lines)


PSEUDO_LABELED: dict[str, tuple[Spoil, list[str]]] = {
    "missing label": (lambda f: pseudo_labels(f, "images/6.png pseudo9.png"), ["line 2", "pseudo9.png", "no such"]),
    "no label": (lambda f: pseudo_labels(f, "images/6.png"), ["line 2", "`image label` is expected"]),
    "size": (
        lambda f: pseudo_labels(f, "images/6.png pseudo6.png") or save(f.root / "pseudo6.png", np.ones((4, 4), bool)),
        ["line 2", "pseudo6.png", "4x4", "48x40"],
    ),
    "ids": (
        lambda f: (
            pseudo_labels(f, "images/6.png pseudo6.png") or save(f.root / "pseudo6.png", np.full((40, 48), 3, np.uint8))
        ),
        ["line 2", "pseudo6.png", "outside the 3 classes", "3"],
    ),
    "leak": (
        lambda f: pseudo_labels(f, "images/8.png pseudo8.png"),
        ["images/8.png is pseudo-labeled training data and also scored", "val.txt line 1", "data.pseudo_labeled"],
    ),
    "labeled": (
        lambda f: pseudo_labels(f, "images/3.png pseudo3.png"),
        ["images/3.png has a label already", "labeled.txt line 4", "remove it from data.pseudo_labeled"],
    ),
    "folder": (lambda f: (f.root / "pseudo.txt").mkdir(), ["pseudo.txt is a folder", "list file"]),
    "nothing": (lambda f: None, ["data.pseudo_labeled", "pseudo.txt: no such list"]),
}


@pytest.mark.parametrize("name", PSEUDO_LABELED)
def test_faults_of_pseudo_labels(name: str, folder: Folder, refused: Callable[..., str], tmp_path: Path) -> None:
    spoil, parts = PSEUDO_LABELED[name]
    spoil(folder)
    line = refused("train", folder.config, "data.pseudo_labeled=pseudo.txt", "--output", tmp_path / "run")
    for part in parts:
        assert part in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("image", "name"), [("images/2.png", "labeled"), ("images/9.png", "val")])
def test_a_recipe_that_would_label_what_has_a_label_is_refused_at_once(
    image: str, name: str, folder: Folder, refused: Callable[..., str], tmp_path: Path
) -> None:
    rewrite(folder.root / "unlabeled.txt", "images/6.png", image)
    line = refused("train", folder.config, "method=dars", "--output", tmp_path / "run")
    assert f"unlabeled.txt line 2: {image} is also in data.{name}, at " in line
    assert f"remove it from data.unlabeled or data.{name}" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("method=fixmtch", "method: 'fixmtch' is no method (did you mean fixmatch?)"),
        ("method=mine.py:Mine", "method: mine.py is no file"),
        ("method.treshold=0.9", "method.treshold is no argument of FixMatch (did you mean threshold?)"),
        ("method.threshold=1.5", "method.threshold must be a number from 0 to 1, not 1.5"),
        ("method.threshold=high", "method.threshold must be a number from 0 to 1, not 'high'"),
        ("method.mixer=cutmx", "method.mixer: 'cutmx' is no mixer (did you mean cutmix?)"),
        ("method.supervised_loss=focl", "did you mean focal?"),
        (
            "method={name: ael, components: [adaptive_copy_paste]}",
            "method.components.0: AdaptiveCopyPaste does not go with ael: it has one already",
        ),
        (
            "method={name: supervised, components: [threshold]}",
            "method.components.0: Threshold does not go with supervised: it learns from labeled images alone",
        ),
        (
            "method={name: cutmix_seg, components: [threshold, threshold]}",
            "method.components.1: Threshold is there twice; take one of them out",
        ),
        ("method=usrn_joint", "method: there are no subclasses; set data.subclasses"),
        ("method={name: ael, paste_excluded: [rode]}", "excluded: there is no class 'rode'; there are"),
        ("method={name: ael, parts: [DR, ACME]}", "method.parts"),
        ("method={name: ael, momentum: 1}", "momentum: a bank with momentum 1 never learns anything"),
        ("method={name: ael, paste_scale: [1.5, 2]}", "half of the draws lie below 1 and half above"),
        (
            "method={name: fixmatch, components: [{name: equalization_sampling, bank: threshold}]}",
            "bank: a Threshold keeps no confidences; choose confidence_bank",
        ),
        ("train.stpes=5", "train.stpes is no key (did you mean train.steps?)"),
        ("train.steps=many", "train.steps must be a whole number of at least 1, not 'many'"),
        ("train.steps=0", "train.steps must be a whole number of at least 1, not 0"),
        ("data.flip=-0.5", "data.flip must be a number from 0 to 1, not -0.5"),
        ("data.crop=[32, 32", "the value of data.crop line 1"),
        ("data.dataset=foldr", "did you mean folder?"),
        ("data.labeled=1/0", "data.labeled"),
        ("data.labeled=nowhere.txt", "nowhere.txt"),
        ("network.encoder=resnet81", "did you mean resnet18"),
        ("network.architecture=unett", "did you mean unet"),
        ("network.weights=nowhere.pt", "nowhere.pt"),
        ("train.labeled_batch=3 train.micro_batches=2", "train.labeled_batch"),
        (
            "data.pseudo_labeled=any train.pseudo_labeled_batch=3 train.micro_batches=2 train.unlabeled_batch=4",
            "train.pseudo_labeled_batch: 3 does not divide",
        ),
        ("train.labeled_batch=1 network.architecture=deeplabv3plus", "set network.norm to group or frozen"),
        ("evaluate.mode=slidign", "evaluate.mode must be whole or sliding, not 'slidign' (did you mean sliding?)"),
    ],
)
def test_faults_of_the_command(
    override: str, expected: str, folder: Folder, refused: Callable[..., str], tmp_path: Path
) -> None:
    overrides = [override] if "[" in override or "{" in override else override.split()
    before = state(tmp_path)
    assert expected in refused("train", folder.config, *overrides, "--output", tmp_path / "run")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert state(tmp_path) == before


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("[1, -1, 1]", "method.supervised_loss.weights must be a list (a number of at least 0 each) or null"),
        ("[1, .nan, 1]", "method.supervised_loss.weights must be a list (a number of at least 0 each) or null"),
        ("[1, .inf, 1]", "method.supervised_loss.weights must be a list (a number of at least 0 each) or null"),
        ("[0, 0, 0]", "method.supervised_loss: weights must be finite and at least 0, and one of them above 0"),
        ("[1, 1.0e+39, 1]", "method.supervised_loss: weights must be finite"),  # infinite in float32
        ("[1, 1]", "method.supervised_loss: 2 weights for 3 classes"),
        ("[]", "method.supervised_loss: 0 weights for 3 classes"),
    ],
)
def test_faults_of_class_weights(
    weights: str, expected: str, folder: Folder, refused: Callable[..., str], tmp_path: Path
) -> None:
    given = f"method.supervised_loss={{name: class_weighted, weights: {weights}}}"
    before = state(tmp_path)
    assert expected in refused("train", folder.config, given, "--output", tmp_path / "run")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert state(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument 'CONFIG'"),
        (["train", "synthetc"], "synthetc is neither a file nor a packaged configuration"),
        (["train", "a.yaml", "--ouput", "x"], "No such option: --ouput"),
        (["evaluate", "nowhere"], "nowhere: is no run folder"),
        (["evaluate", "nowhere", "train.steps=3"], "train.steps belongs to the trained run"),
        (["evaluate", "nowhere", "evalute.flip=1"], "evalute is no key (did you mean evaluate"),
        (["predict", "nowhere", "a.png", "data.crop=[8,8]", "-o", "out"], "data.crop belongs to the trained run"),
        (["evaluate", "nowhere", "--split", "tset"], "'tset' is not one of 'val', 'test'"),
        (["predict", "nowhere", "a.png", "--output", "out"], "nowhere: is no run folder"),
        (["predict", "nowhere", "a.png"], "Missing option '--output'"),
        (["predict", "nowhere", "evaluate.flip=true", "--output", "out"], "no images to predict"),
        (["list", "encoder"], "did you mean encoders?"),
        (["list", "methods", "nothing"], "no methods match 'nothing'"),
        (["describe", "fixmtch"], "did you mean fixmatch?"),
        (["describe", "mine.py:Mine"], "mine.py is no file"),
        (["benchmark", "nowhere.yaml"], "nowhere.yaml: cannot be read (No such file or directory); give a plan file"),
        (["compare", "runs/a", "runs/b"], "runs/a: is no run folder"),
        (["export", "nowhere", "--format", "onnx", "--output", "x"], "nowhere: is no run folder"),
        (["train", "synthetic", "foo=1", "--output", "x"], "foo is no key; there are method, network, data, optim"),
    ],
)
def test_faults_of_usage(
    arguments: list[str], expected: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in refused(*arguments)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # libraries make one where they are imported first
    assert not list(tmp_path.iterdir())


def test_the_file_of_a_broken_config_is_named_with_the_line(folder: Folder, refused: Callable[..., str]) -> None:
    folder.config.write_text("train: [1,\nseed: }\n")
    assert refused("train", folder.config).startswith(f"{folder.config} line 2: ")


def test_the_line_of_an_error_in_a_users_method_is_named(
    folder: Folder, refused: Callable[..., str], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("import math\n\nprint(math.tau_)\n")
    line = refused("train", folder.config, f"method={mine}:Mine", "--output", tmp_path / "run")
    assert line.startswith(f"method: {mine} line 3: AttributeError: ")


def test_a_class_that_is_never_labeled_is_named_and_the_run_goes_on(folder: Folder, cli: Cli, tmp_path: Path) -> None:
    for index in range(6):
        label = np.array(Image.open(folder.label(index)))
        save(folder.label(index), np.minimum(label, 1))
    outcome = cli("train", folder.config, "--output", tmp_path / "run")
    assert outcome.code == 0, outcome
    warnings = [line for line in outcome.out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "sign" in warnings[0]
    assert outcome.err == ""


@pytest.mark.parametrize("place", ["file", "file/run", "/proc/evenseg/run"])
def test_a_run_folder_that_cannot_be_written(
    place: str, folder: Folder, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    output = tmp_path / place
    line = refused("train", folder.config, "--output", output)
    assert str(output) in line
    assert "choose another --output" in line
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_folder_without_permission(folder: Folder, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert str(tmp_path / "locked/run") in refused("train", folder.config, "--output", tmp_path / "locked/run")


def test_a_folder_with_other_files_is_left_alone(folder: Folder, refused: Callable[..., str]) -> None:
    before = state(folder.root)
    assert "holds files but no run" in refused("train", folder.config, "--output", folder.root)
    assert state(folder.root) == before


class TestRun:
    """Faults around a run that exists already."""

    @pytest.fixture
    def run(self, folder: Folder, cli: Cli, tmp_path: Path) -> Path:
        outcome = cli("train", folder.config, "--output", tmp_path / "run")
        assert outcome.code == 0, outcome
        return tmp_path / "run"

    def test_faults_leave_it_as_it_was(self, run: Path, folder: Folder, refused: Callable[..., str]) -> None:
        before = state(run)
        again = ("train", folder.config, "--output", run)
        assert "optim.lr: 0.01 there, 0.5 here" in refused(*again, "optim.lr=0.5")
        line = refused("evaluate", run, "--network", "teacher")
        assert "this run has no teacher" in line
        taken = run / "result.json"
        assert f"{taken} exists; add --overwrite" in refused("evaluate", run, "--output", taken)
        assert "is a folder" in refused("evaluate", run, "--output", run)
        assert "is a file" in refused("evaluate", run, "--output", taken / "scores.json")
        assert "test" in refused("evaluate", run, "--split", "test")
        assert "evaluate.flp is no key (did you mean evaluate.flip?)" in refused("evaluate", run, "evaluate.flp=1")
        assert "nowhere" in refused("evaluate", run, f"data.root={run / 'nowhere'}")
        assert "no such file" in refused("predict", run, "nowhere.png", "--output", run / "out")
        assert "exists" in refused("predict", run, folder.image(0), "--output", taken)
        assert state(run) == before

    def test_a_checkpoint_cut_in_half(self, run: Path, folder: Folder, refused: Callable[..., str]) -> None:
        last = run / "checkpoints" / "last.ckpt"
        last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
        before = state(run)
        for command in (
            ("train", folder.config, "--output", run),
            ("evaluate", run),
            ("predict", run, folder.image(0), "--output", run.parent / "out"),
        ):
            line = refused(*command)
            assert str(last) in line
            assert "damaged" in line
        assert state(run) == before

    def test_a_list_that_changed(self, run: Path, folder: Folder, refused: Callable[..., str]) -> None:
        rewrite(folder.root / "unlabeled.txt", "images/6.png")
        before = state(run)
        assert "unlabeled list has changed" in refused("train", folder.config, "--output", run)
        assert state(run) == before


def test_a_full_disk_loses_no_checkpoint(
    folder: Folder, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    from evenseg.training import checkpoint

    run = tmp_path / "run"
    last = run / "checkpoints" / "last.ckpt"
    save_checkpoint = checkpoint.save
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_after_the_first(path: Path, content: dict[str, object]) -> None:
        save_checkpoint(path, content)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # no file may grow beyond this

    monkeypatch.setattr(checkpoint, "save", fill_after_the_first)
    command = (
        "train",
        folder.config,
        "train.steps=3",
        "train.checkpoint_every=1",
        "train.validate_every=3",
        "--output",
        run,
    )
    try:
        outcome = cli(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert outcome.code == 2, outcome
    line = plain_line(outcome.err)
    assert str(last) in line
    assert "File too large" in line
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]
    assert checkpoint.load(last)["progress"]["step"] == 1

    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    outcome = cli(*command)
    assert outcome.code == 0, outcome
    assert "resuming from step 1" in outcome.out
