"""Probe answers, character by character (control-plane 7)."""

import pytest

from aisix_common.probes import HEADERS, livez, readyz


def test_short_answers() -> None:
    assert (livez(draining=False).status, livez(draining=False).body) == (200, "ok")
    ready = readyz(draining=False, applied=True)
    assert (ready.status, ready.body) == (200, "ok")


def test_verbose_answers_list_every_check() -> None:
    assert livez(draining=False, verbose=True).body == "[+]ping ok\n[+]shutdown ok\nlivez check passed\n"
    assert (
        readyz(draining=False, applied=True, verbose=True).body == "[+]shutdown ok\n[+]config ok\nreadyz check passed\n"
    )


@pytest.mark.parametrize("verbose", [True, False])
def test_failures_are_always_verbose_and_end_without_a_newline(verbose: bool) -> None:
    live = livez(draining=True, verbose=verbose)
    assert (live.status, live.body) == (
        503,
        "[+]ping ok\n[-]shutdown failed: reason withheld\nlivez check failed",
    )
    draining = readyz(draining=True, applied=True, verbose=verbose)
    assert (draining.status, draining.body) == (
        503,
        "[-]shutdown failed: draining\n[+]config ok\nreadyz check failed",
    )
    fresh = readyz(draining=False, applied=False, verbose=verbose)
    assert (fresh.status, fresh.body) == (
        503,
        "[+]shutdown ok\n[-]config failed: not ready\nreadyz check failed",
    )


def test_headers() -> None:
    assert HEADERS == {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
