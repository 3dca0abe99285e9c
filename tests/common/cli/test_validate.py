"""`aisix validate`: its words and exit codes, as a process."""

from pathlib import Path

from tests.common.cli.conftest import command

GOOD = '_format_version: "1"\nprovider_keys: [{display_name: a, api_key: "${KEY}"}, {display_name: b, api_key: x}]\n'


def test_a_sound_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    run = command("validate", "--resources", str(path), KEY="sk-canary")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"OK: {path} loaded 2 resource(s)\n", "")


def test_a_file_with_problems(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD + "models: [{display_name: m, sk-canary: sk-canary}]\n")
    run = command("validate", "--resources", str(path))
    assert (run.returncode, run.stdout) == (1, "")
    lines = run.stderr.splitlines()
    assert lines[0] == f"resources file {path}: 2 error(s):"
    assert lines[1] == "  - provider_keys[0]: field `api_key`: environment variable `KEY` is not set, or empty"
    assert lines[2].startswith('  - models[0] ("m"): schema validation failed at `/')


def test_no_file_and_wrong_command_lines(tmp_path: Path) -> None:
    run = command("validate", "--resources", str(tmp_path / "no.yaml"))
    assert run.returncode == 1
    assert run.stderr.splitlines()[1] == "  - (file): cannot read file: No such file or directory"
    assert command("validate").returncode == 2
    assert command("validate", "--resource", "x").returncode == 2
    shown = command("validate", "--help")
    assert shown.returncode == 0
    assert "--resources" in shown.stdout
