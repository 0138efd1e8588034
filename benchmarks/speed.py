"""How fast texts are encoded: by `embed`, by sentence-transformers, and by the matrix multiplications alone."""

import copy
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from benchmarks.corpora import chinese, english, tokens
from benchmarks.limit import matrices, pooled
from benchmarks.rows import REPETITIONS, Row, Setting, paired, ratios
from helpers.encode import embed
from helpers.models import ModelError, load
from helpers.pooling import POOLINGS
from helpers.readme import FASTER, SHARE

PART_ONE, PART_EIGHT, PART_LIMIT = "one pooling", "eight poolings", "limit"
PART_SIZE, PART_LENGTH = "corpus size", "text length"
DTYPES = ("float32", "bfloat16")
DEFAULT_BATCH = 32  # of SentenceTransformer.encode
BATCHES = (8, 16, 64, 128, 256)  # besides
SAMPLE = 300  # texts to warm up on
SIZES = (500, 1_500, 20_000)
MOST_FOR_ENCODE = 1_500  # of these sizes: the other parts compare it on larger corpora
WORDS = (4, 10, 25, 60, 150)
WORDS_A_LENGTH = 4_000  # in all texts of one length together


class Study(NamedTuple):
    """A model, the texts that it reads, and how many of them for one pooling and for eight."""

    model: str
    corpus: str
    texts: Callable[[int], list[str]]
    one: int
    eight: int


STUDIES = (
    Study("minilm", "English", english, 4_000, 1_000),
    Study("e5-small", "English", english, 1_000, 1_000),
    Study("e5-small", "Chinese", chinese, 1_000, 200),  # eight encodes of it would take a quarter of an hour
)


class Way(NamedTuple):
    """A way to encode texts: its name and arithmetic, the function, and what there is to add."""

    case: str
    dtype: str
    run: Callable[[list[str]], Any]
    note: str = ""


def measure(studies: Sequence[Study] = STUDIES, repetitions: int = REPETITIONS) -> Iterator[Row]:
    """Yields the findings on every model; sizes and lengths are those of the first."""
    for study in studies:
        try:
            model = load(study.model, device="cpu")
        except ModelError as problem:
            yield Setting(PART_ONE, study.model, study.corpus).not_measured("embed", "seconds", "s", str(problem))
            continue
        texts = study.texts(study.one)
        encoders = Encoders(model, texts)
        setting = Setting("", study.model, study.corpus)
        yield from one_pooling(setting._replace(part=PART_ONE), model, texts, encoders, repetitions)
        texts = study.texts(study.eight)
        yield from eight_poolings(setting._replace(part=PART_EIGHT), model, texts, encoders, repetitions)
        yield from limit(setting._replace(part=PART_LIMIT), model, texts, repetitions)
        if study is studies[0]:
            yield from by_size(setting._replace(part=PART_SIZE), model, study.texts, SIZES, repetitions)
            yield from by_length(setting._replace(part=PART_LENGTH), model, WORDS, repetitions)


def one_pooling(
    setting: Setting, model: SentenceTransformer, texts: list[str], encoders: "Encoders", repetitions: int
) -> Iterator[Row]:
    """Compares `embed` with `encode`, by the pooling that the model was trained with."""
    pooling = next(module for module in model if isinstance(module, Pooling)).pooling_mode
    ours = [
        Way("embed", dtype, lambda texts, dtype=dtype: embed(model, texts, (pooling,), dtype=dtype)[pooling])
        for dtype in DTYPES
    ]
    theirs = encoders.ways(model)
    vectors = yield from compare(setting, model, ours, theirs, texts, repetitions)
    expected = vectors["encode, default batch", "float32"]
    for (case, dtype), found in vectors.items():
        yield setting._replace(texts=len(texts), dtype=dtype).row(
            case, "lowest cosine", "cosine", [lowest_cosine(found, expected)], "with float32 encode, default batch"
        )


def eight_poolings(
    setting: Setting, model: SentenceTransformer, texts: list[str], encoders: "Encoders", repetitions: int
) -> Iterator[Row]:
    """Compares one `embed` for all poolings with an `encode` for each, and with one that joins six of them."""
    ours = [
        Way("embed", dtype, lambda texts, dtype=dtype: embed(model, texts, tuple(POOLINGS), dtype=dtype))
        for dtype in DTYPES
    ]
    width, modes = model.get_embedding_dimension(), Pooling.POOLING_MODES
    stand_ins = ["mean"] * (len(POOLINGS) - len(modes))
    alone = [
        SentenceTransformer(modules=[model[0], Pooling(width, mode), Normalize()], device="cpu")
        for mode in [*modes, *stand_ins]
    ]
    joined = SentenceTransformer(modules=[model[0], Pooling(width, modes)], device="cpu")
    eight = Way(
        "eight encodes",
        "float32",
        lambda texts: [one.encode(texts, show_progress_bar=False) for one in alone],
        f"batch {DEFAULT_BATCH}; mean stands in for mean_content and first_last_avg, which it lacks",
    )
    joins = [way._replace(case=f"{way.case}, six poolings joined") for way in encoders.ways(joined)]
    vectors = yield from compare(setting, model, ours, [eight, *joins], texts, repetitions)
    expected = np.split(vectors["encode, default batch, six poolings joined", "float32"], len(modes), axis=1)
    for dtype in DTYPES:
        found = [vectors["embed", dtype][mode] for mode in modes]
        yield setting._replace(texts=len(texts), dtype=dtype).row(
            "embed",
            "lowest cosine",
            "cosine",
            [min(map(lowest_cosine, found, expected))],
            "over the six poolings that both have",
        )


def limit(setting: Setting, model: SentenceTransformer, texts: list[str], repetitions: int) -> Iterator[Row]:
    """Tells how much of the time of `embed` goes to the matrices of the model's linear layers, and to all poolings."""
    for dtype in DTYPES:
        run = partial(embed, model, texts, tuple(POOLINGS), dtype=dtype)
        ways = {"embed": run, "linear layers": matrices(model, run, dtype), "poolings": pooled(model, run)}
        for replay in ways.values():
            replay()
        seconds = paired(ways, repetitions, f"{setting.part}, {setting.model}, {dtype}")
        here = setting._replace(texts=len(texts), dtype=dtype)
        yield here.row("embed", "seconds", "s", seconds["embed"], "all eight poolings")
        for case, note in (
            ("linear layers", "their inputs' shapes replayed as bare products; attention's own are not among them"),
            ("poolings", "all eight, and normalizing, replayed on states of the same shapes"),
        ):
            yield here.row(case, SHARE, "share", ratios(seconds[case], seconds["embed"]), note)


def by_size(
    setting: Setting,
    model: SentenceTransformer,
    corpus: Callable[[int], list[str]],
    sizes: Sequence[int],
    repetitions: int,
) -> Iterator[Row]:
    """Compares corpora of several sizes."""
    for size in sizes:
        theirs = [_encode(model)] if size <= MOST_FOR_ENCODE else []
        yield from compare(setting, model, [_embed(model)], theirs, corpus(size), repetitions)


def by_length(setting: Setting, model: SentenceTransformer, lengths: Sequence[int], repetitions: int) -> Iterator[Row]:
    """Compares corpora whose texts are all of one length, in words."""
    for words in lengths:
        texts = english(WORDS_A_LENGTH // words, words)
        here = setting._replace(corpus=f"{setting.corpus}, {words} words each")
        yield from compare(here, model, [_embed(model)], [_encode(model)], texts, repetitions)


def _embed(model: SentenceTransformer) -> Way:
    return Way("embed", "float32", lambda texts: embed(model, texts, ("mean",)))


def _encode(model: SentenceTransformer) -> Way:
    return Way("encode, default batch", "float32", partial(model.encode, show_progress_bar=False))


def compare(
    setting: Setting,
    model: SentenceTransformer,
    ours: Sequence[Way],
    theirs: Sequence[Way],
    texts: list[str],
    repetitions: int,
) -> Generator[Row, None, dict[tuple[str, str], Any]]:
    """Runs every way over the texts, in pairs, after a sample of them to warm up.

    Yields:
        The corpus in tokens, each way's seconds and tokens a second, and how many times as fast each of ours is as each
        of theirs in float32 or in its own arithmetic.

    Returns:
        What each way made of the texts, by case and dtype.
    """
    lengths = tokens(model, texts)
    setting = setting._replace(texts=len(texts))
    said = f"shortest text {min(lengths)}, median {np.median(lengths):g}, mean {np.mean(lengths):.1f}"
    yield setting.row("corpus", "tokens", "tokens", [sum(lengths)], f"{said}, longest {max(lengths)}")

    made: dict[tuple[str, str], Any] = {}
    ways = {(way.case, way.dtype): way for way in [*ours, *theirs]}

    def run(name: tuple[str, str]) -> None:
        made[name] = ways[name].run(texts)

    for way in ways.values():
        way.run(sample(texts))
    seconds = paired({name: partial(run, name) for name in ways}, repetitions, f"{setting.part}, {setting.model}")
    for (case, dtype), taken in seconds.items():
        here, note = setting._replace(dtype=dtype), ways[case, dtype].note
        yield here.row(case, "seconds", "s", taken, note)
        yield here.row(case, "tokens a second", "tokens/s", [sum(lengths) / one for one in taken], note)
    for our in ours:
        for way in theirs:
            if way.dtype not in (our.dtype, "float32"):
                continue
            times = ratios(seconds[way.case, way.dtype], seconds[our.case, our.dtype])
            measured = f"{FASTER}{way.case}, {way.dtype}"
            yield setting._replace(dtype=our.dtype).row(our.case, measured, "×", times, way.note)
    return made


def sample(texts: list[str]) -> list[str]:
    """Returns about `SAMPLE` of the texts, of all lengths, the longest among them."""
    return sorted(texts, key=len, reverse=True)[:: max(1, len(texts) // SAMPLE)]


def lowest_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the lowest cosine between vectors of one text, `(texts, dim)` each, computed in float64."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(axis=1) / lengths).min())


class Encoders:
    """The ways to call `SentenceTransformer.encode`: at its default batch and at its best one, in both arithmetics.

    In bfloat16 there are two of each, autocast and converted weights; whichever is faster stands for both.

    Args:
        model: The model to find the best on.
        texts: The texts to find it on, by one pass for each batch after a sample to warm up. A batch that is best for
            fewer texts is none for these: the more there are, the less their lengths differ within a batch.
    """

    def __init__(self, model: SentenceTransformer, texts: list[str]) -> None:
        self.chosen: list[tuple[str, str, str, int]] = []  # case, dtype, which of its variants, batch
        for dtype, variants in self._variants(model).items():
            by_default = {name: _seconds(encode, texts, DEFAULT_BATCH) for name, encode in variants.items()}
            name = min(by_default, key=by_default.get)
            others = {batch: _seconds(variants[name], texts, batch) for batch in BATCHES}
            by_batch = {DEFAULT_BATCH: by_default[name]} | others
            self.chosen.append(("encode, default batch", dtype, name, DEFAULT_BATCH))
            self.chosen.append(("encode, best batch", dtype, name, min(by_batch, key=by_batch.get)))

    def ways(self, model: SentenceTransformer) -> list[Way]:
        """Returns the same ways for a model that differs in its pooling at most."""
        variants = self._variants(model)
        return [
            Way(case, dtype, partial(variants[dtype][name], batch_size=batch), f"batch {batch}, {name}")
            for case, dtype, name, batch in self.chosen
        ]

    @staticmethod
    def _variants(model: SentenceTransformer) -> dict[str, dict[str, Callable[..., np.ndarray]]]:
        encode = partial(model.encode, show_progress_bar=False)

        def autocast(texts: list[str], batch_size: int) -> np.ndarray:
            with torch.autocast("cpu", torch.bfloat16):
                return encode(texts, batch_size=batch_size)

        converted = copy.deepcopy(model).bfloat16()
        return {
            "float32": {"weights as loaded": encode},
            "bfloat16": {
                "autocast": autocast,
                "weights converted": partial(converted.encode, show_progress_bar=False),
            },
        }


def _seconds(encode: Callable[..., np.ndarray], texts: list[str], batch: int) -> float:
    """Returns how long one pass takes, after a sample of the texts to warm up."""
    encode(sample(texts), batch_size=batch)
    start = time.perf_counter()
    encode(texts, batch_size=batch)
    return time.perf_counter() - start
