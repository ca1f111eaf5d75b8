"""`utxoiq doctor`: what a run would meet, checked one by one, and what to do about each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from utxoiq.chain.hashes import Hash256
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import labels_for
from utxoiq.errors import ConfigError, NodeError, UtxoiqError
from utxoiq.insights.providers import provider_of
from utxoiq.observability import MonitoringModule
from utxoiq.opening import source_of
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.sqlite import URL
from utxoiq.sources.node.source import NodeSource

if TYPE_CHECKING:
    from utxoiq.config import Settings
    from utxoiq.pipeline.monitor import LiveSource

OLDEST_CORE, REST_SPENT_CORE, DIAGRAM_CORE = 250_000, 300_000, 310_000
"""Versions from which a node can be followed at all, gives spent outputs by REST, and a feerate diagram."""
MOST_SKEW = 60.0
LEAST_FREE = 2 << 30
"""Bytes: about four years of blocks in the store."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and what to do where it is not well."""

    name: str
    state: Literal["ok", "warning", "failed"]
    found: str
    advice: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """Every check, in the order of a start. Never raises for what is wrong outside."""
    network: str | None = None
    try:
        source = source_of(settings)
    except ConfigError as error:
        yield Check("source", "failed", str(error), "give --node, or node.url in utxoiq.toml")
    else:
        try:
            network = source.network.name
            yield Check("node", "ok", f"{source.where} answers, network {network}")
        except NodeError as error:
            yield Check("node", "failed", str(error), "start it, or correct node.url, node.user and node.cookie_file")
        if network and isinstance(source, NodeSource):
            yield from _node(source, settings)
        yield from _store(settings, source if network else None)
        source.close()
    yield _disk(settings)
    yield _labels(settings, network)
    if settings.ledger is not None:
        yield _ledger(settings.ledger, network)
    yield _provider(settings)


def _node(source: NodeSource, settings: Settings) -> Iterator[Check]:
    checks: tuple[tuple[str, Callable[[NodeSource, Settings], Check]], ...] = (
        ("version", _version), ("chain", _chain), ("REST", _rest), ("ZMQ", _zmq), ("mempool", _mempool),
        ("clock", _clock),
    )  # fmt: skip
    for name, check in checks:
        try:
            yield check(source, settings)
        except (UtxoiqError, KeyError, TypeError, ValueError) as error:
            yield Check(name, "failed", str(error) or repr(error), "see the node's debug.log")


def _version(source: NodeSource, _: Settings) -> Check:
    info = source.rpc.call("getnetworkinfo")
    told = f"{info['subversion'].strip('/')} ({info['version']})"
    if info["version"] < OLDEST_CORE:
        return Check("version", "failed", told, "use Bitcoin Core 25 or newer")
    if info["version"] < REST_SPENT_CORE:
        return Check("version", "warning", told, "Core 30 and newer give spent outputs by REST, many times faster")
    return Check("version", "ok", told)


def _chain(source: NodeSource, settings: Settings) -> Check:
    info: dict[str, Any] = source.rpc.call("getblockchaininfo")
    told = f"height {info['blocks']} of {info['headers']}" + (", pruned" if info["pruned"] else "")
    if info["blocks"] < info["headers"]:
        return Check("chain", "warning", told, "it is still downloading; utxoiq follows as far as it has come")
    begin = settings.live.from_height
    if begin is not None and begin < info.get("pruneheight", 0):
        return Check("chain", "failed", told, f"blocks below {info['pruneheight']} are pruned: begin there or above")
    return Check("chain", "ok", told)


def _rest(source: NodeSource, settings: Settings) -> Check:
    if not settings.node.rest:
        return Check("REST", "warning", "not used (node.rest = false)", "set it to true for faster blocks")
    place = source.chain_tip()
    source.blocks_of.read(place.block_hash, source.network)
    offer = source.blocks_of.offer.value
    if source.blocks_of.offer.name == "BLOCKS_AND_SPENT":
        return Check("REST", "ok", offer)
    return Check("REST", "warning", offer, "put rest=1 into bitcoin.conf and restart the node (Core 30 and newer)")


def _zmq(source: NodeSource, settings: Settings) -> Check:
    if settings.node.zmq == "off":
        return Check("ZMQ", "warning", "not used (node.zmq = off)", "set it to auto to see blocks at once")
    where = source.announced_at() if settings.node.zmq == "auto" else {settings.node.zmq}
    if not where:
        advice = "put zmqpubhashblock=tcp://127.0.0.1:28332 and zmqpubsequence=tcp://127.0.0.1:28332 into bitcoin.conf"
        return Check("ZMQ", "warning", f"off: polling every {settings.node.poll_seconds:g} s", advice)
    return Check("ZMQ", "ok", ", ".join(sorted(where)))


def _mempool(source: NodeSource, _: Settings) -> Check:
    snapshot = source.snapshot()
    if snapshot is None or snapshot.basis is None:
        return Check("mempool", "warning", "no projection", "Core 31 has a feerate diagram; big mempools need it")
    told = f"{snapshot.transactions:,} transactions, by {snapshot.basis}"
    return Check("mempool", "ok", told)


def _clock(source: NodeSource, _: Settings) -> Check:
    """Ours against the node's, and the node's against its peers'."""
    skew = source.clock_skew()
    offset = abs(int(source.rpc.call("getnetworkinfo")["timeoffset"]))
    told = f"{skew:.0f} s from the node's, whose own is {offset} s from its peers'"
    if skew > MOST_SKEW or offset > MOST_SKEW:
        return Check("clock", "warning", told, "synchronise both machines' clocks (NTP)")
    return Check("clock", "ok", told)


def _store(settings: Settings, source: LiveSource | None) -> Iterator[Check]:
    path = Path(settings.db.removeprefix(URL))
    if not settings.db.startswith(URL):
        yield Check("store", "failed", settings.db, "give sqlite:///FILE")
        return
    if not path.exists():
        state: Literal["ok", "failed"] = "ok" if path.absolute().parent.is_dir() else "failed"
        yield Check("store", state, f"{path}: not there yet", "" if state == "ok" else "make its folder")
        return
    try:
        with SqliteStore(path) as store:
            damage = store.database.value("PRAGMA quick_check")
            cursor, network = store.cursor(), store.network
            if damage != "ok":
                yield Check("store", "failed", f"{path}: {damage}", "restore a backup, or scan anew into another db")
                return
            at = f"{network}, height {cursor.height}" if cursor else "empty"
            yield Check("store", "ok", f"{path}: {at}")
            if source and network not in (None, source.network.name):
                yield Check("store", "failed", f"holds {network}, the node is {source.network.name}", "give another db")
            elif source and cursor and source.place(Hash256.from_display(cursor.block_hash)) is None:
                yield Check(
                    "store", "warning", f"the node does not know the store's tip {cursor.block_hash}",
                    "it is behind, or never saw that branch; a run waits, or takes it off once the node has more work",
                )  # fmt: skip
    except UtxoiqError as error:
        yield Check("store", "failed", str(error), "close other programs that use it, or give another db")


def _disk(settings: Settings) -> Check:
    folder = Path(settings.db.removeprefix(URL)).absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    told = f"{free / (1 << 30):,.1f} GiB free at {folder}"
    return Check("disk", "ok", told) if free > LEAST_FREE else Check("disk", "warning", told, "make room")


def _provider(settings: Settings) -> Check:
    """Whether a run could ask the provider set; no question is asked."""
    ai = settings.ai
    try:
        made = provider_of(ai, MonitoringModule(enabled=False))
    except ConfigError as error:
        return Check("AI", "failed", str(error), 'see docs/insights.md; ai.provider = "template" needs nothing')
    return Check("AI", "ok", made.name if ai.provider == "template" else f"{made.name}, model {made.model}")


def _ledger(folder: Path, network: str | None) -> Check:
    """Whether a run could use the ledger of balances."""
    from utxoiq.balances.ledger import Ledger  # noqa: PLC0415 its kernels load only where it is used

    try:
        with Ledger.read(folder, NETWORKS[network] if network else None) as ledger:
            tip = ledger.tip
    except UtxoiqError as error:
        return Check("ledger", "failed", str(error), "see docs/balances.md, or leave `ledger` out")
    if tip is None:
        return Check("ledger", "warning", f"{folder}: no block yet", "make it with `utxoiq balances build`")
    return Check("ledger", "ok", f"{folder}: height {tip[0]}")


def _labels(settings: Settings, network: str | None) -> Check:
    try:
        labels = labels_for(NETWORKS[settings.network or network or "main"], settings.labels)
    except UtxoiqError as error:
        return Check("labels", "failed", str(error), "mend the file, or leave `labels` out")
    addresses = sum(entity.count for entity in labels.entities.values())
    told = f"version {labels.version}: {len(labels.entities)} entities, {addresses:,} addresses"
    if labels.conflicts:
        return Check("labels", "warning", f"{told}; {len(labels.conflicts)} owned twice, not used", "see entities list")
    return Check("labels", "ok", told)
