"""The README's generated parts: filled from the results, left alone when they agree, refused when they turn untrue."""

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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A README with every kind of block, one notebook and the study's results."""
    blocks = "\n".join(f"<!-- generated: {name} -->\nSTALE\n<!-- end -->" for name in readme.BLOCKS)
    (tmp_path / "README.md").write_text(f"# Lab\n{blocks}\nLimits.\n", encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    about = {"question": "what is a token?", "minutes": 2, "models": ["minilm", "e5-small"]}
    nbformat.write(new_notebook(metadata={"pooling_lab": about}), tmp_path / "notebooks/01_tokens.ipynb")
    save(tmp_path, SUMMARY)
    save(tmp_path, FORCED, readme.DECODERS)
    return tmp_path


def save(root: Path, table: pd.DataFrame, name: str = readme.STUDY) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def test_blocks_are_filled_and_the_rest_is_kept(root: Path) -> None:
    assert readme.differences(root)
    assert readme.update(root) == [Path("README.md")]
    text = (root / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Lab\n") and text.endswith("Limits.\n") and "STALE" not in text
    assert "AUC 0.92 against 0.70 on multilingual-e5-small and 0.95 against 0.88 on all-MiniLM-L6-v2" in text
    assert "sorts them worse than mean (AUC 0.61 and 0.84)" in text
    assert "in 4 and 6 of 8 items" in text
    assert "For such a pair the article prints 0.5921.**" in text
    assert "| e5-small (zh) | `mean` | 0.037 (0.020 to 0.050) | 0.92 (0.76 to 1.00) | 4 of 8 |" in text
    assert "| [01_tokens](notebooks/01_tokens.ipynb) | what is a token? | 2 | minilm, e5-small |" in text


def test_a_part_that_is_gone_is_missed(root: Path) -> None:
    readme.update(root)
    path = root / "README.md"
    path.write_text(path.read_text(encoding="utf-8").replace("<!-- generated: finding -->", ""), encoding="utf-8")
    assert readme.differences(root) == [
        "README.md: it must hold each generated part once: finding, decoders, results, notebooks"
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


def test_a_pair_that_is_no_longer_forced_is_refused(root: Path) -> None:
    save(root, FORCED.assign(value=[1.0] * 7 + [0.0]), readme.DECODERS)
    with pytest.raises(readme.FindingError, match="no longer is one printed cell 1"):
        readme.check(root)
