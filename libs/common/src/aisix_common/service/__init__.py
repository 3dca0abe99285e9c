"""The kit every service is made of: `run_service` drives, `Lifecycle` is what it knows, `Listener` what it opens.

`lifecycle` and `headers` values, `listener` sockets and TLS, `pages` the metrics and status pages, `run` the frame.
Knows nothing of endpoints, resources or etcd.
"""

from .headers import CALL_ID, REQUEST_ID, SERVER, acceptable_request_id, chosen_request_id, new_request_id
from .lifecycle import Lifecycle
from .listener import Connections, Listener
from .pages import Page, metrics_listener, serve_pages
from .run import Build, run_service

__all__ = [
    "CALL_ID",
    "REQUEST_ID",
    "SERVER",
    "Build",
    "Connections",
    "Lifecycle",
    "Listener",
    "Page",
    "acceptable_request_id",
    "chosen_request_id",
    "metrics_listener",
    "new_request_id",
    "run_service",
    "serve_pages",
]
