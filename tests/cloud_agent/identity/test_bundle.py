"""The bundle from the settings: which of the six belong together, and what is said of those that do not."""

from collections.abc import Callable, Mapping

import msgspec
import pytest

from aisix_cloud_agent.identity.bundle import Bundle, given_bundle
from aisix_common.errors import ConfigurationError
from aisix_common.secret import Secret
from aisix_common.settings.control import Managed

PEM = {"cp_cert_pem": "C", "cp_key_pem": "K-canary", "cp_ca_pem": "A"}
FILE = {"cp_cert_file": "/c", "cp_key_file": "/k", "cp_ca_file": "/a"}
CONTENTS = {"/c": b"C", "/k": b"K-canary", "/a": b"A", "/blank": b" \n", "/bytes": b"K-canary\xff"}


def reader(contents: Mapping[str, bytes]) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        if path not in contents:
            raise FileNotFoundError(2, "No such file or directory", path)
        return contents[path]

    return read


def managed(**given: str) -> Managed:
    key = given.pop("cp_key_pem", None)
    return msgspec.structs.replace(Managed(), **given, cp_key_pem=None if key is None else Secret(key))


@pytest.mark.parametrize(
    "given",
    [PEM, FILE, {**PEM, "cp_cert_file": "", "cp_key_file": " "}, {**FILE, "cp_key_pem": "", "cp_ca_pem": "\n"}],
    ids=["pem", "file", "pem-and-blank", "file-and-blank"],
)
def test_a_whole_triplet(given: Mapping[str, str]) -> None:
    found = given_bundle(managed(**given), reader(CONTENTS))
    assert found == Bundle("C", Secret("K-canary"), "A")
    assert "canary" not in repr(found)


@pytest.mark.parametrize("given", [{}, dict.fromkeys(FILE, ""), dict.fromkeys(PEM, " \n")])
def test_none(given: Mapping[str, str]) -> None:
    assert given_bundle(managed(**given), reader({})) is None


def without(given: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in given.items() if name not in names}


UNEVEN = [
    (without(PEM, "cp_ca_pem"), ["managed.cp_ca_pem: is missing"]),
    (without(FILE, "cp_key_file"), ["managed.cp_key_file: is missing"]),
    (without(PEM, "cp_cert_pem", "cp_ca_pem"), ["managed.cp_cert_pem: is missing", "managed.cp_ca_pem: is missing"]),
    ({**PEM, "cp_key_pem": " "}, ["managed.cp_key_pem: is missing"]),
    ({**without(PEM, "cp_key_pem"), "cp_key_file": "/k"}, ["cp_cert_pem, cp_ca_pem, cp_key_file: PEM texts and files"]),
    ({"cp_cert_pem": "C", "cp_key_file": "/k"}, ["managed: cp_cert_pem, cp_key_file: PEM texts and files"]),
    ({**PEM, **FILE}, ["managed: cp_cert_pem, cp_key_pem, cp_ca_pem, cp_cert_file, cp_key_file, cp_ca_file: PEM"]),
    ({**PEM, "cp_ca_file": "/a"}, ["PEM texts and files cannot be mixed: set all three"]),
    ({**FILE, "cp_key_file": "/gone"}, ["managed.cp_key_file: /gone cannot be read: No such file or directory"]),
    ({**FILE, "cp_ca_file": "/blank"}, ["managed.cp_ca_file: /blank is empty: it must hold the Cloud's certificate"]),
    ({**FILE, "cp_key_file": "/bytes"}, ["managed.cp_key_file: /bytes is not text: it must hold its private key"]),
    (
        {**FILE, "cp_cert_file": "/blank", "cp_ca_file": "/gone"},
        ["managed.cp_cert_file: /blank", "managed.cp_ca_file: /gone"],
    ),
]


@pytest.mark.parametrize(("given", "reasons"), UNEVEN)
def test_says_what_is_wrong(given: Mapping[str, str], reasons: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        given_bundle(managed(**given), reader(CONTENTS))
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == len(reasons)
    assert [s for s, r in zip(said, reasons, strict=True) if r not in s] == []
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None, "what failed holds the file's bytes"
