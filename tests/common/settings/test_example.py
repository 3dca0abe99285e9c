"""`deploy/config.example.yaml` works as it stands, and its comments show true defaults."""

import re
from pathlib import Path

from aisix_common.settings import load
from aisix_common.settings.reference import paths

_EXAMPLE = Path(__file__).parents[3] / "deploy" / "config.example.yaml"


def test_it_loads_and_warns_of_its_key_only() -> None:
    loaded = load(_EXAMPLE, {})
    assert len(loaded.warnings) == 1
    assert "SECURITY" in loaded.warnings[0]


def test_it_loads_with_everything_commented_in(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^( +)# (?=[\w-]|  )", r"\1", _EXAMPLE.read_text())
    kept = [line for line in text.splitlines() if not re.match(r" +[A-Z]", line) and "folder must" not in line]
    everything = tmp_path / "config.yaml"
    everything.write_text("\n".join(kept))
    settings = load(everything, {"ETCD_PASSWORD": "x", "AISIX_ETCD__ENDPOINTS": "https://127.0.0.1:2379"}).settings
    assert settings.proxy.tls is not None
    assert settings.etcd.tls is not None
    assert settings.proxy.real_ip.recursive
    assert settings.upstream.tls.ca_file is not None


def test_it_names_known_settings_only() -> None:
    words = set(re.findall(r"(?m)^ *#? *([a-z_]+):", _EXAMPLE.read_text()))
    assert words <= {part for path in paths() for part in path.split(".")}
