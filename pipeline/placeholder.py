"""What stands where an image could not be made: a tile that a person recognises and a program can read.

Drawn from its arguments alone, so the same call gives the same bytes.
"""

import json
import re
from functools import cache

from anyascii import anyascii
from PIL import Image, ImageDraw, ImageFont

from pipeline import picture
from pipeline.model import Fault, Status
from pipeline.tools import pngtext

TEXT_KEY = "placeholder"  # the PNG text chunk that tells programs what this is
PAPER = (250, 249, 247)
INK = (34, 33, 31)
MUTED = (112, 107, 98)
AMBER = (190, 124, 28)
HATCH = (240, 230, 211)
GROUND = (247, 242, 232)
LEAST_TEXT = 9  # pixels; smaller letters are no letters
LONGEST_NAME = 120  # characters that are drawn of a name or a reason's word
LONGEST_REASON = 400

_EMOJI = re.compile(r":([a-z0-9_]+):")  # as anyascii spells them

Line = tuple[str, int, tuple[int, int, int]]  # text, size in pixels, colour; an empty text is a space


def draw(
    width: int,
    height: int,
    *,
    character: str,
    number: int,
    reason: Fault,
    job_id: str | None = None,
) -> bytes:
    """Return a PNG of exactly that size that says "No picture", of whom, which number, and why.

    Its text chunk `placeholder` holds the same as JSON.
    """
    tile = _hatched(width, height)
    pen = ImageDraw.Draw(tile)
    lines, icon = _layout(width, height, _drawable(character, LONGEST_NAME), number, _reason(reason))
    space = max(2, round(min(width, height) * 0.025))
    used = sum(_advance(line) for line in lines) + (icon + 2 * space if icon else 0)
    top = (height - used) / 2
    _panel(pen, width, height, used, max((_length(line) for line in lines), default=0.0))
    if icon:
        _icon(pen, width / 2, top, icon)
        top += icon + 2 * space
    for line in lines:
        text, size, colour = line
        if text:
            pen.text((width / 2, top + _advance(line) / 2), text, fill=colour, font=_font(size), anchor="mm")
        top += _advance(line)
    facts = {
        "status": Status.PLACEHOLDER.value,
        "character": character,
        "number": number,
        "code": reason.code,
        "message": reason.message,
        "jobId": job_id,
    }
    title = f"No picture: {character}, image {number}"
    return pngtext.with_text(
        picture.encode_png(tile), {"Title": title, TEXT_KEY: json.dumps(facts, ensure_ascii=False, sort_keys=True)}
    )


def _layout(width: int, height: int, character: str, number: int, reason: str) -> tuple[list[Line], int]:
    """Choose what fits: the title always, then the number, the name, the reason as far as it goes, the icon."""
    side = min(width, height)
    across, down = width * 0.84 - 4, height * 0.86 - 4
    title = _fitted("No picture", round(side * 0.09), across, INK)
    small = max(LEAST_TEXT, round(side * 0.042))
    named = _named(character, number, max(LEAST_TEXT, round(side * 0.052)), across)
    gap: Line = ("", max(3, small // 2), INK)
    explained: list[Line] = [(text, small, MUTED) for text in _wrapped(reason, small, across, 6)]
    icon = round(side * 0.13) if side >= 160 else 0
    for kept in range(len(explained), -1, -1):
        told = explained[:kept]
        if told and kept < len(explained):
            told[-1] = (_cut(told[-1][0] + " …", small, across), small, MUTED)
        lines = [title, gap, *named, *([gap, *told] if told else [])]
        if sum(map(_advance, lines)) + icon * 1.4 <= down:
            return lines, icon
    number_alone = _fitted(f"#{number}", small, across, AMBER)
    return ([title, number_alone] if _advance(title) + _advance(number_alone) <= height - 2 else [title]), 0


def _named(character: str, number: int, size: int, across: float) -> list[Line]:
    name: list[Line] = [(text, size, INK) for text in _wrapped(character, size, across, 2)]
    together = f"{character}, image {number}"
    if len(name) == 1 and _font(size).getlength(together) <= across:
        return [(together, size, INK)]
    return [*name, _fitted(f"image {number}", size, across, INK)]


def _reason(fault: Fault) -> str:
    words = _drawable(fault.message, LONGEST_REASON) or fault.code.replace("_", " ")
    return words[:1].upper() + words[1:]


def _drawable(text: str, longest: int) -> str:
    """Transliterate as file names are: Pillow's own font knows ASCII, and no font is bundled."""
    plain = _EMOJI.sub(lambda match: f" {match[1].replace('_', ' ')} ", anyascii(text[:longest]))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())[:longest]


def _wrapped(text: str, size: int, across: float, most: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and _font(size).getlength(f"{lines[-1]} {word}") <= across:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
    return [_cut(line, size, across) for line in lines]


def _cut(text: str, size: int, across: float) -> str:
    if _font(size).getlength(text) <= across:
        return text
    text = text.removesuffix(" …")
    while text and _font(size).getlength(text + "…") > across:
        text = text[:-1]
    return text.rstrip() + "…"


def _fitted(text: str, size: int, across: float, colour: tuple[int, int, int]) -> Line:
    while size > LEAST_TEXT and _font(size).getlength(text) > across:
        size -= 1
    return text, max(size, LEAST_TEXT), colour


def _advance(line: Line) -> int:
    text, size, _ = line
    return round(size * 1.35) if text else size


def _length(line: Line) -> float:
    return _font(line[1]).getlength(line[0]) if line[0] else 0.0


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "this Pillow was built without FreeType; install its wheel"
    return font


def _hatched(width: int, height: int) -> Image.Image:
    """Fill with diagonals: one seamless tile, smoothed once and repeated, costs the same at every size."""
    period = max(8, round(min(width, height) / 28))
    fine = Image.new("RGB", (4 * period, 4 * period), GROUND)
    pen = ImageDraw.Draw(fine)
    for shift in (-4, 0, 4):
        left = shift * period
        pen.polygon(
            [(left, 0), (left + 2 * period, 0), (left - 2 * period, 4 * period), (left - 4 * period, 4 * period)], HATCH
        )
    cell = fine.reduce(4)
    tile = Image.new("RGB", (width, height))
    tile.paste(cell)
    filled = period
    while filled < width:
        tile.paste(tile.crop((0, 0, filled, period)), (filled, 0))
        filled *= 2
    filled = period
    while filled < height:
        tile.paste(tile.crop((0, 0, width, filled)), (0, filled))
        filled *= 2
    return tile


def _panel(pen: ImageDraw.ImageDraw, width: int, height: int, used: float, widest: float) -> None:
    """Lay a calm ground under the words, and an amber line round the whole tile."""
    side = min(width, height)
    margin = side * 0.06
    half_w = min(width / 2 - 2, max(widest / 2 + margin, width * 0.3))
    half_h = min(height / 2 - 2, used / 2 + margin)
    box = (width / 2 - half_w, height / 2 - half_h, width / 2 + half_w, height / 2 + half_h)
    pen.rounded_rectangle(box, radius=max(2, side * 0.02), fill=PAPER)
    line = max(1, round(side / 260))
    pen.rectangle((0, 0, width - 1, height - 1), outline=AMBER, width=line)


def _icon(pen: ImageDraw.ImageDraw, middle: float, top: float, size: int) -> None:
    """Draw an empty picture frame, struck through."""
    line = max(2, size // 14)
    left, right, bottom = middle - size * 0.62, middle + size * 0.62, top + size
    pen.rounded_rectangle((left, top, right, bottom), radius=size * 0.12, outline=AMBER, width=line)
    sun = size * 0.1
    pen.ellipse((left + 2 * sun, top + 2 * sun, left + 4 * sun, top + 4 * sun), fill=AMBER)
    pen.line((left - size * 0.1, bottom + size * 0.02, right + size * 0.1, top - size * 0.02), fill=AMBER, width=line)
