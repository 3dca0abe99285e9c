"""What reaches a log line is tame."""

from aisix_proxy.telemetry.access_log import AccessLog, tame

from tests.support.builders import Lines


def test_tame() -> None:
    assert tame("a\r\nb\x00c\u2028d\x9be") == "abcde"
    assert len(tame("x" * 10_000)) == 2048


def test_lines_are_handed_over_as_they_are() -> None:
    lines = Lines()
    AccessLog(lines, enabled=True).write({"a": 1})
    assert lines == [{"a": 1}]
