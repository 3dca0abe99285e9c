"""The whole way: files of every kind, all problems at once, nothing but our error whatever the text."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.secret import Secret
from aisix_common.settings import Address, Loaded, Settings, load
from aisix_common.settings.loader import SUPERVISED, build, report
from aisix_common.settings.sources import parse_document, variable_name
from aisix_common.settings.walker import leaves

from tests.common.settings.documents import LEAST, loaded, problems, problems_of

TREE = {
    "proxy": {"addr": "127.0.0.1:3000", "workers": 2},
    "admin": {"admin_keys": ["k1", "k2"]},
    "etcd": {"endpoints": ["http://127.0.0.1:2379"]},
}

TOML = """\
[proxy]
addr = "127.0.0.1:3000"
workers = 2
[admin]
admin_keys = ["k1", "k2"]
[etcd]
endpoints = ["http://127.0.0.1:2379"]
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.yaml", json.dumps(TREE)), ("c.yml", json.dumps(TREE)), ("c.json", json.dumps(TREE)), ("c.toml", TOML)],
)
def test_every_language_says_the_same(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    for path in (tmp_path / name, str(tmp_path / name), tmp_path / "c"):
        found = load(path, {"AISIX_PROXY__WORKERS": "3", "AISIX_PORT": "tcp://10.0.0.1:80"})
        assert found.settings.proxy.addr == Address("127.0.0.1", 3000)
        assert found.settings.proxy.workers == 3
        assert found.settings.admin.admin_keys == (Secret("k1"), Secret("k2"))
        assert found.warnings == ()


def test_all_problems_at_once() -> None:
    text = """\
prxy: {}
proxy: {addr: localhost:3000, workers: 0, request_id: {accept_headers: [cookie]}}
upstream: {tls: {client_key_file: x}, retries: many}
observability: {metrics: {buckets: {request_ttft: [2, 1]}}}
"""
    assert problems(text, {"AISIX_PROXY__ADRR": "x", "AISIX_SHUTDOWN__MIN_DRAIN_SECS": "soon"}).keys() == {
        "AISIX_PROXY__ADRR",
        "prxy",
        "proxy.addr",
        "proxy.workers",
        "proxy.request_id.accept_headers[0]",
        "upstream.tls.client_cert_file",
        "upstream.retries",
        "observability.metrics.buckets.request_ttft",
        "shutdown.min_drain_secs",
        "admin.admin_keys",
        "etcd.endpoints",
    }


def test_report() -> None:
    head = "Error: config load failed: failed to load configuration:"
    assert report(ConfigurationError([Problem("a.b", "is required")])) == f"{head} a.b: is required"
    two = ConfigurationError([Problem("a.b", "is required"), Problem("", "odd")])
    assert report(two) == f"{head} 2 problems\n  a.b: is required\n  odd"


@pytest.mark.parametrize("path", [path for path, _ in leaves(Settings)])
def test_every_setting_can_be_set_from_the_environment(path: str) -> None:
    """A text of NUL is wrong for every type, so that whoever reads it complains at its path."""
    found = problems_of({variable_name(path): "\0"})
    assert any(key == path or key.startswith(f"{path}[") for key in found)


def test_rust_log_overrides_the_level() -> None:
    assert loaded("", {"RUST_LOG": "Debug"}).settings.observability.log_level == "debug"
    assert loaded("", {"RUST_LOG": " "}).settings.observability.log_level == "info"
    nonsense = loaded("observability: {log_level: warn}\n", {"RUST_LOG": "a=b=c"})
    assert nonsense.settings.observability.log_level == "warn"
    assert "RUST_LOG is ignored" in nonsense.warnings[0]


def test_services_under_a_supervisor_repeat_no_warning() -> None:
    environ = {"AISIX_ADMIN__ADMIN_KEYS": "admin"}
    assert loaded("", environ).warnings
    assert loaded("", {**environ, SUPERVISED: "1"}).warnings == ()


_KEYS = st.sampled_from(sorted({part for path, _ in leaves(Settings) for part in path.split(".")}))
_VARIABLES = st.sampled_from([variable_name(path) for path, _ in leaves(Settings)])
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates())
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(_KEYS, st.text()), inner)),
    max_leaves=20,
)


def _outcome(load: Callable[[], Loaded]) -> str:
    """How loading ends: anything but these two is an exception that nobody catches."""
    try:
        found = load()
    except ConfigurationError as error:
        told = bool(error.problems) and all(problem.reason for problem in error.problems)
        return "refused" if told else "refused without a reason"
    return "loaded" if isinstance(found.settings, Settings) else "loaded something else"


def _built_from(text: str, suffix: str) -> Loaded:
    return build(parse_document(text, suffix), {})


@given(st.one_of(st.text(), st.dictionaries(_KEYS, _TREES).map(str), st.text().map(LEAST.__add__)))
@settings(deadline=None)
def test_any_text_loads_or_raises_our_error(text: str) -> None:
    for suffix in (".yaml", ".json", ".toml"):
        assert _outcome(partial(_built_from, text, suffix)) in {"loaded", "refused"}


@given(_TREES, st.dictionaries(_VARIABLES, st.text(), max_size=4))
@settings(deadline=None, max_examples=200)
def test_any_tree_and_environment_load_or_raise_our_error(tree: object, environ: dict[str, str]) -> None:
    assert _outcome(lambda: build(tree, environ)) in {"loaded", "refused"}


@given(st.dictionaries(_VARIABLES, st.text(st.characters(codec="ascii"), min_size=4)))
@settings(deadline=None)
def test_no_problem_and_no_warning_quotes_a_value(values: dict[str, str]) -> None:
    try:
        said = " ".join(loaded("", {variable: f"\u2603{text}" for variable, text in values.items()}).warnings)
    except ConfigurationError as error:
        said = report(error)
    assert "\u2603" not in said
