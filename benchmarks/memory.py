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
from helpers.models import load
from helpers.pooling import POOLINGS

PART = "memory"
MEASURE = "peak growth of memory"
NOTE = "beyond the vectors of all eight poolings; one run, in a process of its own"
MODEL = "minilm"
SIZES = (5_000, 20_000)
WARM_UP = 300  # texts
SECONDS_BETWEEN_LOOKS = 0.005
BYTES = 4  # of a float32
WAYS = {
    "embed": lambda model, texts: embed(model, texts, tuple(POOLINGS)),
    "encode, output_value=None": lambda model, texts: model.encode(texts, output_value=None, show_progress_bar=False),
}


def measure(sizes: Sequence[int] = SIZES) -> Iterator[Row]:
    """Yields by how much memory grows at most, less what the vectors of all eight poolings take up themselves.

    sentence-transformers hands over token states with `output_value=None`: the one pass of its own that all eight
    poolings could be computed from.
    """
    with tqdm(total=len(sizes) * len(WAYS), desc=PART, unit="run", leave=False, disable=None) as progress:
        for texts in sizes:
            setting = Setting(PART, MODEL, "English", texts, "float32")
            for case in WAYS:
                try:
                    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                        beyond = pool.submit(growth, case, texts).result()
                except BrokenProcessPool:
                    yield setting.not_measured(case, MEASURE, "MB", "its process was stopped, as where memory runs out")
                else:
                    yield setting.row(case, MEASURE, "MB", [beyond / 1e6], NOTE)
                progress.update()


def growth(case: str, count: int) -> int:
    """Returns by how many bytes this process grows while it encodes `count` texts, less all their vectors."""
    model, texts = load(MODEL, device="cpu"), english(count)
    WAYS[case](model, texts[:WARM_UP])
    vectors = len(POOLINGS) * count * model.get_embedding_dimension() * BYTES
    return peak(lambda: WAYS[case](model, texts)) - vectors


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
