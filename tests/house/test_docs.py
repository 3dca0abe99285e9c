"""What the code has, its documents name; what is generated is up to date."""

from aisix_common.resources import KINDS
from aisix_common.settings import reference
from aisix_proxy.endpoints import ENDPOINTS

from . import metrics_reference
from .checks import ROOT

OPERATIONS = (ROOT / "docs/operations.md").read_text()
README = (ROOT / "README.md").read_text()


def test_the_configuration_reference_is_current() -> None:
    assert reference.is_current((ROOT / "docs/reference/configuration.md").read_text()), "run `make docs`"


def test_the_metrics_reference_is_current() -> None:
    assert (ROOT / "docs/reference/metrics.md").read_text() == metrics_reference.render(), "run `make docs`"


def test_every_metric_says_what_it_counts() -> None:
    families = metrics_reference.proxy_families() + metrics_reference.admin_families()
    assert len(families) > 30
    assert [f.name for f in families if not f.help or not f.name.startswith("aisix_")] == []


def test_every_endpoint_is_documented() -> None:
    missing = [e.path for e in ENDPOINTS if f"`{e.method} {e.path}`" not in README + OPERATIONS]
    assert missing == []


def test_every_kind_is_documented() -> None:
    assert [kind.name for kind in KINDS if f"`{kind.name}`" not in OPERATIONS] == []


def test_every_make_target_of_the_documents_exists() -> None:
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if "## " in line}
    for page in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "docs/operations.md"):
        words = (ROOT / page).read_text().split("`make ")[1:]
        assert {w.split("`")[0].split()[0] for w in words} <= targets, page
