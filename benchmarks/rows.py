"""What every part of the benchmark shares: a row of its table, and times taken in pairs."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tqdm.auto import tqdm

REPETITIONS = 5


class Row(NamedTuple):
    """One finding, a row of `data/results/benchmark.csv`; numbers that do not apply are None and stay empty there.

    `part` to `dtype` say what was done to what, `texts` being how many there were, and `measure` and `unit` what was
    measured. `low` and `high` are the range over the repetitions unless `note` says otherwise. What cannot be measured
    here has no median, and a note that begins with "not measured: ".
    """

    part: str
    case: str
    model: str
    corpus: str
    texts: int | None
    dtype: str
    measure: str
    unit: str
    median: float | None
    low: float | None
    high: float | None
    repetitions: int
    note: str = ""


class Setting(NamedTuple):
    """What the rows of one comparison have in common; the fields are those of `Row`."""

    part: str
    model: str = ""
    corpus: str = ""
    texts: int | None = None
    dtype: str = ""

    def row(self, case: str, measure: str, unit: str, values: Sequence[float], note: str = "") -> Row:
        """Returns the row that holds the median and the range of `values`, one for each repetition."""
        median, low, high = statistics.median(values), min(values), max(values)
        return self._row(case, measure, unit, (median, low, high, len(values)), note)

    def not_measured(self, case: str, measure: str, unit: str, why: str) -> Row:
        """Returns the row of something that cannot be measured here."""
        return self._row(case, measure, unit, (None, None, None, 0), f"not measured: {why}")

    def _row(
        self,
        case: str,
        measure: str,
        unit: str,
        found: tuple[float | None, float | None, float | None, int],
        note: str,
    ) -> Row:
        return Row(self.part, case, self.model, self.corpus, self.texts, self.dtype, measure, unit, *found, note)


def paired(
    ways: Mapping[str, Callable[[], object]], repetitions: int = REPETITIONS, description: str = ""
) -> dict[str, list[float]]:
    """Times several ways of doing one thing, interleaved, so that whatever else slows the machine slows all of them.

    Each repetition runs every way once, and each begins with another way. Warm up before.

    Args:
        ways: What to run, by name; on a GPU each must wait for its end itself.
        repetitions: How often each is run.
        description: What the progress bar says.

    Returns:
        The seconds that each way took, one number for each repetition, so that the numbers at one index are a pair.
    """
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with tqdm(total=repetitions * len(names), desc=description, unit="run", leave=False, disable=None) as progress:
        for repetition in range(repetitions):
            first = repetition % len(names)
            for name in names[first:] + names[:first]:
                start = time.perf_counter()
                ways[name]()
                seconds[name].append(time.perf_counter() - start)
                progress.update()
    return seconds


def ratios(dividends: Sequence[float], divisors: Sequence[float]) -> list[float]:
    """Divides within each repetition, such as seconds of another way by our own: how many times as fast ours is."""
    return [dividend / divisor for dividend, divisor in zip(dividends, divisors, strict=True)]
