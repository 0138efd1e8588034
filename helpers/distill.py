"""Self-distillation: one pooling of a model learns what another one knows, from sentences without any label."""

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device
from torch import Tensor
from torch.nn.functional import cosine_similarity
from tqdm.auto import tqdm

from helpers.encode import embed, progress_bar
from helpers.fingerprint import fingerprint
from helpers.paths import TRAINING, output
from helpers.pooling import check_name, pool

BATCH = 16  # sentences
EPSILON = 1e-6  # of Adam, as in BERT's own: below it, a gradient is rounding, which 1e-8 would blow up into steps
SECONDS_BETWEEN_CHECKPOINTS = 60
CODE = sha256(Path(__file__).read_bytes()).hexdigest()

Snapshots = dict[int, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Lesson:
    """What a student learns, and on which texts it is examined.

    Attributes:
        pooling: The pooling that it learns through: one that needs the token states and the mask alone.
        sentences: What it reads, `BATCH` of them or more.
        targets: Where the vector of each sentence is to point, `(sentences, dim)`; lengths do not count.
        rate: The learning rate of the first step.
        texts: What it is examined on at the end.
        watched: What it is examined on at the steps on the way, through its own pooling alone.
        reads: Further poolings that it is read through at the end.

    Raises:
        ValueError: The pooling is unknown, or there are too few sentences, or not as many targets.
    """

    pooling: str
    sentences: Sequence[str]
    targets: np.ndarray
    rate: float
    texts: Sequence[str]
    watched: Sequence[str] = ()
    reads: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_name(self.pooling)
        if not BATCH <= len(self.sentences) == len(self.targets):
            counts = f"{len(self.sentences)} sentences and {len(self.targets)} targets"
            raise ValueError(f"A lesson needs {BATCH} sentences or more, and as many targets; it has {counts}.")


def learn(teacher: SentenceTransformer, lesson: Lesson, steps: int, seed: int, at: Sequence[int] = ()) -> Snapshots:
    """Trains a copy of a model until the vectors of one pooling point where the targets do.

    AdamW on all weights; a learning rate that falls to 0 in a straight line; batches of `BATCH` sentences of about the
    same length, so that little is padding, which the seed decides, others each time round; no dropout; no prompt, here
    and in the examination; the loss is 1 − cosine. Every `SECONDS_BETWEEN_CHECKPOINTS` and at the end, what there is
    goes below `paths.output()`, in one file whose name is a digest of all that it comes from. So a training that was
    cut off goes on from there and ends as if it had not been, and one that was finished is not done again.

    Args:
        teacher: The model to begin with, which stays as it is.
        lesson: What to learn.
        steps: How many batches. The learning rate depends on it, so a longer training is another one.
        seed: Decides which sentences stand together in a batch.
        at: Steps at which the student is examined on the way; at step 0 it still is the teacher.

    Returns:
        `{step: {pooling: float32 vectors (texts, dim) of length 1}}`: of `lesson.watched` for the steps in `at`, and of
        `lesson.texts` for the last one.
    """
    path = output() / TRAINING / f"{_digest(teacher, lesson, steps, seed, at)}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(path.with_suffix(".lock")),  # a second process waits, and finds everything done
        progress_bar(f"Training {lesson.pooling}, seed {seed}", "step", steps) as progress,
    ):
        return _learn(teacher, lesson, steps, seed, at, path, progress)


def _learn(
    teacher: SentenceTransformer,
    lesson: Lesson,
    steps: int,
    seed: int,
    at: Sequence[int],
    path: Path,
    progress: tqdm,
) -> Snapshots:
    student = copy.deepcopy(teacher, {id(teacher.tokenizer): teacher.tokenizer}).eval()  # which is not trained
    optimizer = torch.optim.AdamW(student.parameters(), eps=EPSILON, fused=True)
    done, snapshots = _restore(path, student, optimizer)
    targets = torch.from_numpy(lesson.targets).to(student.device)
    lengths = student.preprocess(list(lesson.sentences))["attention_mask"].sum(dim=1).numpy(force=True)
    saved = time.monotonic()
    progress.update(done)
    for step in range(done, steps):
        if step in at and step not in snapshots:
            snapshots[step] = embed(student, lesson.watched, [lesson.pooling], prompt="")
        if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            _keep(path, step, snapshots, _state(student, optimizer))
            saved = time.monotonic()
        rows = _batch(lengths, step, seed)
        for group in optimizer.param_groups:
            group["lr"] = lesson.rate * (1 - step / steps)
        optimizer.zero_grad()
        vectors = _pooled(student, lesson.pooling, [lesson.sentences[row] for row in rows])
        (1 - cosine_similarity(vectors, targets[rows]).mean()).backward()
        optimizer.step()
        progress.update()
    if steps not in snapshots:
        snapshots[steps] = embed(student, lesson.texts, [lesson.pooling, *lesson.reads], prompt="")
        _keep(path, steps, snapshots, {})
    return snapshots


def first_layers(model: SentenceTransformer, count: int) -> SentenceTransformer:
    """Cuts a decoder down to its first `count` layers and its last norm, in place, and returns it."""
    decoder = model[0].auto_model
    decoder.layers = decoder.layers[:count]
    decoder.config.num_hidden_layers = len(decoder.layers)
    return model


def _batch(lengths: np.ndarray, step: int, seed: int) -> np.ndarray:
    """Returns the rows of a step's batch: each row once in a round at most, whichever steps were taken before."""
    rounds, place = divmod(step, len(lengths) // BATCH)
    rng = np.random.default_rng([seed, rounds])
    ordered = np.argsort(lengths * rng.uniform(1, 1.2, len(lengths)))  # roughly by length: other neighbours each time
    spare = rng.integers(len(lengths) % BATCH + 1)  # so that not only the longest are left over
    start = spare + BATCH * rng.permutation(len(lengths) // BATCH)[place]
    return ordered[start : start + BATCH]


def _pooled(student: SentenceTransformer, pooling: str, sentences: list[str]) -> Tensor:
    features = student[0](batch_to_device(student.preprocess(sentences), student.device))
    return pool(pooling, features["token_embeddings"], features["attention_mask"])


def _digest(teacher: SentenceTransformer, lesson: Lesson, steps: int, seed: int, at: Sequence[int]) -> str:
    targets = sha256(np.ascontiguousarray(lesson.targets, np.float32)).hexdigest()
    lists = [list(some) for some in (lesson.sentences, lesson.texts, lesson.watched, lesson.reads, at)]
    learned = [fingerprint(teacher), CODE, lesson.pooling, targets, lesson.rate, *lists, steps, seed]
    return sha256(json.dumps(learned).encode()).hexdigest()


def _state(student: SentenceTransformer, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns all that a training needs to go on."""
    state = {f"weights 0 {name}": weights.detach() for name, weights in student.named_parameters()}
    for index, moments in optimizer.state_dict()["state"].items():
        state |= {f"optimizer {index} {name}": value for name, value in moments.items()}
    return state


def _keep(path: Path, step: int, snapshots: Snapshots, state: dict[str, Tensor]) -> None:
    """Writes how far a training has come, whole or not at all."""
    vectors = {f"vectors {at} {name}": torch.from_numpy(one) for at in snapshots for name, one in snapshots[at].items()}
    partial = path.with_suffix(".partial")
    save_file(vectors | state, partial, metadata={"step": str(step)})
    partial.replace(path)


def _restore(path: Path, student: SentenceTransformer, optimizer: torch.optim.Optimizer) -> tuple[int, Snapshots]:
    """Puts student and optimizer to where a training was cut off; returns the steps it had taken and its snapshots."""
    try:
        with safe_open(path, "pt") as file:
            step, tensors = int(file.metadata()["step"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (FileNotFoundError, SafetensorError):  # it never came so far, or its file was damaged: from the beginning
        return 0, {}
    state, snapshots = {}, {}
    for name, tensor in tensors.items():
        kind, place, what = name.split(" ", 2)
        if kind == "vectors":
            snapshots.setdefault(int(place), {})[what] = tensor.numpy()
        elif kind == "optimizer":
            state.setdefault(int(place), {})[what] = tensor
    if state:
        student.load_state_dict({what: tensors[f"weights 0 {what}"] for what, _ in student.named_parameters()}, False)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step, snapshots
