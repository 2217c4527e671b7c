"""``dataset: synthetic``: long-tailed street scenes, drawn when asked for, a pure function of (seed, number)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.random import Generator, Philox

from evenseg.data.classes import Classes
from evenseg.data.synthetic_dice import Dice
from evenseg.data.synthetic_exposure import expose
from evenseg.data.synthetic_scene import draw_scene
from evenseg.functional.random import key

Scene = tuple[np.ndarray, np.ndarray]  # image, label

CACHE_BYTES = 64 << 20  # scenes that each dataset keeps in each process: 1365 of 128 x 96

# In the order of synthetic_world.Kind, which is about that of their share of the pixels.
CLASSES = Classes(
    names=(
        "road", "building", "vegetation", "sky", "sidewalk", "car",
        "fence", "pole", "pedestrian", "traffic sign", "cyclist",
    ),
    colors=(
        (128, 64, 128), (92, 92, 96), (107, 142, 35), (70, 160, 220), (230, 120, 220), (20, 40, 170),
        (190, 150, 130), (200, 200, 205), (220, 20, 60), (250, 210, 20), (255, 128, 0),
    ),
    ignore_index=None,
    tail=("pole", "pedestrian", "traffic sign", "cyclist"),
)  # fmt: skip


class SyntheticStreets:
    """Scenes ``first`` to ``first + count - 1`` of the endless street of ``seed``.

    Every scene is the same whatever was drawn before, in whichever process, and shows the same
    street at every size. Labels know every pixel; none is ignored.

    Args:
        seed: which street; different seeds have nothing in common.
        first: number of the first scene; disjoint ranges make disjoint splits.
        count: number of scenes.
        size: height and width in pixels.
    """

    classes = CLASSES

    def __init__(self, *, seed: int, first: int, count: int, size: tuple[int, int]) -> None:
        self.seed, self.first, self.count, self.size = seed, first, count, size
        self._drawn = _Drawn(size)

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> np.ndarray:
        """Image, (H, W, 3) uint8 RGB."""
        return self._scene(index)[0].copy()

    def label(self, index: int) -> np.ndarray:
        """Label map, (H, W) uint8 class ids."""
        return self._scene(index)[1].copy()

    def name(self, index: int) -> str:
        """``synthetic/`` and the number of the scene."""
        return f"synthetic/{self._number(index):05d}"

    def _number(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"index {index} of {self.count} synthetic scenes")
        return self.first + index

    def _scene(self, index: int) -> Scene:
        number = self._number(index)
        scene = self._drawn.get(number)
        if scene is None:
            scene = render(self.seed, number, *self.size)
            self._drawn.put(number, scene)
        return scene

    def __getstate__(self) -> dict[str, Any]:
        return {"seed": self.seed, "first": self.first, "count": self.count, "size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class _Drawn:
    """The latest scenes, as many as fit: a small set is drawn only once, and image and label always together."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._room = max(CACHE_BYTES // (4 * size[0] * size[1]), 1)
        self._scenes: OrderedDict[int, Scene] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int) -> Scene | None:
        with self._lock:
            if number in self._scenes:
                self._scenes.move_to_end(number)
            return self._scenes.get(number)

    def put(self, number: int, scene: Scene) -> None:
        with self._lock:
            self._scenes[number] = scene
            if len(self._scenes) > self._room:
                self._scenes.popitem(last=False)


def render(seed: int, number: int, height: int, width: int) -> Scene:
    """Image (H, W, 3) uint8 RGB and label (H, W) uint8 of one scene."""
    canvas, light, lamps = draw_scene(seed, number, height, width)
    noise = Generator(Philox(key(seed, "synthetic noise", number)))
    return expose(canvas, light, lamps, Dice(seed, "synthetic exposure", number), noise)
