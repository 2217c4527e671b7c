"""Predicting videos into label maps and an overlay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evenseg.data.video_io import VideoReader, VideoWriter
from evenseg.errors import InputError
from evenseg.inference import video as video_module
from evenseg.inference.images import Failure
from evenseg.inference.inputs import Source
from evenseg.inference.job import Job
from evenseg.inference.predict import Protocol
from evenseg.inference.video import outputs_of, predict_video, refuse_existing_videos

from .helpers import CLASSES, Bright, files

HEIGHT, WIDTH = 32, 64


def frame(index: int) -> np.ndarray:
    """A bright bar that moves to the right, 4 columns a frame; black elsewhere."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, 4 * index : 4 * index + 8] = 255
    return image


def clip(path: Path, frames: int) -> Source:
    writer = VideoWriter(path, 10, HEIGHT, WIDTH)
    for index in range(frames):
        writer.write(frame(index))
    writer.close()
    return Source(path, "night/clip")


def run(
    source: Source,
    output: Path,
    *,
    model: Bright | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> tuple[int, Failure | None]:
    return predict_video(
        Job(model or Bright(), output, CLASSES, Protocol(batch=2), **options), source, progress=progress
    )


def test_every_frame_in_temporal_order(tmp_path: Path) -> None:
    source, out = clip(tmp_path / "clip.mp4", 13), tmp_path / "out"
    seen: list[tuple[int, int]] = []
    model = Bright()
    assert run(source, out, model=model, prob=True, progress=lambda *p: seen.append(p)) == (13, None)
    labels = [f"labels/night/clip/{index:06d}.png" for index in range(13)]
    probs = [f"probabilities/night/clip/{index:06d}.npz" for index in range(13)]
    assert files(out) == [*labels, "overlays/night/clip.mp4", *probs]
    assert seen == [(done, 13) for done in range(1, 14)]
    assert {shape[0] for shape in model.batches} == {1, 2}

    reader = VideoReader(out / "overlays/night/clip.mp4")
    assert (reader.announced, reader.rate) == (13, 10)
    for index, name in enumerate(labels):
        bright = frame(index)[..., 0] > 127
        with Image.open(out / name) as label:
            assert label.mode == "P"
            assert np.mean(np.array(label) == bright) > 0.98  # the codec blurs edges
        film = reader.read()
        assert film is not None
        blue = film[..., 2].astype(int) > film[..., 0].astype(int)  # white under blue, black under red
        assert np.mean(blue == bright) > 0.9


def test_labels_have_the_size_of_the_frame_when_the_network_sees_another(tmp_path: Path) -> None:
    model = Bright()
    run(clip(tmp_path / "clip.mp4", 3), tmp_path / "out", model=model, resize=(16, 32), overlay=False)
    assert {shape[2:] for shape in model.batches} == {(16, 32)}
    with Image.open(tmp_path / "out/labels/night/clip/000002.png") as label:
        assert label.size == (WIDTH, HEIGHT)


def test_few_frames_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        """Two hundred frames, counted."""

        announced, rate, given = 200, 25.0, 0

        def __init__(self, path: Path) -> None:
            Endless.given = 0

        def read(self) -> np.ndarray | None:
            Endless.given += 1
            return frame(0) if Endless.given <= 200 else None

        def close(self) -> None: ...

    monkeypatch.setattr(video_module, "VideoReader", Endless)
    ahead: list[int] = []
    run(Source(tmp_path / "x.mp4", "x"), tmp_path / "out", progress=lambda done, _: ahead.append(Endless.given - done))
    assert len(ahead) == 200
    assert max(ahead) < 20


def test_frames_of_a_longer_video_do_not_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clip(tmp_path / "a.mp4", 9), out)
    with pytest.raises(InputError, match="labels/night/clip: exists already; add --overwrite"):
        refuse_existing_videos([outputs_of(out, "night/clip", overlay=False, prob=False)])
    run(clip(tmp_path / "b.mp4", 4), out)
    assert len(files(out / "labels")) == 4
    reader = VideoReader(out / "overlays/night/clip.mp4")
    assert reader.announced == 4


def test_what_cannot_be_read_is_reported(tmp_path: Path) -> None:
    broken = tmp_path / "clip.mp4"
    broken.write_bytes(b"no video")
    frames, failure = run(Source(broken, "clip"), tmp_path / "out")
    assert frames == 0
    assert failure is not None
    assert failure.message.startswith(f"{broken}: cannot be read as a video")
    assert not (tmp_path / "out").exists()


def test_a_video_that_breaks_off_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = clip(tmp_path / "clip.mp4", 5)
    read = VideoReader.read
    left = iter(range(3))
    monkeypatch.setattr(VideoReader, "read", lambda self: read(self) if next(left, None) is not None else None)
    frames, failure = run(source, tmp_path / "out")
    assert frames == 3
    assert failure is not None
    assert "only 3 of 5 frames can be decoded" in failure.message
    assert len(files(tmp_path / "out/labels")) == 3


def test_no_half_overlay_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(clip(tmp_path / "clip.mp4", 9), tmp_path / "out", progress=fail)
    assert not list((tmp_path / "out").rglob("*.mp4"))
