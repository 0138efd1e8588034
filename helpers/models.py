"""Loads a model by name, folder or hub id: always a plain `SentenceTransformer`, always from safetensors."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from helpers import weights
from helpers.paths import MODELS

if TYPE_CHECKING:  # importing them takes seconds, and the table below is of use without them
    import torch
    from sentence_transformers import SentenceTransformer

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
HUB_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]  # never a pickle
HUB_OTHER_FORMATS = ["onnx/*", "openvino/*", "original/*", "consolidated*"]
HUB_SECONDS = 10  # without an answer for so long, the hub counts as out of reach
PICKLE = "{name} has its weights as a pickle only, which can run code and is never read; save the model as safetensors."
DTYPES = ("float32", "bfloat16", "float16")


class ModelError(ValueError):
    """A model cannot be loaded; the message is one sentence."""


class Embedded(NamedTuple):
    """A model that comes from the package index, so that no hub is needed; data/DATA.md tells the rest."""

    title: str
    origin: str


EMBEDDED = {
    "minilm": Embedded("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
    "e5-small": Embedded("multilingual-e5-small, 4-bit", "intfloat/multilingual-e5-small"),
    "smollm2": Embedded("SmolLM2-135M-Instruct, 4-bit", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    "tiny-qwen3": Embedded("tiny Qwen3, random weights", "Qwen/Qwen3-Embedding-0.6B"),
}


def load(
    name_or_path_or_hub_id: str | Path, device: str | None = None, dtype: str | torch.dtype | None = None
) -> SentenceTransformer:
    """Loads a model, ready to encode.

    The names in `EMBEDDED` come first (a folder of your own called `minilm` is `./minilm`), then existing folders,
    then the hub. Only safetensors are read, and code that comes with a model is never run.

    Args:
        name_or_path_or_hub_id: An embedded name, a model folder, or a hub id such as `BAAI/bge-small-zh-v1.5`.
        device: For example `cpu` or `cuda`; None takes a GPU where there is one.
        dtype: `float32`, `bfloat16`, `float16` or a torch dtype; None means float32, whatever the checkpoint holds.

    Raises:
        ModelError: The model is unknown, out of reach, damaged, incomplete or unsafe, in one sentence.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    name = str(name_or_path_or_hub_id).strip()
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}.")
    number = getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float32
    folder = _folder(name)
    _inspect(name, folder)
    with _no_progress_bars():
        try:
            model = SentenceTransformer(
                str(folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": number},
            )
        except Exception as error:  # whatever three libraries raise, the reader gets one sentence
            raise ModelError(_explain(name, error)) from error
    if model.tokenizer is not None and len(model.tokenizer) <= len(model.tokenizer.all_special_ids):
        raise ModelError(f"{name} lacks the files of its tokenizer; download or save the model again.")
    return model.eval()


def _folder(name: str) -> Path:
    """Returns the local folder that a name stands for, after unpacking or downloading it where needed."""
    try:
        path = Path(name).expanduser()
        is_folder = path.is_dir()
        if path.resolve().parent == MODELS.resolve() and path.name in EMBEDDED:
            name = path.name
    except (OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a null character
        is_folder = False
    if name in EMBEDDED:
        try:
            return MODELS / name if weights.check(name, full=False) else weights.unpack(name)
        except weights.NotOnThisPlatform as error:
            warnings.warn(str(error), stacklevel=3)
            return _download(EMBEDDED[name].origin)
        except weights.WeightsError as error:
            raise ModelError(str(error)) from error
    if name and is_folder:
        return path
    if not HUB_ID.fullmatch(name):
        raise ModelError(f"{name!r} is neither a model folder nor a hub id; {_embedded()}.")
    return _download(name)


def _download(name: str) -> Path:
    """Returns the local copy of a hub model: its safetensors and settings, without pickles or other formats."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
    from sentence_transformers.util import ORIGINAL_TRANSFORMER_MODELS

    bare = "/" not in name and name.lower() not in ORIGINAL_TRANSFORMER_MODELS
    hub_id = f"sentence-transformers/{name}" if bare else name  # as sentence-transformers reads a bare name
    try:
        try:
            files = [file.rfilename for file in HfApi().model_info(hub_id, timeout=HUB_SECONDS).siblings or ()]
        except (RepositoryNotFoundError, HFValidationError):
            raise
        except Exception:  # offline, no route, a silent firewall, a proxy's refusal: each has a class of its own
            return Path(snapshot_download(hub_id, local_files_only=True))
        if "pytorch_model.bin" in files and not any(file.endswith(".safetensors") for file in files):
            raise ModelError(PICKLE.format(name=name))
        return Path(snapshot_download(hub_id, allow_patterns=HUB_FILES, ignore_patterns=HUB_OTHER_FORMATS))
    except ModelError:
        raise
    except GatedRepoError as error:
        raise ModelError(f"{name!r} asks you to accept its terms on the hub first; {_embedded()}.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"{name!r} is neither a model folder nor a public model on the hub; {_embedded()}.") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or "the hub cannot be reached"  # strerror: for example a full disk
        raise ModelError(
            f"{name!r} is not a model folder here and could not be fetched ({reason}); {_embedded()}."
        ) from error


def _inspect(name: str, folder: Path) -> None:
    """Refuses a folder without a model, with pickled weights or with a damaged safetensors file."""
    listed = folder / "modules.json"
    if not listed.is_file() and not (folder / "config.json").is_file():
        raise ModelError(f"The folder {name} holds no model: it has neither modules.json nor config.json.")
    try:
        modules = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else [{"path": ""}]
        parts = [folder / module["path"] for module in modules]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"modules.json of {name} cannot be read; download or save the model again.") from error
    for part in parts:
        safe = sorted(part.glob("*.safetensors"))
        if not safe and any(part.glob("pytorch_model*.bin")):
            raise ModelError(PICKLE.format(name=name))
        for file in safe:
            if not weights.is_whole(file):
                raise ModelError(f"{file.name} of {name} is damaged or cut short; download or save the model again.")


def _explain(name: str, error: Exception) -> str:
    """Puts a library's error into one sentence, without the paths of this machine."""
    text = str(error)
    if "trust_remote_code" in text:
        return f"{name} needs code from its own repository, which is never run here; choose another model."
    if "pytorch_model.bin" in text:
        return PICKLE.format(name=name)
    if "safetensors" in text:
        return f"{name} lacks weights in safetensors, the only format that is read; save the model as safetensors."
    first = re.sub(r"\S*/\S+", "…", text.strip().partition("\n")[0])[:200].rstrip(". ")
    return f"{name} cannot be loaded ({type(error).__name__}: {first}); check its files, the device and the memory."


def _embedded() -> str:
    return f"embedded, and always at hand, are {', '.join(EMBEDDED)}"


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keeps transformers' bar for reading weights out of notebooks; warnings still show."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
