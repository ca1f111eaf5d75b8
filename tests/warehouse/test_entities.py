"""Label files through the warehouse: whole, exact, and never half an edition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.command import utxoiq
from helpers.emulator import Emulator
from utxoiq.chain.network import NETWORKS
from utxoiq.config import Settings
from utxoiq.entities.labels import edition_of, read_labels
from utxoiq.errors import WarehouseError, WarehouseUnavailable
from utxoiq.persistence.warehouse import entities
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
from utxoiq.warehouse_labels import WarehouseLabels

pytestmark = pytest.mark.warehouse

PACKAGED = edition_of(NETWORKS["main"])


def edition(name: str) -> tuple[str, str]:
    """A label file of two entities, one with a name that is not ASCII."""
    evidence = {"source": "test", "confidence": "high", "as_of": "2026-01-05"}
    rows = [
        {"id": name, "name": f"Börse \u2028 {name}", "kind": "exchange", "labels": [{**evidence, "addresses": []}]},
        {"id": "pool", "name": "Pool", "kind": "mining_pool", "tags": ["/pool/"]},
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return read_labels(text, NETWORKS["main"], "test").version, text


def settings_for(emulator: Emulator, project: str, folder: Path, **more: Any) -> Settings:
    warehouse = {"project": project, "endpoint": emulator.url, "storage_endpoint": emulator.storage, "labels": True}
    return Settings(db=f"sqlite:///{folder / 'store.db'}", warehouse={**warehouse, **more})


def test_the_packaged_labels_come_back_to_the_byte(warehouse: BigQueryWarehouse) -> None:
    """Every entity, once, however often they are published."""
    version, text = PACKAGED
    assert entities.publish(warehouse, version, text) == text.count("\n")
    assert entities.publish(warehouse, version, text) == 0
    assert entities.newest(warehouse) == version
    assert entities.text_of(warehouse, version) == text
    rows = list(
        warehouse.query(
            "SELECT entity, kind, name FROM btc.current_entities WHERE day BETWEEN @first_day AND @last_day",
            *entities.EVER,
        )
    )
    told = [json.loads(line) for line in text.splitlines()]
    assert sorted((row["entity"], row["kind"], row["name"]) for row in rows) == sorted(
        (one["id"], one["kind"], one["name"]) for one in told
    )


def test_a_publication_cut_short_is_not_the_newest(
    warehouse: BigQueryWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is completed, which writes only what is missing."""
    old, new = edition("old"), edition("new")
    entities.publish(warehouse, *old)
    monkeypatch.setattr(entities, "MOST_BYTES", 1)
    load, calls = warehouse.load, []

    def second_fails(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise WarehouseUnavailable("cut off")
        load(*arguments)

    monkeypatch.setattr(warehouse, "load", second_fails)
    with pytest.raises(WarehouseUnavailable):
        entities.publish(warehouse, *new)
    assert entities.newest(warehouse) == old[0]
    with pytest.raises(WarehouseError, match="not whole"):
        entities.text_of(warehouse, "nosuch")
    assert entities.publish(warehouse, *new) == 1
    assert entities.newest(warehouse) == new[0]
    assert entities.text_of(warehouse, new[0]) == new[1]


def test_a_service_takes_them_and_keeps_them(
    emulator: Emulator, project: str, warehouse: BigQueryWarehouse, tmp_path: Path
) -> None:
    """A later edition too; and the last one while the warehouse is away."""
    settings = settings_for(emulator, project, tmp_path)
    with pytest.raises(WarehouseError, match="entities publish"):
        WarehouseLabels(settings)
    old, new = edition("old"), edition("new")
    entities.publish(warehouse, *old)
    labels = WarehouseLabels(settings)
    try:
        assert labels.file.read_text("utf-8") == old[1]
        assert not labels.look()
        entities.publish(warehouse, *new)
        assert labels.look()
        assert labels.file.read_text("utf-8") == new[1]
    finally:
        labels.close()
    away = WarehouseLabels(settings_for(emulator, project, tmp_path, endpoint="http://127.0.0.1:1"))
    away.close()
    assert away.file.read_text("utf-8") == new[1]


def test_publishing_by_command(emulator: Emulator, project: str, tmp_path: Path) -> None:
    """A file of one's own; one that is no label file is refused before anything is written."""
    told = {"PROJECT": project, "ENDPOINT": emulator.url, "STORAGE_ENDPOINT": emulator.storage}
    there = {f"UTXOIQ_WAREHOUSE__{name}": value for name, value in told.items()}
    version, text = edition("mine")
    file = tmp_path / "labels.jsonl"
    file.write_text(text.removesuffix("\n"), "utf-8")
    ran = utxoiq("entities", "publish", "--labels", file, "--json", **there)
    assert ran.code == 0, ran.err
    assert ran.rows == [{"labels_version": version, "lines": 2}]
    assert utxoiq("entities", "publish", "--labels", file, "--json", **there).rows == [
        {"labels_version": version, "lines": 0}
    ]
    file.write_text("nonsense\n", "utf-8")
    assert utxoiq("entities", "publish", "--labels", file, **there).code == 3
