"""The kinds of stages: what each depends on, how it is made, and what others go on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch

from evenseg.config import NEUTRAL_KEYS, Config, dump, load_config, override_config
from evenseg.config.faults import flat
from evenseg.data.dataset import DataSplits
from evenseg.data.leaks import refuse_as_pseudo_labeled
from evenseg.data.subclasses import SIDECAR
from evenseg.functional.distributed import gather_over_ranks
from evenseg.stages.cluster.run import Options as ClusterOptions
from evenseg.stages.cluster.run import cluster_run
from evenseg.stages.pseudo_label.run import Options, pseudo_label_run
from evenseg.training.build import build_method
from evenseg.training.checkpoint import write_text
from evenseg.training.display import check_progress
from evenseg.training.folder import facts_of
from evenseg.training.run import train

Start = Literal["continued", "restart"]


class Stage(Protocol):
    """A part of a run with a folder of its own, ``RUN/stages/NAME``."""

    @property
    def name(self) -> str:
        """Of the folder."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Stages that it needs."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What its outcome depends on besides its inputs, by dotted key."""
        ...

    @property
    def artifact(self) -> str:
        """The file in its folder that others go on from, there once it is finished."""
        ...

    def refuse(self, splits: DataSplits) -> None:
        """Raises InputError where it could not be made of the data of the run, before any stage is."""
        ...

    def make(self, stages: Path, *, first: bool) -> int:
        """Makes it, or goes on, in ``stages``, where its inputs are; ``first``: in the process that tells of it.

        Returns:
            As ``training.run.train``.
        """
        ...


class TrainStage(NamedTuple):
    """A run of its own. after: the stage whose run it starts from. labels: the stage that makes its pseudo-labels.
    subclasses: the one that makes its subclass maps.

    start: with the state of the run ``after``, whose steps count towards ``train.steps``, or with its network alone.
    """

    name: str
    config: Config
    after: str | None = None
    labels: str | None = None
    start: Start = "continued"
    subclasses: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """See ``Stage``."""
        return tuple(each for each in (self.after, self.labels, self.subclasses) if each is not None)

    @property
    def settings(self) -> dict[str, Any]:
        """See ``Stage``."""
        values = flat(self.config.model_dump(mode="json"))
        return {key: value for key, value in values.items() if key not in NEUTRAL_KEYS} | {"start": self.start}

    @property
    def artifact(self) -> str:
        """See ``Stage``."""
        return "checkpoints/last.ckpt"

    def refuse(self, splits: DataSplits) -> None:
        """See ``Stage``."""
        facts = facts_of(splits).data(self.config)
        if self.subclasses is not None:  # how many there will be is not known yet
            facts = facts._replace(subclass_counts=torch.ones(len(facts.class_names), dtype=torch.int64))
        build_method(self.config, facts, weights=None)

    def make(self, stages: Path, *, first: bool) -> int:
        """See ``Stage``."""
        made: dict[str, str] = {}
        if self.labels is not None:
            made["pseudo_labeled"] = str((stages / self.labels / LABEL_LIST).resolve())
        if self.subclasses is not None:
            made["subclasses"] = str((stages / self.subclasses).resolve())
        folder, config = stages / self.name, _with_made(self.config, made)
        if first:
            _follow_move(folder, made)
        gather_over_ranks(None)  # none reads it before
        if self.after is None:
            return train(config, folder)
        earlier = stages / self.after / self.artifact
        if self.start == "continued":
            return train(config, folder, continued=earlier)
        return train(config, folder, initial=earlier)


def _with_made(config: Config, made: dict[str, str]) -> Config:
    """With the paths of what earlier stages have made."""
    return config.model_copy(update={"data": config.data.model_copy(update=made)}) if made else config


def _follow_move(folder: Path, made: dict[str, str]) -> None:
    """Where a stage began before the run was moved, its configuration names the former place of what it is made of."""
    path = folder / "config.yaml"
    if not path.is_file():
        return
    stored = load_config(str(path), [])
    moved = {key: place for key, place in made.items() if getattr(stored.data, key) not in (None, place)}
    if moved:  # what it is made of has not changed: the ledger has seen to that
        write_text(path, dump(_with_made(stored, moved)))


LABEL_LIST = "labels/list.txt"


class LabelStage(NamedTuple):
    """Pseudo-labels of the unlabeled images by the last network of a round. overrides: ``key=value`` for its run."""

    name: str
    run: str
    options: Options
    overrides: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """See ``Stage``."""
        return (self.run,)

    @property
    def settings(self) -> dict[str, Any]:
        """See ``Stage``."""
        options = {**self.options.rule._asdict(), **self.options._asdict(), "rule": self.options.rule.name}
        overrides = dict(override.split("=", 1) for override in self.overrides)
        return {key: value for key, value in (options | overrides).items() if key not in ("truth", "name", "portable")}

    @property
    def artifact(self) -> str:
        """See ``Stage``."""
        return LABEL_LIST

    def refuse(self, splits: DataSplits) -> None:
        """See ``Stage``."""
        refuse_as_pseudo_labeled(splits)

    def make(self, stages: Path, *, first: bool) -> int:
        """See ``Stage``."""
        selected = pseudo_label_run(
            stages / self.run,
            stages / self.name,
            options=self.options,
            configure=lambda config: override_config(config, list(self.overrides)),
            progress=_progress(first),
        )
        if first:
            folder = selected.list_file.parent
            print(f"{stages / self.name}: {_kept(selected.report)}; more in {folder}/report.md", flush=True)
        return 0


class ClusterStage(NamedTuple):
    """Subclass maps of the labeled images by the last network of a run. overrides: ``key=value`` for this run."""

    name: str
    run: str
    options: ClusterOptions
    overrides: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """See ``Stage``."""
        return (self.run,)

    @property
    def settings(self) -> dict[str, Any]:
        """See ``Stage``."""
        return {**self.options._asdict(), **dict(override.split("=", 1) for override in self.overrides)}

    @property
    def artifact(self) -> str:
        """See ``Stage``."""
        return SIDECAR

    def refuse(self, splits: DataSplits) -> None:
        """See ``Stage``."""

    def make(self, stages: Path, *, first: bool) -> int:
        """See ``Stage``."""
        clustered = cluster_run(
            stages / self.run,
            stages / self.name,
            options=self.options,
            configure=lambda config: override_config(config, list(self.overrides)),
            progress=_progress(first),
        )
        if first:
            print(f"{stages / self.name}: {_divided(clustered.report)}; more in report.md there", flush=True)
        return 0


def _progress(first: bool) -> Callable[[str, int, int], None] | None:
    show = check_progress(first)
    return None if show is None else lambda what, done, total: show(done, total, what)


def _kept(report: dict[str, Any]) -> str:
    far = "infinite" if report["kl"] is None else f"{report['kl']:.4f}"
    lost = f", no pixel of {', '.join(report['missing'])}" if report["missing"] else ""
    share = report["coverage"] or 0.0
    return f"{share:.1%} of {report['pixels']:,} pixels labeled, KL divergence to the labels {far} nats{lost}"


def _divided(report: dict[str, Any]) -> str:
    classes, subclasses = report["of_classes"], report["of_subclasses"]
    return (
        f"{classes['number']} classes, class balance rate {classes['balance_rate'] or 0:.1%}, divided into "
        f"{subclasses['number']} subclasses, {subclasses['balance_rate'] or 0:.1%}"
    )
