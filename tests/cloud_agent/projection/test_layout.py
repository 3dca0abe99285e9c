"""Where rows of the Cloud lie locally, and which never do."""

import pytest

from aisix_cloud_agent.projection.layout import Layout, Refused, Spot

from tests.cloud_agent.local_etcd import ENV, LAYOUT, OTHER_ENV

KEPT = Layout(ENV, f"/gw/{ENV}", f"/ext/gw/{ENV}", f"/run/gw/{ENV}")
NO_EXT = Layout(ENV, external=False)

PLACES = [
    (LAYOUT, f"/aisix/{ENV}/models/m", Spot("/aisix/models/m", "models", "m")),
    (LAYOUT, f"/aisix/{ENV}/models/a/b/c", Spot("/aisix/models/a/b/c", "models", "a/b/c")),
    (LAYOUT, f"/aisix/{ENV}/future_kind/x", Spot("/aisix/future_kind/x", "future_kind", "x")),
    (LAYOUT, f"/ext/aisix/{ENV}/ssls/s", Spot("/ext/aisix/ssls/s", "ssls", "s")),
    (KEPT, f"/aisix/{ENV}/models/m", Spot(f"/gw/{ENV}/models/m", "models", "m")),
    (KEPT, f"/ext/aisix/{ENV}/ssls/s", Spot(f"/ext/gw/{ENV}/ssls/s", "ssls", "s")),
]


@pytest.mark.parametrize(("layout", "key", "spot"), PLACES)
def test_places(layout: Layout, key: str, spot: Spot) -> None:
    assert layout.spot(key) == spot


REFUSED = [
    (LAYOUT, f"/aisix/{OTHER_ENV}/models/m"),
    (LAYOUT, f"/ext/aisix/{OTHER_ENV}/ssls/m"),
    (LAYOUT, f"/aisix/{ENV}x/models/m"),
    (LAYOUT, f"/aisix/{ENV}"),
    (LAYOUT, f"/aisix/{ENV}/"),
    (LAYOUT, f"/aisix/{ENV}/models"),
    (LAYOUT, f"/aisix/{ENV}/models/"),
    (LAYOUT, f"/aisix/{ENV}//m"),
    (LAYOUT, "/aisix/models/m"),
    (LAYOUT, ""),
    (LAYOUT, f"/aisix/{ENV}/{OTHER_ENV}/models/m"),
    (LAYOUT, f"/run/aisix/{ENV}/projection/x"),
    (NO_EXT, f"/ext/aisix/{ENV}/ssls/s"),
]


@pytest.mark.parametrize(("layout", "key"), REFUSED)
def test_keys_that_are_none_of_this_environment(layout: Layout, key: str) -> None:
    refused = layout.spot(key)
    assert isinstance(refused, Refused)
    assert refused.key == key
    assert refused.reason


def test_absurd_keys_are_shown_in_part() -> None:
    refused = LAYOUT.spot("/" + "x" * 10_000)
    assert isinstance(refused, Refused)
    assert len(refused.key) == 256


def test_only_the_environment_is_asked_for() -> None:
    assert LAYOUT.cloud_prefixes == (f"/aisix/{ENV}/", f"/ext/aisix/{ENV}/")
    assert LAYOUT.local_prefixes == ("/aisix/", "/ext/aisix/")
    assert NO_EXT.cloud_prefixes == (f"/aisix/{ENV}/",)
    assert NO_EXT.local_prefixes == ("/aisix/",)


def test_rows_of_others_below_the_local_roots_are_not_ours() -> None:
    keys = {
        "/aisix/models/m": True,
        "/aisix/stray": True,
        "/ext/aisix/secret_providers/v": True,
        f"/aisix/{OTHER_ENV}/models/m": False,
        f"/ext/aisix/{OTHER_ENV}/ssls/m": False,
        "/aisix-sibling/models/m": False,
        "/run/aisix/projection": False,
    }
    assert {key: LAYOUT.is_ours(key) for key in keys} == keys
    assert [key for key in keys if NO_EXT.is_ours(key)] == ["/aisix/models/m", "/aisix/stray"]
