# SPDX-License-Identifier: Apache-2.0
"""Images and prompts that the reference and the tests draw alike: from a number, by numpy's PCG64."""

import numpy as np
import PIL.Image


_EXTREMES = [
    (1, 1, 280),
    (1, 3000, 280),
    (3000, 1, 280),
    (1, 47, 70),
    (2, 900, 1120),
    (900, 2, 560),
    (100, 3000, 280),
    (3000, 100, 280),
    (1, 20_000, 1120),
    (20_000, 1, 70),
    (480, 640, 280),
    (640, 480, 280),
    (224, 224, 280),
    (768, 768, 280),
    (672, 912, 280),
    (1080, 1920, 280),
    (48, 48, 70),
    (49, 47, 70),
    (16, 13_440, 280),
    (200, 800, 1120),
]

# (prompts, sizes of the images of each prompt)
PROMPTS = [
    (["no image"], [[]]),
    (["<|image|>"], [[(60, 80)]]),
    (["a <|image|> b <|image|>c"], [[(60, 80), (400, 30)]]),
    (["<|image|><|image|>", "second", "x <|image|>"], [[(10, 10), (20, 90)], [], [(33, 50)]]),
    (["<bos><|turn>user\n<|image|>what?<turn|>\n", "<bos>short"], [[(48, 96)], []]),
]


def image_cases() -> list[tuple[int, int, int]]:
    """200 cases (height, width, budget): fixed extremes, then sizes drawn log-uniformly."""
    random = np.random.default_rng(20_260_402)
    cases = list(_EXTREMES)
    while len(cases) < 200:
        height, width = np.exp(random.uniform(0, np.log(1600), 2)).astype(int) + 1
        budget = random.choice([70, 140, 280, 560, 1120], p=[0.45, 0.25, 0.2, 0.05, 0.05])
        cases.append((int(height), int(width), int(budget)))
    return cases


def drawn_image(seed: int, height: int, width: int) -> PIL.Image.Image:
    """Noise on a slope, as an RGB image (an array of one pixel's height would have no clear channel axis)."""
    noise = np.random.default_rng(seed).integers(0, 128, (height, width, 3), dtype=np.uint8)
    slope = np.linspace(0, 127, width).astype(np.uint8)[None, :, None]
    return PIL.Image.fromarray(noise + slope)


def mode_images() -> dict[str, PIL.Image.Image | np.ndarray]:
    """The same picture in every mode that a file may come in, and as arrays."""
    rgb = drawn_image(7, 100, 140)
    alpha = PIL.Image.fromarray(np.random.default_rng(8).integers(0, 256, (100, 140), dtype=np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    gray_alpha = rgb.convert("L")
    gray_alpha.putalpha(alpha)
    transparent_palette = rgb.convert("P")
    transparent_palette.info["transparency"] = 0
    array = np.array(rgb)
    dark_wide = PIL.Image.fromarray(np.array(rgb.convert("L")).astype(np.uint16))
    return {
        "RGB": rgb,
        "CMYK": rgb.convert("CMYK"),
        "P": rgb.convert("P"),
        "P with transparency": transparent_palette,
        "L": rgb.convert("L"),
        "1": rgb.convert("1"),
        "LA": gray_alpha,
        "RGBA": rgba,
        "YCbCr": rgb.convert("YCbCr"),
        "HSV": rgb.convert("HSV"),
        "I;16 within 8 bits": dark_wide,
        "array": array,
        "array, channels first": np.ascontiguousarray(array.transpose(2, 0, 1)),
        "array, RGBA": np.array(rgba),
        "array, one channel": array[:, :, :1],
        "array, float 0..255": array.astype(np.float32),
        "black": np.zeros((90, 90, 3), dtype=np.uint8),
    }
