"""Telling of a backend that is down without repeating it with every attempt."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class TellsOnce:
    """Mixin: says once that a place can't be exported to, and once that it can again."""

    _failing = False

    def _tell(self, place: str, failure: str) -> None:
        """`failure`: empty for a success."""
        if bool(failure) != self._failing:
            self._failing = bool(failure)
            told = f"fails, tried on without another word: {failure}" if failure else "works again"
            log.log(logging.WARNING if failure else logging.INFO, "export to %s %s", place, told)
