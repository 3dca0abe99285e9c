"""What `helm test` does: uses the gateway as its operator and its callers would, and cleans up. Exit code 0: it works.

Self-hosted: makes a provider key, a model and a caller key through the admin API, sends a chat request and a stream
through the proxy to a provider that answers by itself (`provider.py`, in this pod), looks for them in the proxy's
metrics, and deletes what it made. Managed: the proxy is ready and refuses who has no key; an agent leads.

Needs nothing but Python. Where things are comes from the environment: see `Place`. Keys are never printed.
"""

import http.client
import json
import os
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from provider import TEXT, Provider

SECONDS = 15.0
"""One call takes no longer."""


@dataclass(frozen=True)
class Place:
    """Where the parts of the release are. URLs have no trailing slash."""

    proxy: str
    proxy_metrics: str = ""
    """Page of the metrics; blank where there is none."""
    admin: str = ""
    """Blank in managed mode."""
    admin_key_file: str = ""
    agent: str = ""
    """Blank outside managed mode."""
    own_ip: str = "127.0.0.1"
    provider_port: int = 8080
    patience: float = 60.0
    """Seconds until what has to come true is given up."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Place":
        """PROXY_URL, PROXY_METRICS_URL, ADMIN_URL, ADMIN_KEY_FILE, AGENT_URL, POD_IP, PROVIDER_PORT, PATIENCE."""
        return cls(
            environ["PROXY_URL"],
            environ.get("PROXY_METRICS_URL", ""),
            environ.get("ADMIN_URL", ""),
            environ.get("ADMIN_KEY_FILE", ""),
            environ.get("AGENT_URL", ""),
            environ.get("POD_IP", "127.0.0.1"),
            int(environ.get("PROVIDER_PORT", "8080")),
            float(environ.get("PATIENCE", "60")),
        )


class Failed(Exception):
    """The gateway did not do what it should; the text says what to look at."""


@dataclass(frozen=True)
class Answer:
    """Of one call."""

    status: int
    text: str

    @property
    def body(self) -> Any:
        try:
            return json.loads(self.text)
        except ValueError:
            raise Failed(f"an answer is no JSON: status {self.status}") from None


def call(method: str, url: str, key: str = "", document: Any = None, *, address: str = "") -> Answer:
    """One call; `address`: connect there instead of where the name leads. OSError where nobody answers."""
    parts = urlsplit(url)
    host, port = address or parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False  # certificates are for the callers' name, not for the Service's
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    data = None
    if document is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(document)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body=data, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode("utf-8", "replace"))
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__} of {parts.netloc}") from None
    finally:
        connection.close()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def until(what: str, condition: Callable[[], str], patience: float) -> None:
    """Wait until `condition` has nothing to object."""
    deadline = time.monotonic() + patience
    while True:
        try:
            objection = condition()
        except OSError as error:
            objection = str(error) or type(error).__name__
        if not objection:
            return say(f"ok      {what}")
        if time.monotonic() >= deadline:
            raise Failed(f"{what}: {objection}")
        time.sleep(0.5)


def expect(what: str, answer: Answer, status: int) -> Answer:
    """The answer, if it has this status."""
    if answer.status != status:
        raise Failed(f"{what}: status {answer.status} instead of {status}: {answer.text[:300]}")
    say(f"ok      {what}")
    return answer


def status_of(url: str) -> str:
    """Empty, or why a page does not answer 200."""
    answer = call("GET", url)
    return "" if answer.status == 200 else f"status {answer.status}: {answer.text[:200]}"


def pages(url: str) -> list[str]:
    """A page of every pod behind a name: a headless Service has an address for each."""
    parts = urlsplit(url)
    found = socket.getaddrinfo(parts.hostname, parts.port, proto=socket.IPPROTO_TCP)
    addresses = sorted({str(each[4][0]) for each in found})
    return [answer.text for answer in (call("GET", url, address=each) for each in addresses) if answer.status == 200]


class SelfHosted:
    """The test where resources are written through the admin. What it makes has names that are nobody else's."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.admin_key = Path(place.admin_key_file).read_text().strip()
        self.made: list[str] = []
        """Paths, in the order they were made."""
        self.name = f"helm-test-{secrets.token_hex(4)}"
        self.caller_key = f"sk-{secrets.token_hex(16)}"

    def run(self) -> None:
        place = self.place
        until("the proxy is ready", lambda: status_of(f"{place.proxy}/readyz"), place.patience)
        until("the admin is ready", lambda: status_of(f"{place.admin}/readyz"), place.patience)
        provider = Provider(place.own_ip, place.provider_port, f"sk-{secrets.token_hex(16)}")
        port = provider.start()
        try:
            self._make(provider.key, port)
            self._ask(provider)
            if place.proxy_metrics:
                self._count()
        finally:
            self._clean()
            provider.shutdown()

    def _make(self, provider_key: str, port: int) -> None:
        host = f"[{self.place.own_ip}]" if ":" in self.place.own_ip else self.place.own_ip
        key = {"display_name": self.name, "provider": "openai", "api_key": provider_key}
        key_id = self._create("provider_keys", {**key, "api_base": f"http://{host}:{port}/v1"})
        model = {"display_name": self.name, "provider": "openai", "model_name": "gpt-4o", "provider_key_id": key_id}
        self._create("models", model)
        self._create("api_keys", {"display_name": self.name, "key": self.caller_key, "allowed_models": [self.name]})

    def _create(self, kind: str, document: Mapping[str, Any]) -> str:
        url = f"{self.place.admin}/admin/v1/{kind}?wait=5s"
        answer = expect(f"the admin takes one of {kind}", call("POST", url, self.admin_key, document), 200)
        self.made.append(f"{kind}/{answer.body['id']}")
        return str(answer.body["id"])

    def _chat(self, key: str, *, stream: bool = False) -> Answer:
        body = {"model": self.name, "messages": [{"role": "user", "content": "Hello?"}], "stream": stream}
        return call("POST", f"{self.place.proxy}/v1/chat/completions", key, body)

    def _ask(self, provider: Provider) -> None:
        def served() -> str:
            answer = self._chat(self.caller_key)
            return "" if answer.status == 200 else f"status {answer.status}: {answer.text[:300]}"

        until("a proxy serves the new model", served, self.place.patience)
        before = provider.asked
        answer = expect("a chat request is answered", self._chat(self.caller_key), 200).body
        if answer["choices"][0]["message"]["content"] != TEXT or answer["usage"]["total_tokens"] != 12:
            raise Failed("the answer is not the provider's")
        stream = expect("a stream is answered", self._chat(self.caller_key, stream=True), 200).text
        events = [line[6:] for line in stream.splitlines() if line.startswith("data: ")]
        deltas = [json.loads(event) for event in events if event != "[DONE]"]
        parts = [choice["delta"].get("content") or "" for delta in deltas for choice in delta["choices"]]
        if events[-1:] != ["[DONE]"] or "".join(parts) != TEXT:
            raise Failed("the stream is not the provider's")
        if provider.asked != before + 2:
            raise Failed(f"the provider was asked {provider.asked - before} times instead of twice")
        expect("a key that nobody has is refused", self._chat(f"sk-{secrets.token_hex(16)}"), 401)

    def _count(self) -> None:
        label = f'model="{self.name}"'

        def counted() -> str:
            lines = [line for page in pages(self.place.proxy_metrics) for line in page.splitlines()]
            counts = [
                float(line.rsplit(" ", 1)[1])
                for line in lines
                if line.startswith("aisix_requests_total{") and label in line and 'status="200"' in line
            ]
            return "" if sum(counts) >= 2 else f"{sum(counts):.0f} answers are counted on {self.place.proxy_metrics}"

        until("the metrics count the requests", counted, self.place.patience)

    def _clean(self) -> None:
        for path in reversed(self.made):
            url = f"{self.place.admin}/admin/v1/{path}?purge=true&wait=5s"
            try:
                answer = call("DELETE", url, self.admin_key)
                done = answer.status in (200, 204, 404)
            except OSError:
                done = False
            say(f"{'ok      deleted' if done else 'WARNING left behind'} {path}")


def managed(place: Place) -> None:
    """The test where the Cloud writes resources: nothing may be made here."""
    until("the proxy is ready", lambda: status_of(f"{place.proxy}/readyz"), place.patience)
    body = {"model": "none", "messages": [{"role": "user", "content": "Hello?"}]}
    answer = call("POST", f"{place.proxy}/v1/chat/completions", f"sk-{secrets.token_hex(16)}", body)
    expect("a key that nobody has is refused", answer, 401)
    if place.proxy_metrics:
        if not any("aisix_config_applied_revision" in page for page in pages(place.proxy_metrics)):
            raise Failed(f"no metrics of a proxy on {place.proxy_metrics}")
        say("ok      the proxy's metrics are served")

    def leads() -> str:
        statuses = [json.loads(page) for page in pages(f"{place.agent}/status/cloud")]
        for each in statuses:
            certificate = each.get("certificate") or {}
            if each["leading"] and certificate.get("serial"):
                say(f"        environment {certificate['env_id']}, certificate until {certificate['not_after']}")
                return ""
        refusals = {(each.get("certificate") or {}).get("last_refusal") or "" for each in statuses} - {""}
        return "; ".join(sorted(refusals)) or f"none of {len(statuses)} agents leads with a certificate"

    until("an agent leads, with a certificate of the Cloud", leads, place.patience)


def main(environ: Mapping[str, str]) -> int:
    place = Place.of(environ)
    try:
        if place.admin:
            SelfHosted(place).run()
        else:
            managed(place)
    except (Failed, OSError) as error:
        say(f"FAILED  {error}")
        return 1
    say("The gateway works.")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
