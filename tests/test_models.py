"""Every model that can be loaded is; every other one gets one sentence."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from sentence_transformers import SentenceTransformer

from helpers import models, weights
from helpers.paths import DATA, MODELS, ROOT

EMBEDDED = "embedded, and always at hand, are minilm, e5-small, smollm2, tiny-qwen3"


class Bomb:
    """Unpickling it touches a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model folder to spoil."""
    return Path(shutil.copytree(weights.unpack("minilm"), tmp_path / "mine"))


def refusal(name: str | Path, **options) -> str:
    with pytest.raises(models.ModelError) as caught:
        models.load(name, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def change(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def hub_error(kind: type[Exception]) -> Exception:
    return kind("refused", response=SimpleNamespace(headers={}, request=None, status_code=404))


# What loads


@pytest.mark.parametrize("name", models.EMBEDDED)
def test_an_embedded_model_loads_quietly(name, capfd):
    model = models.load(name)
    assert isinstance(model, SentenceTransformer)
    assert not model.training
    assert not model[0].model.training
    assert model.dtype == torch.float32
    assert capfd.readouterr() == ("", "")


def test_an_embedded_folder_needs_no_code_of_ours():
    weights.unpack("tiny-qwen3")
    script = (
        "import sys; from sentence_transformers import SentenceTransformer;"
        "vector = SentenceTransformer('models/tiny-qwen3').encode('我饿了');"
        "print(vector.shape, 'helpers' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "(64,) False\n"


def test_the_table_and_the_weights_name_the_same_models():
    assert list(models.EMBEDDED) == list(weights.SOURCES)
    listed = (DATA / "DATA.md").read_text(encoding="utf-8")
    for name, model in models.EMBEDDED.items():
        assert f"| `{name}` |" in listed
        assert model.origin in listed
        assert f"| `{weights.SOURCES[name].package}` |" in listed


def test_a_folder_loads_like_the_name(embedded, folder):
    text = "It's so sunny outside!"
    assert (models.load(folder).encode(text) == embedded("minilm").encode(text)).all()


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16), (torch.bfloat16, torch.bfloat16)],
)
def test_dtype(folder, given, expected):
    change(folder / "config.json", dtype="float16")  # what the checkpoint says does not count
    assert models.load(folder, device="cpu", dtype=given).dtype == expected


def test_a_damaged_embedded_model_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "MODELS", tmp_path)
    monkeypatch.setattr(models, "MODELS", tmp_path)
    damaged = weights.unpack("minilm") / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert models.load("minilm").encode("x").shape == (384,)
    damaged.unlink()
    assert models.load(tmp_path / "minilm").encode("x").shape == (384,)


def test_the_embedded_name_wins_over_a_folder(embedded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("minilm").mkdir()
    assert models._folder("minilm") == MODELS / "minilm"
    assert "holds no model" in refusal("./minilm/")


def test_e5_elsewhere_comes_from_the_hub(monkeypatch):
    def unpack(name):
        raise weights.NotOnThisPlatform("only for Linux x86-64")

    monkeypatch.setattr(weights, "check", lambda name, full: False)
    monkeypatch.setattr(weights, "unpack", unpack)
    monkeypatch.setattr(models, "_download", Path)
    with pytest.warns(UserWarning, match="only for Linux x86-64"):
        assert models._folder("e5-small") == Path("intfloat/multilingual-e5-small")


# The hub


def test_no_hub_names_what_is_embedded(monkeypatch):
    def unreachable(*args, **options):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    assert refusal("Some/never-cached-model") == (
        "'Some/never-cached-model' is not a model folder here and could not be fetched (the hub cannot be reached); "
        f"{EMBEDDED}."
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (RepositoryNotFoundError, "'e5small' is neither a model folder nor a public model on the hub"),
        (GatedRepoError, "'e5small' asks you to accept its terms on the hub first"),
    ],
)
def test_what_the_hub_refuses(monkeypatch, kind, expected):
    def refuse(*args, **options):
        raise hub_error(kind)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    assert refusal("e5small") == f"{expected}; {EMBEDDED}."


def test_only_safetensors_and_settings_are_downloaded(monkeypatch):
    asked = {}

    def download(hub_id, **options):
        asked.update(options, hub_id=hub_id)
        return weights.unpack("minilm")

    def info(api, hub_id, timeout):
        files = ["config.json", "model.safetensors", "pytorch_model.bin"]
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in files])

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert models.load("all-MiniLM-L6-v2").encode("x").shape == (384,)
    assert asked["hub_id"] == "sentence-transformers/all-MiniLM-L6-v2"
    kept = huggingface_hub.utils.filter_repo_objects(
        ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.safetensors", "x.pkl", "modeling.py"],
        allow_patterns=asked["allow_patterns"],
        ignore_patterns=asked["ignore_patterns"],
    )
    assert list(kept) == ["config.json", "model.safetensors"]


def test_a_hub_model_of_pickles_is_not_downloaded(monkeypatch):
    pickles = SimpleNamespace(siblings=[SimpleNamespace(rfilename="pytorch_model.bin")])
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **options: pickles)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    assert refusal("a/b").startswith("a/b has its weights as a pickle only, which can run code and is never read;")


# What does not load


@pytest.mark.parametrize("name", ["", "  ", "./nothing", "a/b/c", "not a name!", "~nobody-here/x", "x/" * 3000, "a\0b"])
def test_neither_folder_nor_hub_id(name):
    assert refusal(name) == f"{name.strip()!r} is neither a model folder nor a hub id; {EMBEDDED}."


def test_a_folder_without_a_model():
    assert refusal("tests") == "The folder tests holds no model: it has neither modules.json nor config.json."


def test_an_unknown_dtype():
    assert refusal("minilm", dtype="int4") == "dtype 'int4' is unknown; use one of float32, bfloat16, float16."


def test_an_unknown_device():
    assert refusal("minilm", device="quantum").startswith("minilm cannot be loaded (RuntimeError: Expected one of cpu")


@pytest.mark.parametrize("content", [b"", b"abc", bytes(100), os.urandom(5000), None])
def test_damaged_weights(folder, content):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    expected = f"model.safetensors of {folder} is damaged or cut short; download or save the model again."
    assert refusal(folder) == expected


def test_a_folder_without_its_tokenizer(folder):
    for file in [*folder.glob("tokenizer*"), *folder.glob("special_tokens_map.json")]:
        file.unlink()
    assert "lacks the files of its tokenizer" in refusal(folder)


@pytest.mark.parametrize("part", ["", "2_Normalize"])
def test_a_pickle_is_never_opened(folder, tmp_path, part):
    if part:  # a module with weights of its own, beside a transformer in safetensors
        modules = json.loads((folder / "modules.json").read_text())
        modules[2]["type"] = "sentence_transformers.models.Dense"
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / part).mkdir()
        (folder / part / "config.json").write_text('{"in_features": 384, "out_features": 8}')
    else:
        (folder / "model.safetensors").unlink()
    (folder / part / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    assert "as a pickle only" in refusal(folder)
    assert not (tmp_path / "ran").exists()
    (folder / part / "pytorch_model.bin").unlink()
    assert "safetensors" in refusal(folder)


@pytest.mark.parametrize("content", ["{", "[1]", "{}"])
def test_unreadable_modules(folder, content):
    (folder / "modules.json").write_text(content)
    (folder / "config.json").write_text("{")
    assert str(folder) in refusal(folder)


def test_other_damage_shows_no_path_but_the_readers_own(folder):
    (folder / "config.json").write_text("{")
    message = refusal(folder)
    assert message.startswith(f"{folder} cannot be loaded (")
    assert message.count("/") == str(folder).count("/")


def test_code_of_a_model_never_runs(folder, tmp_path):
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    change(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"})
    assert refusal(folder) == (
        f"{folder} needs code from its own repository, which is never run here; choose another model."
    )
    assert not (tmp_path / "ran").exists()
