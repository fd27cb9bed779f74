"""The explorer in a browser: what its tests do with the page."""

import re
import time

CANVASES = ("path", "map", "loss", "oscillation", "kernel", "phase")
WIDE, NARROW = (1280, 900), (380, 800)


class Page:
    """The page in a browser, with short names for what the tests do."""

    def __init__(self, driver, url):
        self.driver, self.url = driver, url

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def load(self, address=""):
        """Open the page anew, and wait until it has done what may wait."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}{address}")
        self.settle()

    def settle(self):
        """Wait until the page has drawn and written its address."""
        self.driver.execute_async_script(
            "const done = arguments[0];"
            "setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 260);"
        )

    def resize(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme="light", motion="no-preference"):
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def text(self, name):
        return self.run("return document.getElementById(arguments[0]).textContent", name)

    def picture(self, name):
        return self.run("return document.getElementById(arguments[0]).toDataURL()", name)

    def pictures(self):
        return [self.picture(name) for name in CANVASES]

    def messages(self):
        """What the console holds since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def slide(self, name, share):
        """Move a slider to a share of its length."""
        self.run(
            "const slider = document.getElementById(arguments[0]);"
            "slider.value = String(Math.round(arguments[1] * Number(slider.max)));"
            "slider.dispatchEvent(new Event('input', {bubbles: true}));",
            *(name, share),
        )
        self.settle()

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self):
        return self.run(
            "const at = document.activeElement;"
            "return at === document.body ? 'BODY' : at.id || at.textContent.trim()"
        )

    def drag(self, name, start, end):
        """Press at a share of a canvas, move to another one, and release."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.by import By

        canvas = self.driver.find_element(By.ID, name)
        self.run("arguments[0].scrollIntoView({block: 'center'})", canvas)
        width, height = canvas.size["width"], canvas.size["height"]
        places = [(round((u - 0.5) * width), round((v - 0.5) * height)) for u, v in (start, end)]
        chain = ActionChains(self.driver).move_to_element_with_offset(canvas, *places[0])
        chain.click_and_hold().move_to_element_with_offset(canvas, *places[1]).release().perform()
        self.settle()

    def touch(self, name, start, end=None):
        """Touch a share of a canvas, move the finger to another one, and lift it after a rest.

        Returns how far the canvas went up on the screen.
        """
        target = self.driver.find_element("id", name)
        self.run("arguments[0].scrollIntoView({block: 'center'})", target)
        where = "return arguments[0].getBoundingClientRect().toJSON()"
        box = self.run(where, target)

        def at(u, v):
            return [{"x": box["x"] + u * box["width"], "y": box["y"] + v * box["height"]}]

        def send(kind, points):
            command = {"type": kind, "touchPoints": points}
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", command)

        send("touchStart", at(*start))
        for i in range(1, 11 if end else 1):
            send("touchMove", at(*(u + i / 10 * (v - u) for u, v in zip(start, end, strict=True))))
        time.sleep(0.2)  # A finger that is lifted while it moves lets the page scroll on.
        send("touchEnd", [])
        self.settle()
        return round(box["top"] - self.run(where, target)["top"])

    def metrics(self):
        """What the browser counts of the page, and the seconds that its main thread computed."""
        # Other programs do not slow this time, as they do the time on a clock.
        self.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        found = self.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return {each["name"]: each["value"] for each in found}

    def settings(self):
        """The settings in the address."""
        pairs = re.findall(r"([a-z]+)=([^&]+)", self.run("return location.hash"))
        return dict(pairs)
