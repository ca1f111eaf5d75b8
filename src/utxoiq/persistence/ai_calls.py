"""Every question to an AI provider: counted before it is asked, so that a kill can't spend what nobody sees."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
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
    """What a provider may be asked in a UTC day, and what it charges; None is no limit, and no known price."""

    usd_a_day: float | None = None
    calls_a_day: int | None = None
    usd_in: float | None = None
    usd_out: float | None = None
    """Of a million tokens; so a token costs as many millionths of a dollar."""
    most_tokens: int = 2_000

    def cost(self, tokens_in: int, tokens_out: int) -> int | None:
        """Whole millionths of a US dollar, rounded up; None where the price is unknown."""
        if self.usd_in is None or self.usd_out is None:
            return None
        return ceil(tokens_in * self.usd_in + tokens_out * self.usd_out)

    @property
    def most(self) -> int | None:
        """What one question may cost, as `cost`."""
        return self.cost(TOKENS_IN, self.most_tokens)


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
    day, cost = datetime.now(UTC).date().isoformat(), budget.most
    with store.database.transaction():
        store.leases.check(lease)
        calls, spent = spent_on(store, day, asked["provider"], cost or 0)
        if budget.calls_a_day is not None and calls >= budget.calls_a_day:
            return None
        if budget.usd_a_day is not None and spent + (cost or 0) > 1e6 * budget.usd_a_day:
            return None
        cut_off = store.database.value(
            "SELECT count(*) FROM ai_calls WHERE signal_id = ? AND call_id NOT IN (SELECT call_id FROM ai_results)",
            asked["signal_id"],
        )
        call_id = uuid4().hex
        row = {"call_id": call_id, **asked, "day": day, "reserved_microusd": cost, "correlation_id": correlation_id}
        store.database.insert("ai_calls", {**row, "recorded_at": int(time.time())})
    return Call(call_id, bool(cut_off))


def settle(
    store: SqliteStore,
    budget: Budget,
    call: Call,
    outcome: Outcome,
    tokens: tuple[int, int] | None,
    reasons: Sequence[str],
) -> None:
    """What became of a question: `tokens` read and written, None where nobody told, and why a text was refused. Raises
    StoreError."""
    read, written = tokens or (None, None)
    row = {"call_id": call.call_id, "outcome": outcome, "tokens_in": read, "tokens_out": written}
    cost = budget.cost(*tokens) if tokens else None
    with store.database.transaction():
        told = {"cost_microusd": cost, "reasons": list(reasons), "recorded_at": int(time.time())}
        store.database.insert("ai_results", {**row, **told})


def spent_on(store: SqliteStore, day: str, provider: str, unknown: int) -> tuple[int, int]:
    """(questions, millionths of a US dollar) of a UTC day. One whose cost nobody told counts as dear as it was reserved
    for, or as `unknown`. Raises StoreError."""
    rows = store.database.query(
        "SELECT count(*), coalesce(sum(coalesce(r.cost_microusd, c.reserved_microusd, ?)), 0) FROM ai_calls c "
        "LEFT JOIN ai_results r USING (call_id) WHERE c.day = ? AND c.provider = ?",
        unknown, day, provider,
    )  # fmt: skip
    return rows[0][0], rows[0][1]


def costs(store: SqliteStore, days: int) -> list[dict[str, Any]]:
    """Of the newest days: day, provider, model, questions, those passed, refused, failed and cut off, tokens as far as
    they were told, and millionths of a US dollar at most, None where a price is unknown. Raises StoreError."""
    rows = store.database.query(
        "SELECT c.day, c.provider, c.model, count(*) AS calls, sum(r.outcome IS 'passed') AS passed, "
        "sum(r.outcome IS 'refused') AS refused, sum(r.outcome IS 'failed') AS failed, "
        "sum(r.outcome IS NULL) AS cut_off, coalesce(sum(r.tokens_in), 0) AS tokens_in, "
        "coalesce(sum(r.tokens_out), 0) AS tokens_out, "
        "CASE WHEN count(coalesce(r.cost_microusd, c.reserved_microusd)) = count(*) "
        "THEN sum(coalesce(r.cost_microusd, c.reserved_microusd)) END AS microusd "
        "FROM ai_calls c LEFT JOIN ai_results r USING (call_id) GROUP BY c.day, c.provider, c.model "
        "ORDER BY c.day DESC, c.provider, c.model LIMIT ?",
        days,
    )
    return [dict(zip(row.keys(), row, strict=True)) for row in rows]
