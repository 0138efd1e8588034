"""Statistics against closed forms, hand-computed cases and independent implementations."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from sentence_transformers.util import cos_sim
from sklearn.metrics import roc_auc_score

from helpers import scores
from helpers.encode import embed
from helpers.models import load
from helpers.scenarios import read

VALUES = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def english() -> pd.DataFrame:
    return read().query("language == 'en' and source == 'translation'")


@pytest.fixture(scope="module")
def table(embedded: Callable[[str], SentenceTransformer], english: pd.DataFrame) -> pd.DataFrame:
    return scores.score(embedded("minilm"), "minilm", english, ("cls", "mean"), every_candidate=True)


def tidy(strong: list[float], weak: list[float], unrelated: list[float]) -> pd.DataFrame:
    rows = [
        ("m", "en", "mean", True, "s", item, candidate, values[item])
        for candidate, values in zip(scores.CANDIDATES, (strong, weak, unrelated), strict=True)
        for item in range(len(strong))
    ]
    return pd.DataFrame(rows, columns=scores.COLUMNS)


def test_score_is_one_row_for_each_pooling_item_and_candidate(table: pd.DataFrame) -> None:
    own = scores.own_candidates(table)
    assert list(own.columns) == scores.COLUMNS
    assert len(own) == 2 * 8 * 3
    assert not own.duplicated(["pooling", "scenario", "item", "candidate"]).any()
    assert len(table) == 2 * 8 * 24


def test_cosines_are_those_of_sentence_transformers(
    table: pd.DataFrame, english: pd.DataFrame, embedded: Callable[[str], SentenceTransformer]
) -> None:
    english = english.set_index("scenario")
    texts = english[["query", *scores.CANDIDATES]].to_numpy().ravel().tolist()
    vectors = dict(zip(texts, embedded("minilm").encode(texts), strict=True))
    for row in table[table["pooling"] == "mean"].itertuples():
        query, candidate = english.loc[row.scenario, "query"], english.loc[row.candidate_scenario, row.candidate]
        assert row.cosine == pytest.approx(cos_sim(vectors[query], vectors[candidate]).item(), abs=2e-6)


def test_own_candidates_do_not_depend_on_the_others(
    table: pd.DataFrame, english: pd.DataFrame, embedded: Callable[[str], SentenceTransformer]
) -> None:
    alone = scores.score(embedded("minilm"), "minilm", english, ("cls", "mean"), normalize=False)
    key = ["pooling", "scenario", "item", "candidate"]
    own = scores.own_candidates(table).set_index(key)["cosine"]
    pd.testing.assert_series_equal(alone.set_index(key)["cosine"].loc[own.index], own, atol=2e-6)
    assert not alone["normalized"].any()


def test_prompts_are_those_of_encode_query_and_encode_document(embedded: Callable[[str], SentenceTransformer]) -> None:
    model, rows = embedded("e5-small"), read().query("language == 'zh'").head(3)
    found = scores.score(model, "e5-small", rows, ("cls", "mean"), prompts=True, recipe=True)
    mean, recipe = (found.loc[found["pooling"] == pooling, "cosine"].to_numpy() for pooling in ("mean", scores.RECIPE))
    np.testing.assert_allclose(mean, recipe, atol=2e-6)
    queries, strong = model.encode_query(rows["query"].tolist()), model.encode_document(rows["strong"].tolist())
    np.testing.assert_allclose(mean[:3], cos_sim(queries, strong).diagonal(), atol=2e-6)
    plain = scores.score(model, "e5-small", rows, ("mean",))["cosine"].to_numpy()
    assert np.abs(plain - mean).max() > 0.01


def test_score_embeds_and_scores_the_vectors(
    table: pd.DataFrame, english: pd.DataFrame, embedded: Callable[[str], SentenceTransformer]
) -> None:
    texts = scores.texts_of(english)
    vectors = embed(embedded("minilm"), texts, ("cls", "mean"))
    pd.testing.assert_frame_equal(scores.score_vectors(vectors, "minilm", english, every_candidate=True), table)
    moved = {name: array[::-1] for name, array in vectors.items()}
    assert not scores.score_vectors(moved, "minilm", english, every_candidate=True)["cosine"].equals(table["cosine"])


def test_texts_are_listed_once_in_the_order_of_the_rows() -> None:
    rows = [["我饿了", "我想吃饭", "b", "c"], ["b", "我饿了", "d", "c"]]
    scenarios = pd.DataFrame(rows, columns=["query", *scores.CANDIDATES])
    assert scores.texts_of(scenarios) == ["我饿了", "我想吃饭", "b", "c", "d"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_recipe_puts_the_query_prompt_before_queries_only(dtype: str) -> None:
    model, rows = load("tiny-qwen3", dtype=dtype), read().query("source == 'article'")
    found = scores.score(model, "tiny-qwen3", rows, ("lasttoken",), recipe=True, every_candidate=True)
    prompt = model.prompts["query"]
    assert prompt
    exact = 2e-6 if dtype == "float32" else 0.02  # bfloat16 depends on what else is in the batch
    for candidate in scores.CANDIDATES:
        queries = model.encode([prompt + text for text in rows["query"]], convert_to_tensor=True)
        others = model.encode(rows[candidate].tolist(), convert_to_tensor=True)
        cosines = found.query("pooling == @scores.RECIPE and candidate == @candidate")["cosine"].to_numpy()
        np.testing.assert_allclose(cosines.reshape(8, 8), cos_sim(queries.float(), others.float()), atol=exact)
    plain = scores.score(model, "tiny-qwen3", rows, ("lasttoken",), every_candidate=True)
    pd.testing.assert_frame_equal(found.query("pooling == 'lasttoken'").reset_index(drop=True), plain)


def test_the_recipe_goes_through_the_modules_behind_the_pooling(english: pd.DataFrame) -> None:
    model = load("minilm")
    torch.manual_seed(0)
    model.append(Dense(384, 16))
    found = scores.score(model, "m", english, ("mean",), recipe=True).set_index("pooling")["cosine"]
    first, second = (model.encode(english[column].tolist()) for column in ("query", "strong"))
    assert first.shape == (8, 16)
    np.testing.assert_allclose(found[scores.RECIPE][:8], cos_sim(first, second).diagonal(), atol=2e-6)
    assert np.abs(found[scores.RECIPE].to_numpy() - found["mean"].to_numpy()).max() > 0.05


def test_a_text_that_is_query_and_candidate_is_encoded_in_both_roles() -> None:
    model, text = load("tiny-qwen3"), "我饿了"
    row = {"language": "zh", "scenario": "s", "item": "1", "weak": "我刚吃完饭", "unrelated": "你好"}
    rows = pd.DataFrame([row | {"query": text, "strong": "想吃东西"}, row | {"query": "想吃东西", "strong": text}])
    first, second = scores.score(model, "m", rows, (), recipe=True).query("candidate == 'strong'")["cosine"]
    pairs = (model.encode_query([text, "想吃东西"]), model.encode_document(["想吃东西", text]))
    np.testing.assert_allclose([first, second], cos_sim(*pairs).diagonal(), atol=2e-6)


@pytest.mark.parametrize(
    ("vectors", "queries", "said"),
    [
        ((31, 4), (32, 4), "vectors['mean'] has the shape (31, 4); it must be (32, dim)"),
        ((32, 4), (33, 4), "queries['mean'] has the shape (33, 4)"),
        ((32,), (32,), "vectors['mean'] has the shape (32,)"),
        ((32, 4), (32, 5), "A query's vector of 'mean' has 5 numbers, but a candidate's has 4"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(
    english: pd.DataFrame, vectors: tuple[int, ...], queries: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ValueError) as raised:
        scores.score_vectors({"mean": np.ones(vectors)}, "m", english, queries={"mean": np.ones(queries)})
    assert said in str(raised.value)


def test_queries_for_other_poolings_are_refused(english: pd.DataFrame) -> None:
    vectors = {"mean": np.ones((32, 4)), "cls": np.ones((32, 4))}
    with pytest.raises(ValueError, match="queries holds mean, but vectors holds mean, cls"):
        scores.score_vectors(vectors, "m", english, queries={"mean": vectors["mean"]})


def test_by_item_by_hand() -> None:
    items = scores.by_item(tidy([0.9, 0.5], [0.6, 0.7], [0.2, 0.5]))
    np.testing.assert_allclose(items["delta"], [0.7, 0.0])


def test_summary_by_hand() -> None:
    row = scores.summary(tidy([0.9, 0.5], [0.6, 0.7], [0.2, 0.5])).iloc[0]
    assert row["items"] == 2
    assert row["delta"] == pytest.approx(0.35)
    assert row["strong_over_weak"] == 0.5  # 0.9 > 0.6 but 0.5 < 0.7
    assert row["triplet_accuracy"] == pytest.approx((0.5 + 0.75) / 2)  # a tie, 0.5 and 0.5, counts half
    assert row["auc"] == pytest.approx(3.5 / 4)
    assert row["auc_weak"] == pytest.approx(2 / 4)
    assert row["delta_sd"] == pytest.approx(0.35 / np.std([0.2, 0.5], ddof=1))
    assert row["spearman"] == pytest.approx(stats.spearmanr([2, 2, 1, 1, 0, 0], [0.9, 0.5, 0.6, 0.7, 0.2, 0.5])[0])
    assert row["delta_low"] <= row["delta"] <= row["delta_high"]


def test_one_item_has_no_interval() -> None:
    row = scores.summary(tidy([0.9], [0.6], [0.2])).iloc[0]
    assert row["delta"] == pytest.approx(0.7)
    assert np.isnan([row["delta_low"], row["delta_high"], row["auc_low"], row["delta_sd"], row["spearman_low"]]).all()


@given(positive=VALUES, negative=VALUES)
def test_auc_is_that_of_scikit_learn(positive: list[float], negative: list[float]) -> None:
    labels = [1] * len(positive) + [0] * len(negative)
    expected = roc_auc_score(labels, positive + negative)
    assert scores.auc(np.array(positive), np.array(negative)) == pytest.approx(expected)


def test_auc_over_an_axis_is_the_auc_of_each_row() -> None:
    positive, negative = np.random.default_rng(0).normal(size=(2, 5, 9))
    each = [scores.auc(positive[row], negative[row]) for row in range(5)]
    np.testing.assert_allclose(scores.auc(positive, negative), each)
    np.testing.assert_allclose(scores.auc(positive.T, negative.T, axis=0), each)


def test_interval_of_a_mean_matches_the_normal_theory() -> None:
    sample = np.random.default_rng(1).normal(5, 2, size=400)
    low, high = scores.interval(sample)
    expected = stats.norm.interval(0.95, sample.mean(), stats.sem(sample))
    np.testing.assert_allclose([low, high], expected, atol=0.03)


def test_interval_covers_the_truth_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "RESAMPLES", 400)
    generator = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        low, high = scores.interval(generator.normal(size=40))
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_interval_draws_items_together() -> None:
    strong = np.random.default_rng(3).normal(size=30)
    low, high = scores.interval(strong, strong - 0.25, statistic=lambda a, b, axis: (a - b).mean(axis=axis))
    assert (low, high) == pytest.approx((0.25, 0.25))


def test_interval_of_equal_items_is_that_value() -> None:
    assert scores.interval(np.full(8, 0.5)) == (0.5, 0.5)


def test_interval_does_not_hang_on_the_last_bit() -> None:
    generator = np.random.default_rng(6)
    for _ in range(20):
        sample = generator.normal(0.3, 0.1, size=8).round(6)
        moved = sample + generator.choice([-1e-6, 0, 1e-6], size=8)
        np.testing.assert_allclose(scores.interval(moved), scores.interval(sample), atol=1e-5)


def test_interval_is_the_same_for_the_same_seed() -> None:
    sample = np.random.default_rng(4).normal(size=12)
    assert scores.interval(sample, seed=7) == scores.interval(sample, seed=7) != scores.interval(sample, seed=8)


def test_ranks_share_ties() -> None:
    rows = tidy([0.5], [0.9], [0.5]).assign(candidate_scenario="s", candidate_item=0)
    assert scores.ranks(rows)[["rank", "candidates"]].to_numpy().tolist() == [[2.5, 3]]


def test_ranks_count_what_is_closer(table: pd.DataFrame) -> None:
    ranks = scores.ranks(table)
    assert set(ranks["candidates"]) == {24}
    assert len(ranks) == 2 * 8
    one = table[(table["pooling"] == "cls") & (table["scenario"] == "metaphor")]
    strong = one[(one["candidate"] == "strong") & (one["candidate_scenario"] == "metaphor")]["cosine"].item()
    expected = 1 + (one["cosine"] > strong).sum()
    assert ranks.query("pooling == 'cls' and scenario == 'metaphor'")["rank"].item() == expected


def test_beaten_averages_to_the_auc_against_pairs_across_items(table: pd.DataFrame) -> None:
    shares = scores.beaten(table)
    assert len(shares) == 2 * 8
    for pooling, rows in table.groupby("pooling"):
        same = rows["scenario"] == rows["candidate_scenario"]
        kept = rows[~same | (rows["candidate"] == "strong")]
        expected = roc_auc_score(kept["scenario"] == kept["candidate_scenario"], kept["cosine"])
        assert shares.loc[shares["pooling"] == pooling, "auc_all"].mean() == pytest.approx(expected)


def test_beaten_counts_ties_half_and_knows_no_others() -> None:
    one = tidy([0.5], [0.1], [0.1]).assign(candidate_scenario="s", candidate_item=0)
    assert scores.beaten(one)["auc_all"].isna().all()
    others = one.assign(candidate_item=1, cosine=[0.5, 0.2, 0.9])
    assert scores.beaten(pd.concat([one, others], ignore_index=True))["auc_all"].tolist() == [0.5]


def test_paired_compares_each_pooling_with_those_before_it_on_the_same_items() -> None:
    deltas = {"cls": [0.1, 0.2, 0.3, np.nan], "mean": [0.4, 0.4, 0.2, 0.9], "max": [0.1, 0.2, 0.3, 0.4]}
    rows = [
        {"model": "m", "language": "en", "pooling": pooling, "scenario": f"s{item}", "item": "1", "delta": value}
        for pooling, values in deltas.items()
        for item, value in enumerate(values)
    ]
    index = [*scores.STUDY, "scenario", "item"]
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=0).set_index(index)
    found = scores.paired(shuffled.assign(more=1.0), ["cls", "mean", "max"], seed=3)
    assert list(found.index.get_level_values("compared")) == ["mean − cls", "max − cls", "max − mean"] * 2
    first = found.loc["m", "en", "delta", "mean − cls"]
    assert first["difference"] == pytest.approx((0.3 + 0.2 - 0.1) / 3)  # the fourth item has no cls
    assert first[["items_won", "items_lost"]].tolist() == [2, 1]
    assert tuple(first[["low", "high"]]) == scores.interval(np.array([0.3, 0.2, -0.1]), seed=3)
    assert first["p"] == 0.5  # ± 0.3 ± 0.2 ± 0.1 comes to 0.4 or more, either way, for 4 of 8 choices of the signs
    assert first["p_holm"] == pytest.approx(min(1, 3 * first["p"]))
    assert found.loc["m", "en", "delta", "max − cls"].tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert found.loc["m", "en", "more", "max − mean"].tolist() == [0, 0, 0, 0, 0, 1, 1]


def test_save_rounds_and_survives_a_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLING_LAB_OUTPUT", str(tmp_path))
    path = scores.save(pd.DataFrame({"cosine": [0.12345678], "query": ["我饿了"]}), "05_x")
    assert path == "data/results/05_x.csv"
    assert (tmp_path / path).read_bytes() == "cosine,query\n0.123457,我饿了\n".encode()


def test_auc_of_thousands_of_items_takes_little_memory() -> None:
    positive, negative = np.random.default_rng(5).normal([[1], [0]], 1, size=(2, 3000))
    low, high = scores.interval(positive, negative, statistic=scores.auc)
    assert low < stats.norm.cdf(1 / 2**0.5) < high  # the AUC of two normals one deviation apart
