"""The ground that every sketched landscape stands on: colours, sky, sun, and layers of land."""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageColor, ImageDraw

Colour = tuple[int, int, int]
CANVAS = 2432  # pixels of the longer side that is drawn on, at most
WHITE: Colour = (255, 255, 255)

# upper sky, lower sky, sun or moon, far ground, near ground, two accents
PALETTES: tuple[tuple[str, ...], ...] = (
    ("#8fb8c9", "#f6e3c5", "#fff4d6", "#9fb7a8", "#3f5e4e", "#d9735b", "#f0c26b"),
    ("#3d5a80", "#ee9b82", "#ffe1b0", "#98708a", "#2b2d52", "#f4d06f", "#e0607e"),
    ("#f2b880", "#fbe5d0", "#fffaf0", "#d68c6a", "#6b3e3b", "#3f7d7b", "#f7d9a3"),
    ("#1d2b4f", "#6d7fb0", "#f5efd7", "#4b5f8f", "#141c38", "#e8c872", "#a7c6e8"),
    ("#a9d6d2", "#f4f1de", "#ffffff", "#81b29a", "#2f5d62", "#e07a5f", "#f2cc8f"),
    ("#c9b6d8", "#fae3e8", "#fff8ec", "#a78fb8", "#4a3b63", "#e5989b", "#ffd6a5"),
    ("#6fa3b8", "#d7ead9", "#fffbe6", "#7aa68e", "#26534a", "#f2a65a", "#c8553d"),
    ("#e58a5b", "#f9d49b", "#fff1cf", "#b55d4c", "#45233a", "#f6bd60", "#84a59d"),
    ("#22404d", "#7fb0a4", "#f7f0d0", "#3f6f6c", "#102a33", "#f4a259", "#e8d7a5"),
    ("#b7c9e2", "#eef2f6", "#ffffff", "#8ea4c0", "#34435e", "#c77d6b", "#e9c46a"),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A canvas with the colours and the dice it is drawn with."""

    image: Image.Image
    pen: ImageDraw.ImageDraw
    dice: random.Random
    upper: Colour
    lower: Colour
    light: Colour
    far: Colour
    near: Colour
    accents: tuple[Colour, Colour]
    horizon: float  # fraction of the height
    sun_x: float  # fraction of the width

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    @property
    def unit(self) -> float:
        """Shorter side of the canvas: what sizes of things are told in."""
        return min(self.image.size)


def begin(prompt: str, seed: int, width: int, height: int) -> Scene:
    """Choose colours, horizon and canvas, and paint the sky."""
    dice = random.Random(f"{seed} {prompt}")
    offset = random.Random(f"palette {prompt}").randrange(len(PALETTES))
    palette = PALETTES[(offset + 3 * seed) % len(PALETTES)]
    scale = min(2.0, CANVAS / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    upper, lower, light, far, near, first, second = (_turned(ImageColor.getrgb(name), dice) for name in palette)
    horizon = dice.uniform(0.5, 0.64)
    image = gradient(size, upper, lower, horizon)
    accents = (first, second)
    return Scene(
        image, ImageDraw.Draw(image), dice, upper, lower, light, far, near, accents, horizon, dice.uniform(0.18, 0.82)
    )


def _turned(colour: tuple[int, ...], dice: random.Random) -> Colour:
    """Vary a colour a little, so that two pictures of one palette are not twins."""
    red, green, blue = (max(0, min(255, band + dice.randint(-7, 7))) for band in colour[:3])
    return red, green, blue


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return the colour that lies at `share`, 0 to 1, of the way from one to the other."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def gradient(size: tuple[int, int], upper: Colour, lower: Colour, reach: float) -> Image.Image:
    """Return a vertical blend that has become `lower` at `reach`, a fraction of the height."""
    height = size[1]
    column = Image.new("RGB", (1, height))
    column.putdata([mix(upper, lower, min(1.0, y / (height * reach)) ** 1.2) for y in range(height)])
    return column.resize(size, Image.Resampling.NEAREST)


def sun(scene: Scene) -> None:
    """A disc in its own glow; over a dark sky a moon with stars."""
    dice, unit = scene.dice, scene.unit
    if sum(scene.upper) < 330:
        for _ in range(90):
            x, y, r = (
                dice.random() * scene.width,
                dice.random() ** 1.4 * scene.height * 0.5,
                unit * dice.uniform(0.0006, 0.0022),
            )
            scene.pen.ellipse((x - r, y - r, x + r, y + r), fill=mix(scene.upper, WHITE, dice.uniform(0.35, 0.95)))
    radius = unit * dice.uniform(0.06, 0.12)
    x, y = scene.sun_x * scene.width, scene.height * dice.uniform(0.14, scene.horizon - 0.14)
    glow = round(radius * 8)
    mask = (
        Image.radial_gradient("L")
        .point(lambda value: max(0.0, 1 - value / 127) ** 2 * 150)
        .resize((glow, glow), Image.Resampling.BILINEAR)
    )
    scene.image.paste(scene.light, (round(x) - glow // 2, round(y) - glow // 2), mask)
    scene.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=scene.light)


def ridge(scene: Scene, level: float, swing: float, roughness: float) -> list[tuple[float, float]]:
    """A skyline: three waves of falling size over one another; level and swing are fractions of the height."""
    dice = scene.dice
    waves = [
        (swing * share, dice.uniform(0.6, 1.5) * pitch, dice.random() * math.tau)
        for share, pitch in ((0.6, 1), (0.28, 2.3), (0.12, 5 * roughness))
    ]
    aspect = scene.width / scene.height
    steps = round(120 * max(1.0, min(aspect, 10.0)))
    return [
        (
            scene.width * i / steps,
            scene.height * (level + sum(a * math.sin(math.tau * f * aspect * i / steps + p) for a, f, p in waves)),
        )
        for i in range(steps + 1)
    ]


def fill_below(scene: Scene, skyline: list[tuple[float, float]], colour: Colour) -> None:
    """Colour everything from a skyline down."""
    scene.pen.polygon([(0, scene.height), *skyline, (scene.width, scene.height)], fill=colour)


def layers(
    scene: Scene, count: int, *, start: float, end: float, swing: float, roughness: float = 1.0
) -> list[list[tuple[float, float]]]:
    """Ground that comes nearer: each layer lower, darker and less hazy than the one behind."""
    skylines = []
    for i in range(count):
        share = i / max(1, count - 1)
        skyline = ridge(scene, start + (end - start) * share, swing * (1 - 0.35 * share), roughness)
        hazy = mix(mix(scene.lower, scene.far, 0.55), scene.far, min(1.0, 2 * share))
        fill_below(scene, skyline, mix(hazy, scene.near, share**1.3))
        skylines.append(skyline)
    return skylines
