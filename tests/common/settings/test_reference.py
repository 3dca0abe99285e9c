"""The page says everything there is, and the committed one is today's."""

from pathlib import Path

import msgspec
import pytest

from aisix_common.settings import Settings
from aisix_common.settings.reference import _docstrings, _sections, is_current, paths, render
from aisix_common.settings.values import Section
from aisix_common.settings.walker import leaves, shape

_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "configuration.md"


def test_the_committed_page_is_current() -> None:
    assert is_current(_PAGE.read_text()), (
        "run: python -m aisix_common.settings.reference > docs/reference/configuration.md"
    )
    assert not is_current(_PAGE.read_text() + "x")


def test_every_setting_is_on_the_page() -> None:
    page = render()
    assert {path for path, _ in leaves(Settings)} <= set(paths())
    assert [path for path in paths() if f"| `{path}`" not in page] == []


@pytest.mark.parametrize("kind", sorted({kind for _, kind, _ in _sections(Settings, "", False)}, key=str))
def test_every_setting_is_explained(kind: type[Section]) -> None:
    plain = {field.name for field in msgspec.structs.fields(kind) if shape(field.type).section is None}
    assert plain <= set(_docstrings(kind))
    assert (kind.__doc__ or "").strip()


def test_units_and_marks_are_shown() -> None:
    rows = {row.split("`")[1]: row for row in render().splitlines() if row.startswith("| `")}
    assert "**required**" in rows["proxy.addr"]
    assert rows["cache.backend"].endswith("*(later)* |")
    assert rows["proxy.url_rewrites"].endswith("*(later)* |")
    assert not rows["managed.snapshot_cache_path"].endswith("*(later)* |")
    assert "`[AISIX_SECRET_*]`" in rows["secrets.env_allow"]
    assert "`AISIX_UPSTREAM__TIMEOUT_MS`" in rows["upstream.timeout_ms"]
    assert "Milliseconds" in rows["upstream.timeout_ms"]
