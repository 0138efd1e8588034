"""Embeddings that several notebooks need: computed once, kept by content, and never trusted unchecked."""

import io
import json
import warnings
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from filelock import FileLock
from sentence_transformers import SentenceTransformer

from helpers import encode
from helpers.fingerprint import fingerprint
from helpers.paths import EMBEDDINGS, output

DIGEST = sha256().digest_size


def embed(
    model: SentenceTransformer,
    texts: Sequence[str],
    poolings: Sequence[str] = ("cls", "mean"),
    normalize: bool = True,
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    dtype: encode.Arithmetic = "float32",
) -> dict[str, np.ndarray]:
    """Does what `encode.embed` does, but only once for the same model, texts, prompt, dtype and pooling.

    The vectors are kept below `paths.output()`, so the notebooks of one `make reproduce` share them and the next begins
    without any; those that are run by hand, and the radar, share theirs until `make clean`. An entry's name is a digest
    of all that the vectors come from, the model as it is in memory among it (`fingerprint`), so what has changed finds
    none; and it ends with a digest of itself, so a damaged or displaced one counts as none. Of two processes that want
    the same vectors, the second waits for the first. Where texts were cut off, nothing is kept, so that the warning of
    it comes each time.

    Args:
        model: As for `encode.embed`, like all that follow.
        texts: N texts.
        poolings: Names of poolings; those that are kept already are not computed again.
        normalize: Whether to scale each vector to length 1.
        prompt: Text to put before each text.
        prompt_name: Name of one of the model's own prompts.
        dtype: Arithmetic of the forward pass.

    Returns:
        `{pooling: float32 array (N, dim)}`, rows in the order of `texts`.

    Raises:
        ValueError, TypeError: As from `encode.embed`.
    """
    how = {"normalize": normalize, "prompt": prompt, "prompt_name": prompt_name, "dtype": dtype}
    poolings = list(encode.embed(model, texts[:0], poolings, **how))  # refuses what it cannot do
    made_from = [fingerprint(model), model._resolve_prompt(prompt, prompt_name), normalize, dtype, *texts]
    folder = output() / EMBEDDINGS / sha256(json.dumps(made_from).encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        vectors = {name: kept for name in poolings if (kept := _read(folder / name)) is not None}
        if missing := [name for name in poolings if name not in vectors]:
            with encode.truncations() as cut:
                made = encode.embed(model, texts, missing, **how)
            for warning in cut:
                warnings.warn(warning, stacklevel=2)
            for name in made if not cut else ():
                _write(folder / name, made[name])
            vectors |= made
    return {name: vectors[name] for name in poolings}


def _write(path: Path, vectors: np.ndarray) -> None:
    """Writes an entry, whole or not at all: a `.npy` and, behind it, the digest of its name and content."""
    content = io.BytesIO()
    np.save(content, vectors)
    partial = path.with_suffix(".partial")
    partial.write_bytes(content.getvalue() + _digest(path, content.getvalue()))
    partial.replace(path)


def _read(path: Path) -> np.ndarray | None:
    """Returns what an entry holds, or None where there is none, or one that is not what was written there."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    content, digest = content[:-DIGEST], content[-DIGEST:]
    return np.load(io.BytesIO(content), allow_pickle=False) if digest == _digest(path, content) else None


def _digest(path: Path, content: bytes) -> bytes:
    return sha256(f"{path.parent.name}/{path.name}".encode() + content).digest()
