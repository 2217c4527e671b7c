"""The verbs, and the one place where errors become exit codes and lines."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from evenseg import __version__
from evenseg.cli.benchmark import benchmark
from evenseg.cli.catalog import describe, list_names
from evenseg.cli.cluster import cluster
from evenseg.cli.compare import compare
from evenseg.cli.data import data
from evenseg.cli.evaluate import evaluate
from evenseg.cli.export import export
from evenseg.cli.predict import predict
from evenseg.cli.pseudo_label import pseudo_label
from evenseg.cli.quiet import silence_libraries
from evenseg.cli.report import report
from evenseg.cli.train import train
from evenseg.errors import InputError

USAGE, INTERRUPTED = 2, 130

app = typer.Typer(
    name="evenseg",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("train", short_help="Train a model into a run folder, or resume it.")(train)
app.command("evaluate", short_help="Score a run, per class and on average.")(evaluate)
app.command("predict", short_help="Label images and videos with a trained run.")(predict)
app.command("pseudo-label", short_help="Class-balanced pseudo-labels of any number of images.")(pseudo_label)
app.command("cluster", short_help="Divide the labeled classes into subclasses of equal size.")(cluster)
app.command("export", short_help="Take a trained network away: ONNX, torch.export, safetensors.")(export)
app.command("benchmark", short_help="Train a plan of runs and tabulate them.")(benchmark)
app.command("compare", short_help="Two runs side by side, with intervals.")(compare)
app.command("report", short_help="One page about runs: scores, curves, pictures.")(report)
app.add_typer(data, name="data", short_help="Published splits of data sets: list, describe, get.")
app.command("list", short_help="Methods, losses, encoders, configs ... by name.")(list_names)
app.command("describe", short_help="What a method or a part of one takes.")(describe)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"evenseg {__version__}")
        raise typer.Exit


@app.callback()
def _evenseg(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Semantic segmentation from few labeled and many unlabeled images, rare classes included.

    \b
    evenseg train synthetic --output runs/first
    evenseg evaluate runs/first
    evenseg predict runs/first street.jpg --output predictions
    """


def main(arguments: list[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: what follows the program's name; default: those of the process. None at all
            shows the help.

    Returns:
        The exit code: 0, or 2 after one plain line on standard error that names file, fault and
        remedy, or 130 after Ctrl-C, or what the verb returns.
    """
    silence_libraries()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(arguments or ["--help"], prog_name="evenseg", standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        return _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # `evenseg list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or closing it complains again
        return 1
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:
        return _fail(_known(error))
    return int(code or 0)


def _known(error: Exception) -> str:
    """The line for errors of the command-line library and of a full GPU; others are bugs and go on."""
    message = getattr(error, "format_message", None)
    if message is not None:  # click's errors; typer ships click under changing names
        context = getattr(error, "ctx", None)
        text = message().replace("Value error, ", "").rstrip(".")
        return f"{text}; see `{context.command_path if context else 'evenseg'} --help`"
    if type(error).__name__ == "OutOfMemoryError":
        return "out of GPU memory; lower the batch or the crop, raise train.micro_batches, or set evaluate.mode=sliding"
    raise error


def _fail(line: str) -> int:
    print(f"evenseg: error: {' '.join(line.split())}", file=sys.stderr)
    return USAGE
