"""`GET /livez` and `GET /readyz` on the proxy's listener (data-plane 1.1): no key, no accounting."""

from typing import Final

from aisix_common import probes
from aisix_common.probes import ProbeAnswer

from ..dialects import DIALECT
from ..pipeline.endpoint import Endpoint
from ..pipeline.exchange import Exchange, Reply

_HEADERS: Final = "".join(f"{name}: {value}\r\n" for name, value in probes.HEADERS.items()).encode()


async def answer_livez(exchange: Exchange) -> None:
    """Writes `answer`."""
    draining = exchange.services.lifecycle.draining
    exchange.answer = _reply(probes.livez(draining=draining, verbose=_verbose(exchange)))


async def answer_readyz(exchange: Exchange) -> None:
    """Writes `answer`."""
    lifecycle = exchange.services.lifecycle
    exchange.answer = _reply(
        probes.readyz(draining=lifecycle.draining, applied=lifecycle.applied, verbose=_verbose(exchange))
    )


def _verbose(exchange: Exchange) -> bool:
    return any(part.partition("=")[0] == "verbose" for part in exchange.inbound.query.split("&"))


def _reply(answer: ProbeAnswer) -> Reply:
    return Reply(answer.status, _HEADERS, answer.body.encode())


LIVEZ: Final = Endpoint("GET", "/livez", (answer_livez,), DIALECT["openai-chat"])
READYZ: Final = Endpoint("GET", "/readyz", (answer_readyz,), DIALECT["openai-chat"])
