"""TLS contexts towards providers: the deployment's own, and one for each distinct trust of a provider key.

Must not know any connection. Contexts are kept by value, since one costs tens of milliseconds and some hundred KB.
"""

import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable
from os import strerror
from typing import Final

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.logs import get_logger
from aisix_common.settings import ClientTls

from ..canonical.http import TlsTrust

_log = get_logger(__name__)

KEPT: Final = 256
"""Contexts kept for provider keys; the one unused longest goes first."""


class TrustStore:
    """Made once from `upstream.tls`. Raises ConfigurationError when one of its files cannot be used."""

    def __init__(self, settings: ClientTls) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._default: ssl.SSLContext | None = None
        if settings.ca_file is not None or settings.client_cert_file is not None:
            self._default = self._build(settings.verify)  # now, so that a bad file stops the start
        self._kept: OrderedDict[TlsTrust, ssl.SSLContext] = OrderedDict()

    def context(self, trust: TlsTrust | None) -> ssl.SSLContext:
        """The context for `trust`; blocks for tens of milliseconds when it is new. May be called from any thread.

        Trust anchors that cannot be read fall back to the deployment's context, checks and all (data-plane 4.0).
        """
        with self._lock:
            if trust is None or (not trust.ca_pem.strip() and trust.verify):
                return self._own()
            context = self._kept.get(trust)
            if context is None:
                context = self._kept[trust] = self._special(trust)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(trust)
            return context

    def _special(self, trust: TlsTrust) -> ssl.SSLContext:
        context = self._build(self._settings.verify and trust.verify)
        if trust.ca_pem.strip():
            try:
                context.load_verify_locations(cadata=trust.ca_pem)
            except (ssl.SSLError, ValueError, TypeError):  # TypeError: text beyond ASCII
                _log.warning(
                    "a provider key's tls.ca_cert is not usable PEM; its connections use the deployment's trust. "
                    "Store the CA certificate as PEM text in that provider key"
                )
                return self._own()
        return context

    def _own(self) -> ssl.SSLContext:
        if self._default is None:
            self._default = self._build(self._settings.verify)
        return self._default

    def _build(self, verify: bool) -> ssl.SSLContext:
        settings = self._settings
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        if settings.ca_file is not None:
            _use("upstream.tls.ca_file", lambda: context.load_verify_locations(cafile=settings.ca_file))
        certificate = settings.client_cert_file
        if certificate is not None:
            _use(
                "upstream.tls.client_cert_file", lambda: context.load_cert_chain(certificate, settings.client_key_file)
            )
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _use(path: str, load: Callable[[], None]) -> None:
    """Run `load`; a file that cannot be used is the operator's to mend."""
    try:
        load()
    except ssl.SSLError:
        raise ConfigurationError([Problem(path, "does not hold usable PEM, or the key does not fit")]) from None
    except OSError as problem:
        raise ConfigurationError([Problem(path, f"cannot be read: {strerror(problem.errno or 0)}")]) from None
