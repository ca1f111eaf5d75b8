"""Where the parts meet."""

from __future__ import annotations

from utxoiq.pipeline.orchestrator import PipelineOrchestrator

__all__ = ["PipelineOrchestrator"]
