"""What Bitcoin Core publishes over ZMQ: all topics at one address, one queue for all of them, a counter for each."""

from __future__ import annotations

import struct
from threading import Lock

import zmq

from helpers.node.tree import Entry
from helpers.node.wire import Transaction

HIGH_WATER_MARK = 1000
TOPICS = ("hashblock", "hashtx", "rawtx", "sequence")


class Publisher:
    """A PUB socket. Bodies carry hashes in display order; counters begin at 0 with each start."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.silent = False
        """Nothing is sent, but everything is counted."""
        self.to_drop = 0
        """So many of the next messages are counted and not sent."""
        self.counters = dict.fromkeys(TOPICS, 0)
        self._lock = Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._socket is not None

    def start(self) -> None:
        self.counters = dict.fromkeys(TOPICS, 0)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.sndhwm = HIGH_WATER_MARK
        self._socket.linger = 0
        self._socket.bind(self.address)

    def stop(self) -> None:
        """Close the socket, and wait until its port is free again."""
        with self._lock:
            if self._context is not None:
                self._context.destroy(linger=0)
            self._context = self._socket = None

    def transaction(self, transaction: Transaction) -> None:
        """A transaction entered the mempool, or a block that was connected or disconnected has it."""
        self._send("hashtx", transaction.txid[::-1])
        self._send("rawtx", transaction.raw)

    def added(self, transaction: Transaction, sequence: int) -> None:
        self.transaction(transaction)
        self._send("sequence", transaction.txid[::-1] + b"A" + struct.pack("<Q", sequence))

    def removed(self, transaction: Transaction, sequence: int) -> None:
        self._send("sequence", transaction.txid[::-1] + b"R" + struct.pack("<Q", sequence))

    def connected(self, entry: Entry) -> None:
        self._block(entry, b"C")

    def disconnected(self, entry: Entry) -> None:
        self._block(entry, b"D")

    def tip(self, entry: Entry) -> None:
        self._send("hashblock", entry.hash[::-1])

    def _block(self, entry: Entry, label: bytes) -> None:
        for transaction in entry.transactions:
            self.transaction(transaction)
        self._send("sequence", entry.hash[::-1] + label)

    def _send(self, topic: str, body: bytes) -> None:
        with self._lock:
            if self._socket is None:
                return
            number = self.counters[topic]
            self.counters[topic] = (number + 1) & 0xFFFFFFFF
            if self.to_drop:
                self.to_drop -= 1
            elif not self.silent:
                self._socket.send_multipart([topic.encode(), body, struct.pack("<I", number)])
