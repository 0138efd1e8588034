"""The semantic radar: a widget that searches a knowledge base by meaning, in JupyterLab or as a page of its own.

This is its side in the kernel, `web/radar.js` the one in the browser. The browser sends messages and changes
`settings`; everything else flows from here to there. What takes long runs in a thread and piece by piece, so that the
page stays alive, a search slips in between two pieces, and a newer job puts an end to an older one. What fails leaves
the knowledge base of before in place.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import anywidget
import pandas as pd
import traitlets

from helpers import lines, samples
from helpers.lines import SearchError, Tidied
from helpers.models import EMBEDDED, ModelError, load

if TYPE_CHECKING:  # importing them takes seconds, in which the page already says what it is waiting for
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from helpers.search import Hit, KnowledgeBase, Meaning, Plane

WEB = Path(__file__).parent / "web"
CHUNK = 2**20  # bytes of one message; ten times as many, and the server closes the connection
TOP_K = 50
LISTED = 20  # repeated and cut lines that are shown
PREVIEW = 5  # rows of a table
POINTS = 2000  # of a map
TITLE = 120  # characters of a line on it
CURVE = 101
DIMENSIONS = 50
GROUP = 64  # labelled items that are scored at once: a search waits no longer
SIDES = ("left", "right")
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Superseded(Exception):
    """A newer job, or the reader, has put an end to this one."""


@dataclass(frozen=True)
class Kept:
    """The knowledge base in use, what it was made from, and its map under each pooling that was looked at."""

    model: str
    source: dict[str, str]
    tidied: Tidied
    language: str
    knowledge: "KnowledgeBase"
    planes: "dict[str, Plane]" = field(default_factory=dict)

    @property
    def study(self) -> tuple[str, str]:
        """What a calibration is for: the model, and the language of the lines."""
        return self.model, self.language


@dataclass(frozen=True)
class Asked:
    """The last query, with its raw vector `(dim,)` for each pooling, and the knowledge base that it was put to.

    The number tells searches apart: the browser learns only of what changes, and the same may be asked again.
    """

    number: int
    query: str
    vectors: "dict[str, np.ndarray]"
    kept: Kept


class Radar(anywidget.AnyWidget):
    """A page to search a knowledge base by meaning; it loads its model as soon as a browser shows it.

    Args:
        model: An embedded model, a folder or a hub id, as in `models.load`.
    """

    _esm = WEB / "radar.js"
    _css = WEB / "radar.css"

    labels = traitlets.Dict().tag(sync=True)
    limits = traitlets.Dict().tag(sync=True)
    models = traitlets.List().tag(sync=True)
    samples = traitlets.List().tag(sync=True)
    poolings = traitlets.List().tag(sync=True)
    model = traitlets.Unicode().tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)
    progress = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    busy = traitlets.Bool().tag(sync=True)
    problem = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    base = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    table = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    plane = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    found = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    why = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)

    def __init__(self, model: str = "e5-small"):
        labels = json.loads((WEB / "labels.json").read_text(encoding="utf-8"))
        super().__init__(
            labels=labels | {"en": labels["en"] | lines.MESSAGES},
            limits={
                "file_bytes": lines.FILE_BYTES,
                "lines": lines.LINES,
                "top_k": TOP_K,
                "chunk": CHUNK,
                "article": lines.ARTICLE_THRESHOLD,
            },
            models=list(dict.fromkeys([model, *EMBEDDED])),
            samples=[
                {"name": one.name, "language": one.language, "lines": len(one.lines)} for one in samples.samples()
            ],
            poolings=["mean", "cls"],  # all of them once the module that knows them is loaded
            model=model,
            settings={
                "left": "mean",
                "right": "cls",
                "normalize": True,
                "top_k": 10,
                "threshold": None,  # by hand; without one, each pooling has the one that is calibrated for it
            },
            status={"key": "loading", "values": {"model": model}},
        )
        self._language = "en"
        self._loaded: tuple[str, SentenceTransformer] | None = None
        self._kept: Kept | None = None
        self._wanted: tuple[dict[str, str], Tidied, str] | None = None  # what is being made into a knowledge base
        self._asked: Asked | None = None
        self._early = ""  # a query that came before there was anything to search
        self._scores: dict[tuple[str, str], pd.DataFrame] = {}
        self._meanings: dict[tuple[str, str, str], Meaning] = {}
        self._parts: list[bytes] = []
        self._file: tuple[str, list[list[str]]] = ("", [])
        self._uploads = 0
        self._turn = asyncio.Lock()  # a tokenizer does not stand two threads
        self._loading = asyncio.Lock()  # apart, as a download takes minutes in which the last model still searches
        self._job: asyncio.Task | None = None
        self._tasks: set[asyncio.Task] = set()
        self._shows = self._searches = 0
        # JupyterLab hands messages over in a thread of their own, so all work is brought back to this loop.
        loop = asyncio.get_running_loop()
        self.on_msg(lambda *message: loop.call_soon_threadsafe(self._take, *message))
        self.observe(lambda change: loop.call_soon_threadsafe(self._change, change), "settings")

    # What the browser asks for

    def _take(self, _widget: Any, content: dict[str, Any], buffers: list[memoryview]) -> None:
        match content:
            case {"do": "open", "language": language}:
                self._language = language
                if not (self._kept or self._job):
                    self._begin(self._use_sample("fruit", language))
            case {"do": "sample", "name": name, "language": language}:
                self.table = None
                self._begin(self._use_sample(name, language))
            case {"do": "model", "name": name}:
                self._choose(name)
            case {"do": "part", "kind": kind, "name": name, "part": part, "parts": parts}:
                self._collect(kind, name, part, parts, bytes(buffers[0]))
            case {"do": "column", "index": index, "header": header}:
                self._start(self._use_column(index, header))
            case {"do": "search", "query": query}:
                self.problem = None
                self._start(self._search(query))
            case {"do": "why", "side": side, "row": row}:
                self._start(self._explain(side, row))
            case {"do": "calibrate"}:
                if self._kept and not self._job:
                    self._begin(self._calibrate(self._kept))
            case {"do": "stop"}:
                self._uploads += 1
                self._job = None
                self._rest()
            case {"do": "close_problem"}:
                self.problem = None

    def _change(self, change: dict[str, Any]) -> None:
        old, new = change["old"], change["new"]
        if any(new[name] != old[name] for name in (*SIDES, "normalize", "top_k")):
            self._start(self._show())

    def _choose(self, name: str) -> None:
        """Has another model make the knowledge base that is being made or, where none is, the one in use."""
        self.model, kept = name, self._kept
        wanted = self._wanted or (kept and (kept.source, kept.tidied, ""))
        if wanted is None:
            self._begin(self._use_sample("fruit", self._language))
        elif kept and (name, wanted[1]) == (kept.model, kept.tidied):
            self._job = None  # it is there already
            self._rest()
        else:
            self._begin(self._renew(*wanted))

    def _collect(self, kind: str, name: str, part: int, parts: int, data: bytes) -> None:
        """Puts a text or a file together again, which comes in parts, and uses it once it is whole."""
        self._parts = [*self._parts[:part], data]
        if sum(map(len, self._parts)) > lines.FILE_BYTES:
            self._parts = []
            self.problem = _problem(SearchError("too_large", name=name, limit=lines.FILE_BYTES // 2**20))
        elif part == parts - 1 == len(self._parts) - 1:
            whole, self._parts = b"".join(self._parts), []
            self._uploads, self.problem, self.table = self._uploads + 1, None, None
            self._start(self._use_text(whole) if kind == "text" else self._use_file(name, whole))

    # Knowledge bases

    async def _use_sample(self, name: str, language: str) -> None:
        sample = next(one for one in samples.samples() if (one.name, one.language) == (name, language))
        source = {"kind": "sample", "name": name, "language": language}
        await self._renew(source, lines.tidy(sample.lines), sample.query)

    async def _use_text(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace").removesuffix("\n")
        await self._use_lines({"kind": "text", "name": ""}, text.split("\n"))

    async def _use_file(self, name: str, data: bytes) -> None:
        this = self._uploads
        rows = await asyncio.to_thread(lines.read_file, name, data)
        if this != self._uploads:  # there is a newer one
            return
        self._file = (name, rows)
        if len(rows[0]) == 1:
            await self._use_column(0, header=False)
        else:
            self.table = {"name": name, "columns": rows[0], "preview": rows[1 : PREVIEW + 1], "rows": len(rows)}

    async def _use_column(self, index: int, header: bool) -> None:
        name, rows = self._file
        if not rows:  # asked twice
            return
        await self._use_lines({"kind": "file", "name": name}, lines.column(rows, index, header))

    async def _use_lines(self, source: dict[str, str], raw: list[str]) -> None:
        """Makes a knowledge base of lines once they have turned out to be good; till then the work at hand goes on."""
        this = self._uploads
        tidied = await asyncio.to_thread(lines.tidy, raw)
        if this == self._uploads:
            self.table, self._file = None, ("", [])
            self._begin(self._renew(source, tidied))

    async def _renew(self, source: dict[str, str], tidied: Tidied, query: str = "") -> None:
        """Makes a knowledge base by the chosen model and, once it is whole, puts it in the place of the last one."""
        self._wanted, name = (source, tidied, query), self.model
        self.status = {"key": "loading", "values": {"model": name}}
        model = await self._model(name)
        knowledge = await self._step(_search().KnowledgeBase, model, tidied.lines)
        total, steps = len(tidied.lines), knowledge.embed()
        self.status = {"key": "embedding", "values": {"model": name, "total": total}}
        self.progress = {"done": 0, "total": total}
        while (done := await self._step(next, steps, None)) is not None:
            self.progress = {"done": done, "total": total}
        self._loaded, self._wanted = (name, model), None
        self._kept = kept = Kept(name, source, tidied, _search().language_of(tidied.lines), knowledge)
        query = self._early or query or (self._asked.query if self._asked else "")
        self._early, self._asked = "", None
        self.base, self.plane, self.found, self.why = _described(kept), None, None, None
        if query:
            self._start(self._search(query))  # not part of the job: it may fail, and the lines are ready all the same
        await self._calibrate(kept)

    async def _model(self, name: str) -> "SentenceTransformer":
        if self._loaded and self._loaded[0] == name:
            return self._loaded[1]
        search = await self._step(_search)
        self.poolings = list(search.POOLINGS)
        return await self._step(load, name, turn=self._loading)

    async def _calibrate(self, kept: Kept) -> None:
        """Finds out what a cosine means under this model, from sentences of which is known what belongs together."""
        if kept.study not in self._scores:
            items, tables = _search().labelled(kept.language), []
            self.status = {"key": "calibrating", "values": {"model": kept.model, "total": len(items)}}
            for start in range(0, len(items), GROUP):
                self.progress = {"done": start, "total": len(items)}
                group = items[start : start + GROUP]
                tables.append(await self._step(_search().score, kept.knowledge.model, kept.model, group))
            self._scores[kept.study] = pd.concat(tables)
        await self._show()

    # Searching

    async def _search(self, query: str) -> None:
        if (kept := self._kept) is None:
            if self._job:
                self._early = query
                return
            raise SearchError("no_base")
        vectors = await self._in_turn(kept.knowledge.embed_query, query)
        if kept is not self._kept:  # another knowledge base has taken its place meanwhile
            await self._search(query)
            return
        self._searches += 1
        self._asked, self.why = Asked(self._searches, lines.clean(query), vectors, kept), None
        await self._show()

    async def _show(self) -> None:
        """Ranks the lines for the last query by the present settings; nothing is embedded."""
        if self._asked is None:
            return
        self._shows += 1
        this, asked, settings = self._shows, self._asked, self.settings
        found, plane = await asyncio.to_thread(self._rank, asked, settings)
        if this == self._shows and asked is self._asked:  # else a newer one is on its way
            self.plane, self.found = plane, found

    def _rank(self, asked: Asked, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns what was found, and the map that it is shown on, which stays the same from query to query."""
        knowledge, normalize, left = asked.kept.knowledge, settings["normalize"], settings["left"]
        found: dict[str, Any] = {"number": asked.number, "query": asked.query, "normalize": normalize, "right": None}
        for side in SIDES:
            if pooling := settings[side]:
                top_k = min(max(int(settings["top_k"]), 1), TOP_K)
                hits = knowledge.search(asked.vectors[pooling], pooling, top_k, normalize)
                found[side] = _side(pooling, hits, self._meaning(asked.kept, pooling), asked.kept)
        vector = asked.vectors[left]
        unit = vector / max(float((vector**2).sum() ** 0.5), 1e-12)
        planes, sample = asked.kept.planes, range(0, len(knowledge.lines), -(-len(knowledge.lines) // POINTS))
        if left not in planes:
            planes[left] = _search().Plane(knowledge.unit[left][sample])
        plane = planes[left]
        rows = [hit["row"] for hit in found["left"]["hits"]]
        found["pins"] = plane.place(knowledge.unit[left][rows]).round(4).tolist()
        found["star"] = plane.place(unit[None])[0].round(4).tolist()
        found |= {"dimensions": unit[:DIMENSIONS].round(6).tolist(), "dim": len(unit)}
        points = zip(plane.points.round(4).tolist(), sample, strict=True)
        dots = [[*place, row, knowledge.lines[row][:TITLE]] for place, row in points]
        return found, {"pooling": left, "points": dots, "explained": plane.explained}

    def _meaning(self, kept: Kept, pooling: str) -> "Meaning | None":
        key = (*kept.study, pooling)
        if kept.study in self._scores and key not in self._meanings:
            self._meanings[key] = _search().meaning(self._scores[kept.study], pooling)
        return self._meanings.get(key)

    async def _explain(self, side: str, row: int) -> None:
        asked = self._asked
        if asked is None or not 0 <= row < len(asked.kept.knowledge.lines):
            return
        knowledge = asked.kept.knowledge
        line, centre = knowledge.lines[row], knowledge.unit["mean"].mean(axis=0)
        table = await self._in_turn(_search().explain, knowledge.model, asked.query, line, centre)
        if asked is not self._asked:
            return
        shares = {text: _shares(tokens) for text, tokens in table.groupby("text")}
        self.why = {"side": side, "row": row, "line": line, "query": shares["query"], "text": shares["line"]}

    # Running

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a job, which puts an end to the one before."""

        async def job() -> None:
            try:
                await work
            finally:
                if self._job in (None, asyncio.current_task()):
                    self._job = None
                    self._rest()

        self.busy, self.problem = True, None
        self._job = self._start(job())

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)  # or it might be thrown away half done
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Superseded:
            pass
        except (SearchError, ModelError) as error:
            self.problem = _problem(error)
        except Exception as error:  # whatever it is, the reader gets a sentence and the log the rest
            log.exception("The radar failed")
            self.problem = {"key": "unexpected", "values": {"kind": type(error).__name__}}

    def _rest(self) -> None:
        """Says what can be searched when no job is left, and shows the model that it was made by."""
        self._wanted, self.busy, self.progress = None, False, None
        if self._kept is None:
            self.status = {"key": "no_base", "values": {}}
            if self._early:
                self._early, self.problem = "", _problem(SearchError("no_base"))
            return
        knowledge = self._kept.knowledge
        values = {"lines": len(knowledge.lines), "dim": knowledge.dim, "model": self._kept.model}
        self.status = {"key": "ready", "values": values | {"device": str(knowledge.model.device)}}
        self.model = self._kept.model

    async def _step(self, work: Callable[..., Result], *given: Any, turn: asyncio.Lock | None = None) -> Result:
        """Runs one piece of a job, and gives up where the job is no longer wanted."""
        done = await self._in_turn(work, *given, turn=turn)
        if asyncio.current_task() is not self._job:
            raise Superseded
        return done

    async def _in_turn(self, work: Callable[..., Result], *given: Any, turn: asyncio.Lock | None = None) -> Result:
        async with turn or self._turn:
            return await asyncio.to_thread(work, *given)


def _search() -> ModuleType:
    """Returns the module that does the work; importing it takes seconds."""
    from helpers import search

    return search


def _problem(error: SearchError | ModelError) -> dict[str, Any]:
    if isinstance(error, SearchError):
        return {"key": error.key, "values": error.values}
    return {"key": "model", "values": {"text": str(error)}}


def _described(kept: Kept) -> dict[str, Any]:
    tidied, lost = kept.tidied, kept.knowledge.lost
    cut = [[row, tidied.lines[row], tokens] for row, tokens in list(lost.items())[:LISTED]]
    return {
        "source": kept.source,
        "language": kept.language,
        "mixed": _search().is_mixed(tidied.lines),
        "lines": len(tidied.lines),
        "blank": tidied.blank,
        "symbols": tidied.symbols,
        "repeated": sum(times for _, times in tidied.repeats),
        "repeats": [list(one) for one in tidied.repeats[:LISTED]],
        "cut": len(lost),
        "lost": cut,
    }


def _side(pooling: str, hits: "Sequence[Hit]", meaning: "Meaning | None", kept: Kept) -> dict[str, Any]:
    """Describes one of the two lists of results, and what a cosine means there."""
    described = [{"row": hit.row, "line": hit.line, "cosine": hit.cosine, "score": hit.score} for hit in hits]
    if meaning is None:
        return {"pooling": pooling, "hits": [hit | {"probability": None} for hit in described], "meaning": None}
    for hit, probability in zip(described, meaning.probability([hit.cosine for hit in hits]), strict=True):
        hit["probability"] = float(probability)
    count = len(kept.tidied.lines)
    known = {"threshold": meaning.threshold, "low": meaning.low, "high": meaning.high, "model": kept.model}
    known |= {"language": meaning.language, "items": meaning.items}
    known |= {"at_article": float(meaning.probability([lines.ARTICLE_THRESHOLD])[0])}
    known |= {"lines": count, "one_right": meaning.precision(count)}
    cosines = [place / (CURVE - 1) for place in range(CURVE)]
    known["curve"] = [list(pair) for pair in zip(cosines, meaning.probability(cosines).round(4).tolist(), strict=True)]
    return {"pooling": pooling, "hits": described, "meaning": known}


def _shares(tokens: pd.DataFrame) -> dict[str, Any]:
    """Describes what each token of a text gives to a cosine, and beyond what it gives to the average line."""
    rows = tokens[["token", "contribution", "beyond"]].round(6).to_numpy().tolist()
    return {"tokens": rows, "cosine": float(tokens["contribution"].sum()), "beyond": float(tokens["beyond"].sum())}
