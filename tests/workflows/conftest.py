import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cryovox.workflows.fetch import http as download


class Server(ThreadingHTTPServer):
    """Serves files, and misbehaves as told.

    Attributes
    ----------
    lose
        Numbers of bytes after which the next answers break off.
    ranges, tags
        Whether it continues, and whether it names versions.
    fail
        Status to answer with in any case.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.lose = {}, [], []
        self.ranges, self.tags, self.fail, self.lengths = True, True, 0, True

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server_port}/download"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        server.asked.append((self.path.rsplit("/", 1)[-1], int(start[1]) if start else 0))
        data = server.files.get(self.path.removeprefix("/download/"))
        if server.fail or data is None:
            return self.send_error(server.fail or 404)
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        first = int(start[1]) if start and server.ranges and self.headers.get("If-Range") == tag else 0
        if first >= len(data):
            return self.send_error(416)
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        if server.lengths:
            self.send_header("Content-Length", str(len(data) - first))
        if server.tags:
            self.send_header("ETag", tag)
        self.end_headers()
        end = first + server.lose.pop(0) if server.lose else len(data)
        self.wfile.write(data[first:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def web(monkeypatch):
    """A server in this process; nobody waits for it."""
    monkeypatch.setattr(download, "_WAIT", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()
