"""Worst to best as a colour that also reads in grey and for colour-blind readers: from orange through white to blue."""

from __future__ import annotations

#: Ends and middle of the scale as (red, green, blue); all are light enough for black text.
WORST, MIDDLE, BEST = (253, 184, 99), (247, 247, 247), (146, 197, 222)


def colour(rank: float) -> str:
    """`#rrggbb` of a rank from 0 (worst) to 1 (best)."""
    low, high, share = (WORST, MIDDLE, 2 * rank) if rank < 0.5 else (MIDDLE, BEST, 2 * rank - 1)
    mixed = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
