"""A student learns what the recipe says, and a training that was cut off ends as one that was not."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

from helpers import distill
from helpers.distill import BATCH, EPSILON, Lesson, learn
from helpers.encode import embed
from helpers.fingerprint import fingerprint

SENTENCES = [
    f"The {noun} {verb} {number} times."
    for noun in ("cat", "dog", "sea")
    for verb in ("ran", "sang")
    for number in range(10)
]
TEXTS = ["The cat sang.", "A dog ran far away.", "The sea was calm that day."]
STEPS = 4
RATE = 1e-3
Embedded = Callable[[str], SentenceTransformer]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POOLING_LAB_OUTPUT", str(tmp_path))
    return tmp_path / "training"


@pytest.fixture
def teacher(embedded: Embedded) -> SentenceTransformer:
    return embedded("tiny-qwen3")


@pytest.fixture
def lesson(teacher: SentenceTransformer) -> Lesson:
    targets = embed(teacher, SENTENCES, ["mean"])["mean"]
    return Lesson("lasttoken", SENTENCES, targets, RATE, TEXTS, watched=TEXTS, reads=("mean",))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are taken."""
    taken, batch = [], distill._batch

    def counted(lengths: np.ndarray, step: int, seed: int) -> np.ndarray:
        taken.append(step)
        return batch(lengths, step, seed)

    monkeypatch.setattr(distill, "_batch", counted)
    return taken


def forget(folder: Path) -> None:
    """Removes all trainings, so that the next one is done."""
    for path in folder.iterdir():
        path.unlink()


def test_training_is_what_sentence_transformers_and_plain_pytorch_make_of_the_recipe(
    teacher: SentenceTransformer, lesson: Lesson
) -> None:
    found = learn(teacher, lesson, STEPS, seed=1)
    student = copy.deepcopy(teacher)  # its own Pooling takes the last token
    lengths = np.array([len(ids) for ids in teacher.tokenizer(SENTENCES)["input_ids"]])
    optimizer = torch.optim.AdamW(student.parameters(), eps=EPSILON)
    for step, rate in enumerate((1, 3 / 4, 1 / 2, 1 / 4)):
        rows = distill._batch(lengths, step, 1)
        vectors = student(student.preprocess([SENTENCES[row] for row in rows]))["sentence_embedding"]
        targets = torch.from_numpy(lesson.targets[rows])
        loss = (
            sum(
                1 - vector @ target / vector.norm() / target.norm()
                for vector, target in zip(vectors, targets, strict=True)
            )
            / BATCH
        )
        student.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = RATE * rate
        optimizer.step()
    expected = student.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(found[STEPS]["lasttoken"], expected, atol=1e-4)
    assert np.abs(expected - teacher.encode(TEXTS, normalize_embeddings=True)).max() > 1e-2  # it has learned something


def test_it_is_examined_where_it_was_asked_to_be(teacher: SentenceTransformer, lesson: Lesson) -> None:
    found = learn(teacher, lesson, STEPS, seed=0, at=(0, 2))
    assert {step: list(some) for step, some in found.items()} == {
        0: ["lasttoken"],
        2: ["lasttoken"],
        4: ["lasttoken", "mean"],
    }
    before = embed(teacher, TEXTS, ["lasttoken"])["lasttoken"]
    np.testing.assert_array_equal(found[0]["lasttoken"], before)
    closer = [1 - (some["lasttoken"] * before).sum(axis=1).mean() for some in found.values()]
    assert closer == sorted(closer)  # each step leads further away from where it began


def test_the_teacher_stays_as_it_is(teacher: SentenceTransformer, lesson: Lesson) -> None:
    before = fingerprint(teacher)
    learn(teacher, lesson, 1, seed=0)
    assert fingerprint(teacher) == before
    assert not any(weights.grad is not None for weights in teacher.parameters())


def test_there_is_no_dropout(embedded: Embedded, folder: Path) -> None:
    model = copy.deepcopy(embedded("minilm")).train()
    assert model[0].auto_model.config.hidden_dropout_prob > 0
    lesson = Lesson("cls", SENTENCES, np.ones((len(SENTENCES), 384)), RATE, TEXTS)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(learn(model.train(), lesson, 1, seed=0)[1]["cls"])
        forget(folder)
    np.testing.assert_array_equal(*found)


def test_a_model_with_a_default_prompt_reads_without_it(
    teacher: SentenceTransformer, lesson: Lesson, folder: Path
) -> None:
    prompted = copy.deepcopy(teacher)
    prompted.prompts, prompted.default_prompt_name = {"query": "Answer this: "}, "query"
    found = []
    for model in (teacher, prompted):
        found.append(learn(model, lesson, 1, seed=0)[1]["lasttoken"])
        forget(folder)
    np.testing.assert_array_equal(*found)
    assert np.abs(embed(prompted, TEXTS, ["mean"])["mean"] - embed(teacher, TEXTS, ["mean"])["mean"]).max() > 1e-3


def test_a_batch_holds_each_sentence_once_a_round_in_an_order_of_the_seeds() -> None:
    lengths = np.arange(2 * BATCH + 3) + 1
    rounds = [
        [distill._batch(lengths, step, seed) for step in range(2 * start, 2 * start + 2)]
        for seed in (0, 1)
        for start in (0, 1)
    ]
    assert all(len(np.unique(np.concatenate(one))) == 2 * BATCH for one in rounds)
    assert len({tuple(np.concatenate(one)) for one in rounds}) == 4


def test_sentences_of_a_batch_are_about_as_long_in_batches_of_any_order_that_leave_none_out_for_good() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 20 * BATCH + 5)
    batches = [distill._batch(lengths, step, seed=0) for step in range(400)]
    longest = [lengths[rows].max() for rows in batches[:20]]
    assert np.mean(longest) < 1.2 * lengths.mean()  # of random batches: 1.9
    assert longest != sorted(longest)
    assert set(np.concatenate(batches)) == set(range(len(lengths)))


@pytest.mark.parametrize("cut_at", [1, 3])
def test_a_training_that_was_cut_off_goes_on_and_ends_the_same(
    teacher: SentenceTransformer,
    lesson: Lesson,
    batches: list[int],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    cut_at: int,
) -> None:
    whole = learn(teacher, lesson, STEPS, seed=0, at=(0, 2))
    forget(folder)
    monkeypatch.setattr(distill, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    pooled = distill._pooled

    def cut(*arguments: object) -> torch.Tensor:
        if batches[-1] == cut_at:
            raise KeyboardInterrupt
        return pooled(*arguments)

    monkeypatch.setattr(distill, "_pooled", cut)
    with pytest.raises(KeyboardInterrupt):
        learn(teacher, lesson, STEPS, seed=0, at=(0, 2))
    monkeypatch.setattr(distill, "_pooled", pooled)
    batches.clear()
    again = learn(teacher, lesson, STEPS, seed=0, at=(0, 2))
    assert batches == list(range(cut_at, STEPS))
    assert again.keys() == whole.keys()
    for step, some in whole.items():
        for pooling, vectors in some.items():
            np.testing.assert_array_equal(again[step][pooling], vectors)


def test_a_finished_training_is_not_done_again_and_keeps_vectors_alone(
    teacher: SentenceTransformer, lesson: Lesson, batches: list[int], folder: Path
) -> None:
    first, again = (learn(teacher, lesson, STEPS, seed=0, at=(0,)) for _ in range(2))
    assert batches == list(range(STEPS))
    np.testing.assert_array_equal(first[STEPS]["mean"], again[STEPS]["mean"])
    (path,) = folder.glob("*.safetensors")
    assert set(load_file(path)) == {"vectors 0 lasttoken", "vectors 4 lasttoken", "vectors 4 mean"}
    assert not list(folder.glob("*.partial"))


def test_what_a_training_depends_on_tells_it_apart(
    teacher: SentenceTransformer, lesson: Lesson, batches: list[int]
) -> None:
    learn(teacher, lesson, 1, seed=0)
    others = [
        (lesson, 1, 1),
        (lesson, 2, 0),
        (replace(lesson, rate=2 * RATE), 1, 0),
        (Lesson("mean", SENTENCES, lesson.targets, RATE, TEXTS, TEXTS, ("mean",)), 1, 0),
        (Lesson("lasttoken", SENTENCES, lesson.targets[::-1].copy(), RATE, TEXTS, TEXTS, ("mean",)), 1, 0),
        (Lesson("lasttoken", SENTENCES[::-1], lesson.targets, RATE, TEXTS, TEXTS, ("mean",)), 1, 0),
        (Lesson("lasttoken", SENTENCES, lesson.targets, RATE, TEXTS[:2], TEXTS, ("mean",)), 1, 0),
    ]
    for other, steps, seed in others:
        batches.clear()
        learn(teacher, other, steps, seed)
        assert batches == list(range(steps))


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: b"", lambda content: b"x" * 2000])
def test_a_damaged_file_is_begun_afresh(
    teacher: SentenceTransformer, lesson: Lesson, batches: list[int], folder: Path, damage: Callable[[bytes], bytes]
) -> None:
    first = learn(teacher, lesson, 2, seed=0)
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    batches.clear()
    np.testing.assert_array_equal(learn(teacher, lesson, 2, seed=0)[2]["mean"], first[2]["mean"])
    assert batches == [0, 1]


def test_position_0_of_a_decoder_learns_nothing_but_its_first_token(
    teacher: SentenceTransformer, lesson: Lesson
) -> None:
    found = learn(teacher, Lesson("cls", SENTENCES, lesson.targets, RATE, TEXTS), STEPS, seed=0)[STEPS]["cls"]
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)  # both begin with "The"
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_the_first_layers_of_a_decoder_are_what_its_hidden_states_say(embedded: Embedded) -> None:
    model = copy.deepcopy(embedded("tiny-qwen3"))
    decoder = model[0].auto_model
    tokens = model.preprocess(TEXTS[:1])
    with torch.inference_mode():
        states = decoder(input_ids=tokens["input_ids"], output_hidden_states=True).hidden_states[2]
        cut = distill.first_layers(model, 2)
        np.testing.assert_allclose(cut(tokens)["token_embeddings"], decoder.norm(states), atol=1e-5)
    assert cut is model
    assert fingerprint(model) != fingerprint(embedded("tiny-qwen3"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pooling": "middle"}, "Unknown pooling 'middle'"),
        ({"sentences": SENTENCES[:5]}, "5 sentences and 60 targets"),
        ({"sentences": SENTENCES[:5], "targets": np.ones((5, 64))}, "16 sentences or more"),
    ],
)
def test_a_lesson_that_cannot_be_learned_is_refused(lesson: Lesson, change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Lesson(**vars(lesson) | change)
