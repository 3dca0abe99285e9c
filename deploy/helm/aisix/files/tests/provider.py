"""A provider that answers by itself, for `helm test`: OpenAI's chat completions, buffered and streamed.

Needs nothing but Python. It takes one key and counts what it is asked, so that the test sees whose requests arrived.
"""

import hmac
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = "Hello from the test provider"
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class Provider(ThreadingHTTPServer):
    """Serves on `host` and `port` (0: any) until `shutdown`; `asked` counts the requests that brought `key`."""

    daemon_threads = True

    def __init__(self, host: str, port: int, key: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)
        self.key, self.asked = key, 0

    def start(self) -> int:
        """Serve in a thread; the port."""
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Provider
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        bearer = (self.headers.get("Authorization") or "").encode()
        if not hmac.compare_digest(bearer, f"Bearer {self.server.key}".encode()):
            return self._answer(401, "application/json", json.dumps({"error": {"message": "not this key"}}))
        if not self.path.endswith("/chat/completions"):
            return self._answer(404, "application/json", json.dumps({"error": {"message": "no such path"}}))
        self.server.asked += 1
        head = {"id": f"chatcmpl-{self.server.asked}", "created": 1700000000, "model": body.get("model")}
        if not body.get("stream"):
            message = {"role": "assistant", "content": TEXT}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}
            return self._answer(200, "application/json", json.dumps(answer))
        deltas = [{"role": "assistant", "content": ""}, {"content": TEXT[:5]}, {"content": TEXT[5:]}, {}]
        endings = [None, None, None, "stop"]
        choices = [[{"index": 0, "delta": d, "finish_reason": f}] for d, f in zip(deltas, endings, strict=True)]
        chunks = [{**head, "object": "chat.completion.chunk", "choices": each} for each in choices]
        chunks.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
        events = [*map(json.dumps, chunks), "[DONE]"]
        return self._answer(200, "text/event-stream", "".join(f"data: {event}\n\n" for event in events))

    def _answer(self, status: int, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test says itself what it did."""
