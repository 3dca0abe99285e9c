"""One row with its references resolved: the secrets that are known in, a value that may be served or the reason why not
out. Pure.

What a manager holds was written by somebody else than the row, so it is held against the rules of a row once more: a
file's line end, an empty value or another reference must not become a credential (customer-documents 6.4).
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from aisix_common.resources import Kind, Rejected
from aisix_common.resources.concealed import resolved
from aisix_common.resources.flaw import Flaw, Path
from aisix_common.secret import Secret, is_reference, is_sealed

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_STRUCTURED: Final = ("-----BEGIN", "{")
"""PEM and JSON have lines of their own."""
_SHORTEST_KEY: Final = 8
_LONGEST_KEY: Final = 4096


def unresolved(at: Path, reason: str) -> Rejected:
    """The row is out of service because of the reference at this path."""
    return Rejected("secret_unresolved", f"{Flaw(at, '').pointer} {reason}".strip())


def usable(secret: Secret, *, key: bool = False) -> Secret | str:
    """The secret as it is used, without the line end that files have; or why it cannot be used. `key`: it is what
    callers present, so it has to fit into a header, and must not be guessed."""
    text = secret.reveal()
    text = text[:-1].removesuffix("\r") if text.endswith("\n") else text
    if not text:
        return "leads to an empty secret"
    if is_reference(text) or is_sealed(text):
        return "leads to a secret that is a reference or an encrypted value itself, which is never followed"
    if key:
        return _as_key(text)
    if not text.startswith(_STRUCTURED) and _CONTROL.search(text):
        return "leads to a secret that holds a line break or control character"
    return secret if text == secret.reveal() else Secret(text)


def _as_key(text: str) -> Secret | str:
    if not (text.isascii() and text.isprintable()) or " " in text:
        return "leads to a key that is not printable ASCII without spaces: clients send it in a header"
    if not _SHORTEST_KEY <= len(text) <= _LONGEST_KEY:
        return f"leads to a key that does not have {_SHORTEST_KEY} to {_LONGEST_KEY} characters"
    return Secret(text)


def resolve(
    kind: Kind[Any], value: Any, references: Iterable[tuple[Path, str]], had: Callable[[str], Secret]
) -> Any | Rejected:
    """`value` with the secrets that `had` gives for its references' texts, or why it cannot be served with them.

    `references` are those of the value, with their paths. All of them are had. A text that stands in two places is
    judged for each.
    """
    clean: dict[str, Secret] = {}
    for at, text in references:
        judged = usable(had(text), key=at[0] in kind.resolvable)
        if isinstance(judged, str):
            return unresolved(at, judged)
        clean[text] = judged
    made = resolved(kind, value, clean.__getitem__)
    flaws = kind.rules(made, False)
    if flaws:
        return Rejected("secret_unresolved", f"with its secrets resolved: {flaws[0].text(kind.type_name)}")
    return made
