"""The plots of the report, as SVG: the same figures give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from evaluation.breakdown import SIZES, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evaluation.breakdown import Line
    from evaluation.reliability import Bin

SETTINGS: Any = {
    "font.family": ["DejaVu Sans"],  # comes with Matplotlib: the same everywhere
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "utxoiq",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
COLOURS = ("#0072b2", "#a33c00", "#007a5a", "#8a3d8f", "#4a525c")
"""One a type, told apart by colour-blind eyes too (after Wong 2011)."""


class Curve(NamedTuple):
    """How often signals of a type were right, by how sure they were."""

    name: str
    bins: Sequence[Bin]


def reliability(curves: Sequence[Curve]) -> str:
    """A panel a type: bins of equal count beside the diagonal, on which they would lie if confidences were exact."""
    with mpl.rc_context(SETTINGS):
        figure, panels = _panels(len(curves), "confidence", "share that was right")
        for axes, curve, colour in zip(panels, curves, COLOURS, strict=False):
            axes.plot([0, 1], [0, 1], color="#b6bfc9", linewidth=1)
            sure, right = [one.confidence for one in curve.bins], [one.right for one in curve.bins]
            axes.plot(sure, right, "o-", color=colour, markersize=4)
            axes.set_title(f"{curve.name}, {sum(b.cases for b in curve.bins):,} cases")
        return _svg(figure)


def sizes(lines: Sequence[Line]) -> str:
    """A panel a type: F1 by size of the event; below the threshold the share of events told."""
    with mpl.rc_context(SETTINGS):
        figure, panels = _panels(len(lines), "size of the event over its threshold", "F1")
        names = [f"{low:g}–{high:g}" for low, high in (SMALL, *SIZES)]
        for axes, line, colour in zip(panels, lines, COLOURS, strict=False):
            _pair(axes, range(1, len(names)), line.ours, line.baseline, colour)
            if line.below is not None:
                axes.plot([0], [line.below], "o", color=colour, markerfacecolor="none")
            axes.set_xticks(range(len(names)), names)
            axes.set_title(line.name)
        return _svg(figure)


def coverage(lines: Sequence[Line], shares: Sequence[float]) -> str:
    """A panel a type: F1 by the share of addresses that labels know."""
    with mpl.rc_context(SETTINGS):
        figure, panels = _panels(len(lines), "share of addresses labelled", "F1")
        for axes, line, colour in zip(panels, lines, COLOURS, strict=False):
            _pair(axes, shares, line.ours, line.baseline, colour)
            axes.set_xlim(0, 1.05)
            axes.set_title(line.name)
        return _svg(figure)


def _pair(
    axes: Axes, x: Sequence[float], ours: Sequence[float | None], baseline: Sequence[float | None], colour: str
) -> None:
    for values, style, label in ((baseline, "s--", "baseline"), (ours, "o-", "utxoiq")):
        known = [(at, value) for at, value in zip(x, values, strict=True) if value is not None]
        shade = colour if label == "utxoiq" else "#8c96a0"
        axes.plot([at for at, _ in known], [value for _, value in known], style, color=shade, markersize=4, label=label)
    axes.legend(loc="lower right", frameon=False, fontsize=7)


def _panels(count: int, x: str, y: str) -> tuple[Figure, list[Axes]]:
    figure = Figure((2.5 * count, 2.8), layout="constrained")
    panels = [figure.add_subplot(1, count, place + 1) for place in range(count)]
    for axes in panels:
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(x)
        axes.grid(color="#e1e5ea", linewidth=0.6)
        axes.set_axisbelow(True)
    panels[0].set_ylabel(y)
    return figure, panels


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=NO_METADATA)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
