"""The page in a browser, as people have it, in front of the real command."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.languages import language_name
from edge.outputs.colours import colour_of
from edge.outputs.report.write import report
from edge.outputs.timeline import seconds_of, time_of
from edge.outputs.web.guard import POLICY
from tests.edge.outputs.test_colours import contrast
from tests.edge.outputs.web.conftest import Served, serving
from tests.edge.outputs.web.viewers import listening
from tests.waiting import wait_until

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver from apt"
    ),
]
SILENT_S = 5.0  # after which the page takes a connection for dead
# Notes when each language came to be on the page.
NOTE = """
window.noted = [];
const language = document.getElementById("language");
new MutationObserver(() => window.noted.push([Date.now(), language.textContent]))
    .observe(language, {childList: true, characterData: true, subtree: true});
"""


@contextlib.contextmanager
def chromium(width: int = 1200, height: int = 1180, **media: str) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    arguments = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    for argument in (*arguments, f"--window-size={width},{height}", "--lang=en"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.chrome.service.Service(DRIVER)
    with webdriver.Chrome(options=options, service=service) as browser:
        features = [{"name": name.replace("_", "-"), "value": to} for name, to in media.items()]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        yield browser


def text(browser: Any, name: str) -> str:
    return str(browser.execute_script(f"return document.getElementById({name!r}).innerText"))


def label(browser: Any, name: str) -> str:
    script = f"return document.getElementById({name!r}).getAttribute('aria-label')"
    return str(browser.execute_script(script))


def complaints(browser: Any) -> list[str]:
    found = browser.get_log("browser")
    return [entry["message"] for entry in found if entry["level"] in ("SEVERE", "WARNING")]


def hosts_asked(browser: Any) -> set[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    # What Chromium asks itself, as for its new tab, leaves nothing.
    web = [url for url in urls if not url.startswith(("chrome:", "data:", "about:"))]
    return {url.split("/")[2] for url in web}


def test_five_viewers_see_languages_change(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with (
        told.open("w") as stdout,
        listening(tmp_path, "--web", "0", "--json", minutes=1, stdout=stdout) as (_, port),
        chromium() as browser,
    ):
        windows = []
        for number in range(5):
            if number:
                browser.switch_to.new_window("window")
            browser.get(f"http://127.0.0.1:{port}/")
            browser.execute_script(NOTE)
            windows.append(browser.current_window_handle)
        opened_ms = 1000 * time.time()

        def changes() -> list[dict[str, Any]]:
            records = [json.loads(line) for line in told.read_text().splitlines(keepends=True)[:-1]]
            kept = [record for record in records if record["type"] == "change"]
            return [record for record in kept if 1000 * seconds_of(record["time"]) > opened_ms]

        wait_until(lambda: len(changes()) >= 3)
        time.sleep(1.0)
        delays_ms = []
        for window in windows:
            browser.switch_to.window(window)
            assert text(browser, "link") == "live"
            noted = browser.execute_script("return window.noted")
            for change in changes()[:3]:
                name, event_ms = (
                    language_name(change["language"]),
                    1000 * seconds_of(change["time"]),
                )
                shown = [at for at, what in noted if what.lower() == name.lower()]
                delays_ms.append(min(at - event_ms for at in shown if at >= event_ms - 2))
        print(f"a change of language is shown after {max(delays_ms):.0f} ms at the latest")
        assert max(delays_ms) < 5_000  # 500 on a machine that is not busy
        assert complaints(browser) == []
        assert hosts_asked(browser) == {f"127.0.0.1:{port}"}


# What a browser says of a server that was killed, of an answer that it was in the middle of, too.
CUT_OFF = (
    "ERR_CONNECTION_REFUSED",
    "ERR_INCOMPLETE_CHUNKED_ENCODING",
    "ERR_CONTENT_LENGTH_MISMATCH",
)


def test_the_timeline_survives_a_restart(tmp_path: Path) -> None:
    log = ("--log", str(tmp_path / "events.jsonl"))
    with contextlib.ExitStack() as stack:
        browser = stack.enter_context(chromium(390, 844, prefers_reduced_motion="reduce"))
        with listening(tmp_path, "--web", "0", *log, minutes=1) as (_, port):
            browser.get(f"http://127.0.0.1:{port}/")
            wait_until(lambda: "English" in label(browser, "timeline"))
            wait_until(lambda: "Spanish" in label(browser, "timeline"))
            assert complaints(browser) == []
        # Killed, without a chance to say anything.
        wait_until(lambda: text(browser, "link").startswith("not connected since"))
        with listening(tmp_path, "--web", str(port), *log, minutes=1):
            wait_until(lambda: text(browser, "link") == "live")
            # That of before is there, for who was there and for who was not.
            for _ in range(2):
                wait_until(lambda: "English" in label(browser, "timeline"))
                browser.refresh()
            wait_until(lambda: text(browser, "link") == "live")
        others = [line for line in complaints(browser) if not any(map(line.count, CUT_OFF))]
        assert others == []
        assert hosts_asked(browser) == {f"127.0.0.1:{port}"}


def test_what_a_screen_reader_and_a_phone_get(full: Served) -> None:
    with chromium(390, 844, prefers_color_scheme="dark") as browser:
        browser.get(f"http://127.0.0.1:{full.port}/")
        wait_until(lambda: text(browser, "language") == "English")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        script = "return getComputedStyle(document.body).backgroundColor"
        assert browser.execute_script(script) == "rgb(16, 19, 24)"
        wait_until(lambda: "English" in label(browser, "trend"))
        # Heard faster than it plays, the gap lies half a minute behind the beginning.
        wait_until(lambda: "not heard 0:03" in label(browser, "timeline"))
        nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        found = {(node["role"]["value"], node.get("name", {}).get("value")) for node in nodes}
        assert {("heading", "Language now"), ("heading", "Timeline"), ("status", "")} <= found
        assert {("button", "1 h"), ("rowheader", "German"), ("main", "")} <= found
        names = [name for role, name in found if role == "image"]
        assert len(names) == 4 and all(names)
        live = "return document.getElementById('language').getAttribute('aria-live')"
        assert browser.execute_script(live) == "polite"
        browser.find_element("css selector", "summary").click()
        wait_until(lambda: "not heard: device lost" in text(browser, "segments"))
        assert complaints(browser) == []


# Notes what is written on the canvases, and how faintly.
WRITTEN = """
window.written = [];
const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
  window.written.push([text, this.fillStyle, this.globalAlpha]);
  return fillText.call(this, text, ...more);
};
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_times_on_plots_can_be_read(full: Served, scheme: str) -> None:
    with chromium(prefers_color_scheme=scheme) as browser:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WRITTEN})
        browser.get(f"http://127.0.0.1:{full.port}/")
        wait_until(lambda: "English" in label(browser, "trend"))
        card = "getComputedStyle(document.documentElement).getPropertyValue('--card').trim()"
        card = browser.execute_script(f"return {card}")
        written = browser.execute_script("return window.written")
        times = [line for line in written if re.fullmatch(r"\d\d:\d\d(:\d\d)?", line[0])]
        assert times
        for _, colour, alpha in written:
            assert alpha == 1
            assert contrast(colour, card) >= 4.5


def test_colours_are_those_of_everything_else(full: Served) -> None:
    labels = ["de", "zh", "other", "nonspeech", "unknown", "pt-BR", "Klingon", "toString", "Größe"]
    script = """
    const [labels, done] = arguments;
    import("./colours.js").then((module) => done(labels.map(module.colourOf)));
    """
    with chromium() as browser:
        browser.get(f"http://127.0.0.1:{full.port}/")
        found = browser.execute_async_script(script, labels)
    assert found == [colour_of(label) for label in labels]


def test_a_report_fits_a_phone(tmp_path: Path) -> None:
    t0, records = seconds_of("2026-11-16T00:00:00.000+00:00"), []
    languages = ("de", "en", "unknown", "es", "nonspeech", "x" * 100)
    for number in range(200):
        segment = {"start_s": 1000 * number, "end_s": 1000 * number + 1000, "confidence": 0.9}
        told = {"language": languages[number % 6], "time": time_of(t0 + segment["end_s"])}
        records.append({"type": "segment", **segment, **told})
    (tmp_path / "events").write_text("".join(json.dumps(each) + "\n" for each in records))
    report([tmp_path / "events"], tmp_path / "report.html")
    for width in (320, 390, 1200):
        with chromium(width, 844) as browser:
            browser.get((tmp_path / "report.html").as_uri())
            scrolled = "return document.documentElement.scrollWidth"
            assert browser.execute_script(scrolled) <= width
            # No text is smaller than can be read, nor over another.
            boxes = browser.execute_script(
                "return [...document.querySelectorAll('.plot span')].filter((e) => e.offsetWidth)"
                ".map((e) => { const b = e.getBoundingClientRect();"
                " return [b.left, b.top, b.right, b.bottom, parseFloat(getComputedStyle(e)"
                ".fontSize)]; })"
            )
            assert all(box[4] >= 11 for box in boxes)
            for one, other in itertools.combinations(boxes, 2):
                apart = one[2] <= other[0] or other[2] <= one[0]
                assert apart or one[3] <= other[1] or other[3] <= one[1], (one, other)
            assert all(box[0] >= -1 and box[2] <= width + 1 for box in boxes)
            # Nor is a name broken that has not a hundred letters.
            lines = browser.execute_script(
                "return [...document.querySelectorAll('td:first-child')]"
                ".filter((e) => e.textContent.trim().length < 10).map((e) => {"
                " const r = document.createRange(); r.selectNodeContents(e);"
                " return r.getClientRects().length; })"
            )
            assert set(lines) == {1}


def test_the_token_opens_the_page(locked: Served, tmp_path: Path) -> None:
    with chromium() as browser:
        browser.get(f"http://127.0.0.1:{locked.port}/")
        wait_until(lambda: "Token needed" in text(browser, "locked"))
        browser.find_element("id", "token").send_keys((tmp_path / "token").read_text().strip())
        browser.find_element("css selector", "#unlock button").click()
        wait_until(lambda: text(browser, "link") == "live")
        assert "token" not in browser.current_url
        assert "edgelid" not in browser.execute_script("return document.cookie")
        assert POLICY in locked.ask("/").headers["content-security-policy"]


def test_a_page_that_a_restart_has_locked_says_so_for_good(tmp_path: Path) -> None:
    """It asks for the new token, and does not claim that anything is tried meanwhile."""
    for name in ("token", "another"):
        (tmp_path / name).write_text(f"{name * 8}\n")
    with contextlib.ExitStack() as stack:
        browser = stack.enter_context(chromium())
        with serving(web_token_file=str(tmp_path / "token")) as running:
            port = running.port
            browser.get(f"http://127.0.0.1:{port}/?token={'token' * 8}")
            wait_until(lambda: text(browser, "link") == "live")
        stack.enter_context(serving(web=str(port), web_token_file=str(tmp_path / "another")))
        wait_until(lambda: text(browser, "link") == "locked")
        until_s = time.monotonic() + SILENT_S + 3.0
        while time.monotonic() < until_s:
            assert text(browser, "link") == "locked"
            time.sleep(0.2)
