"""A chart as SVG or PNG. Importing this imports Matplotlib; what to draw is made in charts.py."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from statistics import median
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from utxoiq.web.charts import Chart, Form, Theme

WIDTH, HEIGHT, SCALE = 720, 405, 2
"""Pixels; a PNG has so many times as many. Sizes below are in these pixels: half of them on a phone of 360."""
POINTS = 72
"""Points in an inch: at this resolution one is a pixel."""
MARGIN, LEFT, RIGHT = 16, 84, 22
HEADLINE, LABEL, SMALL = 23, 19, 18
"""Heights of text."""
BOLD = FontProperties(family="DejaVu Sans", weight="bold", size=HEADLINE)
PLAIN = FontProperties(family="DejaVu Sans", size=SMALL)
LINES = 2
"""Of the headline, at most."""
SYSTEM_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
SETTINGS: Any = {
    "font.family": ["DejaVu Sans"],  # comes with Matplotlib: the same everywhere
    "text.usetex": False,
    "text.parse_math": False,  # a name with dollars in it is a name
    "svg.fonttype": "none",
    "svg.hashsalt": "utxoiq",
    "svg.image_inline": True,
    "axes.unicode_minus": True,
    "path.simplify": True,
}
NO_METADATA: Mapping[str, Mapping[str, None]] = {
    "svg": dict.fromkeys(("Creator", "Date", "Format", "Type")),
    "png": dict.fromkeys(("Software",)),
}
LOCK = Lock()
"""Matplotlib's settings are the whole process's."""
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
A_DAY = 86_400
STEPS = (1, 2, 2.5, 5, 10)
"""Between ticks, at any power of ten."""


class Palette(NamedTuple):
    """Colours that colour-blind eyes tell apart, by lightness too. `text`, `quiet`, `event` and `alarm` are of text, so
    4.5 to 1 and more against `paper` (WCAG AA)."""

    paper: str
    text: str
    quiet: str
    """Axes, reference lines and their text."""
    grid: str
    line: str
    event: str
    alarm: str


PALETTES: Mapping[Theme, Palette] = {
    "light": Palette("#ffffff", "#16191d", "#4a525c", "#e1e5ea", "#0072b2", "#a33c00", "#b00020"),
    "dark": Palette("#14181d", "#f1f4f7", "#b6bfc9", "#2c333c", "#56b4e9", "#ffb04d", "#ff8a80"),
}


def draw(chart: Chart, form: Form, theme: Theme) -> bytes:
    """The file: the same chart gives the same bytes."""
    with LOCK, mpl.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for it
        figure = _figure(chart, PALETTES[theme])
        file = io.BytesIO()
        figure.savefig(file, format=form, dpi=POINTS * SCALE, metadata=dict(NO_METADATA[form]))
    return _plain_svg(file.getvalue(), chart) if form == "svg" else file.getvalue()


def wrapped(text: str) -> list[str]:
    """A headline's lines; what does not fit ends in an ellipsis."""
    lines = [""]
    for word in text.split():
        for part in _parts(word):
            longer = f"{lines[-1]} {part}".strip()
            if _fits(longer):
                lines[-1] = longer
            else:
                lines.append(part)
    if len(lines) <= LINES:
        return lines
    last = lines[LINES - 1]
    while not _fits(f"{last}…"):
        last = last[:-1].rstrip()
    return [*lines[: LINES - 1], f"{last}…"]


def _fits(line: str) -> bool:
    return _width(line, BOLD) <= WIDTH - 2 * MARGIN


def _width(line: str, font: FontProperties) -> float:
    """Pixels; fonts of readers' systems are narrower than this one."""
    return float(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0])


def _parts(word: str) -> list[str]:
    """A word that no line can hold, in pieces."""
    size = len(word)
    while size > 1 and not _fits(word[:size]):
        size -= 1
    return [word[i : i + size] for i in range(0, len(word), size)]


def compact(value: float) -> str:
    """A number for an axis: 12,500; 1.5M; 0.00012."""
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            per = 1e3 if suffix == "k" else size
            return f"{value / per:.4g}{suffix}".replace("-", "−")
    places = 0 if abs(value) >= 1000 else 8
    text = f"{value:,.{places}f}"
    return (text.rstrip("0").rstrip(".") if places else text).replace("-", "−") or "0"


# The parts of the picture


def _figure(chart: Chart, palette: Palette) -> Figure:
    figure = Figure((WIDTH / POINTS, HEIGHT / POINTS), dpi=POINTS, facecolor=palette.paper)
    top = _heading(figure, chart, palette)
    bottom = _footing(figure, chart, palette)
    axes = figure.add_axes((
        LEFT / WIDTH, bottom / HEIGHT, (WIDTH - LEFT - RIGHT) / WIDTH, (HEIGHT - top - bottom) / HEIGHT,
    ), facecolor=palette.paper)  # fmt: skip
    _scales(axes, chart)
    _past(axes, chart, palette)
    for (_, value), dashes in zip(chart.lines, DASHES, strict=False):
        axes.axhline(value, color=palette.quiet, linewidth=1.5, linestyle=dashes, zorder=2)
    _event(axes, chart, palette)
    _frame(axes, chart, palette)
    return figure


DASHES: Any = ((0, (6, 4)), (0, (1.5, 2.5)))
"""Of the first and the second reference line."""


def _write(figure: Figure, x: float, y: float, text: str, size: float, color: str, **more: Any) -> None:
    """Text whose baseline is `y` pixels below the top."""
    figure.text(x / WIDTH, 1 - y / HEIGHT, text, fontsize=size, color=color, va="baseline", **more)


def _heading(figure: Figure, chart: Chart, palette: Palette) -> float:
    """Headline, what is measured, and reference lines by name: the pixels they take."""
    y = 8.0
    for line in wrapped(chart.headline):
        y += HEADLINE + 5
        _write(figure, MARGIN, y - 6, line, HEADLINE, palette.text, weight="bold")
    y += SMALL + 6
    _write(figure, MARGIN, y - 4, chart.title, SMALL, palette.quiet)
    named = [(text, palette.quiet, dashes) for (text, _), dashes in zip(chart.lines, DASHES, strict=False)]
    named += [(chart.forecast.interval, palette.event, "-")] if chart.forecast else []
    if named:
        y += SMALL + 6
    x: float = MARGIN
    for text, color, dashes in named:
        _write(figure, x + 40, y - 4, text, SMALL, palette.quiet)
        ends, level = [x / WIDTH, (x + 32) / WIDTH], 1 - (y - 4 - SMALL / 3) / HEIGHT
        figure.add_artist(Line2D(ends, [level] * 2, color=color, linewidth=2, linestyle=dashes))
        x += 40 + _width(text, PLAIN) + 28
    return y + 14


def _footing(figure: Figure, chart: Chart, palette: Palette) -> float:
    """Ticks, which block it is about, and what must be known to read it right: the pixels they take."""
    marks = " · ".join(chart.marks)
    rows = 2 if len(chart.marks) > 1 or chart.note else 1
    y = HEIGHT - 10 - (rows - 1) * (SMALL + 6)
    _write(figure, MARGIN, y, chart.footer, SMALL, palette.quiet)
    if chart.note:
        _write(figure, MARGIN, HEIGHT - 10, chart.note, SMALL, palette.quiet)
    if marks:
        _write(figure, WIDTH - MARGIN, HEIGHT - 10, marks, SMALL, palette.alarm, weight="bold", ha="right")
    return 10 + rows * (SMALL + 6) + 2 * (SMALL + 4) + 8


def _scales(axes: Axes, chart: Chart) -> None:
    ahead = [chart.forecast.x] if chart.forecast else []
    first, last = (chart.points or [chart.event])[0][0], max([chart.event[0], *ahead])
    room = max(0.6, 0.02 * (last - first))
    axes.set_xlim(first - room, last + room)
    seen = [y for _, y in chart.points if y is not None] + [chart.event[1]] + [y for _, y in chart.lines]
    if chart.forecast:
        seen += [chart.forecast.y, chart.forecast.low, chart.forecast.high]
    low, high = min(0.0, *seen), max(0.0, *seen)
    room = (high - low) or 1.0
    axes.set_ylim(low - (0.18 * room if low < 0 else 0), high + 0.2 * room)


def _past(axes: Axes, chart: Chart, palette: Palette) -> None:
    if chart.bars:
        known = [(x, y) for x, y in chart.points if y]
        left, right = axes.get_xlim()
        width = 0.8 * (WIDTH - LEFT - RIGHT) * _step(chart.points) / (right - left)
        axes.vlines(
            [x for x, _ in known], 0, [y for _, y in known], color=palette.line, linewidth=max(1.0, min(12.0, width)),
            zorder=3,
        )  # fmt: skip
        return
    xs, ys = [x for x, _ in chart.points], [math.nan if y is None else y for _, y in chart.points]
    axes.plot(xs, ys, color=palette.line, linewidth=2.2, zorder=3, solid_joinstyle="round")
    alone = list(_alone(chart.points))
    axes.plot([x for x, _ in alone], [y for _, y in alone], ".", color=palette.line, markersize=7, zorder=3)


def _event(axes: Axes, chart: Chart, palette: Palette) -> None:
    """The block it is about, and what is forecast after it."""
    (x, y), ahead = chart.event, chart.forecast
    axes.vlines([x], 0, [y], color=palette.event, linewidth=1.5, zorder=4)
    axes.plot([x], [y], "o", color=palette.event, markeredgecolor=palette.paper, markersize=13, zorder=6, clip_on=False)
    for point, text, rise in _labels(axes, chart):
        if point[1] not in (y, ahead and ahead.y):
            axes.vlines([x], y, point[1], color=palette.event, linewidth=1, linestyle=":", zorder=4)
        axes.annotate(
            text, point, xytext=(-13, rise), textcoords="offset points", ha="right", va="bottom" if rise > 0 else "top",
            fontsize=LABEL, weight="bold", color=palette.event, zorder=7,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": palette.paper, "edgecolor": "none", "alpha": 0.85},
        )  # fmt: skip
    if ahead:
        axes.plot([x, ahead.x], [y, ahead.y], color=palette.event, linewidth=1.5, linestyle=":", zorder=4)
        axes.plot([ahead.x] * 2, [ahead.low, ahead.high], color=palette.event, linewidth=2.5, zorder=4)
        for end in (ahead.low, ahead.high):
            axes.plot([ahead.x], [end], "_", color=palette.event, markersize=12, markeredgewidth=2.5, zorder=4)
        axes.plot(
            [ahead.x], [ahead.y], "D", color=palette.paper, markeredgecolor=palette.event, markeredgewidth=2.5,
            markersize=10, zorder=6,
        )  # fmt: skip


def _labels(axes: Axes, chart: Chart) -> list[tuple[tuple[float, float], str, float]]:
    """(point, text, pixels above it) of the event and the forecast: beside the past's line, and not on each other."""
    (x, y), ahead = chart.event, chart.forecast
    bottom, top = axes.get_ylim()
    pixels = axes.bbox.height / (top - bottom)
    if ahead is None:
        return [_alone_label(axes, chart)]
    event, foretold = ((x, y), chart.event_text), ((ahead.x, ahead.y), ahead.text)
    lower, upper = sorted([event, foretold], key=lambda one: one[0][1])
    if (lower[0][1] - bottom) * pixels >= TALL:
        return [(*lower, -GAP), (*upper, GAP)]
    return [(*lower, GAP), (*upper, GAP + max(0.0, TALL - (upper[0][1] - lower[0][1]) * pixels))]


def _alone_label(axes: Axes, chart: Chart) -> tuple[tuple[float, float], str, float]:
    """Beside the event, on the side away from the usual first; where the past is in the way, at the upper edge."""
    (x, y), (bottom, top), (left, right) = chart.event, axes.get_ylim(), axes.get_xlim()
    pixels = axes.bbox.height / (top - bottom)
    first = x - (_width(chart.event_text, BOLD) + 20) * (right - left) / axes.bbox.width
    known = [value for _, value in chart.points if value is not None]
    near = [value for at, value in chart.points if value is not None and at >= first]
    pairs = [(0.0, value) for value in near] if chart.bars else list(pairwise(near))
    above = not known or y >= median(known)
    for rise in (GAP, -GAP) if above else (-GAP, GAP):
        low = y + (rise if rise > 0 else rise - LABEL) / pixels
        high = low + LABEL / pixels
        if low > bottom + 2 / pixels and not any(max(pair) >= low and min(pair) <= high for pair in pairs):
            return (x, y), chart.event_text, rise
    return (x, top), chart.event_text, -GAP


GAP, TALL = 7, LABEL + 15
"""Pixels between a point and its label; what both take."""


def _frame(axes: Axes, chart: Chart, palette: Palette) -> None:
    """Grid and ticks; under each height the date."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(palette.quiet)
    axes.grid(axis="y", color=palette.grid, linewidth=1)
    axes.set_axisbelow(True)
    bottom, top = axes.get_ylim()
    if bottom < 0:
        axes.axhline(0, color=palette.quiet, linewidth=1, zorder=2)
    levels = [y for y in MaxNLocator(4, steps=STEPS).tick_values(bottom, top) if bottom <= y <= top]
    axes.set_yticks(levels, [compact(round(y, 10)) for y in levels])
    left, right = axes.get_xlim()
    last = right - 0.07 * (right - left)  # there is room for half a date
    ticks = MaxNLocator(4, steps=STEPS, integer=True).tick_values(left, right)
    first = chart.points[0][0] if chart.points else left
    places = [int(x) for x in ticks if first <= x <= last]
    axes.set_xticks(places, [f"{x:,}".replace("-", "−") for x in places])
    axes.tick_params(labelsize=SMALL, labelcolor=palette.quiet, color=palette.grid, length=5, pad=4)
    times = [time for x, time in chart.times.items() if left <= x <= right]
    brief = bool(times) and max(times) - min(times) < 2 * A_DAY
    for x in places:
        if x in chart.times:
            axes.annotate(
                _date(chart.times[x], brief=brief), (x, 0), xycoords=("data", "axes fraction"), ha="center", va="top",
                xytext=(0, -(SMALL + 14)), textcoords="offset points", fontsize=SMALL, color=palette.quiet,
            )  # fmt: skip


def _date(time: int, *, brief: bool) -> str:
    moment = datetime.fromtimestamp(time, UTC)
    return f"{MONTHS[moment.month - 1]} {moment.day}, {moment:%H:%M}" if brief else f"{moment:%Y-%m-%d}"


def _step(points: Sequence[tuple[int, float | None]]) -> int:
    """Blocks from one point to the next."""
    return min((b - a for (a, _), (b, _) in pairwise(points)), default=1)


def _alone(points: Sequence[tuple[int, float | None]]) -> Iterator[tuple[int, float]]:
    """Known points between unknown ones, which no line would show."""
    padded = [(0, None), *points, (0, None)]
    for (_, before), (x, y), (_, after) in zip(padded, padded[1:], padded[2:], strict=False):
        if y is not None and before is None and after is None:
            yield x, y


def _plain_svg(svg: bytes, chart: Chart) -> bytes:
    """In pixels and with the reader's own fonts; without the address of a document type that nobody needs."""
    text = svg.decode()
    text = re.sub(r"<!DOCTYPE[^>]*>\s*", "", text)
    text = re.sub(r"font(-family)?: ([^;\"]*?)'DejaVu Sans'", lambda m: f"font{m[1] or ''}: {m[2]}{SYSTEM_FONTS}", text)
    head = re.search(r"<svg [^>]*>", text)
    assert head
    opened = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', head[0]).replace("<svg ", '<svg role="img" ')
    titled = f"{opened}\n <title>{escape(chart.headline, quote=False)}</title>"
    return (text[: head.start()] + titled + text[head.end() :]).encode()
