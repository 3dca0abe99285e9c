"""Whether a certificate leads to an authority we were given. Pure: the time comes in as an argument.

By hand and not by `cryptography.x509.verification`: that holds to the Web PKI's profile, which a private authority need
not (Ed25519 keys, roots of version 1, no key identifiers), and a sound bundle that is refused takes a gateway off its
Cloud. This check guards against mix-ups; the Cloud's own handshake decides whom it lets in.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for certificates and keys that it cannot read, sooner or later."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def chain_problem(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], at: datetime
) -> str | None:
    """Why no chain leads from `leaf` over any of `others`, in any order, to one of `trusted`; None where one does.

    Every certificate above the leaf must be valid `at` that time and be allowed to sign; the leaf's dates are not
    looked at. The text is for operators.
    """
    reason = f"nothing given signed it, it was issued by {name_of(leaf.issuer)}"
    reached, rest, below = [leaf], list(others), 0
    while reached:  # breadth first: each intermediate is met where the fewest stand below it
        for authority in trusted:
            if any(_signed(certificate, authority) for certificate in reached):
                why = _unfit(authority, at, below, anchor=True)
                if why is None:
                    return None
                reason = why
        above = [other for other in rest if any(_signed(certificate, other) for certificate in reached)]
        rest = [other for other in rest if other not in above]
        reached = []
        for other in above:
            why = _unfit(other, at, below, anchor=False)
            if why is None:
                reached.append(other)
                why = f"nothing given signed {name_of(other.subject)}, it was issued by {name_of(other.issuer)}"
            reason = why
        below += 1
    return reason


def extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """An extension of a certificate; None where it has none. Raises one of UNREADABLE."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def name_of(name: x509.Name) -> str:
    """A certificate's name for a message: bounded, in ASCII."""
    text = name.rfc4514_string()
    return ascii(text[:100])[1:-1] if text else "(no name)"


def date(moment: datetime) -> str:
    """A time for a message."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def _unfit(authority: x509.Certificate, at: datetime, below: int, *, anchor: bool) -> str | None:
    """Why this certificate must not sign with `below` intermediates between it and the leaf."""
    who = f"the authority {name_of(authority.subject)} that signed it"
    try:
        constraints, usage = extension(authority, x509.BasicConstraints), extension(authority, x509.KeyUsage)
    except UNREADABLE:
        return f"{who} has extensions that cannot be read"
    if at > authority.not_valid_after_utc:
        return f"{who} has expired ({date(authority.not_valid_after_utc)})"
    if at < authority.not_valid_before_utc:
        return f"{who} is not valid before {date(authority.not_valid_before_utc)}"
    if anchor and authority.version is x509.Version.v1:  # it knows no extensions; such roots are still about
        return None
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        return f"{who} is no certificate authority"
    if constraints.path_length is not None and below > constraints.path_length:
        return f"{who} allows {constraints.path_length} intermediates below it, there are {below}"
    return None
