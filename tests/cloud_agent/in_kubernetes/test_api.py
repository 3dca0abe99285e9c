"""The agent's client of the Kubernetes API: how it gets in, what it writes, and what its errors tell an operator."""

import asyncio
import base64
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aisix_cloud_agent.in_kubernetes.api import (
    LEASE,
    SECRET,
    Access,
    Document,
    KubernetesApi,
    KubernetesAway,
    KubernetesConflict,
    KubernetesDenied,
    KubernetesError,
    KubernetesRejected,
    Place,
    in_cluster,
    place,
)
from aisix_common.errors import ConfigurationError

from tests.support.authority import authority
from tests.support.kubernetes_api import KubernetesApi as Cluster
from tests.support.kubernetes_api import kubernetes_api

AT = Place("aisix", "gw")


async def inside(cluster: Cluster, folder: Path, verbs: str = "get create update") -> KubernetesApi:
    """A client in a pod whose account may do this."""
    account = cluster.account("aisix", "agent")
    for resource in ("secrets", "leases"):
        cluster.accounts.allow(account, verbs, resource, "aisix")
    cluster.mount(folder, account)
    return KubernetesApi(Access(cluster.url, folder / "token", folder / "ca.crt", "aisix"))


@pytest.mark.parametrize(
    ("text", "found"), [("gw", Place("own", "gw")), ("team/gw.v1", Place("team", "gw.v1"))], ids=["own", "named"]
)
def test_a_place(text: str, found: Place) -> None:
    assert place(text, "own") == found
    assert str(found) == f"{found.namespace}/{found.name}"


def test_how_the_cluster_is_found(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("aisix\n")
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert in_cluster(environ, tmp_path) == Access(
        "https://10.0.0.1:443", tmp_path / "token", tmp_path / "ca.crt", "aisix"
    )
    assert in_cluster({**environ, "KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path).server == "https://[fd00::1]:443"
    with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set"):
        in_cluster({}, tmp_path)
    with pytest.raises(ConfigurationError, match="namespace cannot be read"):
        in_cluster(environ, tmp_path / "nothing")


async def test_objects_are_made_read_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with kubernetes_api(tmp_path) as cluster:
        api = await inside(cluster, tmp_path / "sa")
        assert api.namespace == "aisix"
        assert await asyncio.to_thread(api.get, SECRET, AT) is None
        for name in (None, "kubernetes", "urllib3"):  # the package sets levels when a client is made
            caplog.set_level(logging.DEBUG, name)
        encoded = base64.b64encode(b"K-canary").decode()
        await asyncio.to_thread(api.create, SECRET, AT, {"data": {"key": encoded}})
        with pytest.raises(KubernetesConflict):
            await asyncio.to_thread(api.create, SECRET, AT, {})
        read = await asyncio.to_thread(api.get, SECRET, AT)
        assert read is not None and read["data"] == {"key": encoded}
        read["metadata"]["labels"] = {"of": "others"}
        read["unheardOf"] = [1]
        written = await asyncio.to_thread(api.replace, SECRET, AT, read)
        assert written["unheardOf"] == [1], "what we do not know goes back as it came"
        with pytest.raises(KubernetesConflict):
            await asyncio.to_thread(api.replace, SECRET, AT, read)
        cluster.delete_secret(*AT)
        with pytest.raises(KubernetesConflict, match="deleted meanwhile"):
            await asyncio.to_thread(api.replace, SECRET, AT, written)
        assert (await asyncio.to_thread(api.create, LEASE, AT, {"spec": {}}))["kind"] == "Lease"
    assert caplog.records, "connections are told of, what goes over them is not"
    assert "canary" not in caplog.text and encoded not in caplog.text and "Bearer" not in caplog.text


async def test_the_token_and_the_authority_are_read_as_they_are_replaced(tmp_path: Path) -> None:
    async with kubernetes_api(tmp_path) as cluster:
        api = await inside(cluster, tmp_path / "sa")
        good = (tmp_path / "sa/ca.crt").read_text()
        (tmp_path / "sa/ca.crt").write_text(authority("another").pem)
        with pytest.raises(KubernetesAway, match=r"shows a certificate that .*ca\.crt does not vouch for"):
            await asyncio.to_thread(api.get, SECRET, AT)
        (tmp_path / "sa/ca.crt").write_text(good)
        assert await asyncio.to_thread(api.get, SECRET, AT) is None
        new = cluster.accounts.rotate(cluster.account("aisix", "agent"))
        with pytest.raises(KubernetesDenied, match=r"\(401\)"):
            await asyncio.to_thread(api.get, SECRET, AT)
        (tmp_path / "sa/token").write_text(new)
        assert await asyncio.to_thread(api.get, SECRET, AT) is None
        shutil.rmtree(tmp_path / "sa")
        with pytest.raises(KubernetesDenied, match="token cannot be read"):
            await asyncio.to_thread(api.get, SECRET, AT)


@pytest.mark.parametrize(
    ("verbs", "verb", "says"),
    [
        ("create update", "get", 'apiGroups: [""], resources: ["secrets"], resourceNames: ["gw"], verbs: ["get"]'),
        ("get create", "replace", 'resources: ["secrets"], resourceNames: ["gw"], verbs: ["update"]'),
        ("get update", "create", 'resources: ["secrets"], verbs: ["create"]}, or make Secret aisix/gw beforehand'),
    ],
    ids=["get", "update", "create"],
)
async def test_a_right_that_is_missing_is_named(tmp_path: Path, verbs: str, verb: str, says: str) -> None:
    async with kubernetes_api(tmp_path) as cluster:
        api = await inside(cluster, tmp_path / "sa", verbs)
        arguments: tuple[Document, ...] = () if verb == "get" else ({},)
        with pytest.raises(KubernetesDenied) as caught:
            await asyncio.to_thread(getattr(api, verb), SECRET, AT, *arguments)
        assert says in str(caught.value) and "namespace aisix" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (500, KubernetesAway, "answers 500 to get Secret aisix/gw"),
        (429, KubernetesAway, "answers 429"),
        (403, KubernetesDenied, "an admission rule or a quota of namespace aisix"),
        (418, KubernetesRejected, r"refuses to get Secret aisix/gw \(418\)"),
    ],
)
async def test_what_the_server_may_answer(tmp_path: Path, status: int, kind: type[KubernetesError], says: str) -> None:
    async with kubernetes_api(tmp_path) as cluster:
        api = await inside(cluster, tmp_path / "sa")
        cluster.faults.add(status)
        with pytest.raises(kind, match=says):
            await asyncio.to_thread(api.get, SECRET, AT)


async def test_a_refused_document_is_told_by_its_fields_alone(tmp_path: Path) -> None:
    async with kubernetes_api(tmp_path) as cluster:
        api = await inside(cluster, tmp_path / "sa")
        with pytest.raises(KubernetesRejected) as caught:
            await asyncio.to_thread(api.create, SECRET, AT, {"data": {"a canary": ""}})
        assert str(caught.value).endswith("(422: 'data[a canary]')")
        with pytest.raises(KubernetesDenied, match="may not create"):
            await asyncio.to_thread(api.create, SECRET, Place("elsewhere", "gw"), {})
        cluster.accounts.allow(cluster.account("aisix", "agent"), "create", "secrets", "elsewhere")
        with pytest.raises(KubernetesRejected, match="there is no namespace elsewhere"):
            await asyncio.to_thread(api.create, SECRET, Place("elsewhere", "gw"), {})


async def test_no_answer_ends_at_the_deadline(tmp_path: Path) -> None:
    async with kubernetes_api(tmp_path) as cluster:
        api = await inside(cluster, tmp_path / "sa")
        cluster.faults.add(hang=True)
        with pytest.raises(KubernetesAway, match=r"no whole answer within 0\.1 s"):
            await asyncio.to_thread(api.get, SECRET, AT, 0.1)
        cluster.faults.add(cut=True)
        with pytest.raises(KubernetesAway, match="cannot be reached"):
            await asyncio.to_thread(api.get, SECRET, AT)
        assert await asyncio.to_thread(api.get, SECRET, AT) is None
    with pytest.raises(KubernetesAway, match="cannot be reached"):
        await asyncio.to_thread(api.get, SECRET, AT)


async def test_what_answers_is_not_the_api(tmp_path: Path) -> None:
    """A proxy that answers 404 for everything must not read as a Secret that is not there."""
    async with kubernetes_api(tmp_path) as cluster:
        await inside(cluster, tmp_path / "sa")
        strange = Access(f"{cluster.url}/livez?", tmp_path / "sa/token", tmp_path / "sa/ca.crt", "aisix")
        with pytest.raises(KubernetesAway, match="is not the Kubernetes API"):
            await asyncio.to_thread(KubernetesApi(strange).get, SECRET, AT)


def test_the_package_is_loaded_for_a_client_alone() -> None:
    """Whoever asks for neither Secret nor Lease pays nothing for it; where it is missing, that is what is said."""
    code = """
import sys, aisix_cloud_agent.in_kubernetes.secret_store, aisix_cloud_agent.in_kubernetes.lease_lock
from pathlib import Path
from aisix_cloud_agent.in_kubernetes.api import Access, KubernetesApi
assert not {"kubernetes", "urllib3"} & set(sys.modules)
sys.modules["kubernetes"] = None
KubernetesApi(Access("", Path(), Path(), ""))
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "need: pip install 'aisix-cloud-agent[kubernetes]'" in ended.stderr.splitlines()[-1]
