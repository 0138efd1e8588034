"""Figures: `plot_*(data, ax=None) -> Axes` draws, `save(fig, name)` writes. No statistic is computed here.

Every `plot_*` returns the axes it drew on: `ax`, or by default the current ones or, where the size matters, new ones.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import cycle, product
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from helpers.models import EMBEDDED
from helpers.paths import output
from helpers.scenarios import CANDIDATES, SCENARIOS

COLOURS = tuple(f"C{place}" for place in range(8))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "xx", "\\\\", "++", "oo", "--")
CANDIDATE_STYLE = {"strong": ("#0072B2", "^"), "weak": ("#E69F00", "o"), "unrelated": ("#777777", "v")}
PIECES = {
    "text": {"facecolor": "#D5E7F3", "edgecolor": "#0072B2"},
    "special": {"facecolor": "#FCEBC8", "edgecolor": "#B26F00", "linestyle": "--", "linewidth": 1.4},
    "unknown": {"facecolor": "white", "edgecolor": "#999999", "hatch": "////"},
}


def use_style() -> None:
    """Sets the lab's style, with a font for Chinese characters that the `mplfonts` package ships."""
    fonts = Path(find_spec("mplfonts").origin).parent / "fonts"
    font_manager.fontManager.addfont(fonts / "NotoSansCJKsc-Regular.otf")
    plt.style.use(Path(__file__).with_name("lab.mplstyle"))


def save(fig: Figure, name: str, title: str = "") -> str:
    """Writes a figure, under a title if there is one, as `figures/<name>.png` below `paths.output()`.

    Returns:
        That relative name.
    """
    if title:
        fig.suptitle(title, weight="bold")
    path = f"figures/{name}.png"
    (output() / path).parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(output() / path, metadata={"Software": None})
    return path


def scenario_titles(keys: Sequence[str], language: str) -> list[str]:
    """Returns what a figure calls each scenario: its title, after the Chinese one where the items are, or its key."""
    titles = []
    for key in keys:
        chinese, english = SCENARIOS.get(key, ("", key))
        titles.append(f"{chinese}\n{fill(english, 12)}" if language == "zh" and chinese else fill(english, 12))
    return titles


def plot_scenario_bars(items: pd.DataFrame, column: str = "delta", ax: Axes | None = None) -> Axes:
    """Draws one bar for each of the first eight scenarios and each pooling.

    Args:
        items: Rows of one model and language with `scenario`, `pooling` and `column`, as `scores.by_item` makes them.
            Where a scenario has several items, the bar is their mean and a line its 95 % bootstrap interval.
        column: What the bars show.
        ax: Where to draw.
    """
    ax = ax or plt.gca()
    order = list(dict.fromkeys(items["scenario"]))[:8]
    style = {"errorbar": ("ci", 95), "seed": 0, "err_kws": {"linewidth": 1}}
    sns.barplot(items, x="scenario", y=column, hue="pooling", order=order, ax=ax, **style)
    for bars, hatch in zip(ax.containers, HATCHES, strict=False):
        plt.setp(bars.patches, hatch=hatch, edgecolor="white")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xticks(range(len(order)), scenario_titles(order, items["language"].iloc[0]), fontsize=8)
    ax.set(xlabel="", ylabel=column)
    ax.legend(title="pooling", loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def plot_pieces(tokens: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws a row of boxes for each tokenizer: a piece in each box, its id beneath.

    Args:
        tokens: One row for each token with `tokenizer`, `piece`, `id` and `kind`, a key of `PIECES`.
        ax: Where to draw. Axes that share their x get one scale.
    """
    ax = ax or plt.gca()
    rows = dict(list(tokens.groupby("tokenizer", sort=False)))
    for row, pieces in enumerate(rows.values()):
        end = 0.0
        for token in pieces.itertuples():
            columns = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in token.piece)
            width = max(columns + 1, 5.5)
            ax.add_patch(Rectangle((end, row - 0.25), width, 0.5, **PIECES[token.kind]))
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.5} if token.kind == "unknown" else None
            ax.text(end + width / 2, row, token.piece, ha="center", va="center", fontsize=9, bbox=paper)
            ax.text(end + width / 2, row + 0.4, str(token.id), ha="center", va="center", fontsize=7, color="#555555")
            end += width + 0.6
        ax.set_xlim(-0.3, max(end, ax.get_xlim()[1]))
    ax.set(ylim=(len(rows) - 0.4, -0.4))
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(labelbottom=False)
    return _bare(ax)


def plot_token_counts(counts: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws tokens over characters, a mark for each text, with lines at one and five characters a token.

    `counts` has one row for each text and model with `characters`, `tokens`, `language` and `model`.
    """
    ax = ax or plt.gca()
    look = {"markers": list(MARKERS[: counts["model"].nunique()]), "s": 60, "alpha": 0.6}
    sns.scatterplot(counts, x="characters", y="tokens", hue="language", style="model", ax=ax, **look)
    most = counts["tokens"].max() + 1
    for slope in (1, 5):
        ax.axline((0, 0), slope=1 / slope, color="grey", linestyle=":")
    ax.text(most, most - 1, "one character a token", va="center", color="#555555")
    ax.text(2.9 * most, 0.42 * most, "five characters a token", va="center", color="#555555")
    ax.set(xlim=(0, None), ylim=(0, most), ylabel="tokens, special ones not counted")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_token_vectors(vectors: np.ndarray, pieces: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draws the token vectors of one sentence, `(tokens, dim)`: a row for each token, a column for each dimension."""
    ax = ax or plt.gca()
    bar = {"label": "value", "extend": "both"}
    sns.heatmap(vectors, center=0, robust=True, cmap="PuOr", xticklabels=64, yticklabels=pieces, cbar_kws=bar, ax=ax)
    ax.set(xlabel="dimension", ylabel="")
    ax.tick_params(axis="both", rotation=0)
    return ax


def plot_slots(pieces: Sequence[Sequence[str]], mask: np.ndarray, lengths: np.ndarray, ax: Axes | None = None) -> Axes:
    """Draws a padded batch: a cell for each slot with its piece and its vector's length; padded slots are hatched.

    `pieces`, the attention `mask` and the vectors' `lengths` all have the shape `(batch, tokens)`.
    """
    ax = ax or plt.gca()
    texts = np.vectorize("{}\n{:.1f}".format)(pieces, lengths)
    style = {"cmap": "Blues", "linewidths": 2, "cbar_kws": {"label": "vector length"}, "annot_kws": {"color": "black"}}
    top = 2 * lengths.max()  # keeps the cells light, so that the text can be read
    sns.heatmap(lengths, annot=texts, fmt="", vmin=0, vmax=top, ax=ax, **style)
    for row, slot in np.argwhere(mask == 0):
        ax.add_patch(Rectangle((slot, row), 1, 1, fill=False, edgecolor="#888888", hatch="//", linewidth=0))
    ax.set(xlabel="slot", ylabel="sentence")
    return ax


def plot_token_cosines(
    cosines: np.ndarray, rows: Sequence[str], columns: Sequence[str], ax: Axes | None = None
) -> Axes:
    """Draws the cosines `(tokens, tokens)` of one sentence's token vectors to another's, pieces on both axes."""
    ax = ax or plt.gca()
    labels = {"xticklabels": columns, "yticklabels": rows, "cbar_kws": {"label": "cosine"}}
    sns.heatmap(cosines, annot=True, fmt=".2f", cmap="cividis", **labels, ax=ax)
    ax.tick_params(axis="both", rotation=0, length=0)
    return ax


def study_title(model: str, language: str) -> str:
    """Returns what a figure calls a study: an embedded model by its title, any other by its name."""
    return f"{EMBEDDED[model].title if model in EMBEDDED else model} ({language})"


def plot_candidates(scores: pd.DataFrame, summary: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws every cosine as a mark and each mean as a bar: a column for each pooling, a strip for each candidate.

    Args:
        scores: Rows of one model and language with `pooling`, `candidate` and `cosine`.
        summary: One row for each pooling, in the order drawn, with `delta` and `auc`, which stand under the columns,
            the largest in bold; where weak candidates were scored, `strong_over_weak` and `items`, too.
        ax: Where to draw.
    """
    ax = ax or plt.gca()
    first = ax.get_subplotspec().is_first_col()
    for place, (pooling, row) in enumerate(summary.iterrows()):
        for strip, (candidate, (colour, marker)) in enumerate(CANDIDATE_STYLE.items()):
            cosines = scores.loc[scores["pooling"].eq(pooling) & scores["candidate"].eq(candidate), "cosine"].to_numpy()
            centre = place + 0.27 * (strip - 1)
            if not len(cosines):
                ax.text(centre, 0.5, f"{candidate}: not printed", rotation=90, ha="center", va="center", color=colour)
                continue
            spread = 0.16 * (np.arange(len(cosines)) * 0.618 % 1 - 0.5)  # the golden ratio keeps neighbours apart
            size, alpha = (28, 0.8) if len(cosines) <= 30 else (8, 0.3)
            label = candidate if place == 0 else None
            ax.scatter(centre + spread, np.sort(cosines), size, colour, marker, alpha=alpha, linewidths=0, label=label)
            ax.hlines(cosines.mean(), centre - 0.12, centre + 0.12, colour, linewidth=2.5)
        over_weak = f"{row['strong_over_weak'] * row['items']:g} of {row['items']:g}" if "items" in row else "–"
        for line, text in enumerate([f"{row['delta']:.3f}", f"{row['auc']:.2f}", over_weak], start=2):
            best = line < 4 and row[("delta", "auc")[line - 2]] == summary[("delta", "auc")[line - 2]].max()
            weight = "bold" if best else "normal"
            ax.text(place, -0.07 * line, text, ha="center", weight=weight, transform=ax.get_xaxis_transform())
    if first:
        for line, name in enumerate(["Δ", "AUC", "strong > weak"], start=2):
            ax.text(-0.62, -0.07 * line, name, ha="right", transform=ax.get_xaxis_transform())
    ax.set_xticks(range(len(summary)), summary.index)
    ax.set(xlim=(-0.5, len(summary) - 0.5), ylabel="cosine" if first else "")
    return ax


def plot_candidate_map(
    scores: pd.DataFrame, items: pd.DataFrame, label_candidates: bool = True, ax: Axes | None = None
) -> Axes:
    """Draws the cosine of each query to every candidate, and rings the highest cell of each row.

    Args:
        scores: Rows of one model, language and pooling in the order of `scores.score(…, every_candidate=True)`.
        items: The scenario rows that were scored; the first eight are drawn.
        label_candidates: Whether the candidates' texts stand under the columns.
        ax: Where to draw.
    """
    ax = ax or plt.gca()
    size, shown = len(items), min(len(items), 8)
    blocks = [
        scores.loc[scores["candidate"].eq(candidate), "cosine"].to_numpy().reshape(size, size)[:shown, :shown]
        for candidate in CANDIDATES
    ]
    cosines = np.hstack(blocks)
    ax.figure.colorbar(ax.imshow(cosines, aspect="auto"), ax=ax, label="cosine", pad=0.01)
    for block, candidate in enumerate(CANDIDATES):
        centre, colour = (block + 0.5) * shown - 0.5, CANDIDATE_STYLE[candidate][0]
        ax.text(centre, 1.03, candidate, ha="center", color=colour, transform=ax.get_xaxis_transform())
        ax.axvline(block * shown - 0.5, color="white", linewidth=4)
        ax.plot(block * shown + np.arange(shown), range(shown), ".", color="white", markersize=3)
    ax.plot(cosines.argmax(axis=1), range(shown), "o", markerfacecolor="none", color="#D55E00", markersize=13, mew=2)
    columns = [_short(text) for candidate in CANDIDATES for text in items[candidate][:shown]]
    ax.set_xticks(range(3 * shown), columns if label_candidates else [], rotation=90, fontsize=8)
    ax.set_yticks(range(shown), [_short(text) for text in items["query"][:shown]], fontsize=9)
    return _bare(ax)


def plot_intervals(table: pd.DataFrame, column: str, named: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draws a statistic of each pooling with its interval, the first pooling on top.

    Args:
        table: One row for each pooling with `pooling`, `column`, `<column>_low` and `<column>_high`.
        column: The statistic.
        named: Poolings with a colour and a marker of their own; the others are grey dots.
        ax: Where to draw.
    """
    ax = ax or plt.gca()
    looks = {pooling: (f"C{place}", MARKERS[place]) for place, pooling in enumerate(named)}
    for row, line in enumerate(table.to_dict("records")):
        colour, marker = looks.get(line["pooling"], ("#999999", "."))
        ax.hlines(row, line[f"{column}_low"], line[f"{column}_high"], colour, linewidth=2)
        ax.plot(line[column], row, marker, color=colour, markersize=9)
    ax.set_yticks(range(len(table)), table["pooling"])
    ax.set(ylim=(len(table) - 0.5, -0.5))
    ax.grid(True, axis="x")
    ax.grid(False, axis="y")
    return ax


def plot_common_factor(ratios: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws ratios with the intervals that rounding leaves them, and the band that lies in all intervals.

    `ratios` has one row for each, with `low`, `ratio` and `high`; the index names them.
    """
    ax = ax or plt.gca()
    low, ratio, high = (ratios[column] for column in ("low", "ratio", "high"))
    band = low.max(), high.min()
    ax.axhspan(*band, color="C1", label=f"lies in all {len(ratios)} intervals")
    ax.errorbar(ratios.index, ratio, [ratio - low, high - ratio], fmt="o", capsize=4, label="printed, ± rounding")
    ax.set(xlabel="printed number: the first three, the last three", ylabel="token 0 / sentence vector")
    ax.set_title(f"One factor, {band[0]:.2f} to {band[1]:.2f}, explains all {len(ratios)} printed pairs")
    ax.legend()
    return ax


def plot_lengths(raw: dict[tuple[str, str], np.ndarray], normalized: dict, ax: Axes | None = None) -> Axes:
    """Draws how long sentence vectors are before and after normalizing, a mark for each.

    `raw` and `normalized` hold vectors `(texts, dim)` by (model, pooling).
    """
    ax = ax or plt.gca()
    for vectors, look, label in ((raw, "C0o", "raw"), (normalized, "C1_", "normalized")):
        for place, some in enumerate(vectors.values()):
            across = place + np.linspace(-0.25, 0.25, len(some))
            ax.plot(across, np.linalg.norm(some, axis=1), look, label="" if place else label)
    ax.set_xticks(range(len(raw)), [", ".join(key) for key in raw])
    ax.set(ylim=0, ylabel="length of the sentence vector")
    ax.set_title("Raw vectors have many lengths, normalized ones have one")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 0.15))
    return ax


def plot_winners(wins: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws how many searches each text wins against the length of its raw vector.

    `wins` has one row for each text, with `text`, `gloss`, `length`, and the wins `raw dot product` and `cosine`.
    """
    ax = ax or plt.gca()
    for label, marker in (("raw dot product", "o"), ("cosine", "^")):
        ax.plot(wins["length"], wins[label], marker, alpha=0.8, label=f"ranked by {label}")
    star = wins.loc[wins["raw dot product"].idxmax()]
    place = star["length"], star["raw dot product"]
    beside = {"textcoords": "offset points", "ha": "right", "va": "center"}
    ax.annotate(f"{star['text']}\n{star['gloss']}", place, (-10, 0), **beside)
    ax.set(xlabel="length of the sentence's raw vector", ylabel="searches that the sentence wins")
    ax.set_title(f"By raw dot product one sentence wins {place[1]} of {len(wins) - 1} searches")
    ax.margins(y=0.12)
    ax.legend(loc="center left")
    return ax


def plot_mixed_index(documents: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws one search in an index that holds raw and normalized vectors: each document's score against its cosine.

    A thin line shows how far its length lifts a raw document off its cosine. `documents` has one row for each, with
    `cosine`, `score` and `raw`; the index holds the texts.
    """
    ax = ax or plt.gca()
    for raw, marker, label in ((True, "o", "stored raw"), (False, "^", "stored normalized")):
        some = documents[documents["raw"] == raw]
        ax.plot(some["cosine"], some["score"], marker, label=label)
        ax.vlines(some["cosine"], some["cosine"], some["score"], color="#999999", linewidth=1)
    for what, column, away, side in (("dot product", "score", 10, "bottom"), ("cosine", "cosine", -10, "top")):
        text = documents[column].idxmax()
        place = documents.loc[text, "cosine"], documents.loc[text, "score"]
        said = f"first by {what}:\n{text}"
        ax.annotate(said, place, (0, away), textcoords="offset points", ha="right", va=side, fontsize=9)
    ax.margins(y=0.25)
    ax.set(xlabel="cosine to the query: how well it matches", ylabel="dot product: how it is ranked")
    ax.set_title("A worse match comes first because it was stored raw")
    ax.legend(loc="upper left")
    return ax


def plot_token_weights(weights: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws what each pooling gives each token, a row for each pooling; zeros are blank, padding is hatched.

    The index of `weights` holds the poolings, its columns the pieces; the row of `max` holds shares.
    """
    ax = ax or plt.subplots(figsize=(9.5, 4))[1]
    weights = weights.rename({"max": "max (dimensions won)"})
    style = {"cmap": "Blues", "norm": PowerNorm(0.5, 0, 1.2), "linewidths": 2, "cbar": False}
    sns.heatmap(weights, annot=True, fmt=".2f", mask=weights == 0, xticklabels=True, yticklabels=True, ax=ax, **style)
    ax.tick_params(axis="x", rotation=0, labelsize=9)
    for column in np.flatnonzero(weights.columns == "[PAD]"):
        ax.add_patch(Rectangle((column, 0), 1, len(weights), facecolor="none", edgecolor="#BBBBBB", hatch="//", lw=0))
    ax.set_title("Poolings differ in whom they listen to, and none listens to padding")
    return _bare(ax)


def plot_neighbours(cosines: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws how far a vector moves when a neighbour joins its batch: a mark for each neighbour.

    Args:
        cosines: One row for each neighbour with `text` (the sentence), `model`, `what` (how it was pooled), `pads` (the
            padding that the neighbour causes) and `cosine` (to the sentence's vector alone).
        ax: Where to draw; by default a figure of its own.
    """
    ax = ax or plt.subplots(figsize=(8, 4))[1]
    colours = {model: f"C{place}" for place, model in enumerate(cosines["model"].unique())}
    for place, ((what, model, text), rows) in enumerate(cosines.groupby(["what", "model", "text"], sort=False)):
        line, colour = rows.sort_values("pads"), colours[model]
        shape = {"marker": MARKERS[place], "markersize": 7, "markerfacecolor": "white" if "mean" in what else colour}
        label = f"{text} ({model}): {what.partition(' beside')[0]}"
        ax.plot(line["pads"], line["cosine"], "--" if "mean" in what else "-", color=colour, label=label, **shape)
    ax.set(xlabel="padding slots that the neighbour causes", ylabel="cosine to the sentence alone")
    ax.set_title("A longer neighbour moves the slice [:, 1:-1]; the masked mean stays")
    ax.legend(loc="lower left")
    return ax


def plot_poolings_apart(cosines: dict[str, pd.DataFrame], ax: Axes | None = None) -> Axes:
    """Draws the cosines between the poolings of two models in one square, one below the diagonal and one above.

    `cosines` holds two square tables by the name of their model, poolings in index and columns.
    """
    ax = ax or plt.subplots(figsize=(8.5, 5.2))[1]
    (low, below), (high, above) = cosines.items()
    both, diagonal = below.where(np.tri(len(below), dtype=bool), above), np.eye(len(below), dtype=bool)
    style = {"annot": True, "fmt": ".2f", "vmin": 0, "vmax": 1, "linewidths": 2, "cmap": "cividis"}
    sns.heatmap(both, mask=diagonal, cbar_kws={"label": "cosine"}, ax=ax, **style)
    ax.set_xticks(ax.get_xticks(), below.columns, rotation=30, ha="right")
    ax.set_title(f"Two poolings of one sentence can be far apart\n(below the diagonal {low}, above it {high})")
    return _bare(ax)


def plot_influence(tables: dict[str, pd.DataFrame]) -> Axes:
    """Draws how far a change of one token moves the state at each position, a panel for each model, two in a row.

    Args:
        tables: By the model's name, a row for each token that was changed and a column for each position; both carry
            pieces. A zero, which is exact, is hatched.

    Returns:
        The last panel's axes.
    """
    rows = (len(tables) + 1) // 2
    axes = plt.subplots(rows, 2, figsize=(9.6, 3.5 * rows), squeeze=False)[1].ravel()
    for ax in axes[len(tables) :]:
        ax.set_visible(False)
    style = {"annot": True, "fmt": ".2f", "annot_kws": {"fontsize": 9}, "xticklabels": True, "yticklabels": True}
    shade = {"cmap": "Blues", "norm": PowerNorm(0.5, 0, 3), "linewidths": 2, "cbar": False}
    for ax, (name, moved) in zip(axes, tables.items(), strict=False):
        sns.heatmap(moved, mask=moved == 0, **style, **shade, ax=ax)
        for row, column in np.argwhere(moved.to_numpy() == 0):
            ax.add_patch(Rectangle((column, row), 1, 1, facecolor="none", edgecolor="#CCCCCC", hatch="///", lw=0))
        ax.tick_params(axis="both", rotation=0, labelsize=9)
        ax.set(xlabel="position", ylabel="token changed")
        ax.set_title(name, weight="normal")
        _bare(ax)
    title = "Who may look ahead fills the square, who looks back only leaves a triangle (hatched: not one bit moved)"
    ax.figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=11)
    return ax


def plot_reach(views: dict[str, pd.Series], ax: Axes | None = None) -> Axes:
    """Draws which slots reach index 0: a row of boxes for each view, blue where a change is felt there, else hatched.

    Args:
        views: Whether each slot reaches index 0, by the name of the view; the index holds the slots' pieces.
        ax: Where to draw; by default a figure of its own.
    """
    ax = ax or plt.subplots(figsize=(9.6, 0.75 * len(views) + 0.7))[1]
    for row, reaches in enumerate(views.values()):
        for slot, (piece, felt) in enumerate(reaches.items()):
            look = {"facecolor": "#BDD7EA"} if felt else {"facecolor": "white", "hatch": "///"}
            frame = {"edgecolor": "black", "linewidth": 3} if slot == 0 else {"edgecolor": "#BBBBBB", "linewidth": 1}
            ax.add_patch(Rectangle((slot + 0.05, row - 0.35), 0.9, 0.7, **look, **frame))
            paper = None if felt else {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            ax.text(slot + 0.5, row, piece, ha="center", va="center", fontsize=9, bbox=paper)
    ax.set_yticks(range(len(views)), views)
    ax.set(xlim=(0, max(map(len, views.values()))), ylim=(len(views) - 0.5, -0.5), xlabel="slot (thick frame: index 0)")
    ax.tick_params(labelbottom=False)
    ax.set_title("One line of code, hidden[:, 0], and the slots that reach it")
    return _bare(ax)


def plot_forced(pairs: pd.DataFrame, draws: np.ndarray, ax: Axes | None = None) -> Axes:
    """Draws the cosines of pairs under many models as dots, what was printed as a diamond, what is forced as a star.

    Args:
        pairs: One row for each pair with `query`, `other`, `candidate`, `printed` (NaN where nothing was), `forced`.
        draws: Cosines `(models, pairs)`.
        ax: Where to draw; by default a figure of its own.
    """
    ax = ax or plt.subplots(figsize=(9.6, 8))[1]
    places, forced = np.arange(len(pairs)), pairs["forced"].to_numpy()
    for row, cosines in enumerate(draws):
        label = "" if row else "measured: a dot a model"
        ax.plot(cosines, places, "o", color="C5", markersize=4, alpha=0.5, label=label)
    ax.plot(pairs["printed"], places, "D", color="C4", markersize=7, label="printed by the article")
    star = {"color": "black", "markersize": 15, "label": "same first token at index 0: 1 in any causal model"}
    ax.plot(np.ones(forced.sum()), places[forced], "*", **star)
    for row in np.flatnonzero(forced & pairs["printed"].notna()):
        arrow = {"arrowstyle": "->", "color": "C4", "linewidth": 2}
        ax.annotate("", (0.96, row), (pairs["printed"].iloc[row] + 0.03, row), arrowprops=arrow)
    ax.set_yticks(places, pairs["query"] + " / " + pairs["other"] + ", " + pairs["candidate"], fontsize=9)
    ax.set(ylim=(len(pairs) - 0.5, -0.5), xlim=(None, 1.06), xlabel="cosine at index 0")
    ax.grid(True, axis="both")
    elsewhere = (forced & (pairs["printed"] < 1)).sum()
    ax.set_title(f"No weights can move a star; of {forced.sum()} such pairs the article prints {elsewhere}, elsewhere")
    ax.legend(loc="upper center", bbox_to_anchor=(0.35, -0.07), ncols=3)
    return ax


def plot_attention_share(shares: np.ndarray, even: float, ax: Axes | None = None) -> Axes:
    """Draws which share of their attention tokens pay to position 0, layer by layer: the mean and the middle half.

    Args:
        shares: The share that each token pays in each layer, `(layers, tokens)`.
        even: What position 0 would get if every token looked at all slots in sight alike.
        ax: Where to draw; by default a figure of its own.
    """
    ax = ax or plt.subplots(figsize=(8, 3.4))[1]
    layers, (low, high) = np.arange(1, len(shares) + 1), np.quantile(shares, [0.25, 0.75], axis=1)
    ax.fill_between(layers, low, high, alpha=0.25, linewidth=0, label="middle half of the tokens")
    ax.plot(layers, shares.mean(axis=1), "o-", markersize=4, label="mean of all later tokens")
    ax.axhline(even, color="black", linestyle="--", label="an even share")
    ax.set(ylim=(0, 1), xlabel="layer", ylabel="attention paid to position 0")
    ax.set_title(f"Position 0 is paid {shares.mean():.0%} of the attention; an even share is {even:.0%}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_gains(gains: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws differences from `scores.paired` with their 95 % intervals, a line at zero and the items won and lost.

    Args:
        gains: One row for each difference with `compared`, `difference`, `low`, `high`, `items_won`, `items_lost`.
        ax: Where to draw; by default a figure of its own.
    """
    ax = ax or plt.subplots(figsize=(8, 0.55 * len(gains) + 1.2))[1]
    for row, gain in enumerate(gains.itertuples()):
        ax.hlines(row, gain.low, gain.high, f"C{row}", linewidth=2.5)
        ax.plot(gain.difference, row, MARKERS[row % len(MARKERS)], color=f"C{row}", markersize=9)
        said = f"wins {gain.items_won}, loses {gain.items_lost}"
        ax.text(1.02, row, said, va="center", transform=ax.get_yaxis_transform())
    ax.axvline(0, color="black", linewidth=1)
    clear = ", ".join(gains.loc[gains["low"] > 0, "compared"]) or "none"
    ax.set_title(f"A gain that keeps clear of zero: {clear}")
    ax.set_yticks(range(len(gains)), gains["compared"])
    ax.set(ylim=(len(gains) - 0.5, -0.5), xlabel="difference in AUC against all other items, paired, 95 % interval")
    ax.grid(True, axis="x")
    ax.grid(False, axis="y")
    return ax


def plot_forest(summary: pd.DataFrame, column: str = "auc") -> Axes:
    """Draws a statistic of every pooling with its interval: a row of panels for each language, a panel for each model.

    Args:
        summary: From `scores.summary`, up to four models; the best pooling of each panel is filled, chance is dashed.
        column: A statistic between 0 and 1 whose chance level is 0.5, with `<column>_low` and `<column>_high`.

    Returns:
        The last panel's axes.
    """
    models, languages = (list(summary[name].unique())[:4] for name in ("model", "language"))
    poolings = list(summary["pooling"].unique())
    size = {"figsize": (1.5 + 2.3 * len(models), 0.8 + 0.3 * len(poolings) * len(languages)), "squeeze": False}
    axes = plt.subplots(len(languages), len(models), sharex=True, sharey=True, **size)[1]
    for (row, language), (place, model) in product(enumerate(languages), enumerate(models)):
        ax, colour = axes[row, place], f"C{place}"
        lines = summary[summary["language"].eq(language) & summary["model"].eq(model)].set_index("pooling")
        lines = lines.reindex(poolings)
        ax.hlines(range(len(poolings)), lines[f"{column}_low"], lines[f"{column}_high"], colour, linewidth=2)
        look = {"color": colour, "markersize": 7, "markerfacecolor": "white"}
        ax.plot(lines[column], range(len(poolings)), MARKERS[place], **look)
        if lines[column].notna().any():
            best = lines[column].argmax()
            ax.plot(lines[column].iloc[best], best, MARKERS[place], color=colour, markersize=9)
        ax.axvline(0.5, color="black", linestyle="--", linewidth=1)
        ax.set_title(f"{model} ({language})", weight="normal", fontsize=10)
        ax.set_yticks(range(len(poolings)), poolings)
        ax.set_ylim(len(poolings) - 0.5, -0.5)
    ax.figure.supxlabel(f"{column}, 95 % interval; the dashed line is chance", fontsize=10)
    return ax


def plot_violins(scores: pd.DataFrame, studies: Sequence[tuple[str, str]]) -> Axes:
    """Draws how the cosines of strong, weak and unrelated pairs are spread: a panel for each study, up to four.

    Args:
        scores: Rows with `model`, `language`, `pooling`, `candidate` and `cosine`; the lines are quartiles.
        studies: Models and languages.

    Returns:
        The first panel's axes.
    """
    axes = _panels(studies, (9.6, 3.5))
    look = {"palette": {name: colour for name, (colour, _) in CANDIDATE_STYLE.items()}, "hue_order": CANDIDATES}
    shape = {"inner": "quart", "cut": 0, "density_norm": "width", "linewidth": 0.8, "inner_kws": {"color": "white"}}
    for (model, language), ax in axes.items():
        rows = scores[scores["model"].eq(model) & scores["language"].eq(language)]
        sns.violinplot(rows, x="pooling", y="cosine", hue="candidate", ax=ax, **look, **shape)
        for body, hatch in zip(ax.collections, cycle(["", "//", ".."]), strict=False):
            body.set(hatch=hatch, edgecolor="white")
        for patch, hatch in zip(ax.get_legend().get_patches(), ["", "//", ".."], strict=True):
            patch.set(hatch=hatch, edgecolor="white")
        ax.get_legend().set_visible((model, language) == studies[0])
        ax.set(xlabel="", ylabel="cosine with the query")
    return next(iter(axes.values()))


def plot_scenario_heat(summary: pd.DataFrame, studies: Sequence[tuple[str, str]]) -> Axes:
    """Draws AUC for each scenario and pooling, a panel for each study, framed within 0.01 of each scenario's best.

    Args:
        summary: From `scores.summary(…, by=["scenario"])`; the first sixteen scenarios are drawn.
        studies: Models and languages, up to four.

    Returns:
        The last panel's axes.
    """
    tables = {}
    for model, language in studies[:4]:
        rows = summary[summary["model"].eq(model) & summary["language"].eq(language)]
        order = {name: list(dict.fromkeys(rows[name])) for name in ("scenario", "pooling")}
        table = rows.pivot(index="scenario", columns="pooling", values="auc")
        tables[f"{model} ({language})"] = table.loc[order["scenario"][:16], order["pooling"]]
    size = {"figsize": (2 + 2.3 * len(tables), 1.4 + 0.42 * max(map(len, tables.values())))}
    axes = plt.subplots(1, len(tables), sharey=True, squeeze=False, **size)[1][0]
    style = {"annot": True, "fmt": ".2f", "annot_kws": {"fontsize": 8}, "cmap": "cividis", "vmin": 0.4, "vmax": 1}
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        sns.heatmap(table, linewidths=1, cbar=False, xticklabels=True, yticklabels=True, ax=ax, **style)
        for row, column in np.argwhere(table.ge(table.max(axis=1) - 0.01, axis=0)):
            ax.add_patch(Rectangle((column, row), 1, 1, facecolor="none", edgecolor="#D55E00", linewidth=2.5))
        ax.set_title(title, weight="normal", fontsize=10)
        ax.set(xlabel="", ylabel="")
        ax.set_xticks(ax.get_xticks(), table.columns, rotation=45, ha="right")
        _bare(ax)
    return ax


def plot_moves(before: pd.DataFrame, after: pd.DataFrame, studies: Sequence[tuple[str, str]]) -> Axes:
    """Draws what a step does to Δ and to AUC: an arrow for each pooling, open mark to filled, a panel for each study.

    Args:
        before: One row for each study and pooling of `after`, with `model`, `language`, `pooling`, `delta`, `auc`.
        after: The same behind the step.
        studies: Models and languages, up to four.

    Returns:
        The first panel's axes.
    """
    axes = _panels(studies, (9.6, 3.3))
    key, place = ["model", "language", "pooling"], ["delta", "auc"]
    both = after.set_index(key)[place].join(before.set_index(key)[place], rsuffix=" before").reset_index()
    for (model, language), ax in axes.items():
        rows = both[both["model"].eq(model) & both["language"].eq(language)].dropna().to_dict("records")
        for colour, marker, row in zip(COLOURS, MARKERS, rows, strict=False):
            look = {"color": colour, "marker": marker, "markersize": 8, "linestyle": ""}
            old, new = (row["delta before"], row["auc before"]), (row["delta"], row["auc"])
            ax.annotate("", new, old, arrowprops={"arrowstyle": "->", "color": colour})
            ax.plot(*old, markerfacecolor="white", **look)
            ax.plot(*new, label=row["pooling"], **look)
        ax.set(xlabel="Δ = strong − unrelated", ylabel="AUC, strong against unrelated")
    first = next(iter(axes.values()))
    first.legend(title="open: before\nfilled: after")
    return first


def plot_power(power: Mapping[str, pd.DataFrame], ax: Axes | None = None) -> Axes:
    """Draws how likely so many items are to show a difference: a line for each study, and lines at 8 items and at 80 %.

    `power` holds tables from `scores.power` by the name of their study.
    """
    ax = ax or plt.subplots(figsize=(8, 4.2))[1]
    for place, (name, table) in enumerate(power.items()):
        look = {"color": f"C{place}", "marker": MARKERS[place % len(MARKERS)], "markersize": 6}
        ax.plot(table["items"], table["power"], label=name, **look)
    ax.axhline(0.8, color="black", linestyle="--", linewidth=1)
    ax.axvline(8, color="black", linestyle=":", linewidth=1.5)
    ax.text(8, 1.03, "the article's 8", ha="center")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.set(ylim=(0, 1.02), xlabel="items", ylabel="chance of finding the difference")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_verdicts(counts: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws how many claims got which verdict, a bar for each verdict, its parts being the articles.

    `counts` has the verdicts as its index, and a column of whole numbers for each article, as `ledger.counts` makes it.
    """
    ax = ax or plt.subplots(figsize=(7.5, 3.6))[1]
    counts = counts[counts.sum(axis=1) > 0]
    left = np.zeros(len(counts))
    for (article, numbers), hatch, colour in zip(counts.items(), HATCHES, COLOURS, strict=False):
        bars = ax.barh(counts.index, numbers, left=left, color=colour, hatch=hatch, edgecolor="white", label=article)
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.bar_label(bars, [number or "" for number in numbers], label_type="center", fontsize=9, bbox=paper)
        left += numbers.to_numpy()
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.grid(True, axis="x")
    ax.set(xlabel="claims")
    ax.legend(loc="lower right")
    return ax


def plot_finding(settings: pd.DataFrame, claimed: float | None = None, ax: Axes | None = None) -> Axes:
    """Draws what was measured in each setting of a claim, with its interval, and a dashed line where it was claimed.

    A filled dot stands where the claim holds, a cross where it fails, and an open dot where that is undecided.

    Args:
        settings: Rows with `setting`, `measured`, `low`, `high` and `holds`, as `ledger.numbers` makes them.
        claimed: The number that the article gives, if it gives one.
        ax: Where to draw.
    """
    ax = ax or plt.gca()
    styles = {
        "yes": {"marker": "o", "color": COLOURS[0]},
        "no": {"marker": "X", "color": COLOURS[4]},
        "undecided": {"marker": "o", "color": COLOURS[6], "markerfacecolor": "white"},
    }
    for place, row in enumerate(settings.itertuples()):
        ax.plot([row.low, row.high], [place, place], color=styles[row.holds]["color"])
        ax.plot(row.measured, place, linestyle="", markersize=7, **styles[row.holds])
    if settings["measured"].min() < 0 < settings["measured"].max():
        ax.axvline(0, color=COLOURS[6], linewidth=0.8)
    if claimed is not None:
        ax.axvline(claimed, color="black", linestyle="--", linewidth=1)
        ax.annotate("claimed", (claimed, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
    ax.set_yticks(range(len(settings)), [fill(name, 44) for name in settings["setting"]], fontsize=8)
    ax.set(ylim=(len(settings) - 0.5, -0.5))
    ax.grid(False, axis="y")
    ax.grid(True, axis="x")
    return ax


def plot_bands(bands: pd.DataFrame) -> Axes:
    """Draws how the pairs of each kind are shared out among bands of cosines: a panel for each kind of candidate.

    Args:
        bands: From `thresholds.bands`; the bars stand in its order, and the bands after `candidate`.

    Returns:
        The first panel's axes.
    """
    rows = bands.assign(row=_study_rows(bands))
    names = list(bands.columns[bands.columns.get_loc("candidate") + 1 :])
    size = (9.6, 1.5 + 0.27 * rows["row"].nunique())
    axes = plt.subplots(1, len(CANDIDATES), figsize=size, sharey=True)[1]
    looks = list(zip(plt.get_cmap("cividis")(np.linspace(1, 0, len(names))), HATCHES, strict=False))
    for ax, candidate in zip(axes, CANDIDATES, strict=True):
        shares = rows[rows["candidate"] == candidate].set_index("row")[names]
        ends = shares.cumsum(axis=1)
        for name, (colour, hatch) in zip(names, looks, strict=True):
            look = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.5, "label": name}
            ax.barh(shares.index, shares[name], left=ends[name] - shares[name], **look)
        ax.set_title(f"{candidate} pairs", weight="normal", fontsize=10)
        ax.set(xlim=(0, 1), xlabel="share of the pairs")
        ax.grid(False)
    axes[0].invert_yaxis()
    axes[-1].legend(title="cosine", loc="upper left", bbox_to_anchor=(1, 1))
    return axes[0]


def plot_ranges(ranges: pd.DataFrame, edges: Sequence[float], ax: Axes | None = None) -> Axes:
    """Draws where the cosines of each study and pooling lie: a thin line for most, a thick one for the middle half.

    Args:
        ranges: One row for each study, pooling and `kind` ("random" and another) with the quantiles 0.01, 0.25, 0.5,
            0.75 and 0.99 as columns.
        edges: Cosines at which dashed lines stand.
        ax: Where to draw; by default a figure of its own.
    """
    rows = ranges.assign(row=_study_rows(ranges))
    places = {name: place for place, name in enumerate(rows["row"].unique())}
    ax = ax or plt.subplots(figsize=(9.6, 1.3 + 0.34 * len(places)))[1]
    looks = dict(zip(rows["kind"].unique(), (("#777777", "v", 0.17), ("#0072B2", "^", -0.17)), strict=True))
    for kind, (colour, marker, aside) in looks.items():
        some = rows[rows["kind"] == kind]
        height = some["row"].map(places) + aside
        ax.hlines(height, some[0.01], some[0.99], colour, linewidth=1)
        ax.hlines(height, some[0.25], some[0.75], colour, linewidth=4)
        ax.plot(some[0.5], height, marker, color=colour, markersize=7, markeredgecolor="white", label=f"{kind} pairs")
    for edge in edges:
        ax.axvline(edge, color="#D55E00", linestyle="--", linewidth=1)
        ax.text(edge, -0.75, f"{edge:g}", color="#D55E00", ha="center", va="bottom", fontsize=9)
    ax.set_yticks(range(len(places)), places)
    ax.set(ylim=(len(places) - 0.5, -0.7), xlabel="cosine: 98 % of the pairs, the middle half, the median")
    ax.grid(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def plot_precision_recall(curves: Mapping[str, pd.DataFrame], floors: Sequence[float]) -> Axes:
    """Draws precision over recall with its 95 % interval: a panel for each question, a line for each study.

    Args:
        curves: Tables from `thresholds.curve`, one pooling for each study, by the panel's title.
        floors: The base rate of each panel, which is what guessing gets.

    Returns:
        The first panel's axes.
    """
    axes = plt.subplots(1, len(curves), figsize=(9.6, 3.9), sharey=True, squeeze=False)[1][0]
    for ax, (title, table), floor in zip(axes, curves.items(), floors, strict=True):
        for place, (name, rows) in enumerate(table.groupby(_study_rows(table), sort=False)):
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            ax.fill_between(rows["recall"], rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
            ax.plot(rows["recall"], rows["precision"], color=colour, marker=marker, markevery=(4, 10), label=name)
        ax.axhline(floor, color="black", linestyle="--", linewidth=1)
        ax.set_title(title, weight="normal", fontsize=10)
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall")
    axes[0].set_ylabel("precision")
    axes[0].legend(loc="lower left")
    return axes[0]


def plot_reliability(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Draws what was said against what was so: a panel for each table from `calibration.reliability`, by its title.

    Returns:
        The first panel's axes.
    """
    axes = plt.subplots(1, len(tables), figsize=(9.6, 4.2), sharey=True, squeeze=False)[1][0]
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        ax.axline((0, 0), slope=1, color="black", linestyle="--", linewidth=1)
        for place, (name, rows) in enumerate(table.groupby(_study_rows(table), sort=False)):
            look = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "markersize": 6}
            ends = [rows["seen"] - rows["low"], rows["high"] - rows["seen"]]
            ax.errorbar(rows["said"], rows["seen"], ends, linewidth=1, elinewidth=1, alpha=0.8, label=name, **look)
        ax.set_title(title, weight="normal", fontsize=10)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="probability said, mean of a bin")
    axes[0].set_ylabel("share of strong pairs seen, 95 % interval")
    axes[-1].legend(loc="lower right")
    return axes[0]


def plot_transfer(moves: pd.DataFrame, precision: float) -> Axes:
    """Draws what becomes of thresholds elsewhere: a panel for each currency, a mark for each threshold and place.

    Args:
        moves: One row for each with `currency`, `move` (how far from home), and which share of the pairs passes,
            `unrelated` and `strong`.
        precision: The line on which as many strong as unrelated pairs in all would give this precision.

    Returns:
        The first panel's axes.
    """
    currencies, kinds = moves["currency"].unique(), list(moves["move"].unique())
    axes = plt.subplots(1, len(currencies), figsize=(9.6, 3.7), sharey=True, squeeze=False)[1][0]
    for ax, currency in zip(axes, currencies, strict=True):
        ax.plot([0, (1 - precision) / precision], [0, 1], color="black", linestyle="--", linewidth=1)
        for place, kind in enumerate(kinds):
            some = moves[(moves["currency"] == currency) & (moves["move"] == kind)]
            look = {"color": COLOURS[place], "markersize": 5 + place, "label": kind, "clip_on": False}
            hollow = {"markerfacecolor": "none", "alpha": 0.6} if place else {}
            ax.plot(some["unrelated"], some["strong"], MARKERS[place], **look, **hollow)
        ax.set_title(currency, weight="normal", fontsize=10)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="share of unrelated pairs that pass")
    axes[0].set_ylabel("share of strong pairs that pass")
    axes[-1].legend(title="the threshold comes from", loc="lower right")
    return axes[0]


def plot_lines(
    table: pd.DataFrame, x: str, line: str, xlabel: str, ylabels: Mapping[str, str], scale: str = "log"
) -> Axes:
    """Draws lines with their 95 % bands: a row of panels for each measure, a panel for each model and language.

    Args:
        table: One row for each mark with `model`, `language`, `measure`, `value`, `low` and `high`.
        x: Its column with the place on the x axis.
        line: Its column with the line's name. Lines whose names agree up to a comma share a colour and a marker; what
            follows the comma decides the dashes.
        xlabel: What x is.
        ylabels: What each measure is called.
        scale: `log` or, where x begins at 0, `symlog`.

    Returns:
        The first panel's axes.
    """
    studies, names = dict(list(table.groupby(["model", "language"], sort=False))), list(dict.fromkeys(table[line]))
    families, kinds = (list(dict.fromkeys(name.partition(", ")[part] for name in names)) for part in (0, 2))
    size = {"figsize": (0.6 + 4.5 * max(len(studies), 1), 3.3 * len(ylabels)), "squeeze": False, "sharex": "col"}
    axes = plt.subplots(len(ylabels), max(len(studies), 1), **size)[1]
    for (row, measure), (column, study) in product(enumerate(ylabels), enumerate(studies)):
        ax, rows = axes[row, column], studies[study]
        for name, marks in rows[rows["measure"] == measure].groupby(line, sort=False):
            family, _, kind = name.partition(", ")
            place, colour = families.index(family), f"C{families.index(family)}"
            look = {"marker": MARKERS[place % len(MARKERS)], "markersize": 6, "color": colour, "label": name}
            first = kinds.index(kind) == 0
            ax.plot(marks[x], marks["value"], "-" if first else "--", markerfacecolor=colour if first else "w", **look)
            ax.fill_between(marks[x], marks["low"], marks["high"], color=colour, alpha=0.12, linewidth=0)
        ax.set_xscale(scale, base=2, **({"linthresh": 1} if scale == "symlog" else {}))
        ax.xaxis.set_major_formatter("{x:.0f}")
        ax.set(xlabel=xlabel if row == len(ylabels) - 1 else "", ylabel="" if column else ylabels[measure])
        ax.set_title("" if row else study_title(*study), weight="normal", fontsize=10)
    axes[0, 0].legend(fontsize=9)
    return axes[0, 0]


def plot_effects(effects: pd.DataFrame, row: str, mark: str, xlabel: str) -> Axes:
    """Draws values with their 95 % intervals, a panel for each model and language, and a line at zero.

    Args:
        effects: One row for each value with `model`, `language`, `value`, `low` and `high`.
        row: Its column with the name of the row.
        mark: Its column that decides colour and marker.
        xlabel: What the values are.

    Returns:
        The first panel's axes.
    """
    studies = dict(list(effects.groupby(["model", "language"], sort=False)))
    rows, marks = (list(dict.fromkeys(effects[name])) for name in (row, mark))
    size = {"figsize": (1.8 + 3.9 * len(studies), 1.1 + 0.42 * len(rows)), "squeeze": False}
    axes = plt.subplots(1, len(studies), sharey=True, **size)[1][0]
    for ax, (study, panel) in zip(axes, studies.items(), strict=True):
        for place, name in enumerate(marks):
            some = panel[panel[mark] == name]
            heights = some[row].map(rows.index) + (place - (len(marks) - 1) / 2) * 0.6 / len(marks)
            ax.hlines(heights, some["low"], some["high"], f"C{place}", linewidth=2)
            ax.plot(some["value"], heights, MARKERS[place], color=f"C{place}", markersize=7, label=name)
        ax.axvline(0, color="black", linewidth=1)
        ax.set_yticks(range(len(rows)), rows)
        ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
        ax.set_title(study_title(*study), weight="normal", fontsize=10)
        ax.locator_params(axis="x", nbins=6)
        ax.grid(True, axis="x")
        ax.grid(False, axis="y")
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return axes[0]


def plot_found(summary: pd.DataFrame, xlabel: str, floors: Mapping[str, float]) -> Axes:
    """Draws how well answers are found under each pooling, with 95 % intervals, a panel for each model and language.

    Args:
        summary: One row for each model, language and pooling with `value`, `low` and `high`.
        xlabel: What the values are.
        floors: By language, what a search without any model reaches: a dotted line.

    Returns:
        The first panel's axes.
    """
    studies = dict(list(summary.groupby(["model", "language"], sort=False)))
    poolings = list(dict.fromkeys(summary["pooling"]))
    figure = plt.figure(figsize=(1.5 + 1.9 * len(studies), 3.4))
    panels = figure.subplots(1, len(studies), sharey=True, sharex=True, squeeze=False)[0]
    for panel, ((model, language), rows) in zip(panels, studies.items(), strict=True):
        for row in rows.itertuples():
            colour, marker = {"mean": ("C0", "o"), "cls": ("C1", "s")}.get(row.pooling, ("#888888", "."))
            height = poolings.index(row.pooling)
            panel.hlines(height, row.low, row.high, colour, linewidth=2)
            panel.plot(row.value, height, marker, color=colour, markersize=8)
        if language in floors:
            panel.axvline(floors[language], color="black", linestyle=":")
        panel.set_title(f"{model}\n{language}", weight="normal", fontsize=10)
        panel.set_yticks(range(len(poolings)), poolings)
        panel.set(ylim=(len(poolings) - 0.5, -0.5), xlim=(0, 1.1 * summary["high"].max()))
        panel.locator_params(axis="x", nbins=4)
        panel.grid(True, axis="x")
        panel.grid(False, axis="y")
    figure.supxlabel(xlabel, fontsize=10)
    return panels[0]


def plot_crowd(right: np.ndarray, wrong: np.ndarray, cuts: Mapping[str, float], ax: Axes | None = None) -> Axes:
    """Draws how many right and wrong lines have which cosine, on a logarithmic scale, and some thresholds.

    Args:
        right: Cosines of questions with their answers.
        wrong: Cosines of questions with all other lines.
        cuts: Thresholds by name.
        ax: Where to draw.
    """
    ax = ax or plt.gca()
    edges = np.histogram_bin_edges(np.concatenate([right, wrong]), 40)
    ax.hist(wrong, edges, color="#BBBBBB", label=f"{len(wrong):,} wrong lines")
    look = {"histtype": "step", "linewidth": 2.2, "color": CANDIDATE_STYLE["strong"][0]}
    ax.hist(right, edges, **look, label=f"{len(right):,} right lines")
    for place, (name, cut) in enumerate(cuts.items()):
        ax.axvline(cut, color="#D55E00", linestyle=("--", ":")[place % 2], linewidth=2)
        ax.text(cut, 1.01, f"{name}: {cut:.2f}", color="#A34700", ha="center", transform=ax.get_xaxis_transform())
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set(xlabel="cosine with the question", ylabel="number of pairs")
    ax.legend(loc="upper center")
    return ax


def plot_shares(shares: pd.DataFrame, marked: Sequence[str]) -> Axes:
    """Draws what each token adds, a panel for each column and a bar for each token, in the order of the text.

    Args:
        shares: One row for each token, its index their names; the columns' names become titles.
        marked: Tokens that the reader did not write: hatched.

    Returns:
        The first panel's axes.
    """
    figure = plt.figure(figsize=(9, 0.6 + 0.24 * len(shares)))
    panels = figure.subplots(1, shares.shape[1], sharey=True, squeeze=False)[0]
    for place, (panel, title) in enumerate(zip(panels, shares, strict=True)):
        bars = panel.barh(range(len(shares)), shares[title], color=f"C{place}", height=0.75)
        for bar, token in zip(bars, shares.index, strict=True):
            if token in marked:
                bar.set(facecolor="white", edgecolor=f"C{place}", hatch="////")
        panel.set_title(title, weight="normal", fontsize=10)
        panel.set(ylim=(len(shares) - 0.4, -0.6), xlabel="part of the cosine")
        panel.set_yticks(range(len(shares)), shares.index)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.locator_params(axis="x", nbins=5)
        panel.grid(True, axis="x")
        panel.grid(False, axis="y")
    return panels[0]


def plot_map(points: np.ndarray, query: np.ndarray, near: Sequence[int], right: int, ax: Axes | None = None) -> Axes:
    """Draws lines and a query as points, the nearest by cosine ringed, the right one filled.

    Args:
        points: Of the lines, `(N, 2)`.
        query: Of the query, `(2,)`.
        near: Rows of the lines that are nearest in truth.
        right: Row of the line that answers the query.
        ax: Where to draw.
    """
    ax = ax or plt.subplots(figsize=(7.5, 4.2))[1]
    blue, red = CANDIDATE_STYLE["strong"][0], "#D55E00"
    ax.scatter(*points.T, s=16, color="#BBBBBB", label="lines")
    ring = {"s": 110, "facecolor": "none", "edgecolor": blue, "linewidth": 1.6}
    ax.scatter(*points[near].T, **ring, label=f"the {len(near)} nearest by cosine")
    ax.scatter(*points[right], s=50, color=blue, marker="^", label="the right line")
    ax.scatter(*query, s=220, color=red, marker="*", label="the question", zorder=3)
    closest = np.linalg.norm(points - query, axis=1).argmin()
    ax.scatter(*points[closest], s=70, color=red, marker="x", linewidth=2, label="nearest on the map")
    ax.set(xlabel="first component", ylabel="second component", aspect="equal")
    ax.locator_params(nbins=6)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plot_numbers(vectors: Mapping[str, np.ndarray], first: int) -> Axes:
    """Draws the first numbers of some vectors as bars, one vector below the other.

    Args:
        vectors: By title.
        first: How many numbers.

    Returns:
        The first panel's axes.
    """
    figure = plt.figure(figsize=(8, 1.5 * len(vectors) + 0.4))
    panels = figure.subplots(len(vectors), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for place, (panel, (title, vector)) in enumerate(zip(panels, vectors.items(), strict=True)):
        panel.bar(range(1, first + 1), vector[:first], color=f"C{place}", hatch=HATCHES[place], edgecolor="white")
        panel.axhline(0, color="black", linewidth=0.8)
        panel.set_title(title, weight="normal", fontsize=10)
    panels[-1].set(xlabel="number of the dimension")
    return panels[0]


def plot_learning(curves: pd.DataFrame, levels: pd.DataFrame) -> Axes:
    """Draws what training does: a row of panels for each measure, a panel for each model.

    Args:
        curves: One row for each `model`, `measure`, `arm`, `seed` and `step` with `value`; where the seed is "all",
            with the interval `low` to `high`, too. Seeds are thin lines, all of them together a thick one in its band.
        levels: What does not change, as dashed lines: one row for each with `model`, `measure`, `name` and `value`.

    Returns:
        The last panel's axes.
    """
    models, measures, arms = (list(curves[name].unique()) for name in ("model", "measure", "arm"))
    axes = plt.subplots(len(measures), len(models), figsize=(5.4 * len(models), 3.4 * len(measures)), squeeze=False)[1]
    for (row, measure), (place, model) in product(enumerate(measures), enumerate(models)):
        ax = axes[row, place]
        some = curves[curves["model"].eq(model) & curves["measure"].eq(measure)]
        last = some["step"].max()
        for arm, lines in some.groupby("arm", sort=False):
            look, marker = {"color": f"C{arms.index(arm)}"}, MARKERS[arms.index(arm) % len(MARKERS)]
            for _, line in lines[lines["seed"].ne("all")].groupby("seed"):
                ax.plot(line["step"], line["value"], linewidth=0.8, alpha=0.6, **look)
            line = lines[lines["seed"].eq("all")]
            ax.fill_between(line["step"], line["low"], line["high"], alpha=0.15, linewidth=0, **look)
            ax.plot(line["step"], line["value"], marker=marker, linewidth=2, **look)
            ax.text(1.03 * last, line["value"].iloc[-1], arm, va="center", fontsize=9, **look)
        for line in levels[levels["model"].eq(model) & levels["measure"].eq(measure)].itertuples():
            ax.axhline(line.value, color="black", linestyle="--", linewidth=1)
            ax.text(last / 2, line.value, line.name, va="bottom", ha="center", fontsize=9)
        ax.set_xlim(-0.03 * last, 1.45 * last)
        ax.set_xticks(sorted(some["step"].unique()))
        ax.set(ylabel=measure, xlabel="training steps", title=model if row == 0 else "")
    return ax


def plot_before_after(table: pd.DataFrame, levels: Mapping[str, float]) -> Axes:
    """Draws a measure before training, hollow, and after it, filled, each with its interval: a panel for each model.

    Args:
        table: One row for each `model` and `arm` with `before`, `before_low`, `before_high`, `after`, `after_low`,
            `after_high`, and the `measure`'s name.
        levels: The teacher's value for each model, as a dashed line.

    Returns:
        The last panel's axes.
    """
    sizes = table.groupby("model", sort=False).size()
    shape = {"figsize": (8, 0.55 * len(table) + 1.6), "height_ratios": list(sizes), "sharex": True, "squeeze": False}
    axes = plt.subplots(len(sizes), 1, **shape)[1][:, 0]
    for ax, (model, rows) in zip(axes, table.groupby("model", sort=False), strict=True):
        for place, row in enumerate(rows.to_dict("records")):
            for shift, when, face in ((-0.12, "before", "white"), (0.12, "after", "C0")):
                ax.hlines(place + shift, row[f"{when}_low"], row[f"{when}_high"], "C0", linewidth=2)
                ax.plot(row[when], place + shift, "o", color="C0", markerfacecolor=face, markersize=8)
        ax.axvline(levels[model], color="black", linestyle="--", linewidth=1)
        ax.set_title(model, weight="normal", fontsize=10)
        ax.set_yticks(range(len(rows)), rows["arm"])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.grid(True, axis="x")
        ax.grid(False, axis="y")
    ax.set_xlabel(f"{table['measure'].iloc[0]}: hollow before, filled after training; the dashed line is the teacher")
    return ax


def plot_train_and_read(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Draws what a model trained through one pooling is worth read through others, as a map for each measure.

    Args:
        tables: By measure, a row for each pooling that was trained through, a column for each that is read through.

    Returns:
        The last panel's axes.
    """
    axes = plt.subplots(1, len(tables), figsize=(5.2 * len(tables), 3.2), sharey=True, squeeze=False)[1][0]
    for ax, (measure, table) in zip(axes, tables.items(), strict=True):
        sns.heatmap(table, annot=True, fmt=".3f", cmap="cividis", cbar=False, linewidths=1, ax=ax)
        ax.tick_params(axis="y", rotation=0)
        ax.set_title(measure, weight="normal", fontsize=10)
        ax.set(xlabel="read through", ylabel="trained through" if ax is axes[0] else "")
    return axes[-1]


def _study_rows(table: pd.DataFrame) -> pd.Series:
    """Returns a short name for each row of a table with `model`, `language` and `pooling`."""
    return table["model"] + " (" + table["language"] + "), " + table["pooling"]


def _panels(studies: Sequence[tuple[str, str]], size: tuple[float, float]) -> dict[tuple[str, str], Axes]:
    """Returns axes for the first four studies, two in a row of `size`, with the studies as their titles."""
    rows, columns = (min(len(studies), 4) + 1) // 2, min(len(studies), 2)
    figsize = (size[0] * (1 + columns) / 3, size[1] * rows)  # a panel alone is wider, for the figure's title
    axes = plt.subplots(rows, columns, figsize=figsize, squeeze=False)[1].ravel()
    for ax in axes[len(studies) :]:
        ax.set_visible(False)
    for ax, study in zip(axes, studies, strict=False):
        ax.set_title(study_title(*study), weight="normal", fontsize=10)
    return dict(zip(studies, axes, strict=False))


def _bare(ax: Axes) -> Axes:
    """Leaves the cells of a table alone: no grid, frame or tick marks."""
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def _short(text: str) -> str:
    text = " ".join(text.split())
    width = 30 if text.isascii() else 14
    return text if len(text) <= width else text[: width - 1] + "…"
