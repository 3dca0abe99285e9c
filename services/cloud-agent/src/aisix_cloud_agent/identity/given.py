"""What the settings give to start with: a bundle, or a token to get one. Blocking: call it in a thread."""

from datetime import datetime
from pathlib import Path
from typing import Final

from aisix_common.errors import AisixError, ConfigurationError, Problem
from aisix_common.secret import Secret
from aisix_common.settings.control import Managed

from ..cloud.session import cloud_address
from .bundle import FilesUnreadable, given_bundle
from .bundle_store import BundleStore, Stored
from .enrolling import read_trust
from .identity import BundleRefused, identify
from .tls import read_extra_ca

_MOST_BYTES: Final = 1 << 20


def read_given(managed: Managed, now: datetime) -> Stored | None:
    """The bundle that the settings give, looked at; None where they give none. It has no version.

    Raises ConfigurationError where it is incomplete, mixed or not readable, BundleRefused where it cannot be used.
    """
    bundle = given_bundle(managed, _read)
    if bundle is None:
        return None
    return Stored(bundle, identify(bundle.certificate, bundle.key, bundle.ca, now), "")


def read_token(managed: Managed) -> Secret | None:
    """The one-time token; None where there is none. Raises ConfigurationError for a file that has none."""
    bootstrap = managed.bootstrap
    if bootstrap.token is not None:
        return bootstrap.token
    path = (bootstrap.token_file or "").strip()
    if not path:
        return None
    setting = "managed.bootstrap.token_file"
    try:
        text = _read(path).decode("ascii").strip()
    except OSError as error:
        raise ConfigurationError([Problem(setting, f"{path} cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise ConfigurationError([Problem(setting, f"{path} holds no token: ask the Cloud for one and put it there")])
    return Secret(text)


def renews(managed: Managed) -> bool:
    """Whether certificates are renewed: where it is asked for, or where they came from a token. Of a token that was
    taken out of the settings after it was used, what goes with it is left."""
    bootstrap = managed.bootstrap
    return managed.renew or bootstrap.wanted or bool(bootstrap.url or bootstrap.ca_file or bootstrap.ca_pin)


def check(managed: Managed, store: BundleStore, now: datetime) -> None:
    """Whether there is anything to begin with, before anything is served (control-plane 6.1).

    Raises ConfigurationError: an address that is not usable, a bundle that cannot be used where no other is kept, or
    nothing at all. What is kept and cannot be used now, or a store that is away, is waited for.
    """
    cloud_address(managed)
    read_extra_ca(managed.cp_ca_cert_file)
    given, reasons, unreadable = None, list[str](), None
    try:
        given = read_given(managed, now)
    except BundleRefused as refused:
        reasons = list(refused.reasons)
    except FilesUnreadable as error:
        unreadable = error
    if given is not None:
        return
    try:
        kept = store.load(now) is not None
    except BundleRefused:
        kept = not (reasons or unreadable)  # it may be replaced while we run
    except AisixError:
        kept = True
    if kept:
        return
    if unreadable is not None:
        raise unreadable
    if reasons:
        raise ConfigurationError([Problem("managed", f"the bundle of the Cloud link: {each}") for each in reasons])
    if managed.bootstrap.wanted:
        read_trust(managed)
        return
    where = f"the Secret {managed.kubernetes_secret}" if managed.kubernetes_secret else managed.mtls_dir
    raise ConfigurationError(
        [
            Problem(
                "managed",
                "there is no certificate for the Cloud: give cp_cert_pem, cp_key_pem and cp_ca_pem; or cp_cert_file, "
                f"cp_key_file and cp_ca_file; or bootstrap.token; or put a bundle into {where}",
            )
        ]
    )


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_MOST_BYTES)
