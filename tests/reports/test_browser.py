"""The page in headless Chromium: charts, legend, zoom, click, filter, gallery, keyboard; no request, no console error.

Skipped only if Chromium or its driver (Debian: chromium, chromium-driver) is not installed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.sweeps.grid import shown_range
from tests.reports.sweeps.grids import write_grid
from tests.reports.synthetic import curve, intrinsic_record, record, samples, steps, study, write, write_items

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver", allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

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
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
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
        samples(run, 2, "base")
        samples(run, 2, "real")
        steps(run, 60)
    for run in (folder / "runs").glob("drawings/lora/lora-[18]-[012]"):
        seed = int(run.name[-1])
        curve(run, {0: 1486.0, 10: 500.0 + seed, 20: 310.0 - seed, 30: 305.0 + 5 * seed})
    intrinsic_record(folder / "runs")
    write_grid(
        folder / "runs",
        lambda rank, rate: None if rate == 0.1 and rank == 16 else 5 + rank / 100 + rate,
        task="sweep",
    )
    write(folder / "runs", record("prompts", 4, task="second <script>", fingerprint="x"))
    main(["page", "--runs", str(folder / "runs"), "--output", str(folder / "out")])
    return folder / "out" / "index.html"


@pytest.fixture
def page(browser, written):
    browser.get_log("performance")
    browser.get(written.as_uri())
    yield browser.find_element(By.CSS_SELECTOR, "section.task:not([hidden])")
    assert requested(browser) <= {written.as_uri()}
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def requested(browser) -> set[str]:
    """The addresses that the page loaded, except those that hold their content."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = (m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent")
    return {address for address in sent if not address.startswith(("data:", "blob:"))}


def chart_of(page, kind: str):
    chart = page.find_element(By.CSS_SELECTOR, f".{kind} .chart")
    chart.parent.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    return chart


def names(page, kind: str) -> list[str]:
    """The traces of a chart that hold points, in their order."""
    script = "return arguments[0].data.filter((t) => t.meta.texts.length).map((t) => t.name)"
    return page.parent.execute_script(script, chart_of(page, kind))


def y_axis(page, kind: str) -> list[float]:
    return page.parent.execute_script("return arguments[0]._fullLayout.yaxis.range.slice()", chart_of(page, kind))


def first_column(page) -> list[str]:
    return [
        " ".join(row.text.split()[:2])
        for row in page.find_elements(By.CSS_SELECTOR, ".figures tbody tr")
        if row.is_displayed()
    ]


def test_axes_change_the_chart(page):
    chart = chart_of(page, "pareto")
    assert len(chart.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")) == 3
    assert chart.get_attribute("aria-label") == "kid over Trained parameters"
    Select(page.find_element(By.CSS_SELECTOR, ".pareto .x")).select_by_visible_text("Peak memory")
    Select(page.find_element(By.CSS_SELECTOR, ".pareto .y")).select_by_visible_text("clip")
    assert chart.get_attribute("aria-label") == "clip over Peak memory"
    assert "Peak memory (B)" in chart.text
    page.find_element(By.CSS_SELECTOR, ".pareto .log").click()
    assert page.parent.execute_script("return arguments[0]._fullLayout.xaxis.type", chart) == "linear"


def test_a_method_is_switched_off_in_every_chart(page):
    kinds = ("pareto", "curve", "losses", "quality", "bars")
    before = {kind: names(page, kind) for kind in kinds}
    assert all(any("lora" in name for name in before[kind]) for kind in kinds)
    button = page.find_element(By.XPATH, ".//ul[contains(@class, 'legend')]//button[contains(., 'lora')]")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert not [name for kind in kinds for name in names(page, kind) if "lora" in name]
    button.send_keys(Keys.ENTER)
    assert {kind: names(page, kind) for kind in kinds} == before


def test_a_double_click_leaves_a_method_alone(page, browser):
    button = page.find_element(By.XPATH, ".//ul[contains(@class, 'legend')]//button[contains(., 'full')]")
    events = "b.click(); b.click(); b.dispatchEvent(new MouseEvent('dblclick'))"  # as a fast mouse sends them
    browser.execute_script(f"const b = arguments[0]; {events}", button)
    assert names(page, "pareto") == ["full"]
    browser.execute_script(f"const b = arguments[0]; {events}", button)
    assert names(page, "pareto") == ["full", "lora"]


def test_dragging_zooms_and_a_button_zooms_out(page, browser):
    whole, chart = y_axis(page, "pareto"), chart_of(page, "pareto")
    plot = chart.find_element(By.CSS_SELECTOR, ".nsewdrag")
    drag = ActionChains(browser).move_to_element_with_offset(plot, -60, -60).click_and_hold()
    drag.move_by_offset(60, 60).move_by_offset(40, 40).release().perform()
    zoomed = y_axis(page, "pareto")
    assert whole[0] < zoomed[0] < zoomed[1] < whole[1]
    chart.find_element(By.CSS_SELECTOR, ".modebar-btn[data-title='Reset axes']").click()
    assert y_axis(page, "pareto") == whole


def test_a_click_opens_the_pictures_of_the_run(page, browser):
    chart = chart_of(page, "pareto")
    order = browser.execute_script("return arguments[0].data.map((t) => t.name)", chart)
    traces = chart.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace")
    full = traces[order.index("full")].find_element(By.CSS_SELECTOR, ".point")
    ActionChains(browser).move_to_element(full).pause(0.3).click().perform()
    dialog = browser.find_element(By.ID, "run")
    assert dialog.text.split("\n")[1].startswith("full: kid 301")
    assert HOSTILE in dialog.text
    pictures = dialog.find_elements(By.TAG_NAME, "img")
    assert [picture.get_attribute("naturalWidth") for picture in pictures] == ["32", "32"]
    dialog.find_element(By.TAG_NAME, "button").click()
    assert not dialog.is_displayed()


def test_hovering_shows_figure_interval_n_and_extractor(page, browser):
    chart = chart_of(page, "curve")
    ActionChains(browser).move_to_element(chart.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")[1]).perform()
    detail = page.find_element(By.CSS_SELECTOR, ".curve .detail").text
    for part in ("lora 8: kid 299.7 [295.9, 303.5]", "3 seeds", "n=500", "measured with net-a"):
        assert part in detail
    assert "299.7" in chart.find_element(By.CSS_SELECTOR, ".hoverlayer").text


def test_charts_can_be_read_by_keyboard(page, browser):
    chart = chart_of(page, "pareto")
    chart.send_keys(Keys.ARROW_RIGHT)
    chart.send_keys(Keys.ARROW_RIGHT)
    detail = page.find_element(By.CSS_SELECTOR, ".pareto .detail").text
    assert detail.startswith("lora 8: kid 299.7 [295.9, 303.5]")  # the second by parameters
    assert "parameters 8000" in detail
    chart.send_keys(Keys.ENTER)
    dialog = browser.find_element(By.ID, "run")
    assert dialog.text.split("\n")[1].startswith("lora 8")
    dialog.find_element(By.TAG_NAME, "button").click()


def test_one_page_has_losses_costs_and_the_intrinsic_dimension(page):
    titles = {kind: chart_of(page, kind).get_attribute("aria-label") for kind in ("losses", "bars", "intrinsics")}
    assert titles == {
        "losses": "training loss, running mean over steps",
        "bars": "trained parameters by method",
        "intrinsics": "Smallest size that reaches 90 % of the gain of full in kid",
    }
    assert names(page, "intrinsics") == ["DID", "DID", "SAID", "SAID"]


def test_quality_over_steps_marks_the_best_step_and_says_its_items(page, browser):
    assert names(page, "quality") == ["lora 1", "lora 8"]
    chart = chart_of(page, "quality")
    sizes = browser.execute_script("return arguments[0].data.at(-1).marker.size", chart)
    assert sizes == [6, 6, 12, 6]  # the means are 1486, 501, 309 and 310
    for _ in range(6):
        chart.send_keys(Keys.ARROW_RIGHT)
    detail = page.find_element(By.CSS_SELECTOR, ".quality .detail").text
    for part in ("lora 8 at step 20: kid 309.0 [306.5, 311.5]", "the best step", "3 seeds", "n=50"):
        assert part in detail
    page.find_element(By.CSS_SELECTOR, ".quality .log").click()
    assert browser.execute_script("return arguments[0].data.at(-1).x", chart) == [10, 20, 30]


def test_sorting_in_both_directions(page):
    assert first_column(page) == ["lora 8", "full 3", "lora 1"]
    rank = page.find_element(By.XPATH, ".//thead//button[text()='rank']")
    rank.click()
    assert first_column(page) == ["lora 1", "lora 8", "full 3"]
    rank.send_keys(Keys.ENTER)
    assert first_column(page) == ["lora 8", "lora 1", "full 3"]  # missing values stay last
    assert rank.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"


def test_filter(page):
    page.find_element(By.CSS_SELECTOR, ".figures .filter").send_keys("lora worse")
    assert first_column(page) == ["lora 1"]
    assert page.find_element(By.CSS_SELECTOR, ".shown").text == "1 of 3 rows"


def test_the_gallery_shows_each_prompt_side_by_side(page, browser):
    captions = [node.text for node in page.find_elements(By.CSS_SELECTOR, ".gallery h4")]
    assert captions == [HOSTILE, "a green creature"]
    strip = page.find_element(By.CSS_SELECTOR, ".strip")
    assert [figure.text.split("\n")[0] for figure in strip.find_elements(By.TAG_NAME, "figure")] == [
        "real",
        "untuned base",
        "full",
        "lora 8",
    ]
    strip.find_element(By.CSS_SELECTOR, ".enlarge").click()
    dialog = browser.find_element(By.ID, "picture")
    assert HOSTILE in dialog.text
    dialog.find_element(By.TAG_NAME, "button").click()
    assert not dialog.is_displayed()
    page.find_element(By.CSS_SELECTOR, ".gallery .filter").send_keys("full")
    assert [f.is_displayed() for f in strip.find_elements(By.TAG_NAME, "figure")] == [False, False, True, False]


def test_a_script_in_a_caption_does_not_run(page, browser):
    assert "taken over" not in browser.title


def test_the_gallery_is_above_the_notes(page):
    places = [
        page.find_element(By.CSS_SELECTOR, name).location["y"] for name in (".gallery", ".figures", ".notes-card")
    ]
    assert places == sorted(places)


def test_a_dark_page_has_dark_charts(page, browser):
    read = "return getComputedStyle(document.querySelector('.pareto .chart .xtick text')).fill"
    light = browser.execute_script(read)
    try:
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        assert browser.execute_script(read) != light
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_choosing_another_task(page, browser):
    Select(browser.find_element(By.ID, "task")).select_by_index(1)
    assert not page.is_displayed()
    assert browser.find_element(By.CSS_SELECTOR, "section.task:not([hidden]) h2").text == "second <script>"


@pytest.fixture
def sweep_page(page, browser):
    Select(browser.find_element(By.ID, "task")).select_by_visible_text("sweep")
    return browser.find_element(By.CSS_SELECTOR, "section.task:not([hidden])")


def cell_texts(page) -> list[str]:
    chart = chart_of(page, "heat")
    return [node.text for node in chart.find_elements(By.CSS_SELECTOR, ".scatterlayer .textpoint")]


def test_the_heat_map_shows_every_cell_and_marks_the_failed_one(sweep_page):
    assert sorted(cell_texts(sweep_page)) == sorted(
        [
            f"{5 + rank / 100 + rate:.3g}"
            for rank in (1, 4, 16)
            for rate in (0.001, 0.01, 0.1)
            if (rank, rate) != (16, 0.1)
        ]
        + ["failed"]
    )
    chart = chart_of(sweep_page, "heat")
    (frame,) = sweep_page.parent.execute_script("return arguments[0].layout.shapes", chart)
    assert (frame["x0"], frame["y0"]) == (-0.5, -0.5)  # the lowest rate and rank


def test_the_page_shows_the_range_of_the_plots(sweep_page, browser):
    higher = ([9.0, 8.0, 7.0, -1e9], [9.0, 8.0, 7.0, 0.0])
    for values, lower in (([1.0, 1.2, 1.3, 1e9], True), ([5.0], True), *((each, False) for each in higher)):
        shown = browser.execute_script("return shownRange(arguments[0], arguments[1])", values, lower)
        assert shown == pytest.approx(shown_range(values, lower))


def test_the_axes_of_the_heat_map_can_be_swapped(sweep_page):
    Select(sweep_page.find_element(By.CSS_SELECTOR, ".heat .x")).select_by_visible_text("adapter.rank")
    Select(sweep_page.find_element(By.CSS_SELECTOR, ".heat .y")).select_by_visible_text("train.learning_rate")
    label = chart_of(sweep_page, "heat").get_attribute("aria-label")
    assert label.endswith(" over adapter.rank and train.learning_rate")
    assert "\n" not in label
    assert len(cell_texts(sweep_page)) == 9


def test_a_curve_over_the_rate_has_a_line_per_rank_and_a_cross_for_the_failed_run(sweep_page):
    assert names(sweep_page, "ucurve")[:3] == ["rank 1", "rank 4", "rank 16"]
    chart = chart_of(sweep_page, "ucurve")
    marks = sweep_page.parent.execute_script("return arguments[0].data.at(-1).marker.symbol", chart)
    assert marks == ["x"]


def test_the_main_effects_say_share_and_means(sweep_page, browser):
    chart = chart_of(sweep_page, "effects")
    chart.send_keys(Keys.ARROW_DOWN)
    detail = sweep_page.find_element(By.CSS_SELECTOR, ".effects .detail").text
    assert "of the variance of score" in detail
    assert "mean score at" in detail


def test_a_phone_needs_no_horizontal_scrolling_and_wider_charts_keep_their_height(page, browser):
    size = browser.get_window_size()
    try:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        )
        browser.refresh()
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 375
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)  # draws the charts again
        redrawn = "document.querySelector('.chart:has(.main-svg)').layout.font.color == colour('quiet')"
        WebDriverWait(browser, 10).until(lambda driver: driver.execute_script(f"return {redrawn}"))
        wide = {"width": 1300, "height": 800, "deviceScaleFactor": 2, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", wide)
        charts = "[...document.querySelectorAll('.chart:has(.main-svg)')].filter(chart => chart.clientWidth)"
        charts += ".map(chart => [chart, chart.querySelector('.main-svg')])"
        narrow = f"{charts}.filter(([chart, svg]) => svg.clientWidth != chart.clientWidth)"
        WebDriverWait(browser, 10).until(lambda driver: driver.execute_script(f"return !{narrow}.length"))
        assert browser.execute_script(f"return {charts}.length") > 5
        outside = f"{charts}.filter(([chart, svg]) => svg.clientHeight > chart.clientHeight)"
        assert not browser.execute_script(f"return {outside}.length"), "a chart is drawn over what follows it"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        browser.set_window_size(size["width"], size["height"])
