"""The radar's server: what it serves and to whom, what it refuses, and how it ends. test_page.py tests the page."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat import NotebookNode
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

from helpers.serve import ServeError, address, is_private, listen, main, page, resolve

# Where tornado cannot listen, it leaves the socket to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning")

PROBE = """
import ipywidgets
open("ran.txt", "w").write(MODEL)
ipywidgets.Label("the page of " + MODEL)
"""


def cell(source: str, *tags: str) -> NotebookNode:
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


def notebook(source: str = PROBE) -> NotebookNode:
    cells = [
        nbformat.v4.new_markdown_cell("# Prose that the page leaves out"),
        cell('MODEL = "of the notebook"', "parameters"),
        cell("raise RuntimeError('not a cell of the page')"),
        cell(source, "page", "skip-execution"),
    ]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})


# The page of a notebook


def test_the_page_is_the_parameters_and_what_is_tagged() -> None:
    made = page(notebook())
    assert [one.source for one in made.cells] == ['MODEL = "of the notebook"', PROBE]
    assert [one.metadata.tags for one in made.cells] == [["parameters"], ["page"]]


@pytest.mark.parametrize("model", ["minilm", "a \"b\" 'c' \\ $d {e}\n", "目录/模型"])
def test_the_readers_model_follows_the_notebooks_own(model: str) -> None:
    own, injected, last = page(notebook(), model).cells
    assert (own.source, last.source) == ('MODEL = "of the notebook"', PROBE)
    values: dict[str, str] = {}
    exec(injected.source, values)
    assert values["MODEL"] == model


def test_a_folder_is_found_from_where_the_reader_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "minilm").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("mine") == resolve("./mine") == str(tmp_path / "mine")
    for name in ("", "minilm", "owner/model", "~nobody-here/x", "a\0b", "x" * 5000):
        assert resolve(name) == name


# Addresses


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("host", "private"), [("127.0.0.1", True), ("localhost", True), ("127.0.0.2", True), ("0.0.0.0", False)]
)
def test_only_loopback_is_private(host: str, private: bool) -> None:
    if sys.platform == "darwin" and host == "127.0.0.2":
        pytest.skip("macOS has one loopback address")
    sockets = listen(host, str(free_port()))
    try:
        assert is_private(sockets) is private
    finally:
        for one in sockets:
            one.close()


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
    ],
)
def test_the_address_opens_in_a_browser(host: str, shown: str) -> None:
    assert address(host, "8501") == f"http://{shown}:8501"


@pytest.mark.parametrize("port", ["", "0", "65536", "-1", "80a", "８０", "1e3", " 80"])
def test_a_wrong_port_is_one_sentence(port: str) -> None:
    with pytest.raises(ServeError, match=rf"^RADAR_PORT={port} is no port: choose a number from 1024 to 65535\.$"):
        listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["", " ", "256.0.0.1", "192.0.2.1", "no such host", "a..b", "x" * 300, "a\0b"])
def test_a_wrong_host_is_one_sentence(host: str) -> None:
    with pytest.raises(ServeError, match="is no address of this machine: leave it out, or use 0.0.0.0"):
        listen(host, str(free_port()))


def start(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["serve", *options])
    return main()


def test_a_taken_port_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert start(monkeypatch, "--port", str(port)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"Port {port} is in use, .*RADAR_PORT=\d+\.\n", said.err)


def test_a_missing_notebook_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(monkeypatch, "--port", str(free_port()), "--notebook", "none.ipynb") == 1
    assert capsys.readouterr() == ("", "none.ipynb is missing: get it back with `git checkout notebooks`.\n")


# The server, on a notebook that stands in for the radar's


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    folder: Path
    first: str

    def get(self, path: str = "/", method: str = "GET", **headers: str) -> tuple[HTTPResponse, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read().decode()

    def open(self) -> str:
        """Asks for the page as a new tab would; returns the id of its kernel."""
        return re.search(r'"kernelId": "([\w-]+)"', self.get()[1])[1]

    def kernels(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in children if "ipykernel_launcher" in one.cmdline()]

    def end(self, number: int) -> tuple[str, str]:
        """Sends a signal that ends the server; returns what it has said since it was ready."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=10)
        assert self.process.returncode == 0
        return said


@contextmanager
def serving(folder: Path, *options: str, source: str = PROBE) -> Iterator[Server]:
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook(source), folder / "stand-in.ipynb")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "helpers.serve", "--port", str(port), "--notebook", "stand-in.ipynb", *options],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), "DISPLAY": "", "BROWSER": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        yield Server(process, port, folder, process.stdout.readline())
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "lines.csv").write_text("private\n", encoding="utf-8")
    with serving(folder, "--model", "the reader's") as running:
        yield running


@pytest.fixture(scope="module")
def tab(server: Server) -> tuple[HTTPResponse, str]:
    return server.get()


def wait_for(true: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


def test_it_says_where_it_is_and_nothing_else(server: Server) -> None:
    assert server.first == f"The semantic radar is at http://127.0.0.1:{server.port} (Ctrl-C ends it).\n"


def test_only_this_machine_reaches_it(server: Server) -> None:
    listening = [
        one.laddr for one in psutil.Process(server.process.pid).net_connections() if one.status == psutil.CONN_LISTEN
    ]
    assert (("127.0.0.1", server.port)) in listening
    assert {one.ip for one in listening} == {"127.0.0.1"}


def test_the_page_runs_with_the_readers_model_and_hides_its_source(server: Server, tab: tuple) -> None:
    response, html = tab
    assert response.status == 200
    assert "<title>Semantic radar · Pooling Lab</title>" in html
    assert '<html lang="en">' in html
    assert '<meta name="viewport"' in html
    assert "application/vnd.jupyter.widget-view+json" in html
    assert (server.folder / "ran.txt").read_text(encoding="utf-8") == "the reader's"
    for hidden in ("ipywidgets.Label", "not a cell of the page", "Prose that", "MODEL", str(server.folder)):
        assert hidden not in html


def test_nothing_on_the_page_comes_from_elsewhere(tab: tuple) -> None:
    response, html = tab
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", html) == []
    policy = dict(one.strip().split(" ", 1) for one in response.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search(r"https?:|\*", response.headers["Content-Security-Policy"])


def test_an_address_cannot_choose_another_template(server: Server) -> None:
    html = server.get("/?template=lab&theme=dark")[1]
    assert "<title>Semantic radar · Pooling Lab</title>" in html
    assert "cdn." not in html


@pytest.mark.parametrize(
    "path",
    [
        "/voila/files/stand-in.ipynb",
        "/voila/files/picture.png",
        "/voila/files/lines.csv",
        "/voila/files/../../etc/passwd",
        "/voila/files/%2e%2e/%2e%2e/etc/passwd",
        "/voila/static/../../../../../../../../etc/passwd",
        "/voila/labextensions/../../../../../../etc/passwd",
        "/files/lines.csv",
        "/api/contents/lines.csv",
        "/api/kernels",
        "/api/sessions",
        "/api/terminals",
    ],
)
def test_no_file_and_no_other_service_is_within_reach(server: Server, path: str) -> None:
    response, text = server.get(path)
    if response.status == 302:
        response, text = server.get(response.headers["Location"])
    assert response.status in (403, 404)
    for hidden in ("Traceback", "private", "root:", str(server.folder)):
        assert hidden not in text


def test_no_other_notebook_is_run(server: Server) -> None:
    nbformat.write(notebook("open('other.txt', 'w')"), server.folder / "other.ipynb")
    for path in ("/other.ipynb", "/voila/render/other.ipynb", "/voila/files/other.ipynb"):
        response, _ = server.get(path)
        assert response.status in (302, 403, 404)
    assert not (server.folder / "other.txt").exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "radar.example:{port}"},  # a foreign name that was made to lead here
        {"Sec_Fetch_Dest": "iframe", "Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Dest": "image", "Sec_Fetch_Site": "cross-site"},
    ],
)
def test_pages_elsewhere_start_no_kernel(server: Server, headers: dict[str, str]) -> None:
    before = len(server.kernels())
    response, text = server.get(**{name: value.format(port=server.port) for name, value in headers.items()})
    assert response.status == 403
    assert "Traceback" not in text
    assert len(server.kernels()) == before


def talk(server: Server, kernel: str, origin: str, message: dict | None = None) -> dict | None:
    """Opens a kernel's websocket and sends a message; returns what the kernel says of itself after that."""

    async def go() -> dict | None:
        request = HTTPRequest(
            f"ws://127.0.0.1:{server.port}/api/kernels/{kernel}/channels?session_id=s", headers={"Origin": origin}
        )
        socket: WebSocketClientConnection = await websocket_connect(request)
        for one in filter(None, [message, shell("kernel_info_request")]):
            await socket.write_message(json.dumps(one))
        while (answer := await socket.read_message()) is not None:
            answer = json.loads(answer)
            if answer["header"]["msg_type"] == "kernel_info_reply" and answer["parent_header"].get("session") == "s":
                socket.close()
                return answer
        return None

    return IOLoop(make_current=False).run_sync(go, timeout=20)


def shell(kind: str, **content: object) -> dict:
    header = {"msg_id": kind, "msg_type": kind, "session": "s", "username": "", "version": "5.3", "date": ""}
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }


def test_the_page_speaks_with_its_kernel_but_cannot_run_code(server: Server) -> None:
    run = shell("execute_request", code="open('code.txt', 'w')", silent=False)
    assert talk(server, server.open(), f"http://127.0.0.1:{server.port}", run)
    assert not (server.folder / "code.txt").exists()


@pytest.mark.parametrize("origin", ["http://radar.example", "http://127.0.0.1:1", "null"])
def test_a_foreign_page_gets_no_websocket_and_ends_no_kernel(server: Server, origin: str) -> None:
    kernel = server.open()
    with pytest.raises(HTTPClientError, match="403"):
        talk(server, kernel, origin)
    assert server.get(f"/voila/api/shutdown/{kernel}", "POST", Origin=origin)[0].status == 404
    assert server.get(f"/api/kernels/{kernel}", "DELETE", Origin=origin)[0].status == 404
    assert server.get(f"/api/kernels/{kernel}")[0].status == 200


def test_a_closing_tab_ends_its_kernel_and_no_other(server: Server) -> None:
    first, second = server.open(), server.open()
    beacon = {"Origin": f"http://127.0.0.1:{server.port}"}
    assert server.get(f"/voila/api/shutdown/{first}", "POST", **beacon)[0].status == 204
    assert server.get(f"/api/kernels/{first}")[0].status == 404
    assert server.get(f"/api/kernels/{second}")[0].status == 200


def test_it_ends_at_once_quietly_and_leaves_nothing_behind(tmp_path: Path) -> None:
    busy = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n"
    with serving(tmp_path / "lab", source=busy + PROBE) as server:
        server.open()
        kernels = server.kernels()
        assert len(kernels) == 1
        start = time.monotonic()
        assert server.end(signal.SIGINT) == ("", "")
        assert time.monotonic() - start < 5
        assert wait_for(lambda: not any(one.is_running() for one in kernels))
        assert [path.name for path in server.folder.glob("radar-*")] == []


def test_a_page_that_is_still_starting_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    with serving(tmp_path / "lab", source="import time; time.sleep(60)") as server:
        connection = HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", "/")
        assert wait_for(lambda: bool(server.kernels()))
        kernels = server.kernels()
        assert server.end(signal.SIGINT) == ("", "")
        assert wait_for(lambda: not any(one.is_running() for one in kernels))


def test_other_machines_are_let_in_on_purpose_and_with_a_warning(tmp_path: Path) -> None:
    with serving(tmp_path / "lab", "--host", "0.0.0.0") as server:
        assert server.first == f"The semantic radar is at http://127.0.0.1:{server.port} (Ctrl-C ends it).\n"
        assert server.get(Host=f"lab.example:{server.port}")[0].status == 200
        warning = server.end(signal.SIGTERM)[1]
    for word in ("Warning: RADAR_HOST=0.0.0.0", "other machines", "password", "encryption", "Everyone", "memory"):
        assert word in warning
    assert warning.count("\n") == 1


def test_a_cell_that_fails_shows_no_traceback_on_the_page(tmp_path: Path) -> None:
    with serving(tmp_path / "lab", source="raise RuntimeError('the secret reason')") as server:
        html = server.get()[1]
        assert "The terminal that serves the page says why." in html
        assert "secret" not in html
        assert "the secret reason" in server.end(signal.SIGHUP)[1]
