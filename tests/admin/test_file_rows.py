"""The rows of a resources file as the admin reads them: at start, again, and when the file turns bad."""

import json
from pathlib import Path

import pytest

from aisix_admin.file_rows import FileRows
from aisix_common.files.layout import row_id
from aisix_common.files.report import FileRefused

TEXT = """
_format_version: "1"
provider_keys:
- {display_name: one, api_key: "${KEY}"}
- {display_name: two, api_key: "${KEY}"}
- {display_name: three, api_key: "${KEY}"}
"""


def test_rows_are_read_again_or_stay(tmp_path: Path) -> None:
    path = tmp_path / "resources.yaml"
    path.write_text(TEXT)
    rows = FileRows(str(path), {"KEY": "sk-1"})
    assert rows.path == str(path)
    listed = rows.list("provider_keys")
    assert [row.id for row in listed] == sorted(row_id("provider_keys", name) for name in ("one", "two", "three"))
    assert {row.revision for row in listed} == {1}
    one = rows.get("provider_keys", row_id("provider_keys", "one"))
    assert one is not None
    assert json.loads(one.value)["api_key"] == "sk-1"
    assert rows.get("provider_keys", "nobody") is None
    assert rows.list("models") == ()

    path.write_text(TEXT + "models: 3\n")
    assert not rows.reload()
    assert rows.list("provider_keys") == listed

    path.write_text(TEXT.replace("- {display_name: two", "# {display_name: two"))
    assert rows.reload()
    assert [row.revision for row in rows.list("provider_keys")] == [2, 2]


def test_a_bad_file_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"\(file\): cannot read file: No such file"):
        FileRows(str(tmp_path / "no.yaml"), {})
