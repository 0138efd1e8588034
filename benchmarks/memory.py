"""How much memory an encoding takes at its peak, each one in a process of its own."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import psutil
from tqdm.auto import tqdm

from benchmarks.corpora import english
from benchmarks.rows import Row, Setting
from helpers.encode import embed
from helpers.models import ModelError, load
from helpers.pooling import POOLINGS

PART = "memory"
MEASURE, UNIT = "peak growth of memory", "MB"
VECTORS = "the vectors"
MODEL = "minilm"
SIZES = (5_000, 20_000)
WARM_UP = 300  # texts
SECONDS_BETWEEN_LOOKS = 0.005
BYTES = 4  # of a float32
WAYS = {
    "embed": lambda model, texts: embed(model, texts, tuple(POOLINGS)),
    "encode, output_value=None": lambda model, texts: model.encode(texts, output_value=None, show_progress_bar=False),
}
NOTES = {
    "embed": "beyond the vectors of all eight poolings; one run, in a process of its own",
    "encode, output_value=None": "token states, from which all poolings but first_last_avg can be computed; one run",
}


def measure(sizes: Sequence[int] = SIZES) -> Iterator[Row]:
    """Yields how large the vectors of all eight poolings are, and by how much memory grows at most on the way to them.

    sentence-transformers hands over token states with `output_value=None`: the one pass of its own that poolings could
    be computed from afterwards.
    """
    with tqdm(total=len(sizes) * len(WAYS), desc=PART, unit="run", leave=False, disable=None) as progress:
        for texts in sizes:
            setting = Setting(PART, MODEL, "English", texts, "float32")
            for case in WAYS:
                try:
                    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                        grown, vectors = pool.submit(growth, case, texts).result()
                except BrokenProcessPool:
                    yield setting.not_measured(case, MEASURE, UNIT, "its process was stopped, as where memory runs out")
                except ModelError as problem:
                    yield setting.not_measured(case, MEASURE, UNIT, str(problem))
                else:
                    if case == "embed":
                        yield setting.row(VECTORS, "size", UNIT, [vectors / 1e6], "of all eight poolings")
                        grown -= vectors
                    yield setting.row(case, MEASURE, UNIT, [grown / 1e6], NOTES[case])
                progress.update()


def growth(case: str, count: int) -> tuple[int, int]:
    """Returns by how many bytes this process grows while it encodes `count` texts, and how many their vectors take."""
    model, texts = load(MODEL, device="cpu"), english(count)
    WAYS[case](model, texts[:WARM_UP])
    grown = peak(lambda: WAYS[case](model, texts))
    return grown, len(POOLINGS) * count * model.get_embedding_dimension() * BYTES


def peak(run: Callable[[], object]) -> int:
    """Returns by how many bytes the resident memory of this process grows at most while `run` goes on."""
    process, done = psutil.Process(), threading.Event()
    before = most = process.memory_info().rss

    def watch() -> None:
        nonlocal most
        while not done.wait(SECONDS_BETWEEN_LOOKS):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        kept = run()
    finally:
        done.set()
        watcher.join()
    after = process.memory_info().rss  # with what `run` made still held
    del kept
    return max(most, after) - before
