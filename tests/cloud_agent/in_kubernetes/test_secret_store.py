"""The bundle in a Secret: names, what is refused, what stays as it is, and what others do to it meanwhile."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest
import pytest_asyncio

from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.bundle_store import ChangedMeanwhile, NotSaved, StoreAway, Stored
from aisix_cloud_agent.identity.enrollment import new_pending
from aisix_cloud_agent.identity.identity import BundleRefused, identify
from aisix_cloud_agent.in_kubernetes.api import Access, Document, Kind, KubernetesApi, Place
from aisix_cloud_agent.in_kubernetes.secret_store import KubernetesStore
from aisix_common.secret import Secret

from tests.cloud_agent.issuing import DAY, DP, ENV, NOW, OTHER_ENV, URIS, bundle, cloud
from tests.support.kubernetes_api import KubernetesApi as Cluster
from tests.support.kubernetes_api import kubernetes_api
from tests.support.kubernetes_store import SECRETS, Key

AT = Place("aisix", "gw")
OLD, NEW, NEWEST = bundle(days=(-30, 60)), bundle(days=(-20, 70)), bundle(days=(-10, 80))
FOREIGN = bundle([f"x-aisix://env/{OTHER_ENV}", URIS[1]], days=(-5, 85))
OTHER_DP = bundle([URIS[0], "x-aisix://dp/dp-8"], days=(-5, 85))

P = ParamSpec("P")
T = TypeVar("T")


class Home:
    """A cluster, and the store in it: `home.store` makes one, as each start of the agent does."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        account = cluster.account("aisix", "agent")
        cluster.accounts.allow(account, "get create update", "secrets", "aisix")
        cluster.mount(folder, account)
        self.api = KubernetesApi(Access(cluster.url, folder / "token", folder / "ca.crt", "aisix"))

    @property
    def store(self) -> KubernetesStore:
        return KubernetesStore(self.api, AT)

    @property
    def secret(self) -> Document:
        return self.cluster.store.get(Key(SECRETS, *AT))

    @property
    def data(self) -> dict[str, str]:
        return {name: base64.b64decode(value).decode() for name, value in self.secret.get("data", {}).items()}

    @property
    def writes(self) -> int:
        return len(self.cluster.store.log)

    def lay(self, given: Bundle) -> None:
        """Put a bundle there as an operator or cert-manager would: the other keys stay."""
        texts = {"ca.crt": given.ca, "tls.crt": given.certificate, "tls.key": given.key.reveal()}
        there = self.data if self.cluster.store.log else {}
        self.cluster.put_secret(*AT, {**there, **texts})

    async def put(self, *bundles: Bundle, confirm: bool = True) -> Stored:
        """Saved one after the other, as they would be in the life of a gateway."""
        store = self.store
        found = await run(store.load, NOW)
        for given in bundles:
            found = await run(store.save, given, NOW, found.version if found is not None else None)
            if confirm:
                await run(store.confirm, found.version, NOW)
        assert found is not None
        return found

    async def loaded(self) -> Bundle:
        found = await run(self.store.load, NOW)
        assert found is not None
        return found.bundle


async def run(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(call, *args, **kwargs)


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with kubernetes_api(tmp_path) as cluster:
        yield Home(cluster, tmp_path / "sa")


async def test_nothing_there(home: Home) -> None:
    store = home.store
    assert (await run(store.load, NOW), await run(store.before, NOW), await run(store.load_pending)) == (None,) * 3
    await run(store.confirm, "", NOW)
    await run(store.save_pending, None)
    assert home.writes == 0


async def test_names_and_contents(home: Home) -> None:
    saved = await home.put(OLD)
    assert saved.identity == identify(OLD.certificate, OLD.key, OLD.ca, NOW)
    assert home.secret["type"] == "Opaque"
    assert sorted(home.data) == ["bundle.good", "ca.crt", "dp_id", "env_id", "tls.crt", "tls.key"]
    assert (home.data["env_id"], home.data["dp_id"]) == (ENV, DP)
    assert home.data["tls.key"] == OLD.key.reveal() and OLD.key.reveal() not in repr(saved)
    assert await run(home.store.load, NOW) == saved
    assert {event.key for event in home.cluster.store.log} == {Key(SECRETS, *AT)}, "the key lies in no other Secret"


@pytest.mark.parametrize("kind", ["kubernetes.io/tls", "Opaque"])
async def test_what_else_is_in_the_secret_stays(home: Home, kind: str) -> None:
    """Made beforehand, empty, and labelled: nothing but our keys changes."""
    home.cluster.put_secret(*AT, {"tls.crt": "", "tls.key": "\n", "other": "theirs"}, type=kind)
    key = Key(SECRETS, *AT)
    home.cluster.store.patch(key, {"metadata": {"labels": {"team": "a"}, "annotations": {"b": "c"}}}, "operator")
    assert await run(home.store.load, NOW) is None
    await home.put(OLD, NEW)
    metadata = home.secret["metadata"]
    assert (home.secret["type"], home.data["other"]) == (kind, "theirs")
    assert (metadata["labels"], metadata["annotations"]) == ({"team": "a"}, {"b": "c"})
    assert await home.loaded() == NEW


async def test_the_one_before_is_there_until_the_new_one_has_worked(home: Home) -> None:
    await home.put(OLD)
    assert await run(home.store.before, NOW) is None
    new = await home.put(NEW, confirm=False)
    newest = await home.put(NEWEST, confirm=False)
    store = home.store
    before = await run(store.before, NOW)
    assert before is not None and before.bundle == OLD, "the one between never worked"
    await run(store.confirm, new.version, NOW)
    assert await run(store.before, NOW) == before, "what was confirmed is not there any more"
    await run(store.confirm, newest.version, NOW)
    assert await run(store.before, NOW) is None and await home.loaded() == NEWEST
    assert OLD.key.reveal().splitlines()[1] not in str(home.data)


async def test_each_save_is_one_write_and_confirming_again_asks_nothing(home: Home) -> None:
    store = home.store
    saved = await run(store.save, OLD, NOW, None)
    assert home.writes == 1
    await run(store.confirm, saved.version, NOW)
    assert home.writes == 2
    asked = len(home.cluster.seen)
    await run(store.confirm, saved.version, NOW)
    assert (home.writes, len(home.cluster.seen)) == (2, asked)
    await run(home.store.confirm, saved.version, NOW)
    assert home.writes == 2, "another process looks, and finds it known"


REFUSED = [
    (OLD, "it is older (valid from 2026-05-16 12:00:00Z) than the bundle in force"),
    (FOREIGN, f"the certificate is that of environment {OTHER_ENV}, and Secret aisix/gw, env_id says"),
    (OTHER_DP, "the certificate is that of data plane dp-8, and Secret aisix/gw, dp_id says"),
    (replace(NEWEST, key=OLD.key), "the key is not the certificate's"),
    (replace(NEWEST, ca=cloud("Another").pem), "does not lead to the CA"),
    (bundle(days=(-9, -1)), "has expired"),
    (replace(NEWEST, ca=" "), ""),
]
WHICH = ["older", "env", "dp", "key", "ca", "expired", "incomplete"]


@pytest.mark.parametrize(("given", "reason"), REFUSED, ids=WHICH)
async def test_what_is_refused(home: Home, given: Bundle, reason: str) -> None:
    """Neither saved nor, where somebody laid it there, taken: the good one goes on, also in a process that starts."""
    saved = await home.put(NEW)
    writes = home.writes
    with pytest.raises(BundleRefused) as caught:
        await run(home.store.save, given, NOW, saved.version)
    assert reason in str(caught.value) and home.writes == writes
    home.lay(given)
    started = await run(home.store.load, NOW)
    assert started is not None and started.bundle == NEW
    running = await run(home.store.load, NOW, saved.identity)
    assert running is not None and running.version == saved.version
    assert any((reason or "ca.crt is missing") in note for note in running.notes)
    assert started.notes == running.notes or given is OLD
    assert given.key.reveal() not in str(caught.value) + str(running.notes)


async def test_a_bundle_that_an_operator_replaced_is_taken_up(home: Home) -> None:
    home.lay(OLD)
    assert await home.loaded() == OLD, "a Secret of cert-manager's, before the agent first wrote it"
    saved = await home.put(NEW)
    home.lay(NEWEST)
    found = await run(home.store.load, NOW, saved.identity)
    assert found is not None and found.bundle == NEWEST and found.version != saved.version
    before = await run(home.store.before, NOW)
    assert before is not None and before.bundle == NEW


async def test_without_a_good_one_it_says_why(home: Home) -> None:
    home.lay(replace(NEW, key=OLD.key))
    home.cluster.put_secret(*AT, {**home.data, "bundle.good": '{"key": "K-canary"', "tls.crt": b"\xff\xfe"})
    with pytest.raises(BundleRefused) as caught:
        await run(home.store.load, NOW)
    assert [reason[:40] for reason in caught.value.reasons] == [
        "Secret aisix/gw: the certificate is not ",
        "Secret aisix/gw, bundle.good: is damaged",
    ]
    assert "canary" not in str(caught.value)
    assert (await run(home.store.save, NEW, NOW, None)).bundle == NEW, "a new one can be put there"
    assert await home.loaded() == NEW


async def test_what_is_in_force_counts_more_than_what_lies_there(home: Home) -> None:
    await home.put(OLD)
    ahead = identify(NEW.certificate, NEW.key, NEW.ca, NOW)
    with pytest.raises(BundleRefused, match="it is older"):
        await run(home.store.load, NOW, ahead)
    with pytest.raises(BundleRefused, match="this gateway runs as dp-9"):
        await run(home.store.load, NOW, replace(ahead, dp_id="dp-9", not_before=NOW - 100 * DAY))


async def test_to_become_another_one_the_secret_is_deleted(home: Home) -> None:
    await home.put(OLD)
    with pytest.raises(BundleRefused, match="to make this gateway another's, delete Secret aisix/gw"):
        await run(home.store.save, FOREIGN, NOW, None)
    home.cluster.delete_secret(*AT)
    assert (await home.put(FOREIGN)).identity.env_id == OTHER_ENV


async def test_a_save_decided_on_something_else(home: Home) -> None:
    first = await home.put(OLD)
    await home.put(NEW)
    for version in (first.version, None):
        with pytest.raises(ChangedMeanwhile):
            await run(home.store.save, NEWEST, NOW, version)
    assert await home.loaded() == NEW


class Meddled:
    """The API, where somebody else comes before each of the first `times` writes."""

    def __init__(self, home: Home, meddle: Callable[[int], object], times: int) -> None:
        self._home, self._meddle, self._left = home, meddle, times

    def get(self, kind: Kind, at: Place, timeout: float = 5.0) -> Document | None:
        return self._home.api.get(kind, at, timeout)

    def create(self, kind: Kind, at: Place, document: Document, timeout: float = 5.0) -> Document:
        self._first()
        return self._home.api.create(kind, at, document, timeout)

    def replace(self, kind: Kind, at: Place, document: Document, timeout: float = 5.0) -> Document:
        self._first()
        return self._home.api.replace(kind, at, document, timeout)

    def _first(self) -> None:
        if self._left:
            self._left -= 1
            self._meddle(self._left)


async def test_somebody_else_writes_between_reading_and_writing(home: Home) -> None:
    """What is not ours is let be and the write repeated; another bundle is for the caller to look at."""
    saved = await home.put(OLD)

    def label(number: int) -> None:
        change: dict[str, Any] = {"metadata": {"labels": {"n": str(number)}}, "data": {"other": "eA=="}}
        home.cluster.store.patch(Key(SECRETS, *AT), change, "operator")

    store = KubernetesStore(Meddled(home, label, 4), AT)
    saved = await run(store.save, NEW, NOW, saved.version)
    assert (home.data["other"], home.secret["metadata"]["labels"], await home.loaded()) == ("x", {"n": "0"}, NEW)
    with pytest.raises(NotSaved, match="somebody else writes it all the time"):
        await run(KubernetesStore(Meddled(home, label, 9), AT).save, NEWEST, NOW, saved.version)
    with pytest.raises(ChangedMeanwhile):
        meddled = Meddled(home, lambda _: home.lay(NEWEST), 1)
        await run(KubernetesStore(meddled, AT).save, bundle(days=(-8, 80)), NOW, saved.version)
    assert await home.loaded() == NEWEST


async def test_somebody_else_makes_or_deletes_it_meanwhile(home: Home) -> None:
    made = Meddled(home, lambda _: home.cluster.put_secret(*AT, {"other": "theirs"}), 1)
    saved = await run(KubernetesStore(made, AT).save, OLD, NOW, None)
    assert home.data["other"] == "theirs" and await home.loaded() == OLD
    gone = Meddled(home, lambda _: home.cluster.delete_secret(*AT), 1)
    with pytest.raises(ChangedMeanwhile):
        await run(KubernetesStore(gone, AT).save, NEW, NOW, saved.version)


async def test_the_key_and_csr_of_a_request(home: Home) -> None:
    store, pending = home.store, new_pending()
    await run(store.save_pending, pending)
    assert await run(store.load_pending) == pending and await run(store.load, NOW) is None
    saved = await home.put(OLD)
    assert await run(store.load_pending) == pending
    await run(store.save_pending, None)
    writes = home.writes
    await run(store.save_pending, None)
    assert await run(store.load_pending) is None and home.writes == writes
    assert await run(home.store.load, NOW) == saved, "its version is the bundle's alone"
    for damaged in ("", "{}", '{"key": 1, "csr": 2}'):
        home.cluster.put_secret(*AT, {"bundle.pending": damaged})
        assert await run(home.store.load_pending) is None


@pytest.mark.parametrize("fault", ["away", "denied"])
async def test_a_store_that_cannot_be_asked_says_nothing_of_what_lies_there(home: Home, fault: str) -> None:
    """Above all not that there is no key: a token may have been spent with it."""
    store, saved = home.store, await home.put(OLD)
    if fault == "away":
        home.cluster.faults.add(503, times=9)
        says = "the Kubernetes API answers 503"
    else:
        home.cluster.accounts.forbid(home.cluster.account("aisix", "agent"))
        says = 'its Role needs {apiGroups: [""], resources: ["secrets"], resourceNames: ["gw"], verbs: ["get"]}'
    calls: tuple[Callable[[], object], ...] = (
        lambda: store.load(NOW, saved.identity),
        lambda: store.before(NOW),
        store.load_pending,
    )
    for call in calls:
        with pytest.raises(StoreAway) as caught:
            await run(call)
        assert "Secret aisix/gw cannot be read: " in str(caught.value) and says in str(caught.value)
    writes: tuple[Callable[[], object], ...] = (
        lambda: store.save(NEW, NOW, saved.version),
        lambda: store.confirm(saved.version, NOW),
        lambda: store.save_pending(new_pending()),
    )
    for call in writes:
        with pytest.raises(NotSaved) as refused:
            await run(call)
        assert says in str(refused.value)


async def test_a_right_to_write_that_is_missing_and_a_secret_that_cannot_be_written(home: Home) -> None:
    saved = await home.put(OLD)
    account = home.cluster.account("aisix", "agent")
    home.cluster.accounts.forbid(account)
    home.cluster.accounts.allow(account, "get", "secrets", "aisix")
    with pytest.raises(NotSaved, match=r'resourceNames: \["gw"\], verbs: \["update"\]'):
        await run(home.store.save, NEW, NOW, saved.version)
    home.cluster.delete_secret(*AT)
    with pytest.raises(NotSaved, match=r'verbs: \["create"\].*or make Secret aisix/gw beforehand'):
        await run(home.store.save, NEW, NOW, None)
    home.cluster.put_secret(*AT, {}, immutable=True)
    with pytest.raises(NotSaved, match="is immutable: delete it"):
        await run(home.store.save, NEW, NOW, None)


async def test_an_answer_that_got_lost_leaves_the_new_one_in_force(home: Home) -> None:
    """The write is done, and whoever asked does not know: reading again tells."""

    class Deaf(Meddled):
        def replace(self, kind: Kind, at: Place, document: Document, timeout: float = 5.0) -> Document:
            home.api.replace(kind, at, document, timeout)
            home.cluster.faults.add(cut=True)
            return home.api.replace(kind, at, document, timeout)

    saved = await home.put(OLD)
    with pytest.raises(NotSaved):
        await run(KubernetesStore(Deaf(home, print, 0), AT).save, NEW, NOW, saved.version)
    assert await home.loaded() == NEW


async def test_a_key_with_odd_text_around_it(home: Home) -> None:
    odd = replace(OLD, key=Secret("\udc80\n" + OLD.key.reveal()))
    saved = await home.put(odd)
    assert await run(home.store.load, NOW, saved.identity) is not None
