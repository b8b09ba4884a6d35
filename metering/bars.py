"""Bars of a stacked chart as rectangles, for templates that draw SVG. Imports nothing of ours."""

from collections.abc import Sequence
from dataclasses import dataclass

# Told apart on light and dark ground, also by who sees few colours.
COLOURS = (
    "#d98a1f",
    "#1f7a8c",
    "#b02323",
    "#6f5bd0",
    "#1b8a4a",
    "#c2547f",
    "#7a6a2b",
    "#3b6fd4",
    "#8a4b2a",
    "#5d6b76",
)
WIDTH, HEIGHT, GAP = 720.0, 120.0, 2.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of the chart; `title` says what it is."""

    x: str
    y: str
    width: str
    height: str
    colour: str
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    bars: tuple[Bar, ...]
    # The largest sum of a place, which reaches to the top.
    largest: int


def stacked(series: Sequence[tuple[str, Sequence[int]]], places: Sequence[str]) -> Chart:
    """A stack per place of the named series' counts, the first at the bottom; each has the colour of its number."""
    sums = [sum(counts[place] for _, counts in series) for place in range(len(places))]
    largest = max(sums, default=0)
    step = WIDTH / max(1, len(places))
    bars = []
    for place, label in enumerate(places):
        base = 0
        for number, (name, counts) in enumerate(series):
            count = counts[place]
            if count:
                top = HEIGHT * (base + count) / largest
                bars.append(
                    Bar(
                        x=f"{place * step + GAP / 2:.1f}",
                        y=f"{HEIGHT - top:.1f}",
                        width=f"{step - GAP:.1f}",
                        height=f"{HEIGHT * count / largest:.1f}",
                        colour=COLOURS[number % len(COLOURS)],
                        title=f"{label}, {name}: {count:,}",
                    )
                )
            base += count
    return Chart(tuple(bars), largest)
