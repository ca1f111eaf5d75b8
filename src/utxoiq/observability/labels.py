"""Values of metric labels: printable, short, and so few that no input can make series without end."""

from __future__ import annotations

from threading import Lock

MAX_VALUES = 200
"""Distinct values a label may take; those that come later are `other`."""

MAX_LENGTH = 100
"""Characters of a value."""


class Labels:
    """What each label has been so far."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}
        self._lock = Lock()

    def bounded(self, labels: dict[str, str | None]) -> dict[str, str]:
        """These labels as a metric may carry them; one that is None is left out."""
        return {label: self._value(label, value) for label, value in labels.items() if value is not None}

    def _value(self, label: str, value: str) -> str:
        value = "".join(c if c.isprintable() else "\ufffd" for c in str(value)[:MAX_LENGTH])
        with self._lock:
            seen = self._seen.setdefault(label, set())
            if value not in seen:
                if len(seen) >= MAX_VALUES:
                    return "other"
                seen.add(value)
        return value
