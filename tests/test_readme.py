"""The generated parts: filled from the results, left alone when they agree, refused when they turn untrue."""

from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_notebook

from helpers import readme

SUMMARY = pd.DataFrame(
    [
        # model, language, pooling, items, delta, its interval, auc, its interval, strong_over_weak
        ("e5-small", "zh", "cls", 8, 0.019, 0.01, 0.02, 0.70, 0.5, 0.8, 0.375),
        ("e5-small", "zh", "mean", 8, 0.037, 0.02, 0.05, 0.92, 0.76, 1.0, 0.5),
        ("e5-small", "zh", "lasttoken", 8, 0.048, -0.01, 0.08, 0.61, 0.4, 1.0, 0.375),
        ("minilm", "en", "cls", 8, 0.135, 0.07, 0.21, 0.88, 0.6, 0.85, 0.625),
        ("minilm", "en", "lasttoken", 8, 0.294, 0.16, 0.40, 0.84, 0.5, 1.0, 0.5),
        ("minilm", "en", "mean", 8, 0.285, 0.19, 0.40, 0.95, 0.80, 1.0, 0.75),
    ],
    columns=["model", "language", "pooling", "items"]
    + ["delta", "delta_low", "delta_high", "auc", "auc_low", "auc_high", "strong_over_weak"],
)
FORCED = pd.DataFrame(
    [
        (f"{count}, {fate}", way, 1.0)
        for count in ("must be 1", "is 1")
        for fate in ("sees nothing", "sees every slot")
        for way in ("alone", "right, all 32")
    ],
    columns=["what", "case", "value"],
)
SCALE = pd.DataFrame(
    [
        ("none", "e5-small", "zh", "cls", 320, 0.022, 0.912),
        ("none", "e5-small", "zh", "mean", 320, 0.038, 0.921),
        ("none", "e5-small", "en", "cls", 320, 0.030, 0.901),
        ("none", "e5-small", "en", "mean", 320, 0.049, 0.854),
        ("none", "minilm", "en", "cls", 320, 0.155, 0.924),
        ("none", "minilm", "en", "mean", 320, 0.282, 0.943),
        ("centred", "e5-small", "zh", "cls", 320, 0.223, 0.909),
    ],
    columns=["step", "model", "language", "pooling", "items", "delta", "auc"],
)
COMPARISONS = pd.DataFrame(
    [
        ("e5-small", "zh", "mean − cls", 0.010, -0.008, 0.027, 1.0),
        ("e5-small", "zh", "max − cls", -0.1, -0.2, -0.05, 0.01),
        ("e5-small", "en", "mean − cls", -0.047, -0.069, -0.026, 0.004),
        ("minilm", "en", "mean − cls", 0.019, 0.001, 0.037, 0.2),
    ],
    columns=["model", "language", "compared", "difference", "low", "high", "p_holm"],
)
ITEMS = pd.DataFrame(
    [("zh", "characters, 50% quantile", 12, 12, 13, 11.5), ("zh", "begins with …", float("nan"), 0.04, 0.43, 0.07)],
    columns=["language", "measure", "query", "strong", "weak", "unrelated"],
)
WITHOUT = pd.DataFrame(
    [("zh", "length", 0.41, 0.37, 0.45, 0.40, 0.36, 0.44)],
    columns=["language", "baseline", "auc", "auc_low", "auc_high", "auc_weak", "auc_weak_low", "auc_weak_high"],
)
TRIAL = pd.DataFrame(
    [
        ("E12", "AUC, e5-small en", -0.047, -0.069, -0.026),
        ("E12", "first of 24, e5-small zh", 0.116, 0.090, 0.142),
        ("E12", "first of 24, e5-small en", 0.038, 0.015, 0.063),
        ("E12", "first of 24, minilm en", 0.202, 0.168, 0.237),
    ],
    columns=["id", "setting", "measured", "low", "high"],
)
TRAINED = pd.DataFrame(
    [
        (model, student, seed, measure, before, after + seed / 100, teacher, gain_low, 0.01)
        for model, student, measure, before, after, teacher, gain_low in (
            ("minilm", "cls", "auc", 0.919, 0.93, 0.948, 0.009),
            ("minilm", "cls", "first of 24", 0.57, 0.67, 0.77, 0.06),
            ("minilm", "lasttoken", "auc", 0.914, 0.94, 0.948, 0.01),
            ("minilm", "cls, shuffled", "auc", 0.919, 0.66, 0.948, -0.3),
            ("smollm2, first 6 layers", "lasttoken", "auc", 0.49, 0.59, 0.63, 0.08),
            ("smollm2, first 6 layers", "position 0", "auc", 0.39, 0.40, 0.63, -0.02),
        )
        for seed in (0, 1)
    ],
    columns=["model", "student", "seed", "measure", "before", "after", "teacher", "gain_low", "left_high"],
)
CURVES = pd.DataFrame({"step": [0, 8, 32]})
LEDGER = pd.DataFrame(
    [
        ("A1", "cls_vs_normalized", "It | stands first.", "confirmed"),
        ("B1", "pooling_tutorial", "It is small.", "wrong"),
        ("B3", "pooling_tutorial", "4096 numbers.", "wrong"),
    ],
    columns=["id", "article", "claim", "verdict"],
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Both files with every kind of block, one notebook and the results of the studies."""
    for name, blocks in readme.FILES.items():
        stale = "\n".join(f"<!-- generated: {block} -->\nSTALE\n<!-- end -->" for block in blocks)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# Lab\n{stale}\nLimits.\n", encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    about = {"question": "what is a token?", "minutes": 2, "models": ["minilm", "e5-small"]}
    nbformat.write(new_notebook(metadata={"pooling_lab": about}), tmp_path / "notebooks/01_tokens.ipynb")
    save(tmp_path, SUMMARY)
    save(tmp_path, FORCED, readme.DECODERS)
    save(tmp_path, SCALE, readme.SCALE)
    save(tmp_path, COMPARISONS, readme.COMPARISONS)
    save(tmp_path, ITEMS, readme.ITEMS)
    save(tmp_path, WITHOUT, readme.WITHOUT)
    save(tmp_path, TRIAL, readme.TRIAL)
    save(tmp_path, TRAINED, readme.TRAINED)
    save(tmp_path, CURVES, readme.CURVES)
    save(tmp_path, LEDGER, readme.LEDGER)
    return tmp_path


def save(root: Path, table: pd.DataFrame, name: str = readme.STUDY) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def test_blocks_are_filled_and_the_rest_is_kept(root: Path) -> None:
    assert readme.differences(root)
    assert readme.update(root) == [Path("README.md"), Path("data/DATA.md")]
    data = (root / "data/DATA.md").read_text(encoding="utf-8")
    assert "| zh | characters, 50% quantile | 12 | 12 | 13 | 12 |" in data
    assert "| zh | begins with … | – | 4% | 43% | 7% |" in data
    assert "| zh | length | 0.41 (0.37 to 0.45) | 0.40 (0.36 to 0.44) |" in data
    text = (root / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Lab\n") and text.endswith("Limits.\n") and "STALE" not in text
    assert "AUC 0.92 against 0.70 on multilingual-e5-small and 0.95 against 0.88 on all-MiniLM-L6-v2" in text
    assert "sorts them worse than mean (AUC 0.61 and 0.84)" in text
    assert "in 4 and 6 of 8 items" in text
    assert "For such a pair the article prints 0.5921.**" in text
    assert "**With 320 items a language" in text
    assert "-0.047 (-0.069 to -0.026) on the same model in English" in text
    assert "comes first of 24 more often by 0.12, 0.04 and 0.20." in text
    assert "from 0.022 to 0.223 and its AUC from 0.912 to 0.909" in text
    assert "for 32 steps" in text
    assert "from 0.919 to between 0.930 and 0.940 in AUC (mean: 0.948), in each of 2 runs" in text
    assert "last token from 0.490 to between 0.590 and 0.600, and its position 0 from 0.390 to between 0.400" in text
    assert "| e5-small (zh) | `mean` | 0.037 (0.020 to 0.050) | 0.92 (0.76 to 1.00) | 4 of 8 |" in text
    assert "| [01_tokens](notebooks/01_tokens.ipynb) | what is a token? | 2 | minilm, e5-small |" in text


def test_a_part_that_is_gone_is_missed(root: Path) -> None:
    readme.update(root)
    path = root / "README.md"
    path.write_text(path.read_text(encoding="utf-8").replace("<!-- generated: finding -->", ""), encoding="utf-8")
    assert readme.differences(root) == [
        "README.md: it must hold each generated part once: "
        "finding, scale, decoders, training, results, claims, speed, notebooks"
    ]


def test_a_copy_of_a_notebook_stays_out_of_the_table(root: Path) -> None:
    readme.update(root)
    ours = root / "notebooks/01_tokens.ipynb"
    ours.with_name("01_tokens-Copy1.ipynb").write_bytes(ours.read_bytes())
    assert readme.differences(root) == []


def test_an_up_to_date_readme_is_left_alone(root: Path) -> None:
    readme.update(root)
    before = (root / "README.md").stat()
    assert readme.differences(root) == []
    assert readme.update(root) == []
    assert (root / "README.md").stat() == before


@pytest.mark.parametrize(
    ("column", "old", "new", "complaint"),
    [
        ("auc", 0.92, 0.60, "mean no longer beats cls on e5-small"),
        ("auc", 0.84, 0.96, "mean no longer beats lasttoken on minilm"),
        ("delta", 0.048, 0.030, "lasttoken no longer has the widest gap on e5-small"),
    ],
)
def test_a_finding_that_no_longer_holds_is_refused(
    root: Path, column: str, old: float, new: float, complaint: str
) -> None:
    save(root, SUMMARY.replace({column: {old: new}}))
    before = (root / "README.md").read_bytes()
    with pytest.raises(readme.FindingError, match=complaint):
        readme.update(root)
    assert (root / "README.md").read_bytes() == before


@pytest.mark.parametrize(
    ("student", "column", "value", "complaint"),
    [
        ("cls", "gain_low", -0.001, "another gain of cls"),
        ("lasttoken", "gain_low", 0.0, "another gain of lasttoken"),
        ("cls, shuffled", "gain_low", 0.01, "another gain of cls, shuffled"),
        ("position 0", "gain_low", 0.01, "another gain of position 0"),
        ("cls", "left_high", -0.001, "cls no longer reaches its teacher"),
        ("cls", "after", 0.99, "cls comes first as often"),
    ],
)
def test_another_outcome_of_the_training_is_refused(
    root: Path, student: str, column: str, value: float, complaint: str
) -> None:
    table = TRAINED.copy()
    table.loc[table["student"].eq(student) & table["seed"].eq(1), column] = value  # one seed is enough
    save(root, table, readme.TRAINED)
    with pytest.raises(readme.FindingError, match=complaint):
        readme.check(root)


def test_a_pair_that_is_no_longer_forced_is_refused(root: Path) -> None:
    save(root, FORCED.assign(value=[1.0] * 7 + [0.0]), readme.DECODERS)
    with pytest.raises(readme.FindingError, match="no longer is one printed cell 1"):
        readme.check(root)


@pytest.mark.parametrize(
    ("column", "row", "new", "complaint"),
    [
        ("p_holm", 2, 0.06, "another verdict"),
        ("difference", 2, 0.047, "another verdict"),
        ("p_holm", 3, 0.01, "another verdict"),
    ],
)
def test_another_verdict_at_scale_is_refused(root: Path, column: str, row: int, new: float, complaint: str) -> None:
    changed = COMPARISONS.copy()
    changed.loc[row, column] = new
    save(root, changed, readme.COMPARISONS)
    with pytest.raises(readme.FindingError, match=complaint):
        readme.check(root)


def test_a_gap_that_centring_leaves_alone_is_refused(root: Path) -> None:
    save(root, SCALE.replace({"delta": {0.223: 0.05}}), readme.SCALE)
    with pytest.raises(readme.FindingError, match="centring no longer moves Δ alone"):
        readme.check(root)


def test_verdicts_are_counted_by_article_with_an_example(root: Path) -> None:
    lines = readme.render(root, "README.md").splitlines()
    table = [line for line in lines if line.startswith(("| verdict", "| confirmed", "| wrong", "| partly"))]
    assert table == [
        "| verdict | first article | second article | such as |",
        "| confirmed | 1 | 0 | A1: It &#124; stands first. |",
        "| wrong | 0 | 2 | B3: 4096 numbers. |",
    ]


def test_a_search_that_mean_no_longer_wins_is_refused(root: Path) -> None:
    changed = TRIAL.copy()
    changed.loc[3, "low"] = -0.01
    save(root, changed, readme.TRIAL)
    with pytest.raises(readme.FindingError, match=r"mean no longer comes first more often \(\('minilm', 'en'\)\)"):
        readme.scale(root)
