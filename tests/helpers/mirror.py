"""A small HTTP server on loopback that behaves as mirrors do: well, slowly, or badly."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def mirror(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """Gives the address and the list of requests as they come. The path says how the file is sent:
    `/good`, `/slow`, `/cut`, `/missing`, `/busy`, `/wrong`, `/hang`, `/nolength`, `/flaky` (busy once, then good).
    """
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            manner = self.path.strip("/").split("/")[0]
            refused: Mapping[str, int] = {"missing": 404, "busy": 503}
            if manner == "flaky" and requests.count(self.path) == 1:
                manner = "busy"
            if manner in refused:
                self.send_error(refused[manner])
                return
            body = content[:-1] + bytes([content[-1] ^ 1]) if manner == "wrong" else content
            self.send_response(200)
            if manner != "nolength":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if manner == "hang":
                self.wfile.write(body[:100])
                self.wfile.flush()
                stopped.wait(20)
            elif manner == "slow":
                for start in range(0, len(body), 2000):
                    self.wfile.write(body[start : start + 2000])
                    self.wfile.flush()
                    time.sleep(0.05)
            else:
                self.wfile.write(body[: len(body) // 2] if manner == "cut" else body)

        def log_message(self, *_: object) -> None:
            """Tests read `requests` instead."""

    stopped = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that leaves early is what is tested
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
