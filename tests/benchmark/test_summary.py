"""Rows, differences and their tables, from results made by hand."""

import csv
import io
from statistics import fmean, stdev

import pytest

from evenseg.benchmark import tables
from evenseg.benchmark.difference import Units, differences
from evenseg.benchmark.summary import Line, summarize_plan

from .results import NAMES, finished

FOLDS = (0, 1, 2)


def lines(*, folds: tuple[int, ...] = FOLDS, units: Units = Units(), **changes: object) -> list[Line]:  # noqa: B008
    base = [finished("base", fold, accuracy=0.5) for fold in folds]
    better = [finished("better", fold, accuracy=0.55 + 0.01 * fold, **changes) for fold in folds]
    return summarize_plan([*base, *better], ["base", "better"], ["1/8"], "base", 3, units)


def test_mean_and_spread_over_folds() -> None:
    base, better = lines()
    runs = [finished("better", fold, accuracy=0.55 + 0.01 * fold).result for fold in FOLDS]
    for name in ("miou", "tail_miou", "head_miou"):
        values = [run[name] for run in runs]
        assert better.figures[name] == pytest.approx((fmean(values), stdev(values)))
    assert better.per_class["car"].mean == pytest.approx(fmean(run["per_class_iou"]["car"] for run in runs))
    assert (base.runs, base.expected, base.versus) == (3, 3, [])
    assert tables.main_table([base])[1][0][-2:] == ["1.500 ± 1.000", "1.00 ± 0.00"]


def test_differences_are_paired_by_fold() -> None:
    _, better = lines()
    by_figure = {difference.figure: difference for difference in better.versus}
    pairs = [
        finished("better", fold, accuracy=0.55 + 0.01 * fold).result["miou"]
        - finished("base", fold, accuracy=0.5).result["miou"]
        for fold in FOLDS
    ]
    miou = by_figure["miou"]
    assert miou.mean == pytest.approx(fmean(pairs))
    assert miou.over_folds is not None
    assert miou.over_images is not None
    assert miou.over_images.value == pytest.approx(miou.mean)
    assert miou.over_images.distinct


def test_two_folds_have_no_interval_over_folds() -> None:
    _, better = lines(folds=(0, 1))
    assert all(difference.over_folds is None for difference in better.versus)
    assert all(difference.over_images is not None for difference in better.versus)
    assert tables.main_table([better])[1][0][2] == "2 of 3"


def test_rows_that_are_unlike_are_not_compared() -> None:
    _, better = lines(protocol="sliding")
    assert better.versus == []
    assert better.why_not == "not comparable: protocol: sliding and whole"


def test_sequences_and_blocks_are_units() -> None:
    ours, theirs = [finished("a", 0, accuracy=0.6)], [finished("b", 0, accuracy=0.5)]
    names = theirs[0].images.names if theirs[0].images else ()
    assert Units().of(names) is None
    assert len(set(Units(r"(seq\d+)_").of(names) or [])) == 10
    assert len(set(Units(r"(seq\d+)_", 2).of(names) or [])) == 20
    assert len(set(Units(None, 8).of(names) or [])) == 5
    assert Units("(x)").of(("y1", "y2")) == [("y1", 0), ("y2", 0)]
    few = differences(ours, theirs, Units(None, 8))
    assert all(difference.over_images is None for difference in few)


def test_images_in_another_order_are_not_paired() -> None:
    ours, theirs = finished("a", 0, accuracy=0.6), finished("b", 0, accuracy=0.5)
    assert ours.images is not None
    turned = ours._replace(images=ours.images._replace(names=ours.images.names[::-1]))
    assert all(difference.over_images is None for difference in differences([turned], [theirs], Units()))


def test_the_three_formats_hold_the_same_figures() -> None:
    table = tables.class_table(lines())
    rows = list(csv.reader(io.StringIO(tables.comma_separated(table))))
    assert rows[0] == ["row", "split", *NAMES]
    assert rows[1:] == table[1]
    assert tables.markdown(table).splitlines()[3].startswith("| better | 1/8 | ")
    assert "better & 1/8 & " in tables.latex(table)
    assert "±" not in tables.latex(table)
    assert "\na\\_b \\\\\n\\midrule\n50 \\% \\\\\n" in tables.latex((["a_b"], [["50 %"]]))


def test_a_row_without_runs_is_left_out() -> None:
    assert summarize_plan([], ["base"], ["1/8"], "base", 3, Units()) == []
