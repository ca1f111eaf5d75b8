"""GraphSense TagPacks: YAML of a header and `tags`, each an address with a label; what a tag lacks the header says.

Schema: github.com/graphsense/graphsense-tagpack-tool, src/tagpack/conf/tagpack_schema.yaml. Every scalar is read as the
text it is (YAML would make a date of 2021-11-15 and a number of the exchange 796), and nothing is built that a TagPack
does not have: no alias, no more levels than it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from utxoiq.entities.importing import Imported, identity_of, is_date, plain_text
from utxoiq.errors import LabelError

if TYPE_CHECKING:
    from utxoiq.chain.network import Network
    from utxoiq.entities.records import Confidence, Kind

DEEPEST = 8
KINDS: dict[str, Kind] = {"exchange": "exchange", "miner": "mining_pool"}
"""Concepts of GraphSense's taxonomy that are kinds of ours; the others are left out, not guessed."""

LEVELS: dict[str, Confidence] = {
    **dict.fromkeys(("override", "ownership", "manual_transaction", "service_api"), "high"),
    **dict.fromkeys(("authority_data", "trusted_provider", "service_data", "forensic"), "medium"),
}
"""From its table of confidences, 0 to 100: 70 and above, 50 and above; all below, and none, are low."""


def read_tagpack(text: str, name: str, network: Network, as_of: str | None) -> Imported:
    """Every tag of an address of `network` whose category is a kind of ours. Raises LabelError for another form."""
    pack = _loaded(text, name)
    tags = pack.get("tags") if isinstance(pack, dict) else None
    if not isinstance(pack, dict) or not isinstance(tags, list):
        raise LabelError(f"{name}: is neither a TagPack (YAML with `tags`), nor a list of pools, nor a label file")
    stem = plain_text(name.partition(".")[0], "its file's name", name)
    plain_text(pack.get("title"), "its title", name)
    found = Imported("tagpack", network, (f"GraphSense tagpack {stem}", f"GraphSense public tagpack {stem}"))
    for number, tag in enumerate(tags, 1):
        if not isinstance(tag, dict):
            raise LabelError(f"{name} tag {number}: is no tag")
        _add(found, {**pack, **tag}, f"{name} tag {number}", as_of)
    return found


def _add(found: Imported, tag: dict[str, Any], place: str, as_of: str | None) -> None:
    kind, dated = KINDS.get(_word(tag, "category")), _date(_word(tag, "lastmod")) or as_of
    if _word(tag, "currency").upper() != "BTC" or _word(tag, "network").upper() not in ("", "BTC"):
        found.leave_out("another currency", f"{place}: {_word(tag, 'currency')[:20]!r}")
    elif _word(tag, "abuse"):
        found.leave_out("an address of abuse, not of a service", f"{place}: {_word(tag, 'abuse')[:40]!r}")
    elif kind is None:
        found.leave_out("a category that is no kind of ours", f"{place}: {_word(tag, 'category')[:40]!r}")
    elif dated is None:
        found.leave_out("no date", f"{place}: {_word(tag, 'lastmod')[:40]!r}")
    elif not _word(tag, "address"):
        found.leave_out("no address", place)
    else:
        _label(found, tag, kind, dated, place)


def _label(found: Imported, tag: dict[str, Any], kind: Kind, dated: str, place: str) -> None:
    name = plain_text(tag.get("label"), "its label", place)
    identity = identity_of(kind, plain_text(tag.get("actor") or name, "its actor", place))
    primary = plain_text(tag.get("source") or "not named", "its source", place)
    label = {
        "source": f"{found.speaks_for[0]}; primary: {primary}",
        "confidence": LEVELS.get(_word(tag, "confidence"), "low"), "as_of": dated,
    }  # fmt: skip
    if identity in ("", "pool-"):
        found.leave_out("a name without a letter", f"{place}: {name[:40]!r}")
    else:
        found.add(found.entity(identity, name, kind), label, _word(tag, "address"), place)


def _word(tag: dict[str, Any], key: str) -> str:
    value = tag.get(key, "")
    return value.strip() if isinstance(value, str) else ""


def _date(text: str) -> str | None:
    return text[:10] if is_date(text[:10]) else None


def _loaded(text: str, name: str) -> Any:
    """The one document of a YAML text, of texts, lists and mappings. Built from events, since the library's own loader
    overflows the stack on deep input."""
    stack: list[list[Any]] = [[]]
    try:
        for event in yaml.parse(text, Loader=yaml.CBaseLoader):
            if isinstance(event, yaml.AliasEvent):
                raise LabelError(f"{name}{_line(event)}: aliases are not read")
            if isinstance(event, yaml.ScalarEvent):
                stack[-1].append(event.value)
            elif isinstance(event, yaml.CollectionStartEvent):
                if len(stack) > DEEPEST:
                    raise LabelError(f"{name}{_line(event)}: nested deeper than a TagPack is")
                stack.append([])
            elif isinstance(event, yaml.CollectionEndEvent):
                values = stack.pop()
                stack[-1].append(_mapping(values) if isinstance(event, yaml.MappingEndEvent) else values)
    except yaml.YAMLError as error:
        raise LabelError(f"{name}: is no YAML ({' '.join(str(error).split())[:300]})") from error
    return stack[0][0] if len(stack[0]) == 1 else None


def _line(event: yaml.Event) -> str:
    return f" line {event.start_mark.line + 1}" if event.start_mark else ""


def _mapping(values: list[Any]) -> dict[str, Any]:
    return {key: value for key, value in zip(values[::2], values[1::2], strict=True) if isinstance(key, str)}
