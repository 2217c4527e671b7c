"""The report page in a real browser: it draws, sorts, fits a phone, and is readable in the dark."""

import shutil
from pathlib import Path

import pytest

from evenseg.cli import main

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with its driver on this machine")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1200,900",
)


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    output = folder / "report.html"
    assert main(["report", *map(str, runs.values()), "--output", str(output)]) == 0
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=webdriver.ChromeService(executable_path=DRIVER), options=options)
    driver.get(Path(output).as_uri())
    yield driver
    driver.quit()


def column(page, caption, index):
    script = """
      const t = [...document.querySelectorAll("table")].find(t => t.caption.textContent.startsWith(arguments[0]));
      return [...t.tBodies[0].rows].map(r => r.cells[arguments[1]].textContent);"""
    return page.execute_script(script, caption, index)


def button(page, caption, title):
    for table in page.find_elements(By.TAG_NAME, "table"):
        if table.find_element(By.TAG_NAME, "caption").get_attribute("textContent").startswith(caption):
            return next(b for b in table.find_elements(By.TAG_NAME, "button") if b.text.startswith(title))
    raise AssertionError(caption)


def test_renders_without_an_error(page):
    assert [entry for entry in page.get_log("browser") if entry["level"] != "INFO"] == []
    resources = page.execute_script("return performance.getEntriesByType('resource').map(r => r.name)")
    assert [name for name in resources if not name.startswith("data:")] == []
    broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.execute_script("return document.images.length") > 10
    assert page.execute_script(broken) == 0
    boxes = "[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect())"
    sizes = page.execute_script(f"return {boxes}.map(b => [b.width, b.height])")
    assert len(sizes) >= 8
    assert all(width > 150 and height > 80 for width, height in sizes)
    ids = page.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_tables_sort_by_mouse_and_by_keyboard(page):
    caption, title = "IoU of every class", "labeled pixels"
    before = column(page, caption, 2)
    values = sorted(map(float, before))
    button(page, caption, title).click()
    assert list(map(float, column(page, caption, 2))) == values[::-1]
    button(page, caption, title).send_keys(Keys.ENTER)
    assert list(map(float, column(page, caption, 2))) == values
    button(page, caption, "class").send_keys(Keys.SPACE)
    names = column(page, caption, 0)
    assert names == sorted(names)
    assert names != sorted(names, reverse=True)
    sorted_by = "return [...document.querySelectorAll('th[aria-sort]')].map(h => h.textContent.trim())"
    assert page.execute_script(sorted_by) == ["class"]


def test_everything_is_reached_by_keyboard(page):
    page.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(120):
        page.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(page.execute_script("const e = document.activeElement; return e.tagName + ' ' + e.className"))
    assert {"A skip", "BUTTON ", "SUMMARY ", "DIV scroll", "DIV pictures scroll"} <= reached


def test_fits_a_phone(page):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
        widths = page.execute_script(
            "return [...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().width)"
        )
        assert all(250 < width <= 360 for width in widths)
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_is_readable_in_light_and_dark(page, scheme):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    colors = page.execute_script(
        """const rgb = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
           const paper = rgb(getComputedStyle(document.body).backgroundColor);
           const inks = [document.body, document.querySelector('.caption'), document.querySelector('nav a'),
                         document.querySelector('.chart svg text')];
           return [paper, inks.map(e => rgb(getComputedStyle(e).fill === 'rgb(0, 0, 0)'
               ? getComputedStyle(e).color : getComputedStyle(e).fill))];"""
    )
    paper, inks = colors
    assert (luminance(paper) > 0.5) == (scheme == "light")
    for ink in inks:
        light, dark = sorted((luminance(paper), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, 1.4.3


def luminance(color):
    """Relative luminance of an sRGB colour, as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
