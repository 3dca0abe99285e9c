"""The import contracts hold, and a forbidden import is noticed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .checks import PACKAGES, ROOT

PROXY = "services/proxy/src/aisix_proxy"
VIOLATIONS = [
    (f"{PROXY}/canonical/usage.py", "from aisix_proxy.pipeline import exchange"),
    (f"{PROXY}/wire/sse.py", "import asyncio"),
    (f"{PROXY}/providers/openai.py", "import time"),
    (f"{PROXY}/dialects/openai_chat.py", "from aiohttp import web"),
    (f"{PROXY}/dialects/openai_chat.py", "from aisix_proxy.providers import openai"),
    (f"{PROXY}/canonical/usage.py", "import uuid"),
    (f"{PROXY}/status.py", "from aisix_proxy.app import build"),
    (f"{PROXY}/app.py", "import aisix_admin"),
    (f"{PROXY}/app.py", "import marshmallow"),
    ("libs/common/src/aisix_common/version.py", "import aisix_proxy"),
]


def lint_imports(root: Path) -> "subprocess.CompletedProcess[str]":
    """Run the contracts of `root`/pyproject.toml against the packages in `root`."""
    path = os.pathsep.join(str((root / package).parent) for package in PACKAGES)
    command = [str(Path(sys.executable).parent / "lint-imports"), "--config", "pyproject.toml", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("path", "line"), VIOLATIONS)
def test_a_violation_is_noticed(path: str, line: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / path
    file.write_text(file.read_text() + f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout
