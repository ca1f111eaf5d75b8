"""Labels that are withdrawn: what rested on them is taken back, what still holds is issued anew, as its successor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.command import utxoiq
from pipeline.simulated import query, world
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import labels_for
from utxoiq.persistence import open_store, reads
from utxoiq.pipeline.relabel import affected_signals
from utxoiq.pipeline.scan import scan
from utxoiq.pipeline.verify import verify

BLOCKS = 400
SIMULATED = NETWORKS["simulated"]


@pytest.fixture
def label_file(tmp_path: Path) -> Path:
    return Path(shutil.copy(world(BLOCKS).label_file, tmp_path / "labels.jsonl"))


@pytest.fixture
async def db(tmp_path: Path, label_file: Path) -> Path:
    """A store of the simulated chain under its labels."""
    path = tmp_path / "store.db"
    with open_store(f"sqlite:///{path}") as store:
        await scan(world(BLOCKS).source, store, labels=labels_for(SIMULATED, label_file))
    return path


def edition(label_file: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A new edition of the same source, each entity changed."""
    rows = [json.loads(line) for line in label_file.read_text().splitlines()]
    for row in rows:
        change(row)
    path = folder / "edition.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["labels"][0]["addresses"]))
    return path


def without(who: str, share: float = 1.0) -> Callable[[dict[str, Any]], None]:
    """Withdraws the first part of an entity's addresses."""

    def change(row: dict[str, Any]) -> None:
        if row["id"] == who:
            listed = row["labels"][0]["addresses"]
            del listed[: round(share * len(listed))]

    return change


def written(path: Path) -> str:
    return path.read_text()


def about(db: Path) -> dict[str, int]:
    """Signals that hold, by the entity they are about."""
    rows = query(
        db, "SELECT subject, count(*) AS n FROM current_signals WHERE signal_type IN ('exchange', 'miner') GROUP BY 1"
    )
    return {row["subject"]: row["n"] for row in rows}


def imported(path: Path, into: Path, db: Path, *more: str) -> dict[str, Any]:
    done = utxoiq(
        "entities", "import", str(path), "--labels", str(into), "--replace", "--network", "simulated", "--db",
        f"sqlite:///{db}", "--json", *more,
    )  # fmt: skip
    assert done.code == 0, done.err
    report: dict[str, Any] = json.loads(done.out)
    return report


def busiest(db: Path) -> str:
    """The pool or exchange with the most signals from flows."""
    sql = "SELECT subject FROM current_signals WHERE metadata ->> 'entity_id' <> '' GROUP BY 1 ORDER BY count(*) DESC"
    return str(query(db, sql)[0]["subject"])


async def test_withdrawn_without_blocks(db: Path, label_file: Path, tmp_path: Path) -> None:
    """All that rests on the entity is retracted, with the reason, insights too; the others stay."""
    who = busiest(db)
    before = about(db)
    report = imported(edition(label_file, tmp_path, without(who)), label_file, db)
    assert before[who] > 0
    assert who not in about(db)
    mine = [row for row in report["affected"] if row["subject"] == who]
    assert len(mine) == before[who]
    assert {row["outcome"] for row in report["affected"]} == {"retracted"}
    told = query(db, f"SELECT retraction_reason FROM signal_state WHERE subject = '{who}'")
    assert {row["retraction_reason"] for row in told} == {"the labels it rests on were withdrawn or changed"}
    held = (
        f"SELECT * FROM insight_state JOIN signals USING (signal_id) WHERE subject = '{who}' AND retracted_at IS NULL"
    )
    assert query(db, held) == []
    assert who not in labels_for(SIMULATED, label_file).entities
    assert query(db, "SELECT * FROM outcomes WHERE told_by LIKE '%labels%'") == [], "no block was asked"


async def test_with_blocks_what_holds_is_issued_anew(db: Path, label_file: Path, tmp_path: Path) -> None:
    """Of a part of the addresses: each affected signal has a successor under the new labels, which `verify` finds
    equal, or is retracted; nothing under the old labels is left of the entity, and a second run changes nothing."""
    who = busiest(db)
    path = edition(label_file, tmp_path, without(who, 0.3))
    report = imported(path, label_file, db, "--source", str(world(BLOCKS).folder))
    outcomes = {row["outcome"] for row in report["affected"]}
    assert "issued anew" in outcomes
    labels = labels_for(SIMULATED, label_file)
    with open_store(f"sqlite:///{db}") as store:
        anew = [row for row in report["affected"] if row["superseded_by"]]
        for row in anew:
            old, new = reads.signal(store, row["signal_id"]), reads.signal(store, row["superseded_by"])
            assert old is not None
            assert new is not None
            assert (old.kind, old.subject, old.block_hash) == (new.kind, new.subject, new.block_hash)
            assert new.inputs["labels_version"] == labels.version != old.inputs["labels_version"]
            verdict = await verify(new, world(BLOCKS).source, labels)
            assert verdict.verdict == "equal", verdict.reason
        held = query(db, f"SELECT inputs FROM current_signals WHERE subject = '{who}'")
        assert {json.loads(row["inputs"])["labels_version"] for row in held} <= {labels.version}
        narrated = query(db, "SELECT count(DISTINCT signal_id) AS n FROM current_insights")[0]["n"]
        assert narrated == query(db, "SELECT count(*) AS n FROM current_signals")[0]["n"]
    judged = {row["signal_id"]: row for row in query(db, "SELECT * FROM outcomes WHERE told_by LIKE '%labels%'")}
    flows = {row["signal_id"] for row in report["affected"] if row["signal_type"] in ("exchange", "treasury")
             or row["kind"] == "miner_distribution"}  # fmt: skip
    assert set(judged) == flows
    for row in report["affected"]:
        if row["signal_id"] in flows:
            said = "said again" if row["superseded_by"] else "not said again"
            outcome = judged[row["signal_id"]]
            assert outcome["told_by"] == f"{said} under labels {labels.version}"
            assert outcome["was_right"] == bool(row["superseded_by"])
    assert {row["was_right"] for row in judged.values()} == {0, 1}
    counted_of = query(db, "SELECT signal_id FROM counted_outcomes WHERE told_by LIKE '%labels%'")
    assert {row["signal_id"] for row in counted_of} == flows, "they count, though retracted"
    counted = [
        query(db, f"SELECT count(*) AS n FROM {table}") for table in ("signals", "signal_events", "flows", "facts")
    ]
    assert imported(path, label_file, db, "--source", str(world(BLOCKS).folder))["affected"] == []
    assert counted == [
        query(db, f"SELECT count(*) AS n FROM {table}") for table in ("signals", "signal_events", "flows", "facts")
    ]


async def test_nothing_is_done_by_a_dry_run(db: Path, label_file: Path, tmp_path: Path) -> None:
    """It lists what would be affected."""
    text, events = written(label_file), query(db, "SELECT count(*) AS n FROM signal_events")
    report = imported(edition(label_file, tmp_path, without(busiest(db))), label_file, db, "--dry-run")
    assert {row["outcome"] for row in report["affected"]} == {"to be checked"}
    assert written(label_file) == text
    assert query(db, "SELECT count(*) AS n FROM signal_events") == events


async def test_what_is_only_added_retracts_nothing_without_blocks(db: Path, label_file: Path, tmp_path: Path) -> None:
    """One more address of an entity that has signals: whether they still hold only the blocks could tell."""
    who = busiest(db)

    def change(row: dict[str, Any]) -> None:
        if row["id"] == who:
            row["labels"][0]["addresses"].append("script:51")

    path, before = edition(label_file, tmp_path, change), about(db)
    assert imported(path, label_file, db)["affected"] == []
    assert about(db) == before


async def test_a_pool_says_nothing_of_all_exchanges(db: Path, label_file: Path) -> None:
    """What is said of all exchanges together rests on a changed exchange, and on no changed pool."""
    labels = labels_for(SIMULATED, label_file)
    with open_store(f"sqlite:///{db}") as store:
        one = next(signal for signal, _ in store.signals_with_flows() if signal.signal_type == "exchange")
        everybody = replace(one, signal_id="of-all", subject="all_exchanges", metadata={"entity_id": "all_exchanges"})
        everybody = replace(everybody, inputs={**one.inputs, "labels_version": "older"}, signal_type="mempool")
        store.persist_signals([everybody], "correlation")
        kinds = {kind: labels.of_kind(kind)[0].id for kind in ("mining_pool", "exchange")}
        found = {kind: affected_signals(store, {who}, labels, labels) for kind, who in kinds.items()}
    assert [signal.signal_id for signal in found["exchange"]] == ["of-all"]
    assert found["mining_pool"] == []


async def test_what_is_not_touched_stays(db: Path, label_file: Path, tmp_path: Path) -> None:
    """Labels of somebody who never moved anything: no signal is affected."""
    stranger = {
        "id": "stranger", "name": "Stranger", "kind": "exchange",
        "labels": [{"source": "elsewhere", "confidence": "low", "as_of": "2026-01-01", "addresses": ["script:51"]}],
    }  # fmt: skip
    path = tmp_path / "more.jsonl"
    path.write_text(json.dumps(stranger) + "\n")
    before = about(db)
    done = utxoiq("entities", "import", str(path), "--labels", str(label_file), "--network", "simulated", "--db",
                  f"sqlite:///{db}", "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out)["affected"] == []
    assert about(db) == before
    assert "stranger" in labels_for(SIMULATED, label_file).entities
