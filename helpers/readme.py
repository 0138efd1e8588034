"""Fills the README's generated parts, so that every number in it comes from `data/results/`."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from helpers.paths import DATA
from helpers.series import about, notebooks

BLOCK = re.compile(r"(<!-- generated: (finding|decoders|results|notebooks) -->\n).*?(<!-- end -->)", re.DOTALL)
STUDY = "data/results/05_eight_scenarios.csv"
DECODERS = "data/results/04_decoders_have_no_cls.csv"


class FindingError(ValueError):
    """The results no longer support the README's finding; the message says in which way."""


def render(root: Path) -> str:
    """Returns the README's text with each generated block filled in from the results and notebooks under `root`."""
    text = (root / "README.md").read_text(encoding="utf-8")
    return BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]](root)}\n{match[3]}", text)


def update(root: Path) -> list[Path]:
    """Rewrites the README where it differs from its sources; returns the names of the files it changed."""
    if not differences(root):
        return []
    partial = root / "build" / "README.partial"
    partial.parent.mkdir(exist_ok=True)
    partial.write_text(render(root), encoding="utf-8")
    partial.replace(root / "README.md")
    return [Path("README.md")]


def differences(root: Path) -> list[str]:
    """Says whether the README differs from what its sources give."""
    text = (root / "README.md").read_text(encoding="utf-8")
    if sorted(name for _, name, _ in BLOCK.findall(text)) != sorted(BLOCKS):
        return [f"README.md: it must hold each generated part once: {', '.join(BLOCKS)}"]
    return ["README.md: its generated parts are out of date"] if render(root) != text else []


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


def check(root: Path) -> None:
    """Raises FindingError where the results under `root` no longer support the README's sentences."""
    finding(root)
    decoders(root)


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
        lines.append(f"| {link} | {said['question']} | {said['minutes']} | {', '.join(said['models'])} |")
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[Path], str]] = {
    "finding": finding,
    "decoders": decoders,
    "results": _results,
    "notebooks": _notebooks,
}
