"""`proxy.workers`: several processes on one SO_REUSEPORT port behind one metrics listener (design 10).

`place` what a worker is told by its parent, `folder` where their sockets are, `parent` starts, watches and drains them,
`scrape` asks them over private sockets, `status` merges what they answered. Knows nothing of requests or etcd.
"""

from .run import run_workers

__all__ = ["run_workers"]
