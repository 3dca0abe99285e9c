"""Admin credentials without HTTP."""

import hashlib
from pathlib import Path
from typing import cast

import pytest
import structlog

from aisix_admin.auth import Admin, AdminKeys, credential
from aisix_common.errors import ConfigurationError
from aisix_common.logs import Logger
from aisix_common.secret import Secret
from aisix_common.settings.listeners import AdminKey


@pytest.mark.parametrize(
    ("authorization", "api_key", "presented"),
    [
        ("Bearer k", None, "k"),
        ("Bearer  k ", None, "k"),
        (None, "k", "k"),
        (None, " k ", "k"),
        (None, "", None),
        (None, None, None),
        ("Bearer ", None, None),
        ("bearer k", None, None),
        ("k", "k", None),
        ("Basic k", "k", None),
        ("Bearer\tk", None, None),
    ],
)
def test_the_credential_of_a_request(authorization: str | None, api_key: str | None, presented: str | None) -> None:
    assert credential(authorization, api_key) == presented


@pytest.mark.parametrize(
    ("authorization", "api_key", "presented"),
    [
        ("k", None, "k"),
        ("k", "other", "k"),
        ("bearer k", None, "k"),
        ("BEARER  k ", None, "k"),
        ("Bearer k", None, "k"),
        ("Bearer ", None, None),
        ("", "k", None),
        (None, " k ", "k"),
        ("Basic k", None, "Basic k"),
    ],
)
def test_the_older_dialect_takes_the_key_alone(
    authorization: str | None, api_key: str | None, presented: str | None
) -> None:
    assert credential(authorization, api_key, bare=True) == presented


def test_positions_and_hashes() -> None:
    keys = AdminKeys([Secret("canary-1"), Secret("two"), Secret("naïve")])
    assert [keys.position(text) for text in ("canary-1", "two", "naïve", "three", "", None)] == [
        0,
        1,
        2,
        None,
        None,
        None,
    ]
    assert keys.position("\udcff") is None, "bytes that are no UTF-8 are a wrong key, not an error"
    assert keys.has_hash(hashlib.sha256(b"two").hexdigest())
    assert not keys.has_hash(hashlib.sha256(b"three").hexdigest())
    assert "canary" not in repr(vars(keys))


def test_no_keys_let_nobody_in() -> None:
    assert AdminKeys([]).position("anything") is None


def test_who_it_is(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n")
    keys = AdminKeys(
        [
            Secret("plain"),
            AdminKey(name="ci", key=Secret("given"), role="viewer"),
            AdminKey(key_file=str(file)),
            AdminKey(name="ops", key_env="K", role="viewer"),
        ],
        {"K": " from-env "},
    )
    assert [keys.who(text) for text in ("plain", "given", "from-file", "from-env", "other", None)] == [
        Admin("key-1"),
        Admin("ci", "viewer"),
        Admin("key-3"),
        Admin("ops", "viewer"),
        None,
        None,
    ]
    assert (Admin("a").writes, Admin("a", "viewer").writes) == (True, False)
    assert keys.has_hash(hashlib.sha256(b"from-env").hexdigest())
    assert "from-" not in repr(vars(keys))


def test_a_key_file_is_followed(tmp_path: Path) -> None:
    file, now = tmp_path / "key", [0.0]
    file.write_text("first")
    lines = structlog.testing.LogCapture()
    log = cast("Logger", structlog.wrap_logger(None, processors=[lines]))
    keys = AdminKeys([AdminKey(name="ci", key_file=str(file))], now=lambda: now[0], log=log)

    def later(text: str | None) -> tuple[bool, bool]:
        """The file says `text`; a good second later: whether the two keys are good."""
        if text is None:
            file.unlink()
        else:
            fresh = tmp_path / "fresh"
            fresh.write_text(text)
            fresh.rename(file)
        now[0] += 1.5
        return keys.who("first") is not None, keys.who("second") is not None

    assert keys.who("first") == Admin("ci")
    assert later("second") == (False, True)
    assert later("") == (False, True), "a blank file keeps the last key"
    assert later(None) == (False, True), "a file that is gone, too"
    assert later("first") == (True, False)
    shown = repr(lines.entries)
    assert "'ci'" in shown and "not used" in shown
    assert "first" not in shown and "second" not in shown


def test_a_key_file_is_not_looked_at_for_every_request(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("first")
    keys = AdminKeys([AdminKey(key_file=str(file))], now=lambda: 0.0)
    file.write_text("second")
    assert keys.who("first") is not None


@pytest.mark.parametrize(
    ("key", "where", "reason"),
    [
        (AdminKey(key_file="nowhere"), "key_file", "No such file"),
        (AdminKey(key_file="a\0b"), "key_file", "not a file name"),
        (AdminKey(key_file="blank"), "key_file", "one key, and nothing else"),
        (AdminKey(key_file="two"), "key_file", "one key, and nothing else"),
        (AdminKey(key_file="binary"), "key_file", "UTF-8"),
        (AdminKey(key_env="NOPE"), "key_env", "not set"),
        (AdminKey(key_env="BLANK"), "key_env", "not set, or is blank"),
    ],
)
def test_keys_that_cannot_be_had(key: AdminKey, where: str, reason: str, tmp_path: Path) -> None:
    for name, data in {"blank": b" \n", "two": b"canary-a canary-b", "binary": b"\xff\xfe"}.items():
        (tmp_path / name).write_bytes(data)
    if key.key_file is not None and "\0" not in key.key_file:
        key = AdminKey(key_file=str(tmp_path / key.key_file))
    with pytest.raises(ConfigurationError) as caught:
        AdminKeys([Secret("good"), key], {"BLANK": " "})
    (problem,) = caught.value.problems
    assert problem.path == f"admin.admin_keys[1].{where}"
    assert reason in problem.reason and "canary" not in problem.reason


def test_one_key_cannot_have_two_roles() -> None:
    AdminKeys([Secret("one"), Secret("one")])
    with pytest.raises(ConfigurationError, match=r"admin_keys\[1\]: is the same key as admin\.admin_keys\[0\]"):
        AdminKeys([Secret("one"), AdminKey(key=Secret("one"), role="viewer")])
