"""A plain ZMQ subscriber for tests that look at the messages themselves."""

from __future__ import annotations

import time
from types import TracebackType
from typing import NamedTuple

import zmq
from zmq.utils.monitor import recv_monitor_message

SETTLING = 0.05
"""After the handshake the publisher still has to read what was subscribed to."""


class Message(NamedTuple):
    """The three parts of a message."""

    topic: str
    body: bytes
    number: int


class Subscriber:
    """Subscribed to some topics at one address; `connected` waits for the publisher."""

    def __init__(self, address: str, *topics: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.rcvhwm = 0
        for topic in topics or ("",):
            self._socket.subscribe(topic)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._socket.connect(address)

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.disable_monitor()
        self._context.destroy(linger=0)

    def connected(self, seconds: float = 10) -> None:
        """Wait for the next connection to the publisher, and until it can publish to us."""
        if not self._monitor.poll(int(seconds * 1000)):
            raise TimeoutError("no publisher")
        recv_monitor_message(self._monitor)
        # after a reconnection the subscriptions are sent by whoever looks at the socket next
        self._socket.poll(1)
        time.sleep(SETTLING)

    def take(self, count: int, *, seconds: float = 10) -> list[Message]:
        """So many messages. Raises TimeoutError."""
        messages: list[Message] = []
        until = time.monotonic() + seconds
        while len(messages) < count:
            if not self._socket.poll(max(0, int((until - time.monotonic()) * 1000))):
                raise TimeoutError(f"{len(messages)} of {count} messages: {messages}")
            topic, body, number = self._socket.recv_multipart()
            messages.append(Message(topic.decode(), body, int.from_bytes(number, "little")))
        return messages

    def rest(self, *, quiet: float = 0.1) -> list[Message]:
        """All messages until none comes for a while."""
        messages = []
        while self._socket.poll(int(quiet * 1000)):
            messages += self.take(1)
        return messages
