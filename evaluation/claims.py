"""What a run of the laboratory leaves behind: what was said, what had happened, how forecasts did."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from utxoiq.simulation.plan import Event

TYPES = ("mempool", "exchange", "miner", "whale", "treasury")
"""Signal types that are matched with events; forecasts (`predictive`) are scored by their misses."""
RESHUFFLE = "internal_reshuffle"
"""Said so that nobody takes it for a flow: no event of its type, so in none of the type's figures."""


class Job(NamedTuple):
    """One run."""

    regime: str
    seed: int
    blocks: int
    calibrated: bool = True
    """As shipped; else every signal at its raw confidence, none left out for being unsure."""


class Claim(NamedTuple):
    """That something happened: a signal, or what the baseline says."""

    signal_type: str
    kind: str
    subject: str | None
    """An entity id or a txid; None for the whole chain, or a pool nobody knows."""
    height: int
    confidence: float = 1.0
    model_version: str = ""
    direction: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """All that is scored of one run."""

    job: Job
    signals: list[Claim]
    baseline: list[Claim]
    events: list[Event]
    forecasts: list[dict[str, Any]]
    """Rows of `scoreboard`, a horizon and method each."""

    def as_text(self) -> str:
        """JSON; `from_text` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Run:
        """The run that `as_text` gave."""
        told = json.loads(text)
        said = {name: [Claim(*one) for one in told[name]] for name in ("signals", "baseline")}
        return cls(Job(*told["job"]), events=[Event(**one) for one in told["events"]],
                   forecasts=told["forecasts"], **said)  # fmt: skip
