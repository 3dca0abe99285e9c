"""Wire cases as data: what a caller sent, what a provider answered, and what must come of it.

A folder `tests/wire/<wire>/<case>/` holds
  case.json             what it shows (`about`), the answer's `status` and `headers`, fields of the `target`
  request.json          the caller's body, byte for byte
  stream.txt            the provider's stream, or
  response.json         its buffered body
  expected_upstream.json  the body we send
  expected.json         everything else that must come of it; refreshed by `make golden`, reviewed as a diff
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from aisix_common.secret import Secret
from aisix_proxy.canonical.http import Origin, UpstreamResponse
from aisix_proxy.canonical.request import Request
from aisix_proxy.canonical.target import BodyOverrides, Target
from aisix_proxy.dialects import DIALECT
from aisix_proxy.providers import ADAPTER
from aisix_proxy.providers.base import Adapter

ROOT = Path(__file__).parent
CREDENTIAL = "sk-upstream-secret"


class Context:
    """An exchange as an adapter sees it (providers/base.py, CallContext)."""

    request_id = "11111111-2222-4333-8444-555555555555"

    def __init__(self, headers: Mapping[str, str] | None = None, variables: Mapping[str, str] | None = None) -> None:
        self.caller_headers: Mapping[str, str] = headers or {}
        self._variables = variables or {}

    def variable(self, name: str) -> str | None:
        return self._variables.get(name)


def make_target(wire: str = "openai", **fields: Any) -> Target:
    """A target with everything an adapter needs; `fields` replace or add."""
    values: dict[str, Any] = {
        "model_id": "m-1",
        "display_name": "alias",
        "model_name": "gpt-4o-2024-08-06",
        "provider": wire,
        "wire": wire,
        "provider_key_id": "pk-1",
        "provider_key_name": "pk",
        "credential": Secret(CREDENTIAL),
        "origin": Origin("https", "api.openai.com", 443),
        "base_path": "/v1",
    }
    return Target(**(values | fields))


@dataclass(frozen=True)
class Case:
    """One folder."""

    path: Path

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    @cached_property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.path / "case.json").read_text())
        return facts

    @property
    def adapter(self) -> Adapter:
        return ADAPTER[self.path.parent.name]

    @cached_property
    def request(self) -> Request:
        return DIALECT["openai-chat"].read((self.path / "request.json").read_bytes())

    @cached_property
    def target(self) -> Target:
        fields = dict(self.facts.get("target", {}))
        if "body" in fields:
            fields["body"] = msgspec.convert(fields["body"], BodyOverrides)
        return make_target(self.path.parent.name, **fields)

    @property
    def streams(self) -> bool:
        return (self.path / "stream.txt").exists()

    @property
    def stream(self) -> bytes:
        return (self.path / "stream.txt").read_bytes()

    @property
    def response(self) -> UpstreamResponse:
        body = (self.path / "response.json").read_bytes()
        return UpstreamResponse(self.facts.get("status", 200), self.facts.get("headers", {}), body)


CASES = [Case(path.parent) for path in sorted(ROOT.glob("*/*/case.json"))]
STREAMS = [case for case in CASES if case.streams]
BUFFERED = [case for case in CASES if not case.streams]
