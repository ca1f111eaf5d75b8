"""The client libraries of the providers, behind pydantic-ai: how each is made, asked, and what its errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import google.auth
import httpx2
from anthropic import AsyncAnthropic
from google.auth import exceptions as google_auth
from openai import AsyncOpenAI
from pydantic_ai import exceptions as ai
from pydantic_ai.messages import ModelRequest, ModelResponse, SystemPromptPart, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google_cloud import GoogleCloudProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from utxoiq.errors import ConfigError, InsightRefused, ProviderError, UtxoiqError
from utxoiq.insights.providers import LOG_IN, ProviderBusy
from utxoiq.insights.slots import clean

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from pydantic_ai.settings import ModelSettings

    from utxoiq.settings import AiSettings

CLOUD_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
NO_KEY_NEEDED = "none"
"""What a server without keys is sent as one: OpenAI's client insists."""
OLD_NAMES = OpenAIModelProfile(openai_chat_supports_max_completion_tokens=False)
"""Servers that are not OpenAI's know the limit of an answer as `max_tokens`; some know no other name."""
ADVICE_LIMIT = 160
PASSING = (
    ai.ModelConnectionError, ai.ModelRateLimitError, ai.ModelRequestTimeout, ai.ModelServerError,
    ai.ModelUnavailableError, httpx2.TransportError, google_auth.TransportError, OSError,
)  # fmt: skip
"""Errors without an HTTP status that may be gone when the same is tried again."""


def model_of(
    settings: AiSettings, base_url: str | None, model: str, credentials: Credentials | None
) -> tuple[Model[Any], httpx2.AsyncClient]:
    """The model and the HTTP client it uses, which is the caller's to close. Raises ConfigError."""
    patience = settings.timeout_seconds + 1  # ours ends first, and is the same for all
    http = httpx2.AsyncClient(timeout=httpx2.Timeout(patience, connect=2 * patience))
    key = settings.key.get_secret_value()
    if settings.provider == "vertex_ai":
        return _vertex(settings, base_url, model, credentials or _default_credentials(), http), http
    if settings.provider == "anthropic":
        anthropic = AsyncAnthropic(api_key=key, base_url=base_url, max_retries=0, http_client=http)
        return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=anthropic)), http
    client = AsyncOpenAI(api_key=key or NO_KEY_NEEDED, base_url=base_url, max_retries=0, http_client=http)
    if settings.provider == "openai":
        return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client)), http
    client.organization = client.project = None  # from the environment, and meant for OpenAI only
    provider = OpenAICompatibleProvider(settings.provider, openai_client=client, profile=OLD_NAMES)
    return OpenAIChatModel(model, provider=provider), http


def _vertex(
    settings: AiSettings, base_url: str | None, model: str, credentials: Credentials, http: httpx2.AsyncClient
) -> Model[Any]:
    provider = GoogleCloudProvider(
        credentials=credentials,
        project=settings.project,
        location=settings.location,
        http_client=http,
        base_url=base_url,
    )
    return GoogleModel(model, provider=provider)


def _default_credentials() -> Credentials:
    try:
        credentials, _ = google.auth.default(scopes=[CLOUD_SCOPE])
    except google_auth.GoogleAuthError as error:
        raise ConfigError(f"ai.provider is vertex_ai, and nobody is logged in to Google Cloud; {LOG_IN}") from error
    return credentials


async def send(
    model: Model[Any], system: str, user: str, wishes: ModelSettings, schema: dict[str, Any] | None
) -> ModelResponse:
    """One request, its answer held to `schema` where the model can. Raises the libraries' errors."""
    parameters = ModelRequestParameters()
    if schema and model.profile.get("supports_json_schema_output"):
        output = OutputObjectDefinition(json_schema=schema, name="insight", strict=True)
        parameters = ModelRequestParameters(output_mode="native", output_object=output)
    request = ModelRequest(parts=[SystemPromptPart(system), UserPromptPart(user)])
    return await model.request([request], wishes, parameters)


def error_of(error: Exception, settings: AiSettings) -> UtxoiqError:
    """Our error for one of theirs, without what was sent and without the key."""
    name = settings.provider
    if isinstance(error, ai.ContentFilterError):
        return InsightRefused(["the model refused, or its provider's filter did"])
    if isinstance(error, ai.ModelQuotaExceededError):
        return ProviderError(f"{name}: the account's quota or credit is used up; see its billing page")
    if isinstance(error, ai.ModelHTTPError):
        return _error_of_status(error, settings)
    if isinstance(error, PASSING):
        return ProviderBusy(f"{name}: can't be reached ({_kind(error)}); check the network and ai.base_url")
    if isinstance(error, google_auth.GoogleAuthError):
        return ProviderError(f"{name}: Google Cloud gave no token ({_kind(error)}); {LOG_IN}")
    return ProviderError(f"{name}: answered nonsense ({_kind(error)}); check ai.base_url and ai.model")


def _error_of_status(error: ai.ModelHTTPError, settings: AiSettings) -> UtxoiqError:
    name, status = settings.provider, error.status_code
    if status in (408, 409, 425, 429) or status >= 500:
        what = "a rate limit is reached" if status == 429 else "busy or down"
        return ProviderBusy(f"{name}: {what} (HTTP {status})", error.retry_after)
    if status in (401, 403):
        what = "the role roles/aiplatform.user" if name == "vertex_ai" else "ai.key"
        return ProviderError(f"{name}: refused to serve us (HTTP {status}); check {what}")
    if status == 404:
        return ProviderError(f"{name}: no such model or address (HTTP 404); check ai.model and ai.base_url")
    return ProviderError(f"{name}: refused the request (HTTP {status}{_said(error, settings)})")


def _said(error: ai.ModelHTTPError, settings: AiSettings) -> str:
    """The server's own reason, where it gives one, shortened and without the key."""
    body = error.body
    inner = body.get("error", body) if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else inner
    if not isinstance(message, str):
        return ""
    key = settings.key.get_secret_value()
    return f": {clean(message.replace(key, '*') if key else message, ADVICE_LIMIT)}"


def _kind(error: BaseException) -> str:
    """The class of the innermost cause: `ConnectError` says more than `APIConnectionError`."""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
