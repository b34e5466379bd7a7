"""`forethought report`: one page that needs no network, says what is missing, and holds every number of its runs."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from forethought.evaluation.report import Evaluation
from forethought.reporting import report


class Page(HTMLParser):
    """What stands in a page: its headings, its words, and where it would fetch from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inside, self.headings, self.words, self.fetched = "", [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.fetched += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data):
        if self.inside == "h2" and data.strip():
            self.headings.append(data.strip())
        if self.inside not in ("script", "style"):
            self.words.append(data)


@pytest.fixture
def evaluated(run, shell):
    shell.ok("evaluate", run)
    return run


def test_a_page_has_every_section_and_fetches_nothing(evaluated, shell, tmp_path):
    other = shutil.copytree(evaluated, tmp_path / "other")
    shell.ok("report", f"first={evaluated}", f"second={other}", "--out", tmp_path / "r.html", "--examples", 2)
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert page.fetched == []
    assert "default-src 'none'" in text
    expected = ["At a glance", "How good", "How they learned", "For whom", "At what cost", "The data"]
    assert [each for each in page.headings if each in expected] == expected
    assert text.count("<details><summary>first, user ") == 2
    words = "".join(page.words)
    recall = Evaluation.read(evaluated).metrics["recall@10"].mean
    assert f"{recall:.1%}" in words
    assert "Paired tests" in words


def test_the_course_of_validation_is_that_of_the_log(evaluated):
    page = report([evaluated], examples=0).page()
    rows = [json.loads(line) for line in (evaluated / "log.jsonl").read_text().splitlines()]
    for row in rows:
        assert f"epoch {row['epoch']}, ndcg@10 {row['valid_ndcg@10']:.4f}" in page


def test_what_is_missing_is_said(run, tmp_path, shell):
    (run / "metrics.json").unlink(missing_ok=True)
    config = json.loads((run / "config.json").read_text())
    made = report([run], examples=1)
    assert any("was never evaluated" in note for note in made.notes)
    assert "What is missing here" in Page(made.page()).headings
    assert config["about"]["data"]


def test_names_of_data_are_words_and_nothing_else(evaluated):
    hostile = "</script><script>alert(1)</script>"
    page = report({hostile: evaluated, "other<b>": evaluated}, examples=1).page()
    assert hostile not in page
    assert "<b>" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_wrong_calls_end_in_a_sentence(run, shell, tmp_path):
    page = ["--out", tmp_path / "r.html"]
    wrong = [
        ([run, "--out", tmp_path / "r.pdf"], "a report is a page"),
        ([run, run, *page], "Two runs are called"),
        ([run, "--examples", 50, *page], "0 to 20 examples"),
        ([run.parent, *page], f"name one of the runs in it, such as {run}"),
        ([tmp_path / "nowhere", *page], "nowhere"),
        ([run, "--data", tmp_path / "nothing.csv", *page], "nothing.csv"),
    ]
    for words, sentence in wrong:
        assert sentence in shell.wrong("report", *words)
    assert not (tmp_path / "r.html").exists()
