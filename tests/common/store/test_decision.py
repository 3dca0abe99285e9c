"""Decision 0001 says that aioetcd3 cannot work here: what can be shown without installing it, is shown."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "decisions" / "0001-etcd-client.md"


@pytest.mark.parametrize("called", [asyncio.Event, asyncio.Queue, partial[Any](asyncio.sleep, 0)])
async def test_this_python_lacks_what_aioetcd3_calls(called: Any) -> None:
    with pytest.raises(TypeError, match="loop"):
        called(loop=asyncio.get_running_loop())


async def test_this_python_does_not_wait_for_bare_coroutines_as_aioetcd3_does() -> None:
    coroutine = asyncio.sleep(0)
    with pytest.raises(TypeError, match="coroutines"):
        await asyncio.wait([coroutine])  # type: ignore[type-var]
    coroutine.close()


def test_the_page_says_what_fails_and_how_to_see_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for evidence in (
        "pip install aioetcd3==1.13",
        "unexpected keyword argument 'loop'",
        "Descriptors cannot be created directly",
        "2,000 are lost",
        "our suite does not run it",
    ):
        assert evidence in page


def test_aioetcd3_is_no_dependency() -> None:
    for path in (ROOT / "constraints.txt", *ROOT.glob("*/*/pyproject.toml")):
        assert "aioetcd3" not in path.read_text(encoding="utf-8"), path
