"""The key that `aisix` makes for itself: once, privately, and never over another."""

import io
import json
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aisix_common.cli.local_key import VARIABLE, keys_of, provided, write_key
from aisix_common.cli.notes import Notes
from aisix_common.errors import ConfigurationError
from aisix_common.secrets.envelope import decode_key
from aisix_common.secrets.keyring_files import read_keys
from aisix_common.settings import Settings
from aisix_common.settings.loader import build

from tests.common.cli.conftest import Gateway


def settings(path: Path | str, environ: dict[str, str] | None = None, **more: Any) -> Settings:
    document = {
        "proxy": {"addr": "127.0.0.1:0"},
        "admin": {"admin_keys": ["k"]},
        "etcd": {"endpoints": ["127.0.0.1:1"]},
        "secrets": {"local_key_file": str(path)},
    }
    return build({**document, **more}, environ or {}).settings


@pytest.fixture
def said(tmp_path: Path) -> "Said":
    return Said(tmp_path / "notes")


class Said:
    """Notes that go to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.notes = Notes(log_fd=self._file.fileno())

    @property
    def text(self) -> str:
        self._file.seek(0)
        text = self._file.read().decode()
        self._file.seek(0, io.SEEK_END)
        return text


def test_it_is_made_once_and_given_to_the_services(tmp_path: Path, said: Said) -> None:
    path = tmp_path / "deep" / "keyring.key"
    environ = provided(settings(path), said.notes)
    assert json.loads(environ[VARIABLE]) == [{"id": "local", "file": str(path)}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    key = path.read_text()
    decode_key(key)
    assert said.text.count("keep a copy") == 1
    assert key.strip() not in said.text
    assert provided(settings(path), said.notes) == environ
    assert path.read_text() == key
    assert said.text.count("\n") == 1
    told = settings(path, {**environ})
    assert [(each.id, each.file) for each in told.secrets.keyring] == [("local", str(path))]
    assert read_keys(keys_of(settings(path)), {}).keyring.ids == ("local",)


@pytest.mark.parametrize(
    "more",
    [
        {"secrets": {"keyring": [{"id": "a", "env": "A"}]}},
        {"secrets": {"allow_plaintext": True}},
        {"secrets": {"local_key_file": " "}},
        {"etcd": {}, "resources_file": "r.yaml"},
    ],
)
def test_not_where_something_else_was_said(tmp_path: Path, said: Said, more: dict[str, Any]) -> None:
    secrets = {"local_key_file": str(tmp_path / "key"), **more.get("secrets", {})}
    given = settings("", **{**more, "secrets": secrets})
    assert provided(given, said.notes) == {}
    assert not (tmp_path / "key").exists()
    assert keys_of(given) == given.secrets.keyring


def test_in_managed_mode_too(tmp_path: Path, said: Said) -> None:
    """The agent seals what the proxies open."""
    given = settings(tmp_path / "key", managed={"enabled": True, "cp_base_url": "https://cloud.example"})
    assert json.loads(provided(given, said.notes)[VARIABLE]) == [{"id": "local", "file": str(tmp_path / "key")}]
    assert read_keys(keys_of(given), {}).keyring.ids == ("local",)


def loose(path: Path) -> None:
    write_key(path)
    path.chmod(0o640)


def linked(path: Path) -> None:
    write_key(path.with_name("other"))
    path.symlink_to("other")


def other(path: Path) -> None:
    path.write_text("canary")
    path.chmod(0o600)


SPOILT: list[tuple[Callable[[Path], object], str]] = [
    (loose, "chmod 600"),
    (linked, "cannot be read"),
    (lambda path: path.touch(0o600), "holds no key"),
    (other, "holds no key"),
    (lambda path: path.mkdir(0o700), "no regular file"),
    (lambda path: os.mkfifo(path, 0o600), "no regular file"),
    (lambda path: path.symlink_to("nowhere"), "cannot be read"),
]


@pytest.mark.parametrize(("spoil", "reason"), SPOILT)
def test_one_that_cannot_be_used(tmp_path: Path, said: Said, spoil: Callable[[Path], object], reason: str) -> None:
    path = tmp_path / "keyring.key"
    spoil(path)
    with pytest.raises(ConfigurationError, match=r"secrets\.local_key_file") as caught:
        provided(settings(path), said.notes)
    assert reason in str(caught.value.problems[0])
    assert "canary" not in str(caught.value)


def test_several_make_it_at_once(tmp_path: Path) -> None:
    """Also of one process id, as in two containers that share a folder."""
    path, together = tmp_path / "keyring.key", threading.Barrier(4)

    def make(number: int) -> str:
        together.wait()
        try:
            write_key(path)
        except FileExistsError:
            pass
        return path.read_text()

    for _ in range(20):
        with ThreadPoolExecutor(4) as pool:
            made = set(pool.map(make, range(4)))
        assert len(made) == 1
        decode_key(made.pop())
        assert list(tmp_path.iterdir()) == [path]
        path.unlink()


def test_a_place_that_cannot_be_written_is_noted(tmp_path: Path, said: Said) -> None:
    (tmp_path / "file").touch()
    given = settings(tmp_path / "file" / "keyring.key")
    assert provided(given, said.notes) == {}
    assert "cannot be made: Not a directory" in said.text
    assert "secrets.keyring" in said.text
    assert keys_of(given) == ()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_key(tmp_path / "key")
    before = (tmp_path / "key").read_text()
    with pytest.raises(FileExistsError):
        write_key(tmp_path / "key")
    assert (tmp_path / "key").read_text() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_the_services_have_it_when_they_start(gateway: Gateway) -> None:
    for name in ("proxy", "admin"):
        gateway.programs.write(
            f"fake_{name}",
            "from aisix_common.settings import load\n"
            "(key,) = load(sys.argv[2], os.environ).settings.secrets.keyring\n"
            "assert len(open(key.file).read()) == 45\n"
            f"note({name!r} + ' ' + key.id)\n"
            "while len(open(os.path.join(folder, 'events')).readlines()) < 2:\n    time.sleep(0.01)\n"
            "sys.exit(9)",
        )
    gateway.environ |= {"aisix_secrets__keyring": ""}
    gateway.start()
    code, shown = gateway.end()
    assert code == 9, shown
    assert sorted(gateway.programs.events()) == ["admin local", "proxy local"]


def test_nothing_starts_with_a_key_that_others_read(gateway: Gateway) -> None:
    loose(gateway.programs.folder / "keyring.key")
    gateway.start()
    code, shown = gateway.end()
    assert code == 1
    assert shown.startswith("Error: config load failed: failed to load configuration: secrets.local_key_file: ")
    assert gateway.programs.events() == []
