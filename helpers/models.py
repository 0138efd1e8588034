"""Loads a model by name, folder or hub id: always a plain `SentenceTransformer`, always from safetensors."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
from safetensors import SafetensorError, safe_open

from helpers import weights
from helpers.paths import MODELS

if TYPE_CHECKING:  # importing them takes seconds, and the table below is of use without them
    import torch
    from sentence_transformers import SentenceTransformer

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
HUB_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]  # never a pickle
HUB_OTHER_FORMATS = ["onnx/*", "openvino/*", "original/*", "consolidated*"]
WEIGHTS = "model.safetensors"
HUB_SECONDS = 10  # without an answer for so long, the hub counts as out of reach
PICKLE = "{name} has its weights as a pickle only, which can run code and is never read; save the model as safetensors."
DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes a number
ROOM = 1.2  # times the weights: a fifth more is kept free for the states of a batch
CGROUP = Path("/sys/fs/cgroup")  # where Linux says how much memory a container may use


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


class Memory(NamedTuple):
    """What the weights of a model take up on a device; `free` is in bytes."""

    name: str
    parameters: int
    dtype: str
    device: str
    free: int

    @property
    def needed(self) -> int:
        """The bytes of the weights alone."""
        return self.parameters * DTYPES[self.dtype]

    def fits(self, copies: int = 1) -> bool:
        """Returns whether so many copies of the weights fit into what is free, each with a fifth more to work in."""
        return copies * self.needed * ROOM <= self.free

    def __str__(self) -> str:
        large = self.parameters >= 1e9
        count = f"{self.parameters / 1e9:.2f} billion" if large else f"{self.parameters / 1e6:.0f} million"
        needed, free = readable_size(self.needed), readable_size(self.free)
        return f"{self.name}: {count} parameters, {needed} in {self.dtype} on {self.device} ({free} free)"


def choose_device(name: str | None = None) -> str:
    """Returns the device to compute on, such as `cpu`, `mps`, `cuda` or `cuda:1`.

    Args:
        name: A device; None takes that of the environment variable POOLING_LAB_DEVICE and, where it is not set, a CUDA
            GPU, else Apple's GPU (`mps`), else the CPU.

    Raises:
        ModelError: The device is unknown or not there.
    """
    import torch

    name = (name or os.environ.get("POOLING_LAB_DEVICE", "")).strip().lower()
    cards = [f"cuda:{card}" for card in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    there = [*cards, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    if not name:
        return there[0].partition(":")[0]
    if name not in there and not (name == "cuda" and cards):
        raise ModelError(f"There is no device {name!r} here; use {' or '.join(there)}.")
    return name


def memory(
    name_or_path_or_hub_id: str | Path, device: str | None = None, dtype: str | torch.dtype | None = None
) -> Memory:
    """Returns what a model's weights would take up, read from their headers or asked of the hub; see `load`.

    A hub model is downloaded only where the hub does not tell its size.

    Raises:
        ModelError: As `load` does, except that a model which does not fit is no error.
    """
    name = str(name_or_path_or_hub_id).strip()
    return _memory(name, _find(name)[1], device, dtype)


def load(
    name_or_path_or_hub_id: str | Path, device: str | None = None, dtype: str | torch.dtype | None = None
) -> SentenceTransformer:
    """Loads a model, ready to encode.

    The names in `EMBEDDED` come first (a folder of your own called `minilm` is `./minilm`), then existing folders,
    then the hub. Only safetensors are read, and code that comes with a model is never run. A model that does not fit
    into what memory is free is refused, before it is downloaded where the hub tells its size.

    Args:
        name_or_path_or_hub_id: An embedded name, a model folder, or a hub id such as `BAAI/bge-small-zh-v1.5`.
        device: For example `cpu` or `cuda`; None is explained at `choose_device`.
        dtype: `float32`, `bfloat16`, `float16` or a torch dtype; None means float32, whatever the checkpoint holds, but
            on a GPU bfloat16 where every weight is stored so: no weight changes, and they take up half the memory.

    Raises:
        ModelError: The model is unknown, out of reach, damaged, incomplete, unsafe or too large, or the device or
            dtype is not to be had, in one sentence.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    name = str(name_or_path_or_hub_id).strip()
    place, stored = _find(name)
    need = _memory(name, stored, device, dtype)
    if not need.fits():
        raise ModelError(
            f"{name} needs {readable_size(need.needed)} in {need.dtype} for its weights alone, and a fifth more to "
            f"work in, but {readable_size(need.free)} are free on {need.device}; choose a smaller model or another "
            "device."
        )
    if isinstance(place, str):
        place = _download(name, place)
        _inspect(name, place)
    with _no_progress_bars(), _missing_weights() as missing:
        try:
            model = SentenceTransformer(
                str(place),
                device=need.device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": getattr(torch, need.dtype)},
            )
        except Exception as error:  # whatever three libraries raise, the reader gets one sentence
            raise ModelError(_explain(name, place, error)) from error
    if missing:
        raise ModelError(
            f"{name} lacks weights that it needs, such as {missing[0]}, and they would be made up at random; download "
            "or save the model again."
        )
    special = getattr(model.tokenizer, "all_special_ids", None)  # only a tokenizer of transformers has a list of them
    if special is not None and len(model.tokenizer) <= len(special):
        raise ModelError(f"{name} lacks the files of its tokenizer; download or save the model again.")
    return model.eval()


def _memory(name: str, stored: dict[str, int], device: str | None, dtype: str | torch.dtype | None) -> Memory:
    """Settles device and dtype for weights of which so many numbers are stored in each type."""
    device = choose_device(device)
    if dtype is None:
        dtype = "bfloat16" if device != "cpu" and set(stored) == {"BF16"} else "float32"
    dtype = str(dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}.")
    return Memory(name, sum(stored.values()), dtype, device, free_memory(device))


def free_memory(device: str) -> int:
    """Returns the bytes that are free on a device."""
    import torch

    free = psutil.virtual_memory().available
    if device.startswith("cuda"):  # what this process holds in reserve is free, too
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    if device == "mps":  # its memory is the machine's
        return min(free, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return min(free, limit - int(used["anon"]))  # the rest is a cache, and yields
    except (OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        return free


def readable_size(count: int) -> str:
    """Returns a number of bytes as a person reads it, such as "1.2 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _find(name: str) -> tuple[Path | str, dict[str, int]]:
    """Returns where a model is and how many numbers of each type its weights hold, such as `{"BF16": 595776512}`.

    The place is an inspected folder, an embedded model being unpacked where needed, or else the id of a hub model that
    is yet to be downloaded.
    """
    try:
        path = Path(name).expanduser()
        is_folder = path.is_dir()
        if path.resolve().parent == MODELS.resolve() and path.name in EMBEDDED:
            name = path.name
    except (OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a null character
        is_folder = False
    if name in EMBEDDED:
        try:
            path = MODELS / name if weights.check(name, full=False) else weights.unpack(name)
        except weights.NotOnThisPlatform as error:
            warnings.warn(str(error), stacklevel=4)
            return _ask_hub(EMBEDDED[name].origin)
        except weights.WeightsError as error:
            raise ModelError(str(error)) from error
    elif not (name and is_folder):
        if not HUB_ID.fullmatch(name):
            raise ModelError(f"{name!r} is neither a model folder nor a hub id; {_embedded()}.")
        return _ask_hub(name)
    return path, _inspect(name, path)


def _ask_hub(name: str) -> tuple[Path | str, dict[str, int]]:
    """Finds a model as `_find` does: on the hub or, where that is out of reach, among what was downloaded before."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
    from sentence_transformers.util import ORIGINAL_TRANSFORMER_MODELS

    bare = "/" not in name and name.lower() not in ORIGINAL_TRANSFORMER_MODELS
    hub_id = f"sentence-transformers/{name}" if bare else name  # as sentence-transformers reads a bare name
    with _one_sentence(name):
        try:
            info = HfApi().model_info(hub_id, timeout=HUB_SECONDS)
        except (RepositoryNotFoundError, HFValidationError):
            raise
        except Exception:  # offline, no route, a silent firewall, a proxy's refusal: each has a class of its own
            info, folder = None, Path(snapshot_download(hub_id, local_files_only=True))
    if info:
        files = [file.rfilename for file in info.siblings or ()]
        if "pytorch_model.bin" in files and not any(file.endswith(".safetensors") for file in files):
            raise ModelError(PICKLE.format(name=name))
        if info.safetensors:
            return hub_id, info.safetensors.parameters
        folder = _download(name, hub_id)
    return folder, _inspect(name, folder)


def _download(name: str, hub_id: str) -> Path:
    """Returns the local copy of a hub model: its safetensors and settings, without pickles or other formats."""
    from huggingface_hub import snapshot_download

    with _one_sentence(name):
        return Path(snapshot_download(hub_id, allow_patterns=HUB_FILES, ignore_patterns=HUB_OTHER_FORMATS))


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    """Turns what a hub or the way to it raises into a ModelError."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise ModelError(f"{name!r} asks you to accept its terms on the hub first; {_embedded()}.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"{name!r} is neither a model folder nor a public model on the hub; {_embedded()}.") from error
    except Exception as error:
        reason = getattr(error, "strerror", None) or "the hub cannot be reached"  # strerror: for example a full disk
        raise ModelError(
            f"{name!r} is not a model folder here and could not be fetched ({reason}); {_embedded()}."
        ) from error


def _inspect(name: str, folder: Path) -> dict[str, int]:
    """Refuses a folder without a model, with pickled weights or with a missing or damaged safetensors file.

    Returns:
        How many numbers of each type the weights hold, by their headers.
    """
    listed = folder / "modules.json"
    if not listed.is_file() and not (folder / "config.json").is_file():
        raise ModelError(f"The folder {name} holds no model: it has neither modules.json nor config.json.")
    try:
        modules = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else [{"path": ""}]
        parts = [folder / module["path"] for module in modules]
        shards = [
            part / file
            for part in parts
            for index in part.glob(f"{WEIGHTS}.index.json")
            for file in json.loads(index.read_bytes())["weight_map"].values()
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"modules.json or {WEIGHTS}.index.json of {name} cannot be read; download or save the model again."
        ) from error
    for shard in shards:
        if not shard.is_file():
            raise ModelError(f"{shard.name} of {name} is missing; download or save the model again.")
    stored: Counter[str] = Counter()
    for part in parts:
        safe = sorted(part.glob(WEIGHTS)) or sorted(part.glob("*.safetensors"))
        if not safe and any(part.glob("pytorch_model*.bin")):
            raise ModelError(PICKLE.format(name=name))
        for file in safe:
            try:
                with safe_open(file, "numpy") as tensors:
                    for key in tensors.offset_keys():
                        tensor = tensors.get_slice(key)
                        stored[tensor.get_dtype()] += math.prod(tensor.get_shape())
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    f"{file.name} of {name} is damaged or cut short; download or save the model again."
                ) from error
    return dict(stored)


def _explain(name: str, folder: Path, error: Exception) -> str:
    """Puts a library's error into one sentence, without the paths of this machine."""
    text = str(error)
    if "trust_remote_code" in text:
        return f"{name} needs code from its own repository, which is never run here; choose another model."
    if "pytorch_model.bin" in text and any(folder.rglob("pytorch_model*.bin")):
        return PICKLE.format(name=name)
    if "safetensors" in text or "pytorch_model.bin" in text:
        return f"{name} lacks weights in safetensors, the only format that is read; save the model as safetensors."
    first = re.sub(r"\S*/\S+", "…", text.strip().partition("\n")[0])[:200].rstrip(". ")
    return f"{name} cannot be loaded ({type(error).__name__}: {first}); check its files, the device and the memory."


def _embedded() -> str:
    return f"embedded, and always at hand, are {', '.join(EMBEDDED)}"


@contextmanager
def _missing_weights() -> Iterator[list[str]]:
    """Collects the weights that transformers does not find and makes up, and keeps its table of them off the screen.

    A pooler's do not count: encoders are often saved without one, and nobody reads it.
    """
    found = []

    def take(record: logging.LogRecord) -> bool:
        table = re.sub(r"\x1b\[[\d;]*m", "", record.getMessage())
        found.extend(key for key in re.findall(r"^(\S.*?) *\| *MISSING", table, re.MULTILINE) if "pooler" not in key)
        return "LOAD REPORT" not in table

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(take)
    try:
        yield found
    finally:
        logger.removeFilter(take)


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
