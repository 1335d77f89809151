"""The page of a report in a real browser: what it draws, what its controls do, and that it asks nobody for anything."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from scripts.reports.found import find
from scripts.reports.groups import groups
from scripts.reports.page import as_html
from tests.scripts.reports_of_digits import TOP1, kept, of_seed, study, write

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NOTHING_BUT_THE_PAGE = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
STRANGE = "<b>bold</b> </script>"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study, a run with a strange name and a file that is no result."""
    folder = tmp_path_factory.mktemp("page")
    study(folder / "study")
    matplotlib.image.imsave(folder / "study" / "resnet20_lccl-seed1" / "gate_maps.png", np.zeros((40, 60)))
    write(folder / "other", of_seed(kept("sic"), 1, 50.0, data="other", command=STRANGE, model=STRANGE.strip("/>")[:6]))
    (folder / "half.json").write_text(f'{{"{STRANGE}')
    found = find([folder])
    path = folder / "report.html"
    path.write_text(as_html(groups(found), found))
    return path


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*NOTHING_BUT_THE_PAGE, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        driver.get("about:blank")
        driver.get_log("performance")  # what the browser itself loads when it starts
        resize(driver, 1280, "light")
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()


def resize(driver: webdriver.Chrome, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def drawn(driver: webdriver.Chrome, plot: str) -> dict[str, Any]:
    """What Plotly was given for the first group's plot of that class, after what it made of it."""
    script = f"const plot = document.querySelector('.{plot}'); return {{traces: plot.data, layout: plot.layout}}"
    return driver.execute_script(script)


def xs(driver: webdriver.Chrome) -> list[float]:
    """The costs of the points that are drawn, each once."""
    return sorted({x for trace in drawn(driver, "accuracy")["traces"] for x in trace["x"]})


def names(driver: webdriver.Chrome) -> list[str]:
    """The names of the rows that are seen in the first group's table, from its top."""
    return [body["name"] for body in seen(driver, "#group1 tbody[data-name]")]


def seen(driver: webdriver.Chrome, selector: str) -> list[dict[str, str]]:
    """The text and the data-name of each such element that is displayed."""
    script = """return [...document.querySelectorAll(arguments[0])].filter((part) => part.checkVisibility())
        .map((part) => ({text: part.innerText, name: part.dataset.name}))"""
    return driver.execute_script(script, selector)


def find_one(driver: webdriver.Chrome, selector: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, selector)


def test_the_plot_has_every_network_with_its_bars(browser: webdriver.Chrome) -> None:
    traces = drawn(browser, "accuracy")["traces"]
    points = {name[0]: (y, bar) for trace in traces if trace.get("error_y") for name, y, bar in _points(trace)}
    for layer, accuracies in TOP1.items():
        name = "resnet20" if layer == "conv" else f"resnet20_{layer}"
        assert points[name] == (pytest.approx(np.mean(accuracies)), pytest.approx(np.std(accuracies, ddof=1)))
    assert len(browser.find_elements(By.CSS_SELECTOR, "#group1 .accuracy .scatterlayer .point")) == 5  # one is ringed
    assert browser.execute_script("return document.querySelectorAll('#group1 .gates .heatmaplayer image').length") == 1
    assert [len(trace["x"]) for trace in drawn(browser, "curves")["traces"]] == [3, 3, 3, 3]


def _points(trace: dict[str, Any]) -> Iterator[tuple[list[str], float, float]]:
    return zip(trace["customdata"], trace["y"], trace["error_y"]["array"], strict=True)


def test_another_cost_is_another_axis(browser: webdriver.Chrome) -> None:
    records = {layer: kept(layer) for layer in TOP1}
    axis = Select(find_one(browser, "#group1 .axis"))
    assert "closed gates skipped" in drawn(browser, "accuracy")["layout"]["xaxis"]["title"]["text"]
    assert xs(browser) == pytest.approx(sorted(r["macs_effective"] or r["macs"] for r in records.values()))
    axis.select_by_value("params")
    assert drawn(browser, "accuracy")["layout"]["xaxis"]["title"]["text"] == "parameters"
    assert xs(browser) == sorted(record["params"] for record in records.values())
    axis.select_by_value("eager_ms")
    assert "measured time" in drawn(browser, "accuracy")["layout"]["xaxis"]["title"]["text"]
    assert xs(browser) == pytest.approx(sorted(r["macs"] / 1e7 for layer, r in records.items() if layer != "ghost"))
    assert "1 of 4 networks have no such number" in find_one(browser, "#group1 .missing").text
    assert [option.get_attribute("value") for option in axis.options][-1] == "eager_ms"  # none was measured deployed
    find_one(browser, "#group1 .log").click()
    assert drawn(browser, "accuracy")["layout"]["xaxis"]["type"] == "linear"
    find_one(browser, "#group1 .log").click()
    assert drawn(browser, "accuracy")["layout"]["xaxis"]["type"] == "log"
    axis.select_by_value("macs_needed")


def test_the_table_is_sorted_by_its_headings(browser: webdriver.Chrome) -> None:
    def press(title: str) -> list[str]:
        button = f"//*[@id='group1']//th/button[.='{title}']"
        browser.find_element(By.XPATH, button).click()
        return names(browser)

    by_top1 = ["resnet20_sic", "resnet20_ghost", "resnet20_lccl", "resnet20"]
    assert press("test top-1, %") == by_top1
    assert press("test top-1, %") == by_top1[::-1]
    assert press("parameters") == ["resnet20_sic", "resnet20_ghost", "resnet20", "resnet20_lccl"]
    assert press("ms an image")[-1] == "resnet20_ghost"  # which has none
    assert press("ms an image")[-1] == "resnet20_ghost"
    heading = find_one(browser, "#group1 th[aria-sort]")
    assert (heading.text.partition("\n")[0], heading.get_attribute("aria-sort")) == ("ms an image", "descending")


def test_the_filter_is_for_the_table_and_the_plots(browser: webdriver.Chrome) -> None:
    box = find_one(browser, "#group1 input[type=search]")
    box.send_keys("LCCL")
    assert names(browser) == ["resnet20_lccl"]
    assert xs(browser) == pytest.approx([kept("lccl")["macs_effective"]])
    assert find_one(browser, "#group1 .shown").text == "1 of 4 networks"
    assert find_one(browser, "#group1 figure img").is_displayed()
    box.clear()
    box.send_keys("ghost")
    assert not find_one(browser, "#group1 figure img").is_displayed()
    box.send_keys("nothing has this name")
    assert names(browser) == xs(browser) == []
    box.send_keys(Keys.CONTROL, "a", Keys.BACKSPACE)
    assert len(names(browser)) == len(xs(browser)) == 4


def test_a_name_shows_the_commands_and_commits_of_its_runs(browser: webdriver.Chrome) -> None:
    body = find_one(browser, "#group1 tbody[data-name=resnet20_sic]")
    assert "python train.py" not in body.text
    body.find_element(By.CSS_SELECTOR, ".more").click()
    for seed in (1, 2, 3):
        assert f"python train.py model/layer=sic seed={seed}" in body.text
    assert body.text.count(f"commit {kept('sic')['git_sha']}; a CPU") == 3
    body.find_element(By.CSS_SELECTOR, ".more").click()
    assert "python train.py" not in body.text


def test_what_was_left_out_is_on_the_page_and_strange_words_are_only_words(browser: webdriver.Chrome) -> None:
    left_out = find_one(browser, "#left-out")
    assert "half.json: broken or half-written" in left_out.text
    find_one(browser, "#group2 summary").click()
    browser.execute_script("document.querySelector('#group2 .more').click()")
    assert STRANGE in find_one(browser, "#group2 tbody").text
    assert not browser.find_elements(By.CSS_SELECTOR, "#group2 tbody b")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#group2 .accuracy .scatterlayer .point")) == 1


def test_published_figures_are_filtered_by_words(browser: webdriver.Chrome) -> None:
    find_one(browser, "#published > summary").click()
    find_one(browser, "#published input").send_keys("MobileNet not run")
    rows = seen(browser, "#published tbody tr")
    assert 0 < len(rows) < 100
    assert all("not run" in row["text"] for row in rows)
    assert find_one(browser, "#published .shown").text == f"{len(rows)} rows"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_the_window_in_light_and_dark(browser: webdriver.Chrome, width: int, scheme: str) -> None:
    resize(browser, width, scheme)
    fits = f"return document.documentElement.scrollWidth <= {width}"
    WebDriverWait(browser, 5, 0.1).until(lambda driver: driver.execute_script(fits))
    assert _is_dark(browser) == (scheme == "dark")
    assert _contrast(browser) > 7  # WCAG 2, AAA
    find_one(browser, "#theme").click()
    assert _is_dark(browser) != (scheme == "dark")
    assert _contrast(browser) > 7
    font = drawn(browser, "accuracy")["layout"]["font"]["color"]
    assert font == browser.execute_script("return color('text')")
    browser.execute_script("delete document.documentElement.dataset.theme")


def test_through_all_of_this_it_asked_nobody_for_anything_and_nothing_failed(
    browser: webdriver.Chrome, page: Path
) -> None:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in asked
    assert [url for url in asked if url != page.as_uri() and not url.startswith("data:")] == []
    assert browser.get_log("browser") == []


def _luminances(browser: webdriver.Chrome) -> tuple[float, float]:
    """Of the page and of its text, as WCAG 2 defines them."""
    style = "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
    found = []
    for text in browser.execute_script(style):
        values = np.array([int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(",")]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        found.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return found[0], found[1]


def _is_dark(browser: webdriver.Chrome) -> bool:
    page, text = _luminances(browser)
    return page < text


def _contrast(browser: webdriver.Chrome) -> float:
    low, high = sorted(_luminances(browser))
    return (high + 0.05) / (low + 0.05)
