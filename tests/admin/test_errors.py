"""Every refusal has its own status, and what it says names places and rules."""

from collections.abc import Iterator

import pytest

from aisix_admin import errors
from aisix_admin.errors import (
    MOST_PROBLEMS,
    MOST_USERS,
    AdminError,
    Busy,
    CallerError,
    Conflict,
    FileManaged,
    Forbidden,
    InUse,
    Invalid,
    NoKeyring,
    PreconditionFailed,
    StoreTroubleError,
    TooLarge,
    Undecodable,
    Unknown,
    WrongKeyring,
    WrongMethod,
)
from aisix_common.errors import Problem


def tree(kind: type[AdminError]) -> Iterator[type[AdminError]]:
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield one
            yield from tree(one)


def test_blame_is_in_the_class() -> None:
    for one in tree(AdminError):
        if one not in (CallerError, StoreTroubleError):
            assert issubclass(one, CallerError) is (400 <= one.status < 500), one
        assert one.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Forbidden(), 403, "this admin key may only read"),
        (Unknown(), 404, "resource not found"),
        (WrongMethod(["GET", "HEAD"]), 405, "this path takes GET,HEAD"),
        (Conflict("models", "gpt"), 409, 'name "gpt" already in use by another resource'),
        (Conflict("api_keys", "h" * 64), 409, "this key already in use by another resource"),
        (FileManaged("/etc/r.yaml"), 409, "resources are file-managed: they come from /etc/r.yaml; edit the file"),
        (WrongKeyring("its keys are others"), 409, "nothing was written, because the keyring of this service is not"),
        (PreconditionFailed(None), 412, "there is no such resource"),
        (PreconditionFailed(7), 412, "it is at revision 7 now"),
        (TooLarge("this is too much"), 413, "this is too much"),
        (Undecodable("models", Problem("", "no JSON")), 500, "this row of models in etcd is not a valid document"),
        (Busy(), 503, "nothing was written"),
    ],
)
def test_statuses_and_messages(error: AdminError, status: int, message: str) -> None:
    assert error.status == status
    assert message in error.message == str(error)
    assert error.problems == ()


def test_all_problems_and_the_first_as_the_message() -> None:
    error = Invalid.schema([Problem("", "must be an object"), Problem("/a", "unknown field")])
    assert error.message == "schema validation failed at /: must be an object"
    assert [problem.path for problem in error.problems] == ["", "/a"]


def test_a_million_problems_are_told_up_to_a_number() -> None:
    error = Invalid.schema([Problem(f"/{n}", "wrong") for n in range(MOST_PROBLEMS + 5)])
    assert len(error.problems) == MOST_PROBLEMS + 1 and error.problems[-1].reason == "and 5 more"


def test_a_conflict_knows_who_wanted_the_name_and_repeats_no_long_one() -> None:
    error = Conflict("models", "n" * 5000, "1")
    assert (error.kind, error.id, error.name) == ("models", "1", "n" * 5000)
    assert len(error.message) < 200


def test_who_uses_a_resource_is_told_up_to_a_number() -> None:
    error = InUse([("models", "1", "gpt"), ("guardrail_attachments", "2", None)])
    assert error.message.startswith('in use by models 1 ("gpt"), guardrail_attachments 2: change or delete those first')
    many = InUse([("models", str(n), "x" * 5000) for n in range(MOST_USERS + 5)])
    assert len(many.problems) == MOST_USERS + 1
    assert many.problems[-1].reason == "and 5 more"
    assert "x" * 129 not in many.message


def test_what_cannot_be_encrypted_is_named_with_the_way_out() -> None:
    error = NoKeyring(["/api_key", "/request/default_headers/x"])
    assert error.status == 409 and [problem.path for problem in error.problems] == [
        "/api_key",
        "/request/default_headers/x",
    ]
    for word in ("/api_key, /request/default_headers/x", "secrets.keyring", "secrets.allow_plaintext"):
        assert word in error.message
    many = NoKeyring([f"/{n}" for n in range(MOST_USERS + 5)])
    assert "/20" not in many.message and len(many.problems) == MOST_USERS + 5
