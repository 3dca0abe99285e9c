"""The OpenBao of the tests does what tests rely on."""

import asyncio
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.openbao import BaoRefused, OpenBao
from tests.support.openbao import openbao as running

READER = 'path "secret/data/kit/*" { capabilities = ["read"] }'


def test_secrets_of_both_engines(openbao: OpenBao) -> None:
    openbao.mount("kit-v1", "kv", {"version": "1"})
    openbao.mount("kit-v2", "kv", {"version": "2"})
    assert [openbao.put("kit/both", {"key": value}) for value in ("a", "b")] == [1, 2]
    openbao.put("x", {"key": "c"}, mount="kit-v1")
    openbao.put("x", {"key": "d"}, mount="kit-v2")
    assert openbao.read("secret/data/kit/both")["data"]["data"] == {"key": "b"}
    assert openbao.read("secret/data/kit/both?version=1")["data"]["data"] == {"key": "a"}
    assert openbao.read("kit-v1/x")["data"] == {"key": "c"}
    assert openbao.read("kit-v2/data/x")["data"]["data"] == {"key": "d"}


def test_a_token_may_do_what_its_policy_says_and_no_more(openbao: OpenBao) -> None:
    openbao.policy("kit-reader", READER)
    openbao.put("kit/policy", {"key": "a"})
    openbao.put("elsewhere", {"key": "b"})
    role_id, secret_id = openbao.approle("kit", ["kit-reader"], secret_id_uses=1)
    login = {"role_id": role_id, "secret_id": secret_id}
    tokens = [openbao.token(["kit-reader"]), openbao.write("auth/approle/login", login)["auth"]["client_token"]]
    for token in tokens:
        assert openbao.read("secret/data/kit/policy", token)["data"]["data"] == {"key": "a"}
        with pytest.raises(BaoRefused, match="permission denied"):
            openbao.read("secret/data/elsewhere", token)
    with pytest.raises(BaoRefused, match="invalid role or secret ID"):
        openbao.write("auth/approle/login", login)


def test_a_token_ends(openbao: OpenBao) -> None:
    token = openbao.token(["default"], ttl="1s")
    openbao.read("auth/token/lookup-self", token)
    deadline = time.monotonic() + 10
    with pytest.raises(BaoRefused) as ended:
        while time.monotonic() < deadline:
            openbao.read("auth/token/lookup-self", token)
            time.sleep(0.05)
    assert ended.value.status == 403


def test_it_seals_hangs_dies_and_comes_back(fresh_openbao: OpenBao) -> None:
    bao = fresh_openbao
    bao.put("kit/x", {"key": "a"})
    bao.seal()
    with pytest.raises(BaoRefused) as sealed:
        bao.read("secret/data/kit/x")
    assert sealed.value.status == 503
    bao.unseal()
    assert bao.read("secret/data/kit/x")["data"]["data"] == {"key": "a"}

    bao.stop()
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(f"{bao.address}/v1/sys/health", timeout=0.2)
    bao.resume()
    assert bao.read("secret/data/kit/x")["data"]["data"] == {"key": "a"}

    before = bao.address, bao.root_token
    bao.kill()
    with pytest.raises(OSError):
        bao.read("secret/data/kit/x")
    bao.restart()
    assert (bao.address, bao.root_token) == before
    with pytest.raises(BaoRefused) as empty:
        bao.read("secret/data/kit/x")
    assert empty.value.status == 404


async def test_it_starts_beside_the_loop_and_writes_only_in_its_folder(tmp_path: Path) -> None:
    async with running(tmp_path / "bao") as bao:
        await asyncio.to_thread(bao.put, "kit/x", {"key": "a"})
        process = bao.process
        assert process is not None
        text = bao.log.read_text()
    assert process.poll() is not None
    assert {path.name for path in (tmp_path / "bao").iterdir()} == {"openbao.log"}
    assert "127.0.0.1" in text
    assert "0.0.0.0" not in text
