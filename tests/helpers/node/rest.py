"""The REST interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from helpers.node.blockjson import block_json, header_json, spent_json, transaction_json
from helpers.node.http import Response
from helpers.node.jsontext import write
from helpers.node.rpc_chain import chain_info
from helpers.node.rpc_mempool import mempool_info, mempool_json
from helpers.node.state import NodeState
from helpers.node.tree import Entry
from helpers.node.wire import display, internal
from utxoiq.chain.serialize import spenttxouts_bytes

MAX_HEADERS = 2000


class RestError(Exception):
    """An error answer: its status and its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Asked:
    """What comes behind an endpoint's prefix: a name, an extension, and the query."""

    def __init__(self, rest: str) -> None:
        path, _, query = rest.partition("?")
        stem, dot, extension = path.rpartition(".")
        known = dot and extension in ("", "bin", "hex", "json")
        self.name, self.extension = (stem, extension) if known else (path, "")
        self.query = {key: values[0] for key, values in parse_qs(query, keep_blank_values=True).items()}

    def answer(self, binary: Callable[[], bytes] | None, value: Callable[[], Any] | None) -> Response:
        """In the form that was asked for. Raises RestError where there is no such form."""
        if self.extension == "bin" and binary:
            return Response(200, binary(), [("Content-Type", "application/octet-stream")])
        if self.extension == "hex" and binary:
            return Response(200, binary().hex().encode() + b"\n", [("Content-Type", "text/plain")])
        if self.extension == "json" and value:
            return Response(200, write(value()).encode() + b"\n", [("Content-Type", "application/json")])
        forms = ".bin, .hex, .json" if binary else "json"
        raise RestError(404, f"output format not found (available: {forms})")


def respond(state: NodeState, path: str) -> Response | None:
    """What the node answers to a path below /rest; None where it knows no such path."""
    endpoint = next(((prefix, found) for prefix, found in ENDPOINTS if path.startswith(prefix)), None)
    if endpoint is None or (state.faults.old_node and endpoint[1] is _spent):
        return None
    prefix, found = endpoint
    try:
        if state.faults.warming_up is not None:
            raise RestError(503, f"Service temporarily unavailable: {state.faults.warming_up}")
        with state.lock:
            return found(state, Asked(path.removeprefix(prefix)))
    except RestError as error:
        return Response(error.status, f"{error}\r\n".encode(), [("Content-Type", "text/plain")])


def _hash(text: str) -> bytes:
    try:
        if len(text) == 64 and text.isalnum():
            return internal(text)
    except ValueError:
        pass
    raise RestError(400, f"Invalid hash: {text}")


def _entry(state: NodeState, text: str) -> Entry:
    entry = state.chainstate.tree.entries.get(_hash(text))
    if entry is None:
        raise RestError(404, f"{text} not found")
    return entry


def _with_data(state: NodeState, asked: Asked) -> tuple[Entry, bytes]:
    entry = _entry(state, asked.name)
    if state.is_pruned(entry):
        raise RestError(404, f"{asked.name} not available (pruned data)")
    if entry.raw is None:
        raise RestError(404, f"{asked.name} not available (not fully downloaded)")
    return entry, entry.raw


def _block(state: NodeState, asked: Asked) -> Response:
    entry, raw = _with_data(state, asked)
    return asked.answer(lambda: raw, lambda: block_json(state.chainstate, entry, 3))


def _block_without_details(state: NodeState, asked: Asked) -> Response:
    entry, raw = _with_data(state, asked)
    return asked.answer(lambda: raw, lambda: block_json(state.chainstate, entry, 1))


def _block_part(state: NodeState, asked: Asked) -> Response:
    given = {}
    for key in ("offset", "size"):
        text = asked.query.get(key, "")
        if not text.isdigit():
            raise RestError(400, f"Block part {key} missing or invalid")
        given[key] = int(text)
    _, raw = _with_data(state, asked)
    offset, size = given["offset"], given["size"]
    if size == 0 or offset + size > len(raw):
        raise RestError(400, f"Bad block part offset/size {offset}/{size} for {asked.name}")
    if asked.extension == "json":
        raise RestError(400, "JSON output is not supported for this request type")
    return asked.answer(lambda: raw[offset : offset + size], None)


def _spent(state: NodeState, asked: Asked) -> Response:
    if "/" in asked.name:
        raise RestError(400, "Invalid URI format. Expected /rest/spenttxouts/<hash>.<ext>")
    entry = _entry(state, asked.name)
    undo = entry.undo
    if undo is None or state.is_pruned(entry):
        raise RestError(404, f"{asked.name} undo not available")
    return asked.answer(lambda: spenttxouts_bytes([[], *undo], len(undo) + 1), lambda: spent_json(undo))


def _headers(state: NodeState, asked: Asked) -> Response:
    count, slash, name = asked.name.partition("/")
    if not slash:
        count, name = asked.query.get("count", "5"), asked.name
    if "/" in name:
        raise RestError(400, "Invalid URI format. Expected /rest/headers/<hash>.<ext>?count=<count>")
    if not count.isdigit() or not 1 <= int(count) <= MAX_HEADERS:
        raise RestError(400, f"Header count is invalid or out of acceptable range (1-{MAX_HEADERS}): {count}")
    chain = state.chainstate
    first = chain.tree.entries.get(_hash(name))
    found: list[Entry] = []
    if first is not None and chain.contains(first):
        found = chain.active[first.height : first.height + int(count)]
    return asked.answer(
        lambda: b"".join(entry.header for entry in found), lambda: [header_json(chain, entry) for entry in found]
    )


def _hash_by_height(state: NodeState, asked: Asked) -> Response:
    active = state.chainstate.active
    if not asked.name.isdigit() or int(asked.name) >= 1 << 31:
        raise RestError(400, f"Invalid height: {asked.name}")
    if int(asked.name) >= len(active):
        raise RestError(404, "Block height out of range")
    found = active[int(asked.name)].hash
    if asked.extension == "hex":
        return Response(200, display(found).encode() + b"\n", [("Content-Type", "text/plain")])
    return asked.answer(lambda: found, lambda: {"blockhash": display(found)})


def _chain_info(state: NodeState, asked: Asked) -> Response:
    return asked.answer(None, lambda: chain_info(state))


def _mempool(state: NodeState, asked: Asked) -> Response:
    if asked.name == "info":
        return asked.answer(None, lambda: mempool_info(state.mempool))
    if asked.name != "contents":
        raise RestError(400, "Invalid URI format. Expected /rest/mempool/<info|contents>.json")
    given = {
        "verbose": asked.query.get("verbose", "true"),
        "mempool_sequence": asked.query.get("mempool_sequence", "false"),
    }
    for key, text in given.items():
        if text not in ("true", "false"):
            raise RestError(400, f'The "{key}" query parameter must be either "true" or "false".')
    verbose, sequence = (text == "true" for text in given.values())
    if verbose and sequence:
        hint = '(hint: set "verbose=false")'
        raise RestError(400, f"Verbose results cannot contain mempool sequence values. {hint}")
    return asked.answer(None, lambda: mempool_json(state.mempool, verbose=verbose, sequence=sequence))


def _transaction(state: NodeState, asked: Asked) -> Response:
    txid = _hash(asked.name)
    pooled = state.mempool.entries.get(txid)
    entry = state.chainstate.confirmed.get(txid) if state.txindex and not pooled else None
    found = pooled.transaction if pooled else None
    if entry is not None and entry.prev is not None:
        found = next(tx for tx in entry.transactions if tx.txid == txid)
    if found is None:
        raise RestError(404, f"{asked.name} not found")
    shown = transaction_json(found, None, prevouts=False)
    if entry is not None:
        shown["blockhash"] = display(entry.hash)
    return asked.answer(lambda: found.raw, lambda: shown | {"hex": found.raw.hex()})


ENDPOINTS = (
    ("/rest/tx/", _transaction),
    ("/rest/block/notxdetails/", _block_without_details),
    ("/rest/block/", _block),
    ("/rest/blockpart/", _block_part),
    ("/rest/chaininfo", _chain_info),
    ("/rest/mempool/", _mempool),
    ("/rest/headers/", _headers),
    ("/rest/blockhashbyheight/", _hash_by_height),
    ("/rest/spenttxouts/", _spent),
)
