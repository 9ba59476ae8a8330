# SPDX-License-Identifier: Apache-2.0
"""Pictures for the tiny Gemma 4: `draw(seed)` gives an image and the sentence that describes it.

One to three equal shapes of one colour on one side of a light canvas, in several aspect ratios. Only numpy and pillow
are needed, so that tests and demos can draw the same pictures without the training environment.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw


SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (214, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 200),
    "yellow": (240, 200, 30),
    "purple": (140, 50, 160),
    "black": (20, 20, 20),
}
COUNTS = ("One", "Two", "Three")
SIDES = ("on the left", "on the right", "at the top", "at the bottom")
SIZES = ((240, 240), (320, 240), (240, 320), (400, 220), (220, 400), (288, 256))
BACKGROUNDS = ((255, 255, 255), (238, 238, 238), (250, 244, 230), (232, 240, 250))


@dataclass(frozen=True)
class Scene:
    """What a picture shows; the fields index SHAPES, COLOURS, COUNTS (0 is one shape) and SIDES."""

    shape: int
    colour: int
    count: int
    side: int

    @property
    def description(self) -> str:
        """The sentence that the model is trained to answer, such as "Two red circles on the left."."""
        name = SHAPES[self.shape]
        plural = name if self.count == 0 else (name + "es" if name.endswith("s") else name + "s")
        return f"{COUNTS[self.count]} {tuple(COLOURS)[self.colour]} {plural} {SIDES[self.side]}."


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw every field of a scene uniformly."""
    return Scene(
        int(rng.integers(len(SHAPES))),
        int(rng.integers(len(COLOURS))),
        int(rng.integers(len(COUNTS))),
        int(rng.integers(len(SIDES))),
    )


def _paint(draw: ImageDraw.ImageDraw, shape: int, x: float, y: float, r: float, fill: tuple[int, ...]) -> None:
    if SHAPES[shape] == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif SHAPES[shape] == "square":
        r *= 0.88
        draw.rectangle((x - r, y - r, x + r, y + r), fill=fill)
    elif SHAPES[shape] == "triangle":
        draw.polygon(((x, y - r), (x - r, y + 0.85 * r), (x + r, y + 0.85 * r)), fill=fill)
    else:
        draw.rectangle((x - r, y - 0.28 * r, x + r, y + 0.28 * r), fill=fill)
        draw.rectangle((x - 0.28 * r, y - r, x + 0.28 * r, y + r), fill=fill)


def paint_scene(scene: Scene, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Paint a scene on a canvas of `size` = (width, height) pixels; `rng` moves and scales the shapes."""
    width, height = size
    image = Image.new("RGB", size, BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))])
    draw = ImageDraw.Draw(image)
    sideways = scene.side < 2
    across, along = (width, height) if sideways else (height, width)  # away from the side, and parallel to it
    number = scene.count + 1
    radius = min(0.19 * across, 0.145 * along) * float(rng.uniform(0.85, 1.0))
    # Centres lie in the outer part of the canvas: which side it is must not be a matter of opinion.
    depth = float(rng.uniform(radius + 3, 0.30 * across))
    if scene.side % 2:
        depth = across - depth
    step = along / 3.1 if number == 3 else along / 2.6
    middle = along / 2 + float(rng.uniform(-0.02, 0.02)) * along
    fill = tuple(int(np.clip(c + rng.integers(-12, 13), 0, 255)) for c in tuple(COLOURS.values())[scene.colour])
    for index in range(number):
        place = middle + (index - (number - 1) / 2) * step
        x, y = (depth, place) if sideways else (place, depth)
        _paint(draw, scene.shape, x, y, radius, fill)
    return image


def draw(seed: int) -> tuple[Image.Image, str]:
    """Draw the picture of a seed.

    Args:
        seed: any non-negative integer; training uses seeds below 1,000,000.

    Returns:
        The RGB image and its description.
    """
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    size = SIZES[int(rng.integers(len(SIZES)))]
    return paint_scene(scene, rng, size), scene.description
