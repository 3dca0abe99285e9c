"""The gateway's static configuration (`config.yaml` and `AISIX_*`): `load` gives `Loaded`, which holds `Settings`.

`values` vocabulary, `listeners storage outbound observability control schema` the sections, `sources` files and
environment, `walker` documents to values, `rules` what fields must agree on, `loader` the way through all of them,
`files` whether TLS files can be read, `reference` the page made from the sections' docstrings.
"""

from .control import Managed, Secrets
from .listeners import Admin, Downstream, ListenerTls, Proxy, Shutdown
from .loader import Loaded, load
from .observability import Observability
from .outbound import ClientTls, Upstream
from .schema import Settings
from .storage import Cache, Etcd, EtcdTls, RateLimit
from .values import Address

__all__ = [
    "Address",
    "Admin",
    "Cache",
    "ClientTls",
    "Downstream",
    "Etcd",
    "EtcdTls",
    "ListenerTls",
    "Loaded",
    "Managed",
    "Observability",
    "Proxy",
    "RateLimit",
    "Secrets",
    "Settings",
    "Shutdown",
    "Upstream",
    "load",
]
