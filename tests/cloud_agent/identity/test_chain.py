"""Which certificates lead to an authority: chains of every shape, and what is said of those that do not hold."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from aisix_cloud_agent.identity.chain import chain_problem

from tests.cloud_agent.issuing import NOW, Authority, Key, authority, cloud, leaf

MIDDLE = authority("Middle", by=cloud())
LOWER = authority("Lower", by=MIDDLE)


def problem(by: Authority, others: tuple[Authority, ...] = (), trusted: tuple[Authority, ...] = (cloud(),)) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    found = chain_problem(
        leaf(by, key.public_key()), [o.certificate for o in others], [t.certificate for t in trusted], NOW
    )
    return found or ""


@pytest.mark.parametrize(
    ("by", "others", "trusted"),
    [
        (cloud(), (), (cloud(),)),
        (cloud(), (), (cloud("Another"), cloud())),
        (MIDDLE, (MIDDLE,), (cloud(),)),
        (MIDDLE, (), (MIDDLE,)),
        (LOWER, (LOWER, MIDDLE), (cloud(),)),
        (LOWER, (cloud("Another"), MIDDLE, LOWER), (cloud(),)),
        (LOWER, (MIDDLE, LOWER, cloud()), (cloud(),)),
    ],
    ids=["root", "one-of-two-roots", "intermediate", "trusted-intermediate", "two", "any-order", "root-sent-too"],
)
def test_leads(by: Authority, others: tuple[Authority, ...], trusted: tuple[Authority, ...]) -> None:
    assert problem(by, others, trusted) == ""


KEYS: dict[str, Callable[[], Key]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
}


@pytest.mark.parametrize("kind", KEYS)
def test_roots_of_any_kind(kind: str) -> None:
    root = authority("Kind", key=KEYS[kind](), usage=True)
    assert problem(root, trusted=(root,)) == ""


def test_a_namesake_is_not_the_authority() -> None:
    assert "nothing given signed it, it was issued by CN=Cloud CA" in problem(authority("Cloud CA"))


def test_a_gap_is_named() -> None:
    assert "nothing given signed CN=Lower, it was issued by CN=Middle" in problem(LOWER, (LOWER,))


def test_a_root_that_only_came_along_is_not_trusted() -> None:
    stranger = authority("Stranger")
    assert "nothing given signed CN=Stranger" in problem(stranger, (stranger,))


UNFIT = [
    (authority("Old", days=(-900, -1)), "has expired (2026-06-14 12:00:00Z)"),
    (authority("New", days=(1, 900)), "is not valid before 2026-06-16 12:00:00Z"),
    (authority("Leaf", ca=False), "is no certificate authority"),
    (authority("Bare", ca=None), "is no certificate authority"),
    (authority("Use", usage=False), "is no certificate authority"),
]


@pytest.mark.parametrize(("root", "reason"), UNFIT, ids=lambda x: None if isinstance(x, str) else "root")
def test_an_unfit_root(root: Authority, reason: str) -> None:
    assert reason in problem(root, trusted=(root,))


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (authority("Old", by=cloud(), days=(-900, -1)), "CN=Old that signed it has expired"),
        (authority("Leaf", by=cloud(), ca=False), "CN=Leaf that signed it is no certificate authority"),
    ],
)
def test_an_unfit_intermediate(middle: Authority, reason: str) -> None:
    assert reason in problem(middle, (middle,))


def test_a_path_that_is_too_long() -> None:
    root = authority("Short", path_length=0)
    middle = authority("Under", by=root)
    assert problem(root, trusted=(root,)) == ""
    assert "allows 0 intermediates below it, there are 1" in problem(middle, (middle,), (root,))


def test_a_good_way_is_found_beside_a_bad_one() -> None:
    """The authority was issued anew with its old key: the expired certificate does not stand in the way."""
    expired = authority("Twice", by=cloud(), days=(-900, -1))
    renewed = authority("Twice", by=cloud(), key=expired.key)
    assert problem(renewed, (expired, renewed)) == ""


def test_a_crowd_that_signs_each_other_ends() -> None:
    """Every certificate is looked at once: no answer can keep us busy."""
    first = authority("Ring")
    ring = tuple(authority("Ring", by=first, key=first.key) for _ in range(20))
    assert "nothing given signed" in problem(first, ring)
