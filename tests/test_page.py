"""The semantic radar in a real browser, as a reader meets it: Chromium, on the page that `make radar` serves.

Pictures of it go to `build/page/`. Without a Chromium on this machine these tests are left out; `.ci/run` installs one.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

from helpers.paths import BUILD, ROOT
from helpers.samples import samples

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look at the page with")

FLAGS = (
    "no-sandbox disable-gpu disable-quic no-first-run "
    "disable-background-networking disable-component-update disable-sync"
)
PICTURES = BUILD / "page"
PATIENCE = 120_000  # milliseconds: a model loads, and a busy machine takes its time
PROBE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
EN = next(one for one in samples() if (one.name, one.language) == ("fruit", "en"))
FAQ = next(one for one in samples() if (one.name, one.language) == ("faq", "zh"))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serves the page on a free port, as `make radar` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "helpers.serve", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "TQDM_DISABLE": "1"}
    ) as server:
        try:
            assert f"http://127.0.0.1:{port}" in server.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[f"--{flag}" for flag in FLAGS.split()])
        yield browser
        browser.close()


class Radar:
    """A tab with the radar in it, in the words of one who uses it."""

    def __init__(self, browser: Browser, address: str, width: int = 1280, height: int = 1000, locale: str = "en-GB"):
        self.context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
        self.page: Page = self.context.new_page()
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(dialog.message))
        self.response: Response = self.page.goto(address)
        self.status = self.page.locator(".radar-status [role=status]")
        self.problem = self.page.locator(".radar [role=alert]")
        self.query = self.page.get_by_role("searchbox")
        self.left = self.page.locator(".radar-lists > section").nth(0)
        self.right = self.page.locator(".radar-lists > section").nth(1)
        self.ready()

    def ready(self) -> None:
        expect(self.page.locator(".radar-status .is-ready")).to_be_visible(timeout=PATIENCE)

    def search(self, query: str) -> None:
        self.query.fill(query)
        self.query.press("Enter")
        expect(self.page.get_by_role("heading", name=query)).to_be_visible(timeout=PATIENCE)
        expect(self.page.locator(".radar-lists")).to_have_attribute("aria-busy", "false", timeout=PATIENCE)

    def lines(self) -> list[str]:
        expect(self.left.locator("li").first).to_be_visible(timeout=PATIENCE)
        return self.left.locator(".radar-line").all_inner_texts()

    def use_text(self, text: str) -> None:
        self.page.get_by_text("Text", exact=True).click()
        self.page.get_by_label("Your sentences").fill(text)
        self.page.get_by_role("button", name="Use these lines").click()

    def use_file(self, name: str, data: bytes) -> None:
        self.page.get_by_text("File", exact=True).click()
        self.page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "text/plain", "buffer": data})

    def picture(self, name: str) -> None:
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def shared(browser: Browser, address: str) -> Iterator[Radar]:
    """One tab for the tests that leave it as good as they found it."""
    radar = Radar(browser, address)
    yield radar
    assert radar.faults == []
    assert radar.page.evaluate("window.hacked") is None
    radar.context.close()


@pytest.fixture
def radar(shared: Radar) -> Radar:
    """The shared tab, back at the fruit example."""
    shared.page.get_by_text("Samples", exact=True).click()
    fruit = shared.page.locator(".radar-samples button").filter(has_text="fruit").filter(has_text="English")
    if fruit.get_attribute("aria-pressed") != "true":
        fruit.click()
        expect(fruit).to_have_attribute("aria-pressed", "true", timeout=PATIENCE)
    shared.ready()
    shared.search(EN.query)
    return shared


def test_the_page_opens_with_a_result_and_asks_nobody_else(radar: Radar, address: str) -> None:
    assert radar.page.title() == "Semantic radar · Pooling Lab"
    expect(radar.status).to_have_text(
        re.compile(rf"Vector space ready: {len(EN.lines)} vectors of dimension 384 on cpu")
    )
    assert set(radar.lines()) <= set(EN.lines)
    assert len(radar.lines()) == 10
    assert [url for url in radar.asked if not url.startswith((address, "data:", "blob:"))] == []
    radar.picture("1280")


def test_neither_source_nor_notebook_text_is_served(radar: Radar) -> None:
    assert "from helpers" not in radar.response.text()
    assert "Takeaways" not in radar.page.locator("body").inner_text()


def test_a_question_in_chinese_finds_its_answer(radar: Radar) -> None:
    radar.page.locator(".radar-samples button").filter(has_text="Questions").filter(has_text="Chinese").click()
    expect(radar.page.locator(".radar-report")).to_contain_text("200", timeout=PATIENCE)
    radar.ready()
    radar.search(FAQ.query)
    assert set(radar.lines()) <= set(FAQ.lines)
    expect(radar.left.locator(".radar-facts b").first).to_have_text(re.compile(r"cosine 0\.\d{4}"))
    assert radar.left.locator(".radar-line").first.get_attribute("lang") == "zh-Hans"
    radar.picture("faq-zh")


def test_pooling_and_threshold_act_without_embedding(radar: Radar) -> None:
    before = radar.lines()
    radar.page.get_by_role("combobox", name="Pooling", exact=True).select_option("max")
    expect(radar.left.locator("h3")).to_contain_text("max")
    radar.page.get_by_role("combobox", name="Pooling", exact=True).select_option("mean")
    expect(radar.left.locator("h3")).to_contain_text("mean")
    assert radar.lines() == before
    threshold = radar.page.get_by_role("spinbutton", name="Threshold")
    cosines = sorted(
        (float(text.split()[-1]) for text in radar.left.locator(".radar-facts b").all_inner_texts()), reverse=True
    )
    threshold.fill(f"{(cosines[2] + cosines[3]) / 2:.3f}")
    expect(radar.left.locator(".is-above")).to_have_count(sum(one >= float(threshold.input_value()) for one in cosines))
    expect(radar.left.locator(".is-above .radar-above").first).to_be_visible()
    expect(radar.left.locator("li:not(.is-above) .radar-above").first).to_be_hidden()
    threshold.fill("1")
    expect(radar.left.locator(".is-above")).to_have_count(0)
    radar.page.get_by_role("button", name="Calibrated for mean").click()
    assert float(threshold.input_value()) != 1


def test_each_pooling_has_a_threshold_of_its_own_until_one_is_set_by_hand(radar: Radar) -> None:
    poolings = ("mean", "cls")
    marks = [radar.page.get_by_role("button", name=f"Calibrated for {name}") for name in poolings]
    radar.page.get_by_role("button", name="The article's 0.4").click()
    expect(radar.left.locator(".is-above")).to_have_count(10)
    marks[1].click()
    for mark in marks:
        expect(mark).to_have_attribute("aria-pressed", "true")
    expect(radar.right.locator(".is-above")).to_have_count(0)


def test_two_poolings_side_by_side_and_one_alone(radar: Radar) -> None:
    expect(radar.right.locator("h3")).to_contain_text("cls")
    radar.page.get_by_role("combobox", name="Compare with").select_option("")
    expect(radar.right).to_have_count(0)
    radar.page.get_by_role("combobox", name="Compare with").select_option("cls")
    expect(radar.right.locator("li").first).to_be_visible()


def test_normalization_off_orders_by_dot_product(radar: Radar) -> None:
    switch = radar.page.get_by_role("switch", name="Normalize vectors")
    switch.uncheck()
    facts = radar.left.locator(".radar-facts").first
    expect(facts).to_contain_text("dot product")
    expect(facts).to_contain_text("cosine")
    switch.check()
    expect(facts).not_to_contain_text("dot product")


def test_why_names_the_token_that_contributes_most(radar: Radar) -> None:
    button = radar.left.get_by_role("button", name="Why").first
    button.focus()
    button.press("Enter")
    expect(radar.page.get_by_text("adds most").first).to_be_visible(timeout=PATIENCE)
    assert button.get_attribute("aria-expanded") == "true"
    radar.picture("why")
    radar.right.get_by_role("button", name="Why").first.click()
    expect(radar.page.get_by_text("so this is about mean pooling")).to_be_visible(timeout=PATIENCE)
    button.click()
    expect(radar.page.get_by_text("adds most").first).to_be_visible(timeout=PATIENCE)
    button.press("Enter")
    assert button.get_attribute("aria-expanded") == "false"


def test_the_map_and_the_dimensions(radar: Radar) -> None:
    expect(radar.page.locator(".radar-map svg").first.get_by_role("button")).to_have_count(10)
    expect(radar.page.locator(".radar-dot")).to_have_count(len(EN.lines) - 10)
    expect(radar.page.locator(".radar-star")).to_have_count(1)
    radar.page.get_by_text("A curiosity").click()
    expect(radar.page.locator("svg[role=img] rect")).to_have_count(50)
    radar.page.get_by_text("A curiosity").click()


def test_ones_own_text_is_tidied_and_counted(radar: Radar) -> None:
    long = "word " * 600
    radar.use_text(f"Cats purr.\n\n---\n。\nDogs bark.\nCats purr.\n{long}\n")
    report = radar.page.locator(".radar-report")
    expect(report).to_contain_text("3 lines", timeout=PATIENCE)
    expect(report).to_contain_text("1 blank, 2 without a letter or digit, 1 repeated")
    report.get_by_text("too long").click()
    expect(report).to_contain_text(re.compile(r"its last \d+ tokens"))
    radar.ready()
    radar.search("an animal that barks")
    assert radar.lines()[0] == "Dogs bark."


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("notes.txt", "猫会打呼噜。\n狗会叫。\n".encode("gb18030")),
        ("notes.txt", "\ufeff猫会打呼噜。\r\n狗会叫。\r\n".encode()),
        ("notes.tsv", "猫会打呼噜。\n狗会叫。\n".encode()),
    ],
    ids=["GB18030", "BOM", "a table of one column"],
)
def test_good_files(radar: Radar, name: str, data: bytes) -> None:
    radar.use_file(name, data)
    expect(radar.page.locator(".radar-report")).to_contain_text(f"{name}, 2 lines", timeout=PATIENCE)
    radar.ready()
    assert set(radar.lines()) == {"猫会打呼噜。", "狗会叫。"}


def test_a_table_asks_for_its_column(radar: Radar) -> None:
    radar.use_file("notes.csv", b'id,note,by\n1,Cats purr.,Ann\n2,"Dogs, too, bark.",Bob\n')
    select = radar.page.get_by_role("combobox", name="Column", exact=True)
    expect(select).to_be_visible(timeout=PATIENCE)
    select.select_option("note")
    radar.page.get_by_role("button", name="Use this column").click()
    expect(radar.page.locator(".radar-report")).to_contain_text("notes.csv, 2 lines", timeout=PATIENCE)
    radar.ready()
    assert set(radar.lines()) == {"Cats purr.", "Dogs, too, bark."}


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "picture.png is not a text file"),
        ("notes.txt", b"Cats purr.\0Dogs bark.", "notes.txt is not a text file"),
        ("notes.txt", "猫会打呼噜。\n".encode() * 50 + "狗会叫。\n".encode("gb18030"), "notes.txt, row 51"),
        ("notes.csv", b"a,b\n1,2\n3,4,5\n", "notes.csv, row 3"),
        ("notes.txt", b"word " * 2_000_000, "characters"),
        ("notes.txt", b"", "notes.txt is empty"),
        ("notes.txt", b"\n---\n \n", "No line is left"),
        ("notes.txt", b"".join(b"line %d\n" % row for row in range(100_001)), "100,000"),
        (f"{PROBE.replace('/', '')}.txt", b"\0", "is not a text file"),
    ],
    ids=[
        "binary",
        "NUL",
        "mixed encodings",
        "ragged",
        "10 MB line",
        "empty",
        "nothing left",
        "too many",
        "XSS in its name",
    ],
)
def test_bad_files_get_one_message_and_change_nothing(radar: Radar, name: str, data: bytes, said: str) -> None:
    report, lines = radar.page.locator(".radar-report").inner_text(), radar.lines()
    radar.use_file(name, data)
    expect(radar.problem).to_contain_text(said, timeout=PATIENCE)
    assert radar.page.locator(".radar-report").inner_text() == report
    assert radar.lines() == lines
    assert radar.page.evaluate("window.hacked") is None
    radar.problem.get_by_role("button").click()
    expect(radar.problem.locator("p")).to_be_hidden()


def test_a_file_of_200_megabytes_is_refused_at_once(radar: Radar, tmp_path: Path) -> None:
    large = tmp_path / "large.txt"
    with large.open("wb") as file:
        file.truncate(200 * 2**20)
    radar.page.get_by_text("File", exact=True).click()
    radar.page.locator("input[type=file]").set_input_files(large)
    expect(radar.problem).to_contain_text("large.txt", timeout=5000)
    radar.search("still alive")
    assert len(radar.lines()) == 10


@pytest.mark.parametrize("query", ["", "    ", "？！"])
def test_a_query_that_says_nothing(radar: Radar, query: str) -> None:
    lines = radar.lines()
    radar.query.fill(query)
    radar.query.press("Enter")
    expect(radar.problem).to_contain_text("nothing to search for", timeout=PATIENCE)
    assert radar.lines() == lines


def test_what_users_write_stays_text(radar: Radar) -> None:
    radar.use_text(f'{PROBE}\n{PROBE} again\n[link](javascript:alert(1))\n"><b>bold</b>\n')
    expect(radar.page.locator(".radar-report")).to_contain_text("4 lines", timeout=PATIENCE)
    radar.ready()
    radar.search(PROBE)
    assert PROBE in radar.lines()
    radar.left.get_by_role("button", name="Why").first.click()
    expect(radar.page.get_by_text("adds most").first).to_be_visible(timeout=PATIENCE)
    for tag in ("script", "img", "b:has-text('bold')", "a"):
        assert radar.page.locator(f".radar-page {tag}").count() == 0
    assert radar.page.evaluate("window.hacked") is None


def test_a_model_that_is_not_there(radar: Radar) -> None:
    radar.page.get_by_text("Another model", exact=True).click()
    radar.page.get_by_label("A hub name").fill("<b>no</b>/model")
    radar.page.get_by_role("button", name="Load").click()
    expect(radar.problem).to_contain_text("This model cannot be used", timeout=PATIENCE)
    radar.ready()
    expect(radar.page.get_by_role("combobox", name="Model", exact=True)).to_have_value("e5-small")
    assert "Traceback" not in radar.page.locator("body").inner_text()


def test_everything_has_a_name_for_screen_readers(radar: Radar) -> None:
    for way in ("Samples", "Text", "File"):
        radar.page.get_by_text(way, exact=True).click()
        unnamed = radar.page.evaluate(
            """() => [...document.querySelectorAll('.radar input, .radar select, .radar textarea, .radar button')]
                .filter((one) => one.offsetParent && ![...(one.labels ?? [])].some((label) => label.innerText.trim())
                    && !one.getAttribute('aria-label') && !one.innerText.trim()).map((one) => one.outerHTML)"""
        )
        assert unnamed == []


def test_the_keyboard_alone_will_do(radar: Radar) -> None:
    radar.query.focus()
    for _ in range(3):
        radar.page.keyboard.press("Tab")
        seen = radar.page.evaluate(
            "() => { const { outlineStyle, boxShadow } = getComputedStyle(document.activeElement);"
            " return outlineStyle + boxShadow; }"
        )
        assert seen != "nonenone"


def test_chinese_labels(radar: Radar) -> None:
    radar.page.get_by_role("button", name="中文").click()
    expect(radar.page.get_by_role("button", name="搜索")).to_be_visible()
    expect(radar.page.locator(".radar")).to_have_attribute("lang", "zh-Hans")
    radar.query.fill("  ")
    radar.query.press("Enter")
    expect(radar.problem).to_contain_text(re.compile("[\u4e00-\u9fff]"), timeout=PATIENCE)
    radar.picture("1280-zh")
    radar.page.get_by_role("button", name="English").click()
    expect(radar.page.get_by_role("button", name="Search")).to_be_visible()


def test_two_tabs_on_a_small_screen_do_not_disturb_each_other(browser: Browser, address: str, radar: Radar) -> None:
    other = Radar(browser, address, width=390, height=844, locale="zh-CN")
    expect(other.page.get_by_role("button", name="搜索")).to_be_visible()
    before = radar.lines()
    other.search("我想吃点东西")
    assert radar.lines() == before
    assert other.page.evaluate("document.documentElement.scrollWidth") <= 390
    other.picture("390-zh")
    assert other.faults == []
    other.context.close()
    radar.search("something sweet")
    assert set(radar.lines()) <= set(EN.lines)
