"""Pages in headless Chromium; skipped without Chromium, chromedriver or Selenium."""

import shutil
import time

import pytest

REMEDY = "pip install 'cryovox[test]', and Debian's packages chromium and chromium-driver"


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    selenium = pytest.importorskip("selenium.webdriver", reason=f"no Selenium: {REMEDY}")
    binary, executable = (
        shutil.which("chromium") or shutil.which("google-chrome"),
        shutil.which("chromedriver"),
    )
    if not (binary and executable):
        pytest.skip(f"no browser: {REMEDY}")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(executable))
    driver.downloads = downloads
    yield driver
    driver.quit()


class Browser:
    """A page in a browser, with short names for what tests do to it."""

    def __init__(self, driver, page):
        self.driver, self.page, self.downloads = driver, page, driver.downloads
        for file in self.downloads.iterdir():
            file.unlink()
        driver.get(page.as_uri())
        driver.execute_script("localStorage.clear()")
        driver.get_log("browser")
        self.open()

    def open(self, width=1400, height=1000):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(self.page.as_uri())
        self.until(lambda: self.js("return document.documentElement.dataset.viewer") == "ready")

    def until(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 60, poll_frequency=0.05).until(lambda _: condition())

    def js(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def id(self, name):
        return self.driver.find_element("id", name)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def show(self, element):
        self.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)

    def click(self, name):
        self.show(self.id(name))
        self.id(name).click()

    def select(self, name, value):
        from selenium.webdriver.support.ui import Select

        Select(self.id(name)).select_by_value(value)

    def slide(self, name, value):
        self.js(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            self.id(name), value,
        )  # fmt: skip

    def keys(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self):
        """The id or the class of the element with the focus."""
        return self.js("const one = document.activeElement; return one.id || one.className || one.tagName")

    def download(self, name):
        """A file that the page has saved."""
        path = self.downloads / name
        self.until(lambda: path.exists() and path.stat().st_size > 0)
        time.sleep(0.1)
        return path

    def errors(self):
        return [line for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]

    def accessibility_problems(self):
        """What axe finds, with all details open."""
        axe = pytest.importorskip("axe_core_python.selenium", reason="axe-core-python is not installed")
        self.js("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        problems = axe.Axe().run(self.driver)["violations"]
        return [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in problems]


@pytest.fixture(scope="session")
def open_page(driver):
    """Open a page in the browser."""
    return lambda path: Browser(driver, path)
