"""Runs every part of the benchmark, prints what it finds, and publishes table, figure and the README's sentences.

`python -m benchmarks`; the Makefile calls it. Nothing in git changes before the last part is done.
"""

import os
import shutil
import sys
from collections.abc import Sequence

import pandas as pd

from benchmarks import bfloat16, figure, fixed, gpu, machine, memory, speed
from benchmarks.rows import Row
from helpers import plots, readme
from helpers.models import ModelError
from helpers.notebooks import alone
from helpers.paths import BUILD, ROOT
from helpers.series import NotebookError
from helpers.weights import WeightsError

PARTS = (machine.measure, speed.measure, memory.measure, fixed.measure, bfloat16.measure, gpu.measure)


def write(rows: Sequence[Row]) -> None:
    """Publishes table and figure, each whole or not at all, and has the README say the new numbers."""
    place = BUILD / "bench"
    shutil.rmtree(place, ignore_errors=True)
    for name in (readme.BENCHMARK, readme.BENCHMARK_FIGURE):
        (place / name).parent.mkdir(parents=True)
    table = pd.DataFrame(rows, columns=Row._fields).astype({"texts": "Int64"})
    table.to_csv(place / readme.BENCHMARK, index=False, float_format="%.9g")  # a cosine of 0.999999 is not 1
    plots.use_style()
    figure.draw(pd.read_csv(place / readme.BENCHMARK)).savefig(
        place / readme.BENCHMARK_FIGURE, metadata={"Software": None}
    )
    readme.check(ROOT)  # before anything is published: can README.md be written?
    readme.speed(place)
    for name in (readme.BENCHMARK, readme.BENCHMARK_FIGURE):
        (place / name).replace(ROOT / name)
    readme.update(ROOT)


def line(row: Row) -> str:
    """Returns a row as a person reads it in a terminal."""
    about = ", ".join(str(part) for part in (row.case, row.model, row.corpus, row.texts, row.dtype) if part)
    found = "" if row.median is None else f"{row.measure}: {row.median:.6g} {row.unit}"
    spread = f" ({row.low:.6g} to {row.high:.6g})" if row.low != row.high else ""
    return f"[{row.part}] {about}: {'; '.join(filter(None, [found + spread, row.note]))}"


def main() -> int:
    """Runs it all; returns the exit status."""
    os.environ["TQDM_DISABLE"] = "1"  # no bars of `embed` inside what is timed
    rows: list[Row] = []
    try:
        with alone():
            for measure in PARTS:
                for row in measure():
                    rows.append(row)
                    print(line(row), flush=True)
            write(rows)
    except (ModelError, NotebookError, WeightsError, readme.FindingError, OSError) as problem:
        print(f"\n{problem}\nNothing in git was changed.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; nothing in git was changed.", file=sys.stderr)
        return 130
    print(f"Published: {readme.BENCHMARK}, {readme.BENCHMARK_FIGURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
