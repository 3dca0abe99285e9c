"""The house rules hold, and each of them fails on a tree that breaks it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from . import checks

CHECKS = [
    checks.missing_docstrings,
    checks.banned_names,
    checks.too_long,
    checks.untested,
    checks.loose_tasks,
    checks.mutable_globals,
    checks.patched_tests,
    checks.version_disagreements,
    checks.unpinned,
]

PROXY = "services/proxy/src/aisix_proxy"
VIOLATIONS = [
    (checks.missing_docstrings, f"{PROXY}/bare.py", "x = 1\n"),
    (checks.banned_names, f"{PROXY}/utils.py", '"""Odds and ends."""\n'),
    (checks.banned_names, f"{PROXY}/pipeline/base.py", '"""Not a registry folder."""\n'),
    (checks.too_long, f"{PROXY}/long.py", '"""Long."""\n' + "x = 1\n" * 700),
    (checks.untested, f"{PROXY}/routing.py", '"""Logic without a test."""\nif True:\n    x = 1\n'),
    (checks.loose_tasks, f"{PROXY}/loose.py", '"""Loose."""\nasyncio.create_task(f())\n'),
    (checks.loose_tasks, f"{PROXY}/loose.py", '"""Loose."""\nasyncio.get_running_loop().create_task(f())\n'),
    (checks.mutable_globals, f"{PROXY}/state.py", '"""State."""\ncache = {}\n'),
    (checks.mutable_globals, f"{PROXY}/state.py", '"""State."""\ndef f():\n    global x\n'),
    (checks.patched_tests, "tests/proxy/test_x.py", "def test(monkeypatch): monkeypatch.setattr(a, 'b', 1)\n"),
    (checks.version_disagreements, "libs/common/src/aisix_common/version.py", 'VERSION: Final = "9.9.9"\n'),
    (checks.unpinned, "requirements-dev.txt", "some-new-tool\n"),
    (checks.unpinned, "requirements-run.txt", "some-new-tool\n"),
    (
        checks.unpinned,
        "services/proxy/pyproject.toml",
        '[project]\nversion = "0.1.0"\ndependencies = []\noptional-dependencies = {x = ["some-new-library>=1"]}\n',
    ),
    (checks.unpinned, "constraints.txt", "aiohttp>=3\n"),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_holds(check: Callable[[Path], list[str]]) -> None:
    assert check(checks.ROOT) == []


@pytest.mark.parametrize(("check", "path", "text"), VIOLATIONS, ids=lambda v: getattr(v, "__name__", None))
def test_fails_on_a_violation(check: Callable[[Path], list[str]], path: str, text: str, tmp_path: Path) -> None:
    for package in checks.PACKAGES:
        (tmp_path / package / "pipeline").mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text('"""A package."""\n')
        (tmp_path / package / "pipeline" / "__init__.py").write_text('"""A folder."""\n')
        distribution = tmp_path / Path(*Path(package).parts[:2])
        (distribution / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\ndependencies = ["aiohttp"]\n')
    (tmp_path / "libs/common/src/aisix_common/version.py").write_text('"""V."""\nVERSION: Final = "0.1.0"\n')
    (tmp_path / "constraints.txt").write_text("aiohttp==3.14.5\n")
    (tmp_path / "requirements-dev.txt").write_text("aiohttp\n")
    (tmp_path / "tests/proxy").mkdir(parents=True)
    assert check(tmp_path) == [], "the tree is clean before the violation"
    (tmp_path / path).write_text(text)
    assert check(tmp_path) != []


def test_nothing_committed_names_a_machine_or_an_index() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=checks.ROOT, capture_output=True, text=True, check=True)
    files = [Path(name) for name in listed.stdout.split("\0") if name]
    assert len(files) > 50
    assert checks.foreign_traces(checks.ROOT, files) == []


def test_a_machine_path_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("see /" + "root/x\n")
    assert checks.foreign_traces(tmp_path, [Path("a.md")]) != []
