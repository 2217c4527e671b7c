"""The report page as text: what stands in it, and what is refused."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from evenseg.benchmark.difference import Units
from evenseg.cli import main
from evenseg.report.pictures import error_map, galleries
from evenseg.report.runs import read_runs
from evenseg.report.scores import difference_table, intervals_of


class Page(HTMLParser):
    """Tables by caption, attributes that fetch something, headings and pictures of a page."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.fetched, self.headings, self.images = {}, [], [], []
        self._row, self._text, self._caption = None, None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        for key in ("src", "href", "xlink:href", "action", "srcset"):
            if key in attrs and not attrs[key].startswith(("#", "data:")):
                self.fetched.append(attrs[key])
        if tag == "img":
            self.images.append(attrs)
        if tag == "tr":
            self._row = []
        if tag in ("td", "th", "caption", "h2"):
            self._text = ""

    def handle_data(self, data):
        if self._text is not None:
            self._text += data

    def handle_endtag(self, tag):
        if tag == "h2":
            self.headings.append(self._text)
        if tag == "caption":
            self._caption = self._text
            self.tables[self._caption] = []
        if tag in ("td", "th"):
            self._row.append(self._text.strip())
        if tag == "tr":
            self.tables[self._caption].append(self._row)
        if tag in ("td", "th", "caption", "h2"):
            self._text = None

    def table(self, caption):
        """Rows of the first table whose caption begins so, by the first cell."""
        head, *rows = next(rows for name, rows in self.tables.items() if name.startswith(caption))
        return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def page_of(folders, output, *options):
    assert main(["report", *map(str, folders), "--output", str(output), *options]) == 0
    text = output.read_text(encoding="utf-8")
    assert len(text.encode()) < 10_000_000
    return Page(text), text


def refused(capsys, *arguments):
    assert main(["report", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_two_runs_on_one_page(runs, tmp_path, capsys):
    page, text = page_of(runs.values(), tmp_path / "new" / "report.html")
    assert "2 runs" in capsys.readouterr().out
    assert page.fetched == []  # needs nothing but itself
    assert not re.search(r"@import|url\((?!#|data:)", text)
    expected = ["What was run", "Scores", "Classes", "Object size", "Training", "Pseudo-labels"]
    assert page.headings == [*expected, "What the method keeps", "Confusions", "Pictures"]
    for name, folder in runs.items():
        result = json.loads((folder / "result.json").read_text())
        headline = page.table("Headline")[name]
        assert headline["mIoU"].split()[0] == f"{100 * result['miou']:.1f}"
        assert re.fullmatch(r"[\d.]+ \([\d.]+ to [\d.]+\)", headline["mIoU"])  # twelve images have an interval
        for each, iou in result["per_class_iou"].items():
            cell = page.table("IoU of every class")[each][name]
            assert cell.split()[0] == ("-" if iou is None else f"{100 * iou:.1f}")
        facts = page.table("What was run")
        assert facts["method"][name] == name
        assert facts["steps"][name] == "8 of 8"
        assert result["split_sha256"].startswith(facts["split SHA-256"][name])
    gain = page.table("Points above supervised")["cutmix_seg"]
    scores = [json.loads((runs[name] / "result.json").read_text())["miou"] for name in ("cutmix_seg", "supervised")]
    assert gain["mIoU"].split()[0] == f"{100 * (scores[0] - scores[1]):+.1f}"
    held_out = page.table("cutmix_seg: pseudo-labels of held-out images at step 8")
    last = [json.loads(line) for line in (runs["cutmix_seg"] / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in last if record["split"] == "holdout"][-1]
    for each, cells in held_out.items():
        assert cells["pixels"] == str(last["per_class_pixels"][each])
        low = last["per_class_estimate_low"][each]
        assert cells["95 % interval"].startswith("too little" if low is None else f"{100 * low:.0f} to ")
    # two validation images at the steps 4 and 8 with their errors, for both runs; two seen ones at two steps for one
    assert len(page.images) == 2 * 2 * (2 + 2 + 2) + 2 * 2 * 2
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in page.images)


def test_intervals_hold_the_figures(runs):
    run, _ = read_runs([runs["cutmix_seg"], runs["supervised"]])
    intervals = intervals_of(run, Units())
    for key in ("miou", "tail_miou"):
        assert intervals[key].low <= run.result[key] <= intervals[key].high
        assert intervals[key].value == pytest.approx(run.result[key])
    assert intervals_of(run, Units(None, 6)) == {}  # two blocks of six images tell nothing


def test_runs_of_unlike_lists_are_not_compared(runs):
    first, second = read_runs([runs["supervised"], runs["cutmix_seg"]])
    environment = {**second.environment, "split_sha256": {**second.environment["split_sha256"], "labeled": "other"}}
    table = difference_table([first, second._replace(environment=environment)], Units())
    assert [cell.text for cell in table.rows[0]] == [
        "cutmix_seg", "-", "-", "-", "not compared: the labeled lists differ",
    ]  # fmt: skip


def test_a_run_that_is_still_training(runs, tmp_path):
    folder = tmp_path / "begun"
    shutil.copytree(runs["cutmix_seg"], folder)
    for name in ("result.json", "images.npz", "confusion.csv", "objects.json", "timing.json"):
        (folder / name).unlink()
    page, _ = page_of([folder], tmp_path / "report.html")
    assert page.headings == ["What was run", "Training", "Pseudo-labels", "What the method keeps", "Pictures"]


def test_alarms_are_shown(runs, tmp_path):
    folder = tmp_path / "alarmed"
    shutil.copytree(runs["cutmix_seg"], folder)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 8, "split": "alarm", "alarm": "nothing kept", "text": "<b>lower</b> it"}) + "\n")
    page, text = page_of([folder], tmp_path / "report.html")
    assert page.table("Alarms")["alarmed"] == {"step": "8", "what, and a remedy": "<b>lower</b> it"}
    assert "<b>" not in text


def test_what_a_method_logs_of_every_class_is_drawn(runs, tmp_path):
    folder = tmp_path / "banked"
    shutil.copytree(runs["cutmix_seg"], folder)
    names = json.loads((folder / "classes.json").read_text())["names"]
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        if record["split"] == "train":
            record["per_class_threshold"] = dict.fromkeys(names, 0.5)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    _, text = page_of([folder], tmp_path / "report.html")
    assert "banked: threshold of every class" in text


def test_pictures_keep_to_the_budget(runs):
    both = read_runs(list(runs.values()))
    everything = galleries(both, 9_000_000)
    size = sum(gallery.size for gallery in everything)
    less = galleries(both, size - 1)
    assert 0 < sum(gallery.size for gallery in less) < size
    assert galleries(both, 100) == []


def test_errors_are_those_of_known_pixels():
    rng = np.random.default_rng(0)
    predicted, truth = rng.integers(0, 3, (5, 6)), rng.integers(0, 4, (5, 6))
    truth[truth == 3] = 255
    wrong = error_map(predicted, truth, 3)
    for pixel in np.ndindex(5, 6):
        assert wrong[pixel] == (2 if truth[pixel] == 255 else int(predicted[pixel] != truth[pixel]))


def test_what_is_wrong_is_said_in_a_line(runs, tmp_path, capsys):
    run = runs["supervised"]
    page = tmp_path / "page.html"
    assert "nowhere: is no run folder" in refused(capsys, tmp_path / "nowhere", "--output", page)
    assert "is given twice" in refused(capsys, run, run, "--output", page)
    assert "let its name end in .html" in refused(capsys, run, "--output", tmp_path / "page.pdf")
    assert "is no pattern" in refused(capsys, run, "--output", page, "--sequence", "(")
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    (damaged / "objects.json").write_text("{")
    assert "objects.json: damaged; remove it" in refused(capsys, damaged, "--output", page)
    (tmp_path / "file").write_text("")
    assert "file" in refused(capsys, run, "--output", tmp_path / "file" / "page.html")
    assert not page.exists()
