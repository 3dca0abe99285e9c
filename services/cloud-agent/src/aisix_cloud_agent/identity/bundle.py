"""The bundle of the Cloud link as the settings give it: inline PEM or files. Files are read by a function passed in."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.secret import Secret
from aisix_common.settings.control import Managed

ROLES: Final = ("cert", "key", "ca")
_WHAT: Final = {"cert": "the certificate", "key": "its private key", "ca": "the Cloud's certificate authority"}


class FilesUnreadable(ConfigurationError):
    """A file of the bundle is not there, or holds no text. It may be by and by."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Certificate (intermediates may follow it), its private key and the Cloud's authority, each as PEM."""

    certificate: str
    key: Secret
    ca: str


def given_bundle(managed: Managed, read: Callable[[str], bytes]) -> Bundle | None:
    """The bundle that the settings give, not looked at any further; None where they give none, blank being absent.

    `read` gives the bytes of a file, or raises OSError. Raises ConfigurationError for a bundle that is incomplete or
    given both ways: the reference takes such a one as none at all and goes on with what lies on the disk
    (control-plane 8 no. 32). Raises FilesUnreadable.
    """
    inline = _filled(
        {
            "cert": managed.cp_cert_pem,
            "key": managed.cp_key_pem.reveal() if managed.cp_key_pem is not None else None,
            "ca": managed.cp_ca_pem,
        }
    )
    files = _filled({"cert": managed.cp_cert_file, "key": managed.cp_key_file, "ca": managed.cp_ca_file})
    problems = list(_uneven(inline, files))
    if problems:
        raise ConfigurationError(problems)
    if not inline and not files:
        return None
    texts = inline or _contents(files, read)
    return Bundle(texts["cert"], Secret(texts["key"]), texts["ca"])


def _filled(values: Mapping[str, str | None]) -> dict[str, str]:
    return {role: value for role, value in values.items() if value is not None and value.strip()}


def _uneven(inline: Mapping[str, str], files: Mapping[str, str]) -> Iterator[Problem]:
    """What is wrong with which of the six settings are there."""
    if inline and files:
        given = ", ".join([f"cp_{role}_pem" for role in inline] + [f"cp_{role}_file" for role in files])
        yield Problem(
            "managed", f"{given}: PEM texts and files cannot be mixed: set all three cp_*_pem or all three cp_*_file"
        )
        return
    kind, given_roles = ("pem", inline) if inline else ("file", files)
    if given_roles:
        there = " and ".join(f"cp_{role}_{kind}" for role in given_roles)
        for role in ROLES:
            if role not in given_roles:
                yield Problem(f"managed.cp_{role}_{kind}", f"is missing ({_WHAT[role]}): it goes with {there}")


def _contents(files: Mapping[str, str], read: Callable[[str], bytes]) -> dict[str, str]:
    problems, texts = [], {}
    for role, path in files.items():
        setting = f"managed.cp_{role}_file"
        try:
            texts[role] = read(path).decode()
        except OSError as error:
            problems.append(Problem(setting, f"{path} cannot be read: {error.strerror}"))
        except UnicodeDecodeError:
            problems.append(Problem(setting, f"{path} is not text: it must hold {_WHAT[role]} as PEM"))
        else:
            if not texts[role].strip():
                problems.append(Problem(setting, f"{path} is empty: it must hold {_WHAT[role]} as PEM"))
    if problems:
        raise FilesUnreadable(problems)
    return texts
