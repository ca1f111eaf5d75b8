"""From a signal to a checked insight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import uuid5

from utxoiq.errors import InsightRefused
from utxoiq.insights.checker import InsightContent
from utxoiq.insights.slots import fill, slots_of
from utxoiq.insights.texts import reasons_against
from utxoiq.insights.vocabulary import CALIBRATED, KINDS, UNCALIBRATED, summary_of
from utxoiq.models import NAMESPACE, Insight, Signal, canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REVISION = 1


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a provider is given: the signal, the texts of its slots, and why an earlier text was not let through."""

    signal: Signal
    slots: Mapping[str, str]
    rejected: tuple[str, ...] = ()


class AIProvider(Protocol):
    """Writes a text with slots about a signal."""

    name: str
    model: str
    prompt_version: str

    async def generate(self, prompt: Prompt) -> InsightContent:
        """Raises InsightRefused where it has nothing to say, ProviderUnavailable for what may pass, ProviderError."""

    async def close(self) -> None:
        """Let go of connections."""


class TemplateProvider:
    """The default: one fixed text a kind of signal. No key, no network, the same words every time."""

    name = "template"
    model = "template"
    prompt_version = "template-1"

    async def generate(self, prompt: Prompt) -> InsightContent:
        """The text of the signal's kind. Raises InsightRefused for a kind without one."""
        kind = KINDS.get((prompt.signal.signal_type, prompt.signal.kind))
        if kind is None:
            raise InsightRefused([f"no template for {prompt.signal.signal_type}/{prompt.signal.kind}"])
        explanation = CALIBRATED if prompt.signal.confidence_basis["calibrated"] else UNCALIBRATED
        return InsightContent(kind.headline, summary_of(kind, prompt.slots), explanation)

    async def close(self) -> None:
        """It holds none."""


class InsightGenerator:
    """Asks a provider for words and lets only checked ones through."""

    def __init__(self, provider: AIProvider | None = None) -> None:
        self.provider = provider or TemplateProvider()

    async def generate(self, signal: Signal) -> Insight:
        """The insight of a signal. Raises InsightRefused with the reasons where the text does not pass."""
        return self.publish(signal, await self.draft(signal))

    async def draft(self, signal: Signal, rejected: Sequence[str] = ()) -> InsightContent:
        """A text with slots, not checked yet; `rejected`: why an earlier one did not pass. Raises InsightRefused where
        the provider gives none, ProviderUnavailable, ProviderError."""
        missing = {"basis", "cases", "calibrated"} - set(signal.confidence_basis)
        if missing:
            raise InsightRefused([f"its confidence does not say: {', '.join(sorted(missing))}"])
        return await self.provider.generate(Prompt(signal, slots_of(signal), tuple(rejected)))

    def publish(self, signal: Signal, content: InsightContent) -> Insight:
        """The insight of a checked text. Raises InsightRefused with the reasons where it does not pass."""
        slots = slots_of(signal)
        reasons = reasons_against(content, signal)
        if reasons:
            raise InsightRefused(reasons)
        insight_id = str(uuid5(NAMESPACE, canonical_json([signal.signal_id, self.provider.name, REVISION])))
        return Insight(
            insight_id=insight_id,
            signal_id=signal.signal_id,
            category=signal.signal_type,
            headline=fill(content.headline, slots),
            summary=fill(content.summary, slots),
            confidence=signal.confidence,
            confidence_explanation=fill(content.confidence_explanation, slots),
            evidence={
                "block_heights": [] if signal.block_height is None else [signal.block_height],
                "transaction_ids": list(signal.evidence["txids"]),
            },
            provider=self.provider.name,
            model=self.provider.model,
            prompt_version=self.provider.prompt_version,
            grounded=True,
            created_at=signal.created_at,
            simulated=signal.simulated,
            chart_url=f"/charts/{insight_id}.svg" if (signal.signal_type, signal.kind) in KINDS else None,
        )
