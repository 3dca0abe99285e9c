"""What the house rules say, as functions over a source tree: each returns the complaints it has, or none.

They take the tree as an argument so that `test_rules.py` can show each of them failing on a tree that breaks it.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

PACKAGES: Final = {
    "libs/common/src/aisix_common": "tests/common",
    "services/proxy/src/aisix_proxy": "tests/proxy",
    "services/admin/src/aisix_admin": "tests/admin",
    "services/cloud-agent/src/aisix_cloud_agent": "tests/cloud_agent",
}

BANNED_NAMES: Final = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
LONGEST_MODULE: Final = 800
"""Lines. Above 600 a module says in its docstring why."""

GENERATED: Final = re.compile(r"_pb2\.pyi?$")


def modules(root: Path) -> Iterator[tuple[Path, Path, Path]]:
    """(file, package folder, test folder) of every module of ours that is written by hand."""
    for package, tests in PACKAGES.items():
        for file in sorted((root / package).rglob("*.py")):
            if not GENERATED.search(file.name):
                yield file, root / package, root / tests


def missing_docstrings(root: Path) -> list[str]:
    """Every module says at its head what it is."""
    return [
        f"{file.relative_to(root)}: no module docstring"
        for file, _, _ in modules(root)
        if not ast.get_docstring(ast.parse(file.read_text()))
    ]


def banned_names(root: Path) -> list[str]:
    """No module is called after nothing; `base` is for the protocol of a registry folder."""
    found = []
    for file, package, _ in modules(root):
        if file.parent == package and file.stem == "__init__":
            continue
        name = file.parent.name if file.stem == "__init__" else file.stem
        in_registry = file.stem == "base" and "registry" in (file.parent / "__init__.py").read_text().lower()
        if name in BANNED_NAMES and not in_registry:
            found.append(f"{file.relative_to(root)}: the name says nothing")
    return found


def too_long(root: Path) -> list[str]:
    """The hard limit, and a word of reason above 600 lines."""
    found = []
    for file, _, _ in modules(root):
        text = file.read_text()
        lines = text.count("\n")
        reason = "lines because" in (ast.get_docstring(ast.parse(text)) or "")
        if lines > LONGEST_MODULE or (lines > 600 and not reason):
            found.append(f"{file.relative_to(root)}: {lines} lines")
    return found


def untested(root: Path) -> list[str]:
    """Every module with logic has its test file, at its own path under tests/; a small folder may share one."""
    found = []
    for file, package, tests in modules(root):
        if file.stem == "__init__" or not _has_logic(file):
            continue
        relative = file.relative_to(package)
        stem = "main" if file.stem == "__main__" else file.stem.lstrip("_")
        folder = tests / relative.parent
        candidates = [folder / f"test_{stem}.py", folder / stem / "__init__.py"]
        candidates += [
            tests / Path(*relative.parts[:i]).parent / f"test_{relative.parts[i - 1]}.py"
            for i in range(1, len(relative.parts))
        ]
        if not any(c.exists() for c in candidates) and not any(folder.glob(f"test_{stem}_*.py")):
            found.append(f"{file.relative_to(root)}: no {candidates[0].relative_to(root)}")
    return found


def _has_logic(file: Path) -> bool:
    """Whether a module behaves; pure declarations (types, tables, protocols) are tested where they are used."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.If | ast.For | ast.While | ast.Try | ast.AsyncFor | ast.comprehension):
            return True
    return False


def loose_tasks(root: Path) -> list[str]:
    """Only tasks.py starts tasks: a task without an owner is lost work or a leak."""
    pattern = re.compile(r"\b(create_task|ensure_future)\(")
    return [
        f"{file.relative_to(root)}:{number}: a task without an owner"
        for file, _, _ in modules(root)
        if file.name != "tasks.py"
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if pattern.search(line)
    ]


def mutable_globals(root: Path) -> list[str]:
    """No module keeps mutable state: module-level lists, dicts and sets are Final and never written."""
    found = []
    for file, _, _ in modules(root):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.List | ast.Dict | ast.Set):
                names = ", ".join(t.id for t in node.targets if isinstance(t, ast.Name))
                if not names.startswith("__"):
                    found.append(
                        f"{file.relative_to(root)}:{node.lineno}: {names} is a mutable global (Final, or not there)"
                    )
        if re.search(r"^\s*global \w", file.read_text(), re.M):
            found.append(f"{file.relative_to(root)}: `global` statement")
    return found


def patched_tests(root: Path) -> list[str]:
    """Tests replace parts through arguments; nothing is patched."""
    pattern = re.compile(r"\b(monkeypatch\.setattr|mock\.patch|unittest\.mock|mocker\.)")
    return [
        f"{file.relative_to(root)}: patches"
        for file in sorted((root / "tests").rglob("*.py"))
        if file.parent.name != "house" and pattern.search(file.read_text())
    ]


def version_disagreements(root: Path) -> list[str]:
    """One version everywhere, and services pin the library of the same build."""
    text = (root / "libs/common/src/aisix_common/version.py").read_text()
    version = re.findall(r'VERSION: Final = "([^"]+)"', text)[0]
    found = []
    for file in sorted(root.glob("*/*/pyproject.toml")):
        project = tomllib.loads(file.read_text())["project"]
        if project["version"] != version:
            found.append(f"{file.relative_to(root)}: version {project['version']}, not {version}")
        found += [
            f"{file.relative_to(root)}: {dependency}, not =={version}"
            for dependency in project["dependencies"]
            if dependency.startswith("aisix-common") and dependency != f"aisix-common=={version}"
        ]
    return found


def unpinned(root: Path) -> list[str]:
    """constraints.txt holds plain pins, and one for every direct dependency."""
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    found = [
        f"constraints.txt: {line!r} is not a plain pin"
        for line in lines
        if not re.fullmatch(r"[\w.\-]+==[\w.+]+", line)
    ]
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    wanted: set[str] = set()
    for file in root.glob("requirements-*.txt"):
        wanted |= {line.strip() for line in file.read_text().splitlines() if line and line[0] != "#"}
    for file in root.glob("*/*/pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        wanted |= {*project["dependencies"], *chain(*project.get("optional-dependencies", {}).values())}
    for requirement in sorted(wanted):
        name = re.sub(r"[-_.]+", "-", re.split(r"[=<>;\[ ]", requirement)[0]).lower()
        if name not in pinned and not name.startswith("aisix-"):
            found.append(f"constraints.txt: no pin for {name}")
    return found


def foreign_traces(root: Path, files: list[Path]) -> list[str]:
    """No machine path and no package index host in anything committed."""
    pattern = re.compile(
        r"(?<![\w.])/(?:work|farm|root)/|pythonhosted\.org|registry\.npmjs\.org|index-url|proxy\.golang\.org"
    )
    found = []
    for file in files:
        if file == Path(__file__).relative_to(ROOT) or not (root / file).is_file():
            continue
        try:
            text = (root / file).read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{file}:{n}: {line.strip()[:80]}" for n, line in enumerate(text.splitlines(), 1) if pattern.search(line)
        ]
    return found
