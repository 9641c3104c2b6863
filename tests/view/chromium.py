"""A real browser for tests: headless Chromium, driven through WebDriver. It asks nobody for anything."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

REQUIRED = "GRAIN_MOLMO_BROWSER"
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_PATIENCE_S = 20
DESKTOP, PHONE = (1280, 900), (390, 844)


class Browser:
    """What a test does with a page, and what it sees there."""

    def __init__(self, driver: webdriver.Chrome):
        self.driver = driver

    def open(self, path: Path, hash: str = "") -> None:
        """A document from its file; what was logged and asked for before is forgotten."""
        self.driver.get("about:blank")
        self.log()
        self.requests()
        self.driver.get(f"{path.as_uri()}{hash}")

    def open_page(self, path: Path, hash: str = "") -> None:
        """A page of `write_page`, until its cards are there."""
        self.open(path, hash)
        self.wait("return performance.getEntriesByName('cards').length")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: Any) -> Any:
        """What the script returns once that is true."""
        return WebDriverWait(self.driver, _PATIENCE_S, poll_frequency=0.02).until(
            lambda driver: driver.execute_script(script, *arguments), f"never true: {script}"
        )

    def press(self, *keys: str) -> None:
        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        element = self.driver.find_element(By.CSS_SELECTOR, selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def type(self, selector: str, text: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def size(self, size: tuple[int, int], *, is_phone: bool = False) -> None:
        """Of the window, CSS pixels; a phone has two of its own for each."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 2 if is_phone else 1, "mobile": is_phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, **features: str) -> None:
        """What the user's system prefers: `color_scheme="dark"`, `reduced_motion="reduce"`."""
        chosen = [{"name": f"prefers-{key.replace('_', '-')}", "value": value} for key, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": chosen})

    def pixels(self) -> np.ndarray:
        """[H, W, 3] uint8 of what the window shows, in the device's pixels."""
        return np.asarray(Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB"))

    def log(self) -> list[dict[str, Any]]:
        """What the console said since it was last asked: errors, warnings, what the page's policy forbade."""
        return self.driver.get_log("browser")

    def requests(self) -> tuple[list[str], list[str]]:
        """(addresses that were asked for, why some failed) since it was last asked."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
        failed = [str(one["params"]) for one in events if one["method"] == "Network.loadingFailed"]
        return asked, failed


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile; skips the test where there is none, unless one is required."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        problem = "needs chromium and chromedriver (Debian: chromium, chromium-driver)"
        if os.environ.get(REQUIRED) == "required":
            pytest.fail(problem)
        pytest.skip(problem)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={profile}", f"--window-size={DESKTOP[0]},{DESKTOP[1]}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
