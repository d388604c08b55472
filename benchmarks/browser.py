"""Opening of a page in headless Chromium, with the processor time that it takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

READY = """
    const done = arguments[0], look = () => {
      const timing = performance.getEntriesByType("navigation")[0];
      document.documentElement.dataset.viewer && timing.loadEventEnd
        ? done([performance.now(), timing.domContentLoadedEventEnd, timing.loadEventEnd]) : setTimeout(look, 5);
    };
    look();"""
"""Milliseconds until the script of the page is ready (at most 5 ms late), until the page can be used, and until it is loaded."""


def chromium() -> Any | None:
    """A headless browser; None without Chromium, chromedriver or Selenium."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return None
    if not (browser and driver):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    return chrome


def opening(page: Path, rounds: int = 3) -> dict[str, float]:
    """Seconds until a page is ready, can be used and is loaded, and processor time: medians of some rounds.

    Other work on the machine changes the first three, not the processor time of the process of the page.
    """
    chrome = chromium()
    if chrome is None:
        return {}
    names = ("seconds_ready", "seconds_usable", "seconds_loaded", "processor_seconds_in_browser")
    try:
        times = []
        for _ in range(rounds):
            chrome.get("about:blank")
            before = _processor_seconds(chrome)
            chrome.get(page.as_uri())
            times.append([*chrome.execute_async_script(READY), 1000 * (_processor_seconds(chrome) - before)])
        return dict(zip(names, (np.median(times, axis=0) / 1000).round(2).tolist(), strict=True))
    finally:
        chrome.quit()


def _processor_seconds(chrome: Any) -> float:
    metrics = chrome.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(float(one["value"]) for one in metrics if one["name"] == "ProcessTime")
