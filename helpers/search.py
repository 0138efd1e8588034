"""Search by meaning: a knowledge base of unit vectors, its hits for a query, and what a cosine means under a model."""

import re
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import dot_score, semantic_search
from sklearn.decomposition import PCA
from torch import Tensor

from helpers import encode, models, scores
from helpers.calibration import calibrator
from helpers.lines import LINE_CHARACTERS, SearchError, clean, says_something
from helpers.perturb import HAN
from helpers.pooling import POOLINGS, check_name
from helpers.scenarios import read
from helpers.thresholds import find, pairs

PRECISION = 0.9  # at which `meaning` cuts
PIECE_TOKENS = 1024  # embedded at once: a fraction of a second on a laptop for a small model
PIECE_CHARACTERS = 200_000  # tokenized at once
LOOKED_AT = 1000  # lines, and characters of each, that tell a language
SPACE = "␣"  # how a token of nothing but white space is shown
SHOWN = 60  # characters of a line in a message
HAN_CHARACTER = re.compile(f"[{HAN}]")
MIXED = 0.2  # the share of the lines from which on a second language counts
CHINESE = 0.25  # the share of Chinese characters among the letters from which on a text is Chinese

Pieces = Generator[int, None, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Hit:
    """A line that was found.

    Attributes:
        row: Its place in the knowledge base, from 0.
        line: The line.
        cosine: Of its vector and the query's.
        score: What hits are ordered by: the cosine, or the dot product of the vectors as they come.
    """

    row: int
    line: str
    cosine: float
    score: float


@dataclass(frozen=True)
class Meaning:
    """What a cosine means under a model, by scenario items whose strong pairs belong together and unrelated ones don't.

    Attributes:
        pooling: The pooling.
        language: The language of the items.
        items: How many.
        threshold: The lowest from which on `PRECISION` of the pairs belong together, where half of all pairs do; None
            where there is none.
        low: Where the 95 % interval of the threshold begins, or None.
        high: Where it ends, or None.
        strong: The share of the pairs that belong together at or above the threshold, by items that it was not chosen
            on, or None.
        unrelated: The same of the pairs that do not.
        note: Why there is no threshold; empty where there is one.
        probability: Turns cosines into the probability that a pair belongs together, where half of all pairs do.
    """

    pooling: str
    language: str
    items: int
    threshold: float | None
    low: float | None
    high: float | None
    strong: float | None
    unrelated: float | None
    note: str
    probability: Callable[[ArrayLike], np.ndarray]

    def precision(self, lines: int) -> float | None:
        """Returns which share of what is at or above the threshold is right, where one of so many lines is.

        None without a threshold.
        """
        if self.threshold is None:
            return None
        wrong = self.unrelated * (lines - 1)
        return self.strong / (self.strong + wrong) if self.strong + wrong else None


class KnowledgeBase:
    """Lines and their vectors under several poolings, ready to be searched once `embed` has run to its end.

    Args:
        model: The model.
        lines: The lines, as from `lines.tidy`.
        poolings: Names from `pooling.POOLINGS`.

    Attributes:
        lines: The lines, N of them.
        dim: How many numbers a vector has.
        lost: For each row whose end the model cannot read, how many tokens of it are lost; its prompt takes some, too.
        unit: `{pooling: float32 array (N, dim)}`, rows of length 1.
        norms: `{pooling: float32 array (N,)}`, the lengths that they had.

    Raises:
        SearchError: The vectors do not fit into memory.
        ValueError: A pooling is unknown.
    """

    def __init__(self, model: SentenceTransformer, lines: Sequence[str], poolings: Sequence[str] = tuple(POOLINGS)):
        self.model, self.lines, self.poolings = model, list(lines), [check_name(name) for name in poolings]
        self.dim = model[0].get_embedding_dimension()
        self.lost: dict[int, int] = {}
        self.unit: dict[str, np.ndarray] = {}
        self.norms: dict[str, np.ndarray] = {}
        needed = int(4 * len(self.lines) * self.dim * (len(self.poolings) + 1) * models.ROOM)  # one more for a map
        free = models.free_memory("cpu")
        if needed > free:
            raise SearchError("memory", needed=models.readable_size(needed), free=models.readable_size(free))

    def embed(self) -> Iterator[int]:
        """Embeds the lines piece by piece and yields how many are done; zeros come first, while it counts tokens.

        The base can be searched once this is exhausted; left before its end, it changes nothing.

        Raises:
            SearchError: A line gives the model no token to pool.
        """
        lost: dict[int, int] = {}
        vectors = yield from _embed(self.model, self.lines, self.poolings, "document", lost)
        self.norms = {name: np.linalg.norm(array, axis=1) for name, array in vectors.items()}
        for name, array in vectors.items():
            array /= np.maximum(self.norms[name], np.finfo(np.float32).tiny)[:, None]
        self.unit, self.lost = vectors, lost

    def embed_query(self, text: str) -> dict[str, np.ndarray]:
        """Embeds a query in its role and returns its vectors as they come, `{pooling: float32 array (dim,)}`.

        Raises:
            SearchError: The query says nothing, or is longer than the model can read.
        """
        text = clean(text)
        if not says_something(text):
            raise SearchError("query")
        if len(text) > LINE_CHARACTERS:
            raise SearchError("query_long", characters=len(text), limit=LINE_CHARACTERS)
        lost: dict[int, int] = {}
        try:
            vectors = _exhaust(_embed(self.model, [text], self.poolings, "query", lost))
        except SearchError:
            raise SearchError("query") from None
        if lost:
            limit = self.model.max_seq_length
            raise SearchError("query_cut", tokens=limit + lost[0], limit=limit)
        return {name: array[0] for name, array in vectors.items()}

    def search(self, query: np.ndarray, pooling: str, top_k: int, normalize: bool = True) -> list[Hit]:
        """Returns the lines nearest to a query, the nearest first.

        Args:
            query: Its vector under the same pooling, of any length, `(dim,)`.
            pooling: The pooling.
            top_k: How many lines; all of them where there are fewer.
            normalize: Whether to order by the cosine, or else by the dot product of the vectors as they come.

        Raises:
            RuntimeError: The lines are not embedded, or not to the end.
        """
        if pooling not in self.unit:
            raise RuntimeError(f"The lines have no {pooling} vectors yet: run embed() to its end before you search.")
        length = float(np.linalg.norm(query)) or 1.0
        norms = torch.from_numpy(self.norms[pooling])

        def as_they_come(asked: Tensor, corpus: Tensor) -> Tensor:
            return dot_score(asked, corpus) * norms  # so that no second copy of the vectors is needed

        found = semantic_search(
            query / length if normalize else query,
            self.unit[pooling],
            top_k=top_k,
            score_function=dot_score if normalize else as_they_come,
        )[0]
        hits = []
        for hit in sorted(found, key=lambda hit: (-hit["score"], hit["corpus_id"])):
            row, score = hit["corpus_id"], hit["score"]
            cosine = score if normalize else float(self.unit[pooling][row] @ query) / length
            hits.append(Hit(row, self.lines[row], cosine, score))
        return hits


def build(model: SentenceTransformer, lines: Sequence[str], poolings: Sequence[str] = tuple(POOLINGS)) -> KnowledgeBase:
    """Embeds lines, with a progress bar, and returns a `KnowledgeBase`; see there."""
    base = KnowledgeBase(model, lines, poolings)
    with encode.progress_bar("Embedding", "line", len(base.lines)) as progress:
        for done in base.embed():
            progress.update(done - progress.n)
    return base


def explain(model: SentenceTransformer, query: str, line: str, centre: np.ndarray | None = None) -> pd.DataFrame:
    """Shares the cosine of a query and a line under mean pooling out among the tokens of either.

    A mean of token states is a sum, so the cosine is one, too: a token t of the query, whose n states h have the mean
    q̄, contributes h_t · l̂ / (n ‖q̄‖), with l̂ the unit vector of the line; and the other way round. Where all vectors
    point much the same way, most of that is what the token would contribute with any line: `beyond` has the centre c of
    the lines subtracted, h_t · (l̂ − c) / (n ‖q̄‖), and adds up to the cosine less q̂ · c, the mean cosine of all lines.

    Args:
        model: The model.
        query: The query, encoded in its role.
        line: The line, encoded in its own.
        centre: The mean of the unit vectors that the line is compared with, `(dim,)`; without it, `beyond` is left out.

    Returns:
        One row for each token that is pooled, with the columns `text` ("query" or "line"), `token` as it can be read,
        special tokens by name, `contribution`, and `beyond`. The contributions of each text add up to the cosine.
    """
    tokens, states = {}, {}
    for text, role, of in (("query", "query", query), ("line", "document", line)):
        tokens[text], states[text] = _token_states(model, clean(of), role)
    mean = {text: array.mean(axis=0) for text, array in states.items()}
    tables = []
    for text, other in (("query", "line"), ("line", "query")):
        unit = mean[other] / np.linalg.norm(mean[other])
        scaled = states[text] / (len(states[text]) * np.linalg.norm(mean[text]))
        shares = {"contribution": scaled @ unit} | ({} if centre is None else {"beyond": scaled @ (unit - centre)})
        tables.append(pd.DataFrame({"text": text, "token": tokens[text]} | shares))
    return pd.concat(tables, ignore_index=True)


class Plane:
    """The plane in which vectors lie farthest apart (PCA).

    Args:
        vectors: `(N, dim)`.

    Attributes:
        points: Where they lie in it, `(N, 2)`; all at the origin where all vectors are the same.
        explained: The share of their variance that it shows.
    """

    def __init__(self, vectors: np.ndarray):
        self._centre = vectors.mean(axis=0)
        self._same = bool(np.allclose(vectors, self._centre, atol=1e-6))
        if not self._same:
            self._fitted = PCA(min(2, len(vectors) - 1), random_state=0).fit(vectors)
        self.explained = 1.0 if self._same else float(self._fitted.explained_variance_ratio_.sum())
        self.points = np.zeros((len(vectors), 2)) if self._same else self.place(vectors)

    def place(self, vectors: np.ndarray) -> np.ndarray:
        """Returns where other vectors, `(M, dim)`, fall, `(M, 2)`; without a plane, their distance from the origin."""
        if self._same:
            places = np.linalg.norm(vectors - self._centre, axis=1, keepdims=True)
        else:
            places = self._fitted.transform(vectors)
        return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def language_of(lines: Sequence[str]) -> str:
    """Returns "zh" where a good share of the letters are Chinese characters, else "en", by a sample of the lines."""
    some = "".join(line[:LOOKED_AT] for line in lines[:: -(-len(lines) // LOOKED_AT) or 1])
    return "zh" if len(HAN_CHARACTER.findall(some)) > CHINESE * sum(map(str.isalpha, some)) else "en"


def is_mixed(lines: Sequence[str]) -> bool:
    """Tells whether a good share of the lines is Chinese, and a good share is not, by a sample of them."""
    some = lines[:: -(-len(lines) // LOOKED_AT) or 1]
    chinese = sum(language_of([line]) == "zh" for line in some)
    return MIXED * len(some) <= chinese <= (1 - MIXED) * len(some) and chinese not in (0, len(some))


def labelled(language: str) -> pd.DataFrame:
    """Returns the scenario items in a language, by which `meaning` tells what a cosine means."""
    items = read()
    return items[items["language"] == language].reset_index(drop=True)


def score(model: SentenceTransformer, name: str, items: pd.DataFrame) -> pd.DataFrame:
    """Scores items as a knowledge base is searched: under every pooling, queries and candidates in their roles."""
    return scores.score(model, name, items, prompts=True)


def meaning(table: pd.DataFrame, pooling: str) -> Meaning:
    """Says what a cosine means, by the scores of items in one language under one model.

    Args:
        table: As from `score`, or several such tables, one below the other.
        pooling: One of its poolings.

    Raises:
        ValueError: The table has several models or languages, or lacks the pooling.
    """
    rows = table[table["pooling"] == pooling]
    if len(rows[["model", "language"]].drop_duplicates()) != 1:
        raise ValueError(f"The table must hold one model and language, and the pooling {pooling!r}.")
    found = find(rows, precision=PRECISION).iloc[0]
    columns = {"threshold": "threshold", "low": "threshold_low", "high": "threshold_high"}
    columns |= {kind: kind for kind in ("strong", "unrelated")}
    some = pairs(rows)
    return Meaning(
        pooling=pooling,
        language=found["language"],
        items=int(found["items"]),
        **{name: None if found["note"] else float(found[column]) for name, column in columns.items()},
        note=found["note"],
        probability=calibrator(some["cosine"], some["positive"]),
    )


def _prompt(model: SentenceTransformer, role: str) -> tuple[str | None, str]:
    """Returns name and text of what sentence-transformers puts before a text in a role."""
    name = scores.prompt_name(model, role)
    return name, model._resolve_prompt(None, name) or ""


def _embed(
    model: SentenceTransformer, texts: Sequence[str], poolings: Sequence[str], role: str, lost: dict[int, int]
) -> Pieces:
    """Embeds texts in pieces of similar length, yields how many are done and returns their vectors as they come.

    Fills `lost` with the number of tokens that are cut off each text that the model cannot read whole.
    """
    name, prompt = _prompt(model, role)
    sizes = np.zeros(len(texts), int)
    for rows in _pieces(range(len(texts)), [len(text) for text in texts], PIECE_CHARACTERS):
        for row, size in zip(rows, _sizes(model, [prompt + texts[row] for row in rows]), strict=True):
            if not size:
                raise SearchError("no_tokens", row=row + 1, line=texts[row][:SHOWN])
            sizes[row] = min(size, model.max_seq_length or size)
            if size > sizes[row]:
                lost[row] = int(size - sizes[row])
        yield 0
    vectors = {one: np.empty((len(texts), model[0].get_embedding_dimension()), np.float32) for one in poolings}
    done = 0
    for rows in _pieces(np.argsort(-sizes, kind="stable").tolist(), sizes, PIECE_TOKENS):
        some = [texts[row] for row in rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", encode.TruncationWarning)  # `lost` tells more
            made = encode.embed(model, some, poolings, False, prompt_name=name, token_budget=PIECE_TOKENS)
        for one, array in made.items():
            vectors[one][rows] = array
        done += len(rows)
        yield done
    return vectors


def _sizes(model: SentenceTransformer, texts: list[str]) -> list[int]:
    """Counts the tokens of each text, special ones too; 0 where there are no others."""
    tokens = model.tokenizer(texts, truncation=False, return_special_tokens_mask=True, verbose=False)
    return [0 if all(special) else len(special) for special in tokens["special_tokens_mask"]]


def _pieces(rows: Sequence[int], sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cuts rows into pieces whose sizes, all taken as large as the largest, add up to the budget at most."""
    piece: list[int] = []
    largest = 0
    for row in rows:
        if piece and max(largest, sizes[row]) * (len(piece) + 1) > budget:
            yield piece
            piece, largest = [], 0
        piece.append(row)
        largest = max(largest, sizes[row])
    if piece:
        yield piece


def _exhaust(pieces: Pieces) -> dict[str, np.ndarray]:
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value


def _token_states(model: SentenceTransformer, text: str, role: str) -> tuple[list[str], np.ndarray]:
    """Returns the tokens over which mean pooling runs, so that they can be read, and their states, `(tokens, dim)`."""
    (name, prompt), tokenizer = _prompt(model, role), model.tokenizer
    whole = prompt + text
    tokens = tokenizer(whole, truncation=True, return_special_tokens_mask=True, return_offsets_mapping=True)
    spans = [_trimmed(whole, *span) for span in tokens["offset_mapping"]]
    readable = []
    for place, (span, special) in enumerate(zip(spans, tokens["special_tokens_mask"], strict=True)):
        token, parts = tokenizer.convert_ids_to_tokens(tokens["input_ids"][place]), spans.count(span)
        if special:
            readable.append(token)
        elif span[0] == span[1] or token == "▁":  # which has the place of the next token at the start of a text
            readable.append(SPACE)
        else:
            part = f" {spans[: place + 1].count(span)}/{parts}" if parts > 1 else ""  # the bytes of one character
            readable.append(whole[slice(*span)] + part)
    states = model.encode(text, prompt_name=name, output_value="token_embeddings", show_progress_bar=False)
    pooled = slice(encode.unpooled_prompt_tokens(model, prompt), None)
    return readable[pooled], states.double().cpu().numpy()[pooled]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Returns a span of a text without the white space at its beginning and its end."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())
