"""The doctor on models of every recipe: what it reads, what it measures, what it warns of, and what it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, StaticEmbedding
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from helpers import doctor, probes, weights
from helpers.paths import ROOT
from helpers.pooling import POOLINGS

SWITCHES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
ENCODER, DECODER = "bert", "qwen3"


def build(
    folder: Path,
    kind: str = ENCODER,
    modes: tuple[str, ...] = ("mean",),
    *,
    form: str = "new",
    normalize: bool = True,
    dense: bool = False,
    side: str = "right",
    similarity: str = "cosine",
) -> Path:
    """Writes a small sentence-transformers folder with random weights."""
    if kind == ENCODER:
        torch.manual_seed(0)
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        BertModel(BertConfig(**shape, initializer_range=0.2), add_pooling_layer=False).save_pretrained(folder)
        source, width = weights.unpack("minilm"), 32
    else:
        source, width = weights.unpack("tiny-qwen3"), 64
        folder.mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            shutil.copy(source / name, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder)
    change(folder / "tokenizer_config.json", padding_side=side)
    kinds = ["Transformer", "Pooling", *["Dense"] * dense, *["Normalize"] * normalize]
    paths = ["", *(f"{number}_{name}" for number, name in enumerate(kinds[1:], 1))]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (path, name) in enumerate(zip(paths, kinds, strict=True))
    ]
    write(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir()
    if form == "old":
        pooling = {"word_embedding_dimension": width} | {key: mode in modes for mode, key in SWITCHES.items()}
    else:
        pooling = {"embedding_dimension": width, "pooling_mode": modes[0] if len(modes) == 1 else list(modes)}
    write(folder / "1_Pooling" / "config.json", pooling)
    if dense:
        (folder / "2_Dense").mkdir()
        torch.manual_seed(1)
        Dense(width * len(modes), 16).save(str(folder / "2_Dense"))
    write(folder / "config_sentence_transformers.json", {"similarity_fn_name": similarity})
    return folder


def write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")


def change(file: Path, **changes: object) -> None:
    write(file, json.loads(file.read_text(encoding="utf-8")) | changes)


def strict(report: doctor.Report) -> dict:
    """Reads a report's JSON as a parser does that knows no NaN."""
    return json.loads(report.to_json(), parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


def verdicts(report: doctor.Report) -> dict[str, str]:
    return {row["pooling"]: row["verdict"] for row in report.poolings}


# Every recipe


@pytest.mark.parametrize(
    ("kind", "mode", "form", "normalize", "dense", "side", "sound"),
    [
        (ENCODER, "cls", "new", True, False, "right", True),
        (ENCODER, "cls", "old", False, True, "right", True),
        (ENCODER, "cls", "old", True, False, "left", False),  # learned positions: padding moves every state
        (ENCODER, "mean", "new", False, False, "right", True),
        (ENCODER, "mean", "old", True, True, "right", True),
        (ENCODER, "mean", "new", True, False, "left", False),
        (ENCODER, "max", "old", False, False, "right", True),
        (ENCODER, "lasttoken", "new", True, True, "right", True),
        (DECODER, "cls", "new", True, False, "right", False),  # position 0 sees itself alone
        (DECODER, "cls", "old", False, True, "left", False),
        (DECODER, "mean", "old", True, False, "left", True),
        (DECODER, "lasttoken", "old", True, False, "left", True),
        (DECODER, "lasttoken", "new", False, True, "right", True),
    ],
)
def test_every_recipe(
    tmp_path: Path, kind: str, mode: str, form: str, normalize: bool, dense: bool, side: str, sound: bool
) -> None:
    folder = build(tmp_path / "m", kind, (mode,), form=form, normalize=normalize, dense=dense, side=side)
    report = doctor.examine(folder)
    assert report.sound is sound, report.problems
    assert any("depends on its neighbours" in text for text in report.problems) is (kind == ENCODER and side == "left")
    assert report.recipe["declared"] == report.recipe["effective"] == [mode]
    assert f"{form} form" in report.recipe["declared_in"]
    assert report.recipe["normalize"] is normalize
    assert report.recipe["dense"] == ([f"{64 if kind == DECODER else 32} → 16"] if dense else [])
    assert report.recipe["dimension"] == (16 if dense else 64 if kind == DECODER else 32)
    assert report.model["attention"] == ("causal" if kind == DECODER else "bidirectional")
    assert report.tokenizer["padding_side"] == side
    assert report.tokenizer["cls"] == ("[CLS]" if kind == ENCODER else None)
    assert (verdicts(report)["cls"] == "unsound") is (kind == DECODER or side == "left")
    assert any("Nothing normalizes" in text for text in report.warnings) is not normalize
    assert any("Dense" in text for text in report.warnings) is dense
    assert any("pads on the left" in text for text in report.warnings) is (side == "left")
    assert any("Padding and end are one token" in text for text in report.warnings) is (kind == DECODER)
    text = str(report)
    assert text.startswith(f"{folder}\nThe declared recipe is {'sound' if sound else 'UNSOUND'}.")
    assert all(name in text for name in POOLINGS)
    assert max(map(len, text.splitlines())) <= max(120, len(str(folder)))
    assert json.loads(report.to_json())["sound"] is sound


def test_attention_is_measured_not_read(tmp_path: Path) -> None:
    causal_bert = build(tmp_path / "bert", modes=("cls",))
    change(causal_bert / "config.json", is_decoder=True)
    report = doctor.examine(causal_bert)
    assert report.model["attention"] == "causal"
    assert report.tokenizer["cls"] == "[CLS]"
    assert report.problems == [
        "It gives 5 different texts one and the same direction.",
        "Changing the first or middle or last of 300 words does not move its vector at all.",
        "Its recipe reads cls, which hears 0% of the tokens: position 0 sees itself alone.",
    ]

    open_qwen = build(tmp_path / "qwen", DECODER, ("cls",))
    change(open_qwen / "config.json", is_causal=False)
    report = doctor.examine(open_qwen)
    assert report.model["attention"] == "bidirectional"
    assert report.sound
    assert any("puts no [CLS] in front" in text for text in report.warnings)


def test_a_plain_checkpoint_is_pooled_by_a_recipe_that_nobody_declared(tmp_path: Path) -> None:
    for kind, saved_as, made_up in ((ENCODER, "BertModel", "mean"), (DECODER, "Qwen3ForCausalLM", "lasttoken")):
        folder = build(tmp_path / kind, kind, ("cls",))
        (folder / "modules.json").unlink()
        change(folder / "config.json", architectures=[saved_as])
        report = doctor.examine(folder)
        assert report.recipe["declared"] is None
        assert report.recipe["effective"] == report.recipe["made_up"] == [made_up]
        assert verdicts(report)[made_up] == "default"
        assert report.sound
        assert "No pooling is declared. What sentence-transformers makes up is not unsound." in str(report)
        assert any(f"silently takes {made_up}. How it was trained" in text for text in report.warnings)


def test_a_mean_trained_model_read_as_cls_is_unsound(tmp_path: Path) -> None:
    model = SentenceTransformer(str(weights.unpack("minilm")), device="cpu")
    model[1].pooling_mode = "cls"
    model.save(str(tmp_path / "mine"))
    report = doctor.examine(tmp_path / "mine")
    assert report.problems == ["Its weights are those of all-MiniLM-L6-v2, trained with mean; this recipe reads cls."]
    assert any("English items mean, without prompts, sorts better than its own" in text for text in report.warnings)
    with torch.no_grad():  # trained on, perhaps to be read by cls
        model.transformers_model.encoder.layer[-1].output.dense.weight.mul_(1.01)
    model.save(str(tmp_path / "trained on"))
    assert doctor.examine(tmp_path / "trained on").sound


def test_the_name_of_a_well_known_model_is_a_hint_and_its_numbers_are_a_proof(
    tmp_path: Path, qwen3_layout: Path
) -> None:
    for name, hint in (("bge-M3", True), ("bge-m3-mine", False)):
        folder = build(tmp_path / name)
        (folder / "modules.json").unlink()
        report = doctor.examine(folder)
        assert report.sound
        said = f"The makers of {name} trained it with cls; here it is read by mean."
        assert (said in report.warnings) is hint
    report = doctor.examine(shutil.copytree(qwen3_layout, tmp_path / "Qwen3-Embedding-0.6B"))
    assert report.problems == ["It does not give the numbers that its makers published."]
    assert "0.7646" in report.known
    assert "Published numbers" in str(report)


@pytest.mark.parametrize("name", ["minilm", "e5-small", "smollm2", "tiny-qwen3"])
def test_embedded_models_are_sound(name: str) -> None:
    report = doctor.examine(name, "cpu")
    assert report.sound, report.problems
    assert report.recipe["declared"] == report.recipe["effective"]
    encoder = name in ("minilm", "e5-small")
    assert report.model["attention"] == ("bidirectional" if encoder else "causal")
    assert (verdicts(report)["cls"] == "unsound") is not encoder
    assert bool(report.known) is (name == "minilm")
    assert (report.tokenizer["unknown"]["zh"] > 0.7) is (name == "minilm")


def test_a_loaded_model_is_examined_and_left_as_it_was(tmp_path: Path) -> None:
    model = SentenceTransformer(str(build(tmp_path / "m", DECODER, ("lasttoken",), side="left")), device="cpu")
    before = model.encode(["x", "He is a lion"])
    report = doctor.examine(model)
    assert report.name == "m"
    assert report.recipe["declared"] == ["lasttoken"]
    assert model.tokenizer.padding_side == "left"
    np.testing.assert_array_equal(model.encode(["x", "He is a lion"]), before)


# What is odd


def test_concatenated_modes(tmp_path: Path) -> None:
    report = doctor.examine(build(tmp_path / "a", ENCODER, ("cls", "mean"), form="old"))
    assert report.recipe["declared"] == report.recipe["effective"] == ["cls", "mean"]
    assert "cls + mean (measured)" in str(report)
    assert report.recipe["dimension"] == 64
    assert [verdicts(report)[mode] for mode in ("cls", "mean", "max")] == ["declared", "declared", "untrained"]
    assert report.sound
    report = doctor.examine(build(tmp_path / "b", DECODER, ("cls", "lasttoken")))
    assert report.sound  # half of the vector hears everything
    assert "Its recipe reads cls, which hears 14% of the tokens: position 0 sees itself alone." in report.warnings


def test_a_pooling_that_names_no_mode_is_mean(tmp_path: Path) -> None:
    folder = build(tmp_path / "m", modes=(), form="old")
    report = doctor.examine(folder)
    assert report.recipe["effective"] == ["mean"]
    assert "Its Pooling names no mode: sentence-transformers silently takes mean." in report.warnings


@pytest.mark.filterwarnings("ignore::helpers.encode.TruncationWarning")
def test_a_long_text_must_be_heard_to_its_end(tmp_path: Path) -> None:
    short_sighted = build(tmp_path / "window", DECODER, ("lasttoken",))
    change(short_sighted / "config.json", use_sliding_window=True, sliding_window=16, max_window_layers=0)
    config = json.loads((short_sighted / "config.json").read_text())
    change(short_sighted / "config.json", layer_types=["sliding_attention"] * config["num_hidden_layers"])
    report = doctor.examine(short_sighted)
    assert "Changing the first or middle of 300 words does not move its vector at all." in report.problems
    assert "of a text of 300 words the last (measured)" in str(report)
    tiny = build(tmp_path / "limit", DECODER, ("cls",))
    write(tiny / "sentence_bert_config.json", {"max_seq_length": 4})
    report = doctor.examine(tiny)
    assert "It reads 4 tokens of a text at most: even a short sentence is cut off." in report.problems
    assert report.poolings


def test_what_a_module_behind_the_pooling_leaves_out_is_not_heard(tmp_path: Path) -> None:
    folder = build(tmp_path / "m", DECODER, ("cls", "lasttoken"), dense=True, normalize=False)
    model = SentenceTransformer(str(folder), device="cpu")
    assert doctor.examine(model).sound
    with torch.no_grad():
        model[2].linear.weight[:, 64:] = 0  # the half that heard everything
    assert "Changing the middle or last of 300 words does not move its vector at all." in doctor.examine(model).problems


def test_a_dot_product_without_normalize(tmp_path: Path) -> None:
    report = doctor.examine(build(tmp_path / "m", normalize=False, similarity="dot"))
    assert any("It declares the dot product as its similarity." in text for text in report.warnings)


def test_half_precision(tmp_path: Path) -> None:
    model = SentenceTransformer(
        str(build(tmp_path / "m", DECODER, ("lasttoken",))), device="cpu", model_kwargs={"dtype": torch.bfloat16}
    )
    report = doctor.examine(model)
    assert report.sound, report.problems
    assert (report.model["attention"], report.recipe["effective"]) == ("causal", ["lasttoken"])


def test_vectors_that_say_nothing(tmp_path: Path) -> None:
    model = SentenceTransformer(str(build(tmp_path / "m")), device="cpu")
    with torch.no_grad():
        for weight in model.transformers_model.encoder.parameters():
            weight.fill_(float("nan"))
    report = doctor.examine(model)
    assert report.problems == ["Its vectors hold NaN or infinity; are the weights damaged?"]
    assert strict(report)["recipe"]["lengths"] == [None, None]
    assert "attention         not measured" in str(report)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.transformers_model.encoder.layer[-1].output.LayerNorm.bias.fill_(1)
    assert "It gives 5 different texts one and the same direction." in doctor.examine(model).problems


def test_a_recipe_that_cannot_run(tmp_path: Path) -> None:
    folder = build(tmp_path / "m", normalize=False)
    modules = json.loads((folder / "modules.json").read_text())
    write(folder / "modules.json", modules[:1])
    report = doctor.examine(folder)
    assert report.recipe["declared"] is None
    assert len(report.problems) == 1
    assert report.problems[0].startswith("encode fails on a batch of short texts (")
    assert "No pooling is declared. What encode does is UNSOUND." in str(report)

    folder = build(tmp_path / "no pad", DECODER, ("lasttoken",))
    model = SentenceTransformer(str(folder), device="cpu")
    model.tokenizer.pad_token = None
    assert "padding token" in doctor.examine(model).problems[0]


def test_a_model_without_a_transformer(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(weights.unpack("minilm") / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save(str(tmp_path / "m"))
    report = doctor.examine(tmp_path / "m")
    assert report.sound
    assert report.poolings == []
    assert any("starts with StaticEmbedding, which gives no token states" in text for text in report.warnings)
    assert "limit             none" in str(report)
    assert strict(report)["model"]["limit"] is None


def test_more_tokens_than_positions(tmp_path: Path) -> None:
    folder = build(tmp_path / "m")
    write(folder / "sentence_bert_config.json", {"max_seq_length": 4096})
    assert "It accepts 4096 tokens and has 512 positions: longer texts fail." in doctor.examine(folder).problems
    write(folder / "sentence_bert_config.json", {"max_seq_length": 512})
    assert doctor.examine(folder).sound
    roberta = build(tmp_path / "roberta")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = RobertaConfig(**shape, vocab_size=30522, max_position_embeddings=512, pad_token_id=1)
    RobertaModel(config, add_pooling_layer=False).save_pretrained(roberta)
    write(roberta / "sentence_bert_config.json", {"max_seq_length": 512})
    assert "It accepts 512 tokens and has 510 positions: longer texts fail." in doctor.examine(roberta).problems
    rotary = build(tmp_path / "rotary", DECODER, ("lasttoken",))
    change(rotary / "config.json", max_position_embeddings=64)
    assert doctor.examine(rotary).sound  # distances have no table that ends


def test_a_cross_encoder_is_said_to_be_one(tmp_path: Path) -> None:
    cross = CrossEncoder(str(build(tmp_path / "m")), num_labels=1, device="cpu")
    cross.save_pretrained(str(tmp_path / "cross"))
    report = doctor.examine(tmp_path / "cross")
    assert (report.recipe["declared"], report.recipe["made_up"]) == (None, ["mean"])
    assert "It was saved as BertForSequenceClassification: trained to judge, not to embed." in report.warnings


def test_prompts_that_encode_does_not_add(tmp_path: Path) -> None:
    folder = build(tmp_path / "m")
    change(folder / "config_sentence_transformers.json", prompts={"query": "query: "})
    change(folder / "1_Pooling" / "config.json", include_prompt=False)
    report = doctor.examine(folder)
    assert any("It has prompts (query), and `encode` adds none by itself" in text for text in report.warnings)
    assert "query: 'query: '; their tokens are not pooled" in str(report)


@pytest.mark.parametrize(("names", "warned"), [(("query", "passage"), True), (("query", "document"), False)])
def test_a_prompt_that_encode_document_passes_by(tmp_path: Path, names: tuple[str, ...], warned: bool) -> None:
    folder = build(tmp_path / "m")
    prompts = {name: f"{name}: " for name in names}
    change(folder / "config_sentence_transformers.json", prompts=prompts)
    model = SentenceTransformer(str(folder), local_files_only=True)
    bare, used = model.encode("cats"), model.encode_document("cats")
    assert np.allclose(bare, used, atol=1e-5) == warned, "sentence-transformers has changed: is the warning still true?"
    warnings = doctor.examine(model).warnings
    assert any("does not use its prompt 'passage'" in text for text in warnings) == warned


def test_a_module_that_does_not_do_what_it_declares(tmp_path: Path) -> None:
    class Sum(Pooling):
        def forward(self, features: dict) -> dict:
            return features | {"sentence_embedding": features["token_embeddings"].sum(dim=1)}

    model = SentenceTransformer(str(build(tmp_path / "m", normalize=False)), device="cpu")
    model[1] = Sum(99)
    problems = doctor.examine(model).problems
    assert "It declares mean and computes none of the known poolings." in problems
    assert "It says 99 dimensions and returns 32." in problems


def test_normalize_before_the_end(tmp_path: Path) -> None:
    model = SentenceTransformer(str(build(tmp_path / "m")), device="cpu")
    model.append(Dense(32, 8))
    warnings = doctor.examine(model).warnings
    assert any(text.startswith("It has a Normalize module, but not at the end: they are") for text in warnings)


# The measurements


def test_influence_is_exact(tmp_path: Path) -> None:
    model = SentenceTransformer(str(build(tmp_path / "m", DECODER)), device="cpu")
    table = probes.influence(model, "他是一头狮子")
    assert list(table.columns) == list(table.index) == ["他", "是一", "头", "狮子", "<|endoftext|>"]
    assert (table.to_numpy()[np.tril_indices(5, -1)] == 0).all()  # not one bit
    assert (table.to_numpy()[np.triu_indices(5)] > 0).all()


def test_what_each_pooling_hears(tmp_path: Path) -> None:
    model = SentenceTransformer(str(build(tmp_path / "m", DECODER)), device="cpu")
    heard = probes.hears(model, "他是一头狮子")
    assert heard.pop("cls") == 1 / 4  # <|endoftext|> is not the text's own
    assert set(heard.values()) == {1}


# The command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "helpers.doctor", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_command_prints_the_report_and_its_status_is_the_verdict(tmp_path: Path) -> None:
    sound = command("minilm")
    assert (sound.returncode, sound.stderr) == (0, "")
    assert sound.stdout.startswith("minilm\nThe declared recipe is sound.")
    unsound = command(str(build(tmp_path / "m", DECODER, ("cls",))), "--json")
    assert unsound.returncode == 1
    assert json.loads(unsound.stdout)["problems"]


@pytest.mark.parametrize("case", ["bad name", "no model", "cut short", "pickle", "device"])
def test_what_cannot_be_examined_is_one_sentence(tmp_path: Path, case: str) -> None:
    folder, options = tmp_path / "m", []
    if case == "no model":
        folder.mkdir()
    elif case == "device":
        folder, options = "minilm", ["--device", "quantum"]
    elif case != "bad name":
        file = build(folder) / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        if case == "pickle":
            file.rename(folder / "pytorch_model.bin")
    run = command(str(folder), *options)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.count("\n") == 1
    assert run.stderr.endswith(".\n")
    expected = {"bad name": "neither", "no model": "holds no model", "cut short": "cut short", "pickle": "pickle"}
    assert expected.get(case, "device") in run.stderr
