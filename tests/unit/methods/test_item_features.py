"""An item is its id and what is known of it: recomputed, trained, kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forethought.data.features import Feature, FeatureShape
from forethought.methods.items import ItemLoss, ItemTable

N, D = 5, 3
TEXT = Feature(
    FeatureShape("text", "vectors", 4),
    np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32),
    np.array([True, True, False, True, True]),
)
TAGS = Feature(
    FeatureShape("tags", "tags", 3, 2),
    np.array([[0, 1, 2], [0, 2, 2], [2, 2, 2], [1, 2, 2], [0, 1, 2]], dtype=np.int32),
    np.array([True, True, False, True, True]),
)


@pytest.fixture
def table() -> ItemTable:
    torch.manual_seed(0)
    table = ItemTable(N, D, ItemLoss(), 1.0)
    table.read_features([TEXT.shape, TAGS.shape])
    assert table.features is not None
    table.features.take((TEXT, TAGS))
    for each in table.features.maps:
        torch.nn.init.normal_(each.missing)
    return table


def vectors(table: ItemTable) -> np.ndarray:
    """E = ids + W t + the mean of an item's tags + what stands for a missing one, item by item."""
    assert table.features is not None
    text, tags = table.features.maps
    made = []
    for row in range(N):
        vector = table.weight[row].detach().numpy().copy()
        vector += TEXT.values[row] @ text.weight.detach().numpy()
        own = [tags.weight[tag].detach().numpy() for tag in TAGS.values[row] if tag < 2]
        vector += np.mean(own, axis=0) if own else 0.0
        for feature, each in ((TEXT, text), (TAGS, tags)):
            vector += 0.0 if feature.known_N[row] else each.missing.detach().numpy()
        made.append(vector)
    return np.array(made)


def test_input_and_output_are_ids_and_maps_of_features(table: ItemTable) -> None:
    wanted = vectors(table)
    np.testing.assert_allclose(table.vectors().detach().numpy(), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(table.catalogue().vectors_ND.detach().numpy(), wanted, rtol=1e-5, atol=1e-6)
    items = torch.tensor([[3, 2], [2, 0]])
    np.testing.assert_allclose(table(items).detach().numpy(), wanted[items.numpy()], rtol=1e-5, atol=1e-6)


def test_gradients_reach_ids_maps_and_what_is_missing_from_both_sides(table: ItemTable) -> None:
    for made in (table.vectors(), table(torch.arange(N))):
        table.zero_grad()
        made.square().sum().backward()
        unmoved = [name for name, p in table.named_parameters() if p.grad is None or not p.grad.any()]
        assert unmoved == []
        filler = table.features.maps[1].weight.grad[-1]  # type: ignore[union-attr,index]
        assert not filler.any()


def test_the_catalogue_of_a_trained_model_is_made_once_and_anew_when_weights_change(table: ItemTable) -> None:
    table.eval()
    with torch.inference_mode():
        first = table.catalogue()
        assert table.catalogue() is first
    with torch.no_grad():
        table.features.maps[0].weight.mul_(2.0)  # type: ignore[union-attr]
        again = table.catalogue()
    assert again is not first
    np.testing.assert_allclose(again.vectors_ND.numpy(), vectors(table), rtol=1e-5, atol=1e-6)
    assert table.catalogue().vectors_ND.requires_grad


def test_vectors_follow_a_fused_optimiser(table: ItemTable) -> None:
    """Validation once held every epoch's states against the vectors of the first."""
    optimiser = torch.optim.AdamW(table.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        table.train()
        table.vectors().square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        table.eval()
        with torch.inference_mode():
            np.testing.assert_allclose(table.catalogue().vectors_ND.numpy(), vectors(table), rtol=1e-5, atol=1e-6)


def test_without_features_a_table_is_its_weights() -> None:
    table = ItemTable(N, D, ItemLoss(), 1.0)
    assert table.vectors() is table.weight
    assert set(table.state_dict()) == {"weight"}
