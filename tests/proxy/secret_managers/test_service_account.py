"""What is mounted into the pod is read anew each time, and its absence is no reason to forget a secret."""

from pathlib import Path

import pytest

from aisix_proxy.secret_managers.base import Refused
from aisix_proxy.secret_managers.service_account import mounted

from .scripted_api import context


async def test_a_rotated_token_is_seen_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    assert await mounted(context(service_account=tmp_path), "token") == "one"
    file.write_text("two")
    assert await mounted(context(service_account=tmp_path), "token") == "two"


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
async def test_a_token_that_is_not_there(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(Refused, match="automountServiceAccountToken"):
        await mounted(context(service_account=tmp_path), "token")
