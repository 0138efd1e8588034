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
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer

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


@pytest.fixture
def gpus(monkeypatch) -> None:
    """A machine with two CUDA GPUs, as far as torch tells, of which 8 GB are free."""
    monkeypatch.delenv("POOLING_LAB_DEVICE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * 10**9, 80 * 10**9))


def test_the_device_is_the_best_that_is_there(monkeypatch, gpus):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert models.choose_device() == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert models.choose_device() == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert models.choose_device() == models.choose_device("CPU") == "cpu"


def test_a_named_device_counts_first_then_the_environment(monkeypatch, gpus):
    monkeypatch.setenv("POOLING_LAB_DEVICE", "cuda:1")
    assert models.choose_device() == "cuda:1"
    assert models.choose_device("cuda") == "cuda"
    assert models.memory("minilm", "cpu").device == "cpu"


@pytest.mark.parametrize("name", ["cuda:7", "mps", "quantum", "cuda:", "cpu:0"])
def test_a_device_that_is_not_there(gpus, name):
    assert refusal("minilm", device=name) == f"There is no device {name!r} here; use cuda:0 or cuda:1 or cpu."


def test_no_gpu_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv("POOLING_LAB_DEVICE", "cuda")
    assert refusal("minilm") == "There is no device 'cuda' here; use cpu."


def test_the_memory_that_a_model_needs(embedded, monkeypatch):
    monkeypatch.setattr(models, "free_memory", lambda device: 79.1e9)
    need = models.memory("minilm")
    numbers = sum(tensor.numel() for tensor in embedded("minilm").state_dict().values())
    assert need.parameters == numbers + 512, "the file also holds the position ids"
    assert str(need) == "minilm: 23 million parameters, 91 MB in float32 on cpu (79.1 GB free)"
    need = models.Memory("Qwen3-Embedding-4B", 4_021_774_336, "bfloat16", "cuda", int(79.1e9))
    assert str(need) == "Qwen3-Embedding-4B: 4.02 billion parameters, 8.0 GB in bfloat16 on cuda (79.1 GB free)"


@pytest.mark.parametrize(("free", "fits"), [(1.1, False), (1.19, False), (1.21, True)])
def test_a_fifth_more_than_the_weights_must_be_free(folder, monkeypatch, free, fits):
    needed = models.memory(folder).needed
    monkeypatch.setattr(models, "free_memory", lambda device: int(free * needed))
    assert models.memory(folder).fits() == fits
    assert not models.memory(folder).fits(copies=2)
    if not fits:
        assert refusal(folder) == (
            f"{folder} needs 91 MB in float32 for its weights alone, and a fifth more to work in, but "
            f"{free * needed / 1e6:.0f} MB are free on cpu; choose a smaller model or another device."
        )


def test_what_is_free_on_the_cpu_heeds_a_containers_limit(tmp_path, monkeypatch):
    whole = models.free_memory("cpu")
    assert whole > 10**8
    monkeypatch.setattr(models, "CGROUP", tmp_path)
    (tmp_path / "memory.stat").write_text("anon 300\nfile 5000\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert models.free_memory("cpu") == 700
    (tmp_path / "memory.max").write_text("max\n")
    assert models.free_memory("cpu") > 10**8


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
    assert models._find("minilm")[0] == MODELS / "minilm"
    assert "holds no model" in refusal("./minilm/")


def test_e5_elsewhere_comes_from_the_hub(monkeypatch):
    def unpack(name):
        raise weights.NotOnThisPlatform("only for Linux x86-64")

    monkeypatch.setattr(weights, "check", lambda name, full: False)
    monkeypatch.setattr(weights, "unpack", unpack)
    monkeypatch.setattr(models, "_ask_hub", lambda name: (name, {}))
    with pytest.warns(UserWarning, match="only for Linux x86-64"):
        assert models._find("e5-small") == ("intfloat/multilingual-e5-small", {})


# The hub


def on_hub(monkeypatch, files: list[str], stored: dict[str, int] | None) -> None:
    """Puts a model on a hub that answers; `stored` tells how many numbers of each type its weights hold."""
    info = SimpleNamespace(
        siblings=[SimpleNamespace(rfilename=file) for file in files],
        safetensors=stored and SimpleNamespace(parameters=stored),
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **options: info)


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

    on_hub(monkeypatch, ["config.json", "model.safetensors", "pytorch_model.bin"], {"F32": 22713728})
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert models.load("all-MiniLM-L6-v2").encode("x").shape == (384,)
    assert asked["hub_id"] == "sentence-transformers/all-MiniLM-L6-v2"
    kept = huggingface_hub.utils.filter_repo_objects(
        ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.safetensors", "x.pkl", "modeling.py"],
        allow_patterns=asked["allow_patterns"],
        ignore_patterns=asked["ignore_patterns"],
    )
    assert list(kept) == ["config.json", "model.safetensors"]


def test_a_hub_model_that_does_not_fit_is_not_downloaded(monkeypatch, gpus):
    on_hub(monkeypatch, ["model-00001-of-00002.safetensors"], {"BF16": 4_021_774_336})
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    assert str(models.memory("Qwen/Qwen3-Embedding-4B")).endswith("8.0 GB in bfloat16 on cuda (8.0 GB free)")
    assert refusal("Qwen/Qwen3-Embedding-4B") == (
        "Qwen/Qwen3-Embedding-4B needs 8.0 GB in bfloat16 for its weights alone, and a fifth more to work in, but "
        "8.0 GB are free on cuda; choose a smaller model or another device."
    )


def test_a_hub_that_tells_no_size_is_measured_after_the_download(monkeypatch, folder):
    on_hub(monkeypatch, ["model.safetensors"], None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **options: folder)
    monkeypatch.setattr(models, "free_memory", lambda device: 10**6)
    assert "91 MB in float32 for its weights alone" in refusal("somebody/minilm")


def test_a_hub_model_of_pickles_is_not_downloaded(monkeypatch):
    on_hub(monkeypatch, ["pytorch_model.bin"], None)
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


NO_TYPE = b'{"a": {"data_offsets": [0, 0]}}'


@pytest.mark.parametrize(
    "content", [b"", b"abc", bytes(100), os.urandom(5000), len(NO_TYPE).to_bytes(8, "little") + NO_TYPE, None]
)
def test_damaged_weights(folder, content):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    expected = f"model.safetensors of {folder} is damaged or cut short; download or save the model again."
    assert refusal(folder) == expected


@pytest.mark.parametrize("lost", ["encoder.layer.", "encoder.layer.3.output.dense.weight", "pooler.", ""])
def test_weights_that_are_not_there_are_not_made_up(folder, lost, capfd):
    tensors = load_file(folder / "model.safetensors")
    kept = {
        (key if lost else f"module.{key}"): weight
        for key, weight in tensors.items()
        if not lost or not key.startswith(lost)
    }
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    if lost.startswith("pooler"):  # which is not read
        assert models.load(folder).encode("x").shape == (384,)
    else:
        message = refusal(folder)
        assert message.startswith(f"{folder} lacks weights that it needs, such as {lost}")
        assert message.endswith("and they would be made up at random; download or save the model again.")
    assert capfd.readouterr() == ("", "")


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


def test_a_model_without_a_transformer_loads(tmp_path):
    tokenizer = Tokenizer.from_file(str(weights.unpack("minilm") / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)]).save(str(tmp_path / "static"))
    assert models.load(tmp_path / "static").encode("x").shape == (8,)
