"""What can be set, with its meaning and default: the one place that `config init` and the checks are made from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from utxoiq.chain.network import NETWORKS

Seconds = Annotated[float, Field(gt=0, le=3600)]


def like(pattern: str, advice: str) -> AfterValidator:
    """A text of this form, or the advice."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(advice)
        return text

    return AfterValidator(check)


Url = Annotated[str, like(r"https?://[^\s/]\S*", "no address: give http://HOST:PORT")]
Proxy = Annotated[
    str, like(r"(https?|socks5h?|socks4a?)://[^\s/]\S*", "no proxy: give http://HOST:PORT or socks5h://HOST:PORT")
]
Listen = Annotated[str, like(r"off|.*:\d{1,5}", "no address: give another HOST:PORT, or off")]
Db = Annotated[str, like(r"sqlite:///.+", "no store: give sqlite:///FILE, or sqlite:////absolute/FILE")]


class Section(BaseModel):
    """Part of the settings. Unknown keys are left out (and warned of when they are read)."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True, allow_inf_nan=False)


class NodeSettings(Section):
    """Bitcoin Core."""

    url: Url | None = None
    """Its RPC and REST address, such as http://127.0.0.1:8332."""
    user: str = ""
    """Empty: log in with the cookie."""
    password: SecretStr = SecretStr("")
    """Better kept in a secrets file or the environment (UTXOIQ_NODE__PASSWORD) than here."""
    cookie_file: Path | None = None
    """Where the node writes its cookie; by default the usual place in ~/.bitcoin, by port."""
    rest: bool = True
    """Ask REST for blocks (rest=1 in bitcoin.conf), which is many times faster than RPC."""
    zmq: str = "auto"
    """Where it announces blocks: `auto` asks the node, `off`, or an address such as tcp://127.0.0.1:28332."""
    poll_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    """How often to ask for the tip beside ZMQ."""
    timeout_seconds: Seconds = 30.0
    """Give up on an answer after so long without a byte."""
    proxy: Proxy | None = None
    """Reach it through this proxy, such as socks5h://127.0.0.1:9050."""


class EsploraSettings(Section):
    """An Esplora or mempool.space API, for those without a node. Never used unless its address is given."""

    url: Url | None = None
    """Its API address, such as https://mempool.space/api."""
    poll_seconds: Annotated[float, Field(ge=1, le=3600)] = 20.0
    """How often to ask for the tip."""
    requests_per_second: Annotated[float, Field(gt=0, le=100)] = 4.0
    """No more than so many; it also waits as long as the server says (Retry-After)."""
    most_requests_a_block: Annotated[int, Field(ge=0)] = 200
    """Requests to spend on a block's spent outputs (25 transactions each); a bigger block's stay unknown."""
    timeout_seconds: Seconds = 30.0
    """Give up on an answer after so long without a byte."""
    proxy: Proxy | None = None
    """Reach it through this proxy."""


class LiveSettings(Section):
    """Where a new store begins."""

    from_height: Annotated[int, Field(ge=0)] | None = None
    """The first block of a new store; by default a window behind the tip."""
    window_blocks: Annotated[int, Field(ge=1)] = 288
    """How far behind the tip a new store begins."""


class MempoolSettings(Section):
    """Snapshots of the node's mempool."""

    enabled: bool = True
    """Take them."""
    interval_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """How often, beside one after each block."""
    keep_days: Annotated[float, Field(ge=1)] = 30.0
    """Days after which those no block was mined from are dropped (about 2 MB a day)."""


class ProcessorSettings(BaseModel):
    """One signal processor. Any other key is a threshold of its own: docs/signals/ has them all."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, Annotated[float, Field(allow_inf_nan=False)]]

    enabled: bool = True
    """Whether it runs."""
    confidence_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Signals below are not kept."""
    time_window: Annotated[int, Field(ge=1)] | None = None
    """Past blocks to compare with; by default its own choice."""


class HttpSettings(Section):
    """Health and metrics: /healthz, /readyz, /metrics."""

    listen: Listen = "127.0.0.1:9470"
    """Address and port; `off` for none."""


class WarehouseSettings(Section):
    """BigQuery, to which all that the store holds is shipped."""

    project: str | None = None
    """The Google Cloud project; none: nothing is shipped."""
    location: str | None = None
    """Where new datasets are made, such as EU; by default Google's choice (US)."""
    prefix: Annotated[str, like(r"[A-Za-z0-9_]*", "no prefix of dataset names: letters, digits and _")] = ""
    """Before the names of the datasets `intel` and `btc`."""
    labels: bool = False
    """Take the labels from its table btc.known_entities (`utxoiq entities publish`), looked at every 5 minutes."""
    most_bytes_billed: Annotated[int, Field(ge=10 * 2**20)] = 20 * 10**9
    """A query that would read more is refused by BigQuery, and costs nothing."""
    timeout_seconds: Seconds = 60.0
    """Give up on a request after so long."""
    endpoint: Url | None = None
    """Another address than Google's: of an emulator, such as http://127.0.0.1:9050 (then without logging in)."""
    storage_endpoint: str | None = None
    """The same of the Storage Write API, such as 127.0.0.1:9060."""


class MetricsSettings(Section):
    """Where metrics and traces go, beside /metrics."""

    enabled: bool = True
    """Measure at all."""
    otlp_endpoint: Url | None = None
    """An OpenTelemetry collector, such as http://127.0.0.1:4318."""
    project_id: str | None = None
    """A Google Cloud project, for Cloud Monitoring."""
    direct: bool = False
    """Write to Cloud Monitoring by its own API (google-cloud-monitoring), instead of through OTLP."""

    @model_validator(mode="after")
    def _somewhere(self) -> MetricsSettings:
        if self.direct and self.project_id is None:
            raise ValueError("direct needs a project: give metrics.project_id")
        return self


def _as_text(key: object) -> object:
    """A number for a secret is taken as text: as an error it would be told, and the secret with it."""
    return str(key) if isinstance(key, (bool, int, float)) else key


Secret = Annotated[SecretStr, BeforeValidator(_as_text)]


class AiSettings(Section):
    """Who writes the words of insights. They are checked alike, and no other provider is ever asked in its place."""

    provider: Literal["template", "openai", "anthropic", "vertex_ai", "grok", "compatible"] = "template"
    """All but `template` need utxoiq[ai]; `compatible` is a server of OpenAI's protocol. AI_PROVIDER sets it too."""
    model: str = ""
    """The model's name there; by default a small one of the provider's. A compatible server needs one."""
    key: Secret = SecretStr("")
    """Better kept in a secrets file, the environment (UTXOIQ_AI__KEY) or as sm://PROJECT/NAME than here."""
    base_url: Url | None = None
    """Another address than the provider's own; of Ollama, http://127.0.0.1:11434/v1."""
    project: str | None = None
    """The Google Cloud project, for `vertex_ai`, which logs in with the application default credentials."""
    location: str = "global"
    """The Google Cloud location, for `vertex_ai`."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 20.0
    """Give up on a request after so long, and on all tries of it (three at most) after three times this."""
    max_tokens: Annotated[int, Field(ge=100)] = 2000
    """The most tokens of an answer, what a model thinks before it included."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """By default the model's own; some know no other."""
    confidence_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Signals below are told by the template."""
    usd_per_million_tokens_in: Annotated[float, Field(ge=0)] | None = None
    """What the provider charges for what it reads; by default unknown."""
    usd_per_million_tokens_out: Annotated[float, Field(ge=0)] | None = None
    """And for what it writes."""
    usd_a_day: Annotated[float, Field(ge=0)] | None = None
    """Spend no more in a UTC day; then the template writes."""
    calls_a_day: Annotated[int, Field(ge=0)] | None = None
    """Ask no more often in a UTC day; then the template writes."""
    json_schema: bool = True
    """Have the answer held to a schema where the model can; off for compatible servers that refuse to."""

    @model_validator(mode="after")
    def _priced(self) -> AiSettings:
        unpriced = None in (self.usd_per_million_tokens_in, self.usd_per_million_tokens_out)
        if self.usd_a_day is not None and unpriced:
            raise ValueError("usd_a_day needs both prices: give usd_per_million_tokens_in and _out")
        return self


class LogSettings(Section):
    """What the log says, and how."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe lines to write."""
    as_json: bool | None = None
    """One JSON object a line; by default wherever the log is no terminal."""


class Fields(Section):
    """All settings."""

    network: str | None = None
    """Refuse a node or store of another one: main, test3, test4, signet or regtest."""
    db: Db = "sqlite:///utxoiq.db"
    """The store."""
    labels: Path | None = None
    """A label file instead of the packaged one."""
    ledger: Path | None = None
    """The folder of a ledger of balances (`utxoiq balances build`), for signals on what addresses hold."""
    node: NodeSettings = NodeSettings()
    esplora: EsploraSettings = EsploraSettings()
    live: LiveSettings = LiveSettings()
    mempool: MempoolSettings = MempoolSettings()
    processors: dict[str, ProcessorSettings] = {}
    warehouse: WarehouseSettings = WarehouseSettings()
    http: HttpSettings = HttpSettings()
    metrics: MetricsSettings = MetricsSettings()
    ai: AiSettings = AiSettings()
    log: LogSettings = LogSettings()

    @field_validator("network")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in NETWORKS:
            raise ValueError(f"none of {', '.join(NETWORKS)}")
        return name
