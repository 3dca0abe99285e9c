"""The agent as it is put together: what it refuses, and what it shows before it has anything."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import json

from aisix_cloud_agent.app import build_for
from aisix_common.errors import ConfigurationError
from aisix_common.service import Lifecycle
from aisix_common.settings import Settings
from aisix_common.settings.loader import build
from aisix_common.tasks import TaskOwner


def settings(folder: Path, **managed: Any) -> Settings:
    places = {"mtls_dir": str(folder / "mtls"), "dp_id_file": str(folder / "dp_id")}
    document = {
        "etcd": {"endpoints": ["127.0.0.1:1"]},
        "proxy": {"addr": "127.0.0.1:0"},
        "managed": {
            "enabled": True,
            "cp_base_url": "https://127.0.0.1:1",
            "metrics_addr": "127.0.0.1:0",
            **places,
            **managed,
        },
        "admin": {"enabled": False},
    }
    return build(document, {}).settings


async def built(wanted: Settings) -> dict[str, Any]:
    """What `/status/cloud` says of an agent that has just begun, with neither etcd nor Cloud to be reached."""
    async with AsyncExitStack() as stack, TaskOwner() as tasks:
        listeners = await build_for(wanted, {})(stack, Lifecycle(), tasks)
        assert [listener.name for listener in listeners] == ["metrics"]
        assert listeners[0].metrics is not None
        names = {family.name for family in listeners[0].metrics.collect()}
        assert {"aisix_cloud_leading", "aisix_cloud_connected", "aisix_cloud_heartbeats_total"} <= names
        server = listeners[0].make()
        loop = asyncio.get_running_loop()
        sockets = await loop.create_server(server, "127.0.0.1", 0)
        try:
            port = sockets.sockets[0].getsockname()[1]
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://127.0.0.1:{port}/status/cloud") as status,
                http.get(f"http://127.0.0.1:{port}/readyz") as ready,
            ):
                assert ready.status == 503
                document: dict[str, Any] = json.decode(await status.read())
                return document
        finally:
            sockets.close()
            await server.shutdown()


async def test_everything_is_shown_before_there_is_anything(tmp_path: Path) -> None:
    token = {"token": "one-time", "ca_pin": "0" * 64}
    shown = await built(settings(tmp_path, bootstrap=token))
    assert shown["leading"] is False
    assert set(shown) >= {"certificate", "projection", "heartbeats", "usage", "budgets", "epoch"}
    assert "one-time" not in str(shown)


async def test_without_any_certificate_it_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"bootstrap\.token"):
        await built(settings(tmp_path))


def test_it_is_for_managed_mode_only(tmp_path: Path) -> None:
    wanted = build(
        {"etcd": {"endpoints": ["127.0.0.1:1"]}, "proxy": {"addr": "127.0.0.1:0"}, "admin": {"enabled": False}}, {}
    )
    with pytest.raises(ConfigurationError, match=r"managed\.enabled: is false"):
        build_for(wanted.settings, {})
