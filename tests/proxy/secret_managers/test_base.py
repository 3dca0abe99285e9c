"""Which failures take a value away that was had before, and which do not."""

import pytest

from aisix_common.secret import Secret
from aisix_proxy.secret_managers.base import Away, Fetched, NoSuchSecret, Refused, Unresolved, Unusable


@pytest.mark.parametrize(("kind", "good"), [(NoSuchSecret, False), (Unusable, False), (Refused, True), (Away, True)])
def test_what_is_kept(kind: type[Unresolved], good: bool) -> None:
    assert kind.stays_good is good
    assert str(kind("why not")) == "why not"


def test_what_was_fetched_is_not_shown() -> None:
    assert "sk-1" not in repr(Fetched(Secret("sk-1"), 60))
