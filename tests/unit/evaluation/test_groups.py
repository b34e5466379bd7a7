"""Groups part the cases and never part equal values."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forethought.evaluation.groups import membership, quantile_groups

values = st.lists(st.integers(0, 30), min_size=1, max_size=200).map(np.array)


@given(values)
def test_groups_partition_the_cases(values):
    names, members = membership(quantile_groups(values))
    assert (members.sum(axis=1) == 1).all()
    assert members.any(axis=0).all()
    assert set(names) <= {"G1", "G2", "G3", "G4", "G5"}


@given(values)
def test_equal_values_share_a_group_and_groups_ascend(values):
    groups = quantile_groups(values)
    order = np.argsort(values, kind="stable")
    assert all(len(set(groups[values == value])) == 1 for value in set(values.tolist()))
    assert (np.sort(groups) == groups[order]).all()


def test_distinct_values_make_fifths():
    groups = quantile_groups(np.random.default_rng(0).permutation(50))
    assert np.unique(groups, return_counts=True)[1].tolist() == [10] * 5


def test_a_value_on_an_edge_goes_where_its_middle_lies():
    assert quantile_groups(np.array([1, 1, 1, 2, 3])).tolist() == ["G2"] * 3 + ["G4", "G5"]
    assert set(quantile_groups(np.full(7, 4))) == {"G3"}
