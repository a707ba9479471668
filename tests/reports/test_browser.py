"""The page in a real browser: what only a browser can tell."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reports
from reports.names import coefficient

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="needs Chromium and its driver: apt-get install chromium chromium-driver",
)

NAMES = ("kl-vae", "va-vae", "send-vae", "eq-vae", "<script>alert(1)</script>")


@pytest.fixture(scope="module")
def page(five: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on five tokenizers that has every section."""
    return reports.make_report([five], tmp_path_factory.mktemp("out"), formats=("html",))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def show(browser: Any, page: Path) -> Callable[..., Any]:
    """Open the page: show(width=1280, theme="light"); returns the browser."""

    def open_page(width: int = 1280, theme: str = "light") -> Any:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(page.as_uri())
        return browser

    return open_page


def test_nothing_goes_wrong_and_nothing_leaves_the_page(show: Callable, page: Path) -> None:
    driver = show()
    # Everything is pointed at and pressed before the logs are read.
    driver.execute_script(
        "document.querySelectorAll('details').forEach(d => { d.open = true; });"
        "document.querySelectorAll('[data-tip], .maps svg, .grids img').forEach(e => e.dispatchEvent("
        "new PointerEvent('pointermove', { bubbles: true, clientX: 300, clientY: 300 })));"
        "document.querySelectorAll('button, td[data-pair], input').forEach(e => e.click());"
    )
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert driver.execute_script("return document.title").startswith("quickstart")


def test_the_policy_lets_no_other_script_run_and_no_request_out(show: Callable) -> None:
    driver = show()
    driver.execute_script(
        "window.ran = false; const s = document.createElement('script'); s.textContent = 'window.ran = true';"
        "document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);"
    )
    assert driver.execute_script("return window.ran") is False
    refused = [entry["message"] for entry in driver.get_log("browser")]
    assert sum("Content Security Policy" in message for message in refused) == 2, refused


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window(show: Callable, width: int) -> None:
    driver = show(width)
    driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_table_sorts_by_the_heading_that_is_pressed(show: Callable) -> None:
    driver = show()
    column = (
        "return [...document.querySelectorAll('#leading-scores tbody tr')]"
        ".map(r => Number(r.cells[arguments[0]].dataset.sort))"
    )
    heads = driver.find_elements("css selector", "#leading-scores thead th")
    titles = [head.text.split("\N{NO-BREAK SPACE}")[0] for head in heads]
    place = next(i for i, title in enumerate(titles) if title.startswith("gFID to real"))
    before = driver.execute_script(column, place)
    press = heads[place].find_element("css selector", "button")
    driver.execute_script("arguments[0].click()", press)
    assert driver.execute_script(column, place) == sorted(before), "lower is better, so the lowest comes first"
    assert heads[place].get_attribute("aria-sort") == "ascending"
    driver.execute_script("arguments[0].click()", press)
    assert driver.execute_script(column, place) == sorted(before, reverse=True)
    names = driver.execute_script(
        "document.querySelector('#leading-scores thead button').click();"
        "return [...document.querySelectorAll('#leading-scores tbody th')].map(h => h.textContent)"
    )
    assert names == driver.execute_script("return arguments[0].sort((a, b) => a.localeCompare(b))", names)
    assert set(names) == set(NAMES)


def test_plots_are_drawn(show: Callable) -> None:
    driver = show()
    sizes = driver.execute_script(
        "return [...document.querySelectorAll('main > section svg, #answer svg')].filter(s => !s.closest('details'))"
        ".map(s => { const b = s.getBoundingClientRect(); return [s.getAttribute('aria-label'), b.width, b.height, "
        "s.querySelectorAll('path, circle, line').length]; })"
    )
    assert len(sizes) >= 12
    for label, width, height, parts in sizes:
        assert width > 200, label
        assert height > 100, label
        assert parts > 5, label
    first = driver.execute_script("return document.querySelector('#answer svg').getAttribute('aria-label')")
    assert first.startswith("Scatter plot of gFID to real images against Probe macro-F1")
    broken = "return [...document.images].filter(i => !i.naturalWidth && i.getAttribute('src')).length"
    assert driver.execute_script(broken) == 0


def test_a_cell_of_the_heat_map_draws_its_pair(show: Callable) -> None:
    driver = show()
    shown = (
        "return [document.querySelector('#explorer svg').getAttribute('aria-label'), "
        "document.querySelector('#explorer output').textContent]"
    )
    first = driver.execute_script(shown)
    assert first[0].startswith("gFID to real images")
    driver.execute_script("document.querySelector('td[data-pair=\"0,1\"]').click()")
    label, said = driver.execute_script(shown)
    assert label != first[0]
    assert "5 tokenizers" in label
    assert "n = 5, Pearson r" in said
    assert driver.execute_script("return document.querySelectorAll('#explorer svg circle').length") == len(NAMES)
    number = "return document.querySelector('td[data-pair=\"0,1\"]').textContent"
    pearson = driver.execute_script(number)
    driver.execute_script("document.querySelector('input[value=kendall]').click()")
    kendall = float(driver.execute_script("return document.querySelector('td[data-pair=\"0,1\"]').dataset.kendall"))
    assert driver.execute_script(number) == coefficient(kendall)
    assert pearson != driver.execute_script(number) or abs(kendall) == 1


def test_the_heat_map_takes_a_keyboard_and_can_be_read(show: Callable) -> None:
    driver = show()
    press = driver.find_element("css selector", "td[data-pair='0,1'] button")
    before = driver.execute_script("return document.querySelector('#explorer svg').getAttribute('aria-label')")
    driver.execute_script("arguments[0].focus()", press)
    assert "Pearson r" in driver.execute_script("return document.getElementById('tip').textContent")
    press.send_keys("\n")
    after = driver.execute_script("return document.querySelector('#explorer svg').getAttribute('aria-label')")
    assert before != after
    cells = (
        "return [...document.querySelectorAll('td[data-pair]')]"
        ".map(c => [c.dataset.pair, c.classList.contains('clear'), arguments[0] in c.dataset])"
    )
    for kind in ("pearson", "spearman", "kendall"):
        driver.execute_script(f"document.querySelector('input[value={kind}]').click()")
        pairs, bold, clear = zip(*driver.execute_script(cells, f"{kind}Clear"), strict=True)
        assert bold == clear
        assert min(_contrast(driver, f"td[data-pair='{pair}'] button") for pair in pairs) >= 4.5
    reached = "return [...document.querySelectorAll('td[data-tip]:not(:has(button))')].every(c => c.tabIndex === 0)"
    assert driver.execute_script(reached)


def test_pointing_says_what_a_thing_is(show: Callable) -> None:
    driver = show()
    tip = (
        "const e = document.querySelector(arguments[0]); const b = e.getBoundingClientRect();"
        "e.dispatchEvent(new PointerEvent('pointermove', { bubbles: true, clientX: b.left + 9, clientY: b.top + 9 }));"
        "const t = document.getElementById('tip'); return t.hidden ? null : t.textContent"
    )
    assert "Protocol" in driver.execute_script(tip, "#leading-scores td[data-tip]")
    point = driver.execute_script(tip, "#answer svg [data-token='4'][data-tip]")
    assert point.startswith(f"{NAMES[-1]}. Probe macro-F1"), "text, not markup"
    lens = driver.execute_script(tip, "#reconstructions img")
    assert lens.startswith("Originals")
    assert "send-vae" in lens
    dimmed = driver.execute_script(
        "document.querySelector('#answer svg [data-token=\"1\"]')"
        ".dispatchEvent(new PointerEvent('pointerover', {bubbles: true}));"
        "return [...document.querySelectorAll('#answer svg .faded')].map(e => e.dataset.token)"
    )
    assert sorted(set(dimmed)) == ["0", "2", "3", "4"]


def test_the_map_colours_by_the_attribute_chosen(show: Callable) -> None:
    driver = show()
    assert driver.execute_script("return document.querySelectorAll('.maps svg').length") == len(NAMES)
    has = "return document.querySelectorAll('.maps svg:first-of-type circle.has').length"
    assert driver.execute_script("return document.querySelector('.maps select').value") == "glasses"
    first = driver.execute_script(has)
    driver.execute_script(
        "const s = document.querySelector('.maps select'); s.value = 'hat'; s.dispatchEvent(new Event('change'))"
    )
    assert driver.execute_script(has) != first
    assert driver.execute_script("return document.querySelectorAll('.traversal .strips img').length") == 2 * len(NAMES)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_both_colours(show: Callable, theme: str) -> None:
    driver = show(theme=theme)
    assert _contrast(driver, "#answer .say") > 7
    for place in (".note", "#leading-scores .interval", ".figure figcaption"):
        assert _contrast(driver, place) > 4.5, (theme, place)
    # The button overrules the system.
    other = {"light": 2, "dark": 1}[theme]
    bright = _brightness(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    for _ in range(other):
        driver.execute_script("document.getElementById('theme').click()")
    turned = _brightness(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert (bright > 0.5) == (theme == "light")
    assert (turned > 0.5) != (theme == "light")


def test_on_paper_it_is_black_on_white_and_everything_is_open(show: Callable) -> None:
    driver = show(theme="dark")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert _brightness(driver.execute_script("return getComputedStyle(document.body).backgroundColor")) == 1
    assert driver.execute_script("return getComputedStyle(document.querySelector('nav')).display") == "none"
    printed = driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert len(printed["data"]) > 50_000
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def _rgb(colour: str) -> np.ndarray:
    return np.array([float(part) for part in colour[colour.index("(") + 1 : -1].replace(",", " ").split()[:3]]) / 255


def _brightness(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    channels = _rgb(colour)
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _contrast(driver: Any, selector: str) -> float:
    """Contrast of WCAG 2 of an element's text against the nearest background that is painted."""
    ink, paper = driver.execute_script(
        "let e = document.querySelector(arguments[0]); const ink = getComputedStyle(e).color;"
        "while (e && getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)') e = e.parentElement;"
        "return [ink, getComputedStyle(e || document.body).backgroundColor]",
        selector,
    )
    bright, dark = sorted((_brightness(ink), _brightness(paper)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
