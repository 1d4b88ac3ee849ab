"""A W&B server on 127.0.0.1 for the real client: runs, file streams, one key; it can be made to fail and to come back.

What a true server does beyond what the client asks of it here is not known to this one.
"""

import base64
import contextlib
import gzip
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wandb_graphql import ENTITY, Backend, Run

KEY = "k" * 40
STREAM = re.compile(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream")


class Handler(BaseHTTPRequestHandler):
    """One request; `owner` is set on the subclass that a server makes for itself."""

    protocol_version = "HTTP/1.1"
    owner: "WandbServer"

    def log_message(self, *args: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def setup(self) -> None:
        super().setup()
        self.owner.open_connections.add(self.connection)

    def finish(self) -> None:
        self.owner.open_connections.discard(self.connection)
        super().finish()

    def answer(self) -> None:
        body, path = self._body(), urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        with self.owner.lock:
            name, status, reply = self._reply(path, body)
            self.owner.requests.append(name)
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = answer

    def _reply(self, path: str, body: bytes) -> tuple[str, int, Any]:
        server = self.owner
        if server.failing_with is not None:
            return "failed", server.failing_with, {"error": "as told"}
        if path.startswith("/storage/"):  # stands for the signed address of a bucket: no key
            return "upload", 200, {}
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode():
            return "refused", 401, {"errors": [{"message": "user is not logged in"}], "data": None}
        if path == "/graphql":
            name, reply = server.backend.answer(json.loads(body))
            return name, 200, reply
        if (stream := STREAM.fullmatch(path)) and (run := server.backend.runs.get(stream.groups())):
            run.stream(json.loads(body))
            return "file_stream", 200, {"exitcode": run.exit_code, "limits": {}}
        return path, 404, {"error": "not found"}

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            raw = b""
            while size := int(self.rfile.readline(), 16):
                raw += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw


class WandbServer:
    """`requests` are the names of what was asked; `failing_with` a status for every reply, None for none."""

    def __init__(self) -> None:
        self.backend, self.lock = Backend(), threading.RLock()
        self.requests: list[str] = []
        self.failing_with: int | None = None
        self.open_connections: set[Any] = set()
        self.port = 0
        self.start()
        self.url = self.backend.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen; after `stop`, at the same address and with everything still known."""
        handler = type("Bound", (Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Gone: new connections are refused, open ones cut."""
        self._http.shutdown()
        self._http.server_close()
        for connection in list(self.open_connections):
            with contextlib.suppress(OSError):
                connection.shutdown(2)

    def environment(self, home: Any) -> dict[str, str]:
        """What points a client here, and its files below `home`."""
        places = {name: str(home / name.lower()) for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")}
        return {
            "HOME": str(home),
            "NETRC": str(home / "netrc"),
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_INIT_TIMEOUT": "60",  # the client's service starts slowly on a busy machine
            **places,
        }

    def run(self, project: str, name: str) -> Run:
        return self.backend.runs[ENTITY, project, name]

    def runs(self, project: str) -> list[Run]:
        return [run for run in self.backend.runs.values() if run.project == project]
