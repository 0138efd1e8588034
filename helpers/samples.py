"""The knowledge bases that the semantic radar offers to start with."""

from dataclasses import dataclass

import pandas as pd

from helpers import scenarios
from helpers.paths import DATA
from helpers.scenarios import CANDIDATES

LANGUAGES = ("zh", "en")
MIXED = "mixed"  # the language of a sample whose lines stand in it in every one of `LANGUAGES`
EVERY = 4  # takes the items 1, 5, 9 … of a scenario: the article's and nine more, short ones and long ones


@dataclass(frozen=True)
class Sample:
    """Lines to search, in the order of their file, and a query to start with."""

    name: str
    language: str
    lines: tuple[str, ...]
    query: str


def samples() -> list[Sample]:
    """Returns the samples, each in Chinese and in English.

    - `fruit`: the article's example, its two sentences among others that are about food, or share words with them or
      with the query and mean something else.
    - `scenarios`: the strong, weak and unrelated candidates of every fourth item, 240 lines; the query is the article's
      first.
    - `faq`: 200 answers of a town's services, and once more in both languages together (`MIXED`), so that a question
      in one language can find answers in the other; the query is the question of the first.
    """
    known, items = knowledge(), scenarios.read()
    items = items[items["item"].astype(int) % EVERY == 1]
    faq = known[known["set"] == "faq"]
    mixed = _sample("faq", MIXED, faq)
    found = [_sample("fruit", language, _of(known, "fruit", language)) for language in LANGUAGES]
    for language in LANGUAGES:
        rows = items[items["language"] == language]
        lines = rows[list(CANDIDATES)].to_numpy().ravel()
        found.append(Sample("scenarios", language, tuple(lines), rows["query"].iloc[0]))
    return [*found, *(_sample("faq", language, _of(known, "faq", language)) for language in LANGUAGES), mixed]


def knowledge() -> pd.DataFrame:
    """Reads data/knowledge.csv: a line in each row, every column text, `question` empty where a line answers none."""
    return pd.read_csv(DATA / "knowledge.csv", dtype=str, keep_default_na=False)


def _of(known: pd.DataFrame, name: str, language: str) -> pd.DataFrame:
    return known[(known["set"] == name) & (known["language"] == language)]


def _sample(name: str, language: str, rows: pd.DataFrame) -> Sample:
    return Sample(name, language, tuple(rows["text"]), rows["question"].iloc[0])
