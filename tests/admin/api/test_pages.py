"""The page of the API: whole, from here alone, and with nothing that a caller chooses."""

import hashlib
import re
from importlib.resources import files

import pytest

from aisix_admin.api.pages import FILES, PAGES, VERSION

from tests.support.admin import RunningAdmin

SUMS = {
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "favicon-32x32.png": "3ed612f41e050ca5e7000cad6f1cbe7e7da39f65fca99c02e99e6591056e5837",
}
"""SHA-256 of the files of swagger-ui-dist VERSION."""


@pytest.mark.parametrize("path", PAGES)
async def test_the_page_needs_no_key_and_nothing_from_elsewhere(path: str, admin: RunningAdmin) -> None:
    answer = await admin.send("GET", path, headers={})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    page = answer.body.decode()
    assert "://" not in page
    assert "<script>" not in page and "style=" not in page and " on" not in re.sub(r">[^<]*<", "><", page)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(linked) == len(FILES)
    for link in linked:
        assert (await admin.send("GET", link, headers={})).status == 200
    assert (await admin.send("POST", path, headers={})).status == 405


@pytest.mark.parametrize(("name", "kind"), FILES.items())
async def test_files_are_kept_by_browsers(name: str, kind: str, admin: RunningAdmin) -> None:
    path = f"/admin/docs/{VERSION}/{name}"
    answer = await admin.send("GET", path, headers={})
    assert answer.headers["Content-Type"].startswith(kind)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert ("immutable" in answer.headers["Cache-Control"]) == (name != "start.js")
    again = await admin.send("GET", path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", answer.headers["ETag"])
    other = await admin.send("GET", path, headers={"If-None-Match": '"another"'})
    assert (other.status, other.body) == (200, answer.body)


@pytest.mark.parametrize("name", ["", "LICENSE", "../fleet.py", "..%2ffleet.py", "README.md", "%2e%2e/%2e%2e/auth.py"])
async def test_no_other_files(name: str, admin: RunningAdmin) -> None:
    assert (await admin.send("GET", f"/admin/docs/{VERSION}/{name}", headers={})).status == 404


@pytest.mark.parametrize(("name", "sum"), SUMS.items())
def test_the_files_are_those_that_were_published(name: str, sum: str) -> None:
    folder = files("aisix_admin") / "static" / "swagger"
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sum
    assert VERSION in (folder / "README.md").read_text()
    assert "Apache License" in (folder / "LICENSE").read_text()
