"""The peers of the benchmark: RecBole, RecTools and RePlay, each run in an environment of its own."""

from .runner import PEERS, markdown, run_peers

__all__ = ["PEERS", "markdown", "run_peers"]
