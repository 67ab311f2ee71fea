"""Drawing a landscape from words and a number: what the sketch back end shows instead of a generated picture.

The words choose the motif, the seed everything else: the hour, the colours, the shapes. Drawn at twice the size in
flat colours and then reduced, which smooths the edges; a large picture is drawn smaller and enlarged.
"""

import math
import random

from PIL import Image, ImageDraw, ImageFont

from pipeline.backends.scene import WHITE, Colour, Scene, begin, fill_below, gradient, layers, mix, ridge, sun

MOTIFS: dict[str, tuple[str, ...]] = {
    "garden": ("garden", "flower", "rose", "meadow", "spring", "park", "blossom", "field", "picnic", "tulip"),
    "sea": ("sea", "harbour", "harbor", "beach", "ocean", "water", "lake", "boat", "ship", "coast", "island", "wave"),
    "mountains": ("mountain", "snow", "winter", "alps", "peak", "castle", "dragon", "ice", "ski"),
    "city": ("city", "street", "town", "roof", "neon", "cafe", "office", "tower", "night", "urban", "tokyo", "paris"),
    "hills": ("hill", "desert", "forest", "wood", "autumn", "country", "valley", "road", "tree", "horse"),
}


def paint(prompt: str, seed: int, width: int, height: int, *, label: str) -> Image.Image:
    """Return the picture; the same arguments give the same pixels."""
    scene = begin(prompt, seed, width, height)
    sun(scene)
    {"garden": _garden, "sea": _sea, "mountains": _mountains, "city": _city, "hills": _hills}[motif(prompt)](scene)
    if (scene.width, scene.height) == (2 * width, 2 * height):
        picture = scene.image.reduce(2)
    else:
        picture = scene.image.resize((width, height), Image.Resampling.BICUBIC)
    _sign(picture, label, scene.near)
    return picture


def motif(prompt: str) -> str:
    """Choose what is drawn by the first word that names it; else the whole prompt decides."""
    for word in prompt.lower().replace(",", " ").split():
        for name, words in MOTIFS.items():
            if word.rstrip("s.") in words:
                return name
    return random.Random(f"motif {prompt}").choice(sorted(MOTIFS))


def _hills(scene: Scene) -> None:
    dice, unit = scene.dice, scene.unit
    skylines = layers(scene, dice.randint(4, 6), start=scene.horizon, end=0.88, swing=0.05)
    for depth, skyline in enumerate(skylines[1:-1], 1):
        size = unit * 0.018 * (1 + depth)
        for x, y in dice.sample(skyline, dice.randint(3, 9)):
            _tree(scene, x, y, size * dice.uniform(0.7, 1.3), depth / len(skylines))
    _tree(
        scene,
        scene.width * dice.uniform(0.1, 0.9),
        skylines[-1][len(skylines[-1]) // 2][1],
        unit * dice.uniform(0.16, 0.24),
        1.0,
    )


def _tree(scene: Scene, x: float, y: float, size: float, share: float) -> None:
    dark = mix(scene.far, scene.near, 0.3 + 0.7 * share)
    crown = mix(dark, scene.accents[scene.dice.randrange(2)], 0.45 * share)
    scene.pen.line((x, y + size * 0.2, x, y - size), fill=dark, width=max(1, round(size * 0.09)))
    for dx, dy, r in ((0, -1.15, 0.52), (-0.34, -0.85, 0.38), (0.34, -0.85, 0.38)):
        cx, cy, radius = x + dx * size, y + dy * size, r * size
        scene.pen.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=crown)


def _mountains(scene: Scene) -> None:
    dice = scene.dice
    for share in (0.0, 0.5, 1.0):
        colour = mix(mix(scene.lower, scene.far, 0.5 + 0.5 * share), scene.near, 0.35 * share)
        base = scene.height * (scene.horizon + 0.12 * share)
        for _ in range(4 - round(share)):
            _peak(
                scene,
                dice.uniform(-0.05, 1.05) * scene.width,
                base,
                scene.unit * dice.uniform(0.28, 0.5) * (1 - 0.25 * share),
                colour,
            )
        scene.pen.rectangle((0, base, scene.width, scene.height), fill=colour)
    skylines = layers(scene, 3, start=scene.horizon + 0.17, end=0.9, swing=0.03)
    for x, y in dice.sample(skylines[-1], 22):
        _fir(scene, x, y + scene.unit * 0.02, scene.unit * dice.uniform(0.05, 0.12))


def _peak(scene: Scene, x: float, base: float, size: float, colour: Colour) -> None:
    dice = scene.dice
    spread = size * dice.uniform(0.8, 1.2)
    top = base - size
    scene.pen.polygon([(x - spread, base), (x, top), (x + spread, base)], fill=colour)
    scene.pen.polygon([(x, top), (x + spread, base), (x + spread * 0.12, base)], fill=mix(colour, scene.near, 0.18))
    snow = size * dice.uniform(0.2, 0.3)
    side = spread * snow / size
    edge = [
        (x - side, top + snow),
        (x - side * 0.45, top + snow * 0.78),
        (x - side * 0.1, top + snow * 1.15),
        (x + side * 0.35, top + snow * 0.75),
        (x + side, top + snow),
    ]
    scene.pen.polygon([(x, top), *edge], fill=mix(WHITE, scene.lower, 0.2))


def _fir(scene: Scene, x: float, y: float, size: float) -> None:
    for i in range(3):
        half, top = size * (0.16 + 0.09 * i), y - size * (1 - 0.24 * i)
        scene.pen.polygon(
            [(x, top), (x - half, top + size * 0.44), (x + half, top + size * 0.44)],
            fill=mix(scene.near, scene.far, 0.12),
        )


def _sea(scene: Scene) -> None:
    dice, pen, unit = scene.dice, scene.pen, scene.unit
    shore = scene.height * scene.horizon
    fill_below(scene, ridge(scene, scene.horizon - 0.015, 0.035, 1.0), mix(scene.lower, scene.far, 0.6))
    water = gradient((scene.width, scene.height - round(shore)), mix(scene.far, scene.lower, 0.35), scene.near, 1.0)
    scene.image.paste(water, (0, round(shore)))
    for _ in range(70):
        depth = dice.random()
        y = shore + (scene.height - shore) * depth
        x = scene.width * (scene.sun_x + dice.gauss(0, 0.04 + 0.05 * depth))
        half, thick = unit * dice.uniform(0.01, 0.05) * (0.4 + depth), unit * (0.0015 + 0.004 * depth)
        pen.rounded_rectangle(
            (x - half, y, x + half, y + thick), radius=thick / 2, fill=mix(scene.light, scene.far, 0.15 + 0.4 * depth)
        )
    for _ in range(dice.randint(1, 3)):
        depth = dice.uniform(0.05, 0.5)
        _boat(
            scene,
            scene.width * dice.uniform(0.12, 0.88),
            shore + (scene.height - shore) * depth,
            unit * (0.07 + 0.2 * depth),
        )
    for share in (0.35, 0.7, 1.0):
        fill_below(
            scene, ridge(scene, 0.82 + 0.13 * share, 0.012, 1.4), mix(scene.near, scene.upper, 0.3 * (1 - share))
        )


def _boat(scene: Scene, x: float, y: float, size: float) -> None:
    hull = mix(scene.accents[0], scene.near, 0.25)
    sail = mix(WHITE, scene.lower, 0.25)
    pen = scene.pen
    pen.polygon(
        [
            (x - size * 0.5, y - size * 0.14),
            (x + size * 0.5, y - size * 0.14),
            (x + size * 0.34, y + size * 0.06),
            (x - size * 0.36, y + size * 0.06),
        ],
        fill=hull,
    )
    pen.polygon(
        [(x + size * 0.02, y - size * 1.15), (x + size * 0.02, y - size * 0.2), (x + size * 0.46, y - size * 0.2)],
        fill=sail,
    )
    pen.polygon(
        [(x - size * 0.04, y - size * 1.0), (x - size * 0.04, y - size * 0.2), (x - size * 0.36, y - size * 0.2)],
        fill=scene.accents[1],
    )


def _city(scene: Scene) -> None:
    dice = scene.dice
    for share in (0.0, 0.5, 1.0):
        wall = mix(mix(scene.lower, scene.far, 0.7), scene.near, share)
        x = -dice.random() * 0.1 * scene.width
        while x < scene.width:
            breadth = scene.unit * dice.uniform(0.07, 0.16) * (0.8 + 0.5 * share)
            top = scene.height * (scene.horizon + 0.16 * share) - scene.unit * dice.uniform(0.04, 0.34) * (
                1 - 0.3 * share
            )
            _house(scene, (x, top, x + breadth, scene.height), wall, share)
            x += breadth + scene.unit * dice.choice((0, 0, 0.012))


def _house(scene: Scene, box: tuple[float, float, float, float], wall: Colour, share: float) -> None:
    dice, pen = scene.dice, scene.pen
    left, top, right, bottom = box
    if dice.random() < 0.3:
        pen.polygon([(left, top), ((left + right) / 2, top - (right - left) * 0.45), (right, top)], fill=wall)
    pen.rectangle(box, fill=wall)
    columns = dice.randint(3, 5)
    cell = (right - left) / columns
    lit, dark = mix(wall, scene.accents[1], 0.3 + 0.6 * share), mix(wall, scene.lower, 0.1)
    for row in range(int((min(bottom, scene.height) - top) / cell)):
        for column in range(columns):
            x, y = left + (column + 0.3) * cell, top + (row + 0.35) * cell
            pen.rectangle((x, y, x + cell * 0.4, y + cell * 0.5), fill=lit if dice.random() < 0.28 else dark)


def _garden(scene: Scene) -> None:
    dice, unit = scene.dice, scene.unit
    skylines = layers(scene, 4, start=scene.horizon + 0.04, end=0.86, swing=0.035)
    for x, y in dice.sample(skylines[1], 7):
        _tree(scene, x, y, unit * dice.uniform(0.04, 0.08), 0.4)
    for i in range(46):
        depth = i / 45
        x = dice.random() * scene.width
        y = scene.height * (0.84 + 0.2 * depth)
        _flower(scene, x, y, unit * (0.05 + 0.13 * depth) * dice.uniform(0.7, 1.15), depth)


def _flower(scene: Scene, x: float, y: float, size: float, depth: float) -> None:
    dice, pen = scene.dice, scene.pen
    stem = mix(scene.near, scene.far, 0.35 * depth + 0.1)
    lean = dice.uniform(-0.22, 0.22) * size
    head_x, head_y = x + lean, y - size
    pen.line(
        [(x, y), (x + lean * 0.35, y - size * 0.5), (head_x, head_y)],
        fill=stem,
        width=max(1, round(size * 0.045)),
        joint="curve",
    )
    leaf = size * 0.16
    pen.polygon(
        [
            (x + lean * 0.3, y - size * 0.4),
            (x + lean * 0.3 + 1.6 * leaf, y - size * 0.4 - leaf),
            (x + lean * 0.3 + 0.6 * leaf, y - size * 0.4 + leaf * 0.3),
        ],
        fill=stem,
    )
    petal = mix(dice.choice((*scene.accents, mix(WHITE, scene.accents[0], 0.25))), scene.lower, 0.25 * (1 - depth))
    count, radius, turn = dice.choice((5, 6, 8)), size * 0.13, dice.random()
    for i in range(count):
        angle = math.tau * (i + turn) / count
        cx, cy = head_x + math.cos(angle) * radius, head_y + math.sin(angle) * radius
        r = radius * (0.82 if count < 8 else 0.6)
        pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=petal)
    core = radius * 0.6
    pen.ellipse(
        (head_x - core, head_y - core, head_x + core, head_y + core), fill=mix(scene.light, scene.accents[1], 0.5)
    )


def _sign(picture: Image.Image, label: str, ink: Colour) -> None:
    """Say in a corner what this is; small, but always there."""
    size = max(9, round(min(picture.size) * 0.022))
    font = ImageFont.load_default(size)
    pen = ImageDraw.Draw(picture, "RGBA")
    margin = size * 0.6
    left, top, right, bottom = pen.textbbox(
        (margin * 1.7, picture.height - margin * 1.5), label, font=font, anchor="ls"
    )
    pen.rounded_rectangle(
        (left - margin * 0.8, top - margin * 0.6, right + margin * 0.8, bottom + margin * 0.6),
        radius=size * 0.5,
        fill=(250, 249, 247, 205),
    )
    pen.text(
        (margin * 1.7, picture.height - margin * 1.5), label, font=font, anchor="ls", fill=mix(ink, (0, 0, 0), 0.3)
    )
