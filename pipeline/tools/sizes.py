"""Sizes as people read them."""

_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def in_words(count: float) -> str:
    """Write a number of bytes with three digits at most: `12.3 GB`."""
    for unit, size in _UNITS:
        if count >= 0.9995 * size:  # what would be rounded to 1,000 of the unit below
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"
