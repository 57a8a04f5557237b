"""A report as a person sees it: in Chromium, from disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_run import make

from lightning_gen import report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with its driver on this machine")

INK = """return [...document.querySelectorAll(".chart canvas")].map(canvas => {
  const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(bytes.buffer)).size;
})"""
"""How many different colours each chart has."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1440,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    file = folder / "report.html"
    file.write_text(report.page([report.read(make(folder / name, stopped=name == "two")) for name in ("one", "two")]))
    return file


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    browser.get_log("browser")
    browser.get_log("performance")
    browser.set_window_size(1440, 900)
    browser.get(page.as_uri())
    return browser


def test_it_opens_without_an_error_and_asks_for_nothing(opened: Any) -> None:
    assert opened.get_log("browser") == []
    asked = [
        entry["message"] for entry in opened.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    assert not [message for message in asked if '"url":"http' in message]


def test_every_chart_is_drawn(opened: Any) -> None:
    colours = opened.execute_script(INK)
    assert len(colours) == len(opened.find_elements("css selector", ".chart")) >= 6
    assert min(colours) > 3  # ground, ink, rule, and lines


def test_the_scrubber_turns_over_the_grids_by_keyboard_and_says_where_it_is(opened: Any) -> None:
    leaf = opened.find_element("css selector", ".leaf[data-run='0']")
    handle, picture = leaf.find_element("css selector", "input"), leaf.find_element("css selector", "img")
    newest = picture.get_attribute("src")
    handle.send_keys("\ue012")  # arrow left
    assert picture.get_attribute("src") != newest
    assert leaf.find_element("css selector", "output").text == "75 kimg"
    assert handle.get_attribute("aria-valuetext") == "75 thousand images"
    handle.send_keys("\ue011")  # home
    assert leaf.find_element("css selector", "output").text == "0 kimg"


def test_the_scrubber_turns_over_the_grids_by_mouse(opened: Any) -> None:
    actions = pytest.importorskip("selenium.webdriver").ActionChains(opened)
    leaf = opened.find_element("css selector", ".leaf[data-run='0']")
    handle = leaf.find_element("css selector", "input")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
    actions.move_to_element(handle).click().perform()
    assert leaf.find_element("css selector", "output").text == "50 kimg"


def test_arrow_keys_walk_along_a_chart_and_what_stands_there_is_said(opened: Any) -> None:
    chart = opened.find_element("css selector", ".chart")
    chart.send_keys("\ue011")  # home
    said = opened.find_element("id", "said")
    assert "0 kimg: one: fid/tiny 9" in said.get_attribute("textContent")
    chart.send_keys("\ue014")  # arrow right
    assert said.get_attribute("textContent").startswith("20 kimg: one: fid/tiny 7.5")


def test_a_line_can_be_hidden_by_keyboard(opened: Any) -> None:
    name = opened.find_element("css selector", ".u-legend .u-series:nth-child(2) th")
    assert name.get_attribute("role") == "button"
    name.send_keys("\ue007")  # enter
    row = opened.find_element("css selector", ".u-legend .u-series:nth-child(2)")
    assert "u-off" in row.get_attribute("class")


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_sticks_out_sideways(opened: Any, width: int) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        opened.refresh()
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
        widths = opened.execute_script("return [...document.querySelectorAll('.chart canvas')].map(c => c.clientWidth)")
        assert 300 < max(widths) <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_follows_a_change_to_dark(opened: Any) -> None:
    def ground() -> str:
        return opened.execute_script("return getComputedStyle(document.body).backgroundColor")

    light, before = ground(), opened.execute_script(INK)
    feature = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    try:
        assert ground() != light
        assert len(opened.execute_script(INK)) == len(before)
        assert opened.get_log("browser") == []
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_ten_thousand_records_stay_below_five_megabytes(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report.page([report.read(make(tmp_path / "run", records=10_000, grids=30))]))
    assert file.stat().st_size < 5_000_000
    browser.get(file.as_uri())
    assert min(browser.execute_script(INK)) > 3
