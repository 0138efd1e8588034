"""What counts as a difference between a fresh run and git, and what does not."""

import base64
import io
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from helpers.compare import clean, compare_notebooks, compare_text
from helpers.notebooks import changes
from helpers.series import SKIPPED, NotebookError


@pytest.mark.parametrize(
    ("fresh", "committed"),
    [
        ("cosine 0.6660", "cosine 0.6661"),
        ("−0.12345", "-0.12341"),
        ("share 58.7 %", "share 58.8 %"),
        ("p = 1.002e-3", "p = 1.001e-3"),
        ("<td>0.123456</td>", "<td>0.123500</td>"),
        ("我饿了 0.9410", "我饿了 0.9409"),
    ],
)
def test_rounding_is_no_difference(fresh: str, committed: str) -> None:
    assert compare_text(fresh, committed) == ""


@pytest.mark.parametrize(
    ("fresh", "committed"),
    [
        ("cosine 0.6660", "cosine 0.6690"),
        ("AUC 0.97", "AUC 0.95"),
        ("0.12", "-0.12"),
        ("8 of 8", "7 of 8"),
        ("True", "False"),
        ("mean wins", "cls wins"),
        ("0.5 0.6", "0.5"),
        ("a\nb", "a"),
        ("0.5", "nan"),
        ("1,234 tokens", "1,235 tokens"),
    ],
)
def test_a_real_difference_is_said(fresh: str, committed: str) -> None:
    assert "in git" in compare_text(fresh, committed)


def test_pictures_are_compared_by_their_looks(tmp_path: Path) -> None:
    def draw(path: Path, height: float, label: str = "cosine") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        fig, ax = plt.subplots(figsize=(6, 4))
        ax.bar([0, 1], [1, height])
        ax.set_ylabel(label)
        fig.savefig(path)
        plt.close(fig)
        return path

    place, root = tmp_path / "place", tmp_path / "root"
    draw(place / "figures/01_x.png", 1.0)
    draw(root / "figures/01_x.png", 1.0001)
    assert changes(place, [], root) == {}
    for other in ({"height": 0.99}, {"height": 1.0, "label": "cosines"}):
        draw(root / "figures/01_x.png", **other)
        assert changes(place, [], root) == {Path("figures/01_x.png"): "the picture looks different"}


def test_prints_that_arrive_in_pieces_are_one_output() -> None:
    pieces = [new_output("stream", text=text) for text in ("a\n", "b\n")]
    notebook = new_notebook(cells=[new_code_cell("print('a'); print('b')", outputs=pieces, execution_count=1)])
    assert [one.text for one in clean(notebook).cells[0].outputs] == ["a\nb\n"]


def picture(height: float) -> bytes:
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.bar([0, 1], [1, height])
    file = io.BytesIO()
    fig.savefig(file)
    plt.close(fig)
    return file.getvalue()


def showing(content: bytes) -> NotebookNode:
    outputs = [new_output("display_data", {"image/png": base64.b64encode(content).decode()})]
    return new_notebook(cells=[new_code_cell("plot()", outputs=outputs, execution_count=1)])


def test_a_cell_that_the_runner_leaves_alone_needs_no_run() -> None:
    run, skipped = (new_code_cell("1", execution_count=count, id=f"{count}") for count in (1, None))
    with pytest.raises(NotebookError, match="cell 2 was not run"):
        clean(new_notebook(cells=[run, skipped]))
    skipped.metadata["tags"] = ["page", SKIPPED]
    assert clean(new_notebook(cells=[run, skipped])).cells[1] == skipped


def test_pictures_inside_notebooks_are_compared_too() -> None:
    fresh = showing(picture(0.5))
    assert compare_notebooks(fresh, showing(picture(0.5001))) == []
    assert compare_notebooks(fresh, showing(picture(0.8))) == ["cell 1: the picture looks different"]
    assert compare_notebooks(fresh, showing(b"no picture")) == ["cell 1: the picture in git cannot be read"]


def test_a_picture_cut_short_is_a_difference(tmp_path: Path) -> None:
    for folder, content in (("place", picture(1)), ("root", picture(1)[:500])):
        (tmp_path / folder / "figures").mkdir(parents=True)
        (tmp_path / folder / "figures/01_x.png").write_bytes(content)
    found = changes(tmp_path / "place", [], tmp_path / "root")
    assert found == {Path("figures/01_x.png"): "the picture in git cannot be read"}
