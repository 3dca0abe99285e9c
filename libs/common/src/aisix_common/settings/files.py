"""Whether the TLS files that settings name can be read by this process. Reads one byte of each and knows no TLS."""

import os
from collections.abc import Iterator

from aisix_common.errors import ConfigurationError, Problem

from .schema import Settings


def why_unreadable(path: str) -> str | None:
    """Why `path` cannot be read as a file, in the system's words; None when it can."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return os.strerror(error.errno) if error.errno else "not readable"
    return None


def refuse_unreadable(settings: Settings) -> None:
    """Raise ConfigurationError with every TLS file of `settings` that something would miss later.

    For whoever starts several services, so that all is said at once; each service looks at its own files itself. The
    files of the Cloud link are not among them: a gateway whose certificate lies elsewhere by now, or whose Cloud is
    away, must start and serve without them. The cloud agent tells of them.
    """
    found = ((name, path, why_unreadable(path)) for name, path in _named(settings) if path)
    problems = [Problem(name, f"cannot read {path}: {why}") for name, path, why in found if why is not None]
    if problems:
        raise ConfigurationError(problems)


def _named(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """The files with their settings; None and blank where none is named."""
    listeners = {"proxy.tls": settings.proxy.tls, "admin.tls": settings.admin.tls if settings.admin_binds else None}
    for name, files in listeners.items():
        if files is not None:
            yield f"{name}.cert_file", files.cert_file
            yield f"{name}.key_file", files.key_file
    etcd, upstream = settings.etcd.tls, settings.upstream.tls
    if etcd is not None:
        yield "etcd.tls.ca_cert_file", etcd.ca_cert_file
        yield "etcd.tls.client_cert_file", etcd.client_cert_file
        yield "etcd.tls.client_key_file", etcd.client_key_file
    yield "upstream.tls.ca_file", upstream.ca_file
    yield "upstream.tls.client_cert_file", upstream.client_cert_file
    yield "upstream.tls.client_key_file", upstream.client_key_file
