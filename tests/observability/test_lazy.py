"""What is loaded when: seen in a process of its own."""

from __future__ import annotations

import pytest

from helpers.process import python, said

API, SDK, OTLP = "opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp"
PROMETHEUS, GOOGLE, REQUESTS, STRUCTLOG = "prometheus_client", "google.auth", "requests", "structlog"
HEAVY = {API, SDK, OTLP, PROMETHEUS, GOOGLE, REQUESTS, STRUCTLOG, "numpy"}


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import utxoiq.observability", set()),
        ("from utxoiq.observability import MonitoringModule; MonitoringModule(enabled=False)", set()),
        ("from utxoiq.observability import MonitoringModule; MonitoringModule()", {API, SDK, PROMETHEUS}),
        (
            "from utxoiq.observability import MonitoringModule; MonitoringModule(otlp_endpoint='http://127.0.0.1:1')",
            {API, SDK, PROMETHEUS, OTLP, GOOGLE, REQUESTS},
        ),
        ("from utxoiq.observability import configure_logging; configure_logging()", {STRUCTLOG}),
    ],
)
def test_nothing_is_loaded_that_is_not_used(code: str, loaded: set[str]) -> None:
    process = python("-c", f"{code}\nimport sys\nprint(*sorted(sys.modules))")
    assert process.returncode == 0, said(process)
    assert set(process.stdout.split()) & HEAVY == loaded


def test_a_process_that_forgets_to_shut_down_ends_all_the_same() -> None:
    """Nothing is registered for its end, no thread holds it."""
    process = python(
        "-c",
        "import time; from utxoiq.observability import MonitoringModule\n"
        "m = MonitoringModule(otlp_endpoint='http://127.0.0.1:1')\n"
        "with m.span('block'): m.emit_reorg_metric(1)\n"
        "print(time.time())",
    )
    assert process.returncode == 0, said(process)
    assert process.stderr == ""


def test_star_gives_what_it_names() -> None:
    """The lazy one included."""
    import utxoiq.observability as package

    assert package.__all__ == sorted(package.__all__)
    assert all(getattr(package, name) for name in package.__all__)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = package.nothing_of_the_kind
