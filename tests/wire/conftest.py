"""Golden files: compared, or written where `--update-golden` is given."""

from collections.abc import Callable
from pathlib import Path

import pytest

Golden = Callable[[Path, str], None]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(path, text)` asserts that the file holds `text`; with `--update-golden` it writes it first."""
    update = request.config.getoption("--update-golden", default=False)

    def check(path: Path, text: str) -> None:
        if update:
            path.write_text(text, newline="")
        assert path.read_text() == text, f"{path} differs; if the change is meant: make golden"

    return check
