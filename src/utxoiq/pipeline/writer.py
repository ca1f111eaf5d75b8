"""From one signal to its insight: within a budget, one attempt to mend, and the template where no more is to be had."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from utxoiq.errors import InsightRefused, ProviderError
from utxoiq.insights.generator import InsightGenerator
from utxoiq.persistence import ai_calls

if TYPE_CHECKING:
    from utxoiq.models import Insight, Signal
    from utxoiq.persistence.ai_calls import Budget, Call
    from utxoiq.persistence.leases import Lease
    from utxoiq.persistence.sqlite import SqliteStore

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""A text, and one mended text."""


class Writer:
    """Asks one provider, never another in its place; what it may not or can't say, the template does."""

    def __init__(
        self, store: SqliteStore, generator: InsightGenerator, budget: Budget, *, confidence_threshold: float = 0.0
    ) -> None:
        """Signals below `confidence_threshold` are told by the template."""
        self._store, self._generator, self._budget = store, generator, budget
        self._threshold, self._template = confidence_threshold, InsightGenerator()
        self._told = ""

    async def write(self, signal: Signal, lease: Lease, correlation_id: str) -> Insight:
        """The insight of a signal. Raises InsightRefused where not even the template has words, ProviderError,
        ProviderUnavailable, LeaseLost, StoreError."""
        if self._generator.provider.name != "template" and signal.confidence >= self._threshold:
            insight = await self._ask(signal, lease, correlation_id)
            if insight is not None:
                return insight
        return await self._template.generate(signal)

    async def _ask(self, signal: Signal, lease: Lease, correlation_id: str) -> Insight | None:
        rejected: list[str] = []
        for _ in range(ATTEMPTS):
            call = await self._reserve(signal, lease, correlation_id)
            if call is None:
                return None
            insight, rejected = await self._one(signal, call, rejected)
            if insight is not None:
                return insight
        log.warning("signal %s: told by the template, for %s", signal.signal_id, "; ".join(rejected))
        return None

    async def _reserve(self, signal: Signal, lease: Lease, correlation_id: str) -> Call | None:
        provider = self._generator.provider
        asked = {
            "signal_id": signal.signal_id, "provider": provider.name, "model": provider.model,
            "prompt_version": provider.prompt_version,
        }  # fmt: skip
        call = await asyncio.to_thread(ai_calls.reserve, self._store, lease, self._budget, asked, correlation_id)
        if call is None:
            self._tell_once(f"the budget of {provider.name} for today is used up: the template writes")
        elif call.repeats:
            log.warning("signal %s is asked about again: an earlier question was cut off", signal.signal_id)
        return call

    async def _one(self, signal: Signal, call: Call, rejected: list[str]) -> tuple[Insight | None, list[str]]:
        """One question: the insight, or why its text did not pass."""
        tokens: tuple[int, int] | None = None
        try:
            content = await self._generator.draft(signal, rejected)
            tokens = (content.tokens_in, content.tokens_out)
            insight = self._generator.publish(signal, content)
        except InsightRefused as refusal:
            await self._settle(call, "refused", tokens, refusal.reasons)
            return None, refusal.reasons
        except ProviderError as error:
            await self._settle(call, "failed", tokens, [str(error)])
            raise
        await self._settle(call, "passed", tokens, [])
        return insight, []

    async def _settle(
        self, call: Call, outcome: ai_calls.Outcome, tokens: tuple[int, int] | None, reasons: list[str]
    ) -> None:
        await asyncio.to_thread(ai_calls.settle, self._store, self._budget, call, outcome, tokens, reasons)

    def _tell_once(self, what: str) -> None:
        if what != self._told:
            self._told = what
            log.warning("%s", what)
