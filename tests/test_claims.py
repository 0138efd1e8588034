"""Verdicts follow from what was measured, and nothing else can make one."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import claims
from helpers.claims import ClaimError, Finding, Trial


@pytest.fixture
def trial() -> Trial:
    return Trial("02_cls_vs_normalized", "minilm")


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([True], "confirmed"),
        ([True, True], "confirmed"),
        ([True, False], "partly"),
        ([True, None], "partly"),
        ([False], "wrong"),
        ([False, None], "wrong"),
        ([None], "unsupported"),
        ([None, None], "unsupported"),
    ],
)
def test_verdict_follows_from_the_settings(outcomes: list[bool | None], verdict: str) -> None:
    assert claims.judge(outcomes) == verdict


@pytest.mark.parametrize(
    ("outcomes", "transfers", "held", "verdict"),
    [
        ([True, False], True, False, "not transferable"),
        ([False], True, False, "not transferable"),
        ([False, None], True, False, "not transferable"),
        ([True, True], True, False, "confirmed"),
        ([None], True, False, "unsupported"),
        ([True, None], True, False, "partly"),
        ([False], False, True, "outdated"),
        ([True], False, True, "confirmed"),
        ([True, False], False, True, "partly"),
    ],
)
def test_what_the_question_is_matters_only_where_the_claim_fails(
    outcomes: list[bool | None], transfers: bool, held: bool, verdict: str
) -> None:
    assert claims.judge(outcomes, transfers=transfers, held=held) == verdict


@pytest.mark.parametrize(
    ("measured", "how", "holds"),
    [
        (True, {}, True),
        (False, {}, False),
        (False, {"claimed": "identical"}, False),  # words for the reader beside a bool that speaks for itself
        (False, {"claimed": False}, True),
        (2560, {"claimed": 4096}, False),
        (4096, {"claimed": 4096}, True),
        ("False", {"claimed": "False"}, True),
        ("mean", {"claimed": "cls"}, False),
        (0.26495, {"claimed": 0.2650, "tolerance": 5.1e-5}, True),
        (0.4205, {"claimed": 0.4016, "tolerance": 5e-5}, False),
        (0.3, {"holds": lambda value: value < 0.35}, True),
        (0.4, {"holds": lambda value: value < 0.35, "claimed": "below 0.35"}, False),
        ((0.2, 0.1, 0.3), {"holds": lambda value: value > 0}, True),
        ((0.2, -0.1, 0.3), {"holds": lambda value: value > 0}, None),
        ((-0.2, -0.3, -0.1), {"holds": lambda value: value > 0}, False),
        ((0.0, -0.5, 0.5), {"holds": lambda value: abs(value) > 0.4}, None),
        ((0.5, 0.4, 0.6), {"claimed": 0.58}, True),
        ((0.5, 0.4, 0.6), {"claimed": 0.61}, False),
        ((0.5, 0.4, 0.6), {"claimed": 0.61, "tolerance": 0.02}, True),
        (np.float32(1), {"claimed": 1}, True),
        (np.bool_(False), {}, False),
        (torch.tensor(2.0), {"claimed": 2}, True),
    ],
)
def test_a_setting_is_judged_as_documented(trial: Trial, measured: object, how: dict, holds: bool | None) -> None:
    (setting,) = trial.check("A8", measured, because="So it is.", **how).settings
    assert setting.holds is holds


@pytest.mark.parametrize(
    ("measured", "how", "says"),
    [
        (None, {}, "nothing was measured"),
        ({}, {}, "nothing was measured"),
        (0.5, {}, "cannot be compared"),
        ("text", {}, "cannot be compared"),
        (1.5, {"claimed": "much"}, "cannot be compared"),
        ("text", {"claimed": 3}, "cannot be compared"),
        (math.nan, {"holds": bool}, "no measurement"),
        ((0.5, math.nan, math.nan), {"holds": bool}, "no measurement"),
        ({"mean": math.nan}, {"holds": bool}, "Claim A8, mean"),
        ((0.5, 0.9, 0.1), {"holds": bool}, r"must be \(value, low, high\)"),
        ((0.5, 0.9), {"holds": bool}, r"must be \(value, low, high\)"),
        (True, {"missing": "the samples"}, "nothing can be missing"),
        (True, {"because": "no full stop"}, "must be a sentence"),
        (True, {"because": ""}, "must be a sentence"),
    ],
)
def test_what_decides_nothing_is_refused(trial: Trial, measured: object, how: dict, says: str) -> None:
    with pytest.raises(ClaimError, match=says):
        trial.check("A8", measured, **{"because": "So it is.", **how})
    assert not trial.findings


def test_an_unknown_claim_is_refused_and_close_ones_named(trial: Trial) -> None:
    with pytest.raises(ClaimError, match=r"no claim 'A81'.*A8"):
        trial.check("A81", True, because="So it is.")


def test_another_notebooks_claim_is_refused(trial: Trial) -> None:
    with pytest.raises(ClaimError, match="B3 is notebook 04's"):
        trial.check("B3", 2560, claimed=4096, because="So it is.")


@pytest.mark.parametrize("model", ["minilm", "some/folder/tiny-qwen3", "Qwen/Qwen3-4B", "x/not-Qwen3-Embedding-4B"])
def test_only_a_qwen3_embedding_settles_what_is_said_of_it(model: str) -> None:
    trial = Trial("06_benchmark_at_scale", model)
    found = trial.check("E13", 0.1, needs_qwen3=True, holds=lambda value: value > 0, because="So it is.")
    assert found.verdict == "needs Qwen3 weights"
    assert trial.check("E13", needs_qwen3=True, because="None here.").verdict == "needs Qwen3 weights"


@pytest.mark.parametrize("model", ["Qwen/Qwen3-Embedding-4B", "Qwen/Qwen3-Embedding-0.6B", "./qwen3-embedding-8b"])
def test_a_qwen3_embedding_settles_it(model: str) -> None:
    trial, how = Trial("06_benchmark_at_scale", model), {"holds": lambda value: value > 0, "because": "So it is."}
    assert trial.check("E13", 0.1, needs_qwen3=True, **how).verdict == "confirmed"
    assert trial.check("E13", -0.1, needs_qwen3=True, **how).verdict == "wrong"
    with pytest.raises(ClaimError, match="nothing was measured"):
        trial.check("E13", needs_qwen3=True, because="None here.")


def test_carrying_over_is_no_question_for_the_model_itself() -> None:
    for model, verdict in (("minilm", "not transferable"), ("Qwen/Qwen3-Embedding-4B", "wrong")):
        trial = Trial("07_thresholds", model)
        found = trial.check("F7", 0.1, holds=lambda share: share > 0.5, transfers=True, because="So it is.")
        assert found.verdict == verdict


def test_what_nobody_can_know(trial: Trial) -> None:
    found = trial.check("A8", because="The samples are not there.", missing="the 800 samples.")
    assert (found.verdict, found.settings) == ("not checkable", ())
    assert found.because.endswith("Missing: the 800 samples.")


def test_what_once_held_says_when(trial: Trial) -> None:
    found = trial.check("A12", False, held="version 5.0 (its source)", because="It warns.")
    assert (found.verdict, found.because) == ("outdated", "It warns. It held with version 5.0 (its source).")


def test_a_second_check_replaces_the_first_and_is_shown_again(trial: Trial) -> None:
    trial.check("A8", False, because="First.")
    assert [one.verdict for one in trial.show().findings] == ["wrong"]
    assert (repr(again := trial.show()), again._repr_html_()) == (claims.NOTHING, f"<p>{claims.NOTHING}</p>")
    trial.check("A8", True, because="Second.")
    assert [one.verdict for one in trial.show().findings] == ["confirmed"]
    assert len(trial.findings) == 1


def test_what_is_shown_is_escaped_and_marked(trial: Trial) -> None:
    trial.check("A8", {"<b>": 0.5, "mean": 1.0}, claimed=1.0, because="`<i>` & more.", source="its <card>")
    page = trial.show()._repr_html_()
    assert "<li>&lt;b&gt;: 0.500\N{NO-BREAK SPACE}✗</li><li>mean: 1.000\N{NO-BREAK SPACE}✓</li>" in page
    assert "<code>&lt;i&gt;</code> &amp; more. Source: its &lt;card&gt;." in page
    assert "◐ partly" in page
    trial.check("A8", {"<b>": 0.5, "mean": (1.0, 0.9, 1.1)}, claimed=1.0, because="So it is.")
    assert "A8  partly: A normalized vector has length 1." in repr(shown := trial.show())
    assert "mean: 1.000 (0.900 to 1.100) → yes" in repr(shown)


def test_evidence_is_written_a_row_for_each_setting(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOLING_LAB_OUTPUT", str(tmp_path))
    trial.check("A8", {"cls": (1.0, 0.9, 1.1), "mean": 2.0}, claimed=1.0, because="So it is.")
    trial.check("A9", because="Nobody knows.", missing="all.")
    assert trial.save(complete=False) == "data/results/02_claims.csv"
    table = pd.read_csv(tmp_path / "data/results/02_claims.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == claims.EVIDENCE
    assert table["setting"].tolist() == ["cls", "mean", ""]
    assert table["measured"].tolist() == ["1.000", "2.000", ""]
    assert table["low"].tolist() == ["0.900", "", ""]
    assert table["holds"].tolist() == ["yes", "no", ""]
    assert set(table["model"]) == {"minilm"}


def test_a_claim_that_is_no_longer_settled_stops_the_notebook(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOLING_LAB_OUTPUT", str(tmp_path))
    trial.check("A8", True, because="So it is.")
    with pytest.raises(ClaimError, match=r"02 settles A2, A3, .* no longer"):
        trial.save()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "shown"),
    [(True, "yes"), (False, "no"), (3, "3"), (0.12345, "0.123"), (-0.0001, "0.000"), (4096.0, "4096"), ("a", "a")],
)
def test_values_are_shown_as_far_as_processors_agree(value: claims.Value, shown: str) -> None:
    assert claims.text(value) == shown


HEAD = "id,article,section,where,claim,notebook,provisional,difference\n"
LINE = "A1,cls_vs_normalized,section,where,claim,01,confirmed,\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,claim\nA1,x\n", "has the columns id, claim"),
        (HEAD + LINE + LINE, "A1 stands there twice"),
        (HEAD + LINE.replace("confirmed", "sure"), "row 2, provisional: 'sure' is none of confirmed"),
        (HEAD + LINE.replace("cls_vs_normalized", "third"), "row 2, article: 'third'"),
        (HEAD + LINE.replace(",claim,", ",,"), "row 2, claim: it is empty"),
    ],
)
def test_a_faulty_file_is_named_by_row_and_column(tmp_path: Path, content: str, says: str) -> None:
    (path := tmp_path / "claims.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ClaimError, match=says):
        claims.read(path)


def test_finding_is_what_was_said(trial: Trial) -> None:
    found = trial.check("A8", 1.0, claimed=1.0, tolerance=1e-6, because="So it is.", source="a card, version 2")
    (setting,) = found.settings
    assert (setting.name, setting.value, setting.holds) == ("", 1.0, True)
    assert math.isnan(setting.low)
    assert math.isnan(setting.high)
    said = trial.claims.at["A8", "claim"]
    assert found == Finding("A8", said, "confirmed", "1.000", (setting,), "So it is.", "a card, version 2")
