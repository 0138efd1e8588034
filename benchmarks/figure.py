"""The benchmark's one figure, drawn from its table; what was not measured is missing from it."""

from collections.abc import Iterable
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.memory import PART as PART_MEMORY
from benchmarks.speed import PART_EIGHT, PART_LENGTH, PART_LIMIT, PART_ONE, PART_SIZE
from helpers.plots import COLOURS, HATCHES, MARKERS
from helpers.readme import COMPARED, FASTER, SHARE


def draw(table: pd.DataFrame) -> Figure:
    """Draws six panels: two on how much faster, two on tokens a second, one on the limit and one on memory.

    Args:
        table: Rows as `rows.Row` has them. Lines show the range over the repetitions.
    """
    table = table.dropna(subset="median")
    figure, ((one, eight, limit), (size, length, memory)) = plt.subplots(2, 3, figsize=(16, 8))
    plot_ratios(table[table["part"] == PART_ONE], one)
    one.set_title("One pooling (marks as to the right)")
    plot_ratios(table[table["part"] == PART_EIGHT], eight)
    _legend(eight).set_title("Eight poolings")
    plot_limit(table[table["part"] == PART_LIMIT], limit)
    limit.set_title("What eight poolings spend time on")
    plot_rates(table[table["part"] == PART_SIZE], "texts", size)
    size.set(title="Corpora of several sizes", xlabel="texts")
    plot_rates(table[table["part"] == PART_LENGTH], "mean", length)
    length.set(title="Texts of several lengths", xlabel="tokens a text, on average")
    plot_memory(table[table["part"] == PART_MEMORY], memory)
    memory.set_title("Memory, eight poolings")
    figure.suptitle(message(table), weight="bold")
    return figure


def message(table: pd.DataFrame) -> str:
    """Returns the figure's title, with the numbers of the table."""
    rows = table[(table["part"] == PART_EIGHT) & (table["measure"] == f"{FASTER}eight encodes, float32")]
    rows = rows[rows["dtype"] == "float32"].dropna(subset="median")
    if rows.empty:
        return "One pass for all poolings"
    low, high = (f"{end:.0f}" for end in (rows["median"].min(), rows["median"].max()))
    said = low if low == high else f"{low} to {high}"
    return f"One pass for eight poolings is {said} times as fast as eight encodes, in float32"


def plot_ratios(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draws how many times as fast `embed` is, in the comparisons that the README makes, a mark for each study."""
    shown = pd.DataFrame(COMPARED, columns=["part", "dtype", "measure"])
    rows = rows.merge(shown.assign(measure=FASTER + shown["measure"]))
    rows["label"] = [
        f"embed, {row.dtype}, against\n{fill(row.measure.removeprefix(FASTER), 32)}"
        for row in rows.itertuples(index=False)
    ]
    labels = list(dict.fromkeys(rows["label"]))
    for place, (study, its) in enumerate(rows.groupby(["model", "corpus"], sort=False)):
        at, style = np.array([labels.index(label) for label in its["label"]]) + 0.2 * place, MARKERS[place]
        ax.errorbar(its["median"], at, xerr=_range(its), fmt=style, color=COLOURS[place], label=", ".join(study))
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set_yticks(range(len(labels)), labels, fontsize=7)
    ax.set(xlabel="times as fast", xscale="log")
    ax.grid(axis="x", which="both")
    ax.invert_yaxis()
    _mark(ax, [tick for tick in (0.5, 1, 2, 3, 5, 10, 20, 40) if tick < 1.2 * rows["high"].max()])
    return ax


def plot_limit(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draws the shares of embed's time that linear layers and poolings take when they are replayed alone."""
    rows = rows[rows["measure"] == SHARE].copy()
    rows["label"] = rows["model"] + "\n" + rows["corpus"] + "\n" + rows["dtype"]
    for place, (case, its) in enumerate(rows.groupby("case", sort=False)):
        at = np.arange(len(its)) + 0.4 * place
        style = {"color": COLOURS[place], "hatch": HATCHES[place], "edgecolor": "white", "capsize": 3}
        ax.bar(at, 100 * its["median"], 0.4, yerr=100 * _range(its), label=case, **style)
        ax.set_xticks(np.arange(len(its)) + 0.2, its["label"], fontsize=7)
    ax.set(ylabel="% of embed's time, when replayed alone", ylim=(0, 115))  # room for the legend
    return _legend(ax)


def plot_rates(rows: pd.DataFrame, by: str, ax: Axes) -> Axes:
    """Draws tokens a second over `by`: the number of texts, or their mean number of tokens."""
    counts = rows[rows["measure"] == "tokens"].drop_duplicates("corpus").set_index("corpus")
    rates = rows[rows["unit"] == "tokens/s"]
    means = counts["median"] / counts["texts"]
    at_all = rates["texts"] if by == "texts" else rates["corpus"].map(means)
    for place, (case, its) in enumerate(rates.groupby("case", sort=False)):
        at = at_all[its.index]
        style = {"marker": MARKERS[place], "color": COLOURS[place], "linestyle": ("-", "--")[place % 2], "capsize": 3}
        ax.errorbar(at, its["median"], yerr=_range(its), label=case, **style)
    ax.set(ylabel="tokens a second", ylim=(0, None))
    if len(rates):
        ax.set_xscale("log")
        _mark(ax, at_all)
    return _legend(ax, "lower right")


def plot_memory(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Draws the size of the vectors and by how much memory grows, for each number of texts; each was run once."""
    width = 0.27
    for place, (case, its) in enumerate(rows.groupby("case", sort=False)):
        style = {"color": COLOURS[place], "hatch": HATCHES[place], "edgecolor": "white"}
        label = f"{case}, beyond them" if case == "embed" else case
        bars = ax.bar(np.arange(len(its)) + width * place, its["median"], width, label=label, **style)
        ax.bar_label(bars, fmt="{:.0f}", fontsize=8)
        ax.set_xticks(np.arange(len(its)) + width, [f"{count:,.0f} texts" for count in its["texts"]])
    ax.set(ylabel="MB, at the peak")
    return _legend(ax)


def _range(rows: pd.DataFrame) -> np.ndarray:
    return np.array([rows["median"] - rows["low"], rows["high"] - rows["median"]])


def _mark(ax: Axes, at: Iterable[float]) -> None:
    """Writes plain numbers on a logarithmic axis, at these places alone."""
    at = sorted(set(at))
    ax.set_xticks(at, [f"{tick:,.0f}" if tick >= 1 else f"{tick:g}" for tick in at])
    ax.minorticks_off()


def _legend(ax: Axes, where: str = "best") -> Axes:
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8, loc=where)
    return ax
