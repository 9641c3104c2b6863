"""Plots of what is in a dataset and what a loader does: lengths, mixture, fill, pace, padding against packing.

Each returns a figure, which a notebook shows and `savefig` saves; none is shown or saved by itself. They have a light
ground of their own, so that they read the same in light and dark notebooks. They need the extra `plots`.
"""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import cycle
from typing import Any, ParamSpec

import numpy as np

from grain_molmo.batches import Loader
from grain_molmo.datasets.base import Dataset
from grain_molmo.errors import ConfigError
from grain_molmo.render import ExampleInfo
from grain_molmo.stages import Stage
from grain_molmo.stats import Seconds
from grain_molmo.text.tokenizer import Tokenizer
from grain_molmo.view.measures import (
    PARTS_OF_RENDERING,
    History,
    Pace,
    SetLengths,
    example_lengths,
    one_a_row,
    paces,
    row_use,
    shares,
)

try:
    import matplotlib.style
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
except ImportError as error:
    raise ConfigError("grain_molmo.view.plots needs matplotlib: pip install 'grain-molmo[plots]'") from error

__all__ = [
    "History",
    "Plot",
    "fill_over_time",
    "length_histogram",
    "mixture_shares",
    "padding_and_packing",
    "throughput",
]

_GROUND, _INK, _FAINT, _RULE, _ACCENT, _PALE = "#fcfcfb", "#23282f", "#69717d", "#e3e6ea", "#c0442c", "#a9bcd3"
_COLOURS = (
    *("#4c78a8", "#e08a2e", "#3f9b7f", "#8e6bb8", "#d1607d"),
    *("#2f9fb3", "#9a7b4f", "#6c9a3b", "#b5539b", "#7d8794"),
)
_STYLE: dict[str, Any] = {
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), _GROUND),
    **dict.fromkeys(("text.color", "axes.titlecolor"), _INK),
    **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), _FAINT),
    **dict.fromkeys(("axes.edgecolor", "grid.color", "xtick.color", "ytick.color"), _RULE),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
    "figure.constrained_layout.use": True,
    **dict.fromkeys(("figure.constrained_layout.w_pad", "figure.constrained_layout.h_pad"), 0.1),  # inches
}
_PADDING: dict[str, Any] = {"facecolor": "#f1f2f4", "edgecolor": "#c6cbd2", "hatch": "////"}
_SHIELD: dict[str, Any] = {"facecolor": _GROUND, "edgecolor": "none", "pad": 0.8}
_MOST_BINS = 48
_LEFT_OUT_AT = 1000
_SHARP = 2
"""Pixels of a picture for each that a notebook shows."""


class Plot(Figure):
    """A matplotlib figure that any notebook shows, whatever backend is set; `savefig` writes it to a file."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture, and the size to show it at in pixels."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=_SHARP * self.dpi)
        width, height = self.get_size_inches() * self.dpi
        return buffer.getvalue(), {"width": int(width), "height": int(height)}


_P = ParamSpec("_P")


def _in_our_style(draw: Callable[_P, Plot]) -> Callable[_P, Plot]:
    """Draws on our own ground, whatever style the caller has set."""

    @wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> Plot:
        with matplotlib.style.context(["default", _STYLE]):
            return draw(*args, **kwargs)

    return styled


def length_histogram(
    datasets: str | Dataset | Sequence[str | Dataset],
    stage: str | Stage = "sft",
    *,
    tokenizer: str | os.PathLike[str] | Tokenizer = "bytes",
    num_examples: int = 500,
    data_dir: str | os.PathLike[str] | None = None,
    split: str | None = None,
    seed: int = 0,
) -> Plot:
    """How many tokens and crops examples take of a row, a line for each dataset; no picture is opened for it.

    Args:
        datasets: a name, "name:split" or a dataset; or several.
        stage: "pretraining", "sft", "long_context", or a `Stage` (of any mixture): how they are encoded.
        tokenizer: path of a tokenizer.json, hub name, "bytes" (a byte is a token), or a `Tokenizer`.
        num_examples: of each dataset at most, drawn at random; 0 for all.
        data_dir: where the converted ones are; default $GRAIN_MOLMO_DATA.
        split: of names that don't say one; default the stage's.
        seed: decides which examples, and their random choices.

    Raises:
        ConfigError: unknown names, stage or tokenizer.
        StoreError: a dataset was not converted into the folder.
    """
    found = example_lengths(
        datasets,
        stage,
        tokenizer=tokenizer,
        num_examples=num_examples,
        data_dir=data_dir,
        split=split,
        seed=seed,
    )
    return _draw_lengths(found)


@_in_our_style
def _draw_lengths(found: Mapping[str, SetLengths]) -> Plot:
    figure = Plot(figsize=(9, 0.9 + 0.95 * len(found)))
    grid = figure.subplots(len(found), 2, sharex="col", squeeze=False)
    for column, what in enumerate(("tokens", "crops")):
        lengths = {name: getattr(one, f"{what}_N") for name, one in found.items()}
        most = max((int(lengths_N.max()) for lengths_N in lengths.values() if lengths_N.size), default=1)
        bins = np.linspace(-0.5, most + 0.5, min(_MOST_BINS, most + 1) + 1)
        for axes, lengths_N, colour in zip(grid[:, column], lengths.values(), cycle(_COLOURS), strict=False):
            _draw_one_histogram(axes, lengths_N, bins, colour)
        grid[-1, column].set_xlabel(f"{what} of an example")
        grid[-1, column].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for axes, (name, one) in zip(grid[:, 0], found.items(), strict=True):
        lost = f", {one.num_unusable:,} cannot be used" if one.num_unusable else ""
        # A line of its own above the other title, which a long name would run into.
        axes.set_title(f"{name}  ({len(one.tokens_N):,} examples{lost})\n", fontweight="bold", fontsize=9)
    return figure


def _draw_one_histogram(axes: Axes, lengths_N: np.ndarray, bins: np.ndarray, colour: str) -> None:
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if lengths_N.size:
        axes.hist(lengths_N, bins=bins.tolist(), color=colour, alpha=0.85)
        median = float(np.median(lengths_N))
        axes.axvline(median, color=_INK, linewidth=1)
        says = f"median {median:,.0f} (line), most {int(lengths_N.max()):,}"
        axes.set_title(says, loc="right", color=_FAINT, fontsize=8)


@_in_our_style
def mixture_shares(loader: Loader) -> Plot:
    """The mixture as planned and as handed out so far: by examples, by tokens and by loss weight.

    Examples follow the weights from draw to draw; tokens need not, for examples of one dataset are longer than those
    of another.

    Args:
        loader: that handed out some batches.
    """
    found = shares(loader.weights, stats := loader.stats())
    figure = Plot(figsize=(9, 0.9 + 0.62 * len(found)))
    axes = figure.subplots()
    kinds = (("examples", _COLOURS[0], 0.24), ("tokens", _COLOURS[1], 0.0), ("loss weight", _COLOURS[2], -0.24))
    places = np.arange(len(found))[::-1]
    for label, colour, offset in kinds:
        values = [getattr(share, label.replace(" ", "_")) for share in found]
        bars = axes.barh(places + offset, values, 0.2, color=colour, label=label)
        axes.bar_label(
            bars, [f"{value:.1%}" for value in values], padding=3, fontsize=7, color=_FAINT, zorder=3, bbox=_SHIELD
        )
    for place, share in zip(places, found, strict=True):
        label = "planned, of examples" if place == places[0] else None
        axes.plot([share.planned] * 2, [place - 0.4, place + 0.4], color=_INK, linewidth=1.6, label=label)
    axes.set_yticks(places, [share.dataset for share in found], color=_INK)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlim(0, 1.12 * max(max(share[1:]) for share in found))
    axes.set_title(f"{stats['examples']:,} examples in {stats['batches']:,} batches")
    axes.legend(loc="lower right")
    return figure


@_in_our_style
def fill_over_time(history: History) -> Plot:
    """Shares of tokens and crops that are in use, of each batch and on average.

    Raises ConfigError if the history has no batch.
    """
    fills = {"tokens": history.token_fill, "crops": history.crop_fill}
    figure = Plot(figsize=(9, 2.6))
    axes = figure.subplots()
    steps = history.steps
    for (what, fill_N), colour in zip(fills.items(), _COLOURS, strict=False):
        mean = float(fill_N.mean())
        axes.plot(
            steps, fill_N, "o-", color=colour, markersize=3, linewidth=1.2, label=f"{what}, {mean:.1%} on average"
        )
        axes.axhline(mean, color=colour, linewidth=0.8, linestyle=(0, (4, 4)))
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("batch")
    axes.set_title("In use of a batch's rows")
    axes.grid(axis="y")
    axes.legend(loc="lower right")
    return figure


@_in_our_style
def throughput(source: Loader | History | Mapping[str, Any]) -> Plot:
    """What each stage of the pipeline could do if it never waited for another, what was reached, and what limits it.

    A stage that could do a thousand times what was reached is left out.

    Args:
        source: a loader or what its `stats()` said, all of its batches; or a `History`, those after the first, for
            which nothing had been prepared.

    Raises:
        ConfigError: nothing was handed out yet; of a history, two batches at least are needed.
    """
    rows, spent = _rows_and_seconds(source)
    reached = rows / spent.total_s
    found = [pace for pace in paces(rows, spent) if pace.rows_per_s < _LEFT_OUT_AT * reached]
    figure = Plot(figsize=(9, 1.2 + 0.34 * len(found)))
    axes = figure.subplots()
    places = np.arange(len(found))[::-1]
    bars = axes.barh(places, [pace.rows_per_s for pace in found], 0.62, color=[_pace_colour(pace) for pace in found])
    says = [f"{_readable(pace.rows_per_s)}{'   sets the pace' if pace.is_limit else ''}" for pace in found]
    axes.bar_label(bars, says, padding=4, fontsize=8, color=_INK, bbox=_SHIELD)
    axes.axvline(reached, color=_INK, linewidth=1.2)
    axes.set_xscale("log")
    fastest = max(pace.rows_per_s for pace in found)
    axes.set_xlim(reached / 2, 2 * fastest * (fastest / reached) ** 0.3)
    axes.xaxis.set_major_formatter(lambda value, _: _readable(value))
    axes.set_yticks(places, [f"of it, {p.stage}" if p.stage in PARTS_OF_RENDERING else p.stage for p in found])
    axes.set_xlabel("rows a second, each stage by itself")
    waited = f"the trainer waited for {spent.wait_share:.1%} of the time"
    axes.set_title(f"{_readable(reached)} rows a second were handed out (line); {waited}")
    return figure


def _pace_colour(pace: Pace) -> str:
    return _ACCENT if pace.is_limit else _PALE if pace.stage in PARTS_OF_RENDERING else _COLOURS[0]


def _readable(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _rows_and_seconds(source: Loader | History | Mapping[str, Any]) -> tuple[float, Seconds]:
    if isinstance(source, History):
        rows, spent = (float(source.of("rows")[1:].sum()), source.seconds()) if len(source) else (0.0, Seconds())
    else:
        stats = source.stats() if isinstance(source, Loader) else source
        rows, spent = stats["rows"], Seconds(*(stats[name] for name in Seconds._fields))
    if not rows or not spent.total_s:
        raise ConfigError("throughput: too few batches to measure; take some more with next(loader) first")
    return rows, spent


@_in_our_style
def padding_and_packing(rows: Sequence[Sequence[ExampleInfo]], stage: Stage) -> Plot:
    """The same examples twice: each padded to a row of its own, and packed as the loader did; rows to one scale.

    Args:
        rows: examples of packed rows: `loader.batch_info.rows`, of one batch or several.
        stage: gives the rows' budgets: `loader.stage`.

    Raises:
        ConfigError: there is no example in the rows.
    """
    padded = one_a_row(rows)
    if not padded:
        raise ConfigError("padding_and_packing: no row has an example")
    names = sorted({example.dataset for row in rows for example in row})
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    figure = Plot(figsize=(9, 1.6 + min(9.0, 0.11 * len(padded))))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title, shown in zip(panels, ("One example a row, padded", "Packed"), (padded, rows), strict=True):
        _draw_rows(axes, shown, stage.seq_len, colours)
        use = row_use(shown, stage)
        in_use = f"{use.token_fill:.0%} of the tokens and {use.crop_fill:.0%} of the crops in use"
        axes.set_title(f"{title}: {use.num_rows:,} rows\n{in_use}")
    panels[0].set_ylim(len(padded), 0)
    panels[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("rows")
    panels[1].tick_params(left=False)
    legend = [
        *(Patch(color=colour, label=name) for name, colour in colours.items()),
        Patch(**_PADDING, label="padding"),
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=min(5, len(legend)), fontsize=8)
    return figure


def _draw_rows(axes: Axes, rows: Sequence[Sequence[ExampleInfo]], seq_len: int, colours: Mapping[str, str]) -> None:
    for number, row in enumerate(rows):
        place = (number + 0.06, 0.88)
        spans = [(example.tokens[0], example.tokens[1] - example.tokens[0]) for example in row]
        own = [colours[example.dataset] for example in row]
        axes.broken_barh(spans, place, facecolors=own, edgecolor=_GROUND, linewidth=0.5)
        end = max((example.tokens[1] for example in row), default=0)
        axes.broken_barh([(end, seq_len - end)], place, linewidth=0, **_PADDING)
    axes.set_xlim(0, seq_len)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("tokens of a row")
    axes.spines["left"].set_visible(False)
