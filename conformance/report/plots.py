"""Figures of the HTML report: SVG by matplotlib, in colours that the page defines."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging.excerpts import NORMAL
from conformance.report.documents import Json

Samples = npt.NDArray[np.float64]
Series = dict[str, dict[str, float]]  # by name: a number for each label

SERIES = 8  # colours, which the page defines as `--series-0` and so on
LEFT, RIGHT = 0.13, 0.97  # of the axes of a waveform, as parts of its width: for the cursor
_TEXT, _LINE = "#010203", "#010204"  # stand for colours of the page
_PALETTE = [f"#0a0b{number:02x}" for number in range(SERIES)]
_WIDTH = 5.4  # inches
_COLUMNS, _BINS, _FRAMES = 500, 96, 200  # at most, of a waveform and of a spectrogram
_LABELS = 30  # at an axis
_NAME = 24  # characters of a name in a legend of two columns
_RANGE = 80.0  # dB below the loudest


def figure(draw: Callable[[Any], None], height: float, name: str, alt: str) -> str:
    """An SVG that `draw` draws in a matplotlib figure; `name` is unique in the page."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9, "text.color": _TEXT,
        "axes.labelcolor": _TEXT, "xtick.color": _TEXT, "ytick.color": _TEXT,
        "axes.edgecolor": _LINE, "grid.color": _LINE, "grid.linewidth": 0.5,
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    }  # fmt: skip
    with rc_context(style):
        drawn = Figure(figsize=(_WIDTH, height))
        draw(drawn)
        file = StringIO()
        drawn.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inline(file.getvalue(), name, alt)


def _inline(svg: str, name: str, alt: str) -> str:
    """The element alone, with ids of its own, the page's colours and the width of its place."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(_TEXT, "currentColor").replace(_LINE, "var(--line)")
    for number, colour in enumerate(_PALETTE):
        svg = svg.replace(colour, f"var(--series-{number})")
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)  # hundredths of a point are enough
    return svg.replace("<svg", f'<svg role="img" aria-label="{alt}"', 1)


def _finish(axes: Any, series: int, *, log: bool = False) -> None:
    axes.grid(True, axis="y")
    axes.set_axisbelow(True)
    if log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high < 10 * low:  # powers of ten alone would leave the axis without numbers
            axes.yaxis.set_minor_formatter("{x:g}")
            axes.yaxis.set_major_formatter("{x:g}")
    if series > 1:
        handles, names = axes.get_legend_handles_labels()
        names = [name if len(name) <= _NAME else f"\u2026{name[-_NAME:]}" for name in names]
        axes.legend(
            handles, names, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2
        )


def error_by_depth(series: Series, name: str, unit: str, *, floor: bool = True) -> str:
    """Errors along the pipeline or the nodes of a network; `floor` marks one noise floor."""
    labels = list(dict.fromkeys(label for own in series.values() for label in own))

    def draw(drawn: Any) -> None:
        axes = drawn.subplots()
        for number, (title, own) in enumerate(series.items()):
            style = {"color": _PALETTE[number % SERIES], "marker": "osD^vPX*"[number % 8]}
            values = [own.get(label, np.nan) for label in labels]
            axes.plot(range(len(labels)), values, label=title, linewidth=1, markersize=4, **style)
        if floor:
            axes.axhline(1, color=_TEXT, linewidth=0.8, linestyle="--")
        every = 1 + len(labels) // _LABELS
        ticks = range(0, len(labels), every)
        axes.set_xticks(ticks, labels[::every], rotation=55, ha="right", fontsize=7)
        axes.set_ylabel(unit)
        _finish(axes, len(series), log=True)
        drawn.tight_layout()

    return figure(draw, 3.6, name, f"Error by depth, {unit}")


def error_quantiles(series: dict[str, Sequence[float]], name: str) -> str:
    """A QQ plot: quantiles of the errors against those of the normal distribution."""

    def draw(drawn: Any) -> None:
        axes = drawn.subplots()
        for number, (title, own) in enumerate(series.items()):
            style = {"color": _PALETTE[number % SERIES], "marker": "osD^vPX*"[number % 8]}
            axes.plot(NORMAL, own, label=title, linewidth=0.7, markersize=3, **style)
        axes.plot(NORMAL, NORMAL, color=_TEXT, linewidth=0.8, linestyle="--")
        if np.abs(list(series.values())).max(initial=0.0) > 50:
            axes.set_yscale("symlog", linthresh=3)
        axes.set_xlabel("quantile of the normal distribution")
        axes.set_ylabel("error in noise floors")
        _finish(axes, len(series))
        drawn.tight_layout()

    return figure(draw, 3.6, name, "QQ plot of the errors in noise floors")


def waveforms(expected: Samples, actual: Samples, rate: int, start: int, name: str) -> str:
    """Two waveforms over each other, and their difference below."""

    def draw(drawn: Any) -> None:
        axes, below = drawn.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        drawn.subplots_adjust(left=LEFT, right=RIGHT, top=0.9, bottom=0.15, hspace=0.15)
        for number, (title, samples) in enumerate({"oracle": expected, "backend": actual}.items()):
            low, high, times = _envelope(samples, rate, start)
            style = {"color": _PALETTE[number], "alpha": 0.55, "linewidth": 0.6}
            axes.fill_between(times, low, high, label=title, **style)
        low, high, times = _envelope(actual - expected, rate, start)
        below.fill_between(times, low, high, color=_PALETTE[2], linewidth=0.6)
        below.set_xlabel("seconds")
        below.set_ylabel("difference", fontsize=7)
        below.ticklabel_format(axis="y", scilimits=(-2, 2))
        axes.set_xlim(start / rate, (start + len(expected)) / rate)
        below.grid(True, axis="y")
        _finish(axes, 2)

    return figure(draw, 2.6, name, "Waveforms of the oracle and of the backend")


def _envelope(samples: Samples, rate: int, start: int) -> tuple[Samples, Samples, Samples]:
    """The smallest and the largest sample of each column, and the time of the column."""
    size = max(-(-len(samples) // _COLUMNS), 1)
    padded = np.pad(samples, (0, -len(samples) % size), "edge").reshape(-1, size)
    times = (start + np.arange(len(padded)) * size) / rate
    return padded.min(axis=1), padded.max(axis=1), times


def spectrograms(expected: Samples, actual: Samples, rate: int, start: int, name: str) -> str:
    """Magnitudes in dB of the oracle, of the backend, and of the difference of their samples."""
    levels = [_levels(samples) for samples in (expected, actual, actual - expected)]
    loudest = max(level.max() for level in levels[:2])
    levels = [level - loudest for level in levels]
    tops = (0.0, 0.0, levels[2].max())
    extent = (start / rate, (start + len(expected)) / rate, 0, rate / 2000)

    def draw(drawn: Any) -> None:
        from matplotlib import colormaps

        colours = colormaps["magma"].resampled(24)  # few colours take little space
        for axes, level, top, title in zip(
            drawn.subplots(3, 1, sharex=True), levels, tops, ("oracle", "backend", "difference"),
            strict=True,
        ):  # fmt: skip
            options = {"vmin": top - _RANGE, "vmax": top, "extent": extent, "cmap": colours}
            shown = axes.imshow(
                level, origin="lower", aspect="auto", interpolation="none", **options
            )
            axes.set_title(f"{title} (dB, loudest {top:.0f})", fontsize=8, loc="left")
            axes.set_ylabel("kHz", fontsize=7)
            drawn.colorbar(shown, ax=axes, pad=0.02).ax.tick_params(labelsize=6)
        axes.set_xlabel("seconds")
        drawn.tight_layout()

    return figure(draw, 4.6, name, "Spectrograms of the oracle, the backend and the difference")


def _levels(samples: Samples) -> Samples:
    """Levels in dB (bins, frames) of a few hundred frames."""
    size = 512 if len(samples) >= 4096 else 64
    padded = np.pad(samples, (0, max(size - len(samples), 0)))
    hop = max(size // 4, -(-len(padded) // _FRAMES))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size))).T ** 2
    group = -(-len(power) // _BINS)
    pooled = np.pad(power, ((0, -len(power) % group), (0, 0))).reshape(-1, group, power.shape[1])
    return np.asarray(10 * np.log10(pooled.max(axis=1) + 1e-20))


def factors(rows: list[Json], name: str) -> str:
    """Bars of real-time factors, each with the band of the same code measured again."""
    count = len(rows)

    def draw(drawn: Any) -> None:
        axes = drawn.subplots()
        for number, row in enumerate(rows):
            colour = _PALETTE[row["series"] % SERIES]
            axes.barh(number, row["rtf"], color=colour, alpha=0.8, height=0.7)
            low, high = row["band"]
            axes.plot([low, high], [number] * 2, color=_TEXT, linewidth=1.5, marker="|")
        axes.set_yticks(range(count), [row["title"] for row in rows], fontsize=7)
        axes.set_xscale("log")
        axes.tick_params(axis="x", which="both", labelsize=7)
        axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else "")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("real-time factor (lower is faster)")
        axes.invert_yaxis()
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)
        drawn.tight_layout()

    return figure(draw, 0.9 + 0.22 * count, name, "Real-time factor of each part")
