"""The device that a battery runs on: a CPU always, a GPU where one is at hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine shows no CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=NO_GPU)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Sums are added up in one order on a GPU too, so that two runs of a test can be held against each other."""
    torch.use_deterministic_algorithms(request.param == "cuda", warn_only=True)
    yield torch.device(request.param)
    torch.use_deterministic_algorithms(False)
