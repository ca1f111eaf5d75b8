"""Whether signals were right: recorded once a signal, counted by model and kind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from utxoiq.models import Outcome
    from utxoiq.persistence.database import Database

Counts = dict[tuple[str, str], tuple[int, int]]
"""(model version, kind) -> how many were right, and how many there are."""
Place = tuple[int, str]
"""Of a signal in the order in which they are settled: height of its block, and its id."""
BEFORE_ALL: Place = (-1, "")

WAITING = """
WITH settles (model_version, kind, blocks) AS (VALUES {values})
SELECT s.*, k.blocks FROM settles k
JOIN signals s ON s.model_version = k.model_version AND s.kind = k.kind
JOIN block_state b ON b.block_hash = s.block_hash AND b.state = 'connected'
WHERE s.block_height <= ? - k.blocks AND (s.block_height, s.signal_id) > (?, ?)
AND NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.signal_id = s.signal_id)
AND NOT EXISTS (SELECT 1 FROM undecided u WHERE u.signal_id = s.signal_id)
AND coalesce((SELECT event FROM signal_events e WHERE e.signal_id = s.signal_id ORDER BY seq DESC LIMIT 1), '')
    <> 'retracted'
ORDER BY s.block_height, s.signal_id LIMIT ?
"""


class Outcomes:
    """The outcomes of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counted: tuple[tuple[Any, ...], Counts] | None = None

    def waiting(self, settles: Mapping[tuple[str, str], int], last: int, after: Place, most: int) -> list[sqlite3.Row]:
        """Signals that hold and have no outcome, with the number of `blocks` that tell it, up to height `last`; those
        beyond `after`, in order. `settles`: (model version, kind) -> blocks. Raises StoreError."""
        if not settles:
            return []
        sql = WAITING.format(values=", ".join(["(?, ?, ?)"] * len(settles)))
        values = [value for (model, kind), blocks in settles.items() for value in (model, kind, blocks)]
        return self._database.query(sql, *values, last, *after, most)

    def record(self, outcomes: Sequence[Outcome], undecided: Collection[str] = ()) -> int:
        """Append, in one transaction: how many were new. `undecided`: signals of which the blocks did not tell; they
        are not asked about again. Raises StoreError."""
        with self._database.transaction():
            for signal_id in undecided:
                self._database.insert("undecided", {"signal_id": signal_id})
            return self.write(outcomes)

    def write(self, outcomes: Sequence[Outcome]) -> int:
        """The same inside of a transaction."""
        at = int(time.time())
        return sum(
            self._database.insert(
                "outcomes",
                {"signal_id": one.signal_id, "was_right": int(one.right), "told_by": one.by, "height": one.height,
                 "recorded_at": at},
            )
            for one in outcomes
        )  # fmt: skip

    def counts(self, below: int) -> Counts:
        """Of what was known before a block of this height came. Read again only where something changed. Raises
        StoreError."""
        state = self._database.query(
            "SELECT (SELECT count(*) FROM outcomes WHERE height < ?), (SELECT max(seq) FROM signal_events), "
            "(SELECT max(seq) FROM block_events WHERE event = 'disconnected')",
            below,
        )
        mark = tuple(state[0])
        if mark[0] == 0:
            return {}
        if self._counted is None or self._counted[0] != mark:
            rows = self._database.query(
                "SELECT model_version, kind, sum(was_right), count(*) FROM counted_outcomes WHERE height < ? "
                "GROUP BY model_version, kind",
                below,
            )
            self._counted = mark, {(model, kind): (right, cases) for model, kind, right, cases in rows}
        return self._counted[1]

    def table(self) -> list[dict[str, Any]]:
        """A row a type, kind and model: how many were resolved and right, beside what their confidences said. Raises
        StoreError."""
        rows = self._database.query(
            "SELECT signal_type, kind, model_version, count(*) AS resolved, sum(was_right) AS was_right, "
            "avg(confidence) AS mean_confidence, avg(was_right) AS share_right, "
            "avg((confidence - was_right) * (confidence - was_right)) AS brier FROM counted_outcomes "
            "GROUP BY signal_type, kind, model_version ORDER BY signal_type, kind, model_version"
        )
        names = ("signal_type", "kind", "model_version", "resolved", "right", "mean_confidence", "share_right", "brier")
        return [dict(zip(names, row, strict=True)) for row in rows]
