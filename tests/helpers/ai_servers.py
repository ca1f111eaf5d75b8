"""AI providers on real ports: servers that speak the protocols of OpenAI, Anthropic and Vertex AI, for real clients.

Which protocol is meant, the path of a request says. What is answered, the plays of the server say, one a request, the
last one again and again; a play may be made from what was asked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from google.oauth2.credentials import Credentials

from utxoiq.insights.generator import AIProvider
from utxoiq.insights.providers import FIELDS, provider_of
from utxoiq.observability import MonitoringModule
from utxoiq.settings import AiSettings

Protocol = Literal["openai", "anthropic", "vertex"]
Finish = Literal["stop", "length", "refused"]

HEADLINE = "Fees reached {feerate_kvb} in block {height}"
SUMMARY = "The median rate was {feerate_kvb}. The usual rate is {usual_feerate_kvb}."
EXPLANATION = "Confidence {confidence}, as {basis}; it rests on {cases} cases."
GOOD = json.dumps({"headline": HEADLINE, "summary": SUMMARY, "confidence_explanation": EXPLANATION})
"""A text that is true of a signal of kind `fee_spike`."""
TOKENS_IN, TOKENS_OUT = 321, 45
PATIENCE = 30.0
KEY, TOKEN = "sk-ab12cd34ef56", "ya29.fake-token"
"""Never to be seen again, but by the server."""
PROVIDERS = ("openai", "anthropic", "vertex_ai", "grok", "compatible")


def answer_with(**changes: Any) -> str:
    """GOOD, changed; None leaves a text out."""
    return json.dumps({name: text for name, text in {**json.loads(GOOD), **changes}.items() if text is not None})


@dataclass(frozen=True)
class Play:
    """One answer: the model's text and how it ended, or an HTTP status with headers and a message."""

    text: str = GOOD
    finish: Finish = "stop"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "no"
    code: str | None = None
    silent: bool = False
    """Say nothing until the server is closed."""
    raw: bytes | None = None
    """These bytes as the whole body, of no protocol."""
    cut: bool = False
    """Hang up in the middle of the body."""


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    protocol: Protocol
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def system(self) -> str:
        """The system prompt."""
        if self.protocol == "openai":
            return "".join(m["content"] for m in self.body["messages"] if m["role"] == "system")
        if self.protocol == "anthropic":
            system = self.body["system"]
            return system if isinstance(system, str) else "".join(part["text"] for part in system)
        return "".join(part["text"] for part in self.body["systemInstruction"]["parts"])

    @property
    def user(self) -> str:
        """The user prompt."""
        if self.protocol == "vertex":
            return "".join(part["text"] for turn in self.body["contents"] for part in turn["parts"])
        contents = [m["content"] for m in self.body["messages"] if m["role"] == "user"]
        return "".join(c if isinstance(c, str) else "".join(part["text"] for part in c) for c in contents)


Script = Play | Callable[[Asked], Play]


class AiServer:
    """A server of all three protocols. `plays` is what it answers, `asked` what it was asked."""

    def __init__(self) -> None:
        self.plays: list[Script] = [Play()]
        self.asked: list[Asked] = []
        self.url = ""
        self._closing = threading.Event()

    def address(self, provider: str) -> str:
        """Where `provider` is to be looked for."""
        return self.url if provider in ("anthropic", "vertex_ai") else f"{self.url}/v1"

    def next(self, asked: Asked) -> Play:
        self.asked.append(asked)
        script = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        play = script if isinstance(script, Play) else script(asked)
        if play.silent:
            self._closing.wait(PATIENCE)
        return play

    @contextmanager
    def serve(self) -> Iterator[AiServer]:
        server = _Server(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what a timeout looks like from here."""


def _handler_of(server: AiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            protocol = _protocol_of(self.path)
            play = server.next(Asked(protocol, self.path, headers, body))
            data = play.raw if play.raw is not None else json.dumps(_body_of(protocol, play)).encode()
            self.send_response(play.status)
            self.send_header("Content-Type", "application/json" if play.raw is None else "text/html")
            self.send_header("Content-Length", str(len(data)))
            for name, value in play.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if play.cut else data)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    return Handler


def _protocol_of(path: str) -> Protocol:
    if path.endswith("/chat/completions"):
        return "openai"
    return "anthropic" if path.partition("?")[0].endswith("/v1/messages") else "vertex"


def _body_of(protocol: Protocol, play: Play) -> dict[str, Any]:
    if play.status != 200:
        return _ERRORS[protocol](play)
    return _ANSWERS[protocol](play)


def _openai(play: Play) -> dict[str, Any]:
    refused = play.finish == "refused"
    message = {
        "role": "assistant",
        "content": None if refused else play.text,
        "refusal": "I can't help with that." if refused else None,
    }
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "played",
        "choices": [{"index": 0, "message": message, "logprobs": None,
                     "finish_reason": "length" if play.finish == "length" else "stop"}],
        "usage": {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT, "total_tokens": TOKENS_IN + TOKENS_OUT},
    }  # fmt: skip


def _anthropic(play: Play) -> dict[str, Any]:
    refused = play.finish == "refused"
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "played",
        "content": [] if refused or not play.text else [{"type": "text", "text": play.text}],
        "stop_reason": {"stop": "end_turn", "length": "max_tokens", "refused": "refusal"}[play.finish],
        "stop_sequence": None,
        "usage": {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT},
    }  # fmt: skip


def _vertex(play: Play) -> dict[str, Any]:
    refused = play.finish == "refused"
    candidate: dict[str, Any] = {
        "index": 0, "finishReason": {"stop": "STOP", "length": "MAX_TOKENS", "refused": "SAFETY"}[play.finish],
    }  # fmt: skip
    if not refused:
        candidate["content"] = {"role": "model", "parts": [{"text": play.text}] if play.text else []}
    return {
        "candidates": [candidate],
        "usageMetadata": {"promptTokenCount": TOKENS_IN, "candidatesTokenCount": TOKENS_OUT},
        "modelVersion": "played", "createTime": "2026-11-01T00:00:00Z", "responseId": "1",
    }  # fmt: skip


_ANSWERS: dict[Protocol, Callable[[Play], dict[str, Any]]] = {
    "openai": _openai, "anthropic": _anthropic, "vertex": _vertex,
}  # fmt: skip
_ERRORS: dict[Protocol, Callable[[Play], dict[str, Any]]] = {
    "openai": lambda play: {"error": {"message": play.message, "type": "error", "param": None, "code": play.code}},
    "anthropic": lambda play: {"type": "error", "error": {"type": "api_error", "message": play.message}},
    "vertex": lambda play: {"error": {"code": play.status, "message": play.message, "status": "UNAVAILABLE"}},
}


def data_of(user: str) -> dict[str, Any]:
    """The JSON object of a user prompt."""
    data: dict[str, Any] = json.loads(user.partition("\nBEGIN DATA\n")[2].partition("\nEND DATA\n")[0])
    return data


assert set(json.loads(GOOD)) == set(FIELDS)


class Measured(MonitoringModule):
    """Keeps what would be measured of providers: (provider, whether it went well)."""

    def __init__(self) -> None:
        super().__init__(enabled=False)
        self.requests: list[tuple[str, bool]] = []

    def emit_ai_provider_metrics(self, provider: str, latency_ms: float, success: bool) -> None:
        assert latency_ms >= 0
        self.requests.append((provider, success))


@asynccontextmanager
async def provider_at(
    server: AiServer, name: str, monitoring: MonitoringModule | None = None, **settings: Any
) -> AsyncIterator[AIProvider]:
    """The provider `name` that speaks with `server`, closed at the end."""
    usual = {"key": KEY, "base_url": server.address(name), "project": "my-project", "timeout_seconds": PATIENCE}
    model = {"model": "llama"} if name == "compatible" else {}
    ai = AiSettings(provider=name, **{**usual, **model, **settings})
    provider = provider_of(ai, monitoring or Measured(), credentials=Credentials(token=TOKEN))
    try:
        yield provider
    finally:
        await provider.close()
