"""Several machines: the same vectors when Ray Data spreads the texts over actors. Needs the extra `scale`."""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from helpers.corpus import Embedder
from helpers.encode import embed

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-scale.lock")

TEXTS = [f"text number {number} " * (number % 7 + 1) for number in range(200)]
POOLINGS = ("mean", "lasttoken")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray on this machine alone, which reports to nobody, leaves nothing behind, and ends whatever happens."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the path of a socket must be short
        token = Path(folder, "token")
        token.write_text(uuid.uuid4().hex, encoding="utf-8")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))  # else Ray writes one into the home folder
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(
                "local",
                num_cpus=2,
                object_store_memory=100 * 2**20,
                include_dashboard=False,
                log_to_driver=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
            ray.data.DataContext.get_current().enable_progress_bars = False
            yield
        finally:
            ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_two_actors_give_the_vectors_of_one_process(
    embedded: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    dataset = ray.data.from_items([{"row": row, "text": text} for row, text in enumerate(TEXTS)], override_num_blocks=8)
    dataset.map_batches(
        Embedder,
        fn_constructor_kwargs={"model": "minilm", "poolings": POOLINGS},
        batch_size=25,
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=1,
    ).write_parquet(str(tmp_path / "vectors"))
    table = ray.data.read_parquet(str(tmp_path / "vectors")).to_pandas().sort_values("row")
    assert table["text"].tolist() == TEXTS
    expected = embed(embedded("minilm"), TEXTS, POOLINGS)
    for pooling in POOLINGS:
        np.testing.assert_allclose(np.stack(table[pooling]), expected[pooling], atol=1e-5)
