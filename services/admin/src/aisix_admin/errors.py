"""Everything the admin API refuses, with the HTTP status on the class. Only `api/edge.py` turns it into an answer.

    AdminError
      CallerError
        Unauthenticated       401
        Forbidden             403   a viewer's key
        Unknown               404   no such resource
        NoSuchPath            404   no such route
        WrongMethod           405
        TooSlow               408
        Conflict              409   the name is in use
        InUse                 409   others refer to the resource
        FileManaged           409   resources come from a file
        NoKeyring             409   a secret would be stored in clear
        WrongKeyring          409   stored secrets are under other keys than ours
        PreconditionFailed    412   If-Match or If-None-Match does not hold
        TooLarge              413
        WrongMediaType        415
        UnmetExpectation      417
        HungUp                499   nobody reads the answer; it is for the log and the count
        Invalid               400   the document, or what stands around it; lists all problems
        BrokenBody            400   the body cannot be read to its end; the connection is of no more use
      StoreTroubleError
        Undecodable           500   the row in etcd is not a document of its kind
        Busy                  503   others kept writing: try again
        StoreAway             503   etcd cannot be asked

No message carries a value of a document, a secret or an address of etcd: path and rule only.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

from aisix_common.errors import AisixError, Problem
from aisix_common.resources import API_KEYS

MOST_USERS: Final = 20
"""Resources that are named when one is in use."""
MOST_PROBLEMS: Final = 2000
"""Problems that are told: a small body has room for a million, whose list would be a hundred times its size."""


class AdminError(AisixError):
    """Root. `problems` is empty where there is one thing to say and the message says it."""

    status: ClassVar[int] = 500

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems[:MOST_PROBLEMS])
        if len(problems) > MOST_PROBLEMS:
            self.problems += (Problem("", f"and {len(problems) - MOST_PROBLEMS} more"),)
        super().__init__(message)


class CallerError(AdminError):
    """The request cannot be done as it was sent."""

    status = 400


class Unauthenticated(CallerError):
    """No admin key, or not one of ours: one text for all cases, so that nothing can be learnt from it."""

    status = 401

    def __init__(self) -> None:
        super().__init__("missing or malformed admin authorization")


class Forbidden(CallerError):
    """The key is a viewer's."""

    status = 403

    def __init__(self) -> None:
        super().__init__("this admin key may only read: use one with the role admin")


class Unknown(CallerError):
    """There is no resource with this id."""

    status = 404

    def __init__(self) -> None:
        super().__init__("resource not found")


class NoSuchPath(CallerError):
    """No route has this path."""

    status = 404

    def __init__(self) -> None:
        super().__init__("there is nothing at this path: GET /admin/openapi.json lists what there is")


class WrongMethod(CallerError):
    """The path exists, the method does not. `allowed` is the Allow header's value."""

    status = 405

    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = ",".join(allowed)
        super().__init__(f"this path takes {self.allowed}")


class Conflict(CallerError):
    """The name is in use by another resource. A key's hash is not repeated, and a name only as far as it is short.

    `kind` and `id` are those of the row that wanted the name.
    """

    status = 409

    def __init__(self, kind: str, name: str, id: str = "") -> None:
        self.kind = kind
        self.name = name
        self.id = id
        what = "this key" if kind == API_KEYS.name else f'name "{name[:128]}"'
        super().__init__(f"{what} already in use by another resource")


class InUse(CallerError):
    """Other resources refer to this one. `users` are (kind, id, label)."""

    status = 409

    def __init__(self, users: Sequence[tuple[str, str, str | None]]) -> None:
        shown = [Problem("", _user(*each)) for each in users[:MOST_USERS]]
        if len(users) > MOST_USERS:
            shown.append(Problem("", f"and {len(users) - MOST_USERS} more"))
        super().__init__(
            f"in use by {', '.join(problem.reason for problem in shown)}: change or delete those first, "
            "or send the request with ?force=true",
            shown,
        )


class FileManaged(CallerError):
    """Resources come from a file, and what was asked for lives in etcd only."""

    status = 409

    def __init__(self, path: str, instead: str = "edit the file and send SIGHUP to the gateway") -> None:
        super().__init__(f"resources are file-managed: they come from {path}; {instead}")


class NoKeyring(CallerError):
    """Secrets would have to be stored in clear, which nobody has allowed. `paths` are their JSON pointers."""

    status = 409

    def __init__(self, paths: Sequence[str]) -> None:
        shown = [Problem(path, "is a secret, and there is no key to encrypt it with") for path in paths]
        named = ", ".join(problem.path for problem in shown[:MOST_USERS]) + (", ..." if len(paths) > MOST_USERS else "")
        super().__init__(
            f"there is no keyring to encrypt {named} with: set secrets.keyring (`aisix secrets generate-key` makes a "
            "key), or secrets.allow_plaintext to store secrets unencrypted; a secret reference needs neither",
            shown,
        )


class WrongKeyring(CallerError):
    """The secrets in etcd are under keys that this service does not have: what it encrypted, nobody could open.

    `reason` says what does not fit.
    """

    status = 409

    def __init__(self, reason: str) -> None:
        super().__init__(f"nothing was written, because the keyring of this service is not the gateway's: {reason}")


class PreconditionFailed(CallerError):
    """The row is not the one the client decided on. `revision` is the one it has now, None: there is no row."""

    status = 412

    def __init__(self, revision: int | None) -> None:
        self.revision = revision
        now = "there is no such resource" if revision is None else f"it is at revision {revision} now"
        super().__init__(f"the condition of the request does not hold: {now}; read it and decide again")


class TooSlow(CallerError):
    """The body did not arrive in time."""

    status = 408

    def __init__(self) -> None:
        super().__init__("the body of the request did not arrive in time")


class TooLarge(CallerError):
    """The body is over the limit."""

    status = 413


class WrongMediaType(CallerError):
    """The body is not declared as JSON, or is encoded."""

    status = 415


class UnmetExpectation(CallerError):
    """An `Expect` that we do not know. Its value is not repeated."""

    status = 417

    def __init__(self) -> None:
        super().__init__("only `Expect: 100-continue` can be met")


class HungUp(CallerError):
    """The client went away before its body was there."""

    status = 499

    def __init__(self) -> None:
        super().__init__("the client closed the connection before the body of its request was there")


class BrokenBody(CallerError):
    """The framing of the body is broken."""

    def __init__(self) -> None:
        super().__init__("the body of the request is not framed as HTTP/1.1 asks for")


class Invalid(CallerError):
    """The document breaks rules."""

    @classmethod
    def schema(cls, problems: Sequence[Problem]) -> "Invalid":
        """All problems of a document; their paths are JSON pointers (RFC 6901), the first makes the message."""
        first = problems[0]
        return cls(f"schema validation failed at {first.path or '/'}: {first.reason}", problems)


class StoreTroubleError(AdminError):
    """etcd, or what lies in it, stands in the way."""


class Undecodable(StoreTroubleError):
    """The row exists and is not a document of its kind."""

    def __init__(self, kind: str, problem: Problem) -> None:
        super().__init__(
            f"this row of {kind} in etcd is not a valid document ({problem}): replace it with PUT, or delete it",
        )


class Busy(StoreTroubleError):
    """The row or its kind changed under every attempt."""

    status = 503

    def __init__(self) -> None:
        super().__init__("others kept writing resources of this kind; nothing was written: send the request again")


class StoreAway(StoreTroubleError):
    """etcd cannot be asked right now, or refuses us."""

    status = 503


def _user(kind: str, id: str, label: str | None) -> str:
    return f"{kind} {id}" if label is None else f'{kind} {id} ("{label[:128]}")'
