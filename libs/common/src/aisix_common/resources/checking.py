"""The strict check: what a writer of resources does with a document before it is stored (control-plane 3.0)."""

from typing import Any, Final

import msgspec

from .concealed import embedded_in
from .flaw import Flaw, Refused
from .kind import Kind, Resource
from .reading import one_spelling
from .sensitive import conceal
from .walker import walk

_EMBEDDED: Final = (
    "holds a secret reference as a part of it, which nothing resolves: the reference must be all of the value"
)


def check(kind: Kind[Resource], document: Any) -> Resource:
    """The typed resource of `document` (made of JSON types), normalised.

    Raises Refused with every flaw found: unknown fields, types, bounds, and knobs that would do nothing. Rules between
    fields are looked at once the fields themselves are sound. A secret reference is a value of its own, or a mistake.
    """
    document, flaw = one_spelling(kind, document)
    if flaw:
        raise Refused(kind.type_name, [flaw])
    findings = walk(kind.struct, document, strict=True, nulls=kind.nulls)
    if findings.flaws:
        raise Refused(kind.type_name, findings.flaws)
    try:
        value = msgspec.convert(findings.cleaned, kind.struct, dec_hook=conceal)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        raise Refused(kind.type_name, [Flaw((), "not readable as this kind", "parse")]) from None
    flaws = [*kind.rules(value, True), *(Flaw(at, _EMBEDDED) for at in embedded_in(value))]
    if flaws:
        raise Refused(kind.type_name, flaws)
    return kind.settle(value)[0]
