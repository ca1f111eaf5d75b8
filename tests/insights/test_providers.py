"""Providers, through their real client libraries, against servers that speak their protocols on real ports."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.auth.exceptions import RefreshError, TransportError
from google.oauth2.credentials import Credentials

from helpers.ai_servers import (
    EXPLANATION,
    GOOD,
    HEADLINE,
    KEY,
    PROVIDERS,
    SUMMARY,
    TOKEN,
    TOKENS_IN,
    TOKENS_OUT,
    AiServer,
    Measured,
    Play,
    answer_with,
    data_of,
    provider_at,
)
from helpers.process import python, said
from helpers.settings import in_folder
from insights.test_checker import signals
from utxoiq.config import Sources
from utxoiq.errors import ConfigError, InsightRefused, ProviderError, ProviderUnavailable, UtxoiqError
from utxoiq.insights import providers
from utxoiq.insights.checker import InsightContent
from utxoiq.insights.generator import InsightGenerator, Prompt, TemplateProvider
from utxoiq.insights.prompting import PROMPT_VERSION
from utxoiq.insights.providers import LONGEST_WAIT, SERVICES, TRIES, Malformed, provider_of, texts_of
from utxoiq.insights.slots import slots_of
from utxoiq.settings import AiSettings

CONTENT = InsightContent(HEADLINE, SUMMARY, EXPLANATION, TOKENS_IN, TOKENS_OUT)
each_provider = pytest.mark.parametrize("name", PROVIDERS)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds between tries, which nobody waits for."""
    asked: list[float] = []

    async def pause(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(providers, "pause", pause)
    return asked


@pytest.fixture
def server() -> Iterator[AiServer]:
    with AiServer().serve() as served:
        yield served


def prompt() -> Prompt:
    signal = signals()["fee_spike"]
    return Prompt(signal, slots_of(signal))


async def answer_of(
    server: AiServer, name: str, *plays: Play, monitoring: Measured | None = None, **settings: Any
) -> InsightContent | UtxoiqError:
    """What the provider makes of these answers; an error as it is."""
    server.plays = list(plays)
    async with provider_at(server, name, monitoring, **settings) as provider:
        try:
            return await provider.generate(prompt())
        except UtxoiqError as error:
            return error


@each_provider
async def test_a_good_answer(server: AiServer, name: str) -> None:
    """Its texts and what they cost; asked with both prompts, the key where it belongs, and a schema."""
    monitoring = Measured()
    assert await answer_of(server, name, Play(), monitoring=monitoring) == CONTENT
    assert monitoring.requests == [(name, True)]
    [asked] = server.asked
    assert asked.system.startswith("You write short texts about measurements")
    assert data_of(asked.user)["kind"] == "fee_spike"
    assert asked.headers["authorization"] == f"Bearer {TOKEN if name == 'vertex_ai' else KEY}"
    assert (KEY in json.dumps([asked.path, asked.body])) is False
    for field in ("headline", "summary", "confidence_explanation"):
        schemas = {
            "anthropic": ("output_config", "format", "schema"),
            "vertex_ai": ("generationConfig", "responseJsonSchema"),
        }
        schema: Any = asked.body
        for key in schemas.get(name, ("response_format", "json_schema", "schema")):
            schema = schema[key]
        assert schema["properties"][field]["type"] == "string"


@each_provider
async def test_an_answer_is_published_under_the_providers_name(server: AiServer, name: str) -> None:
    server.plays = [Play()]
    async with provider_at(server, name, model="some-model") as provider:
        insight = await InsightGenerator(provider).generate(signals()["fee_spike"])
    assert insight.headline == "Fees reached 20 sat/vB in block 900,144"
    assert (insight.provider, insight.model, insight.prompt_version) == (name, "some-model", PROMPT_VERSION)


@each_provider
async def test_settings_reach_the_request(server: AiServer, name: str) -> None:
    """Model, limit and temperature under the protocol's names; a schema can be left out."""
    model = "some-model"
    await answer_of(server, name, Play(), model=model, max_tokens=777, temperature=0.25, json_schema=False)
    [asked] = server.asked
    body = asked.body.get("generationConfig", asked.body)
    limits = {"openai": "max_completion_tokens", "vertex_ai": "maxOutputTokens"}
    assert (body[limits.get(name, "max_tokens")], body["temperature"]) == (777, 0.25)
    assert model in json.dumps([asked.path, asked.body.get("model")])
    assert "headline" not in json.dumps(
        {k: v for k, v in asked.body.items() if k in ("response_format", "output_config")}
    )
    assert "responseJsonSchema" not in body


@pytest.mark.parametrize("name", ["compatible", "openai", "anthropic"])
async def test_the_environments_proxy_is_used(server: AiServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every client of the machine does."""
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.plays = [Play()]
    async with provider_at(server, name, base_url="http://provider.test/v1") as provider:
        assert (await InsightGenerator(provider).generate(signals()["fee_spike"])).provider == name
    [asked] = server.asked
    assert asked.path.startswith("http://provider.test/v1/")


@each_provider
async def test_models_asked_by_default_are_named(server: AiServer, name: str) -> None:
    """And known to the library by which they are asked."""
    from pydantic_ai.models import KnownModelName

    if name == "compatible":
        pytest.skip("a compatible server has no model of its own")
    async with provider_at(server, name) as provider:
        assert provider.model == SERVICES[name].model
    family = {"vertex_ai": "google-cloud", "grok": "xai"}.get(name, name)
    assert f"{family}:{provider.model}" in repr(KnownModelName.__value__)


@each_provider
async def test_a_fence_around_the_answer_is_fine(server: AiServer, name: str) -> None:
    for fenced in (f"```json\n{GOOD}\n```", f"```\n{GOOD}```", f"\n```JSON\n{GOOD}\n```\n"):
        assert await answer_of(server, name, Play(fenced)) == CONTENT


USELESS = {
    "truncated": (GOOD[:60], "it was no JSON, or was cut short"),
    "prose": ("Fees rose sharply.", "it was no JSON, or was cut short"),
    "empty": ("", "it was empty"),
    "array": ("[1, 2]", "it was JSON, but no object"),
    "missing": (answer_with(summary=None), "summary is missing"),
    "number": (answer_with(summary=3), "summary is no text"),
    "list": (answer_with(headline=["a"]), "headline is no text"),
    "blank": (answer_with(headline=" \n"), "headline must have 1 to 1000 characters"),
    "endless": (answer_with(summary="a" * 1001), "summary must have 1 to 1000 characters"),
}


@each_provider
@pytest.mark.parametrize("case", USELESS)
async def test_a_useless_answer_is_asked_for_once_more(server: AiServer, name: str, case: str) -> None:
    """With the reason, in our words; the second one counts, and its like is refused with the reason."""
    text, reason = USELESS[case]
    monitoring = Measured()
    assert await answer_of(server, name, Play(text), Play(), monitoring=monitoring) == CONTENT
    first, second = server.asked
    assert reason in second.user
    assert second.user.startswith(first.user)
    assert monitoring.requests == [(name, False), (name, True)]
    server.asked.clear()
    refusal = await answer_of(server, name, Play(text))
    assert isinstance(refusal, InsightRefused)
    assert (refusal.reasons, len(server.asked)) == ([reason], 2)


@each_provider
async def test_a_refusal_is_not_argued_with(server: AiServer, name: str) -> None:
    refusal = await answer_of(server, name, Play(finish="refused"))
    assert isinstance(refusal, InsightRefused)
    assert refusal.reasons == ["the model refused, or its provider's filter did"]
    assert len(server.asked) == 1


@each_provider
async def test_an_answer_cut_short_says_what_to_do(server: AiServer, name: str) -> None:
    """Even where what there is would be whole."""
    for text in (GOOD[:60], GOOD):
        server.asked.clear()
        refusal = await answer_of(server, name, Play(text, "length"), max_tokens=500)
        assert isinstance(refusal, InsightRefused)
        assert refusal.reasons == ["the answer was cut short at 500 tokens: raise ai.max_tokens"]
        assert len(server.asked) == 1


@each_provider
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
async def test_what_may_pass_is_tried_again(server: AiServer, name: str, status: int) -> None:
    """Twice, by us and by nobody else; each try is measured."""
    monitoring = Measured()
    busy = Play(status=status)
    assert await answer_of(server, name, busy, busy, Play(), monitoring=monitoring) == CONTENT
    assert monitoring.requests == [(name, False), (name, False), (name, True)]
    server.asked.clear()
    error = await answer_of(server, name, busy)
    assert isinstance(error, ProviderUnavailable)
    assert str(error).startswith(f"{name}: ")
    assert f"HTTP {status}" in str(error)
    assert len(server.asked) == TRIES


@each_provider
async def test_a_server_is_waited_for_as_long_as_it_asks(server: AiServer, name: str, waits: list[float]) -> None:
    """Up to a limit, above which it is left alone at once."""
    limited = Play(status=429, headers={"Retry-After": "7"})
    assert await answer_of(server, name, limited, Play(status=503), Play()) == CONTENT
    assert waits == [7, 2]
    too_long = Play(status=429, headers={"Retry-After": str(int(LONGEST_WAIT) + 1)})
    server.asked.clear()
    assert isinstance(await answer_of(server, name, too_long), ProviderUnavailable)
    assert (len(server.asked), len(waits)) == (1, 2)


async def test_waits_double_where_none_is_asked_for(server: AiServer, waits: list[float]) -> None:
    await answer_of(server, "openai", Play(status=500))
    assert waits == [1, 2]


@each_provider
async def test_silence_is_a_timeout(server: AiServer, name: str) -> None:
    """Of one request, and of all of them together."""
    monitoring = Measured()
    error = await answer_of(server, name, Play(silent=True), Play(), monitoring=monitoring, timeout_seconds=0.5)
    assert error == CONTENT
    assert monitoring.requests == [(name, False), (name, True)]
    error = await answer_of(server, name, Play(silent=True), timeout_seconds=0.1)
    assert isinstance(error, ProviderUnavailable)
    assert "no answer in" in str(error)


@each_provider
async def test_a_connection_that_breaks_is_tried_again(server: AiServer, name: str) -> None:
    assert await answer_of(server, name, Play(cut=True), Play(cut=True), Play()) == CONTENT


@each_provider
async def test_nobody_there(server: AiServer, name: str) -> None:
    """A port where nothing listens; the error says where to look."""
    error = await answer_of(server, name, base_url="http://127.0.0.1:9")
    assert isinstance(error, ProviderUnavailable)
    assert re.fullmatch(rf"{name}: can't be reached \(\w+\); check the network and ai.base_url", str(error))


REFUSALS = {401: "check", 403: "check", 404: "check ai.model and ai.base_url", 400: "no such thing", 413: "too large"}


@each_provider
@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refused_request_is_not_tried_again(server: AiServer, name: str, status: int) -> None:
    """Since it would be refused again; the error says what to do."""
    message = {400: "no such thing", 413: "too large"}.get(status, "no")
    error = await answer_of(server, name, Play(status=status, message=message))
    assert isinstance(error, ProviderError)
    assert not isinstance(error, ProviderUnavailable)
    assert f"HTTP {status}" in str(error)
    assert REFUSALS[status] in str(error)
    assert len(server.asked) == 1


async def test_used_up_credit_is_no_rate_limit(server: AiServer) -> None:
    error = await answer_of(server, "openai", Play(status=429, code="insufficient_quota"))
    assert isinstance(error, ProviderError)
    assert not isinstance(error, ProviderUnavailable)
    assert "billing" in str(error)


@each_provider
async def test_a_server_of_no_protocol(server: AiServer, name: str) -> None:
    """Some web page where an API should be."""
    error = await answer_of(server, name, Play(raw=b"<html>Welcome</html>"))
    assert isinstance(error, ProviderError)
    assert not isinstance(error, ProviderUnavailable)
    assert "check ai.base_url" in str(error)


async def test_google_without_a_token(server: AiServer) -> None:
    """A login that ran out is ours to renew; a token service out of reach is not."""

    class Failing(Credentials):
        def __init__(self, error: Exception) -> None:
            super().__init__(token=None)
            self.error = error

        def refresh(self, request: Any) -> None:
            raise self.error

    settings = AiSettings(provider="vertex_ai", project="my-project", base_url=server.url)
    for fault, kind in ((RefreshError("gone"), ProviderError), (TransportError("down"), ProviderUnavailable)):
        provider = provider_of(settings, Measured(), credentials=Failing(fault))
        with pytest.raises(kind) as caught:
            await provider.generate(prompt())
        assert isinstance(caught.value, ProviderUnavailable) == (kind is ProviderUnavailable)
        await provider.close()
    assert server.asked == []


@each_provider
@pytest.mark.parametrize(
    "play",
    [Play(status=401, message=f"Incorrect API key provided: {KEY}"), Play(status=400, message=f"{KEY} is odd"),
     Play(status=500, message=KEY), Play(f"{KEY} {TOKEN}"), Play(raw=f"<p>{KEY}{TOKEN}".encode()), Play(cut=True),
     Play()],
)  # fmt: skip
async def test_keys_are_never_told(
    server: AiServer, name: str, play: Play, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in an error, nor in what caused it, nor in the log at its loudest; whatever the server repeats."""
    caplog.set_level(logging.DEBUG)
    error = await answer_of(server, name, play)
    if isinstance(error, UtxoiqError):
        logging.getLogger("utxoiq").exception("failed", exc_info=error)
    told = [str(error), repr(error), caplog.text, *capsys.readouterr()]
    cause: BaseException | None = error if isinstance(error, BaseException) else None
    while cause is not None:
        told.append(f"{cause!r} {cause}")
        cause = cause.__cause__ or cause.__context__
    assert all(secret not in text for text in told for secret in (KEY, TOKEN, KEY[3:]))


@each_provider
async def test_another_providers_variables_are_not_sent(
    server: AiServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and addresses that other programs find in the environment: only the settings count here."""
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY", "XAI_API_KEY"):
        monkeypatch.setenv(variable, "another-key")
    for variable in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_ORG_ID", "another-organisation")
    assert await answer_of(server, name, Play()) == CONTENT
    [asked] = server.asked
    told = json.dumps([asked.headers, asked.body, asked.path])
    assert "another-key" not in told
    assert ("another-organisation" in told) == (name == "openai")


async def test_a_compatible_server_needs_no_key(server: AiServer) -> None:
    assert await answer_of(server, "compatible", Play(), key="") == CONTENT


# What the checker refuses


@each_provider
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"headline": HEADLINE + ", which is far more than any other block of late had to pay for its room"},
            "headline",
        ),
        ({"summary": "Die Gebühren stiegen auf {feerate_kvb}. Üblich sind {usual_feerate_kvb}."}, "summary"),
        ({"summary": "手续费上升到 {feerate_kvb}。通常是 {usual_feerate_kvb}。"}, "summary"),
        ({"summary": "The median rate was {feerate_kvb}."}, "summary"),
        ({"summary": "The rate was 20 sat/vB. The usual rate is {usual_feerate_kvb}."}, "digit"),
        ({"headline": "Fees fell to {feerate_kvb}"}, "direction"),
        ({"headline": "Fees at {password}"}, "slot"),
    ],
)
async def test_what_the_checker_refuses_is_not_published(
    server: AiServer, name: str, changes: dict[str, str], reason: str
) -> None:
    """Over-long headlines, other languages, too few sentences, own figures, other directions, other slots."""
    server.plays = [Play(answer_with(**changes))]
    async with provider_at(server, name) as provider:
        with pytest.raises(InsightRefused, match=reason):
            await InsightGenerator(provider).generate(signals()["fee_spike"])


@each_provider
async def test_reasons_of_a_rejection_are_given_to_the_next_attempt(server: AiServer, name: str) -> None:
    server.plays = [Play()]
    signal = signals()["fee_spike"]
    async with provider_at(server, name) as provider:
        await provider.generate(Prompt(signal, slots_of(signal), ("headline: a digit outside a slot (7)",)))
    assert data_of(server.asked[0].user)["rejected"] == ["headline: a digit outside a slot (7)"]


async def test_a_kind_without_words_is_asked_of_nobody(server: AiServer) -> None:
    signal = replace(signals()["fee_spike"], kind="strange")
    async with provider_at(server, "openai") as provider:
        with pytest.raises(InsightRefused, match="no prompt"):
            await provider.generate(Prompt(signal, slots_of(signal)))
    assert server.asked == []


# Which provider


@each_provider
async def test_no_other_provider_is_asked_in_its_place(server: AiServer, name: str) -> None:
    """What fails, fails: nothing is published, and nobody else hears of it."""
    with AiServer().serve() as other:
        server.plays = [Play(status=503)]
        async with provider_at(other, "openai"), provider_at(server, name) as provider:
            with pytest.raises(ProviderUnavailable):
                await InsightGenerator(provider).generate(signals()["fee_spike"])
        assert other.asked == []
    assert len(server.asked) == TRIES


async def test_the_template_is_the_default_and_closes_like_any_other() -> None:
    provider = provider_of(AiSettings(), Measured())
    assert isinstance(provider, TemplateProvider)
    assert (await InsightGenerator(provider).generate(signals()["fee_spike"])).provider == "template"
    await provider.close()


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"provider": "openai"}, "UTXOIQ_AI__KEY"),
        ({"provider": "anthropic"}, "UTXOIQ_AI__KEY"),
        ({"provider": "grok"}, "UTXOIQ_AI__KEY"),
        ({"provider": "vertex_ai"}, "ai.project"),
        ({"provider": "compatible", "model": "llama"}, "ai.base_url"),
        ({"provider": "compatible", "base_url": "http://127.0.0.1:11434/v1"}, "ai.model"),
    ],
)
def test_what_is_missing_is_said(settings: dict[str, Any], advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        provider_of(AiSettings(**settings), Measured())


def test_nobody_logged_in_to_google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="gcloud auth application-default login"):
        provider_of(AiSettings(provider="vertex_ai", project="my-project"), Measured())


@pytest.mark.parametrize(
    ("variables", "written", "expected"),
    [
        ({}, "", "template"),
        ({"AI_PROVIDER": "anthropic"}, "", "anthropic"),
        ({"AI_PROVIDER": ""}, "", "template"),
        ({"AI_PROVIDER": "anthropic"}, '[ai]\nprovider = "grok"\nmodel = "m"', "anthropic"),
        ({"AI_PROVIDER": "anthropic", "UTXOIQ_AI__PROVIDER": "openai"}, "", "openai"),
        ({}, '[ai]\nprovider = "grok"\nmodel = "m"', "grok"),
    ],
)
def test_the_plain_variable_names_the_provider(
    variables: dict[str, str], written: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the file, after our own variable; what else the file says of it stays."""
    monkeypatch.delenv("AI_PROVIDER", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "utxoiq.toml").write_text(written)
    settings, warnings = Sources(tmp_path / "utxoiq.toml", tmp_path / ".env").load()
    assert (settings.ai.provider, settings.ai.model) == (expected, "m" if written else "")
    assert warnings == []


def test_the_plain_variable_may_stand_in_env_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AI_PROVIDER", raising=False)
    (tmp_path / ".env").write_text("AI_PROVIDER=grok\n")
    with in_folder(tmp_path):
        assert Sources().load()[0].ai.provider == "grok"
    (tmp_path / ".env").write_text("AI_PROVIDER=chatgpt\n")
    with in_folder(tmp_path), pytest.raises(ConfigError, match=r"ai.provider: .*'template'.*, not 'chatgpt'"):
        Sources().load()


@pytest.mark.parametrize("key", ["123456", "1234.5", "true", '"sk-hidden"'])
def test_a_key_of_any_plain_type_is_text(key: str, tmp_path: Path) -> None:
    """And shown as a secret."""
    (tmp_path / "utxoiq.toml").write_text(f"[ai]\nkey = {key}\n")
    settings, _ = Sources(tmp_path / "utxoiq.toml", tmp_path / ".env").load()
    assert settings.shown()["ai"]["key"] == "**********"
    assert settings.ai.key.get_secret_value().lower() == key.strip('"')


@pytest.mark.parametrize("key", ['["sk-hidden"]', "{ a = 'sk-hidden' }"])
def test_a_key_of_another_type_is_not_told(key: str, tmp_path: Path) -> None:
    (tmp_path / "utxoiq.toml").write_text(f"[ai]\nkey = {key}\n")
    with pytest.raises(ConfigError) as caught:
        Sources(tmp_path / "utxoiq.toml", tmp_path / ".env").load()
    assert "hidden" not in str(caught.value)


def test_libraries_are_imported_when_a_provider_is_made() -> None:
    process = python("-c", "import sys, utxoiq.insights.providers; print(*sorted(sys.modules))")
    assert process.returncode == 0, said(process)
    assert not {"pydantic_ai", "openai", "anthropic", "google.genai", "httpx2", "jinja2"} & set(process.stdout.split())


@pytest.mark.parametrize(
    "answer", ["[" * 100_000, "1" * 10_000, '{"headline": NaN}', "null", '"text"', "```json\n```", "```"]
)
def test_answers_of_any_form_are_malformed_and_nothing_else(answer: str) -> None:
    with pytest.raises(Malformed):
        texts_of(answer)


def test_more_than_was_asked_for_is_left_out() -> None:
    assert texts_of(answer_with(link="https://example.org", note=[1])) == json.loads(GOOD)
