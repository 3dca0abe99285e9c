"""The Secrets of an API server as the jobs make and read them: over TLS, with a pod's token."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aisix_common.install.kubernetes import Cluster, Secrets, cluster
from aisix_common.install.progress import Failed

from .conftest import Told
from tests.support.kubernetes_api import KubernetesApi, kubernetes_api

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": "Opaque", "data": {"k": "dg=="}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubernetesApi]:
    async with kubernetes_api(tmp_path) as served:
        account = served.account("gw", "hook")
        served.accounts.allow(account, "create", "secrets", "gw")
        served.accounts.allow(account, "get update", "secrets", "gw", names={"a"})
        served.mount(tmp_path / "sa", account)
        yield served


def _secrets(api: KubernetesApi, folder: Path, told: Told) -> Secrets:
    return Secrets(_cluster(api, folder), "gw", told.job())


def _cluster(api: KubernetesApi, folder: Path) -> Cluster:
    host, port = api.url.removeprefix("https://").split(":")
    return cluster({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}, folder / "sa")


async def test_makes_reads_and_replaces(api: KubernetesApi, tmp_path: Path, told: Told) -> None:
    secrets = _secrets(api, tmp_path, told)
    assert _cluster(api, tmp_path).namespace == "gw"
    assert await asyncio.to_thread(secrets.get, "a") is None
    assert await asyncio.to_thread(secrets.create, SECRET)
    assert not await asyncio.to_thread(secrets.create, SECRET), "it is there already"
    found = await asyncio.to_thread(secrets.get, "a")
    assert found is not None and found["data"] == {"k": "dg=="}
    assert await asyncio.to_thread(secrets.replace, {**found, "data": {"k": "dzI="}})
    assert not await asyncio.to_thread(secrets.replace, found), "somebody else was faster"
    assert told.lines == []


async def test_what_it_may_not_do_names_the_way_out(api: KubernetesApi, tmp_path: Path, told: Told) -> None:
    with pytest.raises(Failed, match=r"does not let this ServiceAccount GET the Secret gw/b.*existingSecret"):
        await asyncio.to_thread(_secrets(api, tmp_path, told).get, "b")


async def test_tries_on_while_the_api_is_busy(api: KubernetesApi, tmp_path: Path, told: Told) -> None:
    api.faults.add(429, retry_after="3")
    api.faults.add(503)
    assert await asyncio.to_thread(_secrets(api, tmp_path, told).get, "a") is None
    assert told.slept == 4.0 and len(told.lines) == 2


async def test_a_token_that_is_rotated_is_read_again(api: KubernetesApi, tmp_path: Path, told: Told) -> None:
    account = api.account("gw", "hook")
    secrets = _secrets(api, tmp_path, told)
    assert await asyncio.to_thread(secrets.get, "a") is None
    api.mount(tmp_path / "sa", account, api.accounts.rotate(account))
    assert await asyncio.to_thread(secrets.get, "a") is None


def test_an_api_that_is_not_there_is_given_up(tmp_path: Path, told: Told) -> None:
    (tmp_path / "token").write_text("x")
    with pytest.raises(Failed, match=r"ca\.crt cannot be read"):
        Secrets(Cluster("127.0.0.1", 1, tmp_path), "gw", told.job()).get("a")
    with pytest.raises(Failed, match="run this in a pod"):
        cluster({})


async def test_gives_up_in_time(api: KubernetesApi, tmp_path: Path, told: Told) -> None:
    away = Cluster("127.0.0.1", 1, tmp_path / "sa")
    with pytest.raises(Failed, match=r"is not reached.*gave up"):
        await asyncio.to_thread(Secrets(away, "gw", told.job(5)).get, "a")


async def test_another_clusters_api_is_not_sent_the_token(api: KubernetesApi, tmp_path: Path, told: Told) -> None:
    from tests.support.authority import authority

    (tmp_path / "sa" / "ca.crt").write_text(authority("another").pem)
    with pytest.raises(Failed, match="not one of the cluster's"):
        await asyncio.to_thread(_secrets(api, tmp_path, told).get, "a")
    assert api.seen == []
