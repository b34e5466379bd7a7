"""The explorer page in a real Chromium: what a merchandiser does, by mouse and by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from service_process import Server, started, verb
from service_process import until as until_true
from shell import TINY

from forethought.backbones.sasrec import SASRec
from forethought.cli import main
from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.evaluation.settings import EvaluationConfig
from forethought.methods.dtrec import DTRec
from forethought.recommender import Recommender, load
from forethought.reporting import report
from forethought.runs import evaluate, train
from forethought.training.settings import Training

pytest.importorskip("fastapi")
webdriver = pytest.importorskip("selenium.webdriver")
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
Select = pytest.importorskip("selenium.webdriver.support.ui").Select
Stale = pytest.importorskip("selenium.common.exceptions").StaleElementReferenceException
Driver = pytest.importorskip("selenium.webdriver.chrome.service").Service

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver brings it"
)

HOSTILE = "<img src=x onerror=\"document.title='harmed'\"><script>document.title='harmed'</script>"
Find = Callable[[str], Any]


@pytest.fixture(scope="module")
def runs(trained: Recommender, split: Split, quick: Training, shop: Path, tmp_path_factory: Any) -> dict[str, Path]:
    """Three runs: one that thinks and was evaluated, one that does not, and one over tokens."""
    folder = tmp_path_factory.mktemp("explorer")
    backbone = SASRec(width=16, layers=1, window=8)
    method = DTRec(backbone=backbone, max_steps=2)
    run = train(Recipe(method=method, training=replace(quick, epochs=2)), split, folder / "thinking")
    evaluate(run, split, EvaluationConfig(resamples=50)).write(folder / "thinking")
    words = ["--data", str(shop), "--out", str(folder / "tokens"), "--features", "auto", "--steps", "2", *TINY]
    small = ["--tokenizer.codebooks", "3", "--tokenizer.size", "8", "--tokenizer.epochs", "2"]
    main(["train", "reg4rec", *words, *small, "--tokenizer.components", "6"])
    assert trained.folder is not None
    return {"thinking": folder / "thinking", "plain": trained.folder, "tokens": folder / "tokens"}


@pytest.fixture(scope="module")
def server(runs: dict[str, Path], tmp_path_factory: Any) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("service") / "state"
    served = [f"{name}={folder}" for name, folder in runs.items()]
    with started(verb(served, state, "--quiet"), state) as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    switches = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1400,1600")
    for switch in (*switches, "--disable-background-networking", "--force-prefers-reduced-motion"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Driver(DRIVER))
    driver.implicitly_wait(0)
    yield driver
    driver.quit()


def until(condition: Callable[[], Any]) -> Any:
    """Lists are made anew while a test looks at them: then it looks again."""

    def looked() -> Any:
        try:
            return condition()
        except Stale:
            return None

    return until_true(looked)


class Page:
    """The page as somebody sees it."""

    def __init__(self, driver: Any, port: int) -> None:
        self.driver = driver
        driver.get(f"http://127.0.0.1:{port}/")
        until(self.titles)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return until(lambda: self.all(selector))[0]

    def titles(self, place: int = 0) -> list[str]:
        script = "return [...document.querySelectorAll('#lists .card-list')].map(" + (
            "(each) => [...each.querySelectorAll('.title')].map((title) => title.textContent))"
        )
        lists = self.driver.execute_script(script)
        return lists[place] if place < len(lists) else []

    def text(self, selector: str = "body") -> str:
        return until(lambda: (self.one(selector).text,))[0]

    def press(self, label: str) -> None:
        """A button, by its accessible name."""

        def pressed() -> bool:
            buttons = [each for each in self.all("button") if each.accessible_name == label and each.is_displayed()]
            if buttons:
                buttons[0].click()
            return bool(buttons)

        until(pressed)

    def search(self, words: str) -> list[str]:
        field = self.one("#words")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(Keys.BACKSPACE, words)
        fits = lambda: all(words.lower() in each.text.lower() for each in self.all("#found button"))  # noqa: E731
        until(fits)
        return until(lambda: [each.text for each in self.all("#found button")])

    def add(self, place: int) -> None:
        before, length = self.titles(), len(self.all("#history li"))
        until(lambda: self.all("#found button")[place].click() is None)
        until(lambda: len(self.all("#history li")) == length + 1 and self.titles() != before)

    def choose(self, selector: str, value: str) -> None:
        Select(self.one(selector)).select_by_value(value)


@pytest.fixture
def page(chromium: Any, server: Server) -> Iterator[Page]:
    page = Page(chromium, server.port)
    yield page
    faults = [each for each in chromium.get_log("browser") if each["level"] == "SEVERE"]
    assert faults == []
    script = "return performance.getEntriesByType('resource').map((each) => each.name)"
    assert all(name.startswith(f"http://127.0.0.1:{server.port}/") for name in chromium.execute_script(script))


def listed(run: Path, history: list[str], **choices: Any) -> list[str]:
    """The titles of a list as the library gives it; ids where there are none."""
    model = load(run)
    titles = dict(model.titles())
    return [titles[item] or item for item in model.recommend([history], 10, **choices)[0].items]


def id_of(run: Path, title: str) -> str:
    return next(item for item, each in load(run).titles() if each == title)


def test_a_history_is_found_and_clicked_together(page: Page, runs: dict[str, Path]) -> None:
    assert "most popular items" in page.text("#lists")
    word = next(title for _, title in load(runs["thinking"]).titles() if title).split()[0]
    assert page.search(word)
    page.add(0)
    page.search("")
    until(lambda: len(page.all("#found button")) > 3)
    page.add(3)
    names = [each.text for each in page.all("#history .title")]
    assert len(names) == 2
    history = [id_of(runs["thinking"], name) for name in names]
    assert until(lambda: page.titles() == listed(runs["thinking"], history))
    assert "new" in page.text("#changes") or "order" in page.text("#changes") or "same" in page.text("#changes")
    page.press(f"Take {names[0]} out of the history")
    assert until(lambda: page.titles() == listed(runs["thinking"], history[1:]))
    page.press("Start anew")
    until(lambda: "most popular items" in page.text("#lists"))


def test_reasons_are_words_and_bars(page: Page, runs: dict[str, Path]) -> None:
    page.add(1)
    page.add(2)
    first = page.titles()[0]
    page.press(f"Why {first}?")
    why = until(lambda: page.all(".why") and page.text(".why"))
    assert f"Why {first}?" in why
    assert "number 1 of the list" in why
    assert "How it thought" in why
    assert "At first sight" in why
    assert len(page.all(".why .steps > li")) == 3
    for word in ("nats", "entropy", "KL", "NaN", "undefined", "null", "logit"):
        assert word not in page.text()
    assert page.driver.switch_to.active_element.get_attribute("id") == "why-title"


def test_a_category_is_left_out_and_let_in_again(page: Page, runs: dict[str, Path]) -> None:
    page.add(1)
    history = [id_of(runs["thinking"], page.text("#history .title"))]
    before = page.titles()
    category = until(lambda: page.all("#category option"))[0].get_attribute("value")
    page.press("Leave out")
    wanted = listed(runs["thinking"], history, never_category=category)
    until(lambda: page.titles() == wanted)
    assert category in page.text("#forbidden")
    page.press(f"Show {category} again")
    until(lambda: page.titles() == before)


def test_a_token_is_left_out(page: Page, runs: dict[str, Path]) -> None:
    page.choose("#model-a", "tokens")
    until(lambda: "tokens" in page.text("#lists h3"))
    page.add(1)
    before = page.titles()
    page.press(f"Why {before[0]}?")
    until(lambda: page.all(".why") and "Which of its traits fit" in page.text(".why"))
    page.press("Leave out items that share its first trait")
    until(lambda: page.all("#forbidden li") and page.titles() != before)
    assert before[0] not in page.titles()


def test_two_models_side_by_side(page: Page, runs: dict[str, Path]) -> None:
    page.add(1)
    history = [id_of(runs["thinking"], page.text("#history .title"))]
    page.choose("#model-b", "plain")
    until(lambda: len(page.all("#lists .card-list")) == 2)
    until(lambda: page.titles(1) == listed(runs["plain"], history))
    both = set(page.titles(0)) & set(page.titles(1))
    assert f"{len(both)} of 10 are in the other list too" in page.text("#lists")
    only = [each for each in page.all("#lists .badge") if each.text == "here only"]
    assert len(only) == 2 * (10 - len(both))


def test_the_figures_of_a_run_and_the_health_of_its_data(page: Page) -> None:
    page.press("The model and its data")
    text = until(lambda: "How healthy the data is" in page.text("#run") and page.text("#run"))
    assert "thinking: DTRec" in text
    assert "Right item among the first 10" in text
    assert "met their next item among the first ten" in text
    assert "By how popular the right item is" in text
    assert "40 items it can recommend" in text.replace("\n", " ")
    assert "evaluate the run first" in text  # of those that were not
    for word in ("undefined", "NaN", "nats", "[object"):
        assert word not in text
    page.press("Explore")
    assert page.one("#explore").is_displayed()


def test_keyboard_and_screen_reader(page: Page) -> None:
    """Everything is reached by Tab, has a name, and says what it did."""
    for each in page.all("button, input, select, [role=region], section, nav, ol[aria-label], ul[aria-label]"):
        if each.is_displayed():
            assert each.accessible_name, each.get_attribute("outerHTML")[:200]
    assert page.one("html").get_attribute("lang") == "en"
    assert [page.one(name).get_attribute("role") for name in ("#status", "#problem")] == ["status", "alert"]
    chain = webdriver.ActionChains(page.driver)
    page.driver.execute_script("document.activeElement.blur()")
    chain.send_keys(Keys.TAB).perform()
    assert page.driver.switch_to.active_element.get_attribute("class") == "skip"
    for _ in range(20):
        chain.send_keys(Keys.TAB).perform()
        if page.driver.switch_to.active_element.get_attribute("id") == "words":
            break
    else:
        raise AssertionError("the search is not reached by Tab")
    before = page.titles()
    chain.send_keys(Keys.TAB).perform()
    if "to the history" not in page.driver.switch_to.active_element.accessible_name:
        chain.send_keys(Keys.TAB).perform()  # past the list that scrolls
    chain.send_keys(Keys.ENTER).perform()
    until(lambda: len(page.all("#history li")) == 1 and page.titles() != before)
    assert page.text("#changes")


def test_it_fits_a_narrow_screen(page: Page) -> None:
    page.driver.set_window_size(500, 900)
    try:
        wide = page.driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0
    finally:
        page.driver.set_window_size(1400, 1600)


def test_titles_are_text_and_a_key_is_asked_for(
    chromium: Any, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(runs["plain"])
    table = model.item_table.with_columns(title=pl.lit(HOSTILE), categories=pl.lit([HOSTILE]))
    replace(model, item_table=table).save(tmp_path / "hostile")
    (tmp_path / "key.txt").write_text("open-sesame-1\n")
    state = tmp_path / "state"
    words = verb(tmp_path / "hostile", state, "--quiet", "--api-key-file", tmp_path / "key.txt")
    with started(words, state) as server:
        chromium.get(f"http://127.0.0.1:{server.port}/")
        field = until(lambda: [each for each in chromium.find_elements(By.ID, "key") if each.is_displayed()])[0]
        field.send_keys("open-sesame-1", Keys.ENTER)
        until(lambda: chromium.find_elements(By.CSS_SELECTOR, "#lists .title"))
        assert chromium.find_element(By.CSS_SELECTOR, "#lists .title").text == HOSTILE
        chromium.find_element(By.CSS_SELECTOR, "#found button").click()
        until(lambda: chromium.find_elements(By.CSS_SELECTOR, "#history .title"))
        chromium.find_element(By.ID, "tab-run").click()
        until(lambda: chromium.find_elements(By.CSS_SELECTOR, "#run h2"))
        assert chromium.title == "Forethought"
        assert chromium.find_elements(By.CSS_SELECTOR, "main img, main script") == []
    chromium.get_log("browser")


def test_a_report_draws_its_charts_without_a_network(chromium: Any, runs: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report({"thinking": runs["thinking"]}, examples=1).page(), encoding="utf-8")
    chromium.get_log("browser")  # of whatever came before
    chromium.get(page.as_uri())
    drawn = (
        "return [...document.querySelectorAll('.js-plotly-plot')].map((each) => each.querySelectorAll('.point').length)"
    )
    points = until(lambda: chromium.execute_script(drawn))
    assert len(points) >= 5, "accuracy, learning, two groupings, cost and steps"
    assert all(points), "a chart without points shows nothing"
    fitting = "return [...document.querySelectorAll('.main-svg')].every((each) => each.clientHeight >= 300)"
    assert chromium.execute_script(fitting), "the page's own styles must not cut the charts"
    fetched = "return performance.getEntriesByType('resource').map((each) => each.name)"
    assert [name for name in chromium.execute_script(fetched) if not name.startswith(("data:", "blob:"))] == []
    assert [each for each in chromium.get_log("browser") if each["level"] == "SEVERE"] == []
