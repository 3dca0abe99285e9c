"""The shared token: one login for all who need one, and none where it cannot help."""

import asyncio

import pytest

from aisix_common.errors import StoreUnavailable
from aisix_common.store.login import SETTLED_SECONDS, Login


class Etcd:
    """Counts logins."""

    def __init__(self) -> None:
        self.logins = 0
        self.down = False

    async def authenticate(self) -> str:
        await asyncio.sleep(0.05)
        if self.down:
            raise StoreUnavailable("down")
        self.logins += 1
        return f"token-{self.logins}"


async def test_no_user_no_token() -> None:
    login = Login(None)
    token = await login.token()
    assert token.metadata == ()
    assert not await login.cured(token, "invalid auth token")


@pytest.mark.looptime
async def test_all_share_one_login_and_one_renewal() -> None:
    etcd = Etcd()
    login = Login(etcd.authenticate)
    first = (await asyncio.gather(*(login.token() for _ in range(10))))[0]
    assert etcd.logins == 1 and first.metadata == (("token", "token-1"),)
    assert "token-1" not in repr(first)
    assert all(await asyncio.gather(*(login.cured(first, "invalid auth token") for _ in range(10))))
    assert etcd.logins == 2


@pytest.mark.looptime
async def test_a_denial_renews_only_a_token_that_is_not_fresh() -> None:
    etcd = Etcd()
    login = Login(etcd.authenticate)
    token = await login.token()
    assert not await login.cured(token, "permission denied")
    await asyncio.sleep(SETTLED_SECONDS + 0.1)
    assert await login.cured(token, "permission denied")
    assert not await login.cured(await login.token(), "request is too large")
    assert etcd.logins == 2


@pytest.mark.looptime
async def test_a_failed_login_is_tried_again() -> None:
    etcd = Etcd()
    etcd.down = True
    login = Login(etcd.authenticate)
    with pytest.raises(StoreUnavailable):
        await login.token()
    etcd.down = False
    assert (await login.token()).metadata
