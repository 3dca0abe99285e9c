"""`/livez` and `/readyz`: status and body as pure functions of what the process knows (control-plane 7).

Knows nothing of HTTP servers; every listener that answers probes gets its answers here. Old configuration never makes
a process unready, only configuration that was never there does.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

HEADERS: Final = MappingProxyType(
    {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"},
)
"""What every probe answer carries, whatever its status."""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """Status and text of one answer; goes out with `HEADERS`."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    failure: str | None
    """Why it failed; None when it passed."""

    def __str__(self) -> str:
        return f"[+]{self.name} ok" if self.failure is None else f"[-]{self.name} failed: {self.failure}"


def livez(*, draining: bool, verbose: bool = False) -> ProbeAnswer:
    """Whether the process should go on living: 200 until it is told to stop, 503 from then on."""
    shutdown = _Check("shutdown", "reason withheld" if draining else None)
    return _answer("livez", (_Check("ping", None), shutdown), verbose)


def readyz(*, draining: bool, applied: bool, verbose: bool = False) -> ProbeAnswer:
    """Whether it should get traffic: 200 once a configuration was `applied` and until it drains, else 503."""
    shutdown = _Check("shutdown", "draining" if draining else None)
    config = _Check("config", None if applied else "not ready")
    return _answer("readyz", (shutdown, config), verbose)


def _answer(probe: str, checks: tuple[_Check, ...], verbose: bool) -> ProbeAnswer:
    """`ok` or, when asked for or when something failed, a line for each check; a failure has no final newline."""
    lines = "\n".join(map(str, checks))
    if any(check.failure is not None for check in checks):
        return ProbeAnswer(503, f"{lines}\n{probe} check failed")
    return ProbeAnswer(200, f"{lines}\n{probe} check passed\n" if verbose else "ok")
