"""What one sees while training."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from forethought.methods.interface import Stage
from forethought.training.progress import Watch

LOST = "On validation recall@10 has lost {} and recall@5 {}: rewards sharpen the head of lists."


def test_a_warning_comes_once_a_stage_whatever_its_figures() -> None:
    out = StringIO()
    watch = Watch(Console(file=out, width=200))
    watch.warn(LOST.format("1.6%", "0.4%"))
    watch.warn(LOST.format("12.9%", "-0.2%"))
    watch.warn("Paths collapse: 0.3 nats are left to a choice, 1.2 at first.")
    assert out.getvalue().count("warning: ") == 2
    assert "lost 1.6% and" in out.getvalue()
    watch.begin_stage(Stage(name="second"), 10)
    watch.warn(LOST.format("12.9%", "-0.2%"))
    assert "lost 12.9% and" in out.getvalue()
