"""A whole file: what is read, every way to be wrong with its place and words, and the traps of YAML."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from aisix_common.files.layout import COLLECTIONS, row_id
from aisix_common.files.loader import ResourcesFile, Unusable, load, read_file
from aisix_common.files.report import FileRefused
from aisix_common.resources import BY_NAME, Loaded, hash_key, read

from tests.common.resources.cases import Case
from tests.common.resources.cases import load as cases

CANARY = "sk-canary"
HEAD = '_format_version: "1"\n'
ENVIRON = {"KEY": "sk-1", "CALLER": " sk-my-api-key-123 ", "UNFILLED": "${X}", "BLANK": " "}


def loaded(text: str) -> ResourcesFile:
    return load((HEAD + text).encode(), "r.yaml", ENVIRON)


def report(text: str, head: str = HEAD) -> list[str]:
    """The lines of the report below the first."""
    with pytest.raises(FileRefused) as refused:
        load((head + text).encode(), "r.yaml", ENVIRON)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"resources file r.yaml: {len(lines) - 1} error(s):"
    assert all(line.startswith("  - ") for line in lines[1:])
    assert CANARY not in str(refused.value)
    return [line.removeprefix("  - ") for line in lines[1:]]


def rows(file: ResourcesFile) -> dict[str, dict[str, Any]]:
    """kind/id -> document."""
    return {f"{row.kind}/{row.id}": json.loads(row.raw) for row in file.rows}


GOOD = """
models:
- {display_name: gpt, provider: openai, model_name: gpt-4o, provider_key: openai}
- display_name: group
  routing: {targets: [{model: gpt}]}
provider_keys:
- &key
  display_name: openai
  api_key: ${KEY}
  request: {default_headers: {x: "$${request.id}"}}
api_keys:
- {display_name: me, key_env: CALLER, allowed_models: [gpt, "any*"]}
guardrails: ~
"""


def test_a_sound_file() -> None:
    file = loaded(GOOD)
    assert file.path == "r.yaml"
    assert file.digest == hashlib.sha256((HEAD + GOOD).encode()).hexdigest()
    found = rows(file)
    key = row_id("provider_keys", "openai")
    assert found[f"models/{row_id('models', 'gpt')}"]["provider_key_id"] == key
    assert found[f"provider_keys/{key}"]["api_key"] == "sk-1"
    assert found[f"provider_keys/{key}"]["request"]["default_headers"] == {"x": "${request.id}"}
    caller = found[f"api_keys/{row_id('api_keys', 'me')}"]
    assert caller["key_hash"] == hash_key("sk-my-api-key-123")
    assert caller["display_name"] == "me"
    assert "sk-1" not in repr(file)
    assert all(isinstance(read(BY_NAME[row.kind], row.raw), Loaded) for row in file.rows)


def test_nothing_at_all_is_sound() -> None:
    assert loaded("").rows == ()
    assert load(b'---\n_format_version: "1"\nmodels: null\n', "r", {}).rows == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "(file): the document must be a mapping of collections"),
        ("- 1", "(file): the document must be a mapping of collections"),
        ("models: []", '(file): field `_format_version`: is missing: write _format_version: "1"'),
        ("_format_version: 1", '(file): field `_format_version`: must be text, not a number: put it into quotes: "1"'),
        ('_format_version: "2"', '(file): field `_format_version`: must be "1", the only version there is'),
        ("_format_version: ~", '(file): field `_format_version`: must be "1", the only version there is'),
        (HEAD + "mcp_policies: []", "(file): field `mcp_policies`: is no collection of a resources file"),
        (HEAD + "models: {a: 1}", "(file): field `models`: must be a sequence of mappings"),
        (HEAD + "models: text", "(file): field `models`: must be a sequence of mappings"),
        (HEAD + "models: [1, 2", "(file): not valid YAML: line 2, column 14: "),
        (HEAD + "a: 1\na: 2", "(file): not valid YAML: line 3, column 1: key 'a' is there twice"),
        (HEAD + "models: [{1: sk-canary}]", "(file): not valid YAML: line 2, column 11: a key must be text"),
        (HEAD + "models: [{<<: {a: sk-canary}}]", "(file): not valid YAML: line 2, column 11: merge keys"),
        (HEAD + "--- \na: sk-canary", "(file): not valid YAML: line "),
    ],
)
def test_the_file_itself(text: str, line: str) -> None:
    (only,) = report(text, head="")
    assert only.startswith(line)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(Unusable) as refused:
        load(b"\xff", "r", {})
    assert [problem.failure for problem in refused.value.problems] == ["non_json"]


KEY = "{display_name: me, key_hash: aa, allowed_models: [], "
ENTRIES: list[tuple[str, str]] = [
    ("models: [sk-canary]", "models[0]: must be a mapping"),
    ("models: [{}]", "models[0]: `display_name` must be given, as text that is not empty: it names the entry"),
    ("models: [{display_name: 3}]", "models[0]: `display_name` must be given"),
    ("models: [{display_name: ''}]", "models[0]: `display_name` must be given"),
    ("mcp_servers: [{url: a}]", "mcp_servers[0]: `name` or `display_name` must be given"),
    (
        "models: [{display_name: a, routing: {targets: [{model: '${NO}'}]}}]",
        "models[0]: field `routing.targets[0].model`: environment variable `NO` is not set, or empty",
    ),
    ("models: [{display_name: a, id: sk-canary}]", 'models[0] ("a"): field `id`: must not be given'),
    ("cache_policies: [{name: a, id: sk-canary}]", 'cache_policies[0] ("a"): field `id`: must not be given'),
    (
        "models: [{display_name: a, timeout: sk-canary, routing: {targets: [{model: b}]}}]",
        'models[0] ("a"): schema validation failed at `/timeout`: value is not of type "integer"',
    ),
    (
        "models: [{display_name: a, timeout: 5.0, routing: {targets: [{model: b}]}}]",
        'models[0] ("a"): malformed Model payload: at `/timeout`: an integer written with a fraction',
    ),
    (
        "models: [{display_name: a, provider_key: b}]",
        'models[0] ("a"): field `provider_key`: names a provider key that',
    ),
    ("models: [{display_name: a, provider_key: 3}]", 'models[0] ("a"): field `provider_key`: must be the name of a '),
    (
        "models: [{display_name: a, provider_key: b, provider_key_id: c}]",
        'models[0] ("a"): field `provider_key`: excludes `provider_key_id`',
    ),
    (
        "models: [{display_name: a, provider: b, model_name: c, provider_key_id: sk-canary}]",
        'models[0] ("a"): field `provider_key_id`: names a provider key that is not in this file',
    ),
    ("api_keys: [{display_name: a, allowed_models: []}]", 'api_keys[0] ("a"): field `key_env`: exactly one of'),
    (f"api_keys: [{KEY} key_env: CALLER}}]", 'api_keys[0] ("me"): field `key_env`: exactly one of'),
    (
        "api_keys: [{display_name: a, key_env: sk-canary, allowed_models: []}]",
        'api_keys[0] ("a"): field `key_env`: must name an environment variable',
    ),
    (
        "api_keys: [{display_name: a, key_env: NOBODY, allowed_models: []}]",
        'api_keys[0] ("a"): field `key_env`: the environment variable it names is not set, or empty',
    ),
    ("api_keys: [{display_name: a, key_env: BLANK, allowed_models: []}]", 'api_keys[0] ("a"): field `key_env`: the '),
    (
        "api_keys: [{display_name: a, key_env: UNFILLED, allowed_models: []}]",
        'api_keys[0] ("a"): field `key_env`: the ',
    ),
    (f"api_keys: [{KEY} nonsense: 1}}]", 'api_keys[0] ("me"): schema validation failed at `/nonsense`: unknown field'),
    (
        f"api_keys: [{KEY} jwt_subject: sk-canary}}]",
        'api_keys[0] ("me"): field `jwt_subject`: needs `jwt_provider` beside it',
    ),
]


@pytest.mark.parametrize(("text", "line"), ENTRIES)
def test_entries(text: str, line: str) -> None:
    (only,) = report(text)
    assert only.startswith(line)


def test_a_report_tells_of_every_entry_in_order() -> None:
    text = """
unknown: 1
api_keys:
- {display_name: a, key_hash: sk-canary, allowed_models: [nobody, "gr*"], allowed_routes: [nobody]}
- {display_name: b, key_hash: sk-canary, allowed_models: []}
models:
- {display_name: x, routing: {targets: [{model: x}, {model: nobody}]}}
- {display_name: x}
- 3
provider_keys:
- {display_name: bad}
- {display_name: "${NO}"}
"""
    assert report(text) == [
        "(file): field `unknown`: is no collection of a resources file",
        'provider_keys[0] ("bad"): schema validation failed at `/`: "api_key" is a required property',
        "provider_keys[1]: field `display_name`: environment variable `NO` is not set, or empty",
        'models[0] ("x"): field `routing.targets[1].model`: names a model that is not in this file',
        'models[1] ("x"): models[0] has this name already',
        "models[2]: must be a mapping",
        'api_keys[0] ("a"): field `allowed_models[0]`: names a model that is not in this file',
        'api_keys[0] ("a"): field `allowed_routes[0]`: names a passthrough route that is not in this file',
        'api_keys[1] ("b"): field `key_hash`: is a key that api_keys[0] has already',
    ]


def test_scalars_mean_what_they_look_like() -> None:
    text = """
provider_keys:
- display_name: yes
  api_key: 22:00
  api_base: 2024-01-01
  provider: True
  request: {default_body_fields: {a: 0o17, b: 0x1f, c: +3, d: 1e2, e: NULL, f: false, g: ~, h: , i: off}}
"""
    (document,) = rows(loaded(text)).values()
    assert document["display_name"] == "yes"
    assert document["api_key"] == "22:00"
    assert document["api_base"] == "2024-01-01"
    assert document["provider"] == "True"
    assert document["request"]["default_body_fields"] == {
        "a": 15,
        "b": 31,
        "c": 3,
        "d": 100.0,
        "e": "NULL",
        "f": False,
        "g": None,
        "h": None,
        "i": "off",
    }


@pytest.mark.parametrize("number", [".inf", ".nan", "1e999", "!!float .inf"])
def test_numbers_that_json_does_not_have(number: str) -> None:
    (only,) = report(
        f"provider_keys: [{{display_name: a, api_key: b, request: {{default_body_fields: {{n: {number}}}}}}}]"
    )
    assert "provider_keys[0]: field `request.default_body_fields.n`: must be a finite number" in only


def test_aliases_are_copies() -> None:
    text = "provider_keys: [&one {display_name: a, api_key: k}, {display_name: b, api_key: k, tls: &t {}}]"
    assert len(loaded(text).rows) == 2
    assert report(text.replace("{display_name: b, api_key: k, tls: &t {}}", "*one")) == [
        'provider_keys[1] ("a"): provider_keys[0] has this name already'
    ]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "no.yaml", tmp_path, "a\0b"):
        with pytest.raises(Unusable, match=r"1 error\(s\):\n  - \(file\): cannot read file: ") as refused:
            read_file(str(path), {})
        assert refused.value.digest == ""


ALL = [pytest.param(kind, case, id=f"{kind}: {case.name}") for kind in COLLECTIONS for case in cases(kind)]


@pytest.mark.parametrize(("kind", "case"), ALL)
def test_the_verdict_is_the_one_of_every_other_way_in(kind: str, case: Case) -> None:
    """References are let be: they are the file's own matter, and the table's documents stand alone."""
    document = json.loads(json.dumps(case.document).replace("$", "$$"))
    if kind == "api_keys" and isinstance(document, dict) and not document.get("display_name"):
        document["display_name"] = "case"  # a file asks for it, the other ways in do not
    others: dict[str, list[Any]] = {"models": [], "api_keys": []}
    if kind == "rate_limit_policies":  # names in place of ids: there has to be what they name
        names = sorted({text for text in texts(document) if text})
        others["models"] = [{"display_name": name, "routing": {"targets": [{"model": name}]}} for name in names]
        others["api_keys"] = [{"display_name": name, "key_hash": name, "allowed_models": []} for name in names]
    try:
        load(json.dumps({"_format_version": "1", **others, kind: [document]}).encode(), "r.yaml", {})
        problems = []
    except FileRefused as error:
        problems = [problem for problem in error.problems if not problem.dangling]
    assert CANARY not in " ".join(map(str, problems))
    assert ("refused" if problems else "ok") == case.strict, problems


def texts(value: Any) -> list[str]:
    """Every text in a document."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in texts(part)]


@pytest.mark.parametrize("wrong", ["api_key: '${NO}'", "api_key: k, id: k", "api_key: 3"])
def test_what_is_wrong_with_an_entry_is_not_said_of_those_that_name_it(wrong: str) -> None:
    model = "{display_name: m, provider: openai, model_name: m, provider_key: key}"
    (only,) = report(f"provider_keys: [{{display_name: key, {wrong}}}]\nmodels: [{model}]")
    assert only.startswith("provider_keys[0]")
