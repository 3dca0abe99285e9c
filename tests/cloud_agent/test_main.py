"""The agent has no function yet; it must say so rather than pretend."""

import subprocess
import sys

from aisix_common.version import VERSION


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "aisix_cloud_agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_says_that_managed_mode_is_not_here_and_fails() -> None:
    done = run("--config", "config.yaml")
    assert done.returncode == 1
    assert "managed mode is not in this version" in done.stderr


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"aisix-cloud-agent {VERSION}")
