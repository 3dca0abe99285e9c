"""The strict check: what a writer of resources does with a document before it is stored (control-plane 3.0)."""

from typing import Any

import msgspec

from .flaw import Flaw, Refused
from .kind import Kind, Resource
from .reading import one_spelling
from .sensitive import conceal
from .walker import walk


def check(kind: Kind[Resource], document: Any) -> Resource:
    """The typed resource of `document` (made of JSON types), normalised.

    Raises Refused with every flaw found: unknown fields, types, bounds, and knobs that would do nothing. Rules between
    fields are looked at once the fields themselves are sound.
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
    flaws = kind.rules(value, True)
    if flaws:
        raise Refused(kind.type_name, flaws)
    return kind.settle(value)[0]
