"""``evenseg cluster``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evenseg.cli.evaluate import CheckpointOption, NetworkOption, refuse_other_keys
from evenseg.config import override_config
from evenseg.errors import InputError


def cluster(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder made by `evenseg train`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Where data lie, for instance data.root.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the maps.")] = Path(),
    rule: Annotated[
        Literal["smallest", "budget"],
        typer.Option("--rule", help="Subclasses as large as the smallest class, or as many as --budget."),
    ] = "smallest",
    budget: Annotated[
        int, typer.Option("--budget", min=0, help="Most subclasses of all classes together; 0: no limit.")
    ] = 254,
    rounding: Annotated[
        Literal["nearest", "ceil", "floor"], typer.Option("--rounding", help="Of the numbers of subclasses.")
    ] = "nearest",
    counts: Annotated[
        str | None,
        typer.Option(
            "--counts", help="Subclasses in place of a rule: name=K,name=K (1 for others), or K,K,... of all."
        ),
    ] = None,
    balance: Annotated[
        Literal["hard", "soft", "none"],
        typer.Option("--balance", help="Clusters of equal size, of sizes between, or plain k-means."),
    ] = "hard",
    strength: Annotated[
        float, typer.Option("--strength", min=0, max=1, help="soft: from 0, as none, to 1, nearly as hard.")
    ] = 0.5,
    features: Annotated[
        Literal["decoder", "high", "low"], typer.Option("--features", help="Of the network, which are clustered.")
    ] = "decoder",
    stride: Annotated[int, typer.Option("--stride", min=1, help="Finer features are averaged to it, in pixels.")] = 8,
    mode: Annotated[
        Literal["consistent", "nearest"],
        typer.Option("--mode", help="Every pixel a subclass of its class, or of its cell (the official code)."),
    ] = "consistent",
    samples: Annotated[int, typer.Option("--samples", min=1, help="Cells per subclass to find centers on.")] = 512,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn.")] = 0,
    checkpoint: CheckpointOption = "last",
    network: NetworkOption = None,
) -> None:
    """Divide the classes of a run's labeled images into subclasses of about equal size, by their features.

    \b
    evenseg cluster runs/first --output subclasses
    evenseg cluster runs/first --output subclasses --rule budget --budget 120
    evenseg cluster runs/first --output subclasses --counts road=42,building=26
    evenseg train my.yaml method=usrn_joint data.subclasses=subclasses
    torchrun --nproc-per-node 4 -m evenseg cluster runs/first --output subclasses

    Writes DIR/labels/NAME.png, DIR/subclasses.json that describes them, and a report. Killed, the same command goes on.
    """
    if output == Path():
        raise InputError("--output is missing; name the folder for the maps")
    refuse_other_keys(overrides or [])
    explicit = None if counts is None else _counts(counts)
    from evenseg.cli.progress import titled_progress_bar
    from evenseg.stages.cluster.run import Options, cluster_run

    options = Options(
        rule=rule,
        budget=budget or None,
        rounding=rounding,
        counts=explicit,
        balance=balance,
        strength=strength,
        features=features,
        stride=stride,
        mode=mode,
        samples=samples,
        seed=seed,
    )
    with titled_progress_bar() as progress:
        done = cluster_run(
            run,
            output,
            options=options,
            which=checkpoint,
            network=network,
            configure=lambda config: override_config(config, overrides or []),
            progress=progress,
        )
    print((done.folder / "report.md").read_text(encoding="utf-8").rstrip())
    print(f"{done.folder}: maps of subclasses, as data.subclasses takes them")


def _counts(text: str) -> list[int] | dict[str, int]:
    """``name=K,name=K`` or ``K,K,...``. Raises InputError."""
    pairs = [part.rpartition("=") for part in text.split(",")]
    named = any(equals for _, equals, _ in pairs)
    found: dict[str, int] = {}
    for number, (name, equals, value) in enumerate(pairs):
        key = name.strip() if named else str(number)
        if not value.strip().isdecimal() or (named and not equals):
            wrong = f"{name}{equals}{value}"
            raise InputError(f"--counts: {wrong!r} is no {'name=K' if named else 'whole number'}; give road=42,car=8")
        if key in found:
            raise InputError(f"--counts: {key} is there twice; give each class once")
        found[key] = int(value)
    return found if named else list(found.values())
