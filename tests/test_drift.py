"""Drift, finding and the comparisons on them, by hand-made vectors; and each rule's experiment on a small scale."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from helpers import drift, lengths, perturb, rules, scenarios, scores


@pytest.fixture(scope="module")
def study(embedded) -> rules.Study:
    items = scenarios.read()
    rows = items[items["language"] == "en"].sample(12, random_state=0)
    return rules.Study(drift.Reader(embedded("minilm"), "minilm"), "en", rows)


@pytest.fixture(scope="module")
def tokenizer(embedded):
    return embedded("tiny-qwen3").tokenizer


def test_relative_drift_is_1_for_a_move_as_far_as_another_text() -> None:
    before = np.eye(3)  # random cosine 0
    after = np.array([[1, 0, 0], [1, 0, 0], [0, 3, 4]])
    assert drift.relative(before, after) == pytest.approx([0, 1, 0.2])


def test_relative_drift_has_the_cone_as_its_unit() -> None:
    before = np.array([[10.0, 1, 0], [10, 0, 1]])  # cosine 100/101
    assert drift.relative(before, before[::-1]) == pytest.approx([1, 1], abs=1e-5)


def test_relative_drift_has_no_unit_where_all_texts_are_alike() -> None:
    assert np.isnan(drift.relative(np.ones((3, 2)), np.eye(3, 2))).all()


def test_beaten_counts_the_other_documents_and_ties_as_half() -> None:
    queries = np.array([[1.0, 0], [0, 1]])
    documents = np.array([[0.6, 0.8], [1, 0], [0.6, -0.8]])
    assert drift.beaten(queries, documents).tolist() == [0.25, 0.5]  # ties with one and loses; beats one, loses one
    assert drift.beaten(queries, documents, [1, 0]).tolist() == [1, 1]


def test_beaten_is_missing_where_a_vector_is() -> None:
    shares = drift.beaten(np.array([[np.nan, np.nan], [0, 1]]), np.eye(2))
    assert np.isnan(shares[0])
    assert shares[1] == 1


def test_hoyer() -> None:
    assert drift.hoyer(np.array([[0, 0, 3, 0], [1, -1, 1, -1]])) == pytest.approx([1, 0])


def test_apart_and_minus() -> None:
    value, low, high = drift.apart(np.array([3.0, 4, 5]), np.array([1.0, 2]))
    assert value == 2.5
    assert low < value < high
    assert np.isnan(drift.apart(np.array([3.0]), np.array([1.0, 2]))[1:]).all()
    turned = drift.minus(pd.DataFrame({"value": [2.0], "low": [1.0], "high": [4.0], "p": [0.1]}))
    assert turned.iloc[0].tolist() == [-2, -4, -1, 0.1]


def test_means_by_group_and_measure() -> None:
    index = pd.MultiIndex.from_product([["a", "b"], range(3)], names=["model", "item"])
    table = pd.DataFrame({"x": [1.0, 2, 3, 4, 4, 4], "y": [np.nan] * 3 + [1, np.nan, 2]}, index)
    found = drift.means(table, ["model"])
    assert found.loc[("a", "x"), "value"] == 2
    assert found.loc[("b", "x")].tolist() == [4, 4, 4, 3]
    assert found.loc[("b", "y"), "items"] == 2
    assert found.loc[("a", "y"), ["value", "low"]].isna().all()
    settings = drift.settings(found, "{model}: {measure}")
    assert list(settings) == ["a: x", "b: x", "b: y"]  # without the one that has no value
    assert settings["b: x"] == (4, 4, 4)


def test_means_of_units_that_are_resampled_together() -> None:
    index = pd.MultiIndex.from_tuples(
        [("a", text, row) for text in (3, 1, 2) for row in range(4)], names=["model", "text", "row"]
    )
    values = pd.Series([0.0] * 4 + [1, 3, np.nan, np.nan] + [4.0] * 4, index)
    found = drift.means(values, ["model"], unit="text").iloc[0]
    assert found["value"] == 2  # of 0, 2 and 4: each text counts once
    assert found["items"] == 3
    once = pd.Series([0.0, 2, 4], pd.MultiIndex.from_product([["a"], range(3)], names=["model", "text"]))
    assert found.equals(drift.means(once, ["model"]).iloc[0])
    rows = drift.means(values, ["model"]).iloc[0]
    assert found["high"] - found["low"] > rows["high"] - rows["low"]
    frame = drift.means(values.to_frame("x"), ["model"], unit="text")
    assert frame.loc[("a", "x"), "items"] == 3


def test_reader_reads_each_text_once_and_in_any_order(study) -> None:
    reader = drift.Reader(study.reader.model, "minilm", ["mean"])
    first = reader.vectors(["It rains.", "The cat sleeps."])["mean"]
    second = reader.vectors(["The cat sleeps.", "Hello.", "It rains.", "Hello."])["mean"]
    assert second.shape == (4, 384)
    assert np.array_equal(second[[2, 0]], first)
    assert np.array_equal(second[1], second[3])
    assert reader.tokens(["It rains.", ""]).tolist() == [5, 2]
    assert reader.limit == 256
    assert reader.reads("")  # [CLS] and [SEP]


def test_reader_cuts_long_texts_without_a_warning(study) -> None:
    long = "word " * 300
    vectors = study.reader.vectors([long, long + "and more"])["mean"]
    assert study.reader.tokens([long]).item() == 302
    assert np.allclose(vectors[0], vectors[1], atol=1e-6)


def test_padded(study) -> None:
    table = rules.padded(study, (0, 2), 4, seed=0)
    assert list(table.index.names) == drift.KEYS
    assert len(table) == 4 * 2 * len(perturb.PLACES) * len(drift.SHOWN)
    unchanged = table.xs("0 end", level="version")
    assert unchanged["drift"].abs().max() < 1e-5
    assert (table.xs("2 end", level="version")["drift"] > 0.01).all()
    assert ((table["found"] == 1) == (table["beaten"] == 1)).all()
    assert table["whole"].all()


def test_length_of_texts_with_other_facts(study) -> None:
    table = lengths.facts(study.reader, study.rows, (1, 4, 8))
    assert set(table.reset_index()["size"]) == {1, 4}  # eight would leave one text
    mean = table.xs("mean", level="pooling")
    assert mean.xs(1, level="size")["beaten"].mean() > mean.xs(4, level="size")["beaten"].mean() > 0.5
    four = mean.xs(4, level="size")
    assert four["text"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (np.diff(four["ends"].to_numpy().reshape(-1, 4), axis=1) > 0).all()  # each sentence ends behind the last


def test_length_of_texts_on_a_topic(study) -> None:
    table = lengths.topics(study.reader, "en", (1, 8)).xs("mean", level="pooling")
    assert len(table) == 2 * 12
    assert table.xs(8, level="size")["beaten"].mean() > table.xs(1, level="size")["beaten"].mean() > 0.5
    assert table.xs(8, level="size")["text"].tolist() == list(range(12))
    assert lengths.topics(study.reader, "en", (25,)).empty  # a topic has no more than 24
    assert lengths.topics(study.reader, "fr", (1, 8)).empty


def test_band() -> None:
    characters = pd.Series([127.5, 128, 256, 257])
    assert lengths.band(characters, 128, 256).tolist() == ["shorter", "band", "band", "longer"]
    with pytest.raises(ValueError, match="NaN"):
        lengths.band(pd.Series([128, np.nan]), 128, 256)


def hand_made(rows: list[tuple[int, str, int, float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["size", "item", "text", "characters", "beaten"])
    table[[*scores.STUDY, "filling"]] = ["m", "en", "mean", lengths.OTHER_FACTS]
    return table.set_index(lengths.KEYS)


def test_against_pairs_items_and_groups_them_by_the_largest_text_compared() -> None:
    rows = [(1, item, number, 60, 0.9) for number, item in enumerate("abcde")]
    rows += [(2, item, number // 2, 130, 0.7) for number, item in enumerate("abcd")]
    rows += [(4, item, 7, 300, 0.4) for item in "ab"]
    gaps = lengths.against(hand_made(rows), 128, 256)["gap"]
    shorter, longer = (gaps.xs(f"band − {name}", level="measure") for name in ("shorter", "longer"))
    assert shorter.to_numpy() == pytest.approx([-0.2] * 4)  # e stands in no text of the band
    assert shorter.index.get_level_values("text").tolist() == [0, 0, 1, 1]
    assert longer.to_numpy() == pytest.approx([0.3] * 2)
    assert longer.index.get_level_values("text").tolist() == [7, 7]
    assert lengths.against(hand_made(rows[:5]), 128, 256).empty
    few = lengths.against(hand_made(rows[:-2]), 128, 256)
    assert few.index.unique("measure").tolist() == ["band − shorter"]


def test_reach(study, tokenizer) -> None:
    row = lengths.reach([study], tokenizer, 512).loc[("minilm", "en")]
    assert row["limit, tokens"] == 256
    assert 100 < row["512 in tokens"] < 200
    assert not row["512 are cut"]
    assert lengths.reach([study], tokenizer, 5000).loc[("minilm", "en"), "5000 are cut"]


def test_a_text_of_just_the_limit_is_not_cut(study, tokenizer) -> None:
    reader = SimpleNamespace(name="letters", limit=64, tokens=lambda texts: np.array([len(text) for text in texts]))
    one = study._replace(reader=reader)
    assert not lengths.reach([one], tokenizer, 64).loc[("letters", "en"), "64 are cut"]
    assert lengths.reach([one], tokenizer, 65).loc[("letters", "en"), "65 are cut"]


def test_words_experiments_have_a_row_for_each_pooling_or_item(study, tokenizer) -> None:
    lean = rules.sparsity(study, 40)
    assert list(lean.index.get_level_values("pooling")) == list(drift.SHOWN)
    assert not lean["zeros"].any()
    assert rules.written_short(study, 60)["short items"].between(2, 10).all()
    assert rules.written_short(study, 1)["value"].isna().all()  # no item is so short
    cut = rules.cut_short(study, (5, 20), 8)
    assert cut.groupby(level="characters").size().nunique() == 1
    changed = rules.stop_words_out(study)
    assert list(changed) == ["delta", "auc"]
    assert len(changed) == 12 * len(drift.SHOWN)
    kept = rules.stop_words_drift(study, tokenizer, 6)["drift"].groupby(level="version").mean()
    assert kept["stop words out"] < kept["other words out"]
    forms = rules.forms(study, tokenizer, 6)
    assert set(forms.index.get_level_values("query")) == {"a sentence", "a keyword list"}


def test_a_language_without_stop_words_has_no_rows(study, tokenizer) -> None:
    other = study._replace(language="fr")
    assert rules.stop_words_out(other).empty
    assert rules.stop_words_drift(other, tokenizer, 6).empty
    assert other.fillers() == list(study.rows["unrelated"])


def test_lured_compares_a_line_with_the_answer(study) -> None:
    table = rules.lured(study, ["", "---"]).xs("mean", level="pooling")
    queries, own = (study.reader.vectors(list(study.rows[name]))["mean"] for name in ("query", "strong"))
    blank = study.reader.vectors([""])["mean"]
    expected = (queries @ blank.T)[:, 0] > (queries * own).sum(axis=1)
    assert table[rules.BLANK].astype(bool).tolist() == expected.tolist()
    assert table[rules.ORDINARY].to_numpy() == pytest.approx(1 - drift.beaten(queries, own))


def test_a_line_in_which_a_model_finds_no_token_is_left_out(embedded, study) -> None:
    causal = study._replace(reader=drift.Reader(embedded("smollm2"), "smollm2", ["mean"]), rows=study.rows[:2])
    table = rules.lured(causal, ["", "---"])
    assert table[rules.BLANK].isna().all()
    assert table["---"].notna().all()
    assert not rules.nearness(causal, ["", "---"]).isna().any(axis=None)


def test_duel_is_mean_minus_cls(study) -> None:
    table = rules.padded(study, (4,), 8)["drift"].unstack("version")
    found = drift.duel(table)
    means = table.groupby(level=scores.STUDY).mean()
    gap = means.loc[("minilm", "en", "mean"), "4 end"] - means.loc[("minilm", "en", "cls"), "4 end"]
    assert found.loc[("minilm", "en", "4 end"), "value"] == pytest.approx(gap, abs=1e-5)
    assert list(found) == ["value", "low", "high", "p_holm"]
