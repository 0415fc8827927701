"""A loopback HTTP/1.1 proxy in front of the tests' store that spoils what passes, as networks and other stores do."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.helpers.s3_server import OWNER, REGION, Server


@dataclass
class Rule:
    """What to do with a request, up to `times` times. It applies to one of this `method` whose first line has `having`.

    `kind`:
    - `answer`: answers `status` with the S3 error `code` itself (`code` None: an empty body)
    - `reset`: breaks the connection off before reading the body
    - `half`: breaks off in the middle of the body, the request's where it has one, else the answer's
    - `lost`: passes it on, but never the answer back
    - `hang`: reads it and says nothing
    - `flip`: flips one bit in the middle of the body, the request's where it has one, else the answer's
    - `slow`: passes it on at 1 MB/s
    - `late`: passes it on after `delay`
    - `old`: answers 501 to the checksum headers that AWS clients add since 2025, as older stores do; else passes it on
    - `heedless`: a store that ignores conditions on a write
    - `unconditional`: a store that answers 501 to any condition on a write
    - `atomic`: a store that decides both conditions in one step

    `delay` is in seconds, before `late` and the last three.
    """

    kind: str
    method: str = "PUT"
    having: str = ""
    times: int = 1_000_000
    status: int = 503
    code: str | None = "SlowDown"
    delay: float = 0.0


PASS = Rule("pass")


@dataclass
class Proxy:
    """`requests` are the first lines as they came. Rules are tried in order; one that is used up is passed over."""

    endpoint: str
    rules: list[Rule] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def rule_for(self, line: str) -> Rule:
        method = line.split(" ")[0]
        for rule in self.rules:
            if rule.times > 0 and rule.method in (method, "*") and rule.having in line:
                rule.times -= 1
                return rule
        return PASS


@contextmanager
def proxy(store: Server, tls: bool = False) -> Iterator[Proxy]:
    """A proxy on a free port before `store`, with a thread of its own; over TLS with the store's certificate."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    relay = Relay(store.port)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(store.certificate, store.private_key)
    starting = asyncio.start_server(relay.serve, "127.0.0.1", 0, ssl=context)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result()
    relay.proxy.endpoint = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay.proxy
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def stop(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Relay:
    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.proxy = Proxy("")
        self.one_step = asyncio.Lock()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection: every answer says `Connection: close`."""
        try:
            await self.relay(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, headers = parsed(await reader.readuntil(b"\r\n\r\n"))
        self.proxy.requests.append(line)
        rule = self.proxy.rule_for(line)
        if rule.kind == "reset":
            writer.transport.abort()
            return
        if "expect" in headers:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(headers.get("content-length", 0))
        if rule.kind == "half" and length:
            await reader.readexactly(length // 2)
            writer.transport.abort()
            return
        body = await reader.readexactly(length)
        if rule.kind == "hang":
            await asyncio.sleep(3600)
        if rule.kind == "answer":
            answer = error(rule.status, rule.code)
        elif rule.kind == "old" and newer_headers(headers):
            answer = error(501, "NotImplemented")
        elif rule.kind == "late":
            await asyncio.sleep(rule.delay)
            answer = await self.forward(line, headers, body)
        elif rule.kind in ("heedless", "unconditional", "atomic"):
            await asyncio.sleep(rule.delay)
            answer = await self.conditional(rule.kind, line, headers, body)
        else:
            answer = await self.forward(line, headers, flipped(body) if rule.kind == "flip" and body else body, rule)
        start = answer.index(b"\r\n\r\n") + 4
        if rule.kind == "lost":
            writer.transport.abort()
        elif rule.kind == "half":
            writer.write(answer[: start + (len(answer) - start) // 2])
        elif rule.kind == "flip" and not body:
            writer.write(answer[:start] + flipped(answer[start:]))
        else:
            for position in range(0, len(answer), 65536):
                writer.write(answer[position : position + 65536])
                await writer.drain()
                await pause(rule, len(answer))
        if rule.kind != "lost":
            await writer.drain()

    async def forward(self, line: str, headers: dict[str, str], body: bytes, rule: Rule = PASS) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        kept = {name: value for name, value in headers.items() if name not in ("expect", "connection")}
        writer.write("\r\n".join([line, *(f"{n}: {v}" for n, v in kept.items()), "connection: close", "", ""]).encode())
        for position in range(0, len(body), 65536):
            writer.write(body[position : position + 65536])
            await writer.drain()
            await pause(rule, len(body))
        answer = await reader.read()
        writer.close()
        return answer

    async def conditional(self, kind: str, line: str, headers: dict[str, str], body: bytes) -> bytes:
        """A write as by a store of this kind: decided here, and passed on without its condition, signed anew."""
        wanted = {name: headers.pop(name) for name in ("if-match", "if-none-match") if name in headers}
        if kind == "unconditional" and wanted:
            return error(501, "NotImplemented")
        async with self.one_step:
            if kind == "atomic" and wanted:
                head = f"HEAD {line.split(' ')[1]} HTTP/1.1"
                _, there = parsed(await self.forward(head, signed(head, {"host": headers["host"]}, b""), b""))
                if wanted != ({"if-match": there["etag"]} if "etag" in there else {"if-none-match": "*"}):
                    return error(412, "PreconditionFailed")
            return await self.forward(line, signed(line, headers, body), body)


def parsed(head: bytes) -> tuple[str, dict[str, str]]:
    """The first line, and the headers with their names in lower case."""
    line, *rest = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    pairs = (item.partition(":") for item in rest)
    return line, {name.strip().lower(): value.strip() for name, _, value in pairs}


def signed(line: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
    """The headers with a new signature of the store's owner."""
    method, path, _ = line.split(" ")
    kept = {n: v for n, v in headers.items() if n not in ("authorization", "x-amz-date", "x-amz-content-sha256")}
    request = AWSRequest(method, f"http://{headers['host']}{path}", kept, body)
    request.headers["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
    S3SigV4Auth(Credentials(OWNER.id, OWNER.secret), "s3", REGION).add_auth(request)
    return {name.lower(): str(value) for name, value in request.headers.items()}


def newer_headers(headers: dict[str, str]) -> bool:
    return "aws-chunked" in headers.get("content-encoding", "") or any(
        name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum", "x-amz-trailer")) for name in headers
    )


def flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


async def pause(rule: Rule, length: int) -> None:
    """The time that up to 64 KiB of a body of `length` bytes take on a slow link."""
    if rule.kind == "slow":
        await asyncio.sleep(min(65536, length) / 1e6)


def error(status: int, code: str | None) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{MESSAGE}</Message></Error>" if code else ""
    head = f"HTTP/1.1 {status} Said so\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


MESSAGE = "canary-in-the-answer"  # what stores say may hold a signature, so no message of the job repeats it
