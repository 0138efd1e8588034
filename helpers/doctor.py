"""Examines any model: what its recipe declares, what it really does, and which vectors may stand for a sentence.

`python -m helpers.doctor MODEL` prints the report. Its exit status is 0 for a sound recipe, 1 for an unsound one, and 2
where the model cannot be examined.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sentence_transformers import SentenceTransformer

from helpers import known, models, probes, scores
from helpers.diagnosis import Report
from helpers.encode import embed
from helpers.pooling import POOLINGS
from helpers.recipe import read_architecture, read_recipe, read_tokenizer
from helpers.scenarios import LANGUAGES, read

PROBE = "The lion sleeps under the old tree"  # one of its tokens is changed at a time
TEXTS = [
    "He is a lion",
    "他非常勇敢",
    "训练集准确率高但测试集差",
    "The cat sleeps.",
    "It has been raining since this morning, so the ground is wet and slippery by now",
]
RIVALS = ("cls", "mean", "lasttoken")  # the poolings that models are trained with
WORDS, FEW_WORDS = 300, 50  # of the long text; fewer where the model's limit is lower, or unknown
UNREADABLE = 0.2  # from this share of unknown tokens on, a model does not read a language
LIKE_CHANCE = 0.7  # up to here an AUC on a few items may be luck
CLEARLY = 0.01  # what a rival's interval must stay above: on a few items, intervals are rough themselves


def examine(model: SentenceTransformer | str | Path, device: str | None = None) -> Report:
    """Reads a model's recipe, then measures what it does with a few texts.

    Args:
        model: A loaded model, or what `models.load` takes: an embedded name, a folder or a hub id.
        device: Where to load it; None chooses as `models.load` does.

    Raises:
        ModelError: The model cannot be loaded, in one sentence.
    """
    if isinstance(model, SentenceTransformer):
        source = model.transformers_model.name_or_path if model.transformers_model else ""
        name = Path(source).name or "a loaded model"
    else:
        name, model = str(model).strip(), models.load(model, device)
    report = Report(name, read_recipe(model), read_architecture(model))
    try:
        vectors = probes.encode(model, TEXTS)
    except Exception as error:  # whatever its modules raise is the finding
        report.problems.append(f"encode fails on a batch of short texts ({_said(error)}).")
        return report
    report.recipe["dimension"] = vectors.shape[1]
    report.recipe["lengths"] = [round(length.item(), 4) for length in vectors.norm(dim=-1).aminmax()]
    report.problems.extend(_wrong_vectors(vectors, model))
    if not vectors.any(dim=1).all() or not vectors.isfinite().all():
        return report
    report.problems.extend(_wrong_reach(report, model))
    if _has_token_states(model):
        try:
            _measure(report, model)
            report.problems.extend(_wrong_tokens(report, model))
            report.warnings.extend(_traps(report))
        except Exception as error:  # an architecture of a kind that nobody has met yet
            report.tokenizer, report.poolings = {}, []
            report.warnings.append(f"Its tokens and poolings could not be examined ({_said(error)}).")
    else:
        first = type(model[0]).__name__
        report.warnings.append(f"It starts with {first}, which gives no token states: its poolings were not examined.")
    report.warnings.extend(_habits(report))
    _compare_with_published(report, model)
    return report


def _has_token_states(model: SentenceTransformer) -> bool:
    return getattr(model[0], "module_output_name", None) == "token_embeddings" and callable(model.tokenizer)


def _measure(report: Report, model: SentenceTransformer) -> None:
    """Fills in what running the model shows of its tokens, poolings and batches."""
    items = read().query("source in ['article', 'translation']")
    languages = dict(iter(items.groupby("language", sort=False)))
    unknown = {code: probes.unknown_share(model.tokenizer, scores.texts_of(rows)) for code, rows in languages.items()}
    report.tokenizer = read_tokenizer(model, PROBE) | {"unknown": unknown}
    report.model["attention"] = probes.attention(probes.influence(model, PROBE))
    report.recipe["effective"] = probes.effective_pooling(model, TEXTS)
    report.padded = probes.encode_in_batch(model, TEXTS)
    readable = [rows for code, rows in languages.items() if unknown[code] < UNREADABLE]
    beaten = pd.concat([_beaten(model, rows) for rows in readable]) if readable else pd.DataFrame()
    report.items = min(map(len, readable), default=0)
    auc = beaten.groupby("language").mean() if readable else beaten
    report.recipe["auc"] = auc.get(scores.RECIPE, pd.Series()).to_dict()
    report.poolings = list(_poolings(report, model, auc))
    report.warnings.extend(_rivals(report, beaten))


def _beaten(model: SentenceTransformer, items: pd.DataFrame) -> pd.DataFrame:
    """Measures for each item and pooling which share of the pairs across items its strong pair beats."""
    table = scores.score(model, "model", items, every_candidate=True, recipe=True)
    return scores.beaten(table).pivot(index=["language", "scenario"], columns="pooling", values="auc_all")


def _poolings(report: Report, model: SentenceTransformer, auc: pd.DataFrame) -> Iterator[dict]:
    """Says of each pooling whether its vector may stand for a sentence in this model, and why."""
    heard, padded = probes.hears(model, PROBE), probes.in_batch(model, TEXTS)
    vectors, effective = embed(model, TEXTS, tuple(POOLINGS)), report.recipe["effective"] or []
    means = {"mean", "mean_sqrt_len_tokens"}  # of one direction
    for name in POOLINGS:
        own = np.mean((vectors[name] * vectors[effective[0]]).sum(axis=1)) if len(effective) == 1 else None
        if heard[name] < 1:
            alone = name == "cls" and report.model["attention"] == "causal"
            verdict, why = "unsound", "position 0 sees itself alone" if alone else "the rest never reaches it"
        elif not probes.is_same(padded[report.tokenizer["padding_side"]][name], model.dtype):
            verdict, why = "unsound", "changes with its neighbours in a batch"
        elif name in effective or (name in means and means & {*effective}):
            verdict = "declared" if report.recipe["declared"] else "default"
            why = "" if name in effective else f"the direction of {effective[0]}"
        else:
            verdict, why = "untrained", "" if own is None else f"cosine {own:.3f} to {effective[0]}"
        measured = {"hears": heard[name]} | {side: cosines[name] for side, cosines in padded.items()}
        measured |= {"to_effective": None if own is None else float(own), "auc": auc.get(name, pd.Series()).to_dict()}
        yield {"pooling": name, "verdict": verdict, "why": why, **measured}


def _wrong_vectors(vectors: torch.Tensor, model: SentenceTransformer) -> Iterator[str]:
    """Says what is wrong with what encode returned for `TEXTS`, `(texts, dim)`."""
    if not vectors.isfinite().all():
        yield "Its vectors hold NaN or infinity; are the weights damaged?"
    elif not vectors.any(dim=1).all():
        yield f"{'All' if not vectors.any() else 'Some'} of its vectors are zero."
    elif torch.cosine_similarity(vectors[:, None], vectors[None], dim=-1).min() > 1 - probes.STILL:
        yield f"It gives {len(TEXTS)} different texts one and the same direction."
    if model.get_embedding_dimension() not in (None, vectors.shape[1]):
        yield f"It says {model.get_embedding_dimension()} dimensions and returns {vectors.shape[1]}."


def _wrong_reach(report: Report, model: SentenceTransformer) -> Iterator[str]:
    """Measures whether the whole of a long text reaches encode's vector, and says what does not."""
    limit, words = report.model["limit"], WORDS
    if limit is None or not callable(model.tokenizer):
        words = FEW_WORDS  # there may be a limit that nothing tells
    else:
        tokens = len(model.tokenizer(probes.long_text(words), truncation=False, verbose=False)["input_ids"])
        words = min(words, int(0.9 * limit * words / tokens))
    if words < len(PROBE.split()):
        yield f"It reads {limit} tokens of a text at most: even a short sentence is cut off."
        return
    report.recipe["words"], report.recipe["unheard"] = words, probes.unheard(model, words)
    if report.recipe["unheard"]:
        lost = " or ".join(report.recipe["unheard"])
        yield f"Changing the {lost} of {words} words does not move its vector at all."


def _wrong_tokens(report: Report, model: SentenceTransformer) -> Iterator[str]:
    """Says what is wrong with the recipe, by what was measured on tokens."""
    recipe, facts, side = report.recipe, report.model, report.tokenizer["padding_side"]
    deaf = _deaf(report)
    if deaf and len(deaf) == len(recipe["effective"]) and recipe.get("unheard"):
        yield from map(_reads_too_little, deaf)
    if not probes.is_same(report.padded[side], model.dtype):
        yield (
            f"A text's vector depends on its neighbours: in a batch, padded {side} as its tokenizer does, its "
            f"cosine to the text's vector alone falls to {report.padded[side]:.4f}."
        )
    if recipe["declared"] and recipe["effective"] != recipe["declared"]:
        computed = " + ".join(recipe["effective"] or ["none of the known poolings"])
        yield f"It declares {' + '.join(recipe['declared'])} and computes {computed}."
    if facts["positions"] and (facts["limit"] or 0) > facts["positions"]:
        yield f"It accepts {facts['limit']} tokens and has {facts['positions']} positions: longer texts fail."


def _traps(report: Report) -> Iterator[str]:
    """Warns of what trips up readers of its token states."""
    recipe, tokenizer, modes = report.recipe, report.tokenizer, report.recipe["effective"] or []
    deaf = _deaf(report)
    if len(deaf) < len(modes):
        yield from map(_reads_too_little, deaf)
    if tokenizer["padding_side"] == "left":
        also = ", and sentence-transformers before 5.5 pooled just that (its issue 3208)" if "cls" in modes else ""
        yield f"Its tokenizer pads on the left: `hidden[:, 0]`, as tutorials write [CLS], is padding in a batch{also}."
    if "cls" in modes and not tokenizer["adds_first"]:
        yield "It pools cls, but its tokenizer puts no [CLS] in front: slot 0 is the text's own first token."
    if tokenizer["padding"] in tokenizer["adds_last"]:
        yield (
            f"Padding and end are one token, {tokenizer['padding']}: a mask rebuilt as `ids != pad_token_id` drops the "
            "end, which lasttoken pools. Use the tokenizer's mask."
        )
    for language, share in tokenizer["unknown"].items():
        if share >= UNREADABLE:
            yield f"It cannot read {LANGUAGES[language]}: {share:.0%} of the tokens are unknown to it."
    if recipe["auc"] and max(recipe["auc"].values()) < LIKE_CHANCE:
        yield f"It hardly sorts the lab's {report.items} items in any language that it reads: was it trained to embed?"


def _habits(report: Report) -> Iterator[str]:
    """Warns of what trips up users of encode."""
    recipe, saved_as, (shortest, longest) = report.recipe, report.model["saved_as"] or "", report.recipe["lengths"]
    if recipe["made_up"]:
        yield (
            f"Its files declare no pooling: sentence-transformers silently takes {' + '.join(recipe['made_up'])}. How "
            "it was trained, they do not say, so measure before you use it."
        )
    if (recipe["declared_in"] or "").endswith("no mode named"):
        yield "Its Pooling names no mode: sentence-transformers silently takes mean."
    if re.search("For(Sequence|Token)Classification|ForQuestionAnswering", saved_as):
        yield f"It was saved as {saved_as}: trained to judge, not to embed."
    if longest - shortest > 0.01 * longest:
        said = (
            "It has a Normalize module, but not at the end" if recipe["normalize"] else "Nothing normalizes its vectors"
        )
        declared = " It declares the dot product as its similarity." if recipe["similarity"] == "dot" else ""
        yield (
            f"{said}: they are {shortest:.3g} to {longest:.3g} long. Take the cosine, or normalize before a dot "
            f"product, or long vectors win.{declared}"
        )
    if recipe["dense"]:
        yield (
            f"Dense ({', '.join(recipe['dense'])}) makes its vectors: `encode` applies it, while poolings of the token "
            "states, such as `helpers.encode.embed` returns, are the vectors before it."
        )
    if recipe["prompts"] and not recipe["default_prompt"]:
        roles = {"query", "document", "passage", "corpus"} & {*recipe["prompts"]}
        use = "use `encode_query` and `encode_document`" if roles else "name one with `prompt_name=`"
        yield f"It has prompts ({', '.join(recipe['prompts'])}), and `encode` adds none by itself: {use}."
    for name in ("passage", "corpus"):
        if name in recipe["prompts"] and "document" not in recipe["prompts"]:
            yield (
                f"`encode_document` does not use its prompt {name!r}: it looks for 'document' first, which "
                f"sentence-transformers fills in empty. Pass `prompt_name={name!r}`."
            )


def _rivals(report: Report, beaten: pd.DataFrame) -> Iterator[str]:
    """Warns where another pooling sorts the lab's items better than the recipe, by a paired interval."""
    effective, deaf = report.recipe["effective"] or [], [row["pooling"] for row in report.poolings if row["hears"] < 1]
    for name in [name for name in RIVALS if len(beaten) and name not in (*effective, *deaf)]:
        for language, items in beaten.groupby("language"):
            low, high = scores.interval((items[name] - items[scores.RECIPE]).to_numpy())
            if low > CLEARLY and items[name].mean() > LIKE_CHANCE:
                yield (
                    f"On the lab's {len(items)} {LANGUAGES[language]} items {name}, without prompts, sorts better than "
                    f"its own recipe (AUC {items[name].mean():.2f} against {items[scores.RECIPE].mean():.2f}, "
                    f"difference {low:.2f} to {high:.2f})."
                )


def _compare_with_published(report: Report, model: SentenceTransformer) -> None:
    """Holds the recipe and its numbers against what the makers of the model published."""
    same, reads = known.same_weights(model), report.recipe.get("effective")
    trained = known.trained_pooling(same or report.name)
    if trained and reads and trained not in reads:
        if same and report.recipe["declared"]:
            report.problems.append(
                f"Its weights are those of {models.EMBEDDED[same].title}, trained with {trained}; this recipe reads "
                f"{' + '.join(reads)}."
            )
        else:
            called = models.EMBEDDED[same].title if same else Path(report.name).name
            report.warnings.append(
                f"The makers of {called} trained it with {trained}; here it is read by {' + '.join(reads)}."
            )
    if answers := known.check(model, report.name):
        report.known = str(answers)
        if not answers.agree:
            report.problems.append("It does not give the numbers that its makers published.")


def _deaf(report: Report) -> list[dict]:
    """Returns the entries of the recipe's poolings that do not hear every token."""
    return [row for row in report.poolings if row["pooling"] in (report.recipe["effective"] or []) and row["hears"] < 1]


def _reads_too_little(row: dict) -> str:
    return f"Its recipe reads {row['pooling']}, which hears {row['hears']:.0%} of the tokens: {row['why']}."


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0].rstrip('.')}"


def main() -> int:
    """Examines one model; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.doctor", description=__doc__)
    parser.add_argument("model", help="an embedded name, a folder or a hub id")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--device", help="where to run it, such as cpu or cuda; by default the best there is")
    arguments = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")  # a Windows console may speak another code
    try:
        report = examine(arguments.model, arguments.device)
    except models.ModelError as problem:
        print(problem, file=sys.stderr)
        return 2
    except Exception as error:  # of a kind that nobody has met yet
        print(f"{arguments.model} cannot be examined ({_said(error)}).", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    with suppress(BrokenPipeError):  # a reader such as head may have seen enough
        print(report.to_json() if arguments.json else report, flush=True)
    return 0 if report.sound else 1


if __name__ == "__main__":
    sys.exit(main())
