"""Reading and writing videos."""

from pathlib import Path

import numpy as np
import pytest

from evenseg.data.video_io import VideoReader, VideoWriter
from evenseg.errors import InputError


def write(path: Path, colors: list[tuple[int, int, int]]) -> Path:
    """A video of plain frames."""
    writer = VideoWriter(path, 12.5, 32, 48)
    for color in colors:
        writer.write(np.full((32, 48, 3), color, np.uint8))
    writer.close()
    return path


def test_frames_come_back_in_order_and_in_colour(tmp_path: Path) -> None:
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (120, 120, 120)]
    reader = VideoReader(write(tmp_path / "x.mp4", colors))
    assert (reader.announced, reader.rate) == (4, 12.5)
    for color in colors:
        frame = reader.read()
        assert frame is not None
        assert frame.shape == (32, 48, 3)
        assert np.abs(frame.astype(int) - color).max() < 20  # lossy
    assert reader.read() is None
    assert reader.read() is None
    reader.close()


@pytest.mark.parametrize("kept", [0, 200])
def test_what_is_no_video_is_named(kept: int, tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", [(0, 0, 0), (90, 90, 90)])
    path.write_bytes(path.read_bytes()[:kept])  # the index of the file is at its end
    with pytest.raises(InputError, match=r"x\.mp4: cannot be read as a video"):
        VideoReader(path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: no mp4 video can be written"):
        VideoWriter(tmp_path / "file" / "x.mp4", 25, 32, 48)
