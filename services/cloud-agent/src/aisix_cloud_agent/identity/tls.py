"""TLS towards the Cloud: what a bundle becomes for HTTP and for etcd, and whom the call with the token trusts.

The Cloud is always verified: `upstream.tls.verify=false`, which a reference node lets count here too (control-plane
6.2), is about providers and is not asked.
"""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.store.options import TlsMaterial

from .bundle import Bundle

ALPN: Final = ("http/1.1",)
"""Anything else would be led to the etcd API, which shares the port (control-plane 8 no. 35)."""
_MOST_CA_BYTES: Final = 1 << 20


def rest_context(bundle: Bundle, extra_ca: str | None = None) -> ssl.SSLContext:
    """For REST, with the bundle's certificate. Trusted are the platform's roots, the bundle's CA and `extra_ca` (PEM).

    Raises ConfigurationError for what OpenSSL cannot use.
    """
    context = _context()
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    _trust(context, bundle.ca, "the CA of the Cloud's bundle")
    if extra_ca is not None:
        _trust(context, extra_ca, "managed.cp_ca_cert_file")
    with _readable_once(bundle.certificate + "\n" + bundle.key.reveal()) as path:
        try:
            context.load_cert_chain(path, password=_no_password)
        except (ssl.SSLError, OSError, ValueError):
            pass  # raised below: the error at hand knows the file
        else:
            return context
    raise ConfigurationError([Problem("managed", "certificate and key of the Cloud link cannot be used for TLS")])


def etcd_material(bundle: Bundle, host: str, extra_ca: str | None = None) -> TlsMaterial:
    """For the etcd API. Trusted are the bundle's CA and `extra_ca` (PEM); the server must be `host`."""
    ca = bundle.ca if extra_ca is None else f"{bundle.ca}\n{extra_ca}"
    return TlsMaterial(
        ca=ca.encode(),
        certificate=bundle.certificate.encode(),
        key=bundle.key.reveal().encode(),
        domain_name=host,
    )


def trusting_only(ca: str, setting: str) -> ssl.SSLContext:
    """Without a certificate of ours, and trusting nothing but `ca` (PEM): for the call that carries the token.
    Raises ConfigurationError, which names `setting`."""
    context = _context()
    _trust(context, ca, setting)
    return context


def trusting_nobody() -> ssl.SSLContext:
    """To look at the chain a server presents. It verifies nothing, so nothing is ever sent over such a connection."""
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def read_extra_ca(path: str | None) -> str | None:
    """The text of `managed.cp_ca_cert_file`; None where it is not set. Blocking. Raises ConfigurationError."""
    if path is None or not path.strip():
        return None
    return read_ca(path, "managed.cp_ca_cert_file")


def read_ca(path: str, setting: str) -> str:
    """Authorities as PEM from a file that `setting` names. Blocking. Raises ConfigurationError."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MOST_CA_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise ConfigurationError([Problem(setting, f"{path} cannot be read: {error.strerror}")]) from None
    _trust(_context(), text, setting)
    return text


def _context() -> ssl.SSLContext:
    """By hand: `create_default_context` would write the sessions' keys to where SSLKEYLOGFILE says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, and checks the host's name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(ALPN))
    # What is trusted may be an intermediate; and a private authority need not hold to the Web PKI's profile (`chain`).
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_TRUSTED_FIRST
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _trust(context: ssl.SSLContext, pem: str, what: str) -> None:
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError, TypeError):  # TypeError: text beyond ASCII
        raise ConfigurationError([Problem(what, "must be PEM certificates of authorities")]) from None


def _no_password() -> bytes:
    """Keeps OpenSSL from asking on the terminal for a key that has a passphrase."""
    return b""


@contextmanager
def _readable_once(text: str) -> Iterator[str]:
    """A path under which OpenSSL can read `text` while the context lasts: memory on Linux, else a file that only we may
    read and that is gone at once."""
    data = text.encode()
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("aisix", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as temporary:  # mode 0600
        temporary.write(data)
        temporary.flush()
        yield temporary.name
