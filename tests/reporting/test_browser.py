"""The page in a real browser: its filters work, and nothing else runs, loads or complains."""

from __future__ import annotations

import json
import shutil
import time

import pytest
from report_records import build_page, build_results, phrase_record

from hkdcli.evaluation.join import build_table
from hkdcli.reporting.cases import build_cases
from hkdcli.reporting.page import render_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, which the dev extra brings")
Select = pytest.importorskip("selenium.webdriver.support.select").Select
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Chromium and chromedriver on PATH")

ALL = ["alarm", "label", "both", "missed", "several", "silent"]
HOSTILE = "\"'></style></script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium that logs what it asks for and what it complains about."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    switches = ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking")
    for switch in (*switches, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def visit(browser, tmp_path):
    """Open HTML from a file, with a hash; the logs are empty then."""

    def open_page(html, fragment=""):
        path = tmp_path / "report.html"
        path.write_text(html, "utf-8")
        browser.get("about:blank")
        read_log(browser, "browser"), read_log(browser, "performance")
        browser.get(f"{path.as_uri()}{fragment}")
        return browser

    return open_page


def read_log(browser, name):
    return [each["message"] for each in browser.get_log(name)]


def read_events(browser, method):
    """What the browser told of one kind of event since the log was read last."""
    events = [json.loads(each)["message"] for each in read_log(browser, "performance")]
    return [each["params"] for each in events if each["method"] == method]


def list_requests(browser):
    """Addresses that the browser asked for."""
    return [each["request"]["url"] for each in read_events(browser, "Network.requestWillBeSent")]


def list_shown(browser):
    """Ids of the cards that can be seen, and what the page says of their number."""
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.case')].filter((card) => card.checkVisibility())"
        ".map((card) => card.querySelector('h3').textContent)"
    )
    return shown, browser.find_element("id", "shown").text


def click(browser, name, label):
    """Click a filter by the name of its facet and the label of its value."""
    where = f"[data-name='{name}'] label:has([data-label='{label}'])"
    browser.find_element("css selector", where).click()


def test_filters_narrow_the_cards_and_reset_brings_all_back(visit):
    browser = visit(build_page())
    assert list_shown(browser) == (ALL, "6 of 6 shown")
    click(browser, "kind", "missed")
    assert list_shown(browser) == (["both", "missed"], "2 of 6 shown")
    click(browser, "kind", "no answer")
    assert list_shown(browser) == (["both", "missed", "several", "silent"], "4 of 6 shown")
    click(browser, "task", "hallucination")
    assert list_shown(browser) == (["both", "missed", "silent"], "3 of 6 shown")
    click(browser, "choice.phenomena", "colour")
    assert list_shown(browser) == (["missed"], "1 of 6 shown")
    browser.find_element("id", "reset").click()
    assert list_shown(browser) == (ALL, "6 of 6 shown")


def test_a_text_is_found_in_any_case_and_nothing_found_is_said(visit):
    browser = visit(build_page())
    field, nothing = browser.find_element("id", "find"), browser.find_element("id", "none")
    field.send_keys("CLAIM of Label")
    assert list_shown(browser) == (["label"], "1 of 6 shown") and not nothing.is_displayed()
    field.send_keys(" nowhere")
    assert list_shown(browser) == ([], "0 of 6 shown") and nothing.is_displayed()


def test_a_link_keeps_the_filters(visit):
    browser = visit(build_page())
    click(browser, "meta.source", "coco")
    click(browser, "kind", "false alarm")
    browser.find_element("id", "find").send_keys("phrase 1")
    fragment = browser.execute_script("return location.hash")
    assert fragment == "#kind=false+alarm&meta.source=coco&find=phrase+1"
    assert list_shown(visit(build_page(), fragment)) == (["both"], "1 of 6 shown")
    browser.find_element("id", "reset").click()
    assert browser.execute_script("return location.hash") == ""


def test_another_hash_on_the_open_page_is_followed_and_a_section_leaves_the_filters(visit):
    browser = visit(build_page(), "#kind=missed")
    browser.execute_script("location.hash = 'kind=wrong+label&meta.unknown=x'")
    assert wait_for_count(browser, "1 of 6 shown") == ["label"]
    browser.execute_script("location.hash = 'scores'")
    assert list_shown(browser) == (["label"], "1 of 6 shown")


def wait_for_count(browser, count):
    """Wait until the page says so: it hears of a new hash a moment later."""
    for _ in range(200):
        shown, said = list_shown(browser)
        if said == count:
            return shown
        time.sleep(0.02)
    raise AssertionError(said)


def test_filters_work_from_the_keyboard(visit):
    browser = visit(build_page())
    keys = webdriver.Keys
    browser.find_element("id", "find").click()
    webdriver.ActionChains(browser).send_keys(keys.TAB, keys.SPACE).perform()
    assert list_shown(browser) == (["label", "several"], "2 of 6 shown")


def test_many_values_are_a_list_to_choose_from(visit):
    records = [phrase_record(f"r{i}", "B", meta={"source": f"s{i % 8}"}) for i in range(16)]
    gallery = build_cases({"hallucination": build_table(records, {})}, 16)
    html = render_page(build_results(), gallery, title="x", thumbnails={})
    browser = visit(html)
    choices = Select(browser.find_element("css selector", "select"))
    choices.select_by_visible_text("s5 (2)")
    assert list_shown(browser) == (["r5", "r13"], "2 of 16 shown")
    assert list_shown(visit(html, browser.execute_script("return location.hash")))[0] == ["r5", "r13"]
    browser.find_element("id", "reset").click()
    assert list_shown(browser)[1] == "16 of 16 shown"


def test_without_scripts_every_card_is_seen_and_no_filter(visit):
    browser = visit("")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        visit(build_page())
        assert all(card.is_displayed() for card in browser.find_elements("class name", "case"))
        assert not browser.find_element("id", "filters").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_hostile_dataset_runs_nothing_loads_nothing_and_the_filters_still_work(visit):
    html = build_page(lambda text: text + HOSTILE)
    browser = visit(html)
    find = "return [...document.querySelectorAll('input')].find((e) => e.dataset.label === arguments[0])"
    browser.execute_script(find, f"coco{HOSTILE}").find_element("xpath", "..").click()
    shown, count = list_shown(browser)
    assert shown == [f"{name}{HOSTILE}" for name in ("both", "missed", "silent")] and count == "3 of 6 shown"
    fragment = browser.execute_script("return location.hash")
    assert list_shown(visit(html, fragment)) == (shown, count)
    assert browser.execute_script("return window.pwned") is None
    assert read_log(browser, "browser") == []


def test_the_page_asks_for_nothing_but_itself(visit, tmp_path):
    browser = visit(build_page())
    browser.execute_script("document.getElementById('gallery').scrollIntoView()")
    asked = [address for address in list_requests(browser) if not address.startswith("data:")]
    assert asked == [(tmp_path / "report.html").as_uri()]
    assert read_log(browser, "browser") == []


def test_even_an_escaping_mistake_would_run_and_load_nothing(visit):
    mistake = "<script>window.pwned=1</script><img src=http://127.0.0.1:9/x onerror=window.pwned=1>"
    browser = visit(build_page().replace("<main>", f"<main>{mistake}"))
    assert list_shown(browser) == (ALL, "6 of 6 shown")
    assert browser.execute_script("return window.pwned") is None
    assert [each["blockedReason"] for each in read_events(browser, "Network.loadingFailed")] == ["csp"]


def test_nothing_is_wider_than_a_phone(visit):
    browser = visit("")
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        visit(build_page(lambda text: text + "x" * 300))
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
