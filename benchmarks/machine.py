"""What the numbers were measured on: the machine and the versions, without its name or a path."""

import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from benchmarks.rows import Row

PART = "machine"
MATRIX_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_tile")
LIBRARIES = ("torch", "transformers", "sentence-transformers")


def measure() -> Iterator[Row]:
    """Yields one row for each fact, the fact in `note`."""
    facts = {
        "processor": processor(),
        "cores": f"{psutil.cpu_count(logical=False) or psutil.cpu_count()}",
        "threads": f"{psutil.cpu_count()}, of which torch uses {torch.get_num_threads()}",
        "instructions": ", ".join(instructions()) or "instructions unknown",
        "instructions that torch uses": torch.backends.cpu.get_cpu_capability(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "operating system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
    for name, fact in facts.items():
        yield Row(PART, name, "", "", None, "", "", "", None, None, None, 0, fact)


def processor() -> str:
    """Returns what the processor calls itself, where the system tells."""
    if platform.system() == "Darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instructions() -> list[str]:
    """Lists the processor's instruction sets that matrices are multiplied with; Linux alone tells."""
    flags = _cpuinfo("flags").split()
    return [name for name in MATRIX_FLAGS if name in flags]


def _cpuinfo(field: str) -> str:
    """Returns a field of the first core in /proc/cpuinfo, or nothing where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")
