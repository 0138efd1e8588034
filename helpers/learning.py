"""What students have learned: their curves with seeds and intervals, and their examination against their teacher."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import scores
from helpers.distill import Snapshots

CLOSE = "cosine with the teacher"  # on unseen sentences
SEARCH = f"{scores.FIRST}, development items"


class Student(NamedTuple):
    """A model that was trained through one pooling, once for each seed.

    Attributes:
        model: The model's name.
        name: What the student is called.
        pooling: The pooling that it was trained through.
        teacher: The teacher's vectors of all texts, `(texts, dim)` of length 1: those that no training reads, then
            those of the development items, then those of the test items.
        ways: By seed, `distill.learn`'s snapshots: those before the end may lack the test items. Step 0 is the model
            as it was.
    """

    model: str
    name: str
    pooling: str
    teacher: np.ndarray
    ways: Mapping[int, Snapshots]


def grade(readings: Mapping[str, np.ndarray], name: str, items: pd.DataFrame) -> pd.DataFrame:
    """Returns what each item contributes to two means that tell readings of the same texts apart.

    Args:
        readings: By the name of each, vectors `(texts, dim)` in the order of `scores.texts_of(items)`.
        name: What the table calls the model.
        items: Rows of one language, from `scenarios.read`.

    Returns:
        The index is that of `scores.measures`, the reading's name as the pooling. Columns: `auc`, the item's part in
        the AUC of strong against unrelated pairs; `first of 24`, see `scores.first`.
    """
    table = scores.score_vectors(readings, name, items, every_candidate=True)
    return scores.measures(scores.own_candidates(table))[["auc"]].join(scores.first(table))


def means(readings: Mapping[str, np.ndarray], name: str, items: pd.DataFrame) -> pd.DataFrame:
    """Returns the means of `grade`, a row for each reading."""
    return grade(readings, name, items).groupby("pooling", sort=False).mean()


def follow(students: Sequence[Student], items: pd.DataFrame, unseen: int) -> pd.DataFrame:
    """Returns how close students are to their teacher, and how good, at each step that there are vectors of.

    Args:
        students: The students.
        items: The development items.
        unseen: How many texts stand before theirs.

    Returns:
        One row for each `model`, `measure`, `arm`, `seed` and `step`, as from `curve`. The measures are `CLOSE`, the
        mean cosine with the teacher's vectors of the unseen texts, and `SEARCH`.
    """
    rows = slice(unseen, unseen + len(scores.texts_of(items)))
    tables = []
    for model, name, pooling, teacher, ways in students:
        runs = {(name, seed, step): reads[pooling] for seed, way in ways.items() for step, reads in sorted(way.items())}
        close = {key: (vectors[:unseen] * teacher[:unseen]).sum(axis=1) for key, vectors in runs.items()}
        search = {
            key: grade({"": vectors[rows]}, model, items)[scores.FIRST].to_numpy() for key, vectors in runs.items()
        }
        for measure, values in ((CLOSE, close), (SEARCH, search)):
            tables.append(curve(values).assign(model=model, measure=measure))
    return pd.concat(tables, ignore_index=True)


def curve(values: Mapping[tuple[str, int, int], np.ndarray], seed: int = 0) -> pd.DataFrame:
    """Returns a mean at each step of a training, for each seed and for all of them.

    Args:
        values: By arm, seed and step, what each item contributes, `(items,)`.
        seed: Seed of the resampling.

    Returns:
        One row for each `arm`, `seed` and `step` with the mean as `value`. Where `seed` is "all", each item counts with
        its mean over the seeds, and `low` and `high` are the ends of the 95 % bootstrap interval over items.
    """
    rows = [(*key, some.mean(), np.nan, np.nan) for key, some in values.items()]
    for arm, step in dict.fromkeys((arm, step) for arm, _, step in values):
        each = np.mean([some for key, some in values.items() if key[::2] == (arm, step)], axis=0)
        rows.append((arm, "all", step, each.mean(), *scores.interval(each, seed=seed)))
    return pd.DataFrame(rows, columns=["arm", "seed", "step", "value", "low", "high"])


def ends(curves: pd.DataFrame) -> pd.DataFrame:
    """Returns where the curves of all seeds together begin and end: a row for each arm, columns by measure and step."""
    together = curves[curves["seed"].eq("all") & curves["step"].isin([0, curves["step"].max()])]
    found = together.pivot(index="arm", columns=["measure", "step"], values="value")
    return found.loc[together["arm"].unique()]


def examine(students: Sequence[Student], items: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compares students with their teacher and with themselves before their training, seed by seed.

    Args:
        students: The students.
        items: The test items, whose texts are the last ones.

    Returns:
        First, one row for each `model`, `student`, `seed` and `measure` (`auc`, `first of 24`): the means `before`,
        `after` and `teacher`; `gain` = after − before and `left` = after − teacher, each with the ends of its 95 %
        bootstrap interval and `…_p_holm` (see `scores.paired`; Holm corrects for the three comparisons of a student,
        seed and measure). Second, one row for each `model` and `arm` with the AUC `before`, `after` and of its
        `teacher`, and the ends `…_low` and `…_high` of the interval of the mean over the seeds.
    """
    last = -len(scores.texts_of(items))
    keys, found, together = ["model", "student", "seed"], [], []
    for model, name, pooling, teacher, ways in students:
        grades = {}
        for seed, way in ways.items():
            readings = {"teacher": teacher, "before": way[0][pooling], "after": way[max(way)][pooling]}
            grades[seed] = grade({key: made[last:] for key, made in readings.items()}, model, items)
            found.append(_compared(grades[seed]).assign(**dict(zip(keys, (model, name, seed), strict=True))))
        row = {"model": model, "arm": name}
        for when in ("before", "after", "teacher"):
            each = np.mean([one["auc"].xs(when, level="pooling") for one in grades.values()], axis=0)
            row |= dict(zip((when, f"{when}_low", f"{when}_high"), (each.mean(), *scores.interval(each)), strict=True))
        together.append(row)
    table = pd.concat(found).rename_axis("measure").reset_index()
    return table[[*keys, *table.columns.drop(keys)]], pd.DataFrame(together)


def reread(students: Sequence[Student], items: pd.DataFrame, reads: Sequence[str], usual: str) -> pd.DataFrame:
    """Reads trained students through other poolings than their own, and compares their own with the usual one.

    Args:
        students: The students, read through all of `reads` at the end.
        items: The test items, whose texts are the last ones.
        reads: The poolings.
        usual: The pooling among them that comes first, and that the model was trained with before.

    Returns:
        One row for each `student`, `seed` and `measure`: the mean of each reading under its name; `difference` = own −
        usual with the ends `low` and `high` of its 95 % bootstrap interval, and `p_holm` (see `scores.paired`; Holm
        corrects for all pairs of `reads`).
    """
    last, found = -len(scores.texts_of(items)), []
    for model, name, pooling, _, ways in students:
        for seed, way in ways.items():
            grades = grade({read: way[max(way)][read][last:] for read in reads}, model, items)
            pairs = scores.paired(grades, reads).droplevel(["model", "language"])
            own = pairs.xs(f"{pooling} − {usual}", level="compared")[["difference", "low", "high", "p_holm"]]
            values = grades.groupby(level="pooling").mean().T[list(reads)]
            found.append(values.join(own).assign(student=name, seed=seed))
    table = pd.concat(found).rename_axis("measure").reset_index()
    return table[["student", "seed", *table.columns.drop(["student", "seed"])]]


def _compared(grades: pd.DataFrame) -> pd.DataFrame:
    """Returns what `examine` says of one student and seed, a row for each measure."""
    found = grades.groupby(level="pooling").mean().T[["before", "after", "teacher"]]
    pairs = scores.paired(grades, ["teacher", "before", "after"]).droplevel(["model", "language"])
    for name, other in (("gain", "before"), ("left", "teacher")):
        pair = pairs.xs(f"after − {other}", level="compared")[["difference", "low", "high", "p_holm"]]
        found[[name, f"{name}_low", f"{name}_high", f"{name}_p_holm"]] = pair
    return found
