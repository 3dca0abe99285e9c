"""What is told of events that are given up."""

from typing import cast

import structlog

from aisix_cloud_agent.usage.metrics import WHY, Drops, OutboxMetrics
from aisix_common.logs import Logger
from aisix_common.metrics import Metrics


def test_drops_are_all_counted_and_told_once_a_minute_for_each_reason() -> None:
    metrics, now, lines = OutboxMetrics(Metrics()), [0.0], structlog.testing.LogCapture()
    log = cast("Logger", structlog.wrap_logger(None, processors=[lines]))
    drops = Drops(metrics, log, lambda: now[0])
    drops.add("refused", [f"r-{n}" for n in range(50)], 50)
    drops.add("refused", ["r-50"], 1)
    drops.add("damaged", (), 1)
    now[0] = 59
    drops.add("refused", ["r-51"], 1)
    now[0] = 60
    drops.add("refused", ["r-52"], 1)
    assert metrics.drops["refused"].value == 53
    assert [(line["reason"], line["events"]) for line in lines.entries] == [
        (WHY["refused"], 50),
        (WHY["damaged"], 1),
        (WHY["refused"], 3),
    ]
    assert lines.entries[0]["request_ids"] == [f"r-{n}" for n in range(20)]
    assert lines.entries[2]["request_ids"] == ["r-52"]
