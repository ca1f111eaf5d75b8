"""What every script holds: the ledger made, followed, and asked. Amounts are sat in JSON, BTC in tables."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from utxoiq.commands.options import AsJson, Labels, NetworkName
from utxoiq.errors import ConfigError, SourceError, UtxoiqError
from utxoiq.units import COIN, MAX_MONEY

if TYPE_CHECKING:
    from utxoiq.balances.importing import Imported
    from utxoiq.balances.ledger import Ledger
    from utxoiq.balances.records import Balance, Holder
    from utxoiq.chain.hashes import Hash256
    from utxoiq.chain.network import Network
    from utxoiq.entities.labels import Entity, LabelSet
    from utxoiq.models import BlockData, Connected, Disconnected
    from utxoiq.sources.base import BlockSource

LedgerFolder = Annotated[Path, typer.Option("--ledger", metavar="DIR", help="The ledger's folder.")]
KeepFrom = Annotated[
    int,
    typer.Option(
        "--keep-from", min=1, max=MAX_MONEY // COIN, help="BTC; who holds less has no name in `top`. For a new ledger."
    ),
]
SNAPSHOT = "start from a snapshot (`utxoiq balances import`)"
COVERED = "That is {coverage:.1%} of the {known} BTC it was known to hold as of {holdings_as_of}. "
NOT_IN_IT = "Only labelled addresses: those not labelled are not in it, nor those another entity claims too."
NOT_KEPT = "Unknown: those that hold less than the ledger keeps scripts from, see `balances build --help`. "

balances_app = typer.Typer(help="What every script holds: a ledger on disk, to the satoshi.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this group."""
    for name, command in (("build", build), ("import", import_), ("top", top), ("of", of), ("entity", entity)):
        balances_app.command(name)(command)
    balances_app.command("check")(check)
    app.add_typer(balances_app, name="balances")


def build(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A blocks directory, a folder of *.blk files, or a node's address.")
    ],
    ledger: LedgerFolder,
    keep_from: KeepFrom = 100,
    network: NetworkName = None,
    as_json: AsJson = False,
) -> None:
    """Follow SOURCE from genesis, or from where the ledger stands, to its tip. Blocks of a reorg are taken back."""
    from utxoiq.opening import open_named
    from utxoiq.show import json_lines

    blocks = open_named(source, network)
    with _ledger_of(blocks, source, ledger, keep_from * COIN) as opened:
        connected, disconnected = _followed(opened, blocks, source)
        done = {"connected": connected, "disconnected": disconnected, **_where(opened)}
    for name, position, size in getattr(blocks, "skipped", ()):
        typer.echo(f"utxoiq: {name}: {size:,} bytes from byte {position:,} hold no block, passed over", err=True)
    if as_json:
        json_lines([done])
    else:
        text = "{connected:,} blocks connected, {disconnected:,} disconnected; block {height} {block_hash}, ledger "
        typer.echo(text.format_map(done) + str(ledger))


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `bitcoin-cli dumptxoutset` wrote.")],
    ledger: LedgerFolder,
    height: Annotated[
        int, typer.Option("--height", min=0, max=(1 << 31) - 1, help="Of its base block: the file does not say it.")
    ],
    expected: Annotated[
        str | None, typer.Option("--hash", help="The txoutset_hash told with it; without it FILE is believed.")
    ] = None,
    keep_from: KeepFrom = 100,
    network: NetworkName = None,
    as_json: AsJson = False,
) -> None:
    """Make a ledger from a snapshot of the coins at one block. Needs 32 bytes of disk a coin while it runs."""
    from utxoiq.balances.importing import import_snapshot
    from utxoiq.show import json_lines, progress_of

    wanted, of_network = _hash_named(expected), _network_of(file, network)
    with progress_of("import", "coins") as tell:
        found = import_snapshot(
            file,
            ledger.resolve(),
            of_network,
            height,
            expected_hash=wanted,
            kept_from=keep_from * COIN,
            on_progress=tell,
        )
    row = _imported_row(found, of_network, verified=wanted is not None)
    json_lines([row]) if as_json else _tell_imported(row, ledger)


def top(
    ledger: LedgerFolder,
    count: Annotated[int, typer.Option("--count", min=1, help="How many.")] = 20,
    labels: Labels = None,
    as_json: AsJson = False,
) -> None:
    """The scripts that hold most, with the names of those that labels know."""
    from utxoiq.show import json_lines

    with _opened(ledger) as opened:
        holders, at, of_network = opened.top(count), _where(opened), _network(opened)
    names = _labels(of_network, labels)
    rows = [_holder_row(rank, holder, of_network, names, at) for rank, holder in enumerate(holders, 1)]
    if as_json:
        json_lines(rows)
        return
    cells = ((str(row["rank"]), _btc(row["sat"]), _word(row), row["name"] or "") for row in rows)
    note = NOT_KEPT if any(row["script"] is None for row in rows) else ""
    _table(("rank", "BTC", "address or script", "entity"), cells, note + _at(at))


def of(
    addresses: Annotated[
        list[str], typer.Argument(metavar="ADDRESS...", help="Addresses, or script:HEX for scripts without one.")
    ],
    ledger: LedgerFolder,
    as_json: AsJson = False,
) -> None:
    """What addresses hold, since which block without a break, and the last block that paid or spent."""
    from utxoiq.entities.words import script_of_word
    from utxoiq.show import json_lines

    with _opened(ledger) as opened:
        of_network, at = _network(opened), _where(opened)
        scripts = [script_of_word(word, of_network) for word in addresses]
        held = _held(opened, scripts)
    rows = [{**_named(script, of_network), **asdict(one), **at} for script, one in zip(scripts, held, strict=True)]
    if as_json:
        json_lines(rows)
        return
    cells = (
        (_word(row), _btc(row["sat"]), *(_seen(row, name) for name in ("first_seen", "last_seen"))) for row in rows
    )
    _table(("address or script", "BTC", "since block", "last block"), cells, _at(at))


def entity(
    name: Annotated[str, typer.Argument(metavar="NAME_OR_ID", help="An entity's id or its name.")],
    ledger: LedgerFolder,
    labels: Labels = None,
    as_json: AsJson = False,
) -> None:
    """What the labelled addresses of an entity hold together, and which part of its known holdings that is. What is not
    labelled is not in it."""
    from utxoiq.show import json_lines

    with _opened(ledger) as opened:
        names = _labels(_network(opened), labels)
        row = _entity_row(opened, _entity_named(names, name), names)
    if as_json:
        json_lines([row])
        return
    largest = _word(row["largest"]) if row["largest"] else ""
    cells = (row["name"], *(f"{row[key]:,}" for key in ("addresses", "holding")), _btc(row["sat"]), largest)
    largest_btc = _btc(row["largest"]["sat"]) if row["largest"] else ""
    headings = ("entity", "addresses", "that hold coins", "BTC", "largest", "of it BTC")
    covered = "" if row["coverage"] is None else COVERED.format_map({**row, "known": _btc(row["known_holdings"])})
    _table(headings, [(*cells, largest_btc)], f"{covered}{row['note']} {_at(row)}")


def check(ledger: LedgerFolder, as_json: AsJson = False) -> None:
    """Verify every byte of the ledger, and add up all balances: gettxoutsetinfo's total_amount at that block."""
    from utxoiq.show import json_lines

    with _opened(ledger) as opened:
        row = {**asdict(opened.check()), **_where(opened)}
    if as_json:
        json_lines([row])
    else:
        typer.echo(f"In order: {row['scripts']:,} scripts hold {_btc(row['sat'])} BTC. {_at(row)}")


def _ledger_of(blocks: BlockSource, name: str, folder: Path, kept_from: int) -> Ledger:
    """The ledger there, or else a new one: only for a source that begins at genesis. A killed process loses nothing,
    and after a power cut the next build goes on from a few blocks lower: so it need not wait for the disk."""
    from utxoiq.balances.ledger import Ledger
    from utxoiq.balances.manifest import NAME
    from utxoiq.balances.records import DEFAULTS

    settings = replace(DEFAULTS, sync=False)
    if (folder / NAME).exists():
        return Ledger.open(folder, blocks.network, settings=settings)
    _refuse_later(blocks, name)
    return Ledger.create(folder, blocks.network, kept_from=kept_from, settings=settings)


def _refuse_later(blocks: BlockSource, name: str) -> None:
    """Raise SourceError for a source whose first block is not genesis."""
    if blocks.lowest() > 0 or blocks.tip() is None:
        raise SourceError(f"{name}: does not begin with genesis, and balances need every block since; {SNAPSHOT}")


def _followed(ledger: Ledger, blocks: BlockSource, name: str) -> tuple[int, int]:
    """How many blocks were connected and disconnected.

    Genesis comes first, by its height: from a known block a source goes the straight way to its tip, past stale
    branches, which may lack what they spend."""
    from utxoiq.models import Connected, Cursor
    from utxoiq.show import progress

    counts = [0, 0]
    if ledger.tip is None:
        _refuse_later(blocks, name)
        counts[0] += _take(ledger, Connected(blocks.block_at(0)), name)
    cursor = Cursor(str(ledger.tip[1]), ledger.tip[0]) if ledger.tip else None

    async def follow() -> None:
        async for one in blocks.follow(cursor):
            counts[not isinstance(one, Connected)] += _take(ledger, one, name)
            step()
            await asyncio.sleep(0)  # where Ctrl-C is heard: between blocks

    with progress("balances", blocks.count_from(cursor)) as step:
        asyncio.run(follow())
    return counts[0], counts[1]


def _take(ledger: Ledger, step: Connected | Disconnected, name: str) -> bool:
    """One step; False for a block that the ledger had, as a recorded folder gives all it holds each time."""
    from utxoiq.models import Disconnected

    if isinstance(step, Disconnected):
        ledger.disconnect(step.block_hash)
        return True
    block, tip = step.block, ledger.tip
    if tip and block.height is not None and (block.height < tip[0] or block.block_hash == tip[1]):
        return False
    _connect(ledger, block, name)
    return True


def _connect(ledger: Ledger, block: BlockData, name: str) -> None:
    """Raises SourceError for a block after a gap, or without its spent outputs."""
    after = ledger.tip[0] if ledger.tip else -1
    if block.height is None or block.height > after + 1:
        which = "of unknown height" if block.height is None else f"at {block.height}"
        raise SourceError(
            f"{name}: block {block.block_hash} {which} does not follow {after}, where the ledger stands; give a source "
            f"that has all blocks, or {SNAPSHOT}"
        )
    if block.spent is None:
        raise SourceError(
            f"{name}: what block {block.block_hash} at {block.height} spends is not there; give a source with undo "
            f"data (rev*.dat), or {SNAPSHOT}"
        )
    ledger.connect(block.block, block.spent, block.height)


def _hash_named(text: str | None) -> Hash256 | None:
    from utxoiq.chain.hashes import Hash256

    try:
        return None if text is None else Hash256.from_display(text)
    except ValueError:
        raise ConfigError(f"--hash {text!r} is no hash: give the 64 hex digits of txoutset_hash") from None


def _network_of(file: Path, name: str | None) -> Network:
    """The one that is named, or else the one FILE says it is of."""
    from utxoiq.balances.errors import SnapshotRefused, disk_errors
    from utxoiq.chain.network import BY_MAGIC, NETWORKS, network_named

    if name is not None:
        return network_named(name)
    if not file.is_file():
        raise SnapshotRefused(f"{file}: no such file; make one with `bitcoin-cli dumptxoutset {file} latest`")
    with disk_errors(file), file.open("rb") as opened:
        return BY_MAGIC.get(opened.read(11)[7:], NETWORKS["main"])


def _imported_row(found: Imported, network: Network, *, verified: bool) -> dict[str, Any]:
    return {
        "coins": found.coins, "scripts": found.scripts, "sat": found.sat, "hash": str(found.hash_serialized),
        "hash_verified": verified, "network": network.name, "height": found.height, "block_hash": str(found.base),
    }  # fmt: skip


def _tell_imported(row: dict[str, Any], ledger: Path) -> None:
    text = "{coins:,} coins of {scripts:,} scripts; block {height} {block_hash}, ledger "
    typer.echo(f"{_btc(row['sat'])} BTC in " + text.format_map(row) + str(ledger))
    advice = "as expected" if row["hash_verified"] else "compare it with gettxoutsetinfo's hash_serialized_3 there"
    typer.echo(f"coins hash to {row['hash']}: {advice}")


@contextmanager
def _opened(folder: Path) -> Iterator[Ledger]:
    """A ledger to ask. Raises LedgerError where there is none, or none with a block."""
    from utxoiq.balances.errors import LedgerError
    from utxoiq.balances.ledger import Ledger

    with Ledger.read(folder) as ledger:
        if ledger.tip is None:
            raise LedgerError(f"{folder}: has no block yet; go on with `utxoiq balances build`")
        yield ledger


def _network(ledger: Ledger) -> Network:
    from utxoiq.chain.network import NETWORKS

    return NETWORKS[ledger.network]


def _where(ledger: Ledger) -> dict[str, Any]:
    """The block at whose end all that is told was so."""
    height, block_hash = ledger.tip or (None, None)
    return {"network": ledger.network, "height": height, "block_hash": block_hash and str(block_hash)}


def _held(ledger: Ledger, scripts: Sequence[bytes]) -> list[Balance]:
    """Of a ledger that has a block."""
    return [balance for balance in ledger.balances(scripts) if balance is not None]


def _named(script: bytes, network: Network) -> dict[str, str | None]:
    from utxoiq.chain.address import address_of

    return {"address": address_of(script, network), "script": script.hex()}


def _holder_row(rank: int, holder: Holder, network: Network, names: LabelSet, at: dict[str, Any]) -> dict[str, Any]:
    script = holder.script
    known = {"address": None, "script": None} if script is None else _named(script, network)
    owner = None if script is None else names.owner_of(script)
    who = {"entity": owner and owner.id, "name": owner and owner.name}
    return {"rank": rank, **known, "sat": holder.sat, **who, **at}


def _labels(network: Network, path: Path | None) -> LabelSet:
    from utxoiq.entities.labels import labels_for

    return labels_for(network, path)


def _entity_named(names: LabelSet, name: str) -> Entity:
    """By id, or by a name that is one entity's only. Raises UtxoiqError."""
    if name in names.entities:
        return names.entities[name]
    found = [one for one in names.entities.values() if one.name.casefold() == name.casefold()]
    if len(found) != 1:
        none = f"there are no labels of {names.network.name}, give a file of them with --labels"
        advice = "see `utxoiq entities list`" if names.entities else none
        raise UtxoiqError(f"no entity, or more than one, is called {name!r}: {advice}")
    return found[0]


def _entity_row(ledger: Ledger, one: Entity, names: LabelSet) -> dict[str, Any]:
    """The sum is null, not zero, where no address is known."""
    scripts = list(names.scripts_of(one))
    sats = [balance.sat for balance in _held(ledger, scripts)]
    richest = max(range(len(sats)), key=sats.__getitem__) if any(sats) else None
    largest = None if richest is None else {**_named(scripts[richest], names.network), "sat": sats[richest]}
    total, known = sum(sats) if sats else None, one.known_holdings or {}
    covered = None if total is None or not known.get("sat") else round(total / known["sat"], 4)
    return {
        "entity": one.id, "name": one.name, "kind": one.kind, "sat": total, "known_holdings": known.get("sat"),
        "holdings_as_of": known.get("as_of"), "coverage": covered,
        "addresses": len(sats), "holding": sum(map(bool, sats)), "largest": largest,
        "labels_version": names.version, "note": NOT_IN_IT, **_where(ledger),
    }  # fmt: skip


def _btc(sat: int | None) -> str:
    """With all eight digits, so that a column can be read."""
    return "unknown" if sat is None else f"{sat // COIN:,}.{sat % COIN:08d}"


def _word(row: dict[str, Any]) -> str:
    """As `of` takes it: the address, or else the script."""
    if row["script"] is None:
        return "unknown"
    return row["address"] or f"script:{row['script']}"


def _seen(row: dict[str, Any], name: str) -> str:
    if not row["sat"]:
        return ""
    return "unknown" if row[name] is None else str(row[name])


def _at(row: dict[str, Any]) -> str:
    return "At the end of block {height} {block_hash} ({network}).".format_map(row)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], below: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading.endswith("BTC") else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(highlight=False)
    console.print(table)
    console.print(below, style="dim", markup=False, soft_wrap=True)
