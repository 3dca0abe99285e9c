"""What an operator should hear at start about settings that load but do not do what they seem to. Pure."""

from collections.abc import Collection, Iterator
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

from .listeners import AdminKey
from .rules import EXAMPLE_KEYS
from .schema import Settings
from .sources import variable_name
from .values import Later, NoEffect, Section
from .walker import join, shape

SECURITY: Final = "SECURITY"
"""How a warning begins that must be seen at every log level but `off`."""


def severity(warning: str) -> Literal["warn", "error"]:
    """The level one of `warnings_for` is logged at, by whoever logs it."""
    return "error" if warning.startswith(SECURITY) else "warn"


_CLOUD_SECRETS: Final = MappingProxyType(
    {
        "managed.cp_key_pem": "managed.cp_cert_file, cp_key_file and cp_ca_file with files",
        "managed.bootstrap.token": "managed.bootstrap.token_file with a file",
    }
)
"""What is the cloud agent's alone, and where it had better come from."""


def warnings_for(settings: Settings, overridden: Collection[str] = ()) -> tuple[str, ...]:
    """One sentence for each thing worth a warning; none quotes a value. `overridden`: the settings (dotted paths) that
    came from the environment and not from the file."""
    return (
        *_keys(settings),
        *_login(settings),
        *_plaintext(settings),
        *_levels(settings),
        *_limits_under_memory(settings),
        *_managed(settings),
        *_cloud_secrets(settings, overridden),
        *_unused(settings),
    )


def _keys(settings: Settings) -> Iterator[str]:
    keys = [key.key if isinstance(key, AdminKey) else key for key in settings.admin.admin_keys]
    if settings.admin_binds and any(key is not None and key.reveal().strip() in EXAMPLE_KEYS for key in keys):
        yield (
            f"{SECURITY}: admin.admin_keys holds a key that is printed in the documentation; whoever reaches "
            f"{settings.admin.addr} can change everything. Replace it, for example with: openssl rand -hex 32"
        )


def _login(settings: Settings) -> Iterator[str]:
    if bool(settings.etcd.user) != bool(settings.etcd.password_env):
        yield "etcd.user and etcd.password_env are used together only: etcd is asked without a login"
    if not settings.upstream.tls.verify:
        yield "upstream.tls.verify is false: provider keys are sent to whoever answers"


def _plaintext(settings: Settings) -> Iterator[str]:
    if settings.secrets.allow_plaintext and not settings.secrets.keyring:
        yield (
            "secrets.allow_plaintext is true without a keyring: etcd and its backups hold provider keys in clear. "
            "Set secrets.keyring, unless other gateways that cannot decrypt read the same etcd"
        )


def _levels(settings: Settings) -> Iterator[str]:
    if "=" in settings.observability.log_level:
        yield (
            "observability.log_level (or RUST_LOG) sets levels of single targets, which has no effect: only the first "
            "level without a target counts, and info where there is none"
        )


def _limits_under_memory(settings: Settings) -> Iterator[str]:
    if settings.ratelimit.backend == "memory" and settings.ratelimit.redis is not None:
        yield "ratelimit.redis is ignored while ratelimit.backend is memory"


def _managed(settings: Settings) -> Iterator[str]:
    if not settings.managed.enabled:
        if settings.managed.cp_base_url is not None:
            yield "managed.cp_base_url has no effect: managed.enabled is false, and nothing is taken from the Cloud"
        return
    if settings.admin.admin_keys or settings.admin.addr.port:
        yield "admin.* has no effect in managed mode: the Cloud writes resources, and the admin API is never bound"


def _cloud_secrets(settings: Settings, overridden: Collection[str]) -> Iterator[str]:
    """The file is read by every service; the Cloud's credentials are the agent's alone."""
    values = (settings.managed.cp_key_pem, settings.managed.bootstrap.token)
    for (path, instead), value in zip(_CLOUD_SECRETS.items(), values, strict=True):
        if value is not None and path not in overridden:
            yield (
                f"{path} stands in the configuration file, which the proxy reads, too: use {instead}, which only the "
                f"cloud agent can read, or set {variable_name(path)} for the agent alone"
            )


def _unused(settings: Settings) -> Iterator[str]:
    for path, mark in unused(settings):
        if isinstance(mark, Later):
            yield f"{path} has no effect in this version: {mark.feature} will come with a later one"
        else:
            yield f"{path} has no effect: {mark.reason}"


def unused(section: Section, path: str = "", mark: Later | NoEffect | None = None) -> Iterator[tuple[str, Any]]:
    """The settings that differ from their default although nothing uses them, with the mark that says so."""
    for field in msgspec.structs.fields(section):
        form = shape(field.type)
        here = join(path, field.name)
        value = getattr(section, field.name)
        found = form.mark(Later) or form.mark(NoEffect) or mark
        if form.section is not None and isinstance(value, Section) and not form.optional:
            yield from unused(value, here, found)
        elif found is not None and value != field.default:
            yield here, found
