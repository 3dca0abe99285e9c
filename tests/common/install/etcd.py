"""An etcd as the chart runs it, for tests: TLS by the authority of `certificates`, client certificates, passwords."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from aisix_common.install.certificates import issue, make_authority
from aisix_common.install.etcd_api import EtcdApi, Tls
from aisix_common.install.progress import Job

from tests.support.etcd import Certificates, EtcdServer


def certificates(folder: Path) -> Certificates:
    """Those that the hook makes, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    authority, foreign = make_authority("AISIX etcd", now), make_authority("another", now)
    written = {}
    for name, pair in {
        "ca": authority,
        "server": issue(authority, "aisix-etcd-member", ("localhost", "127.0.0.1"), now),
        "client": issue(authority, "hook", (), now),
        "foreign-ca": foreign,
        "foreign": issue(foreign, "hook", (), now),
    }.items():
        written[name] = folder / f"{name}.crt", folder / f"{name}.key"
        for path, text in zip(written[name], (pair.certificate, pair.key), strict=True):
            path.write_bytes(text)
    return Certificates(
        ca=written["ca"][0],
        server_cert=written["server"][0],
        server_key=written["server"][1],
        client_cert=written["client"][0],
        client_key=written["client"][1],
        foreign_ca=written["foreign-ca"][0],
        foreign_cert=written["foreign"][0],
        foreign_key=written["foreign"][1],
    )


@contextmanager
def served(folder: Path) -> Iterator[tuple[EtcdServer, Certificates]]:
    """An etcd with TLS that asks for client certificates."""
    made = certificates(folder / "tls")
    with EtcdServer(folder / "etcd", certificates=made, client_auth=True) as server:
        yield server, made


def api(server: EtcdServer, made: Certificates, job: Job) -> EtcdApi:
    """A client of the jobs."""
    return EtcdApi([server.endpoint], Tls(made.ca, made.client_cert, made.client_key), job)
