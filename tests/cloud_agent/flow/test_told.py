"""Trouble is told once, and its end."""

from typing import cast

import structlog

from aisix_cloud_agent.flow.told import Told
from aisix_common.logs import Logger


def test_trouble_is_told_once_until_it_is_over() -> None:
    lines = structlog.testing.LogCapture()
    told = Told(cast("Logger", structlog.wrap_logger(None, processors=[lines])), "away", "there again")
    told.ended()
    assert told.trouble == ""
    for reason in ("refused", "silent"):
        told.began(reason)
        assert told.trouble == reason
    told.ended()
    told.ended()
    assert told.trouble == ""
    assert [(line["event"], line.get("error")) for line in lines.entries] == [
        ("away", "refused"),
        ("there again", None),
    ]
