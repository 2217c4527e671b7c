"""``evenseg pseudo-label``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evenseg.cli.evaluate import CheckpointOption, Network, NetworkOption, refuse_other_keys
from evenseg.config import override_config
from evenseg.errors import InputError
from evenseg.schema import nearest

if TYPE_CHECKING:
    from evenseg.stages.pseudo_label.label import Selected
    from evenseg.stages.pseudo_label.run import Options

# Literals and not imports: the command line is checked before torch is loaded.
RuleName = Literal["dars", "da", "cbst", "st", "crest"]


def pseudo_label(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run folder made by `evenseg train`.", show_default=False)
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="evaluate.* keys, and where data lie.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for everything.")] = Path(),
    images: Annotated[
        list[str] | None,
        typer.Option("--images", metavar="INPUT", help="Image, folder or glob; default: the run's unlabeled images."),
    ] = None,
    probabilities: Annotated[
        list[str] | None,
        typer.Option("--probabilities", metavar="INPUT", help="npz files with key prob (C, H, W), in place of RUN."),
    ] = None,
    classes: Annotated[Path | None, typer.Option("--classes", metavar="FILE.json", help="Their classes.json.")] = None,
    rule: Annotated[RuleName, typer.Option("--rule", help="Which predictions become labels.")] = "dars",
    ratio: Annotated[float, typer.Option("--ratio", min=0, max=1, help="Share of all pixels to label.")] = 0.2,
    confidence: Annotated[
        float | None, typer.Option("--confidence", min=0, max=1, help="st: a fixed threshold in place of --ratio.")
    ] = None,
    distribution: Annotated[
        str, typer.Option("--distribution", help="labeled, estimated (for these images), or name=share,name=share.")
    ] = "labeled",
    deficit: Annotated[
        Literal["keep_all", "shrink", "refill"],
        typer.Option("--deficit", help="da, dars: where a class is predicted too rarely."),
    ] = "keep_all",
    scope: Annotated[
        Literal["survivors", "ties"], typer.Option("--scope", help="dars: draw from all above the threshold, or ties.")
    ] = "survivors",
    sampling: Annotated[
        Literal["exact", "bernoulli"], typer.Option("--sampling", help="dars: exactly the quota, or on average.")
    ] = "exact",
    rounding: Annotated[
        Literal["largest_remainder", "floor"], typer.Option("--rounding", help="da, dars: of the quotas.")
    ] = "largest_remainder",
    calibration: Annotated[
        Literal["none", "temperature", "matrix", "histogram_binning"],
        typer.Option("--calibration", help="Fitted to held-out labeled images."),
    ] = "none",
    average: Annotated[
        Literal["logits", "prob"], typer.Option("--average", help="What windows, scales and flips are averaged as.")
    ] = "logits",
    alignment: Annotated[
        float | None,
        typer.Option("--alignment", min=0, max=1, help="CReST+: shift predictions to the shares, to this power."),
    ] = None,
    regularized: Annotated[
        bool, typer.Option("--regularized", help="Labels in which USRN's branch has had its say, of a RUN with one.")
    ] = False,
    truth: Annotated[
        Path | None, typer.Option("--truth", metavar="DIR", help="Label maps NAME.png to judge the result by.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Folder of the labels; default RULE-RATIO.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn.")] = 0,
    checkpoint: CheckpointOption = "last",
    network: NetworkOption = None,
) -> int:
    """Class-balanced pseudo-labels of any number of images, for this or any other trainer.

    \b
    evenseg pseudo-label runs/first --output pseudo
    evenseg pseudo-label runs/first --images photos/ --output pseudo --rule cbst --ratio 0.5
    evenseg pseudo-label runs/first --images photos/ --output pseudo evaluate.mode=sliding evaluate.flip=true
    evenseg pseudo-label --probabilities probs/ --classes classes.json --output pseudo
    torchrun --nproc-per-node 4 -m evenseg pseudo-label runs/first --images photos/ --output pseudo

    Writes DIR/RULE-RATIO/labels/NAME.png (what is not selected has the ignore value), list.txt and a report. The
    predictions are kept in DIR/predictions: the same command with another rule or ratio takes no network any more.
    Killed, the same command goes on. Exit code 1 if some images could not be read.
    """
    from evenseg.stages.pseudo_label.rules import Rule
    from evenseg.stages.pseudo_label.run import Options

    chosen = Rule(rule, ratio, confidence, rounding, deficit, scope, sampling)
    options = Options(chosen, seed, name, average, calibration, _distribution(distribution), alignment, truth)
    options = options._replace(regularized=regularized)
    selected = _label(run, overrides or [], output, images, probabilities, classes, options, checkpoint, network)
    for fault in selected.faults:
        print(f"evenseg: error: no labels: {fault}", file=sys.stderr)
    return 1 if selected.faults else 0


def _label(
    run: Path | None,
    overrides: list[str],
    output: Path,
    images: list[str] | None,
    probabilities: list[str] | None,
    classes: Path | None,
    options: Options,
    checkpoint: Literal["last", "best"],
    network: Network | None,
) -> Selected:
    if output == Path():
        raise InputError("--output is missing; name the folder for the labels and predictions")
    if options.rule.confidence is not None and options.rule.name != "st":
        raise InputError(f"--confidence belongs to --rule st, not to {options.rule.name}; give --ratio")
    if probabilities:
        if run is not None or images:
            raise InputError("--probabilities takes the place of RUN and --images; give either")
        if classes is None:
            raise InputError("--classes is missing: which classes the probabilities are of; name a classes.json")
    elif run is None:
        raise InputError("RUN is missing; name a run folder, or --probabilities with --classes")
    elif classes is not None:
        raise InputError("--classes belongs to --probabilities; a RUN knows its classes")
    refuse_other_keys(overrides)
    from evenseg.cli.progress import titled_progress_bar
    from evenseg.stages.pseudo_label.probabilities import pseudo_label_files
    from evenseg.stages.pseudo_label.run import pseudo_label_run

    with titled_progress_bar() as progress:
        if run is None:
            assert classes is not None
            selected = pseudo_label_files(probabilities or [], classes, output, options=options, progress=progress)
        else:
            selected = pseudo_label_run(
                run,
                output,
                inputs=images,
                options=options,
                which=checkpoint,
                network=network,
                configure=lambda config: override_config(config, overrides),
                progress=progress,
            )
    print((selected.list_file.parent / "report.md").read_text(encoding="utf-8").rstrip())
    print(f"{selected.list_file}: images and labels, as data.pseudo_labeled takes them")
    return selected


def _distribution(text: str) -> Literal["labeled", "estimated"] | dict[str, float]:
    """``labeled``, ``estimated``, or shares by name. Raises InputError."""
    if text == "labeled" or text == "estimated":
        return text  # type: ignore[return-value]  # as compared
    shares = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        try:
            shares[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            hint = nearest(text, ("labeled", "estimated"))
            raise InputError(
                f"--distribution: {part!r} is no name=share{hint}; give labeled, estimated or road=3,car=1"
            )
    return shares
