"""What a worker process is told by its parent, and where its listeners go because of it."""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from ..service import Listener
from ..settings import Address

VARIABLE: Final = "AISIX_INTERNAL_WORKER"
"""Environment variable that makes a process a worker; only its parent sets it."""


class Place(msgspec.Struct, frozen=True):
    """One worker's place in the fleet."""

    index: int
    """From 0."""
    addresses: Mapping[str, Address]
    """By setting: the addresses that are shared, with their final ports."""
    directory: str
    """Private folder of the fleet's sockets."""

    @property
    def socket(self) -> Path:
        """Where this worker answers its parent."""
        return Path(self.directory) / f"worker-{self.index}.sock"

    def listeners(self, listeners: Sequence[Listener]) -> list[Listener]:
        """The listeners of the service as this worker opens them: shared ones on the shared port, the one its parent
        aggregates on the private socket, others not at all."""
        placed: list[Listener] = []
        for listener in listeners:
            if listener.behind is not None:
                placed.append(replace(listener, make=listener.behind, path=self.socket, tls=None))
            elif listener.shared:
                placed.append(replace(listener, address=self.addresses[listener.setting], reuse_port=True))
        return placed

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """`environ` for the process that takes this place."""
        return {**environ, VARIABLE: msgspec.json.encode(self).decode()}


def take_place(environ: MutableMapping[str, str]) -> Place | None:
    """The place this process was started for, taken out of `environ`; None in a process that is no worker."""
    text = environ.pop(VARIABLE, None)
    return None if text is None else msgspec.json.decode(text, type=Place)
