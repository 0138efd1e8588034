"""Serves the semantic radar as a web page: `python -m helpers.serve`; `make radar` calls it.

The page is the notebook `10_semantic_radar`, run by Voilà: each tab gets a kernel of its own, which ends with it.
"""

import argparse
import asyncio
import errno
import logging
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from nbformat import NotebookNode
from papermill.parameterize import parameterize_notebook
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import HTTPError, RequestHandler
from traitlets.config import Config
from voila.app import Voila

from helpers.paths import ROOT
from helpers.series import SKIPPED
from helpers.weights import SOURCES

NOTEBOOK = ROOT / "notebooks" / "10_semantic_radar.ipynb"
TEMPLATE = Path(__file__).with_name("web") / "voila"
HOST, PORT = "127.0.0.1", 8501
ABANDONED = 15 * 60  # seconds after which the kernel of a tab that vanished without a word ends
# The browser itself refuses what does not come from here; JupyterLab's scripts need `unsafe-eval`, anywidget's modules
# `blob:`.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


class ServeError(RuntimeError):
    """The page cannot be served; the message is one sentence for the reader."""


class _Server(Voila):
    """Voilà with the radar's template, on sockets that are open already, in a loop that somebody else runs."""

    sockets: list[socket.socket]

    def setup_template_dirs(self) -> None:
        """Puts the radar's templates before Voilà's."""
        super().setup_template_dirs()
        self.template_paths = [str(TEMPLATE), *self.template_paths]

    def listen(self) -> None:
        """Takes requests from now on."""
        HTTPServer(self.app).add_sockets(self.sockets)


def page(notebook: NotebookNode, model: str = "") -> NotebookNode:
    """Makes the page of a notebook: its parameters, and the cells that are tagged `page`.

    Args:
        notebook: The notebook; its page may be tagged `skip-execution`, which keeps it from running anywhere else.
        model: What replaces the notebook's own MODEL; empty to keep that.

    Returns:
        The same notebook, changed.
    """
    kept = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags or "page" in tags:
            cell.metadata["tags"] = [tag for tag in tags if tag != SKIPPED]
            kept.append(cell)
    notebook.cells = kept
    if not model:
        return notebook
    notebook.metadata.setdefault("papermill", {})
    return parameterize_notebook(notebook, {"MODEL": model}, kernel_name="python3", language="python")


def listen(host: str, port: str) -> list[socket.socket]:
    """Opens the sockets that the page is served on.

    Args:
        host: An address of this machine, or a name of one.
        port: The number of a free port.

    Raises:
        ServeError: There is no such address or port, or it is taken.
    """
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise ServeError(f"RADAR_PORT={port} is no port: choose a number from 1024 to 65535.")
    other = f"choose another port with RADAR_PORT={int(port) % 65535 + 1}"
    try:
        if host.strip():
            return bind_sockets(int(port), host)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise ServeError(f"Port {port} is in use, perhaps by another radar: end that, or {other}.") from None
        if problem.errno in (errno.EACCES, errno.EPERM):
            raise ServeError(f"This account may not open port {port}: choose one from 1024 on, RADAR_PORT=…") from None
    except ValueError:  # no name can look like this
        pass
    raise ServeError(f"RADAR_HOST={host} is no address of this machine: leave it out, or use 0.0.0.0 for all of them.")


def serve(notebook: Path, sockets: list[socket.socket], model: str, ready: Callable[[], None]) -> None:
    """Serves the page of a notebook until the process is told to end, by Ctrl-C for one.

    Args:
        notebook: The notebook.
        sockets: Where it is served, as `listen` returns them.
        model: What replaces the notebook's own MODEL; empty to keep that.
        ready: Called once the page can be asked for.

    Raises:
        ServeError: There is no such notebook.
    """
    if not notebook.is_file():
        raise ServeError(f"{notebook.name} is missing: get it back with `git checkout notebooks`.")

    def prepare(handler: RequestHandler, notebook: NotebookNode, cwd: str) -> NotebookNode:
        # each call starts a kernel, so no page elsewhere may hide calls in its frames, images and scripts
        if handler.request.headers.get("Sec-Fetch-Dest", "document") != "document":
            raise HTTPError(403, "The radar is a page of its own, and cannot be part of another.")
        return page(notebook, model)

    logging.getLogger("tornado").setLevel(logging.ERROR)
    with TemporaryDirectory(prefix="radar-") as folder:
        server = _Server.instance(config=_configuration(sockets, folder, prepare))
        server.sockets = sockets
        server.initialize([str(notebook)])
        asyncio.run(_run(server, ready))


def _configuration(sockets: list[socket.socket], folder: str, prepare: Callable[..., NotebookNode]) -> Config:
    """Returns Voilà's settings, none of which comes from the reader's own files."""
    config = Config()
    config.Voila.config_file_paths = []
    config.Voila.log_level = logging.ERROR
    config.Voila.connection_dir_root = folder
    config.Voila.tornado_settings = {
        # Under any other name in the Host header, it is a page elsewhere whose name now leads here (DNS rebinding)
        "allow_remote_access": not is_private(sockets),
        # A closing tab ends its kernel by a message that cannot carry a token; other origins are refused all the same
        "disable_check_xsrf": True,
        "headers": {"Content-Security-Policy": POLICY},
    }
    config.VoilaConfiguration.prelaunch_hook = prepare
    config.VoilaConfiguration.allow_template_override = "NO"
    config.VoilaConfiguration.allow_theme_override = "NO"
    config.VoilaConfiguration.file_allowlist = []
    config.VoilaConfiguration.extension_allowlist = [
        "@voila-dashboards/widgets-manager8",
        "@jupyter-widgets/jupyterlab-manager",
        "anywidget",
    ]
    config.VoilaExecutor.cell_error_instruction = "The terminal that serves the page says why."
    config.MappingKernelManager.cull_idle_timeout = ABANDONED
    config.MappingKernelManager.cull_interval = 60
    config.KernelManager.transport_encryption = "auto"
    config.KernelRestarter.restart_limit = 0  # a new kernel would know nothing of the page that lost its own
    return config


async def _run(server: _Server, ready: Callable[[], None]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    server.start()
    ready()
    await stop.wait()
    logging.disable()  # whatever is cut off now is no error
    await server.kernel_manager.shutdown_all(now=True)


def is_private(sockets: list[socket.socket]) -> bool:
    """Tells whether only this machine can reach the sockets."""
    return all(ip_address(one.getsockname()[0].partition("%")[0]).is_loopback for one in sockets)


def address(host: str, port: str) -> str:
    """Returns the page's address in a browser on this machine."""
    host = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def resolve(model: str) -> str:
    """Returns a model's name, the path of a folder in full, since kernels run in the notebook's folder."""
    with suppress(OSError, RuntimeError, ValueError):  # too long, an unknown ~user, a null character
        folder = Path(model).expanduser()
        if model and model not in SOURCES and folder.is_dir():
            return str(folder.resolve())
    return model


def main() -> int:
    """Serves the radar; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.serve", description=__doc__)
    parser.add_argument("--model", default="", help="the model that the page begins with: a name, a folder or a hub id")
    parser.add_argument("--host", default=HOST, help="the address that it is served on; by default this machine's own")
    parser.add_argument("--port", default=str(PORT), help="the port that it is served on")
    parser.add_argument("--notebook", type=Path, default=NOTEBOOK, help=argparse.SUPPRESS)
    given = parser.parse_args()
    try:
        sockets = listen(given.host, given.port)
        if not is_private(sockets):
            print(
                f"Warning: RADAR_HOST={given.host} opens the radar to other machines, without password or encryption. "
                f"Everyone who reaches port {given.port} can run searches, load models from any path of this machine "
                "and use up its memory. Leave RADAR_HOST out to keep the radar to yourself.",
                file=sys.stderr,
            )
        said = f"The semantic radar is at {address(given.host, given.port)} (Ctrl-C ends it)."
        serve(given.notebook, sockets, resolve(given.model), lambda: print(said, flush=True))
    except ServeError as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before there was anything to end
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
