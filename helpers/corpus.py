"""Texts that do not fit in memory: an iterator goes in, memory-mapped arrays come out, and a killed run goes on.

`embed_corpus` works on one machine. `Embedder` is the same work as a stage of Ray Data, for several GPUs or machines.
"""

import io
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout
from sentence_transformers import SentenceTransformer

from helpers.encode import (
    WINDOW,
    Arithmetic,
    NoTokenError,
    TruncationWarning,
    embed,
    progress_bar,
    truncations,
)
from helpers.fingerprint import fingerprint
from helpers.models import load

JOURNAL = "progress.json"
LOCK = ".lock"


class CorpusError(ValueError):
    """A folder cannot take or give these vectors; the message is one sentence, and nothing was changed."""


@dataclass
class Journal:
    """What a folder holds for certain: whatever it does not speak of is written again.

    Attributes:
        settings: What decides the vectors besides the texts, by name.
        windows: A SHA-256 digest of the texts of each window that is done.
        rows: The texts in these windows.
        cut: Those of them that were longer than the model reads.
        lost: The tokens that this cost.
        complete: Whether there were no more texts.
    """

    settings: dict[str, Any]
    windows: list[str] = field(default_factory=list)
    rows: int = 0
    cut: int = 0
    lost: int = 0
    complete: bool = False

    def save(self, folder: Path) -> None:
        """Replaces the folder's journal by this one, or leaves the old one whole."""
        partial = folder / f"{JOURNAL}.partial"
        with partial.open("w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)
            _flush(file)
        partial.replace(folder / JOURNAL)
        _flush_folder(folder)


def embed_corpus(
    model: SentenceTransformer,
    texts: Iterable[str],
    folder: str | Path,
    poolings: Sequence[str] = ("mean",),
    normalize: bool = True,
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    dtype: Arithmetic = "float32",
) -> dict[str, np.memmap]:
    """Embeds texts that need not fit in memory, into one `<folder>/<pooling>.npy` for each pooling.

    Takes `encode.WINDOW` texts at a time, so memory does not grow with their number, and the vectors are those of
    `embed`. A run that was killed, whenever that was, goes on when it is called again with the same arguments: it reads
    the texts that are done once more, but only to check them, and ends with the same bytes as a run that was never
    killed, on the same machine. A finished folder is checked in the same way, and nothing is computed.

    Args:
        model: As in `embed`.
        texts: The texts, N of them: a list, a generator, an open file whose lines you strip; read once.
        folder: Where the arrays go, with the journal that says how far they are; made if it is not there.
        poolings: Names from `pooling.POOLINGS`.
        normalize: As in `embed`.
        prompt: As in `embed`.
        prompt_name: As in `embed`.
        dtype: As in `embed`.

    Returns:
        `{pooling: float32 array (N, dim)}`, memory-mapped and read-only, rows in the order of `texts`.

    Raises:
        CorpusError: The folder was begun with other texts, another model or other settings, has no journal, or an
            array that is missing or of another size, or another process works in it; it is left as it is.
        ValueError, NoTokenError: As in `embed`, or a text is not valid Unicode. The number of a text is its row among
            all texts, and the windows before it stay done.
        TypeError: As in `embed`.

    Warns:
        TruncationWarning: Once, at the end, how many of all the texts were cut, and how many tokens that lost.
    """
    if isinstance(texts, str):
        raise TypeError("texts is a single string; put it into a list.")
    prompt = model._resolve_prompt(prompt, prompt_name) or ""
    arguments = {
        "poolings": tuple(dict.fromkeys(poolings)),
        "normalize": bool(normalize),
        "prompt": prompt,
        "dtype": dtype,
    }
    empty = embed(model, [], **arguments)  # checks the arguments before anything is written
    settings = {**arguments, "poolings": sorted(empty), "model": fingerprint(model)}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    progress = progress_bar("Embedding the corpus", "text")
    with _only_one(folder), progress:
        journal = _read_journal(folder, settings, empty)
        done, row = len(journal.windows), 0
        for number, window in enumerate(_windows(texts)):
            digest = _digest(window, row)
            if number < done:
                if digest != journal.windows[number]:
                    raise CorpusError(
                        f"The texts in rows {row} to {row + len(window) - 1} are not those that {folder} was made "
                        "with; pass the same texts in the same order, or name another folder."
                    )
            elif journal.complete:
                raise CorpusError(
                    f"{folder} holds {journal.rows} texts, and there are more of them now; name another folder."
                )
            else:
                vectors, cut, lost = _embed_window(model, window, row, arguments)
                _append(folder, journal, vectors)
                journal.windows.append(digest)
                journal.rows += len(window)
                journal.cut += cut
                journal.lost += lost
                journal.save(folder)
            row += len(window)
            progress.update(len(window))
        if row < journal.rows:
            raise CorpusError(
                f"{folder} holds {journal.rows} texts, and there are only {row} now; pass all of them, or name another "
                "folder."
            )
        _finish(folder, journal, empty)
    if journal.cut:
        warnings.warn(TruncationWarning(journal.cut, journal.rows, model.max_seq_length, journal.lost), stacklevel=2)
    return {name: np.load(_whole(folder, name), mmap_mode="r") for name in empty}


class Embedder:
    """A stage of Ray Data's `map_batches`: adds a column of vectors for each pooling to batches with a column `text`.

    Each of Ray's actors makes one of its own and so loads the model once.

    Args:
        model: A name, folder or hub id, as in `models.load`; a folder must be there on every machine.
        poolings: Names from `pooling.POOLINGS`; the new columns have these names.
        normalize: As in `embed`.
        prompt: As in `embed`.
        prompt_name: As in `embed`.
        dtype: As in `embed`.

    Raises:
        ModelError: As in `models.load`.
        ValueError: As in `embed`.
    """

    def __init__(
        self,
        model: str,
        poolings: Sequence[str] = ("mean",),
        normalize: bool = True,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dtype: Arithmetic = "float32",
    ) -> None:
        self.model = load(model)
        self.arguments = {
            "poolings": tuple(poolings),
            "normalize": normalize,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "dtype": dtype,
        }
        embed(self.model, [], **self.arguments)  # a wrong argument is said before the first batch

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the batch with `{pooling: float32 (rows, dim)}` beside its columns.

        Raises:
            ValueError: As in `embed`, the batch has no column `text`, or one with the name of a pooling.
            TypeError: As in `embed`.
        """
        if "text" not in batch:
            raise ValueError(f"The batch has the columns {', '.join(batch)}, but no column text; rename yours.")
        if taken := batch.keys() & set(self.arguments["poolings"]):
            raise ValueError(f"The batch has a column {min(taken)} already; rename it.")
        return {**batch, **embed(self.model, batch["text"].tolist(), **self.arguments)}


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise CorpusError(f"Another process works in {folder}: wait for its end, or name another folder.") from None


def _windows(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while window := list(islice(texts, WINDOW)):
        yield window


def _digest(window: list[str], first: int) -> str:
    """Returns a digest of the texts of a window, whose first one has the row `first`, or says which is none."""
    digest = sha256()
    for row, text in enumerate(window, first):
        if not isinstance(text, str):
            raise TypeError(f"Text {row} is {text!r}, a {type(text).__name__}; every text must be a string.")
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"Text {row} ({text!r}) has half of a character in it; mend it or leave it out.") from None
        digest.update(len(encoded).to_bytes(8, "little"))  # so that ("ab", "c") is not ("a", "bc")
        digest.update(encoded)
    return digest.hexdigest()


def _embed_window(
    model: SentenceTransformer, window: list[str], first: int, arguments: dict[str, Any]
) -> tuple[dict[str, np.ndarray], int, int]:
    """Returns the vectors of a window, how many of its texts were cut, and how many tokens that lost."""
    with truncations() as found:
        try:
            vectors = embed(model, window, **arguments)
        except NoTokenError as error:
            raise NoTokenError(first + error.row, error.text) from None
    return vectors, sum(one.cut for one in found), sum(one.lost for one in found)


def _read_journal(folder: Path, settings: dict[str, Any], empty: dict[str, np.ndarray]) -> Journal:
    """Returns the journal of a folder, or a new one, after a look at whether the folder's files are what it says."""
    place = folder / JOURNAL
    if not place.exists():
        for path in [name(folder, pooling) for pooling in empty for name in (_whole, _partial)]:
            if path.exists():
                raise CorpusError(f"{path} is there, but no {JOURNAL} beside it; name another folder.")
        return Journal(settings)
    try:
        journal = Journal(**json.loads(place.read_text(encoding="utf-8")))
        old = {name: journal.settings[name] for name in settings}
    except (ValueError, TypeError, KeyError):
        raise CorpusError(f"{place} is damaged; delete {folder}, or name another folder.") from None
    differ = [
        "another model, or other versions of the lab's code and its libraries"
        if name == "model"
        else f"{name} {old[name]!r}, not {settings[name]!r}"
        for name in settings
        if old[name] != settings[name]
    ]
    if differ:
        raise CorpusError(f"{folder} was begun with {' and '.join(differ)}; name another folder.")
    for pooling, vectors in empty.items():
        path = _whole(folder, pooling)
        if not (journal.complete and path.exists()):
            path = _partial(folder, pooling)
        size, expected = path.stat().st_size if path.exists() else 0, _size(vectors, journal.rows)
        if size != expected if journal.complete else journal.rows and size < expected:
            raise CorpusError(f"{path} is missing or of another size; delete {folder}, or name another folder.")
    return journal


def _append(folder: Path, journal: Journal, vectors: dict[str, np.ndarray]) -> None:
    """Writes the vectors behind the rows that the journal speaks of, over whatever a killed run left there."""
    if not journal.rows:
        journal.save(folder)  # before the first array, so that none is ever there without it
    for pooling, rows in vectors.items():
        path = _partial(folder, pooling)
        path.touch()
        with path.open("r+b") as file:
            file.write(_header(rows, journal.rows + len(rows)))
            file.seek(_size(rows, journal.rows))
            file.truncate()
            file.write(rows.tobytes())
            _flush(file)


def _finish(folder: Path, journal: Journal, empty: dict[str, np.ndarray]) -> None:
    """Gives the arrays their names; what a killed run left to do here is done by the next one."""
    if not journal.complete:
        _append(folder, journal, empty)  # a killed run may have written more rows than there are texts now
        journal.complete = True
        journal.save(folder)
    for pooling in empty:
        if not _whole(folder, pooling).exists():
            _partial(folder, pooling).replace(_whole(folder, pooling))
    _flush_folder(folder)


def _whole(folder: Path, pooling: str) -> Path:
    return folder / f"{pooling}.npy"


def _partial(folder: Path, pooling: str) -> Path:
    return folder / f"{pooling}.npy.partial"


def _header(vectors: np.ndarray, rows: int) -> bytes:
    """Returns the start of a .npy file that holds so many rows like these; it is as long whatever their number."""
    header = io.BytesIO()
    fields = np.lib.format.header_data_from_array_1_0(vectors) | {"shape": (rows, vectors.shape[1])}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def _size(vectors: np.ndarray, rows: int) -> int:
    """Returns the bytes of a .npy file that holds so many rows like these."""
    return len(_header(vectors, rows)) + rows * vectors.shape[1] * vectors.itemsize


def _flush(file: IO) -> None:
    """Waits until what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
