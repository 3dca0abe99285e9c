"""Fixtures that every part of the suite may use. What only one folder needs belongs into that folder's conftest.py."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

from tests.support.etcd import EtcdServer, binary
from tests.support.moto_aws import MotoAws
from tests.support.openbao import OpenBao


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew; review the diff")


class ByFile(LoadGroupScheduling):  # type: ignore[misc]  # xdist has no types
    """What pytest-xdist hands to its workers: whole files, or groups (`xdist_group`). A test at a time costs the
    controller more than most of the tests take."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return scope.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    return ByFile(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long texts are no names: a megabyte would stand in every report, and has to be the same in each worker."""
    return f"{argname}-of-{len(val)}" if isinstance(val, str | bytes) and len(val) > 80 else None


def pytest_report_header() -> str:
    """Say which etcd the tests ran against."""
    try:
        return f"etcd: {binary('etcd')}"
    except FileNotFoundError as missing:
        return f"etcd: {missing}"


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """One real etcd for the session. Shared: never stop it, and keep to `etcd_prefix`."""
    with EtcdServer(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def etcd_prefix() -> str:
    """A key prefix that belongs to this test alone, without a trailing slash."""
    return f"/test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def fresh_etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """A real etcd of this test alone: kill it, restore it, cut it off."""
    with EtcdServer(tmp_path / "etcd") as server:
        yield server


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """One real OpenBao for the session. Shared: never seal or stop it, and write below a path of your own."""
    with OpenBao(tmp_path_factory.mktemp("openbao")) as server:
        yield server


@pytest.fixture
def fresh_openbao(tmp_path: Path) -> Iterator[OpenBao]:
    """A real OpenBao of this test alone: seal it, stop it, kill it."""
    with OpenBao(tmp_path / "openbao") as server:
        yield server


@pytest.fixture(scope="session")
def moto_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoAws]:
    """One AWS for the session. Shared: never stop it, and use names of your own."""
    with MotoAws(tmp_path_factory.mktemp("moto")) as server:
        yield server
