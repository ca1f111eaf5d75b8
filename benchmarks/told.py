"""How a benchmark's figures are printed."""

from __future__ import annotations

import json
from typing import Any


def tell(result: dict[str, Any], *, as_json: bool) -> None:
    """One object, or one line a figure; fractions to three digits."""
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in result.items()}
    if as_json:
        print(json.dumps(rounded))
    else:
        for name, value in rounded.items():
            print(f"{name:>26} {value:>16,}")
