"""The page in headless Chromium: axes, filter, sorting, gallery, keyboard, and no error on the console.

Skipped only if Chromium or its driver (Debian: chromium, chromium-driver) is not installed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reports.__main__ import main
from tests.reports.synthetic import record, samples, study, write, write_items

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver", allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,1000",
]
HOSTILE = "a red <script>document.title = 'taken over'</script> creature & \"friends\""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    study(folder / "runs")
    for method in ("lora", "full"):
        run = write(folder / "runs", record(method, None if method == "full" else 8, 0, 301))
        write_items(run, [30.0, 31.0], [HOSTILE, "a green creature"])
        samples(run, 2)
    write(folder / "runs", record("prompts", 4, task="second <script>", fingerprint="x"))
    main(["page", "--runs", str(folder / "runs"), "--output", str(folder / "out")])
    return folder / "out" / "index.html"


@pytest.fixture
def page(browser, written):
    browser.get(written.as_uri())
    yield browser.find_element(By.CSS_SELECTOR, "section.task:not([hidden])")
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def first_column(page) -> list[str]:
    return [
        " ".join(row.text.split()[:2]) for row in page.find_elements(By.CSS_SELECTOR, "tbody tr") if row.is_displayed()
    ]


def test_axes_change_the_chart(page):
    chart = page.find_element(By.CSS_SELECTOR, ".pareto .chart")
    assert len(chart.find_elements(By.CSS_SELECTOR, ".point")) == 3
    before = chart.get_attribute("innerHTML")
    Select(page.find_element(By.CSS_SELECTOR, ".pareto .x")).select_by_visible_text("Peak memory")
    Select(page.find_element(By.CSS_SELECTOR, ".pareto .y")).select_by_visible_text("clip")
    assert chart.get_attribute("innerHTML") != before
    assert "clip over Peak memory" in chart.find_element(By.TAG_NAME, "svg").get_attribute("aria-label")
    assert "GB" in chart.text
    page.find_element(By.CSS_SELECTOR, ".pareto .log").click()


def test_charts_can_be_read_by_keyboard(page, browser):
    page.find_element(By.CSS_SELECTOR, ".pareto .log").send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    detail = page.find_element(By.CSS_SELECTOR, ".pareto .detail").text
    assert detail.startswith("lora 8: kid 299.7 [295.9, 303.5]")  # the second by parameters
    for part in ("3 seeds", "n=500", "net-a", "parameters 8000"):
        assert part in detail


def test_sorting_in_both_directions(page):
    assert first_column(page) == ["lora 8", "full 3", "lora 1"]
    rank = page.find_element(By.XPATH, ".//thead//button[text()='rank']")
    rank.click()
    assert first_column(page) == ["lora 1", "lora 8", "full 3"]
    rank.send_keys(Keys.ENTER)
    assert first_column(page) == ["lora 8", "lora 1", "full 3"]  # missing values stay last
    assert rank.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"


def test_filter(page):
    page.find_element(By.CSS_SELECTOR, "article .filter").send_keys("lora worse")
    assert first_column(page) == ["lora 1"]
    assert page.find_element(By.CSS_SELECTOR, ".shown").text == "1 of 3 rows"


def test_the_gallery_shows_each_prompt_side_by_side(page, browser):
    page.find_element(By.CSS_SELECTOR, ".gallery summary").click()
    captions = [node.text for node in page.find_elements(By.CSS_SELECTOR, ".gallery h4")]
    assert captions == [HOSTILE, "a green creature"]
    strip = page.find_element(By.CSS_SELECTOR, ".strip")
    assert [figure.text.split("\n")[0] for figure in strip.find_elements(By.TAG_NAME, "figure")] == ["full", "lora 8"]
    strip.find_element(By.CSS_SELECTOR, ".enlarge").click()
    dialog = browser.find_element(By.ID, "picture")
    assert HOSTILE in dialog.text
    dialog.find_element(By.TAG_NAME, "button").click()
    assert not dialog.is_displayed()
    page.find_element(By.CSS_SELECTOR, ".gallery .filter").send_keys("full")
    assert [f.is_displayed() for f in strip.find_elements(By.TAG_NAME, "figure")] == [True, False]


def test_a_script_in_a_caption_does_not_run(page, browser):
    assert "taken over" not in browser.title


def test_choosing_another_task(page, browser):
    Select(browser.find_element(By.ID, "task")).select_by_index(1)
    assert not page.is_displayed()
    assert browser.find_element(By.CSS_SELECTOR, "section.task:not([hidden]) h2").text == "second <script>"


def test_a_phone_needs_no_horizontal_scrolling(page, browser):
    size = browser.get_window_size()
    try:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        )
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 375
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.set_window_size(size["width"], size["height"])
