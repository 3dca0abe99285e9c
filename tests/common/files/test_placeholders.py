"""Variables in place of secrets."""

from aisix_common.files.placeholders import Placeholders, sealed
from aisix_common.resources import BY_NAME, SecretJson, check
from aisix_common.secret import Secret


def test_secrets_are_found_by_their_type() -> None:
    kind = BY_NAME["provider_keys"]
    body = {"s": "canary", "n": 1}
    value = check(kind, {"display_name": "***", "api_key": "canary", "request": {"default_body_fields": {"a": body}}})
    tree = sealed(kind, value)
    assert tree["api_key"] == Secret("canary")
    assert tree["display_name"] == "***"
    found = tree["request"]["default_body_fields"]["a"]
    assert isinstance(found, SecretJson)
    assert found.value() == body


def test_names_and_values() -> None:
    made = Placeholders(reveal=False)
    tree = {"a$": "$x", "k": Secret("s$1"), "l": [Secret("s2"), Secret("")], "j": SecretJson.of({"q": ["s3", 4]})}
    assert made.tree(tree, "mcp_servers", "a-b ü") == {
        "a$": "$$x",
        "k": "${AISIXSECRET_MCP_SERVER_A_B___K}",
        "l": ["${AISIXSECRET_MCP_SERVER_A_B___L_0}", ""],
        "j": {"q": ["${AISIXSECRET_MCP_SERVER_A_B___J_Q_0}", 4]},
    }
    assert list(made.values.values()) == ["s$1", "s2", "s3"]
    assert made.text("other", "mcp_servers", "a.b ü", ("k",)) == "${AISIXSECRET_MCP_SERVER_A_B___K_2}"


def test_revealed() -> None:
    made = Placeholders(reveal=True)
    assert made.tree({"k": Secret("s${A}"), "j": SecretJson.of(["$"])}, "models", "a") == {"k": "s$${A}", "j": ["$$"]}
    assert made.values == {}
