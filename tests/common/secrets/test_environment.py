"""What `$env://` reads, and what it never does."""

import pytest

from aisix_common.secrets.environment import EnvPolicy, NotReadable, member
from aisix_common.secrets.reference import EnvReference

ENVIRON = {
    "AISIX_SECRET_A": "canary-a",
    "AISIX_SECRET_A_FILE": "another",
    "AISIX_SECRET_EMPTY": "",
    "AISIX_SECRET_JSON": '{"name": "canary-json", "number": 7, "none": null, "empty": "", "deep": {"a": 1}}',
    "AISIX_SECRET_LIST": "[1]",
    "AISIX_SECRETS__KEYRING": "[]",
    "AISIX_ADMIN__ADMIN_KEYS": "canary-admin",
    "RING": "canary-keyring",
    "PATH_TO": "canary-path",
}
DEFAULT = EnvPolicy(("AISIX_SECRET_*",), ())
ALL = EnvPolicy(("*",), ("RING",))

READS = [
    (DEFAULT, EnvReference("AISIX_SECRET_A"), "canary-a"),
    (DEFAULT, EnvReference("AISIX_SECRET_JSON", "name"), "canary-json"),
    (DEFAULT, EnvReference("AISIX_SECRET_JSON", "number"), "7"),
    (DEFAULT, EnvReference("AISIX_SECRET_JSON", "deep"), '{"a":1}'),
    (DEFAULT, EnvReference("AISIX_SECRET_JSON"), ENVIRON["AISIX_SECRET_JSON"]),
    (ALL, EnvReference("PATH_TO"), "canary-path"),
]


@pytest.mark.parametrize(("policy", "reference", "text"), READS)
def test_reads(policy: EnvPolicy, reference: EnvReference, text: str) -> None:
    assert policy.read(reference, ENVIRON).reveal() == text


REFUSES = [
    (DEFAULT, EnvReference("PATH_TO"), "does not offer"),
    (DEFAULT, EnvReference("aisix_secret_a"), "own configuration"),
    (DEFAULT, EnvReference("AISIX_SECRET_"), "not set"),
    (DEFAULT, EnvReference("AISIX_SECRET_EMPTY"), "not set, or is empty"),
    (DEFAULT, EnvReference("AISIX_SECRET_GONE"), "not set"),
    (DEFAULT, EnvReference("AISIX_SECRET_A", "x"), "does not hold a JSON object"),
    (DEFAULT, EnvReference("AISIX_SECRET_JSON", "gone"), "under this key"),
    (DEFAULT, EnvReference("AISIX_SECRET_JSON", "none"), "under this key"),
    (DEFAULT, EnvReference("AISIX_SECRET_JSON", "empty"), "under this key"),
    (DEFAULT, EnvReference("AISIX_SECRET_LIST", "0"), "under this key"),
    (ALL, EnvReference("AISIX_SECRETS__KEYRING"), "own configuration"),
    (ALL, EnvReference("AISIX_ADMIN__ADMIN_KEYS"), "own configuration"),
    (ALL, EnvReference("Aisix_Admin__Admin_Keys"), "own configuration"),
    (ALL, EnvReference("RING"), "own configuration"),
    (EnvPolicy(("*",), (), enabled=False), EnvReference("PATH_TO"), "managed mode"),
    (EnvPolicy((), ()), EnvReference("AISIX_SECRET_A"), "offers none"),
]


@pytest.mark.parametrize(("policy", "reference", "reason"), REFUSES)
def test_refuses(policy: EnvPolicy, reference: EnvReference, reason: str) -> None:
    with pytest.raises(NotReadable, match=reason) as refused:
        policy.read(reference, ENVIRON)
    assert "canary" not in str(refused.value)


def test_a_name_is_exact() -> None:
    only = EnvPolicy(("FOO",), ())
    assert only.refusal("FOO") is None
    assert only.refusal("FOO_FILE") is not None
    assert only.refusal("foo") is not None


@pytest.mark.parametrize("text", ["", "canary", "[" * 5000, '{"a": "canary"', '"canary"'])
def test_no_object_has_no_members(text: str) -> None:
    with pytest.raises(NotReadable) as refused:
        member(text, "a")
    assert "canary" not in str(refused.value)
