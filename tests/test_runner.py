"""The runner: what it runs, what it calls a difference, and what it never touches."""

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers import notebooks as runner
from helpers.models import Memory
from helpers.series import NotebookError

WRITE = """
import os
from pathlib import Path
folder = Path(os.environ["POOLING_LAB_OUTPUT"]) / "data/results"
folder.mkdir(parents=True, exist_ok=True)
(folder / "{name}.csv").write_text("value\\n{value}\\n")
print("the value is {value}")
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty lab in a folder with an awkward name; `os.environ` is restored afterwards."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    root = tmp_path / "pooling lab 池化"
    (root / "notebooks").mkdir(parents=True)
    return root


def add(root: Path, name: str, *sources: str, parameters: str = "", **metadata: object) -> Path:
    cells = [new_markdown_cell(f"# {name}"), *[new_code_cell(source) for source in sources]]
    if parameters:
        cells.insert(1, new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    about = {"question": "why?", "minutes": 1, "models": [], **metadata}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path = root / "notebooks" / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel, "pooling_lab": about}), path)
    return path


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_run_publish_and_run_again(lab: Path, tmp_path: Path) -> None:
    paths = [add(lab, "01_a", WRITE.format(name="01_a", value=0.25)), add(lab, "02_b", "1 + 1")]
    stale = lab / "data/results/00_old.csv"
    stale.parent.mkdir(parents=True)
    stale.write_text("old\n")
    place = tmp_path / "place"
    assert [one.error for one in runner.run(paths, place)] == ["", ""]
    published = {str(name) for name in runner.publish(place, paths, lab)}
    assert published == {
        "notebooks/01_a.ipynb",
        "notebooks/02_b.ipynb",
        "data/results/01_a.csv",
        "data/results/00_old.csv",
    }
    assert not stale.exists()
    text = paths[0].read_text(encoding="utf-8")
    assert "papermill" not in text and str(tmp_path) not in text
    assert nbformat.read(paths[1], as_version=4).cells[1].outputs[0]["data"]["text/plain"] == "2"
    before = snapshot(lab)
    runner.run(paths, place)
    assert runner.publish(place, paths, lab) == []
    assert snapshot(lab) == before


def test_a_failing_cell_is_named_and_nothing_is_changed(lab: Path, tmp_path: Path) -> None:
    paths = [
        add(lab, "01_bad", "x = 1", "raise ValueError('too cold')"),
        add(lab, "02_after", "1", needs=["01_bad"]),
    ]
    before = snapshot(lab)
    done = runner.run(paths, tmp_path / "place")
    assert [one.name for one in done] == ["01_bad"], "what needs the failed notebook is not started"
    assert "cell 2: ValueError: too cold" in done[0].error
    assert "raise ValueError" in done[0].error
    assert snapshot(lab) == before


def test_needs_are_waited_for(lab: Path, tmp_path: Path) -> None:
    slow = add(lab, "02_first", "import time; time.sleep(1)\n" + WRITE.format(name="02_first", value=1))
    read = "import os\nopen(os.environ['POOLING_LAB_OUTPUT'] + '/data/results/02_first.csv').read()"
    after = add(lab, "01_second", read, needs=["02_first"])
    assert [one.error for one in runner.run([after, slow], tmp_path / "place")] == ["", ""]


def test_vectors_are_shared_by_the_notebooks_of_one_run_and_no_other(lab: Path, tmp_path: Path) -> None:
    keep = """
import os, pathlib
folder = pathlib.Path(os.environ["POOLING_LAB_OUTPUT"]) / "embeddings"
assert not folder.exists(), "left by another run"
folder.mkdir()
(folder / "mean").touch()
"""
    find = "import os, pathlib\nassert pathlib.Path(os.environ['POOLING_LAB_OUTPUT'], 'embeddings/mean').exists()"
    paths, place = [add(lab, "01_a", keep), add(lab, "02_b", find, needs=["01_a"])], tmp_path / "place"
    for _ in range(2):
        assert [one.error for one in runner.run(paths, place)] == ["", ""]
        assert not (place / "embeddings").exists()


@pytest.mark.parametrize(("parameters", "kept"), [({"STEPS": 5}, True), (None, False)])
def test_a_study_that_was_cut_off_goes_on_with_its_trainings_and_nothing_else(
    lab: Path, tmp_path: Path, parameters: dict[str, int] | None, kept: bool
) -> None:
    train = """
import os, pathlib
folder = pathlib.Path(os.environ["POOLING_LAB_OUTPUT"]) / "training"
began = folder.exists()
folder.mkdir(exist_ok=True)
assert began, "cut off"
"""
    paths, place = [add(lab, "01_a", train)], tmp_path / "place"
    assert "cut off" in runner.run(paths, place, parameters)[0].error
    assert (place / "training").exists() is kept
    assert bool(runner.run(paths, place, parameters)[0].error) is not kept
    assert not (place / "training").exists()  # finished, or none of a study


def test_two_run_at_once(lab: Path, tmp_path: Path) -> None:
    meet = """
import os, pathlib, time
here = pathlib.Path(os.environ["POOLING_LAB_OUTPUT"])
(here / "{own}").touch()
until = time.monotonic() + 60
while not (here / "{other}").exists():
    assert time.monotonic() < until, "the other notebook never came"
    time.sleep(0.1)
"""
    paths = [add(lab, "01_a", meet.format(own="a", other="b")), add(lab, "02_b", meet.format(own="b", other="a"))]
    assert [one.error for one in runner.run(paths, tmp_path / "place")] == ["", ""]


def test_a_cell_that_never_ends_is_stopped(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SECONDS_A_CELL", 2)
    start = time.monotonic()
    (one,) = runner.run([add(lab, "01_loop", "1", "while True: pass")], tmp_path / "place")
    assert one.error.startswith("cell 2 took too long")
    assert "while True" in one.error
    assert time.monotonic() - start < 60


def test_a_kernel_that_dies_is_named(lab: Path, tmp_path: Path) -> None:
    (one,) = runner.run([add(lab, "01_dies", "1", "import os; os._exit(1)")], tmp_path / "place")
    assert one.error.startswith("cell 2 killed its kernel")


@pytest.mark.parametrize(("failures", "error"), [(2, ""), (3, "its kernel did not start: Kernel died")])
def test_a_kernel_that_does_not_start_is_started_again(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, error: str
) -> None:
    tries = []

    def execute(*_: object, **__: object) -> None:
        tries.append(None)
        if len(tries) <= failures:
            raise RuntimeError("Kernel died")

    monkeypatch.setattr("papermill.execute_notebook", execute)
    done = runner._execute(add(lab, "01_a", "1"), tmp_path / "01_a.ipynb", None, 10)
    assert done.error == error
    assert len(tries) == 3


def test_a_notebook_that_was_not_run_to_its_end_is_not_published(lab: Path, tmp_path: Path) -> None:
    path = add(lab, "01_a", "1")
    shutil.copytree(lab / "notebooks", tmp_path / "place/notebooks")
    with pytest.raises(NotebookError, match="notebooks/01_a.ipynb, cell 1 was not run"):
        runner.publish(tmp_path / "place", [path], lab)


def test_copies_and_strangers_among_the_notebooks(lab: Path) -> None:
    ours = add(lab, "01_a", "1")
    shutil.copy(ours, ours.with_name("01_a-Copy1.ipynb"))
    assert runner.notebooks(lab) == [ours]
    strange = lab / "notebooks/02_mine.ipynb"
    nbformat.write(new_notebook(), strange)
    for content in (strange.read_text(), "<<<<<<< HEAD"):
        strange.write_text(content)
        with pytest.raises(NotebookError, match="notebooks/02_mine.ipynb is not a notebook of the lab"):
            runner.about(strange)


def test_hidden_files_are_no_stale_results(lab: Path, tmp_path: Path) -> None:
    (lab / "figures").mkdir()
    (lab / "figures/.DS_Store").touch()
    (lab / "figures/05_old.png").touch()
    assert runner.stale(tmp_path, lab) == [Path("figures/05_old.png")]


def test_committed_numbers_are_the_cpus(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLING_LAB_DEVICE", "cuda")
    path = add(lab, "01_a", "import os\nprint(repr(os.environ['POOLING_LAB_DEVICE']))")
    for options, device in (({}, "cpu"), ({"device": ""}, "")):
        runner.run([path], tmp_path / "place", **options)
        executed = nbformat.read(tmp_path / "place/notebooks/01_a.ipynb", as_version=4)
        assert executed.cells[1].outputs[0].text == f"{device!r}\n"


def test_parameters_reach_only_the_notebooks_that_take_them(lab: Path, tmp_path: Path) -> None:
    path = add(lab, "01_a", "print(MODEL)", parameters="MODEL = ''")
    runner.run([path], tmp_path / "place", {"MODEL": "minilm", "LANGUAGE": "zh"})
    executed = nbformat.read(tmp_path / "place" / "notebooks" / path.name, as_version=4)
    assert executed.cells[-1].outputs[0].text == "minilm\n"
    assert "LANGUAGE" not in executed.cells[2].source


def test_a_warning_is_not_published(lab: Path, tmp_path: Path) -> None:
    path = add(lab, "01_warns", "import warnings; warnings.warn('mind the gap')")
    runner.run([path], tmp_path / "place")
    before = snapshot(lab)
    with pytest.raises(NotebookError, match="notebooks/01_warns.ipynb, cell 1 wrote a warning: .*mind the gap"):
        runner.publish(tmp_path / "place", [path], lab)
    assert snapshot(lab) == before


def test_report_links_pages_and_loads_nothing_from_elsewhere(lab: Path, tmp_path: Path) -> None:
    paths = [add(lab, "01_a", "1 + 1"), add(lab, "02_b", "2")]
    notebook = nbformat.read(paths[0], as_version=4)
    notebook.cells.append(new_markdown_cell("[next](02_b.ipynb#cell-id=02-1) and [not here](03_c.ipynb)"))
    notebook.cells.append(new_markdown_cell("<details><summary>Hint</summary>\n\n- look\n\n</details>"))
    nbformat.write(notebook, paths[0])
    shutil.copytree(lab / "notebooks", tmp_path / "place/notebooks")
    index = runner.report(tmp_path / "place", tmp_path / "report")
    assert 'href="01_a.html"' in index.read_text(encoding="utf-8")
    page = (tmp_path / "report/01_a.html").read_text(encoding="utf-8")
    assert 'href="02_b.html#cell-id=02-1"' in page
    assert 'href="../../report/03_c.html"' in page
    first = nbformat.read(paths[0], as_version=4).cells[0].id
    assert f'id="cell-id={first}"' in page, "the ledger links to cells"
    assert re.search(r"<summary>Hint</summary>\s*<ul>\s*<li>look</li>\s*</ul>\s*</details>", page), "hints stay folded"
    assert not any(f'{attribute}="http' in page for attribute in ("src", "link href"))


# A study of the reader's own, and the exit status

MODEL = "MODEL = ''"
PARAMETERS = f"{MODEL}\nLANGUAGE = ''\nSCENARIOS = ''"
MINE = "language,scenario,item,query,strong,weak,unrelated\nzh,mine,1,我饿了,肚子咕咕叫,我刚吃完饭,天空是蓝色的\n"


@pytest.fixture
def study(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab with one study notebook, which prints what it is given, and one that belongs to no study."""
    write = WRITE.format(name="05_study", value=1)
    add(lab, "05_study", "print(MODEL, LANGUAGE, SCENARIOS)", write, parameters=PARAMETERS, study=True)
    add(lab, "06_other", "raise ValueError('no part of a study')")
    (lab / "mine.csv").write_text(MINE, encoding="utf-8")
    listed = runner.notebooks
    monkeypatch.setattr(runner, "notebooks", lambda root=lab: listed(root))
    monkeypatch.setattr(runner, "ROOT", lab)
    monkeypatch.setattr(runner, "BUILD", lab / "build")
    monkeypatch.chdir(lab)
    return lab


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["notebooks", *arguments])
    return runner.main()


def outside_build(root: Path) -> dict[str, bytes]:
    return {name: content for name, content in snapshot(root).items() if not name.startswith("build/")}


def test_a_study_goes_into_build_alone(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outside_build(study)
    assert command(monkeypatch, "reproduce", "--model=minilm", "--language=zh", "--scenarios=mine.csv") == 0
    assert outside_build(study) == before
    assert [path.name for path in (study / "build").glob("[!.]*")] == ["minilm"]
    place = study / "build/minilm"
    executed = nbformat.read(place / "notebooks/05_study.ipynb", as_version=4)
    assert executed.cells[3].outputs[0].text == f"minilm zh {study / 'mine.csv'}\n"
    assert not (place / "notebooks/06_other.ipynb").exists()
    assert (place / "report/05_study.html").exists()
    said = capsys.readouterr().out
    need, known, *_ = said.splitlines()
    assert re.fullmatch(r"minilm: 23 million parameters, 91 MB in float32 on cpu \(.+ GB free\)", need)
    assert re.fullmatch(r"all-MiniLM-L6-v2: published \[.+\] .+ and measured \[.+\] agree within 0\.005", known)
    assert re.search(r"05_study +\d+  ok +05_study\.csv", said)
    assert said.endswith("Report: build/minilm/report/index.html\n")


def test_another_model_under_a_known_name_is_refused(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], qwen3_layout: Path
) -> None:
    shutil.copytree(qwen3_layout, study / "Qwen3-Embedding-0.6B")
    assert command(monkeypatch, "reproduce", "--model=Qwen3-Embedding-0.6B") == 1
    said = capsys.readouterr()
    assert re.search(r"Qwen3-Embedding-0.6B: published \[0\.7646 .+\] .+ measured \[.+\] differ by more than", said.err)
    assert "so no notebook was run" in said.err
    assert "05_study" not in said.out


def test_a_study_of_the_layout_of_qwen3(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], qwen3_layout: Path
) -> None:
    encode = (
        "from helpers.models import load\nmodel = load(MODEL)\nprint(model.device, model.encode_query('我饿了').shape)"
    )
    add(study, "05_study", encode, parameters=PARAMETERS, study=True)
    monkeypatch.chdir(qwen3_layout.parent)
    assert command(monkeypatch, "reproduce", "--model=qwen3", "--language=zh", "--device=cpu") == 0
    said = capsys.readouterr().out
    assert said.startswith("qwen3: 5 million parameters, 19 MB in float32 on cpu (")
    assert "qwen3: no published numbers are known to check it by\n" in said
    (place,) = (study / "build").glob("qwen3-*")
    executed = nbformat.read(place / "notebooks/05_study.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "cpu (32,)\n"


def test_a_process_that_is_killed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "choose_device", signal.raise_signal)  # it reaches the other process by its name
    with pytest.raises(NotebookError, match="The process that loaded minilm was stopped, as happens when memory runs"):
        runner._check_model("minilm", signal.SIGKILL)


@pytest.mark.parametrize(
    ("given", "takers"),
    [
        (["--language=zh"], ["05_study"]),
        (["--device=cpu"], ["04_model", "05_study"]),
    ],
)
def test_only_the_notebooks_that_take_a_parameter_are_run(
    study: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], takers: list[str]
) -> None:
    add(study, "04_model", "1", parameters=MODEL, study=True)
    assert command(monkeypatch, "reproduce", *given) == 0
    (place,) = (study / "build").glob("[!.]*")
    assert [path.stem for path in runner.notebooks(place)] == takers


def test_one_worker_runs_one_notebook_at_a_time(lab: Path, tmp_path: Path) -> None:
    single = """
import os, pathlib, time
here = pathlib.Path(os.environ["POOLING_LAB_OUTPUT"]) / "busy"
here.mkdir()
time.sleep(1)
here.rmdir()
"""
    paths = [add(lab, name, single) for name in ("01_a", "02_b")]
    assert [one.error for one in runner.run(paths, tmp_path / "place", workers=1)] == ["", ""]


@pytest.mark.parametrize(("free", "workers"), [(250, 2), (230, 1)])
def test_as_many_notebooks_at_a_time_as_the_model_fits_in_for(
    monkeypatch: pytest.MonkeyPatch, free: int, workers: int
) -> None:
    class Here:  # a pool without processes
        def submit(self, function: Callable, *arguments: object) -> SimpleNamespace:
            return SimpleNamespace(result=lambda: function(*arguments))

    monkeypatch.setattr(runner, "ProcessPoolExecutor", lambda *_: nullcontext(Here()))
    monkeypatch.setattr(runner, "memory", lambda *_: Memory("mine", 25, "float32", "cpu", free))
    monkeypatch.setattr(runner, "_known_answers", lambda *_: None)
    assert runner._check_model("mine", "cpu") == ("cpu", workers)


def test_a_second_run_waits_for_nobody(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with runner.alone():
        assert command(monkeypatch, "reproduce", "--language=zh") == 1
    assert "Another run of this lab is going on" in capsys.readouterr().err
    assert not list((study / "build").glob("*zh*"))


def test_what_a_study_warns_of_is_said_at_the_end(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(study, "05_study", "import warnings; warnings.warn('2 texts were cut')", parameters=PARAMETERS, study=True)
    assert command(monkeypatch, "reproduce", "--language=ZH") == 0
    assert "Note: 2 texts were cut\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ({"MODEL": "minilm"}, "minilm"),
        ({"MODEL": "BAAI/bge-small-zh-v1.5"}, "BAAI--bge-small-zh-v1.5"),
        ({"MODEL": "/models/我的 模型"}, "我的--模型-[0-9a-f]{6}"),
        ({"MODEL": "report"}, "report-[0-9a-f]{6}"),
        ({"MODEL": "/"}, "-[0-9a-f]{6}"),
        ({"LANGUAGE": "zh"}, "embedded-zh"),
        ({"LANGUAGE": "zh", "DEVICE": "cpu"}, "embedded-zh"),
        ({"DEVICE": "cuda:1"}, "embedded-cuda--1"),
        ({"STEPS": 200}, "embedded-200-steps"),
        ({"SCENARIOS": "/data/句子.csv", "LANGUAGE": "zh"}, "embedded-句子"),
        ({"SCENARIOS": f"/data/{'长' * 80}.csv"}, f"embedded-{'长' * 30}-[0-9a-f]{{6}}"),
    ],
)
def test_a_study_has_a_folder_of_its_own_name(own: dict[str, str], name: str) -> None:
    assert re.fullmatch(name, runner._study_name(own))


def test_a_study_that_fails_keeps_the_last_one(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(study, "05_study", "raise ValueError('too cold')", parameters=PARAMETERS, study=True)
    last = study / "build/embedded-zh/last"
    last.parent.mkdir(parents=True)
    last.touch()
    assert command(monkeypatch, "reproduce", "--language=zh") == 1
    said = capsys.readouterr().err
    assert "notebooks/05_study.ipynb, cell 3: ValueError: too cold" in said
    assert "What ran is in build/.embedded-zh.partial/notebooks." in said
    assert last.exists()


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--scenarios=gone.csv", "gone.csv does not exist; check the path and the name"),
        ("--language=fr", "No scenario is in language 'fr'; there are zh, en."),
        ("--model=nobody/nothing", "'nobody/nothing' is not a model folder here and could not be fetched"),
        ("--device=quantum", "There is no device 'quantum' here; use "),
        ("--steps=0", "STEPS=0 is no number of training steps; give a whole number from 1 on."),
        ("--steps=many", "STEPS=many is no number of training steps"),
    ],
)
def test_a_study_that_cannot_be_starts_nothing(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, says: str
) -> None:
    assert command(monkeypatch, "reproduce", argument) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.endswith("Nothing in git was changed.\n")
    assert not list((study / "build").glob("[!.]*"))


def test_verify_says_what_differs(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (study / "notebooks/06_other.ipynb").unlink()
    monkeypatch.setattr(runner.readme, "differences", lambda root: [])
    monkeypatch.setattr(runner.verify, "__defaults__", (study, True))
    assert command(monkeypatch, "verify") == 1
    said = capsys.readouterr().err
    assert "notebooks/05_study.ipynb: cell 2: other kinds of output" in said
    assert "data/results/05_study.csv: is new" in said
    runner.publish(study / "build/verify", runner.notebooks(), study)
    assert command(monkeypatch, "verify") == 0
    assert "agrees with a fresh run" in capsys.readouterr().out
