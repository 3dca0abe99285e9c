"""Keys from files and variables: read with suspicion, followed, and never lost by a bad reload."""

import asyncio
import base64
import os
from pathlib import Path

import pytest

from aisix_common.errors import ConfigurationError
from aisix_common.secrets.envelope import Keyring, new_key
from aisix_common.secrets.keyring_files import KeyringFiles, read_keys
from aisix_common.settings.control import KeyringKey
from aisix_common.tasks import TaskOwner

from tests.common.sources.support import Log


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_keys_in_their_order(tmp_path: Path) -> None:
    write(tmp_path / "a", f"{new_key()}\n")
    keys = [KeyringKey(id="e", env="KEY"), KeyringKey(id="f", file=str(tmp_path / "a"))]
    log = Log()
    files = KeyringFiles(keys, {"KEY": new_key()}, log.log)
    assert not files.keyring
    assert files.load().ids == ("e", "f")
    assert files.keyring.first == "e"
    assert log.lines == []


def test_none_is_none() -> None:
    assert not KeyringFiles([], {}, Log().log).load()


def test_everything_wrong_is_told_and_no_value(tmp_path: Path) -> None:
    write(tmp_path / "bad", "canary-no-key")
    os.mkfifo(tmp_path / "pipe")
    keys = [
        KeyringKey(id="a", file=str(tmp_path / "gone")),
        KeyringKey(id="b", file=str(tmp_path / "bad")),
        KeyringKey(id="c", env="UNSET"),
        KeyringKey(id="d", env="BAD"),
        KeyringKey(id="e", file=str(tmp_path / "pipe")),
        KeyringKey(id="f", file=str(tmp_path)),
    ]
    with pytest.raises(ConfigurationError) as caught:
        read_keys(keys, {"BAD": base64.b64encode(b"canary").decode()})
    assert [problem.path for problem in caught.value.problems] == [
        "secrets.keyring[0].file",
        "secrets.keyring[1].file",
        "secrets.keyring[2].env",
        "secrets.keyring[3].env",
        "secrets.keyring[4].file",
        "secrets.keyring[5].file",
    ]
    said = str(caught.value) + " ".join(map(str, caught.value.problems))
    assert "No such file" in said
    assert "generate-key" in said
    assert "canary" not in said


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o440, False), (0o644, True)])
def test_a_key_that_everybody_reads(tmp_path: Path, mode: int, warned: bool) -> None:
    write(tmp_path / "a", new_key(), mode)
    log = Log()
    files = KeyringFiles([KeyringKey(id="a", file=str(tmp_path / "a"))], {}, log.log)
    files.load()
    files.load()
    assert len(log.lines) == warned


class Followed:
    """A key behind links, as Kubernetes mounts it, that is followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = Log()
        self.seen: list[Keyring] = []
        self.swap("one", new_key())
        (folder / "key").symlink_to("..data/key")
        self.files = KeyringFiles([KeyringKey(id="k", file=str(folder / "key"))], {}, self.log.log, seconds=0.005)
        self.files.load()

    def swap(self, name: str, text: str) -> None:
        """Another folder takes the place of the old one in one step."""
        (self.folder / name).mkdir()
        write(self.folder / name / "key", text)
        (self.folder / "..new").symlink_to(name)
        (self.folder / "..new").replace(self.folder / "..data")

    async def until(self, lines: int, changes: int) -> None:
        """Wait for what the log and the listener get."""
        async with asyncio.timeout(10):
            while len(self.log.lines) < lines or len(self.seen) < changes:
                await asyncio.sleep(0.005)


async def test_a_change_is_followed_and_a_bad_one_is_not(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    first = followed.files.keyring
    sealed = first.seal("x", b"")
    async with TaskOwner() as owner:
        owner.spawn(followed.files.run(followed.seen.append), name="keyring")
        followed.swap("two", new_key())
        await followed.until(1, 1)
        assert followed.seen == [followed.files.keyring]
        assert followed.files.keyring is not first
        followed.swap("three", "no key")
        await followed.until(2, 1)
        assert followed.log.lines[1]["log_level"] == "error"
        await asyncio.sleep(0.03)  # more looks at the same fault
        assert len(followed.log.lines) == 2
        assert followed.files.keyring is followed.seen[0]
        (tmp_path / "..data").unlink()
        await followed.until(3, 1)
        key = new_key()
        followed.swap("four", key)
        await followed.until(5, 2)
        followed.swap("five", key)  # the same key in another file is no change
        await asyncio.sleep(0.03)
    assert len(followed.seen) == 2
    assert [line["event"] for line in followed.log.lines[3:]] == [
        "the keyring can be read again",
        "the keyring has changed",
    ]
    assert Keyring([("k", base64.b64decode(key))]).open(followed.seen[1].seal("y", b""), b"") == "y"
    assert first.open(sealed, b"") == "x"


async def test_nothing_to_follow_ends_at_once() -> None:
    files = KeyringFiles([KeyringKey(id="a", env="A")], {"A": new_key()}, Log().log)
    async with asyncio.timeout(1):
        await files.run(lambda keyring: None)
