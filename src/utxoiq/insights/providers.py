"""Words from a language model: the providers there are, behind one class; timeouts, retries and errors in one place.

The libraries behind it (extra `ai`) are imported when a provider is made. Which one that is, the settings say; when it
fails, it fails: no other is asked in its place.
"""

from __future__ import annotations

import json
import logging
import re
import time
from asyncio import sleep as pause
from asyncio import timeout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from utxoiq.errors import ConfigError, InsightRefused, ProviderUnavailable, UtxoiqError
from utxoiq.insights.checker import InsightContent
from utxoiq.insights.generator import AIProvider, Prompt, TemplateProvider

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from httpx2 import AsyncClient
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings

    from utxoiq.observability import MonitoringModule
    from utxoiq.settings import AiSettings

TRIES = 3
"""Of one request, where what stopped it may pass."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 20.0
"""Seconds between tries, doubled each time. A server that asks for more than the longest is left alone for now."""
LENGTH_LIMIT = 1000
"""Characters of one text of an answer, above which nobody reads on."""
MISSING = "{} needs more packages: pip install 'utxoiq[ai]'"
NO_KEY = "ai.provider is {0}, and there is no key: give UTXOIQ_AI__KEY, or a file utxoiq_ai__key among the secrets"
LOG_IN = "run `gcloud auth application-default login`, or name a key file in GOOGLE_APPLICATION_CREDENTIALS"
CLIENT_LOGGERS = ("openai", "anthropic", "google_genai", "httpx", "httpx2", "httpcore", "httpcore2")
FIELDS = {
    "headline": "what was measured, in one line",
    "summary": "two or three sentences",
    "confidence_explanation": "one or two sentences",
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {name: {"type": "string", "description": meaning} for name, meaning in FIELDS.items()},
    "required": list(FIELDS),
    "additionalProperties": False,
}
"""What an answer must be, as JSON schema."""

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Service:
    """What is known of a provider: its address, where it has one, and the model to ask where no other is named."""

    base_url: str | None
    model: str


SERVICES = {
    "openai": Service("https://api.openai.com/v1", "gpt-6-luna"),
    "anthropic": Service("https://api.anthropic.com", "claude-haiku-5-5"),
    "vertex_ai": Service(None, "gemini-3.5-flash-lite"),
    "grok": Service("https://api.x.ai/v1", "grok-4.3"),
    "compatible": Service(None, ""),
}


class ProviderBusy(ProviderUnavailable):
    """A request that may pass later. `wait`: seconds the server asks for, None where it asks for none."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        self.wait = wait
        super().__init__(message)


class Malformed(ValueError):
    """An answer that is not the JSON object asked for; the message says why, in our own words."""


def provider_of(
    settings: AiSettings, monitoring: MonitoringModule, *, credentials: Credentials | None = None
) -> AIProvider:
    """The provider that `settings` name. `credentials`: Google's, by default the application default ones.

    Raises ConfigError where something is missing: a key, a project, an address, a model, a package."""
    if settings.provider == "template":
        return TemplateProvider()
    name, service = settings.provider, SERVICES[settings.provider]
    if name not in ("vertex_ai", "compatible") and not settings.key.get_secret_value():
        raise ConfigError(NO_KEY.format(name))
    if name == "vertex_ai" and not settings.project:
        raise ConfigError("ai.provider is vertex_ai, and there is no project: give ai.project")
    if name == "compatible" and not (settings.base_url and settings.model):
        raise ConfigError(
            "ai.provider is compatible: give ai.base_url, such as http://127.0.0.1:11434/v1, and ai.model"
        )
    try:
        from utxoiq.insights.clients import model_of  # noqa: PLC0415 the libraries take two seconds to import
        from utxoiq.insights.prompting import PROMPT_VERSION  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(MISSING.format(f"ai.provider {name}")) from error
    for logger in CLIENT_LOGGERS:  # at debug they write what they send, at info each address
        logging.getLogger(logger).setLevel(logging.WARNING)
    model, http = model_of(
        settings, settings.base_url or service.base_url, settings.model or service.model, credentials
    )
    return ModelProvider(settings, model, http, monitoring, PROMPT_VERSION)


class ModelProvider:
    """A model asked for an insight's texts."""

    def __init__(
        self, settings: AiSettings, model: Model, http: AsyncClient, monitoring: MonitoringModule, prompt_version: str
    ) -> None:
        self.name: str = settings.provider
        self.model, self.prompt_version = model.model_name, prompt_version
        self._settings, self._model, self._http, self._monitoring = settings, model, http, monitoring
        self._patience = settings.timeout_seconds

    async def generate(self, prompt: Prompt) -> InsightContent:
        """The model's text, asked for once more where it is no text. Raises InsightRefused where it gives none,
        ProviderUnavailable where it can't be reached or is busy, ProviderError where it refuses us."""
        from utxoiq.insights.prompting import render, repeats  # noqa: PLC0415

        rendered = render(prompt)
        try:
            async with timeout(TRIES * self._patience):
                content = await self._insist(rendered.system, rendered.user)
        except TimeoutError:
            raise ProviderBusy(f"{self.name}: no answer in {TRIES * self._patience:g} s, retries included") from None
        if any(repeats(text, rendered.system) for text in content.texts.values()):
            raise InsightRefused(["it repeats its prompt"])
        return content

    async def close(self) -> None:
        """Let go of its connections."""
        await self._http.aclose()

    async def _insist(self, system: str, user: str) -> InsightContent:
        """An answer, the second one where the first is of no use. Raises InsightRefused where neither is."""
        try:
            return await self._ask(system, user)
        except Malformed as malformed:
            reminder = f"An earlier answer was of no use: {malformed}."
        try:
            return await self._ask(system, f"{user}\n{reminder}\n")
        except Malformed as malformed:
            raise InsightRefused([str(malformed)]) from None

    async def _ask(self, system: str, user: str) -> InsightContent:
        """One answer, tried again while what stops it may pass. Raises Malformed too."""
        attempts = AsyncRetrying(
            stop=stop_after_attempt(TRIES),
            retry=retry_if_exception(_may_pass_soon),
            wait=_wait,
            sleep=pause,
            reraise=True,
        )
        content: InsightContent = await attempts(self._request, system, user)
        return content

    async def _request(self, system: str, user: str) -> InsightContent:
        """One request and its answer, measured."""
        began, success = time.perf_counter(), False
        try:
            content = content_of(await self._send(system, user), self._settings.max_tokens)
            success = True
            return content
        finally:
            self._monitoring.emit_ai_provider_metrics(self.name, 1000 * (time.perf_counter() - began), success)

    async def _send(self, system: str, user: str) -> ModelResponse:
        from utxoiq.insights.clients import error_of, send  # noqa: PLC0415

        wishes: ModelSettings = {"max_tokens": self._settings.max_tokens}
        if self._settings.temperature is not None:
            wishes["temperature"] = self._settings.temperature
        schema = SCHEMA if self._settings.json_schema else None
        try:
            async with timeout(self._patience):
                return await send(self._model, system, user, wishes, schema)
        except TimeoutError:
            reason: UtxoiqError = ProviderBusy(f"{self.name}: no answer in {self._patience:g} s (ai.timeout_seconds)")
        except Exception as error:  # noqa: BLE001 four libraries' errors, mapped in one place
            reason = error_of(error, self._settings)
        raise reason from None  # theirs may hold what was sent


def content_of(response: ModelResponse, max_tokens: int) -> InsightContent:
    """The texts of an answer. Raises InsightRefused for a refusal or an answer cut short, Malformed."""
    if response.finish_reason == "content_filter":
        raise InsightRefused(["the model refused, or its provider's filter did"])
    if response.finish_reason == "length":
        raise InsightRefused([f"the answer was cut short at {max_tokens} tokens: raise ai.max_tokens"])
    texts = texts_of(response.text or "")
    return InsightContent(**texts, tokens_in=response.usage.input_tokens, tokens_out=response.usage.output_tokens)


def texts_of(answer: str) -> dict[str, str]:
    """FIELDS -> text, of a JSON object that may stand in a fence; what else it holds is left out. Raises Malformed."""
    fenced = _FENCED.fullmatch(answer.strip())
    try:
        read = json.loads(fenced.group(1) if fenced else answer)
    except (ValueError, RecursionError):
        raise Malformed("it was no JSON, or was cut short" if answer.strip() else "it was empty") from None
    if not isinstance(read, dict):
        raise Malformed("it was JSON, but no object")
    for name in FIELDS:
        if name not in read:
            raise Malformed(f"{name} is missing")
        if not isinstance(read[name], str):
            raise Malformed(f"{name} is no text")
        if not 0 < len(read[name].strip()) <= LENGTH_LIMIT:
            raise Malformed(f"{name} must have 1 to {LENGTH_LIMIT} characters")
    return {name: read[name].strip() for name in FIELDS}


def _may_pass_soon(error: BaseException) -> bool:
    return isinstance(error, ProviderUnavailable) and (_asked_for(error) or 0) <= LONGEST_WAIT


def _wait(state: RetryCallState) -> float:
    """Seconds before the next try: what the server asks for, else twice as long as before."""
    asked = _asked_for(state.outcome.exception() if state.outcome else None)
    doubled = FIRST_WAIT * 2 ** (state.attempt_number - 1)
    return float(doubled if asked is None else asked)


def _asked_for(error: BaseException | None) -> float | None:
    return error.wait if isinstance(error, ProviderBusy) else None
