"""Every question to an AI provider: counted before it is asked, so that a kill can't spend what nobody sees."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Sequence

    from utxoiq.persistence.leases import Lease
    from utxoiq.persistence.sqlite import SqliteStore

Outcome = Literal["passed", "refused", "failed"]
TOKENS_IN = 4_000
"""What a prompt is reserved for; the largest of ours have some 2,500."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a provider may be asked in a UTC day, and what it charges, in USD; None is no limit."""

    usd_a_day: float | None = None
    calls_a_day: int | None = None
    usd_in: float = 0.0
    usd_out: float = 0.0
    """Of a million tokens."""
    most_tokens: int = 2_000

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """USD."""
        return (tokens_in * self.usd_in + tokens_out * self.usd_out) / 1e6


@dataclass(frozen=True, slots=True)
class Call:
    """A question that is counted."""

    call_id: str
    repeats: bool
    """An earlier question about the same signal was cut off: it may have been answered, and charged."""


def reserve(
    store: SqliteStore, lease: Lease, budget: Budget, asked: dict[str, str], correlation_id: str
) -> Call | None:
    """Count a question before it is asked, None where the day's budget is used up. `asked`: signal_id, provider, model,
    prompt_version. Raises LeaseLost, StoreError."""
    day, cost = datetime.now(UTC).date().isoformat(), budget.cost(TOKENS_IN, budget.most_tokens)
    with store.database.transaction():
        store.leases.check(lease)
        calls, spent = spent_on(store, day, asked["provider"])
        if budget.calls_a_day is not None and calls >= budget.calls_a_day:
            return None
        if budget.usd_a_day is not None and spent + cost > budget.usd_a_day:
            return None
        cut_off = store.database.value(
            "SELECT count(*) FROM ai_calls WHERE signal_id = ? AND call_id NOT IN (SELECT call_id FROM ai_results)",
            asked["signal_id"],
        )
        call_id = uuid4().hex
        row = {"call_id": call_id, **asked, "day": day, "reserved_usd": cost, "correlation_id": correlation_id}
        store.database.insert("ai_calls", {**row, "recorded_at": int(time.time())})
    return Call(call_id, bool(cut_off))


def settle(
    store: SqliteStore, budget: Budget, call: Call, outcome: Outcome, tokens: tuple[int, int], reasons: Sequence[str]
) -> None:
    """What became of a question: `tokens` read and written, and why a text was refused. Raises StoreError."""
    row = {"call_id": call.call_id, "outcome": outcome, "tokens_in": tokens[0], "tokens_out": tokens[1]}
    with store.database.transaction():
        store.database.insert(
            "ai_results",
            {**row, "cost_usd": budget.cost(*tokens), "reasons": list(reasons), "recorded_at": int(time.time())},
        )


def spent_on(store: SqliteStore, day: str, provider: str) -> tuple[int, float]:
    """(questions, USD) of a UTC day; one that was cut off counts as dear as it was reserved for. Raises StoreError."""
    rows = store.database.query(
        "SELECT count(*), coalesce(sum(coalesce(r.cost_usd, c.reserved_usd)), 0) FROM ai_calls c "
        "LEFT JOIN ai_results r USING (call_id) WHERE c.day = ? AND c.provider = ?",
        day, provider,
    )  # fmt: skip
    return rows[0][0], rows[0][1]


def costs(store: SqliteStore, days: int) -> list[dict[str, Any]]:
    """Of the newest days: day, provider, model, questions, those passed, refused, failed and cut off, tokens and USD.
    Raises StoreError."""
    rows = store.database.query(
        "SELECT c.day, c.provider, c.model, count(*) AS calls, sum(r.outcome IS 'passed') AS passed, "
        "sum(r.outcome IS 'refused') AS refused, sum(r.outcome IS 'failed') AS failed, "
        "sum(r.outcome IS NULL) AS cut_off, coalesce(sum(r.tokens_in), 0) AS tokens_in, "
        "coalesce(sum(r.tokens_out), 0) AS tokens_out, round(sum(coalesce(r.cost_usd, c.reserved_usd)), 6) AS usd "
        "FROM ai_calls c LEFT JOIN ai_results r USING (call_id) GROUP BY c.day, c.provider, c.model "
        "ORDER BY c.day DESC, c.provider, c.model LIMIT ?",
        days,
    )
    return [dict(zip(row.keys(), row, strict=True)) for row in rows]
