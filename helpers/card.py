"""The recipe card: how a benchmark says a model should be read, how sure that is, and what to beware of."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape

import pandas as pd

from helpers import thresholds
from helpers.diagnosis import Report
from helpers.markup import inline
from helpers.paths import output
from helpers.scenarios import LANGUAGES
from helpers.scores import RECIPE, SIGNIFICANT, among

CHANCE = 0.5
AIMS = {"precision": 0.9, "recall": 0.9}  # of the thresholds
UNSOUND = "Do not use it: the doctor calls each of its poolings unsound."
STYLE = (
    "<style>.recipe-card{font:15px/1.5 system-ui,sans-serif;max-width:46rem;border:1px solid #bbb;border-radius:8px;"
    "padding:.2rem 1rem .6rem;margin:1rem 0}.recipe-card h3{margin:.5rem 0 0}.recipe-card dl{display:grid;"
    "grid-template-columns:9rem 1fr;gap:.2rem .8rem;margin:.5rem 0}.recipe-card dt,"
    ".recipe-card dd{float:none;width:auto;margin:0;font-weight:normal;overflow-wrap:anywhere}"
    ".recipe-card dt{color:#555;white-space:nowrap}</style>"
)


@dataclass(frozen=True)
class Card:
    """What a benchmark says of one model in one language. AUC is that of strong against unrelated pairs.

    Attributes:
        model: What the tables call the model.
        language: ISO 639-1 code.
        items: How many items the card rests on.
        advice: How to read the model, a sentence.
        best: The pooling with the highest AUC of those that the doctor does not call unsound (of all, where there is
            none): `pooling`, `auc` with its 95 % interval `low` and `high` (a little flattering, as it was picked), and
            `chosen`, the share of redraws of the items in which it comes first (not the probability that it is best).
        runner_up: The next one: `pooling` and `auc`, and by how much it is behind, `difference` with its interval `low`
            and `high` and `p_holm`; None where there is no other.
        as_good: The poolings that the paired test cannot tell from the best one, the best one first. A close relative
            is told apart at a smaller gap than one that differs item by item.
        declared: What the model's own `encode` computes, as measured.
        thresholds: For each of the `AIMS`, what `thresholds.find` found for the pooling that the advice names first,
            shares to two decimals; empty where the advice is not to use the model.
        warnings: What these items do not show, and what the doctor found.
    """

    model: str
    language: str
    items: int
    advice: str
    best: dict[str, str | float]
    runner_up: dict[str, str | float] | None
    as_good: list[str]
    declared: list[str]
    thresholds: list[dict[str, str | float]]
    warnings: list[str]


def make(
    study: tuple[str, str],
    summary: pd.DataFrame,
    tests: pd.DataFrame,
    chosen: pd.Series,
    report: Report,
    cosines: pd.DataFrame,
    doubts: Sequence[str] = (),
) -> Card:
    """Makes the card of a study.

    Args:
        study: Model and language.
        summary: From `scores.summary`, of distinct poolings.
        tests: From `scores.paired`, the measure `auc`, each of these poolings with each.
        chosen: From `scores.chosen`, of the same measure.
        report: What the doctor found in the model.
        cosines: From `scores.score`, of each of these poolings, to choose thresholds on.
        doubts: What is wrong with the items, from `audit.doubts`.
    """
    unsound = [row["pooling"] for row in report.poolings if row["verdict"] == "unsound"]
    unsound += [RECIPE] if report.problems else []
    table = among(summary, [study]).set_index("pooling").sort_values("auc", ascending=False, kind="stable")
    sound = table.drop(unsound, errors="ignore")
    table = table if sound.empty else sound
    name, first = table.index[0], table.iloc[0]
    behind = _behind(among(tests.reset_index(), [study]).query("measure == 'auc'"), name).reindex(table.index[1:])
    runner_up = None
    if len(behind):
        second = behind.iloc[0]
        runner_up = {"pooling": second.name, "auc": float(table["auc"].iloc[1]), **second.astype(float).to_dict()}
    as_good = [name, *behind.index[~(behind["p_holm"] <= SIGNIFICANT)]]
    declared = report.recipe.get("effective") or []
    verdicts = {row["pooling"]: row["verdict"] for row in report.poolings}
    own = [name for name in as_good if name == RECIPE or verdicts.get(name) in ("declared", "default")]
    own = own if len(declared) < 2 else [name for name in own if name == RECIPE]  # two in one vector are no single one
    usable = not sound.empty and first["auc_low"] > CHANCE
    interval = {"auc": float(first["auc"]), "low": float(first["auc_low"]), "high": float(first["auc_high"])}
    return Card(
        model=study[0],
        language=study[1],
        items=int(first["items"]),
        advice=UNSOUND if sound.empty else _advice(first, as_good, own, declared),
        best={"pooling": name, **interval, "chosen": float(chosen.loc[(*study, name)])},
        runner_up=runner_up,
        as_good=as_good,
        declared=declared,
        thresholds=_thresholds(among(cosines, [study]), [*own, *as_good][0]) if usable else [],
        warnings=[*doubts, *_doubts(first, report), *report.problems, *report.warnings],
    )


def _behind(tests: pd.DataFrame, best: str) -> pd.DataFrame:
    """Returns how far each pooling is behind the best one, from comparisons `second − first` that run either way."""
    rows = {}
    for _, row in tests.iterrows():
        second, _, first = row["compared"].partition(" − ")
        if best in (first, second):
            sign = 1 if second == best else -1
            low, high = sorted((sign * row["low"], sign * row["high"]))
            gap = {"difference": sign * row["difference"], "low": low, "high": high, "p_holm": row["p_holm"]}
            rows[first if second == best else second] = gap
    return pd.DataFrame.from_dict(rows, "index", columns=["difference", "low", "high", "p_holm"])


def _advice(first: pd.Series, as_good: Sequence[str], own: Sequence[str], declared: Sequence[str]) -> str:
    if not first["auc_low"] > CHANCE:
        return "Do not use it for such texts: no pooling is clearly better than chance."
    if own:
        how = "encode_query and encode_document" if own[0] == RECIPE else f"{own[0]}, as its encode does"
        return f"Read it by {how}: nothing is clearly better."
    others = f"{', '.join(as_good[1:])} may be as good" if len(as_good) > 1 else "every other pooling is clearly worse"
    against = f" Its encode takes {' + '.join(declared)}, so confirm this on texts of your own." if declared else ""
    return f"On these items, read it by {as_good[0]}; {others}.{against}"


def _thresholds(cosines: pd.DataFrame, pooling: str) -> list[dict[str, str | float]]:
    rows = cosines[cosines["pooling"] == pooling]
    found = pd.concat([thresholds.find(rows, **{aim: target}) for aim, target in AIMS.items()])
    shares = [name for name in found if name.startswith(("precision", "recall"))]
    kept = ["pooling", "aim", "target", "base_rate", *(name for name in found if name.startswith("threshold"))]
    return found.round(dict.fromkeys([*shares, "weak"], 2))[[*kept, *shares, "weak", "note"]].to_dict("records")


def _doubts(first: pd.Series, report: Report) -> list[str]:
    doubts = []
    if pd.isna(first["auc_low"]):
        doubts.append("Too few items for an interval: take nothing here for more than an anecdote.")
    if first["auc_low"] > CHANCE and first["auc_weak_high"] < CHANCE:
        doubts.append(
            "Even so, a weak candidate is mostly closer to its query than a strong one is to its own (AUC of strong "
            f"against weak {first['auc_weak']:.2f}): topic and shared words outweigh the meaning."
        )
    if report.recipe.get("prompts"):
        doubts.append(
            "Measured without its prompts: where you use them, the order of the poolings may be another, and the "
            "thresholds are."
        )
    return doubts


def save(cards: Sequence[Card], name: str) -> list[str]:
    """Writes the cards as `data/results/<name>.json` and `<name>.html` below `paths.output()`.

    Returns:
        Their relative names.
    """
    texts = {"json": to_json(cards), "html": f'<!doctype html><meta charset="utf-8">{to_html(cards)}\n'}
    for kind, text in texts.items():
        path = output() / f"data/results/{name}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [f"data/results/{name}.{kind}" for kind in texts]


def to_json(cards: Sequence[Card]) -> str:
    """Returns the cards as JSON, numbers to three decimals; a number that is none becomes null."""
    return json.dumps([_plain(asdict(card)) for card in cards], ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def to_html(cards: Sequence[Card]) -> str:
    """Returns the cards as HTML that needs nothing else and can stand in any page; all text is escaped."""
    return STYLE + "".join(map(_section, cards))


def _section(card: Card) -> str:
    best, other = card.best, card.runner_up
    lines = {
        "best pooling": f"{best['pooling']}: AUC {best['auc']:.3f} ({best['low']:.3f} to {best['high']:.3f})",
        "how sure": f"first in {best['chosen']:.0%} of redraws of the {card.items} items",
    }
    if other:
        gap = "behind by {:.3f} ({:.3f} to {:.3f})".format(
            *(_positive(other[key]) for key in ("difference", "low", "high"))
        )
        p = "p < 0.001" if other["p_holm"] < 0.001 else f"p = {other['p_holm']:.3f}"
        lines["runner-up"] = f"{other['pooling']}: AUC {other['auc']:.3f}, {gap}, {p} (Holm)"
    lines |= {
        f"for {row['aim']} {row['target']:g}": f"{row['pooling']}: {thresholds.sentence(row)}"
        for row in card.thresholds
    }
    lines["not told apart"] = ", ".join(card.as_good)
    lines["its encode takes"] = " + ".join(card.declared) or "unknown"
    facts = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in lines.items())
    warnings = "".join(f"<li>{inline(warning)}</li>" for warning in card.warnings)
    title = f"{card.model}, {LANGUAGES[card.language]}"
    return (
        f'<section class="recipe-card"><h3>{escape(title)}</h3><p><strong>{escape(card.advice)}</strong></p>'
        f"<dl>{facts}</dl>{f'<ul>{warnings}</ul>' if warnings else ''}</section>"
    )


def _positive(value: float) -> float:
    """Rounds to three decimals, and never to -0.0."""
    return round(value, 3) + 0.0


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return _positive(value) if value == value else None
    return value
