"""Fills the generated parts of README.md and data/DATA.md, so that their numbers come from `data/results/`."""

import re
from collections.abc import Callable
from math import floor
from pathlib import Path

import pandas as pd

from helpers.claims import ARTICLES, VERDICTS
from helpers.ledger import counts
from helpers.paths import DATA
from helpers.series import about, notebooks

BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
STUDY = "data/results/05_eight_scenarios.csv"
DECODERS = "data/results/04_decoders_have_no_cls.csv"
SCALE = "data/results/06_benchmark_at_scale.csv"
COMPARISONS = "data/results/06_comparisons.csv"
ITEMS = "data/results/06_items.csv"
WITHOUT = "data/results/06_without_a_model.csv"
TRIAL = "data/results/06_claims.csv"
TRAINED, CURVES = "data/results/09_train_the_pooling.csv", "data/results/09_curves.csv"
LEDGER = "data/results/claims.csv"
BENCHMARK, BENCHMARK_FIGURE = "data/results/benchmark.csv", "figures/benchmark.png"  # `make bench` alone writes them
MEASURED = ["part", "model", "corpus", "dtype", "case", "measure"]  # what tells the rows of the benchmark apart
FASTER, SHARE = "times as fast as ", "share of embed's time"  # measures of the benchmark
COMPARED = [  # part of the benchmark, arithmetic of `embed`, and what it is compared with
    ("one pooling", "float32", "encode, default batch, float32"),
    ("one pooling", "float32", "encode, best batch, float32"),
    ("one pooling", "bfloat16", "encode, default batch, float32"),
    ("one pooling", "bfloat16", "encode, default batch, bfloat16"),
    ("one pooling", "bfloat16", "encode, best batch, bfloat16"),
    ("eight poolings", "float32", "eight encodes, float32"),
    ("eight poolings", "float32", "encode, default batch, six poolings joined, float32"),
    ("eight poolings", "float32", "encode, best batch, six poolings joined, float32"),
    ("eight poolings", "bfloat16", "eight encodes, float32"),
    ("eight poolings", "bfloat16", "encode, default batch, six poolings joined, bfloat16"),
    ("eight poolings", "bfloat16", "encode, best batch, six poolings joined, bfloat16"),
]
ALT = (  # of the benchmark's figure
    "Six panels of the benchmark. How many times as fast one embed is as one encode, for one pooling, and "
    "as eight of them, for eight; the shares of matrix products and of poolings in its time; tokens a "
    "second by the number of texts and by their length; and the memory needed beyond the vectors, for "
    "5,000 and for 20,000 texts."
)
EXAMPLES = ["B3", "F10", "E12", "A12", "E13", "F12", "F2"]  # shown beside their verdicts, if they still have them
SIGNIFICANT = 0.05  # as in helpers.scores, whose import would cost every command seconds


class FindingError(ValueError):
    """The results no longer support the README's finding; the message says in which way."""


def render(root: Path, name: str) -> str:
    """Returns the text of one of `FILES` with each generated block filled in from what lies under `root`."""
    text = (root / name).read_text(encoding="utf-8")
    return BLOCK.sub(lambda match: f"{match[1]}{FILES[name][match[2]](root)}\n{match[3]}", text)


def update(root: Path) -> list[Path]:
    """Rewrites each file that differs from its sources; returns the names of those it changed."""
    changed = []
    for name in FILES:
        if _differs(root, name):
            partial = root / "build" / "generated.partial"
            partial.parent.mkdir(exist_ok=True)
            partial.write_text(render(root, name), encoding="utf-8")
            partial.replace(root / name)
            changed.append(Path(name))
    return changed


def differences(root: Path) -> list[str]:
    """Says which files differ from what their sources give."""
    return [f"{name}: {problem}" for name in FILES if (problem := _differs(root, name))]


def _differs(root: Path, name: str) -> str:
    text = (root / name).read_text(encoding="utf-8")
    if sorted(block for _, block, _ in BLOCK.findall(text)) != sorted(FILES[name]):
        return f"it must hold each generated part once: {', '.join(FILES[name])}"
    return "its generated parts are out of date" if render(root, name) != text else ""


def finding(root: Path) -> str:
    """Returns the README's opening sentences with the numbers of the study's results under `root`.

    Raises:
        FindingError: The results no longer say what the sentences say.
    """
    summary = pd.read_csv(root / STUDY).set_index(["model", "pooling"])
    better, others, over_weak = [], [], []
    for model, title in (("e5-small", "multilingual-e5-small"), ("minilm", "all-MiniLM-L6-v2")):
        found = summary.loc[model]
        order = found["auc"]
        _require(order["mean"] > order["cls"], f"{STUDY}: mean no longer beats cls on {model}")
        widest = found["delta"].idxmax()
        _require(widest == "lasttoken", f"{STUDY}: lasttoken no longer has the widest gap on {model}")
        _require(order["mean"] > order["lasttoken"], f"{STUDY}: mean no longer beats lasttoken on {model}")
        better.append(f"{order['mean']:.2f} against {order['cls']:.2f} on {title}")
        others.append(f"{order['lasttoken']:.2f}")
        over_weak.append(f"{found.loc['mean', 'strong_over_weak'] * found.loc['mean', 'items']:.0f}")
    return (
        f"**On both encoders that we run, mean pooling sorts the article's pairs better than [CLS] (AUC "
        f"{' and '.join(better)}), as the article says; but its yardstick, the gap Δ, would crown last-token pooling, "
        f"which sorts them worse than mean (AUC {' and '.join(others)}).**\n\n"
        f"Under mean, the strong candidate beats the weak one, whose scores the article never printed, in "
        f"{' and '.join(over_weak)} of {found['items'].iloc[0]} items. Both models were trained with mean, so they "
        f"cannot speak for others."
    )


def decoders(root: Path) -> str:
    """Returns the README's sentences on position 0 of a decoder, with the numbers of the results under `root`.

    Raises:
        FindingError: The results no longer say what the sentences say.
    """
    cells = pd.read_csv(root / DECODERS).set_index(["what", "case"])["value"]
    for way in ("alone", "right, all 32"):
        said = {
            cells[f"{count}, {fate}", way]
            for count in ("must be 1", "is 1")
            for fate in ("sees nothing", "sees every slot")
        }
        _require(said == {1}, f"{DECODERS}: no longer is one printed cell 1 ({way})")
    printed = pd.read_csv(DATA / "published.csv").set_index(["scenario", "pooling"])["strong"]["metaphor", "cls"]
    return (
        "**And what the article calls [CLS] is none. Qwen3-Embedding is a causal decoder: whatever its weights, its "
        "first position sees the first token alone, so sentences that begin with one token have cosine 1 there. For "
        f"such a pair the article prints {printed:.4f}.** With padding on the left, index 0 is a padding slot; "
        "[notebook 04](notebooks/04_decoders_have_no_cls.ipynb) says what is proved then, and what is not."
    )


def scale(root: Path) -> str:
    """Returns the README's sentences on the large benchmark, with the numbers of the results under `root`.

    Raises:
        FindingError: The results no longer say what the sentences say.
    """
    table = pd.read_csv(root / SCALE).set_index(["step", "model", "language", "pooling"]).sort_index()
    summary, centred = table.loc["none"], table.loc["centred"]
    tests = pd.read_csv(root / COMPARISONS).query("compared == 'mean − cls'").set_index(["model", "language"])
    search = pd.read_csv(root / TRIAL).query("id == 'E12'").set_index("setting")
    gains, first = {}, {}
    for study in (("e5-small", "zh"), ("e5-small", "en"), ("minilm", "en")):
        rows, test = summary.loc[study], tests.loc[study]
        _require(rows.loc["mean", "delta"] > rows.loc["cls", "delta"], f"{SCALE}: Δ no longer prefers mean ({study})")
        gains[study] = f"{test['difference']:+.3f} ({test['low']:+.3f} to {test['high']:+.3f})"
        clear = test["p_holm"] <= SIGNIFICANT
        expected = study == ("e5-small", "en")
        _require(
            clear == expected and (test["difference"] < 0) == expected, f"{COMPARISONS}: another verdict ({study})"
        )
        row = search.loc[f"first of 24, {' '.join(study)}"]
        _require(row["low"] > 0, f"{TRIAL}: mean no longer comes first more often ({study})")
        first[study] = f"{float(row['measured']):.2f}"
    before, old = summary.loc[("e5-small", "zh", "cls"), ["delta", "auc"]]
    after, new = centred.loc[("e5-small", "zh", "cls"), ["delta", "auc"]]
    _require(after > 5 * before and abs(new - old) < 0.03, f"{SCALE}: centring no longer moves Δ alone")
    return (
        f"**With {summary['items'].iloc[0]} items a language instead of eight, it depends on what you ask.** By Δ, "
        f"mean beats [CLS] on every encoder here. By one threshold for all queries, the difference in AUC is "
        f"{gains['e5-small', 'zh']} on multilingual-e5-small in Chinese, {gains['e5-small', 'en']} on the same model "
        f"in English, and {gains['minilm', 'en']} on all-MiniLM-L6-v2: only the second survives a correction for "
        f"looking often, and it speaks for [CLS]. Ranked query by query, as a search does, mean is ahead on all three: "
        f"its strong candidate comes first of 24 more often by {', '.join(list(first.values())[:-1])} and "
        f"{list(first.values())[-1]}. Subtracting the mean vector takes the Δ of e5's [CLS] from {before:.3f} to "
        f"{after:.3f} and its AUC from {old:.3f} to {new:.3f}: Δ measures a scale, not a pooling ([notebook "
        "06](notebooks/06_benchmark_at_scale.ipynb))."
    )


def training(root: Path) -> str:
    """Returns the README's sentences on trained poolings, with the numbers of the results under `root`.

    Raises:
        FindingError: The results no longer say what the sentences say.
    """
    table, steps = pd.read_csv(root / TRAINED), pd.read_csv(root / CURVES)["step"].max()
    ends = dict(iter(table.groupby(["student", "measure", table["model"].eq("minilm")])))
    cls, search, shuffled = (
        ends[name, measure, True]
        for name, measure in (("cls", "auc"), ("cls", "first of 24"), ("cls, shuffled", "auc"))
    )
    last, first = (ends[name, "auc", False] for name in ("lasttoken", "position 0"))
    for rows, gains in ((cls, True), (search, True), (last, True), (shuffled, False), (first, False)):
        clear = rows["gain_low"] > 0
        _require(clear.all() if gains else not clear.any(), f"{TRAINED}: another gain of {rows['student'].iloc[0]}")
    _require((cls["left_high"] > 0).all(), f"{TRAINED}: cls no longer reaches its teacher")
    _require((search["after"] < search["teacher"]).all(), f"{TRAINED}: cls comes first as often as its teacher")

    def way(rows: pd.DataFrame) -> str:
        after = rows["after"]
        return f"from {rows['before'].iloc[0]:.3f} to between {after.min():.3f} and {after.max():.3f}"

    return (
        "**By AUC, [CLS] was only untrained.** Taught by the model's own mean vectors for "
        f"{steps} steps, on sentences without a label, the [CLS] of all-MiniLM-L6-v2 goes {way(cls)} in AUC (mean: "
        f"{cls['teacher'].iloc[0]:.3f}), in each of {len(cls)} runs; as first of 24, {way(search)}, part of the way to "
        f"mean's {search['teacher'].iloc[0]:.3f}. Taught the vectors of other sentences, its AUC goes {way(shuffled)}. "
        f"What does not see the sentence cannot learn it: the same lesson takes a decoder's last token {way(last)}, "
        f"and its position 0 {way(first)}. So ask how a model was trained before you choose a pooling ([notebook "
        "09](notebooks/09_train_the_pooling.ipynb))."
    )


def speed(root: Path) -> str:
    """Returns the README's part on speed, ratios alone, from the benchmark's table under `root`.

    Speed differs from machine to machine, so no number is refused; a dash stands where nothing was measured.
    """
    if not (root / BENCHMARK).exists():
        return "Nothing has been measured yet: `make bench` does it, and fills this in."
    table = pd.read_csv(root / BENCHMARK)
    machine = table[table["part"] == "machine"].set_index("case")["note"]
    found = table.dropna(subset="median")
    studies = found.loc[found["part"] == "one pooling", ["model", "corpus"]].drop_duplicates().to_numpy().tolist()
    heads = f"{' | '.join(map(', '.join, studies))} |\n|---|---|{'---|' * len(studies)}"
    numbers = found.drop_duplicates(MEASURED).set_index(MEASURED)[["median", "low", "high"]]

    def cells(say: Callable[[float, float, float], str], part: str, *measured: str) -> str:
        """Says median, low and high in each study; `measured` is the dtype, the case and the measure."""
        keys = [(part, *study, *measured) for study in studies]
        return " | ".join(say(*numbers.loc[key]) if key in numbers.index else "–" for key in keys)

    def times(median: float, low: float, high: float) -> str:
        return f"{median:.2f} ({low:.2f} to {high:.2f})"

    def share(median: float, low: float, high: float) -> str:
        return f"{median:.1%} ({low:.1%} to {high:.1%})"

    def rounded_down(lowest: float, *_: float) -> str:  # for 0.9999999 is not 1
        return f"{floor(lowest * 1e6) / 1e6:.6f}"

    lines = [
        f"`make bench` runs `embed` and sentence-transformers' `encode` by turns. On {machine['processor']}, "
        f"{machine['cores']} cores ({machine['instructions']}), `embed` was so many times as fast, median of the pairs "
        "and their range:",
        "",
        f"| `embed` | against | {heads}",
    ]
    for part, dtype, other in COMPARED:
        lines.append(f"| {part}, {dtype} | {other} | {cells(times, part, dtype, 'embed', FASTER + other)} |")
    lines += ["", f"| of `embed` | arithmetic | {heads}"]
    for said, part, case, measure, say in (
        ("lowest cosine with `encode` in float32", "one pooling", "embed", "lowest cosine", rounded_down),
        ("share of its time that its linear layers take, run alone", "limit", "linear layers", SHARE, share),
        ("share of its time that eight poolings take, run alone", "limit", "poolings", SHARE, share),
    ):
        for dtype in ("float32", "bfloat16"):
            lines.append(f"| {said} | {dtype} | {cells(say, part, dtype, case, measure)} |")
    said = "The linear layers run alone on the shapes that `embed` gave them; it cannot be faster than their products."
    memory = found[found["part"] == "memory"].pivot(index="texts", columns="case", values="median")
    if len(memory) and memory.notna().all(axis=None):
        most = memory.index.max()
        ours, theirs, vectors = memory.loc[most, ["embed", "encode, output_value=None", "the vectors"]]
        said += (
            f" With {most:,.0f} texts, `embed` needs {ours / vectors:.0%} of the memory of its vectors beside them; "
            f"`encode` with `output_value=None`, from whose states all poolings but `first_last_avg` can be computed, "
            f"needs {theirs / vectors:.1f} times as much as those vectors."
        )
    said = [said, *_arithmetic(found[found["part"] == "bfloat16's effect"]), "", f"![{ALT}]({BENCHMARK_FIGURE})"]
    return "\n".join([*lines, "", *said])


def _arithmetic(rows: pd.DataFrame) -> list[str]:
    """Says what bfloat16 does to the findings, and what `embed` therefore does unless it is told otherwise."""
    if rows.empty:
        return []
    largest = rows.assign(size=rows["median"].abs()).groupby(["dtype", "measure"])["size"].max()
    changed = rows[rows["measure"] == "verdict changes"]
    compared = changed["note"].str.extract(r"of (\d+)", expand=False).astype(int).sum()
    both, measure = "bfloat16 against float32", "largest change of a cosine by neighbours"
    turned = rows.loc[rows["measure"] == "lowest cosine of a text's two vectors", "median"].min()
    return [
        "",
        f"What bfloat16 does to the findings of notebook 06: in its {len(changed)} studies no pooling's AUC moves by "
        f"more than {largest[both, 'change in AUC']:.4f}, and {changed['median'].sum():.0f} of {compared} comparisons "
        f"of two poolings change their verdict. But a text's cosines then depend on its neighbours, by up to "
        f"{largest['bfloat16', measure]:.4f} against {largest['float32', measure]:.7f} in float32, and the vector that "
        f"moves most has a cosine of {turned:.3f} with the one it should be. So `embed` computes in float32 unless it "
        'is told otherwise; `dtype="bfloat16"` is for search and for drafts, not for numbers to quote or to cut at.',
    ]


def check(root: Path) -> None:
    """Raises FindingError where the results under `root` no longer support the README's sentences."""
    finding(root)
    decoders(root)
    scale(root)
    training(root)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise FindingError(f"{otherwise}, so the README's sentences must be written anew in helpers/readme.py.")


def _results(root: Path) -> str:
    lines = [
        "| model | pooling | Δ (95 % interval) | AUC (95 % interval) | strong above weak |",
        "|---|---|---|---|---|",
    ]
    for row in pd.read_csv(root / STUDY).itertuples():
        delta = f"{row.delta:.3f} ({row.delta_low:.3f} to {row.delta_high:.3f})"
        auc = f"{row.auc:.2f} ({row.auc_low:.2f} to {row.auc_high:.2f})"
        over_weak = f"{row.strong_over_weak * row.items:.0f} of {row.items}"
        lines.append(f"| {row.model} ({row.language}) | `{row.pooling}` | {delta} | {auc} | {over_weak} |")
    return "\n".join(lines)


def _notebooks(root: Path) -> str:
    lines = ["| notebook | question | minutes | models |", "|---|---|---|---|"]
    for path in notebooks(root):
        said, link = about(path), f"[{path.stem}](notebooks/{path.name})"
        lines.append(f"| {link} | {said['question']} | {said['minutes']} | {', '.join(said['models']) or '–'} |")
    return "\n".join(lines)


def _claims(root: Path) -> str:
    ledger = pd.read_csv(root / LEDGER, dtype=str, keep_default_na=False)
    numbers = counts(ledger)
    columns = [f"{name} article" for name in ARTICLES.values()]
    lines = [f"| verdict | {' | '.join(columns)} | such as |", "|---|---|---|---|"]
    for verdict in VERDICTS:
        of_it = ledger[ledger["verdict"] == verdict].set_index("id")["claim"]
        if len(of_it):
            example = next((id for id in EXAMPLES if id in of_it), of_it.index[0])
            counted = " | ".join(str(number) for number in numbers.loc[verdict, columns])
            lines.append(f"| {verdict} | {counted} | {example}: {of_it[example].replace('|', '&#124;')} |")
    return "\n".join(lines)


def _items(root: Path) -> str:
    profile = pd.read_csv(root / ITEMS)
    lines = ["| language | of the sentences | query | strong | weak | unrelated |", "|---|---|---|---|---|---|"]
    for row in profile.itertuples():
        share = "begins" in row.measure
        cells = [row.query, row.strong, row.weak, row.unrelated]
        cells = ["–" if cell != cell else f"{cell:.0%}" if share else f"{cell:.0f}" for cell in cells]
        lines.append(f"| {row.language} | {row.measure} | {' | '.join(cells)} |")
    lines += [
        "",
        "| language | without a model | strong against unrelated | strong against weak |",
        "|---|---|---|---|",
    ]
    for row in pd.read_csv(root / WITHOUT).itertuples():
        far = f"{row.auc:.2f} ({row.auc_low:.2f} to {row.auc_high:.2f})"
        near = f"{row.auc_weak:.2f} ({row.auc_weak_low:.2f} to {row.auc_weak_high:.2f})"
        lines.append(f"| {row.language} | {row.baseline} | {far} | {near} |")
    return "\n".join(lines)


FILES: dict[str, dict[str, Callable[[Path], str]]] = {
    "README.md": {
        "finding": finding,
        "scale": scale,
        "decoders": decoders,
        "training": training,
        "results": _results,
        "claims": _claims,
        "speed": speed,
        "notebooks": _notebooks,
    },
    "data/DATA.md": {"items": _items},
}
