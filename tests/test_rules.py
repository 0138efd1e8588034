"""The sign and the size of what the rules' experiments compare, on tables and texts made by hand."""

import numpy as np
import pandas as pd
import pytest

from helpers import drift, lengths, rules, scenarios, scores


@pytest.fixture(scope="module")
def study(embedded) -> rules.Study:
    items = scenarios.read()
    rows = items[items["language"] == "en"].sample(12, random_state=0)
    return rules.Study(drift.Reader(embedded("minilm"), "minilm", ["mean"]), "en", rows)


def test_compared_is_first_minus_second() -> None:
    found = rules._compared("s", np.array([3.0, 4]), "o", np.array([1.0, 2]), 0)
    assert (found["s"], found["o"], found["value"]) == (3.5, 1.5, 2)
    assert found["low"] <= 2 <= found["high"]
    assert np.isnan(rules._compared("s", np.array([]), "o", np.array([1.0, 2]), 0)["value"])


def test_stop_words_out_is_without_minus_with(study, monkeypatch) -> None:
    def characters(self: rules.Study, rows: pd.DataFrame) -> pd.DataFrame:
        return rows[["query", "strong", "unrelated"]].map(len).sum(axis=1).to_frame("auc")

    monkeypatch.setattr(rules.Study, "parts", characters)
    line = {"query": "Out of the box", "strong": "of it", "unrelated": "The cat"}
    rows = study.rows[:2].assign(**line)
    assert rules.stop_words_out(study._replace(rows=rows))["auc"].tolist() == [-14, -14]  # of the, of, The; spaces


def test_written_short_is_short_minus_others(study, monkeypatch) -> None:
    def characters(self: rules.Study, rows: pd.DataFrame) -> pd.DataFrame:
        index = pd.MultiIndex.from_tuples([("minilm", "en", "mean")] * len(rows), names=scores.STUDY)
        return pd.DataFrame({"auc": rows["query"].map(len).to_numpy(float)}, index)

    monkeypatch.setattr(rules.Study, "parts", characters)
    lines = ["one", "two", "a longer one", "a longer two"]
    rows = study.rows[:4].assign(**dict.fromkeys(("query", "strong", "unrelated"), lines))
    found = rules.written_short(study._replace(rows=rows), 10).loc[("minilm", "en", "mean")]
    assert found[["short items", "short", "others", "value"]].tolist() == [2, 3, 12, -9]


def test_a_text_of_two_characters_is_told_apart_worse_than_one_of_twenty(study) -> None:
    items = scenarios.read()
    rows = items[items["language"] == "en"].sample(48, random_state=0)
    auc = rules.cut_short(study._replace(rows=rows), (2, 20), 48)["auc"].groupby(level="characters").mean()
    assert auc[2] < auc[20] - 0.1


def test_a_line_that_says_the_same_as_the_answer_ties_with_it(study) -> None:
    lines = ["---", *study.rows["strong"]]
    table = rules.lured(study, lines)
    assert [table[line].iloc[row] for row, line in enumerate(lines[1:])] == [0.5] * len(study.rows)
    above = (table[lines[1:]].to_numpy().sum(axis=1) - 0.5) / (len(study.rows) - 1)
    assert table[rules.ORDINARY].to_numpy() == pytest.approx(above)


def test_padding_is_the_mean_over_the_places() -> None:
    names, shares = ["4 start", "4 middle", "4 end", "4 elsewhere"], [0.2, 0.4, 0.9, 0]
    rows = [
        ("m", "en", "mean", "s", item, name, share / part, 10 * part, part)
        for name, share in zip(names, shares, strict=True)
        for part, item in enumerate(("b", "a"), start=1)
    ]
    table = pd.DataFrame(rows, columns=[*drift.KEYS, "beaten", "characters", "tokens"]).set_index(drift.KEYS)
    found = lengths.padding(table)
    assert found.loc[("m", "en", "mean", lengths.NEUTRAL_TEXT, 4, "s b"), "beaten"] == pytest.approx(0.5)
    assert found["beaten"].tolist() == pytest.approx([0.5, 0.25])
    assert found["text"].tolist() == [0, 1]
    assert found[["characters", "tokens"]].to_numpy().tolist() == [[15, 1.5], [15, 1.5]]
