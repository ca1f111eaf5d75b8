"""Outcomes: recorded once the blocks after a signal are buried; enough of them take over, on mainnet only."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from helpers.recorded import ABSENT, SHARED
from persistence.records import chain, record, run, told
from pipeline.simulated import Always, world
from utxoiq.entities.labels import labels_for
from utxoiq.history import Past
from utxoiq.models import BlockData, Outcome, Signal
from utxoiq.persistence import SignalPersistenceModule, SqliteStore, open_store, reads
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.pipeline import verify as verifying
from utxoiq.pipeline.backfill import Heights, HistoricalBackfillModule
from utxoiq.pipeline.outcomes import BURIED, settle
from utxoiq.pipeline.scan import scan
from utxoiq.pipeline.verify import verify
from utxoiq.processors.base import ProcessorConfig
from utxoiq.processors.calibration import LEAST_OUTCOMES, RESOLVED
from utxoiq.processors.metadata import Field
from utxoiq.sources.open import Source, open_source
from utxoiq.watching import Watching


class Judge(Always):
    """Of the signals that tests/persistence makes: two blocks tell, and it keeps what it was shown."""

    model_version = "whale-test"
    kinds: ClassVar[Mapping[str, Mapping[str, Field]]] = {"seen": {}}
    settles_after: ClassVar[Mapping[str, int]] = {"seen": 2}

    def __init__(self, answer: bool | Exception | None = True) -> None:
        super().__init__()
        self.answer, self.asked = answer, list[tuple[Signal, list[str]]]()

    def resolve(self, signal: Signal, after: Sequence[Past]) -> bool | None:
        self.asked.append((signal, [row.facts.blockhash for row in after]))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """The twelve blocks of the best chain, a signal each."""
    with SqliteStore(path) as store:
        for data in chain().best:
            store.connect(told(data, data.height))
        yield store


TIP = chain().best[-1].height or 0
SETTLED = len(chain().best) - BURIED - 2
"""Blocks whose signals two buried blocks follow."""
EVER = 1 << 40


def recorded(path: Path) -> list[tuple[Any, ...]]:
    return run(path, "SELECT was_right, told_by, height FROM outcomes")


@pytest.mark.parametrize("right", [True, False])
def test_signals_are_settled_once(store: SqliteStore, path: Path, right: bool) -> None:
    """By the two blocks after their own, six blocks later; again nothing is asked nor written."""
    judge, hashes = Judge(right), [str(data.block_hash) for data in chain().best]
    assert settle(store, [judge]) == SETTLED == 4
    assert recorded(path) == [(int(right), "the 2 blocks after it", TIP)] * SETTLED
    assert [(s.block_hash, after) for s, after in judge.asked] == [(hashes[i], hashes[i + 1 : i + 3]) for i in range(4)]
    assert settle(store, [judge]) == 0
    assert len(judge.asked) == SETTLED
    assert store.outcomes.counts(TIP + 1) == {("whale-test", "seen"): (SETTLED * right, SETTLED)}
    assert store.outcomes.counts(TIP) == {}, "what was recorded at the tip was not known before"


def test_in_batches(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a batch's size, each is settled."""
    monkeypatch.setattr("utxoiq.pipeline.outcomes.BATCH", 1)
    assert settle(store, [Judge()]) == SETTLED
    assert len(recorded(path)) == SETTLED


def test_no_more_than_asked_for_at_once(store: SqliteStore, path: Path) -> None:
    """The others the next time."""
    for n in (3, SETTLED, SETTLED):
        settle(store, [Judge()], 3)
        assert len(recorded(path)) == n


def test_others_wait_for_their_processor(store: SqliteStore) -> None:
    """A processor of another model, one that resolves nothing, and none at all."""
    assert settle(store, [Always()]) == settle(store, []) == 0


def test_what_blocks_do_not_tell_is_not_asked_again(store: SqliteStore, path: Path) -> None:
    """Until the past is restated under other labels."""
    judge = Judge(None)
    for _ in range(2):
        assert settle(store, [judge]) == 0
    assert (recorded(path), len(judge.asked)) == ([], SETTLED)
    store.restate([(record(chain().trunk[0], txs=77).facts, None)])
    judge.answer = True
    assert settle(store, [judge]) == SETTLED


def test_one_that_fails_stops_nothing(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its signal and model."""
    assert settle(store, [Judge(ZeroDivisionError("oh"))]) == 0
    assert "can't be resolved by whale-test" in caplog.text


def test_retracted_signals_do_not_count(store: SqliteStore) -> None:
    """A reorg takes a signal's block back: neither settled, nor is its outcome counted; back again, it is."""
    assert settle(store, [Judge()]) == SETTLED
    first = {("whale-test", "seen"): (SETTLED, SETTLED)}
    assert store.outcomes.counts(EVER) == first
    for data in reversed(chain().best[2:]):
        store.disconnect(str(data.block_hash), "reorg")
    assert store.outcomes.counts(EVER) == {("whale-test", "seen"): (2, 2)}
    assert [row["resolved"] for row in store.outcomes.table()] == [2]
    assert settle(store, [Judge()]) == 0
    for data in chain().best[2:]:
        store.connect(told(data, data.height))
    assert store.outcomes.counts(EVER) == first


def test_a_gap_waits(path: Path) -> None:
    """A signal whose next block the store does not have stays as it is."""
    judge, best = Judge(), chain().best
    with SqliteStore(path) as store:
        store.connect(told(best[0], 1))
        run(path, "DELETE FROM cursor")
        for data in best[2:]:
            store.connect(record(data))
        assert settle(store, [judge]) == 0
    assert (judge.asked, run(path, "SELECT * FROM undecided")) == ([], [])


async def test_the_service_settles(store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is raised is logged."""
    watching = Watching.__new__(Watching)
    watching.store, watching.orchestrator = store, SimpleNamespace(processors=[Judge()])  # type: ignore[assignment]
    await watching._settle()
    assert len(recorded(path)) == SETTLED
    watching.store = None  # type: ignore[assignment]
    await watching._settle()
    assert "outcomes can't be recorded" in caplog.text


async def test_a_scan_settles(path: Path) -> None:
    """Feerate signals of the simulated chain have outcomes at its end; none is written by a second scan."""
    with SqliteStore(path) as store:
        for _ in range(2):
            await scan(world().source, store, labels=world().labels)
            found = {(row["kind"], row["resolved"]) for row in store.outcomes.table()}
            assert {kind for kind, _ in found} >= {"fee_spike"}
            assert len(recorded(path)) == sum(n for _, n in found)


# Taking over


@pytest.fixture(scope="module")
def main(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Mainnet's first 600 blocks."""
    folder = SHARED / "runs" / "main_0-599"
    if not folder.is_dir():
        pytest.skip(ABSENT)
    into = tmp_path_factory.mktemp("main")
    for packed in folder.glob("*.gz"):
        (into / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    (into / "xor.dat").write_bytes((folder / "xor.dat").read_bytes())
    return open_source(into)


async def connected(store: SqliteStore, blocks: Sequence[BlockData], **settings: Any) -> list[Signal]:
    """What `Always` says of them, one after the other."""
    orchestrator = PipelineOrchestrator([Always(ProcessorConfig(**settings))], SignalPersistenceModule(store=store))
    found: list[Signal] = []
    for data in blocks:
        result = await orchestrator.process_new_block(data)
        assert result.success, result.error
        found += result.signals
    orchestrator.close()
    return found


def known(store: SqliteStore, signals: Sequence[Signal], wrong: int = 20) -> None:
    """Of these signals all but the first were right, known when the last of them was the tip."""
    height = signals[-1].block_height or 0
    store.outcomes.record([Outcome(one.signal_id, i >= wrong, "a test", height) for i, one in enumerate(signals)])


async def test_they_take_over_at_200(path: Path, main: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one before; the confidence, what it rests on and the signal's name say so, and `verify` finds it equal."""
    monkeypatch.setattr(verifying, "discover", lambda: [Always()])
    blocks, n = list(islice(main.blocks(), LEAST_OUTCOMES + 2)), LEAST_OUTCOMES
    with SqliteStore(path) as store:
        said = await connected(store, blocks[:n])
        known(store, said[: n - 1])
        (before,) = await connected(store, blocks[n : n + 1])
        known(store, [*said, before][n - 1 : n], 0)
        (after,) = await connected(store, blocks[n + 1 :])
        assert before.confidence_basis["basis"] == "a test"
        assert "calibration" not in before.inputs
        assert after.confidence == round((n - 20 + 0.5) / (n + 1), 6)
        assert after.confidence_basis == {"basis": RESOLVED, "cases": n, "calibrated": True}
        raw = {"raw": 0.9, "raw_basis": "a test", "raw_cases": 1}
        assert after.inputs["calibration"] == {"version": "outcomes", "right": n - 20, "cases": n, **raw}
        for one in (before, after):
            stored = reads.signal(store, one.signal_id)
            assert stored is not None
            assert (await verify(stored, main, labels_for(main.network))).verdict == "equal"
        forged = {**after.inputs, "calibration": {**after.inputs["calibration"], "right": n}}
        other = Signal.derive(**{k: v for k, v in (after.content() | {"inputs": forged}).items() if k != "signal_id"})
        assert (await verify(other, main, labels_for(main.network))).verdict == "different"
        broken = {**after.inputs, "calibration": {"version": "outcomes", "right": "most"}}
        other = Signal.derive(**{k: v for k, v in (after.content() | {"inputs": broken}).items() if k != "signal_id"})
        assert (await verify(other, main, labels_for(main.network))).verdict == "cannot tell"


async def test_who_wants_no_calibration_gets_none(path: Path, main: Source) -> None:
    blocks = list(islice(main.blocks(), LEAST_OUTCOMES + 2))
    with SqliteStore(path) as store:
        known(store, await connected(store, blocks[:-1]))
        (last,) = await connected(store, blocks[-1:], calibration=False)
    assert last.confidence_basis["basis"] == "a test"


async def test_a_backfill_says_the_same(path: Path, main: Source) -> None:
    """Of a block whose signal rests on outcomes, and of one from before they were known."""
    blocks = list(islice(main.blocks(), LEAST_OUTCOMES + 2))
    with SqliteStore(path) as store:
        known(store, await connected(store, blocks[:-1]))
        (last,) = await connected(store, blocks[-1:])
        assert last.confidence_basis["basis"] == RESOLVED
        module = HistoricalBackfillModule(lambda: main, store, processors=[Always()])
        await module.backfill(Heights(LEAST_OUTCOMES - 5, LEAST_OUTCOMES + 1))
        assert run(path, "SELECT count(*) FROM signals") == [(LEAST_OUTCOMES + 2,)]
        assert run(path, "SELECT count(*) FROM signal_events") == [(0,)]


async def test_other_networks_never(path: Path) -> None:
    """However many are known of a simulated chain."""
    blocks = list(islice(world().source.blocks(), LEAST_OUTCOMES + 12))
    with SqliteStore(path) as store:
        known(store, await connected(store, blocks[:-1]))
        assert store.outcomes.counts(EVER)["whale_test-1", "seen"][1] > LEAST_OUTCOMES
        (last,) = await connected(store, blocks[-1:])
    assert last.confidence_basis["basis"] == "a test"
    assert last.confidence == 0.9


async def test_islands_rest_on_nothing(path: Path, main: Source) -> None:
    """A block that does not follow the tip has no parent at which anything was known."""
    blocks = list(islice(main.blocks(), LEAST_OUTCOMES + 9))
    with SqliteStore(path) as store:
        known(store, await connected(store, blocks[: LEAST_OUTCOMES + 1]))
        (island,) = await connected(store, blocks[-1:])
        assert island.confidence_basis["basis"] == "a test"


def test_counts_are_read_again_only_after_a_change(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(store, [Judge()])
    assert store.outcomes.counts(EVER) is store.outcomes.counts(EVER - 1)
    with monkeypatch.context() as patch:
        patch.setattr(store.outcomes, "_counted", None)
        assert store.outcomes.counts(EVER) == {("whale-test", "seen"): (SETTLED, SETTLED)}


def test_a_store_of_version_5_is_extended(path: Path) -> None:
    """Its rows stay, outcomes can be recorded, and the schema is that of a new store."""
    sql = "SELECT name, sql FROM sqlite_schema WHERE sql > '' ORDER BY name"
    with SqliteStore(path) as store:
        store.connect(told(chain().trunk[0], 1))
    new = run(path, sql)
    for drop in ("VIEW counted_outcomes", "TABLE outcomes", "TABLE undecided", "INDEX signals_by_kind"):
        run(path, f"DROP {drop}")
    run(path, "PRAGMA user_version = 5")
    with open_store(f"sqlite:///{path}") as store:
        (row,) = reads.signals(store, 9)
        assert store.outcomes.record([Outcome(row["signal_id"], True, "a test", 0)]) == 1
        assert store.outcomes.record([Outcome(row["signal_id"], False, "another", 1)]) == 0
    assert run(path, sql) == new
    assert run(path, "SELECT was_right FROM outcomes") == [(1,)]
