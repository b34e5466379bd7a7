"""The card of a run: what it says is Markdown, and what data says in it is not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from markdown_it import MarkdownIt

from forethought.reports.model_card import model_card

CONFIG: dict[str, Any] = {"method": {"type": "next_item", "backbone": {"type": "sasrec"}}, "seed": 0}
ABOUT: dict[str, Any] = {
    **{"data": "beauty", "data_hash": "0123", "users": 7, "items": 8, "interactions": 90},
    **{"exclude_history": True, "seen_until": "2014-07-23", "protocol": {"split": "leave_last_out", "ties": "file"}},
}


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a\n# b", "[x](javascript:y)", '`"""\n```', "a\x1b[31m|*b*"]
)
def test_names_in_a_model_card_are_no_markup(name: str) -> None:
    plain = MarkdownIt().parse(model_card("run", CONFIG, ABOUT))
    card = model_card(
        name, CONFIG, {**ABOUT, "data": name, "data_hash": name, "seen_until": name, "protocol": {name: name}}
    )
    assert [token.type for token in MarkdownIt().parse(card)] == [token.type for token in plain]
    assert "<script" not in card
    assert not re.search(r"(?<!\\)\]\(", card)
    assert all(line.isprintable() for line in card.splitlines())
    (sample,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    compile(sample, "card", "exec")


def test_a_card_says_how_a_run_was_made_and_until_when_it_has_seen() -> None:
    trained, aligned = (model_card("run", CONFIG | part, ABOUT) for part in ({}, {"alignment": {"rate": 0.3}}))
    assert "of a history,\ntrained by Forethought." in trained
    assert "of a history,\ntrained, then aligned with rewards (GRPO), by Forethought." in aligned
    assert "- **Seen** until 2014-07-23, in training or validation." in trained.replace("\\", "")
    assert "Seen" not in model_card("run", CONFIG, {**ABOUT, "seen_until": None})
