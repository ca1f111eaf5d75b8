"""Two narrators killed again and again, with questions to a provider in flight: each signal is told exactly once."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from helpers.ai_servers import AiServer, Asked, Play
from helpers.running import Running
from persistence.records import chain, record
from pipeline.simulated import query
from processors import cases
from utxoiq.models import Signal
from utxoiq.persistence import SqliteStore

SIGNALS = int(os.environ.get("UTXOIQ_NARRATED_SIGNALS", "40"))
ANSWER_SECONDS = 0.03


def slowly(asked: Asked) -> Play:
    """A good text, after as long as a kill needs to hit the wait for it."""
    time.sleep(ANSWER_SECONDS)
    return Play()


@pytest.fixture
def server() -> Iterator[AiServer]:
    with AiServer().serve() as made:
        made.plays = [slowly]
        yield made


async def waiting(path: Path) -> list[Signal]:
    """Fee spikes that nobody narrated, dealt out to the blocks of the chain."""
    made, found = await cases.signal_of("fee_spike"), []
    values = {name: value for name, value in made.content().items() if name not in ("signal_id", "subject")}
    with SqliteStore(path) as store:
        for place, data in enumerate(trunk := chain().trunk):
            at = {"block_hash": str(data.block_hash), "block_height": data.height}
            several = [Signal.derive(**{**values, **at, "subject": f"s{n}"}) for n in range(place, SIGNALS, len(trunk))]
            store.connect(record(data, several))
            found += several
    return found


def told(folder: Path) -> int:
    """How many insights there are."""
    rows: list[dict[str, int]] = query(folder / "store.db", "SELECT count(*) AS n FROM insights")
    return rows[0]["n"]


def test_killed_at_random(server: AiServer, tmp_path: Path) -> None:
    """Exactly one insight each, by the provider; a kill costs at most one question asked once more, and it is told."""
    expected = Counter(signal.signal_id for signal in asyncio.run(waiting(tmp_path / "store.db")))
    assert expected.total() == SIGNALS
    random, kills, pair = Random(7), 0, list[Running]()
    variables = {
        "UTXOIQ_AI__PROVIDER": "compatible", "UTXOIQ_AI__BASE_URL": server.address("compatible"),
        "UTXOIQ_AI__MODEL": "scripted",
    }  # fmt: skip
    try:
        while (before := told(tmp_path)) < SIGNALS:
            pair = [one for one in pair if one.process.poll() is None]
            pair += [Running(tmp_path, command="narrate", **variables) for _ in range(2 - len(pair))]
            pair[0].until(lambda before=before: told(tmp_path) > before, every=0.01)  # a start may take long
            time.sleep(random.uniform(0.0, 0.4))
            pair[random.randrange(2)].kill()
            kills += 1
    finally:
        for one in pair:
            one.kill()
    rows = query(tmp_path / "store.db", "SELECT signal_id, provider FROM insights")
    assert Counter(row["signal_id"] for row in rows) == expected
    assert {row["provider"] for row in rows} == {"compatible"}
    asked = query(tmp_path / "store.db", "SELECT count(*) AS n FROM ai_calls")[0]["n"]
    assert 0 <= asked - len(server.asked) <= kills  # counted before it is asked
    assert len(expected) <= asked <= len(expected) + kills
    again = sum(log.read_text().count("is asked about again") for log in tmp_path.glob("log*"))
    assert asked - len(expected) - kills <= again <= asked - len(expected)  # a kill may come before the word of it
