"""A small HTTP server on loopback that behaves as mirrors do: well, slowly, or badly."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html>\n<html><head><title>Guest network</title></head><body>Log in</body></html>\n"


@contextmanager
def mirror(content: bytes) -> Iterator[tuple[str, list[str]]]:
    """Gives the address and the list of requests as they come. The path says how the file is sent:
    `/good`, `/slow`, `/cut`, `/missing`, `/forbidden`, `/busy`, `/wrong`, `/hang`, `/silent` (no answer at all),
    `/nolength`, `/page` (a log-in page), `/flaky` (busy once, then good), `/parts` (goes on where it was cut off, which
    it is at every answer but the third; the requests say from where), `/renewed` (the same, with another content from
    the second answer on, as its ETag tells), `/rest` (goes on where it is asked to, and is never cut off), `/endless`
    (the file, and then more of the same without end), `/large` (announces ten times the file, and sends it).
    """
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            manner = self.path.strip("/").split("/")[0]
            refused: Mapping[str, int] = {"missing": 404, "forbidden": 403, "busy": 503}
            if manner == "flaky" and requests.count(self.path) == 1:
                manner = "busy"
            if manner in refused:
                self.send_error(refused[manner])
                return
            if manner == "silent":
                stopped.wait(20)
                return
            if manner in ("parts", "renewed", "rest"):
                self.send_part(manner)
                return
            if manner == "page":
                self.send_whole(PAGE)
                return
            body = content[:-1] + bytes([content[-1] ^ 1]) if manner == "wrong" else content
            self.send_response(200)
            if manner not in ("nolength", "endless"):
                self.send_header("Content-Length", str(len(body) * (10 if manner == "large" else 1)))
            self.end_headers()
            if manner in ("endless", "large"):
                while not stopped.is_set():
                    self.wfile.write(body)
            elif manner == "hang":
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

        def send_whole(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def send_part(self, manner: str) -> None:
            """Half of what is asked for; RFC 9110, section 14."""
            answers = sum(path.startswith(self.path) for path in requests)
            whole = content[::-1] if manner == "renewed" and answers > 1 else content
            etag = f'"{zlib.crc32(whole):x}"'
            asked = self.headers.get("Range")
            goes_on = asked is not None and self.headers.get("If-Range", etag) == etag
            requests[-1] += f" {asked}" * (asked is not None)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and goes_on else 0
            self.send_response(206 if goes_on else 200)
            self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(whole) - start))
            if goes_on:
                self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
            self.end_headers()
            all_of_it = {"parts": answers == 3, "renewed": answers > 1, "rest": True}[manner]
            self.wfile.write(whole[start : len(whole) if all_of_it else (start + len(whole)) // 2])

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
