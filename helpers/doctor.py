"""Examines any model: what its recipe declares, what it really does, and which vectors may stand for a sentence.

`python -m helpers.doctor MODEL` prints the report. Its exit status is 0 for a sound recipe, 1 for an unsound one, and 2
where the model cannot be examined.
"""

import argparse
import json
import re
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from helpers import known, models, probes, scores
from helpers.encode import embed
from helpers.paths import MODELS
from helpers.pooling import POOLINGS
from helpers.scenarios import LANGUAGES, read

PROBE = "The lion sleeps under the old tree"  # one of its tokens is changed at a time
TEXTS = [
    "He is a lion",
    "他非常勇敢",
    "训练集准确率高但测试集差",
    "The cat sleeps.",
    "It has been raining since this morning, so the ground is wet and slippery by now",
]
SIDES = ("left", "right")
TRAINED = ("cls", "mean", "lasttoken")  # what models are trained with; only these rival the declared pooling
# How the makers of well-known models pool, by their model cards; a pattern matches the last part of a hub id.
PUBLISHED = {
    r"all-(MiniLM|mpnet|distilroberta)-.*": "mean",
    r"paraphrase-multilingual-(MiniLM|mpnet)-.*|text2vec-base-chinese|m3e-(small|base|large)": "mean",
    r"(multilingual-)?e5-(small|base|large)(-v2)?": "mean",
    r"bge-(small|base|large)-(en|zh)(-v1\.5)?|bge-m3|snowflake-arctic-embed-.*": "cls",
    r"Qwen3-Embedding-(0\.6B|4B|8B)": "lasttoken",
    r"embeddinggemma-300m": "mean",
}
SAME = {torch.float32: 0.9999, torch.float16: 0.999, torch.bfloat16: 0.995}  # a cosine from here on is rounding
UNREADABLE = 0.2  # from this share of unknown tokens on, a model does not read a language
SORTS = 0.7  # an AUC from here on is more than chance on the lab's few items
LONG = 1024  # a limit of so many tokens is tried out; above, only the positions are compared with it


@dataclass(frozen=True)
class Report:
    """What an examination found. `str` gives it as text, `to_json` for programs.

    Attributes:
        name: What the caller called the model.
        recipe: Modules, declared and effective pooling, Normalize, Dense, prompts, similarity, lengths of the vectors.
        model: Architecture, width, parameters, dtype, device, limit in tokens, and `attention` as measured: `causal`,
            `bidirectional` or `mixed`.
        tokenizer: What it adds, `[CLS]`, padding, share of unknown tokens by language.
        padded: The lowest cosine of encode's vector of a text alone to its vector in a batch, padded `left` or `right`.
        poolings: For each pooling a `verdict` (`declared`; `default` where sentence-transformers chose it; `untrained`;
            `unsound`), `why`, the share of tokens it `hears`, its lowest cosines in a batch padded `left` and `right`,
            its cosine `to_declared`, and its `auc` on the lab's items, by language.
        known: How the published numbers of the model's card came out; None where there are none.
        problems: What makes the declared recipe unsound, a sentence each.
        warnings: What to know before reading a vector, a sentence each.
    """

    name: str
    recipe: dict
    model: dict
    tokenizer: dict
    padded: dict
    poolings: list[dict]
    known: str | None
    problems: list[str]
    warnings: list[str]

    @property
    def sound(self) -> bool:
        """Whether the recipe gives every text one vector of its own in which all of the text has a part."""
        return not self.problems

    def to_json(self) -> str:
        """Returns the report as JSON, with `sound` beside the attributes."""
        return json.dumps({"sound": self.sound} | asdict(self), ensure_ascii=False, indent=2)

    def __str__(self) -> str:
        return _as_text(self)


def examine(model: SentenceTransformer | str | Path, device: str | None = None) -> Report:
    """Reads a model's recipe, then measures what it does with a few texts.

    Args:
        model: A loaded model, or what `models.load` takes: an embedded name, a folder or a hub id.
        device: Where to load it; None chooses as `models.load` does.

    Raises:
        ModelError: The model cannot be loaded, in one sentence.
    """
    name = "A loaded model"
    if not isinstance(model, SentenceTransformer):
        name, model = str(model).strip(), models.load(model, device)
    report = Report(name, _recipe(model), _architecture(model), {}, {}, [], None, [], [])
    try:
        vectors = model.encode(TEXTS, batch_size=len(TEXTS), show_progress_bar=False, convert_to_tensor=True).float()
    except Exception as error:  # whatever its modules raise is the finding
        said = str(error).strip().partition("\n")[0].rstrip(".")
        report.problems.append(f"encode fails on a batch of short texts ({type(error).__name__}: {said}).")
        return report
    report.recipe["dimension"] = vectors.shape[1]
    report.recipe["lengths"] = [round(length.item(), 4) for length in vectors.norm(dim=-1).aminmax()]
    _judge_vectors(report, model, vectors)
    if not vectors.isfinite().all():
        return report
    if isinstance(model[0], Transformer):
        _measure(report, model)
    else:
        first = type(model[0]).__name__
        report.warnings.append(f"It starts with {first}, no Transformer: tokens and poolings were not examined.")
    if answers := known.check(model, name):
        report = replace(report, known=str(answers))
        if not answers.agree:
            report.problems.append(f"It does not give the numbers of its model card: {answers}.")
    return report


def _recipe(model: SentenceTransformer) -> dict:
    """Reads what the model's files and modules declare."""
    pooling = _module(model, Pooling)
    mode, declared_in = _mode(pooling) if pooling else None, _declaration(model)
    return {
        "modules": [_title(module) for module in model],
        "declared": mode if declared_in else None,
        "declared_in": declared_in,
        "made_up": None if declared_in else mode,
        "effective": None,
        "normalize": _module(model, Normalize) is not None,
        "dense": [f"{module.in_features} → {module.out_features}" for module in model if isinstance(module, Dense)],
        "prompts": {key: text for key, text in model.prompts.items() if text},
        "default_prompt": model.default_prompt_name,
        "pools_prompt": pooling.include_prompt if pooling else None,
        "similarity": model.similarity_fn_name,
    }


def _declaration(model: SentenceTransformer) -> str | None:
    """Says where a model's pooling is declared, and in which of the two forms; None for a plain checkpoint."""
    folder = Path(model.transformers_model.name_or_path) if model.transformers_model else Path()
    listed = folder / "modules.json"
    if not listed.is_file():
        return None if (folder / "config.json").is_file() else "the modules as loaded"
    for module in json.loads(listed.read_text(encoding="utf-8")):
        if module["type"].endswith(".Pooling"):
            file = folder / module["path"] / "config.json"
            keys = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            switched_on = [key for key, value in keys.items() if key.startswith("pooling_mode_") and value]
            form = "old form, a switch for each mode" if switched_on else "no mode named"
            return f"{module['path']}/config.json, {'new form' if 'pooling_mode' in keys else form}"
    return "modules.json, without a Pooling"


def _architecture(model: SentenceTransformer) -> dict:
    facts = {"parameters": sum(weight.numel() for weight in model.parameters())}
    facts |= {"dtype": str(model.dtype).removeprefix("torch."), "device": str(model.device)}
    facts |= {"limit": model.max_seq_length, "attention": None}
    if model.transformers_model is None:
        return {"architecture": type(model[0]).__name__} | facts
    config = model.transformers_model.config
    names = ("hidden_size", "num_hidden_layers", "max_position_embeddings")
    facts |= dict(zip(("width", "layers", "positions"), (getattr(config, name, None) for name in names), strict=True))
    saved_as = (getattr(config, "architectures", None) or [None])[0]
    return {"architecture": type(model.transformers_model).__name__, "saved_as": saved_as} | facts


def _tokenizer(model: SentenceTransformer, texts: dict[str, list[str]]) -> dict:
    """Says what the tokenizer adds, and which share of each language it cannot read."""
    tokenizer = model.tokenizer
    got = tokenizer(PROBE, return_special_tokens_mask=True)
    tokens, special = tokenizer.convert_ids_to_tokens(got["input_ids"]), got["special_tokens_mask"]
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    unknown = {}
    for language, sentences in texts.items():
        ids = [token for row in tokenizer(sentences, add_special_tokens=False)["input_ids"] for token in row]
        unknown[language] = round(ids.count(tokenizer.unk_token_id) / len(ids), 4) if ids else 1.0
    return {
        "adds_first": tokens[:first],
        "adds_last": tokens[last:],
        "cls": tokenizer.cls_token if tokenizer.cls_token in tokens[:first] else None,
        "padding_side": tokenizer.padding_side,
        "padding": tokenizer.pad_token,
        "unknown": unknown,
    }


def _measure(report: Report, model: SentenceTransformer) -> None:
    """Fills in what running the model on tokens shows, and judges it."""
    items = read().query("source in ['article', 'translation']")
    languages = dict(iter(items.groupby("language", sort=False)))
    texts = {code: scores.texts_of(rows) for code, rows in languages.items()}
    report.tokenizer.update(_tokenizer(model, texts))
    report.model["attention"] = probes.attention(model, PROBE)
    report.recipe["effective"] = probes.effective_pooling(model, TEXTS)
    report.padded.update({side: round(probes.encode_in_batch(model, TEXTS, side), 4) for side in SIDES})
    readable = [code for code, share in report.tokenizer["unknown"].items() if share < UNREADABLE]
    beaten = pd.concat([_beaten(model, languages[code]) for code in readable]) if readable else None
    report.poolings.extend(_poolings(report, model, beaten))
    _judge_tokens(report, model)
    _judge_rivals(report, beaten)


def _beaten(model: SentenceTransformer, items: pd.DataFrame) -> pd.DataFrame:
    """Measures, for each pooling and item, which share of the pairs across items its strong pair beats."""
    table = scores.score(model, "model", items, every_candidate=True, recipe=True)
    return scores.beaten(table).pivot(index=["language", "scenario"], columns="pooling", values="auc_all")


def _poolings(report: Report, model: SentenceTransformer, beaten: pd.DataFrame | None) -> list[dict]:
    """Says of each pooling whether its vector may stand for a sentence in this model, and why."""
    heard, same = probes.hears(model, PROBE), SAME[model.dtype]
    padded = {side: probes.in_batch(model, TEXTS, side) for side in SIDES}
    own_side, effective = report.tokenizer["padding_side"], report.recipe["effective"]
    modes = (effective or "").split(" + ")
    directions = {*modes, *({"mean", "mean_sqrt_len_tokens"} if effective in ("mean", "mean_sqrt_len_tokens") else ())}
    vectors = embed(model, TEXTS, tuple(POOLINGS))
    rows = []
    for name in POOLINGS:
        row = {
            "pooling": name,
            "hears": round(heard[name], 4),
            **{side: round(padded[side][name], 4) for side in SIDES},
        }
        own = float(np.mean((vectors[name] * vectors[effective]).sum(axis=1))) if effective in vectors else None
        row["to_declared"] = None if own is None else round(own, 4)
        row["auc"] = {} if beaten is None else beaten[name].groupby("language").mean().round(4).to_dict()
        if heard[name] < 1:
            alone = name == "cls" and report.model["attention"] == "causal"
            verdict, why = "unsound", "position 0 sees itself alone" if alone else "the rest never reaches it"
        elif padded[own_side][name] < same:
            verdict, why = "unsound", "changes with its neighbours in a batch"
        elif name in directions:
            verdict = "declared" if report.recipe["declared"] else "default"
            why = "" if name in modes else f"the direction of {effective}"
        else:
            verdict, why = "untrained", "" if own is None else f"cosine {own:.3f} to {effective}"
        rows.append(row | {"verdict": verdict, "why": why})
    return rows


def _judge_vectors(report: Report, model: SentenceTransformer, vectors: torch.Tensor) -> None:
    """Judges what `encode` returned for `TEXTS`, `(texts, dim)`."""
    recipe, (shortest, longest) = report.recipe, report.recipe["lengths"]
    if not vectors.isfinite().all():
        report.problems.append("Its vectors hold NaN or infinity; are the weights damaged?")
    alike = torch.cosine_similarity(vectors[:, None], vectors[None], dim=-1).min().item()
    if alike > 1 - 1e-6:
        report.problems.append("It gives five different texts one and the same direction.")
    if model.get_embedding_dimension() not in (None, vectors.shape[1]):
        report.problems.append(f"It says {model.get_embedding_dimension()} dimensions and returns {vectors.shape[1]}.")
    if longest - shortest > 0.01 * longest:
        said = (
            "It has a Normalize module, but not at the end" if recipe["normalize"] else "Nothing normalizes its vectors"
        )
        report.warnings.append(
            f"{said}: they are {shortest:.3g} to {longest:.3g} long. Take the cosine, or normalize before a dot "
            "product, or long vectors win"
            + (" (it declares the dot product as its similarity)." if recipe["similarity"] == "dot" else ".")
        )
    if recipe["dense"]:
        report.warnings.append(
            f"Dense ({', '.join(recipe['dense'])}) makes its vectors: `encode` applies it, while poolings of the "
            "token states, such as `helpers.encode.embed` returns, are the vectors before it."
        )


def _judge_tokens(report: Report, model: SentenceTransformer) -> None:
    """Judges the recipe by what was measured on tokens."""
    recipe, tokenizer, facts = report.recipe, report.tokenizer, report.model
    problems, warnings, same, side = report.problems, report.warnings, SAME[model.dtype], tokenizer["padding_side"]
    other = "left" if side == "right" else "right"
    modes = (recipe["effective"] or "").split(" + ")
    deaf = [row for row in report.poolings if row["pooling"] in modes and row["hears"] < 1]
    for row in deaf:
        said = f"Its recipe reads {row['pooling']}, which hears {row['hears']:.0%} of the tokens: {row['why']}."
        (problems if len(deaf) == len(modes) else warnings).append(said)
    if report.padded[side] < same:
        problems.append(
            f"A text's vector depends on its neighbours: in a batch, padded {side} as its tokenizer does, its cosine "
            f"to the vector of the text alone falls to {report.padded[side]:.4f}."
        )
    if report.padded[other] < same:
        warnings.append(
            f"Padding on the {other} would change its vectors (cosine down to {report.padded[other]:.4f}); leave the "
            f"tokenizer's side, {side}, as it is."
        )
    if recipe["declared"] and recipe["effective"] != recipe["declared"]:
        problems.append(
            f"It declares {recipe['declared']} and computes {recipe['effective'] or 'none of the poolings'}."
        )
    if recipe["made_up"]:
        warnings.append(
            f"No recipe comes with these weights: sentence-transformers silently pools them by {recipe['made_up']}. "
            "Nobody trained that, so measure before you use it."
        )
    if (recipe["declared_in"] or "").endswith("no mode named"):
        warnings.append("Its Pooling names no mode, so sentence-transformers silently takes mean.")
    published = _published(report.name, model)
    if published and recipe["declared"] and published[1] not in modes:
        problems.append(
            f"Its weights are those of {published[0]}, trained to be read by {published[1]}; this recipe reads "
            f"{recipe['declared']}, which nobody trained."
        )
    if side == "left":
        warnings.append(
            "Its tokenizer pads on the left: `hidden[:, 0]`, as tutorials write [CLS], is padding in a batch"
            + (", and sentence-transformers before 5.5 pooled just that (issue 3208)." if "cls" in modes else ".")
        )
    if "cls" in modes and not tokenizer["adds_first"]:
        warnings.append("It pools cls, but its tokenizer puts no [CLS] in front: slot 0 is the text's own first token.")
    if tokenizer["padding"] in tokenizer["adds_last"]:
        warnings.append(
            f"Padding and end are one token, {tokenizer['padding']}: a mask rebuilt as `ids != pad_token_id` drops the "
            "end, which lasttoken pools. Use the tokenizer's mask."
        )
    for language, share in tokenizer["unknown"].items():
        if share >= UNREADABLE:
            warnings.append(f"It cannot read {LANGUAGES[language]}: {share:.0%} of the tokens are unknown to it.")
    if not _reaches_its_limit(model, facts):
        problems.append(f"It accepts {facts['limit']} tokens, but has no positions for as many: long texts fail.")
    if recipe["prompts"] and not recipe["default_prompt"]:
        warnings.append(
            f"It has prompts ({', '.join(recipe['prompts'])}), and `encode` adds none by itself: use `encode_query` "
            "and `encode_document`, or name one."
        )
    if re.search("For(Sequence|Token)Classification|ForQuestionAnswering", facts["saved_as"] or ""):
        warnings.append(f"It was saved as {facts['saved_as']}: trained to judge, not to embed.")


def _reaches_its_limit(model: SentenceTransformer, facts: dict) -> bool:
    """Tells whether a text as long as the model's limit can be encoded."""
    limit, positions = facts["limit"], facts["positions"] or 0
    if not limit or limit > LONG or facts["device"] != "cpu":  # a GPU does not survive a position out of range
        return not limit or positions <= 0 or limit <= positions
    try:
        model.encode("word " * limit, show_progress_bar=False)
    except (IndexError, RuntimeError):
        return False
    return True


def _judge_rivals(report: Report, beaten: pd.DataFrame | None) -> None:
    """Warns where another pooling sorts the lab's items better than the recipe's, by a paired interval."""
    effective, deaf = report.recipe["effective"], [row["pooling"] for row in report.poolings if row["hears"] < 1]
    for name in TRAINED:
        if beaten is None or effective not in POOLINGS or name == effective or name in deaf:
            continue
        for language, items in beaten.groupby("language"):
            gain = (items[name] - items[effective]).to_numpy()
            low, high = scores.interval(gain)
            if low > 0 and items[name].mean() >= SORTS:
                report.warnings.append(
                    f"On the lab's {len(gain)} {LANGUAGES[language]} items {name} sorts better than {effective} (AUC "
                    f"{items[name].mean():.2f} against {items[effective].mean():.2f}, difference {low:.2f} to "
                    f"{high:.2f}): was it trained with {name}?"
                )


def _published(name: str, model: SentenceTransformer) -> tuple[str, str] | None:
    """Returns the well-known model that this is, by its name or its weights, and the pooling its makers trained."""
    origins = {title: embedded.origin for title, embedded in models.EMBEDDED.items()}
    ids = [origins.get(name, name), *(origins[same] for same in _embedded_weights(model))]
    for last in (hub_id.rstrip("/").rpartition("/")[2] for hub_id in ids):
        for pattern, pooling in PUBLISHED.items():
            if re.fullmatch(pattern, last):
                return last, pooling
    return None


def _embedded_weights(model: SentenceTransformer) -> list[str]:
    """Lists the trained embedded encoders whose first token vectors are those of `model`."""
    own, found = model.transformers_model.get_input_embeddings().weight[:64].cpu(), []
    for name in ("minilm", "e5-small"):
        file = MODELS / name / "model.safetensors"
        if not file.is_file():
            continue
        with safe_open(file, framework="pt") as tensors:
            key = next(key for key in tensors.keys() if key.endswith("word_embeddings.weight"))  # noqa: SIM118
            rows = tensors.get_slice(key)[:64].to(own.dtype)
        if rows.shape == own.shape and torch.equal(rows, own):
            found.append(name)
    return found


def _module(model: SentenceTransformer, kind: type) -> torch.nn.Module | None:
    return next((module for module in model if isinstance(module, kind)), None)


def _mode(pooling: Pooling) -> str:
    return pooling.pooling_mode if isinstance(pooling.pooling_mode, str) else " + ".join(pooling.pooling_mode)


def _title(module: torch.nn.Module) -> str:
    if isinstance(module, Transformer):
        return f"Transformer ({type(module.auto_model).__name__})"
    if isinstance(module, Pooling):
        return f"Pooling ({_mode(module)})"
    if isinstance(module, Dense):
        return f"Dense ({module.in_features} → {module.out_features})"
    return type(module).__name__


LOOKS = {
    "causal": "back only: no later token moves an earlier state (measured)",
    "bidirectional": "both ways: a later token moves every earlier state (measured)",
    "mixed": "both ways in part: a later token moves some earlier states (measured)",
    None: "not measured: it does not start with a Transformer",
}


def _as_text(report: Report) -> str:
    recipe, facts, tokenizer = report.recipe, report.model, report.tokenizer
    verdict = "The declared recipe is sound." if report.sound else "The declared recipe is UNSOUND."
    if report.sound and recipe["made_up"]:
        verdict = "No recipe is declared. What sentence-transformers makes up is not unsound, but nobody trained it."
    prompts = "; ".join(f"{key}: {text!r}" for key, text in recipe["prompts"].items()) or "none"
    default = recipe["default_prompt"]
    blocks = [
        f"{report.name}\n{verdict}",
        _bullets("Problems", report.problems),
        _bullets("Warnings", report.warnings),
        _facts(
            "Recipe",
            {
                "modules": " → ".join(recipe["modules"]),
                "declared pooling": f"{recipe['declared'] or 'none'} ({recipe['declared_in'] or 'a plain checkpoint'})",
                "what encode pools": f"{recipe['effective'] or 'none of the known poolings'} (measured)"
                if tokenizer
                else "not measured",
                "Normalize, Dense": f"{'yes' if recipe['normalize'] else 'no'}, {', '.join(recipe['dense']) or 'none'}",
                "prompts": prompts + (f"; by default {default}" if default else ""),
                "vectors": f"{recipe.get('dimension', '?')} numbers, compared by {recipe['similarity']}",
            },
        ),
        _facts(
            "Model",
            {
                "architecture": f"{facts['architecture']}, {facts['parameters'] / 1e6:,.1f} million parameters",
                "runs": f"in {facts['dtype']} on {facts['device']}, up to {facts['limit']} tokens",
                "looks": LOOKS[facts["attention"]],
            },
        ),
    ]
    if tokenizer:
        unknown = ", ".join(f"{LANGUAGES[code]} {share:.0%}" for code, share in tokenizer["unknown"].items())
        padded = ", ".join(f"{side} {cosine:.4f}" for side, cosine in report.padded.items())
        lines = {
            "adds": f"{' '.join(tokenizer['adds_first']) or 'nothing'} in front, "
            f"{' '.join(tokenizer['adds_last']) or 'nothing'} at the end",
            "[CLS]": tokenizer["cls"] or "none: slot 0 is the text's own first token",
            "pads": f"on the {tokenizer['padding_side']} with {tokenizer['padding']}",
            "unknown tokens": unknown,
            "padding moves": f"a vector alone to its vector in a batch, lowest cosine: {padded}",
        }
        blocks += [_facts("Tokenizer", lines), _table(report.poolings)]
    blocks += [_bullets("Known answers", [report.known] if report.known else [])]
    return "\n\n".join(block for block in blocks if block)


def _facts(title: str, lines: dict[str, str]) -> str:
    return "\n".join([title, *(_wrapped(f"  {key:<18}", value) for key, value in lines.items())])


def _table(rows: list[dict]) -> str:
    languages = sorted({language for row in rows for language in row["auc"]})
    head = f"  {'':<21}{'verdict':<10}{'hears':>6}{'left':>8}{'right':>8}" + "".join(
        f"{f'AUC {code}':>8}" for code in languages
    )
    lines = [
        "Poolings (share of tokens heard; lowest cosine, alone to in a batch padded there; AUC on the lab's 8 items)",
        head,
    ]
    for row in rows:
        numbers = f"{row['hears']:>6.0%}{row['left']:>8.4f}{row['right']:>8.4f}"
        numbers += "".join(f"{row['auc'][code]:>8.2f}" for code in languages)
        lines.append(f"  {row['pooling']:<21}{row['verdict']:<10}{numbers}  {row['why']}".rstrip())
    return "\n".join(lines)


def _bullets(title: str, sentences: list[str]) -> str:
    return "\n".join([title, *(_wrapped("  - ", sentence) for sentence in sentences)]) if sentences else ""


def _wrapped(start: str, text: str) -> str:
    return fill(text, 110, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False)


def main() -> int:
    """Examines one model; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.doctor", description=__doc__)
    parser.add_argument("model", help="an embedded name, a folder or a hub id")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--device", help="where to run it, such as cpu or cuda; by default the best there is")
    arguments = parser.parse_args()
    try:
        report = examine(arguments.model, arguments.device)
    except models.ModelError as problem:
        print(problem, file=sys.stderr)
        return 2
    print(report.to_json() if arguments.json else report)
    return 0 if report.sound else 1


if __name__ == "__main__":
    sys.exit(main())
