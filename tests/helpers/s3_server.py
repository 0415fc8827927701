"""A real S3 store on loopback: OpenStack Swift with its s3api middleware, whole in one process of its own.

Mocks accept wrong secrets, wrong checksums and any conditional write; Swift checks all of them. `start` runs this file
as a subprocess, which serves Swift's four servers (proxy, account, container, object; one replica) on ports that the
system chooses, and ends with whoever started it. The way they are put together is that of Swift's own functional tests
(`in_process_setup` in https://github.com/openstack/swift/blob/master/test/functional/__init__.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REGION = "us-east-1"
READY_SECONDS = 60.0  # a patient limit for a machine under load; two seconds are usual
BACKENDS = ("account", "container", "object")


@dataclass(frozen=True)
class Key:
    """Credentials as the AWS variables want them."""

    id: str
    secret: str


OWNER = Key("test:owner", "owner-secret")
STRANGER = Key("test:stranger", "stranger-secret")  # known to the store, but allowed nothing


@dataclass(frozen=True)
class Server:
    """A running store. `directory` holds all that it stores, its log and the certificate that its TLS port shows."""

    process: subprocess.Popen[bytes]
    directory: Path
    port: int
    tls_port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_endpoint(self) -> str:
        return f"https://localhost:{self.tls_port}"

    @property
    def certificate(self) -> Path:
        return self.directory / "certificate.pem"

    @property
    def private_key(self) -> Path:
        return self.directory / "key.pem"

    def kill(self) -> None:
        """Ends it at once (SIGKILL), whatever it is doing. What it has stored stays in `directory`."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


def start(directory: Path, port: int = 0) -> Server:
    """Starts a store on `directory` (made where needed; what an earlier one stored there is still there).

    `port` is for the plain endpoint; 0 takes a free one. Raises RuntimeError with the end of its log where it fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    make_certificate(directory)
    log = directory / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(directory), str(port)],
            stdin=subprocess.PIPE,  # its end tells the server that we are gone
            stdout=subprocess.PIPE,
            stderr=output,
        )
    assert process.stdout
    overdue = threading.Timer(READY_SECONDS, process.kill)
    overdue.start()
    try:
        line = process.stdout.readline()
    finally:
        overdue.cancel()
    if not line:
        process.kill()
        raise RuntimeError(f"Swift did not start (exit code {process.wait()}):\n{log.read_text()[-3000:]}")
    ports = json.loads(line)
    return Server(process, directory, ports["port"], ports["tls_port"])


def make_certificate(directory: Path) -> None:
    """A self-signed certificate for localhost in `certificate.pem`, with its key beside it."""
    if (directory / "certificate.pem").exists():
        return
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


# ---- from here on: the subprocess ----


def serve(directory: Path, port: int) -> None:
    """Serves until this process is killed. Prints one line of JSON with the ports once all servers answer."""
    import eventlet
    from eventlet import wsgi
    from eventlet.green import ssl

    # The first import of Swift patches sockets and threads for eventlet, so it stands before anything that uses them.
    from swift.common import storage_policy, utils
    from swift.common import wsgi as swift_wsgi
    from swift.common.ring import RingBuilder

    utils.monkey_patch()
    log_to_stderr()
    listeners = {name: eventlet.listen(("127.0.0.1", 0)) for name in BACKENDS}
    plain = eventlet.listen(("127.0.0.1", port))
    tls = eventlet.listen(("127.0.0.1", 0))
    ports = {"port": plain.getsockname()[1], "tls_port": tls.getsockname()[1]}

    (directory / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
    (directory / "node" / "disk").mkdir(parents=True, exist_ok=True)
    for name, listener in listeners.items():
        builder = RingBuilder(part_power=0, replicas=1, min_part_hours=0)
        address = {"ip": "127.0.0.1", "port": listener.getsockname()[1]}
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, "device": "disk", **address})
        builder.rebalance()
        builder.get_ring().save(str(directory / f"{name}.ring.gz"))
    utils.set_swift_dir(str(directory))
    storage_policy.reload_storage_policies()

    def run(listeners: list[Any], configuration: str) -> None:
        file = directory / f"{configuration.split('[app:')[1].split(']')[0]}.conf"
        file.write_text(
            f"[DEFAULT]\nswift_dir = {directory}\nlog_address = /nonexistent\nlog_level = WARNING\n{configuration}"
        )
        app = swift_wsgi.loadapp(str(file), global_conf={"log_name": file.stem})
        for listener in listeners:
            eventlet.spawn(
                wsgi.server,
                listener,
                app,
                utils.NullLogger(),
                protocol=swift_wsgi.SwiftHttpProtocol,
                capitalize_response_headers=False,  # AWS's clients look for "ETag", not for "Etag"
            )

    for name, listener in listeners.items():
        run([listener], BACKEND.format(name=name, directory=directory))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    run([plain, context.wrap_socket(tls, server_side=True)], PROXY)
    print(json.dumps(ports), flush=True)
    while True:
        eventlet.sleep(60)


# With Swift's own short timeouts a loaded machine's listings come late, or never: nobody sends the updates again here.
BACKEND = """
devices = {directory}/node
mount_check = false
fallocate_reserve = 0
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
conn_timeout = 60
node_timeout = 60
container_update_timeout = 60
"""

FILTERS = ("catch_errors", "listing_formats", "bulk", "slo", "symlink")
PROXY = f"""
[pipeline:main]
pipeline = catch_errors listing_formats bulk s3api tempauth slo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
location = {REGION}
[filter:tempauth]
use = egg:swift#tempauth
user_{OWNER.id.replace(":", "_")} = {OWNER.secret} .admin
user_{STRANGER.id.replace(":", "_")} = {STRANGER.secret}
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
""" + "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in FILTERS)


def log_to_stderr() -> None:
    """Swift logs to the machine's syslog, which is no place for tests."""
    from swift.common.utils.logs import ThreadSafeSysLogHandler

    def emit(handler: Any, record: Any) -> None:
        sys.stderr.write(handler.format(record) + "\n")

    ThreadSafeSysLogHandler.emit = emit


def end_with_parent() -> None:
    """Ends this process when the other end of its standard input is gone: its parent ended, even by SIGKILL."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()  # before eventlet turns threads into something that a blocking read would hold up
    sys.path.pop(0)  # this folder holds tests, not modules
    serve(Path(sys.argv[1]), int(sys.argv[2]))
