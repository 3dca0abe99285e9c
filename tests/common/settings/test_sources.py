"""Files by extension, and the environment's names."""

from pathlib import Path
from typing import Any

import pytest

from aisix_common.errors import ConfigurationError, Problem
from aisix_common.settings.sources import Override, Plain, locate, overrides, read_document, variable_name

FIELDS = ("resources_file", "proxy.addr", "proxy.tls.cert_file", "admin.admin_keys", "etcd.endpoints")
STALE = "managed.budget_stale_max_secs"


@pytest.mark.parametrize(
    ("name", "text", "tree"),
    [
        ("c.yaml", "a: 012\nb: '012'", {"a": Plain("012"), "b": "012"}),
        ("c.yml", "a: [x]", {"a": [Plain("x")]}),
        ("c.YAML", "", None),
        ("c.json", '{"a": [1, "x", null]}', {"a": [1, "x", None]}),
        ("c.toml", 'a = 1\n[b]\nc = "x"', {"a": 1, "b": {"c": "x"}}),
        ("c.yaml", "\ufeffa: x", {"a": Plain("x")}),
    ],
)
def test_files(name: str, text: str, tree: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_document(tmp_path / name) == tree


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("c.ini", b"a=1", "must end in .yaml, .yml, .json or .toml"),
        ("c", b"a: 1", "must end in"),
        ("c.yaml", b"\xff\xfe", "not UTF-8"),
        ("c.yaml", b"#" * (4 * 1024 * 1024 + 1), "longer than 4 MiB"),
        ("c.yaml", b"a: 1\na: 2", "c.yaml, line 2, column 1: key 'a' is there twice"),
        ("c.json", b"{", "line 1, column 2"),
        ("c.json", b'{"a": 1, "a": 2}', "key 'a' is there twice"),
        ("c.json", b'{"a": NaN}', "NaN is not JSON"),
        ("c.json", b"[" * 100_000, "nested too deeply"),
        ("c.json", b"9" * 5000, "too long"),
        ("c.toml", b"a = 1\na = 2\n", "overwrite"),
        ("c.toml", b"a = \nb = 1", "line 1"),
        ("c.toml", b"a = " + b"[" * 100_000, "not valid TOML"),
    ],
)
def test_broken_files(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        read_document(tmp_path / name)
    assert str(caught.value).startswith(f"build: {tmp_path}")
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["no.yaml", "no", "x" * 5000, "a\0b.yaml", "folder.yaml"])
def test_files_that_are_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_document(locate(tmp_path / name))


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".toml", ".json"])
def test_the_extension_may_be_left_out(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"config{suffix}").touch()
    assert locate(tmp_path / "config") == tmp_path / f"config{suffix}"


def test_a_name_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "config").touch()
    (tmp_path / "config.yaml").touch()
    assert locate(tmp_path / "config") == tmp_path / "config"
    assert locate(tmp_path / "other") == tmp_path / "other"


@pytest.mark.parametrize(
    ("variable", "path"),
    [
        ("AISIX_PROXY__ADDR", "proxy.addr"),
        ("aisix_proxy__addr", "proxy.addr"),
        ("Aisix_Proxy__Tls__Cert_File", "proxy.tls.cert_file"),
        ("AISIX_RESOURCES_FILE", "resources_file"),
    ],
)
def test_names_that_are_settings(variable: str, path: str) -> None:
    problems: list[Problem] = []
    assert overrides({variable: "x"}, FIELDS, problems) == {path: Override(variable, "x")}
    assert problems == []


@pytest.mark.parametrize(
    "variable",
    [
        *(
            "AISIX_PORT",
            "AISIX_SERVICE_HOST",
            "AISIX_PORT_3000_TCP",
            "AISIX_CONFIG",
            "AISIX_CONFIG_PATH",
            "AISIX_ADMIN_KEY",
        ),
        *("AISIX_ETCD_PASSWORD", "AISIX_PROXY", "AISIX_", "AISIX_LIFELINE_FD"),
        *("PROXY__ADDR", "AISIXPROXY__ADDR", "X_AISIX_PROXY__ADDR"),
    ],
)
def test_names_that_are_nobodys(variable: str) -> None:
    problems: list[Problem] = []
    assert overrides({variable: "x"}, FIELDS, problems) == {}
    assert problems == []


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("AISIX_PROXY__ADRR", "the nearest is AISIX_PROXY__ADDR"),
        ("AISIX_ADMIN__ADMIN_KEY", "the nearest is AISIX_ADMIN__ADMIN_KEYS"),
        ("AISIX_PROXY__", "the nearest is"),
        ("AISIX_PROXY___ADDR", "the nearest is AISIX_PROXY__ADDR"),
        ("AISIX_PROXY__TLS", "proxy.tls is a section, set a field of it such as AISIX_PROXY__TLS__CERT_FILE"),
        ("AISIX_PROXY__ADDR__X", "the nearest is AISIX_PROXY__ADDR"),
    ],
)
def test_names_that_were_meant(variable: str, hint: str) -> None:
    problems: list[Problem] = []
    assert overrides({variable: "s3cr3t"}, FIELDS, problems) == {}
    (problem,) = problems
    assert problem.path == variable
    assert hint in problem.reason
    assert "s3cr3t" not in str(problem)


def test_an_older_spelling() -> None:
    older, ours, problems = "AISIX_DP_BUDGET_STALE_MAX_SECONDS", "AISIX_MANAGED__BUDGET_STALE_MAX_SECS", list[Problem]()
    assert overrides({older: "9"}, [STALE], problems) == {STALE: Override(older, "9")}
    assert overrides({older: "9", ours: "9"}, [STALE], problems)[STALE].text == "9"
    assert problems == []
    overrides({older: "9", ours: "8"}, [STALE], problems)
    assert [str(problem) for problem in problems] == [f"{ours}: sets {STALE} to something else than {older} does"]


def test_two_spellings_must_agree() -> None:
    problems: list[Problem] = []
    overrides({"AISIX_PROXY__ADDR": "a", "aisix_proxy__addr": "a"}, FIELDS, problems)
    assert problems == []
    overrides({"AISIX_PROXY__ADDR": "a", "aisix_proxy__addr": "b"}, FIELDS, problems)
    assert [problem.path for problem in problems] == ["aisix_proxy__addr"]


def test_variable_name() -> None:
    assert variable_name("proxy.tls.cert_file") == "AISIX_PROXY__TLS__CERT_FILE"
