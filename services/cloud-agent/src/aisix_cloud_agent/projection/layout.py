"""Where a row of the Cloud lies locally. Pure.

The Cloud holds `/aisix/<env_id>/<kind>/<id>`, and kinds of ours under `/ext/aisix/<env_id>/`. Locally they lie under
the roots that the gateway reads: `/aisix` and `/ext/aisix`, or those with the environment's id where `etcd.env_id` is
set.
"""

import re
from dataclasses import dataclass
from typing import Final

CLOUD_ROOT: Final = "/aisix"
CLOUD_EXT_ROOT: Final = "/ext/aisix"
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
SHOWN_CHARACTERS: Final = 256
"""Characters of a key that are shown."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place for a row: its local key, and what it is."""

    key: str
    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A row of the Cloud that is not projected. `reason` is for operators and holds no value of the row."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The roots, without trailing slash: `settings.etcd.resource_root`, `.ext_root` and `.run_root`."""

    env_id: str
    """The environment that is projected."""
    resources: str = "/aisix"
    ext: str = "/ext/aisix"
    run: str = "/run/aisix"
    external: bool = True
    """Whether the Cloud serves the ext root. Where not, the local one is none of the agent's business."""

    @property
    def cloud_prefixes(self) -> tuple[str, ...]:
        """What is to be listed and watched in the Cloud, and nothing else."""
        prefixes = (f"{CLOUD_ROOT}/{self.env_id}/", f"{CLOUD_EXT_ROOT}/{self.env_id}/")
        return prefixes if self.external else prefixes[:1]

    @property
    def local_prefixes(self) -> tuple[str, ...]:
        """Where the rows of those lie here, in the same order."""
        prefixes = (f"{self.resources}/", f"{self.ext}/")
        return prefixes if self.external else prefixes[:1]

    def spot(self, key: str) -> Spot | Refused:
        """The local place of the Cloud's row `key`.

        A kind that looks like an environment's id is refused: below a local root without one, its rows would be those
        of a gateway of that environment.
        """
        for cloud, local in zip(self.cloud_prefixes, self.local_prefixes, strict=True):
            if key.startswith(cloud):
                rest = key[len(cloud) :]
                kind, _, id = rest.partition("/")
                if not kind or not id:
                    return Refused(key[:SHOWN_CHARACTERS], f"its key is not {cloud}<kind>/<id>")
                if _UUID.fullmatch(kind):
                    return Refused(key[:SHOWN_CHARACTERS], "where its kind should stand is the id of an environment")
                return Spot(local + rest, kind, id)
        return Refused(key[:SHOWN_CHARACTERS], f"its key is not under {' or '.join(self.cloud_prefixes)}")

    def is_ours(self, key: str) -> bool:
        """Whether a projection answers for the local row `key`: for all under the local roots, but for those of other
        environments that keep their id in the key."""
        for prefix in self.local_prefixes:
            if key.startswith(prefix):
                return _UUID.fullmatch(key[len(prefix) :].partition("/")[0]) is None
        return False
