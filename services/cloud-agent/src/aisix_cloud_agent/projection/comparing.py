"""Whether a local row is what the Cloud's row projects to: by the opened, canonical documents, since what is sealed has
a random nonce (design 9). Pure.

- A local secret that does not open counts as changed; but where the Cloud's own text stands there, nothing is gained by
  writing it again.
- A local secret that lies there in clear counts as changed, where there is a keyring.
- Under which key of the keyring a secret is sealed makes no difference: that is what `aisix secrets reencrypt` is for.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from aisix_common.resources import BY_NAME
from aisix_common.resources.flaw import Path
from aisix_common.secret import is_sealed
from aisix_common.secrets.envelope import Keyring
from aisix_common.secrets.rows import context
from aisix_common.snapshot.hashes import canonical
from aisix_common.snapshot.opening import may_be_sealed

from .layout import Spot
from .sealing import UNREADABLE, readable, spelled
from .secret_names import SHAPES, Shape


def same(spot: Spot, wanted: bytes, local: bytes, keyring: Keyring) -> bool:
    """Whether the row `local` needs no writing. `wanted` are the bytes of the Cloud's row, as `presented`."""
    equal = wanted == local or opened(spot, wanted, keyring) == opened(spot, local, keyring)
    return equal and not (keyring and readable(spot.kind, local))


def opened(spot: Spot, raw: bytes, keyring: Keyring) -> bytes:
    """The canonical document with every sealed text that opens in clear; of what is no JSON its bytes.

    Holds secrets in clear: it is compared, and never kept.
    """
    if not may_be_sealed(raw):
        return canonical(raw)
    try:
        return msgspec.json.encode(_Opening(spot, keyring).visit(msgspec.json.decode(raw), ()), order="deterministic")
    except UNREADABLE:
        return raw


class _Opening:
    def __init__(self, spot: Spot, keyring: Keyring) -> None:
        self.spot = spot
        self.kind = BY_NAME.get(spot.kind)
        self.keyring = keyring

    def visit(self, value: Any, at: Path) -> Any:
        if isinstance(value, dict):
            return {name: self.visit(item, (*at, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [self.visit(item, (*at, place)) for place, item in enumerate(value)]
        return self.text(value, at) if isinstance(value, str) and is_sealed(value) else value

    def text(self, value: str, at: Path) -> Any:
        """What was sealed, or the text where it does not open."""
        place = context(self.spot.kind, self.spot.id, spelled(self.kind, at))
        try:
            clear = self.keyring.open(value, place)
            return msgspec.json.decode(clear) if _is_json(SHAPES, at) else clear
        except UNREADABLE:  # CannotOpen is one
            return value


def _is_json(shapes: Mapping[str, Shape], at: Path) -> bool:
    """Whether a secret at this place is a JSON value, sealed as its text."""
    return len(at) > 1 and shapes.get(str(at[-2])) is Shape.VALUES
