"""A settings file to begin with, made from the settings themselves."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from utxoiq.processors.discovery import discovered
from utxoiq.settings import Fields

HEAD = """\
# Settings of utxoiq. Every line is commented out and shows the default; a running utxoiq takes changes at once.
# The environment goes before this file: UTXOIQ_DB, UTXOIQ_NODE__PASSWORD, and so on. So does a .env file here, and
# files of such names in UTXOIQ_SECRETS_DIR.
"""


def settings_template() -> str:
    """TOML with every setting, its meaning and its default."""
    lines = [HEAD]
    sections = []
    for name, info in Fields.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            sections.append((name, info.annotation))
        elif name != "processors":
            lines += _entry(name, info)
    for name, model in sections:
        lines += ["", *_comment(model.__doc__ or ""), f"[{name}]"]
        for key, info in model.model_fields.items():
            lines += _entry(key, info)
    return "\n".join([*lines, *_processors()]) + "\n"


def _processors() -> Iterator[str]:
    yield from ("", "# Signal processors, with the thresholds of each: docs/signals/ says what they mean.")
    for name, processor in discovered().items():
        yield f"[processors.{name}]"
        yield "# enabled = true"
        for key, value in processor.settings.items():
            yield f"# {key} = {json.dumps(value)}"
        yield ""


def _entry(name: str, info: FieldInfo) -> Iterator[str]:
    yield from _comment(info.description or "")
    yield f"# {name} = {_toml(info.get_default(call_default_factory=True))}"


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(" ".join(text.split()), 110):
        yield f"# {line}"


def _toml(value: Any) -> str:
    if isinstance(value, SecretStr):
        return '""'
    return '""  # none' if value is None else json.dumps(value)
