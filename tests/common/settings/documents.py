"""Configurations as texts, and what is wrong with them, for the tests of this folder."""

from collections.abc import Mapping

import pytest

from aisix_common.errors import ConfigurationError
from aisix_common.settings.loader import Loaded, build
from aisix_common.settings.sources import parse_document

LEAST = """\
proxy: {addr: "127.0.0.1:3000"}
admin: {admin_keys: [k1]}
etcd: {endpoints: ["http://127.0.0.1:2379"]}
"""
"""The shortest configuration that works."""


def built(text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """Exactly `text`, under `environ`."""
    return build(parse_document(text, ".yaml"), environ or {})


def loaded(text: str = "", environ: Mapping[str, str] | None = None) -> Loaded:
    """`LEAST` with `text` after it, under `environ`."""
    return built(LEAST + text, environ)


def problems(text: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What is wrong with exactly `text`, by path; fails when nothing is."""
    with pytest.raises(ConfigurationError) as caught:
        built(text, environ)
    return {problem.path: problem.reason for problem in caught.value.problems}


def problems_of(environ: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with `LEAST` under `environ`."""
    return problems(LEAST, environ)
