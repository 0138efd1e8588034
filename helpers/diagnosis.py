"""What an examination of a model found, as an object, as text and as JSON."""

import json
import math
from dataclasses import asdict, dataclass, field
from textwrap import fill
from typing import Any

from helpers.scenarios import LANGUAGES

ATTENTION = {
    "causal": "causal: no later token moves an earlier state (measured)",
    "bidirectional": "bidirectional: a later token moves every earlier state (measured)",
    "mixed": "mixed: a later token moves some earlier states and not others (measured)",
    None: "not measured",
}


@dataclass
class Report:
    """What the doctor found. `str` gives it as text.

    Attributes:
        name: What the caller called the model.
        recipe: What `recipe.read_recipe` reads, and as measured: `effective`, the pooling that encode really computes;
            `dimension` and `lengths`, shortest and longest, of its vectors; which of the first, middle and last of so
            many `words` are `unheard`; `auc` on the lab's items, by language.
        model: What `recipe.read_architecture` reads, and `attention` as measured: `causal`, `bidirectional` or `mixed`.
        tokenizer: What `recipe.read_tokenizer` reads, and the share of `unknown` tokens by language.
        padded: The lowest cosine of encode's vector of a text alone to its vector in a batch padded `left` or `right`.
        poolings: For each pooling a `verdict` (`declared`; `default` where sentence-transformers chose it; `untrained`;
            `unsound`), `why`, the share of tokens it `hears`, its lowest cosines in a batch padded `left` and `right`,
            its mean cosine `to_effective`, and its `auc` on the lab's items, by language.
        items: How many items a language the AUC is measured on. It is the probability that a strong pair is closer than
            a pair across items (`auc_all` in notebook 05); 0.5 is chance.
        known: How the published numbers of the model's card came out; None where there are none.
        problems: What makes the recipe unsound, a sentence each.
        warnings: What to know before reading a vector, a sentence each.
    """

    name: str
    recipe: dict[str, Any]
    model: dict[str, Any]
    tokenizer: dict[str, Any] = field(default_factory=dict)
    padded: dict[str, float] = field(default_factory=dict)
    poolings: list[dict[str, Any]] = field(default_factory=list)
    items: int = 0
    known: str | None = None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether the recipe gives every text one vector of its own in which all of the text has a part."""
        return not self.problems

    def to_json(self) -> str:
        """Returns the report as JSON, with `sound` beside the attributes; a number that is none becomes null."""
        return json.dumps(_finite({"sound": self.sound} | asdict(self)), ensure_ascii=False, indent=2, allow_nan=False)

    def __str__(self) -> str:
        blocks = [
            f"{self.name}\n{self._verdict()}",
            _bullets("Problems", self.problems),
            _bullets("Warnings", self.warnings),
            _facts("Recipe", self._recipe()),
            _facts("Model", self._model()),
            _facts("Tokenizer", self._tokenizer()),
            self._table(),
            _bullets("Published numbers", [self.known] if self.known else []),
        ]
        return "\n\n".join(block for block in blocks if block)

    def _verdict(self) -> str:
        if self.recipe["declared"]:
            return f"The declared recipe is {'sound' if self.sound else 'UNSOUND'}."
        what = "What sentence-transformers makes up" if self.recipe["made_up"] else "What encode does"
        return f"No pooling is declared. {what} is {'not unsound' if self.sound else 'UNSOUND'}."

    def _recipe(self) -> dict[str, str]:
        recipe = self.recipe
        prompts = "; ".join(f"{key}: {text!r}" for key, text in recipe["prompts"].items()) or "none"
        prompts += f"; {recipe['default_prompt']} by default" if recipe["default_prompt"] else ""
        prompts += "; their tokens are not pooled" if recipe["include_prompt"] is False else ""
        lines = {
            "modules": " → ".join(recipe["modules"]),
            "declared pooling": f"{_joined(recipe['declared'])} ({recipe['declared_in'] or 'its files name none'})",
            "encode pools": f"{_joined(recipe['effective'])} (measured)" if self.poolings else "not measured",
            "Normalize": "yes" if recipe["normalize"] else "no",
            "Dense": ", ".join(recipe["dense"]) or "none",
            "prompts": prompts,
            "similarity": recipe["similarity"],
        }
        if "lengths" in recipe:
            lines["vectors"] = "{} numbers, {:.3g} to {:.3g} long".format(recipe["dimension"], *recipe["lengths"])
        if "unheard" in recipe:
            heard = [place for place in ("first", "middle", "last") if place not in recipe["unheard"]]
            lines["hears"] = f"of a text of {recipe['words']} words the {', '.join(heard) or 'none'} (measured)"
        if recipe.get("auc"):
            auc = ", ".join(f"{LANGUAGES[code]} {value:.2f}" for code, value in recipe["auc"].items())
            lines["AUC as declared"] = f"{auc}; on {self.items} items a language, where 0.5 is chance"
        return lines

    def _model(self) -> dict[str, str]:
        facts = self.model
        return {
            "architecture": f"{facts['architecture']}, {facts['parameters'] / 1e6:,.1f} million parameters",
            "runs": f"in {facts['dtype']} on {facts['device']}",
            "limit": f"{facts['limit']} tokens" if facts["limit"] else "none",
            "attention": ATTENTION[facts.get("attention")],
        }

    def _tokenizer(self) -> dict[str, str]:
        found = self.tokenizer
        if not found:
            return {}
        unknown = ", ".join(f"{LANGUAGES[code]} {share:.0%}" for code, share in found["unknown"].items())
        padded = ", ".join(f"{side} {cosine:.4f}" for side, cosine in self.padded.items())
        cls = found["cls"] or "none: slot 0 is the text's own first token"
        cls += ", at the end" if found["cls"] in found["adds_last"] else ""
        in_front, at_the_end = (" ".join(found[key]) or "nothing" for key in ("adds_first", "adds_last"))
        return {
            "adds": f"{in_front} in front, {at_the_end} at the end",
            "[CLS]": cls,
            "pads": f"on the {found['padding_side']} with {found['padding']}",
            "padding moves": f"a vector in a batch; lowest cosine to the text's vector alone: {padded}",
            "unknown tokens": unknown,
        }

    def _table(self) -> str:
        if not self.poolings:
            return ""
        languages = [*self.poolings[0]["auc"]]
        lines = [
            "Poolings (tokens heard; lowest cosine alone to in a batch, padded left and right; AUC without prompts)",
            f"  {'':<21}{'verdict':<10}{'hears':>6}{'left':>8}{'right':>8}"
            + "".join(f" AUC {code}" for code in languages),
        ]
        for row in self.poolings:
            numbers = f"{row['hears']:>6.0%}{row['left']:>8.4f}{row['right']:>8.4f}"
            numbers += "".join(f"{row['auc'][code]:>{5 + len(code)}.2f}" for code in languages)
            lines.append(f"  {row['pooling']:<21}{row['verdict']:<10}{numbers}  {row['why']}".rstrip())
        return "\n".join(lines)


def _joined(modes: list[str] | None) -> str:
    return " + ".join(modes or ["none"])


def _facts(title: str, lines: dict[str, str]) -> str:
    return "\n".join([title, *(_wrapped(f"  {key:<18}", value) for key, value in lines.items())]) if lines else ""


def _bullets(title: str, sentences: list[str]) -> str:
    return "\n".join([title, *(_wrapped("  - ", sentence) for sentence in sentences)]) if sentences else ""


def _wrapped(start: str, text: str) -> str:
    return fill(text, 110, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False)


def _finite(value: Any) -> Any:
    """Puts None in the place of NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
