"""How far from the best, as a colour that also reads in grey and for colour-blind readers: from blue through white to orange."""

from __future__ import annotations

#: Ends and middle of the scale as (red, green, blue); all are light enough for black text.
WORST, MIDDLE, BEST = (253, 184, 99), (247, 247, 247), (146, 197, 222)
#: The same for white text.
DARK = ((122, 68, 8), (44, 47, 51), (20, 84, 122))
#: Steps of the scale in a page.
STEPS = 20

Triple = tuple[int, int, int]


def colour(rank: float, scale: tuple[Triple, Triple, Triple] = (WORST, MIDDLE, BEST)) -> str:
    """`#rrggbb` of a rank from 0 (far from the best) to 1 (the best)."""
    worst, middle, best = scale
    low, high, share = (worst, middle, 2 * rank) if rank < 0.5 else (middle, best, 2 * rank - 1)
    mixed = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def css_class(rank: float) -> str:
    return f"c{round(rank * STEPS)}"


def css() -> str:
    """Rules for every `css_class`, in light and in dark."""
    light = "".join(f".c{step}{{background:{colour(step / STEPS)}}}" for step in range(STEPS + 1))
    dark = "".join(f".c{step}{{background:{colour(step / STEPS, DARK)}}}" for step in range(STEPS + 1))
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{ {dark} }}"
