"""The chart: values over time, drawn by matplotlib as SVG that sits in the page's own type."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_ACCENT, _SECOND, _INK, _SOFT, _RULE = "#0f6a73", "#c8641e", "#1c2430", "#667085", "#e3e6ea"

# Any: matplotlib wants the keys as literal types, which a dict cannot have outside of the call.
_SETTINGS: Any = {
    # Ids inside the SVG are random without a salt: the same report would not be the same bytes.
    "svg.hashsalt": "project.reports",
    # Text stays text: it takes the page's font, can be searched and read aloud, and is a third of the size.
    "svg.fonttype": "none",
    # matplotlib brings this font, so that the room it measures for text does not depend on the machine.
    "font.family": "DejaVu Sans",
    "font.size": 9,
}

# matplotlib reads the settings above from process-wide state while it draws.
_drawing = threading.Lock()


@dataclass(frozen=True)
class Trace:
    """One series in the chart."""

    label: str
    values: pd.Series[float]
    """Indexed by date; NaN leaves a gap."""
    style: Literal["line", "faint", "bars", "average"] = "line"


@dataclass(frozen=True)
class Shade:
    """A time range to shade behind the traces, as far as the chart reaches; ISO dates."""

    label: str
    first: str
    last: str


@dataclass(frozen=True)
class Chart:
    """One or more traces over a common time axis."""

    description: str
    """What the chart shows, in words, for those who cannot see it."""
    unit: str
    traces: Sequence[Trace]
    shade: Shade | None = None

    def svg(self) -> str:
        """The `<svg>` element alone, without XML prologue or metadata; scales to the width it is given."""
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with _drawing, mpl.rc_context(_SETTINGS):
            # A Figure of its own, not pyplot: that would keep every figure in a global list.
            figure = Figure(figsize=(9, 3.6))
            # Fixed margins: measuring them would make the layout depend on the fonts of the machine.
            axes = figure.add_axes((0.066, 0.09, 0.922, 0.81))
            self._draw(axes)
            file = io.StringIO()
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(file, format="svg", transparent=True, metadata=nothing)
        svg = file.getvalue()
        label = f'<svg role="img" aria-label="{escape(self.description)}" '
        return label + svg[svg.index("<svg ") + len("<svg ") :].strip()

    def _draw(self, axes: Axes) -> None:
        for trace in self.traces:
            dates, values = trace.values.index.to_numpy(), trace.values.to_numpy()
            match trace.style:
                case "bars":
                    axes.bar(dates, values, label=trace.label, width=1.0, color=_ACCENT, alpha=0.55)
                case "faint":
                    axes.plot(dates, values, label=trace.label, linewidth=0.9, color=_ACCENT, alpha=0.65)
                case "average":
                    axes.plot(dates, values, label=trace.label, linewidth=1.8, color=_SECOND)
                case "line":
                    axes.plot(dates, values, label=trace.label, linewidth=1.8, color=_ACCENT)
        axes.margins(x=0, y=0.08)
        if self.shade:
            first, last = self.traces[0].values.index[[0, -1]]
            _draw_shade(axes, self.shade, first, last)
        if len(self.traces) > 1 or self.shade:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=4, frameon=False, labelcolor=_INK)
        _draw_scales(axes, self.unit)


def _draw_shade(axes: Axes, shade: Shade, first: pd.Timestamp, last: pd.Timestamp) -> None:
    import matplotlib.dates
    import pandas as pd

    dates: Any = matplotlib.dates  # not annotated
    begin, end = max(first, pd.Timestamp(shade.first)), min(last, pd.Timestamp(shade.last))
    if begin < end:
        axes.axvspan(
            dates.date2num(begin),
            dates.date2num(end),
            label=shade.label,
            color=_SOFT,
            alpha=0.15,
            linewidth=0,
        )


def _draw_scales(axes: Axes, unit: str) -> None:
    import matplotlib.dates

    dates: Any = matplotlib.dates  # not annotated
    locator = dates.AutoDateLocator(minticks=4, maxticks=13)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, show_offset=False))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(_SOFT)
    axes.tick_params(axis="both", length=0, pad=6, labelcolor=_SOFT)
    axes.annotate(unit, (0, 1), (-40, 12), "axes fraction", "offset points", color=_SOFT)
