"""The gRPC channels to etcd's members: one each, the one in use is kept until it fails, then the next one's turn.

One channel per member rather than one over all: gRPC takes several addresses in one target only as bare IPs, and here
a failed call knows which member failed it. Every option has its reason beside it; they were measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import grpc
import grpc.aio

from .options import EtcdOptions, Target, targets

Argument = tuple[str, int | str]

_FIXED: Final[tuple[Argument, ...]] = (
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", -1),  # one watch message holds up to 1,000 revisions: 20 MB happens
    ("grpc.max_send_message_length", -1),  # etcd has the limit, and says so
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.lb_policy_name", "round_robin"),  # a name may stand for several addresses, some of them dead
    ("grpc.enable_http_proxy", 0),  # the environment's http_proxy is for the providers, never for etcd
    ("grpc.use_local_subchannel_pool", 1),  # two clients in one process share no connection, and no fate
    ("grpc.enable_retries", 0),  # we decide what is safe to repeat
)


@dataclass(frozen=True, slots=True)
class Link:
    """The channel to one member."""

    name: str
    channel: grpc.aio.Channel


class Links:
    """The members' channels, in the order of `options.endpoints`. Raises ConfigurationError for bad endpoints.

    Channels belong to the running loop, so they are opened at the first call. gRPC knows certificates as they were when
    a channel was opened: where a member fails, and their files have changed since, all are opened anew.
    """

    def __init__(self, options: EtcdOptions) -> None:
        self._options = options
        self._targets = targets(options)
        self._links: Sequence[Link] = ()
        self._retired: list[Link] = []
        """With certificates of before: calls in flight go on, and a channel without any rests after a while."""
        self._turn = 0
        self.closed = False

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def names(self) -> str:
        """All members, for messages."""
        return ", ".join(target.name for target in self._targets)

    def current(self) -> Link:
        """The member to talk to now. Raises RuntimeError once closed: that is a mistake of the caller."""
        if self.closed:
            raise RuntimeError("the etcd client is closed")
        if not self._links:
            self._links = tuple(self._open(target) for target in self._targets)
        return self._links[self._turn % len(self._links)]

    def failed(self, link: Link) -> None:
        """`link` did not answer: take the next one, unless somebody did so already."""
        if self._links and self._links[self._turn % len(self._links)] is link:
            self._turn += 1
            self._follow()

    def denied(self, link: Link) -> None:
        """`link` is not to blame, but the certificates may be."""
        if link in self._links:
            self._follow()

    def _follow(self) -> None:
        """Take up certificates whose files have changed."""
        old = self._options.tls
        fresh = old.again() if old is not None and old.again is not None else old
        if fresh == old:
            return
        self._options = replace(self._options, tls=fresh)
        self._retired += self._links
        self._links = tuple(self._open(target) for target in self._targets)

    async def aclose(self) -> None:
        """Close all channels; calls in flight end."""
        self.closed = True
        links, self._links, self._retired = [*self._links, *self._retired], (), []
        for link in links:
            await link.channel.close(None)

    def _open(self, target: Target) -> Link:
        arguments = channel_arguments(self._options)
        if not target.secure:
            return Link(target.name, grpc.aio.insecure_channel(target.uri, options=arguments))
        tls = self._options.tls
        name = (tls.domain_name if tls else None) or self._targets[0].host
        credentials = grpc.ssl_channel_credentials(
            root_certificates=tls.ca if tls else None,
            private_key=tls.key if tls else None,
            certificate_chain=tls.certificate if tls else None,
        )
        named: list[Argument] = [*arguments, ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
        return Link(target.name, grpc.aio.secure_channel(target.uri, credentials, options=named))


def channel_arguments(options: EtcdOptions) -> list[Argument]:
    """gRPC's options for one channel."""
    return [
        *_FIXED,
        ("grpc.keepalive_time_ms", round(options.ping_interval * 1000)),
        # `keepalive_timeout_ms` has no effect on this gRPC: the limit in force is the ping timeout, 60 s by default.
        ("grpc.http2.ping_timeout_ms", round(options.ping_timeout * 1000)),
        # The limit of one connection attempt, in spite of its name; the pause between attempts is the backoff above.
        ("grpc.min_reconnect_backoff_ms", round(options.dial_timeout * 1000)),
    ]
