"""What items are tokenised by: features, tags in a fixed projection, who is met together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from token_toys import toy_features, toy_split

from forethought.data.histories import Spans
from forethought.data.splits import Split
from forethought.errors import DataError
from forethought.semantic_ids import inputs
from forethought.semantic_ids.inputs import (
    TAG_WIDTH,
    collaborative_vectors,
    input_json,
    positive_information,
    source_weights,
    tokenizer_inputs,
)


@pytest.fixture(scope="module")
def split() -> Split:
    return toy_split()


def test_sources_stand_side_by_side(split: Split) -> None:
    features = toy_features(split)
    extra = torch.ones(40, 3)
    values = tokenizer_inputs(features, extra)
    assert values.shape == (40, 7 + TAG_WIDTH + 1 + 3)
    assert torch.equal(values[:, :7], torch.from_numpy(features[0].values))
    assert torch.equal(values[:, -3:], extra)
    assert [each["kind"] for each in input_json(features, 3)] == ["vectors", "tags", "vectors", "collaborative"]


def test_tags_are_sums_of_fixed_directions(split: Split) -> None:
    tags = toy_features(split)[1]
    values = tokenizer_inputs([tags], None).numpy()
    draw = torch.Generator().manual_seed(inputs.TAG_SEED)
    directions = (torch.randn(tags.shape.tags, TAG_WIDTH, generator=draw) / TAG_WIDTH**0.5).numpy()
    own = [tag for tag in tags.values[3] if tag < tags.shape.tags]
    assert len(own) == 2
    np.testing.assert_allclose(values[3], directions[own].sum(0) / 2**0.5, rtol=1e-5, atol=1e-6)


def test_new_items_are_read_the_same_and_alone(split: Split) -> None:
    features = toy_features(split)
    some = [each._replace(values=each.values[5:9], known_N=each.known_N[5:9]) for each in features]
    assert torch.equal(tokenizer_inputs(some, None), tokenizer_inputs(features, None)[5:9])


def test_a_source_counts_as_a_whole(split: Split) -> None:
    weights = source_weights(toy_features(split), 64)
    parts = weights.square().split([7, TAG_WIDTH, 1, 64])
    shares = torch.stack([part.sum() for part in parts])
    torch.testing.assert_close(shares / shares[3], torch.tensor([7 / 64, 0.25, 1 / 64, 1.0]))
    assert float(weights.square().mean()) == pytest.approx(1)


def test_information_in_numpy(split: Split) -> None:
    counts = np.zeros((40, 40))
    for row in range(len(split.train)):
        items = split.train[row]
        for a in range(len(items)):
            for b in range(a + 1, len(items)):
                if items[a] != items[b]:
                    counts[items[a], items[b]] += 0.9 ** (b - a - 1)
                    counts[items[b], items[a]] += 0.9 ** (b - a - 1)
    context = counts.sum(1) ** 0.75
    with np.errstate(all="ignore"):
        wanted = np.log(counts / (counts.sum(1)[:, None] * (context / context.sum())[None]))
    wanted = np.where(counts > 0, np.maximum(np.nan_to_num(wanted, neginf=0, posinf=0), 0), 0)
    np.testing.assert_allclose(positive_information(split).toarray(), wanted, atol=1e-9)


def test_vectors_in_numpy(split: Split) -> None:
    vectors = collaborative_vectors(split, 6).numpy()
    information = positive_information(split).toarray()
    U, S, _ = np.linalg.svd(information)
    met = information.any(1)
    wanted = U[:, :6] * np.sqrt(S[:6])
    wanted = (wanted - wanted[met].mean(0))[met]
    got = vectors[met]
    np.testing.assert_allclose(got @ got.T, wanted @ wanted.T, atol=1e-4)
    assert not vectors[~met].any()
    assert (~met).sum() >= 2
    np.testing.assert_allclose(got.mean(0), 0, atol=1e-5)


def test_the_training_part_alone_is_read(split: Split) -> None:
    """A split whose held-out parts name other items has the same vectors."""
    from dataclasses import replace

    targets = (split.valid.targets + 1) % 40
    other = replace(split, valid=replace(split.valid, targets=targets))
    assert torch.equal(collaborative_vectors(other, 4), collaborative_vectors(split, 4))


def test_more_numbers_than_items_met(split: Split) -> None:
    vectors = collaborative_vectors(split, 64)
    assert vectors.shape == (40, 64)
    assert bool(vectors.isfinite().all())


def test_nobody_met_two_items(split: Split) -> None:
    from dataclasses import replace

    train = split.train
    single = Spans(train.histories, train.users, train.starts, train.starts + 1)
    assert not collaborative_vectors(replace(split, train=single), 4).any()


def test_nothing_is_known() -> None:
    with pytest.raises(DataError, match="Nothing is known that items could be tokenised by"):
        tokenizer_inputs((), None)
