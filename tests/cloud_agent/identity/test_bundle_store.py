"""A bundle in a folder: names and modes, what is refused, and that a crash at any call leaves one that works."""

import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from aisix_cloud_agent.identity.bundle import Bundle
from aisix_cloud_agent.identity.bundle_store import ChangedMeanwhile, DirectoryStore, NotSaved, Stored
from aisix_cloud_agent.identity.disk import Disk
from aisix_cloud_agent.identity.enrollment import new_pending
from aisix_cloud_agent.identity.identity import BundleRefused, identify
from aisix_common.secret import Secret

from tests.cloud_agent.failing_disk import FailingDisk, Killed
from tests.cloud_agent.issuing import DAY, DP, ENV, NOW, OTHER_ENV, URIS, bundle, cloud

CALLS = 200
OLD, NEW, NEWEST = bundle(days=(-30, 60)), bundle(days=(-20, 70)), bundle(days=(-10, 80))
FOREIGN = bundle([f"x-aisix://env/{OTHER_ENV}", URIS[1]], days=(-5, 85))
OTHER_DP = bundle([URIS[0], "x-aisix://dp/dp-8"], days=(-5, 85))


def store(folder: Path, disk: Disk | None = None) -> DirectoryStore:
    return DirectoryStore(folder / "mtls", folder / "ids" / "dp_id", disk or FailingDisk())


def put(folder: Path, *bundles: Bundle, confirm: bool = True) -> Stored:
    """Saved one after the other, as they would be in the life of a gateway."""
    kept = store(folder)
    found = kept.load(NOW)
    for given in bundles:
        found = kept.save(given, NOW, found.version if found is not None else None)
        if confirm:
            kept.confirm(found.version, NOW)
    assert found is not None
    return found


def loaded(folder: Path) -> Bundle:
    found = store(folder).load(NOW)
    assert found is not None
    return found.bundle


def lay(folder: Path, given: Bundle) -> None:
    """Copy a bundle over the files, as an operator would."""
    texts = {"ca.crt": given.ca, "client.crt": given.certificate, "client.key": given.key.reveal()}
    (folder / "mtls").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / "mtls" / name).write_text(text)


def test_nothing_there(tmp_path: Path) -> None:
    kept = store(tmp_path)
    assert (kept.load(NOW), kept.before(NOW), kept.load_pending()) == (None, None, None)
    kept.confirm("", NOW)
    assert list(tmp_path.iterdir()) == []


def test_names_modes_and_contents(tmp_path: Path) -> None:
    saved = put(tmp_path, OLD)
    assert saved.identity == identify(OLD.certificate, OLD.key, OLD.ca, NOW)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "mtls").iterdir()}
    assert found == {
        "ca.crt": 0o644,
        "client.crt": 0o644,
        "client.key": 0o600,
        "env_id": 0o600,
        "bundle.good": 0o600,
    }
    assert stat.S_IMODE((tmp_path / "ids/dp_id").stat().st_mode) == 0o600
    assert (tmp_path / "mtls/env_id").read_text() == ENV + "\n"
    assert (tmp_path / "ids/dp_id").read_text() == DP + "\n"
    assert store(tmp_path).load(NOW) == replace(saved, notes=())
    assert OLD.key.reveal() not in repr(saved)


def test_a_folder_of_a_reference_node_is_taken_up(tmp_path: Path) -> None:
    lay(tmp_path, OLD)
    (tmp_path / "mtls/env_id").write_text(ENV)
    assert loaded(tmp_path) == OLD
    put(tmp_path, NEW, confirm=False)
    before = store(tmp_path).before(NOW)
    assert before is not None and before.bundle == OLD, "it was the only one that worked"


def test_the_one_before_is_there_until_the_new_one_has_worked(tmp_path: Path) -> None:
    put(tmp_path, OLD)
    assert store(tmp_path).before(NOW) is None
    new = put(tmp_path, NEW, confirm=False)
    newest = put(tmp_path, NEWEST, confirm=False)
    kept = store(tmp_path)
    before = kept.before(NOW)
    assert before is not None and before.bundle == OLD, "the one between never worked"
    kept.confirm(new.version, NOW)
    assert kept.before(NOW) == before, "what was confirmed is not there any more"
    kept.confirm(newest.version, NOW)
    assert kept.before(NOW) is None and loaded(tmp_path) == NEWEST
    assert OLD.key.reveal().splitlines()[1] not in "".join(p.read_text() for p in (tmp_path / "mtls").iterdir())


def test_confirming_again_writes_nothing(tmp_path: Path) -> None:
    saved = put(tmp_path, OLD)
    disk = FailingDisk()
    store(tmp_path, disk).confirm(saved.version, NOW)
    assert disk.calls == []


REFUSED = [
    (OLD, "it is older (valid from 2026-05-16 12:00:00Z) than the bundle in force"),
    (FOREIGN, f"the certificate is that of environment {OTHER_ENV}, and "),
    (OTHER_DP, "the certificate is that of data plane dp-8, and "),
    (replace(NEWEST, key=OLD.key), "the key is not the certificate's"),
    (replace(NEWEST, ca=cloud("Another").pem), "does not lead to the CA"),
    (bundle(days=(-9, -1)), "has expired"),
]


@pytest.mark.parametrize(("given", "reason"), REFUSED, ids=["older", "env", "dp", "key", "ca", "expired"])
def test_a_save_is_refused_and_nothing_written(tmp_path: Path, given: Bundle, reason: str) -> None:
    saved = put(tmp_path, NEW)
    disk = FailingDisk()
    with pytest.raises(BundleRefused) as caught:
        store(tmp_path, disk).save(given, NOW, saved.version)
    assert reason in str(caught.value)
    assert disk.calls == [] and loaded(tmp_path) == NEW


@pytest.mark.parametrize(("given", "reason"), REFUSED, ids=["older", "env", "dp", "key", "ca", "expired"])
def test_files_that_were_replaced_by_unusable_ones(tmp_path: Path, given: Bundle, reason: str) -> None:
    """The good one goes on, in the process that has it and in one that starts."""
    saved = put(tmp_path, NEW)
    lay(tmp_path, given)
    started = store(tmp_path).load(NOW)
    assert started is not None and started.bundle == NEW
    running = store(tmp_path).load(NOW, saved.identity)
    assert running is not None and running.version == saved.version
    assert any(reason in note for note in running.notes)
    assert any(reason in note for note in started.notes) or given is OLD


def test_files_that_were_replaced_by_good_ones(tmp_path: Path) -> None:
    saved = put(tmp_path, OLD)
    lay(tmp_path, NEW)
    found = store(tmp_path).load(NOW, saved.identity)
    assert found is not None and found.bundle == NEW and found.version != saved.version


def test_without_a_good_one_it_says_why(tmp_path: Path) -> None:
    lay(tmp_path, replace(NEW, key=OLD.key))
    (tmp_path / "mtls/bundle.good").write_text('{"key": "K-canary"')
    (tmp_path / "mtls/bundle.next").write_text("[" * 100_000)
    with pytest.raises(BundleRefused) as caught:
        store(tmp_path).load(NOW)
    assert [r.split(": ")[1][:30] for r in caught.value.reasons] == [
        "is damaged",
        "the key is not the certificate",
        "is damaged",
    ]
    assert "canary" not in str(caught.value) and caught.value.__context__ is None
    assert store(tmp_path).save(NEW, NOW, None).bundle == NEW, "a new one can be put there"
    assert loaded(tmp_path) == NEW


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (("client.key",), "client.key is missing"),
        (("ca.crt", "client.crt"), "ca.crt is missing"),
    ],
)
def test_an_incomplete_folder(tmp_path: Path, missing: tuple[str, ...], reason: str) -> None:
    lay(tmp_path, NEW)
    for name in missing:
        (tmp_path / "mtls" / name).unlink()
    with pytest.raises(BundleRefused, match=reason):
        store(tmp_path).load(NOW)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    lay(tmp_path, NEW)
    (tmp_path / "mtls/client.key").unlink()
    (tmp_path / "mtls/client.key").mkdir()
    with pytest.raises(BundleRefused, match=r"client\.key cannot be read: Is a directory"):
        store(tmp_path).load(NOW)


def test_another_certificate_than_the_ids_beside_it_say(tmp_path: Path) -> None:
    """Nothing else is left of what this gateway was: the ids alone keep it from becoming another one by accident."""
    put(tmp_path, OLD)
    (tmp_path / "mtls/bundle.good").unlink()
    lay(tmp_path, FOREIGN)
    with pytest.raises(BundleRefused, match=r"to make this gateway another's, empty .*mtls and remove .*env_id"):
        store(tmp_path).load(NOW)
    for path in (tmp_path / "mtls").iterdir():
        path.unlink()
    assert put(tmp_path, FOREIGN).identity.env_id == OTHER_ENV


def test_what_is_in_force_counts_more_than_what_lies_there(tmp_path: Path) -> None:
    put(tmp_path, OLD)
    ahead = identify(NEW.certificate, NEW.key, NEW.ca, NOW)
    with pytest.raises(BundleRefused, match="it is older"):
        store(tmp_path).load(NOW, ahead)
    with pytest.raises(BundleRefused, match="this gateway runs as dp-9"):
        store(tmp_path).load(NOW, replace(ahead, dp_id="dp-9", not_before=NOW - 100 * DAY))


def test_a_save_decided_on_something_else(tmp_path: Path) -> None:
    first = put(tmp_path, OLD)
    put(tmp_path, NEW)
    for version in (first.version, None):
        with pytest.raises(ChangedMeanwhile):
            store(tmp_path).save(NEWEST, NOW, version)
    assert loaded(tmp_path) == NEW


def test_the_key_and_csr_of_a_request(tmp_path: Path) -> None:
    kept, pending = store(tmp_path), new_pending()
    kept.save_pending(pending)
    assert kept.load_pending() == pending
    assert stat.S_IMODE((tmp_path / "mtls/bundle.pending").stat().st_mode) == 0o600
    kept.save_pending(None)
    kept.save_pending(None)
    assert kept.load_pending() is None
    for damaged in ("", "{}", '{"key": 1, "csr": 2}', "[]"):
        (tmp_path / "mtls/bundle.pending").write_text(damaged)
        assert kept.load_pending() is None


def begun(folder: Path, start: str) -> Bundle | None:
    """A folder as it may be found, and the bundle in it."""
    folder.mkdir()
    if start == "empty":
        return None
    if start == "reference":
        lay(folder, OLD)
        return OLD
    put(folder, OLD)
    if start == "half-saved":
        assert not _save(folder, NEW, FailingDisk(18, kill=True))
        assert (folder / "mtls/bundle.next").exists()
        return NEW
    return OLD


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "kill"),
    [("saved", False), ("empty", True), ("reference", True), ("saved", True), ("half-saved", True)],
)
def test_a_failure_at_any_call_leaves_a_bundle_that_works(tmp_path: Path, start: str, kill: bool) -> None:
    """After each call in turn: whoever starts finds the old or the new bundle, and can finish the work."""
    old = begun(tmp_path / "start", start)
    seen = set()
    for number in range(CALLS):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "start", folder)
        done = _save(folder, NEWEST, FailingDisk(number, kill=kill))
        found = store(folder).load(NOW)
        there = found.bundle if found is not None else None
        assert there in ((NEWEST,) if done else (old, NEWEST)), number
        seen.add(there == NEWEST)
        if old is not None and there == NEWEST:
            before = store(folder).before(NOW)
            assert before is not None and before.bundle == OLD, "the one that worked is kept beside the new one"
        if found is None or there != NEWEST:
            found = store(folder).save(NEWEST, NOW, found.version if found is not None else None)
        store(folder).confirm(found.version, NOW)
        assert (folder / "mtls/client.key").read_text() == NEWEST.key.reveal()
        assert (folder / "mtls/bundle.good").read_text().count(json.dumps(NEWEST.certificate)) == 1
        assert (folder / "ids/dp_id").read_text().strip() == DP
        left = {path.name for path in (folder / "mtls").iterdir() if not path.name.endswith(".tmp")}
        assert left == {"ca.crt", "client.crt", "client.key", "env_id", "bundle.good"}
        if done:
            break
    else:
        pytest.fail("more calls than expected")
    assert seen == {True, False} and number > 40


@pytest.mark.parametrize("kill", [False, True], ids=["error", "kill"])
def test_a_failure_at_any_call_of_confirming(tmp_path: Path, kill: bool) -> None:
    begun(tmp_path / "start", "half-saved")
    new = store(tmp_path / "start").load(NOW)
    assert new is not None and new.bundle == NEW
    for number in range(CALLS):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "start", folder)
        try:
            store(folder, FailingDisk(number, kill=kill)).confirm(new.version, NOW)
        except (NotSaved, Killed):
            assert loaded(folder) == NEW
        else:
            break
    else:
        pytest.fail("more calls than expected")
    assert number > 40 and store(folder).before(NOW) is None


def test_a_disk_that_is_full_says_so_without_the_key(tmp_path: Path) -> None:
    with pytest.raises(NotSaved) as caught:
        store(tmp_path, FailingDisk(3)).save(OLD, NOW, None)
    assert "No space left on device; the folder must be writable" in str(caught.value)
    with pytest.raises(NotSaved):
        store(tmp_path, FailingDisk(0)).save_pending(new_pending())


def test_a_key_with_odd_text_around_it(tmp_path: Path) -> None:
    """A variable may hold bytes that are no text; what was checked is what is kept, and no error holds the key."""
    odd = replace(OLD, key=Secret("\udc80\n" + OLD.key.reveal()))
    saved = put(tmp_path, odd)
    assert store(tmp_path).load(NOW, saved.identity) is not None


def _save(folder: Path, given: Bundle, disk: Disk) -> bool:
    """Whether it came to its end."""
    found = store(folder).load(NOW)
    try:
        store(folder, disk).save(given, NOW, found.version if found is not None else None)
    except (NotSaved, Killed):
        return False
    return True
