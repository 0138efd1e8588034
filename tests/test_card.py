"""Recipe cards by hand: which pooling they name, how sure they are, and what they write."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers import card, scores, thresholds
from helpers.diagnosis import Report

STUDY = ("m", "en")


def summary(**aucs: tuple[float, float, float]) -> pd.DataFrame:
    """Makes a summary of 40 items from the AUC of each pooling and its interval."""
    rows = [
        {"model": "m", "language": "en", "pooling": pooling, "items": 40, "auc": auc, "auc_low": low, "auc_high": high}
        for pooling, (auc, low, high) in aucs.items()
    ]
    return pd.DataFrame(rows).assign(auc_weak=0.6, auc_weak_low=0.5, auc_weak_high=0.7)


def comparisons(**compared: tuple[float, float, float, float]) -> pd.DataFrame:
    """Makes the table of comparisons "second − first", here written second_first."""
    rows = {
        (*STUDY, "auc", name.replace("_", " − ")): dict(zip(["difference", "low", "high", "p_holm"], row, strict=True))
        for name, row in compared.items()
    }
    table = pd.DataFrame.from_dict(rows, "index").assign(items_won=20, items_lost=10, p=0.001)
    other = table.rename(index={"auc": "delta"}).assign(difference=9.0, p_holm=0.5)
    return pd.concat([other, table]).rename_axis(["model", "language", "measure", "compared"])


def chosen(**shares: float) -> pd.Series:
    return pd.Series({(*STUDY, pooling): share for pooling, share in shares.items()})


def report(effective: list[str] | None = None, unsound: tuple[str, ...] = (), **more: list[str]) -> Report:
    verdicts = dict.fromkeys(("cls", "mean", "max"), "untrained") | dict.fromkeys(effective or [], "declared")
    verdicts |= dict.fromkeys(unsound, "unsound")
    poolings = [{"pooling": name, "verdict": verdict} for name, verdict in verdicts.items()]
    recipe = {"declared": effective, "effective": effective, "made_up": None}
    return Report("m", recipe, {}, poolings=poolings, **more)


SUMMARY = summary(cls=(0.7, 0.6, 0.8), mean=(0.9, 0.85, 0.95), max=(0.88, 0.8, 0.93))
# mean comes second in one comparison and first in the other
TESTS = comparisons(
    mean_cls=(0.2, 0.1, 0.3, 0.001), max_cls=(0.18, 0.05, 0.25, 0.01), max_mean=(-0.02, -0.06, 0.01, 0.3)
)
CHOSEN = chosen(cls=0.0, mean=0.75, max=0.25)


def cosines(items: int = 40, poolings: tuple[str, ...] = ("cls", "mean", "max")) -> pd.DataFrame:
    """Makes a score table in which each pooling has a scale of its own."""
    drawn = np.random.default_rng(0).normal(size=(items, 3)) / 10 + [0.4, 0.2, 0]
    rows = [
        (*STUDY, pooling, True, "s", str(item), candidate, place + value)
        for place, pooling in enumerate(poolings)
        for item, values in enumerate(drawn)
        for candidate, value in zip(scores.CANDIDATES, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=scores.COLUMNS)


COSINES = cosines()


def make(
    table: pd.DataFrame = SUMMARY,
    compared: pd.DataFrame = TESTS,
    shares: pd.Series = CHOSEN,
    found: Report | None = None,
    table_of_cosines: pd.DataFrame = COSINES,
) -> card.Card:
    return card.make(STUDY, table, compared, shares, found or report(), table_of_cosines)


def test_best_and_runner_up_by_hand() -> None:
    made = make()
    assert (made.model, made.language, made.items) == ("m", "en", 40)
    assert made.best == {"pooling": "mean", "auc": 0.9, "low": 0.85, "high": 0.95, "chosen": 0.75}
    assert made.runner_up == {
        "pooling": "max",
        "auc": 0.88,
        "difference": pytest.approx(0.02),
        "low": pytest.approx(-0.01),
        "high": pytest.approx(0.06),
        "p_holm": 0.3,
    }
    assert made.as_good == ["mean", "max"]
    assert made.declared == []
    assert made.warnings == []
    assert "mean" in made.advice
    assert "max may be as good" in made.advice
    assert "cls" not in made.advice
    assert "declares" not in made.advice


def test_a_gap_is_the_same_whichever_way_it_was_compared() -> None:
    turned = comparisons(
        cls_mean=(-0.2, -0.3, -0.1, 0.001), cls_max=(-0.18, -0.25, -0.05, 0.01), mean_max=(0.02, -0.01, 0.06, 0.3)
    )
    assert make(compared=turned) == make()


@pytest.mark.parametrize(("p", "as_good"), [(0.04, ["mean"]), (0.05, ["mean"]), (0.051, ["mean", "max"])])
def test_a_pooling_is_as_good_until_the_corrected_test_says_otherwise(p: float, as_good: list[str]) -> None:
    compared = TESTS.copy()
    compared.loc[(*STUDY, "auc", "max − mean"), "p_holm"] = p
    made = make(compared=compared)
    assert made.as_good == as_good
    assert ("every other pooling is clearly worse" in made.advice) == (len(as_good) == 1)


def test_a_test_without_a_p_proves_nothing() -> None:
    made = make(compared=TESTS.assign(low=np.nan, high=np.nan, p_holm=np.nan))
    assert made.as_good == ["mean", "max", "cls"]
    assert made.runner_up["difference"] == pytest.approx(0.02)
    assert np.isnan([made.runner_up["low"], made.runner_up["high"], made.runner_up["p_holm"]]).all()
    assert json.loads(card.to_json([made]))[0]["runner_up"]["p_holm"] is None


def test_an_unsound_pooling_is_never_recommended() -> None:
    made = make(found=report(unsound=("mean",)))
    assert made.best["pooling"] == "max"
    assert made.best["chosen"] == 0.25
    assert made.runner_up["pooling"] == "cls"
    assert made.runner_up["difference"] == pytest.approx(0.18)
    assert made.as_good == ["max"]
    assert "mean" not in made.advice


def test_without_a_rival_there_is_no_runner_up() -> None:
    made = make(found=report(unsound=("mean", "cls")))
    assert made.best["pooling"] == "max"
    assert made.runner_up is None
    assert made.as_good == ["max"]
    assert "runner-up" not in card.to_html([made])
    assert json.loads(card.to_json([made]))[0]["runner_up"] is None


def test_the_declared_pooling_is_kept_unless_another_is_clearly_better() -> None:
    kept = make(found=report(["max"]))
    assert kept.declared == ["max"]
    assert kept.best["pooling"] == "mean"
    assert kept.advice.startswith("Read it by max, as its encode does")
    beaten = make(found=report(["cls"]))
    assert "read it by mean; max may be as good" in beaten.advice
    assert "Its encode takes cls, so confirm this" in beaten.advice


def test_the_models_own_recipe_counts_as_declared() -> None:
    names = {"max": scores.RECIPE}
    compared = TESTS.rename(index={"max − mean": f"{scores.RECIPE} − mean", "max − cls": f"{scores.RECIPE} − cls"})
    own = COSINES.replace({"pooling": names})
    made = make(SUMMARY.replace({"pooling": names}), compared, CHOSEN.rename(index=names), table_of_cosines=own)
    assert {row["pooling"] for row in made.thresholds} == {scores.RECIPE}
    assert made.runner_up["pooling"] == scores.RECIPE
    assert made.advice.startswith("Read it by encode_query and encode_document: ")


def test_nothing_is_recommended_that_may_be_chance() -> None:
    for low, usable in ((0.51, True), (0.5, False), (0.4, False), (np.nan, False)):
        made = make(SUMMARY.assign(auc_low=low), found=report(["mean"]))
        assert made.advice.startswith("Do not use it") == (not usable)
        assert made.advice.startswith("Read it by mean") == usable


def test_too_few_items_for_an_interval_are_said() -> None:
    made = make(SUMMARY.assign(items=1, auc_low=np.nan, auc_high=np.nan))
    assert made.items == 1
    assert any("Too few items" in warning for warning in made.warnings)


@pytest.mark.parametrize(
    ("weak_high", "low", "said"), [(0.45, 0.85, True), (0.55, 0.85, False), (0.45, 0.4, False), (np.nan, 0.85, False)]
)
def test_a_weak_candidate_that_is_mostly_closer_is_said_where_the_model_is_of_use(
    weak_high: float, low: float, said: bool
) -> None:
    made = make(SUMMARY.assign(auc_weak=0.321, auc_weak_high=weak_high, auc_low=low))
    assert any("against weak 0.32)" in warning for warning in made.warnings) == said


def test_doubts_about_the_items_and_what_the_doctor_found_stand_on_the_card() -> None:
    found = report(problems=["It hears one token."], warnings=["Its limit is short.", "It is old."])
    made = card.make(STUDY, SUMMARY, TESTS, CHOSEN, found, COSINES, ["9 items are few."])
    assert made.warnings == ["9 items are few.", "It hears one token.", "Its limit is short.", "It is old."]


def test_the_study_is_the_one_that_was_asked_for() -> None:
    other = SUMMARY.assign(language="zh", auc=[0.99, 0.1, 0.2])
    compared = pd.concat([TESTS.rename(index={"en": "zh"}).assign(p_holm=0.001), TESTS])
    shares = pd.concat([CHOSEN.rename(index={"en": "zh"}) * 0, CHOSEN])
    assert make(pd.concat([other, SUMMARY]), compared, shares) == make()


def test_the_tables_of_scores_make_a_card() -> None:
    generator = np.random.default_rng(0)
    rows = [
        ("m", "en", pooling, True, "s", str(item), candidate, shift * (candidate == "strong") + noise)
        for pooling, shift in (("cls", 0.0), ("mean", 2.0), ("max", 1.0))
        for item in range(60)
        for candidate, noise in zip(scores.CANDIDATES, generator.normal(size=3), strict=True)
    ]
    table = pd.DataFrame(rows, columns=scores.COLUMNS)
    each = scores.measures(table)
    summarised, compared = scores.summary(table), scores.paired(each, ["cls", "mean", "max"])
    made = make(summarised, compared, scores.chosen(each["auc"]), table_of_cosines=table)
    aucs = summarised.set_index("pooling")["auc"]
    assert [made.best["pooling"], made.runner_up["pooling"]] == ["mean", "max"]
    assert made.best["auc"] == aucs["mean"]
    assert made.best["chosen"] > 0.9
    assert made.runner_up["difference"] == pytest.approx(aucs["mean"] - aucs["max"])
    assert 0 < made.runner_up["low"] < made.runner_up["difference"] < made.runner_up["high"]
    assert made.as_good == ["mean"]
    best = table[table["pooling"] == "mean"]
    for row, aim in zip(made.thresholds, ("precision", "recall"), strict=True):
        found = thresholds.find(best, **{aim: 0.9}).iloc[0]
        assert [row["pooling"], row["aim"], row["target"], row["base_rate"]] == ["mean", aim, 0.9, 0.5]
        assert row["threshold"] == found["threshold"]
        assert [row["precision"], row["recall"]] == found[["precision", "recall"]].astype(float).round(2).tolist()


def test_the_thresholds_are_those_of_the_pooling_that_is_advised() -> None:
    for found, advised in ((report(), "mean"), (report(["max"]), "max"), (report(["cls"]), "mean")):
        made = make(found=found)
        assert f"ead it by {advised}" in made.advice
        assert [row["pooling"] for row in made.thresholds] == [advised] * 2
        place = ["cls", "mean", "max"].index(advised)
        assert all(place < row["threshold"] < place + 1 for row in made.thresholds)


def test_where_nothing_is_recommended_there_is_no_threshold() -> None:
    assert make(found=report(unsound=("cls", "mean", "max"))).thresholds == []
    assert make(SUMMARY.assign(auc_low=0.5)).thresholds == []
    assert make(SUMMARY.assign(auc_low=np.nan)).thresholds == []


def test_a_card_says_why_it_has_no_threshold() -> None:
    made = make(table_of_cosines=cosines(items=6))
    assert [row["note"][:23] for row in made.thresholds] == ["6 items are too few to "] * 2
    assert "6 items are too few to choose on" in card.to_html([made])
    assert strict(card.to_json([made]))[0]["thresholds"][0]["threshold"] is None


def test_one_pooling_alone_makes_a_card() -> None:
    table = SUMMARY.query("pooling == 'mean'")
    index = pd.MultiIndex.from_product([["m"], ["en"], [0, 1], ["mean"]], names=[*scores.STUDY[:2], "item", "pooling"])
    none = scores.paired(pd.DataFrame({"auc": [0.9, 0.8]}, index), ["mean"])
    made = make(table, none)
    assert made.best["pooling"] == "mean"
    assert made.runner_up is None
    assert made.as_good == ["mean"]


def test_a_recipe_that_the_doctor_calls_unsound_is_never_recommended() -> None:
    names = {"mean": scores.RECIPE}
    compared = TESTS.rename(index={"mean − cls": f"{scores.RECIPE} − cls", "max − mean": f"max − {scores.RECIPE}"})
    arguments = SUMMARY.replace({"pooling": names}), compared, CHOSEN.rename(index=names)
    own = COSINES.replace({"pooling": names})
    assert make(*arguments, table_of_cosines=own).best["pooling"] == scores.RECIPE
    assert make(*arguments, report(problems=["It hears one token."]), own).best["pooling"] == "max"


def test_one_of_several_declared_poolings_is_not_the_declared_recipe() -> None:
    made = make(found=report(["max", "mean"]))  # both in one vector, twice as long
    assert made.declared == ["max", "mean"]
    assert "as its encode does" not in made.advice


def test_where_nothing_is_sound_nothing_is_recommended() -> None:
    made = make(found=report(unsound=("cls", "mean", "max")))
    assert made.advice == card.UNSOUND
    assert made.best["pooling"] == "mean"


def test_many_items_that_all_agree_are_not_too_few() -> None:
    made = make(SUMMARY.assign(auc=[0.7, 1.0, 0.9], auc_low=[0.6, 1.0, 0.8], auc_high=[0.8, 1.0, 0.95]))
    assert made.best["low"] == made.best["high"] == 1
    assert made.warnings == []


# --- what is written ----------------------------------------------------------------------------------------------


def strict(text: str) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_holds_every_attribute_to_three_decimals() -> None:
    (found,) = strict(card.to_json([make(SUMMARY.assign(auc=[0.7, 0.912345, 0.88]))]))
    first, _ = found.pop("thresholds")
    assert first["pooling"] == "mean"
    assert first["threshold"] == round(first["threshold"], 3)
    assert found == {
        "model": "m",
        "language": "en",
        "items": 40,
        "advice": make().advice,
        "best": {"pooling": "mean", "auc": 0.912, "low": 0.85, "high": 0.95, "chosen": 0.75},
        "runner_up": {"pooling": "max", "auc": 0.88, "difference": 0.02, "low": -0.01, "high": 0.06, "p_holm": 0.3},
        "as_good": ["mean", "max"],
        "declared": [],
        "warnings": [],
    }


def test_json_is_strict_and_keeps_chinese() -> None:
    none = make(SUMMARY.assign(auc_low=np.nan, auc_high=np.nan), found=report(warnings=['它只听见"第一个"字']))
    text = card.to_json([none, make()])
    first, second = strict(text)
    assert first["best"]["low"] is first["best"]["high"] is None
    assert second["best"]["low"] == 0.85
    assert first["warnings"][-1] == '它只听见"第一个"字'
    assert "第一个" in text
    assert text.endswith("]\n")


def test_html_names_every_fact() -> None:
    made = make(found=report(["cls", "max"], problems=["It hears one token."], warnings=["Its limit is short."]))
    text = unescape(re.sub("<[^>]*>", " ", card.to_html([made]).removeprefix(card.STYLE)))
    facts = ["m, English", made.advice, "mean: AUC 0.900 (0.850 to 0.950)", "75%", "40 items"]
    facts += ["max: AUC 0.880", "0.020 (-0.010 to 0.060)", "p = 0.300", "mean, max", "cls + max"]
    facts += ["for precision 0.9", "for recall 0.9", f"mean: {thresholds.sentence(made.thresholds[0])}"]
    facts += ["It hears one token.", "Its limit is short."]
    assert [fact for fact in facts if fact not in text] == []
    assert "unknown" in card.to_html([make()])  # what its encode takes


def test_html_escapes_whatever_it_is_given() -> None:
    evil = "<script>alert('1')</script>&"
    compared = TESTS.rename(index={"m": evil, "max − mean": f"{evil} − mean", "max − cls": f"{evil} − cls"})
    table = SUMMARY.replace({"model": {"m": evil}, "pooling": {"max": evil}})
    found = report([evil], warnings=[evil], problems=[evil])
    own = COSINES.replace({"model": {"m": evil}, "pooling": {"max": evil}})
    made = card.make((evil, "en"), table, compared, CHOSEN.rename(index={"m": evil, "max": evil}), found, own)
    assert made.runner_up["pooling"] == evil
    text = card.to_html([made])
    assert "<script" not in text
    # model, advice, runner-up, two thresholds, as good, what its encode takes, problem and warning
    assert text.count("&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&amp;") == 9


def test_html_holds_each_card_once_and_well_formed() -> None:
    text = card.to_html([make(), make(found=report(warnings=["Beware."]))])
    assert text.count('<section class="recipe-card">') == text.count("</section>") == 2
    assert text.count("<style>") == 1
    assert text.count("<ul>") == text.count("</ul>") == 1  # no empty list
    for tag in ("dl", "dt", "dd", "li", "p", "h3", "strong"):
        assert text.count(f"<{tag}>") == text.count(f"</{tag}>") > 0


def test_save_writes_json_and_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLING_LAB_OUTPUT", str(tmp_path))
    cards = [make(), make(found=report(["mean"], warnings=["我饿了"]))]
    names = card.save(cards, "06_cards")
    assert names == ["data/results/06_cards.json", "data/results/06_cards.html"]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(tmp_path / name for name in names)
    texts = [(tmp_path / name).read_bytes().decode("utf-8") for name in names]
    assert texts[0] == card.to_json(cards)
    assert texts[1].startswith('<!doctype html><meta charset="utf-8">')
    assert card.to_html(cards) in texts[1]
