"""Moments, durations and counts in the words of a status line."""

from collections.abc import Mapping
from datetime import datetime

_WITHOUT_PICTURE = {
    "placeholder": ("placeholder", "placeholders"),
    "failed": ("failed", "failed"),
    "cancelled": ("cancelled", "cancelled"),
}


def span(seconds: float) -> str:
    """Write a duration as a person says it: `11 s`, `4 min`, `3 h 12 m`, `2 d 5 h`."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 90 * 60:
        return f"{round(whole / 60)} min"
    if whole < 36 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def countdown(seconds: float) -> str:
    """Write how long is left as a clock does: `0:20`, `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(since: str, now: int) -> str:
    """Write how long ago an RFC 3339 moment was; empty where it is none."""
    try:
        return span(max(0.0, now / 1000 - datetime.fromisoformat(since).timestamp()))
    except ValueError:
        return ""


def spoilt(counts: Mapping[str, int]) -> list[str]:
    """Write how many images have no picture, by why: `2 placeholders`, `1 failed`."""
    return [f"{n} {one if n == 1 else many}" for kind, (one, many) in _WITHOUT_PICTURE.items() if (n := counts[kind])]
