"""What a test can make the double do wrong."""

from __future__ import annotations

import time
from math import inf
from threading import Event, Lock


class Faults:
    """Switches, all off at first. They stay as they are over a restart."""

    def __init__(self) -> None:
        self.warming_up: str | None = None
        """RPC answers −28 with this text, REST 503."""
        self.busy = False
        """Everything is answered 503, `Work queue depth exceeded`."""
        self.ibd: bool | None = None
        """What `initialblockdownload` is to be, whatever the tip's age."""
        self.chain: str | None = None
        """The network it calls itself, instead of regtest."""
        self.pruned_below = 0
        """Blocks lower than this are pruned."""
        self.rest_enabled = True
        self.old_node = False
        """There is no `/rest/spenttxouts`, as before Bitcoin Core 30."""
        self.methods_missing: set[str] = set()
        """Methods it doesn't know."""
        self.whitelist: set[str] | None = None
        """The methods its user may call, if not all."""
        self.warnings: list[str] = []
        """What it warns of."""
        self.fee_estimates: dict[int, tuple[int, int]] = {}
        """What `estimatesmartfee` knows by target: sat/kvB, and the target it answers for."""
        self.requests: list[tuple[str, str]] = []
        """("rpc", method) and ("rest", path with query), in the order they came; the test's own `rpc` leaves none."""
        self._lock = Lock()
        self._truncations: list[str] = []
        self._hangs: list[tuple[str, float]] = []
        self._warm_until = inf
        self.interrupted = Event()
        """Ends what hangs; set while the node is down."""

    def warm_up(self, seconds: float, text: str = "Loading block index…") -> None:
        """Be in warm-up for a while."""
        self.warming_up, self._warm_until = text, time.monotonic() + seconds

    def end_warm_up(self) -> None:
        """Looked at by every request: is the while over?"""
        if time.monotonic() >= self._warm_until:
            self.warming_up, self._warm_until = None, inf

    def truncate_next(self, path_prefix: str = "/") -> None:
        """The next answer under this path ends in the middle of its body, and the connection with it."""
        with self._lock:
            self._truncations.append(path_prefix)

    def hang_next(self, seconds: float, path_prefix: str = "/") -> None:
        """The next request under this path is answered that much later."""
        with self._lock:
            self._hangs.append((path_prefix, seconds))

    def take_truncation(self, path: str) -> bool:
        with self._lock:
            found = next((prefix for prefix in self._truncations if path.startswith(prefix)), None)
            if found is not None:
                self._truncations.remove(found)
            return found is not None

    def take_hang(self, path: str) -> float:
        with self._lock:
            found = next((hang for hang in self._hangs if path.startswith(hang[0])), None)
            if found is None:
                return 0
            self._hangs.remove(found)
            return found[1]
