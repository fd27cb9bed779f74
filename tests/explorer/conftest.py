"""The browser that the tests of the explorer share, and the page in it."""

import shutil

import pytest

import momentax
from tests.explorer.browser import WIDE, Page


@pytest.fixture(scope="module")
def driver():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    service = shutil.which("chromedriver")
    assert browser, "chromium is not installed"
    assert service, "chromedriver is not installed; Debian's package is chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(service))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, tmp_path):
    """The page as it opens at a common width, in light colours and with motion."""
    path = tmp_path / "explore.html"
    path.write_text(momentax.explorer.page(), encoding="utf-8")
    page = Page(driver, path.as_uri())
    page.resize(*WIDE)
    page.prefer()
    page.load()
    yield page
    assert page.messages() == []
