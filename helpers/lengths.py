"""What the length of a text does to search, in characters and in tokens, where texts grow in different ways."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from helpers.drift import Reader, beaten
from helpers.perturb import NEUTRAL, PLACES, join, passages
from helpers.rules import Study, nothing
from helpers.scores import STUDY

KEYS = [*STUDY, "filling", "size", "item"]
COLUMNS = ["beaten", "characters", "tokens", "text", "ends", "limit"]
NEUTRAL_TEXT, OTHER_FACTS, ONE_TOPIC = "neutral text", "other facts", "one topic"
QUERIES = 4  # of a topic's sentences, which none of its texts holds
SMALL = 4  # sentences: up to here a topic has two texts of a size, because chance weighs more on them


def facts(reader: Reader, rows: pd.DataFrame, sizes: Sequence[int], seed: int = 0) -> pd.DataFrame:
    """Joins strong candidates of several items to longer texts, and lets each query look for the one with its own.

    Args:
        reader: The model.
        rows: Items of one language, from `scenarios.read`.
        sizes: How many sentences a text holds; sizes that make fewer than two texts are left out.
        seed: Seed of the order, which is the same for all sizes.

    Returns:
        One row for each (model, language, pooling, filling, size, item), the index, with `beaten`, which share of the
        other texts the query puts below its own (0.5 is chance); `characters` and `tokens`, the mean of that size's
        texts; `text`, the number of the text, whose rows belong together; `ends`, how many tokens the text has up to
        the end of the item's sentence, if nothing is cut; and the model's `limit`.
    """
    rows = rows.sample(frac=1, random_state=seed)
    strong, queries, tables = list(rows["strong"]), reader.vectors(list(rows["query"])), []
    for size in sizes:
        starts = range(0, len(strong) - size + 1, size)
        if len(starts) < 2:
            continue
        texts = [join(strong[start : start + size]) for start in starts]
        some, own = rows[: size * len(starts)], np.repeat(np.arange(len(starts)), size)
        parts = [join(strong[start : start + count + 1]) for start in starts for count in range(size)]
        about = {"item": (some["scenario"] + " " + some["item"]).to_numpy(), "ends": reader.tokens(parts)}
        about |= {"model": reader.name, "language": rows["language"].iloc[0], "filling": OTHER_FACTS, "size": size}
        about |= {"limit": reader.limit, "text": own} | _extent(reader, texts)
        vectors = reader.vectors(texts)
        for pooling in reader.poolings:
            share = beaten(queries[pooling][: len(own)], vectors[pooling], own)
            tables.append(pd.DataFrame({"pooling": pooling, "beaten": share, **about}))
    return pd.concat(tables).set_index(KEYS) if tables else nothing(KEYS[len(STUDY) :], COLUMNS)


def topics(reader: Reader, language: str, sizes: Sequence[int], seed: int = 0) -> pd.DataFrame:
    """Joins sentences on one topic to longer texts, and lets other sentences on it look for the right topic.

    Args:
        reader: The model.
        language: One of data/passages.csv; for another the table is empty.
        sizes: How many sentences a text holds; sizes for which a topic has too few are left out.
        seed: Seed of the order of the sentences.

    Returns:
        As from `facts`, without `ends` and `limit`; an item is a topic, `beaten` the mean over its queries and texts,
        and `text` the number of the topic.
    """
    shelves = {topic: some for topic, some in passages(language).items() if topic != NEUTRAL}
    if not shelves:
        return nothing(KEYS[len(STUDY) :], COLUMNS)
    order = np.random.default_rng(seed)
    held = [order.permutation(sentences[QUERIES:]).tolist() for sentences in shelves.values()]
    asked = reader.vectors([query for sentences in shelves.values() for query in sentences[:QUERIES]])
    own, tables = np.repeat(np.arange(len(shelves)), QUERIES), []
    for size in sizes:
        copies = range(2 if size <= SMALL else 1)
        if len(copies) * size > min(map(len, held)):
            continue
        texts = [[join(some[copy * size : (copy + 1) * size]) for some in held] for copy in copies]
        about = {"model": reader.name, "language": language, "filling": ONE_TOPIC, "size": size, "item": list(shelves)}
        about |= {"text": range(len(shelves))} | _extent(reader, sum(texts, []))
        for pooling in reader.poolings:
            shares = [beaten(asked[pooling], reader.vectors(some)[pooling], own) for some in texts]
            share = np.mean(shares, axis=0).reshape(-1, QUERIES).mean(axis=1)
            tables.append(pd.DataFrame({"pooling": pooling, "beaten": share, **about}))
    return pd.concat(tables).set_index(KEYS) if tables else nothing(KEYS[len(STUDY) :], COLUMNS)


def padding(padded: pd.DataFrame) -> pd.DataFrame:
    """Reads what neutral text does off a table of `drift.measure`, whose versions are named "4 start", "4 end", ….

    Returns:
        As from `facts`, without `ends` and `limit`; `beaten` is the mean over the places of the sentence, and
        `text` the number of the item.
    """
    table = padded.reset_index()
    table["size"] = table["version"].str.split().str[0].astype(int)
    table = table[table["version"].str.split().str[1].isin(PLACES)]
    table = table.assign(filling=NEUTRAL_TEXT, item=table["scenario"] + " " + table["item"])
    found = table.groupby(KEYS, sort=False)["beaten"].mean().to_frame()
    extent = table.groupby([*STUDY, "size"], sort=False)[["characters", "tokens"]].mean()
    found["text"] = found.groupby(level=KEYS[:-1], sort=False).cumcount()
    return found.join(extent).reorder_levels(KEYS)


def band(characters: pd.Series, low: int, high: int) -> np.ndarray:
    """Tells for each length whether it is in the "band" from `low` to `high`, "shorter" or "longer".

    Raises:
        ValueError: A length is NaN.
    """
    if characters.isna().any():
        raise ValueError("A length is NaN, so no band holds it.")
    return np.select([characters < low, characters > high], ["shorter", "longer"], "band")


def against(table: pd.DataFrame, low: int, high: int) -> pd.DataFrame:
    """Compares texts of `low` to `high` characters with shorter and with longer ones of the same filling, item by item.

    Args:
        table: As from `facts`, `topics` and `padding`.
        low: The fewest characters in the band.
        high: The most.

    Returns:
        One row for each (model, language, pooling, filling, measure, item, text), the index, with the `gap` in
        `beaten`; a measure is "band − shorter" or "band − longer", unless no text is so. The `text` is that of the
        largest size compared: it holds the item's smaller ones, because the order of the sentences is the same for all
        sizes. An item that is in no such text is left out.
    """
    rows = table.assign(band=band(table["characters"], low, high)).reset_index()
    levels, tables = [*STUDY, "filling", "item"], {}
    for other in ("shorter", "longer"):
        some = rows[rows["band"].isin(["band", other])]
        if some["band"].nunique() < 2:
            continue
        wide = some.groupby([*levels, "band"])["beaten"].mean().unstack("band")
        largest = some["size"] == some.groupby(levels[:-1])["size"].transform("max")
        found = (wide["band"] - wide[other]).to_frame("gap").join(some[largest].set_index(levels)["text"], how="inner")
        tables[f"band − {other}"] = found.set_index("text", append=True)
    order = [*levels[:-1], "measure", "item", "text"]
    if not tables:
        return nothing(order[len(STUDY) :], ["gap"])
    return pd.concat(tables, names=["measure"]).reorder_levels(order)


def reach(studies: Sequence[Study], qwen: PreTrainedTokenizerBase, characters: int) -> pd.DataFrame:
    """Tells where models stop reading, in tokens and in characters of the strong candidates.

    Args:
        studies: Models with their items.
        qwen: Qwen's tokenizer.
        characters: A length to look at; where the candidates have fewer, they come round again.

    Returns:
        One row for each (model, language), all whole numbers: the `limit` in tokens and in `characters`; and for a text
        of so many characters the number of `tokens`, of Qwen's, and whether they are too many.
    """
    rows = {}
    for reader, language, items in studies:
        text = join(list(items["strong"]))
        text *= 1 + characters // len(text)
        start = text[:characters]
        tokens, size = reader.tokens([start, text])
        row = {"limit, tokens": reader.limit, "limit, characters": reader.limit * len(text) / size}
        row |= {f"{characters} in tokens": tokens, f"{characters} in Qwen's tokens": len(qwen(start)["input_ids"])}
        rows[reader.name, language] = row | {f"{characters} are cut": tokens > reader.limit}
    table = pd.DataFrame.from_dict(rows, "index")
    table["limit, characters"] = table["limit, characters"].round(-1)
    table.index = pd.MultiIndex.from_tuples(rows, names=["model", "language"])
    return table


def _extent(reader: Reader, texts: list[str]) -> dict[str, float]:
    return {"characters": np.mean([len(text) for text in texts]), "tokens": reader.tokens(texts).mean()}
