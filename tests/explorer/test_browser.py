"""The explorer in headless Chromium, as a person uses it: `pytest -m browser`."""

import json
import re
import time
from pathlib import Path

import numpy as np
import optax
import pytest

import momentax
from tests.explorer.browser import CANVASES, NARROW, WIDE

pytestmark = pytest.mark.browser

CONTROLS = {"alpha", "beta", "method", "surface", "shape", "noise", "steps", "x", "y"}
BUTTONS = {"play", "best", "share"}


def test_loads_without_a_message_and_without_a_request(page):
    assert page.messages() == []
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert page.text("rate") == "0.8182"
    assert all(len(picture) > 3000 for picture in page.pictures())


def test_a_slider_moves_the_path_and_all_that_depends_on_it(page):
    before, note = page.pictures(), page.text("path-note")
    page.slide("alpha", 0.3)
    assert page.text("path-note") != note
    changed = [old != new for old, new in zip(before, page.pictures(), strict=True)]
    assert changed == [name != "kernel" for name in CANVASES]  # α is no part of the kernel.
    before = page.pictures()
    page.slide("beta", 0.8)
    assert all(old != new for old, new in zip(before, page.pictures(), strict=True))


ADDRESSES = [
    "",
    "#alpha=0.0095&beta=0",
    "#alpha=0.03&beta=0.5",
    "#method=nesterov&surface=rosenbrock&alpha=0.0009&beta=0.93",
    "#method=quasi_hyperbolic&extra=0.7&beta=0.95&alpha=0.02&shape=30",
    "#method=average&beta=0.9&alpha=0.05",
    "#method=overshoot&beta=0.9&extra=3&alpha=0.001",
    "#method=synthesized_nesterov&beta=0.8&extra=0.4&alpha=0.006",
    "#method=mass&beta=0.9&extra=0.1&alpha=0.006",
    "#method=aggregated&extra=3&beta=0.99&alpha=0.01",
    "#method=aggregated_averages&extra=0.6&beta=0.98&alpha=0.02",
    "#method=gradient_descent&alpha=0.004",
    "#surface=saddle&shape=0.3&alpha=0.2&beta=0.9",
]


def test_the_displayed_numbers_are_those_of_the_theory(page):
    for address in ADDRESSES:
        page.load(address)
        python = page.text("python")
        scope = {"momentax": momentax, "optax": optax}
        exec(python, scope)
        mu, L = map(float, re.search(r"rate\(tx, (\S+), (\S+)\)", python).groups())
        rate = momentax.theory.rate(scope["tx"], mu, L)
        assert page.text("rate") == f"{rate:.4f}", address
        limit = momentax.theory.sharpness_limit(scope["tx"])
        alpha = float(page.settings()["alpha"])
        shown = float(page.text("edge").removeprefix("α < "))
        np.testing.assert_allclose(shown, alpha * limit / L, rtol=1e-3)


def test_the_noise_floor_is_that_of_the_theory(page):
    page.load("#alpha=0.005&beta=0.9&noise=2")
    tx = momentax.sgd(0.005, momentax.heavy_ball(0.9))
    floor = float(momentax.theory.noise_floor(tx, [2.0, 200.0], 4.0))
    assert page.text("floor") == f"{floor:.3g}"


def test_the_story_has_six_steps_and_each_shows_what_it_says(page):
    shown = {}
    for i in range(6):
        page.run(f"document.querySelectorAll('#presets button')[{i}].click()")
        page.settle()
        pressed = "return [...document.querySelectorAll('#presets button')].map(b => b.ariaPressed)"
        assert page.run(pressed) == ["true" if i == j else "false" for j in range(6)]
        shown[i] = float(page.text("rate"))
    κ = 100.0
    assert shown[0] == pytest.approx(1 - 2 * 0.0095, abs=5e-5)
    assert shown[1] == pytest.approx(momentax.theory.heavy_ball_rate(κ), abs=5e-5)
    assert shown[2] == pytest.approx(0.97**0.5, abs=5e-5)
    assert 1 < shown[3] < 1.1
    assert shown[4] == pytest.approx(momentax.theory.nesterov_rate(κ), abs=5e-5)
    assert float(page.text("floor")) > 0


def test_the_address_keeps_the_state_and_restores_it(page):
    page.load("#method=aggregated&extra=4&surface=double_well&shape=0.4&beta=0.9&steps=77&x=-1.3")
    page.slide("alpha", 0.62)
    settings, pictures = page.settings(), page.pictures()
    assert (settings["method"], settings["extra"]) == ("aggregated", "4")
    assert (settings["shape"], settings["steps"], settings["x"]) == ("0.4", "77", "-1.3")
    page.load("#" + "&".join(f"{name}={value}" for name, value in settings.items()))
    assert page.settings() == settings
    assert page.pictures() == pictures
    page.run("location.hash = '#method=nesterov&beta=0.5'")
    page.settle()
    assert page.run("return document.getElementById('method').value") == "nesterov"


def test_a_damaged_address_takes_the_initial_values(page):
    initial = page.settings()
    page.load("#method=toString&surface=%3Cb%3E&alpha=nan&beta=7&steps=1e9&x=&noise=-3&shape=abc")
    settings = page.settings()
    assert settings["beta"] == "0.995"
    assert (settings["steps"], settings["noise"]) == ("500", "0")
    kept = initial.keys() - {"beta", "steps", "noise"}
    assert {name: settings[name] for name in kept} == {name: initial[name] for name in kept}


def test_the_map_and_the_start_can_be_dragged(page):
    page.drag("map", (0.3, 0.3), (0.4, 0.5))
    first = page.settings()
    page.drag("map", (0.4, 0.5), (0.6, 0.3))
    second = page.settings()
    assert float(second["alpha"]) > float(first["alpha"])
    assert float(second["beta"]) > float(first["beta"])
    page.drag("path", (0.5, 0.5), (0.75, 0.2))
    assert float(page.settings()["x"]) > 0.5
    assert float(page.settings()["y"]) > 0.5
    page.run("document.getElementById('best').click()")
    page.settle()
    assert page.text("rate") == "0.8182"


def test_the_keyboard_alone_suffices(page):
    from selenium.webdriver.common.keys import Keys

    reached = []
    page.run("document.activeElement.blur()")
    for _ in range(60):
        page.press(Keys.TAB)
        reached.append(page.focused())
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        assert reached[-1] == "BODY" or page.run(outline) != "none", reached[-1]
    fields = {f"{name}-field" for name in CONTROLS - {"method", "surface"}}
    assert CONTROLS | BUTTONS | fields | {"path", "map"} <= set(reached)
    for name, keys, setting in (
        ("alpha", [Keys.ARROW_RIGHT] * 9, "alpha"),
        ("beta", [Keys.ARROW_LEFT], "beta"),
        ("map", [Keys.ARROW_UP], "beta"),
        ("path", [Keys.ARROW_LEFT], "x"),
        ("method", ["N"], "method"),
        ("noise-field", [Keys.END, Keys.BACKSPACE, "1.5", Keys.ENTER], "noise"),
    ):
        before = page.settings()
        page.run("document.getElementById(arguments[0]).focus()", name)
        page.press(*keys)
        page.settle()
        assert page.settings()[setting] != before[setting], name
    assert page.settings()["noise"] == "1.5"
    page.run("document.querySelector('#presets button').focus()")
    page.press(Keys.ENTER)
    page.settle()
    assert page.text("rate") == "0.9810"


def test_every_control_has_a_label_and_every_picture_a_description(page):
    unlabelled = page.run(
        "return [...document.querySelectorAll('input, select, button, canvas')].filter(each =>"
        " !each.ariaLabel && !(each.labels && each.labels.length && each.labels[0].textContent)"
        " && !each.textContent.trim()).map(each => each.id)"
    )
    assert unlabelled in ([], ["extra"])  # Its label is empty while it is hidden.
    assert page.run("return document.getElementById('extra').checkVisibility()") is False
    assert page.run("return document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_all_text_is_legible(page, scheme, size):
    page.resize(*size)
    page.prefer(scheme)
    page.load("#alpha=0.03&noise=1")
    page.run("document.getElementById('more').open = true")
    found = page.run(CONTRASTS)
    assert len(found) > 60
    poor = [each for each in found if each["ratio"] < 4.5]
    assert not poor, json.dumps(poor, ensure_ascii=False, indent=1)
    drawn = page.run(DRAWN_CONTRASTS)
    assert min(drawn[name] for name in ("ink", "muted")) >= 4.5
    assert min(drawn.values()) >= 3, drawn
    assert page.picture("path") != page.picture("map")


# The contrast of each text on the page with the nearest background behind it.
CONTRASTS = """
const parse = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
const luminance = ([r, g, b]) => {
  const linear = [r, g, b].map((v) => v / 255).map((v) =>
    v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = parse(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const ratio = (a, b) => {
  const [high, low] = [luminance(a), luminance(b)].sort((u, v) => v - u);
  return (high + 0.05) / (low + 0.05);
};
"""
DRAWN_CONTRASTS = (
    CONTRASTS
    + """
const hex = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
const style = getComputedStyle(document.documentElement);
const color = (name) => hex(style.getPropertyValue('--' + name).trim());
const names = ['ink', 'muted', 'run', 'flat', 'steep', 'theory', 'noise'];
return Object.fromEntries(names.map((name) => [name, ratio(color(name), color('card'))]));
"""
)
CONTRASTS += """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim();
  const node = walker.currentNode.parentElement;
  if (!text || !node.checkVisibility() || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(node.tagName))
    continue;
  const style = getComputedStyle(node);
  let opacity = 1;
  for (let at = node; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
  const ground = behind(node);
  const color = parse(style.color).slice(0, 3)
    .map((v, i) => opacity * v + (1 - opacity) * ground[i]);
  found.push({text: text.slice(0, 40), ratio: ratio(color, ground), color: style.color});
}
for (const node of document.querySelectorAll('input[type=text], select')) {
  const ground = behind(node);
  found.push({text: node.id, ratio: ratio(parse(getComputedStyle(node).color), ground)});
}
return found;
"""


def test_a_width_of_380_pixels_works(page):
    page.resize(*NARROW)
    page.load("#method=aggregated&extra=4&beta=0.97&alpha=0.005")
    page.run("document.getElementById('more').open = true")
    page.settle()
    assert page.run("return document.documentElement.scrollWidth") <= NARROW[0]
    wide = page.run(
        "return [...document.querySelectorAll('body *')].filter(each => each.checkVisibility()"
        " && !each.closest('pre, .skip, .equation') && each.getBoundingClientRect().right > 380.5)"
        ".map(each => each.id || each.className || each.tagName)"
    )
    assert wide == []
    widths = page.run(
        "return arguments[0].map(id => document.getElementById(id).clientWidth)", CANVASES
    )
    assert min(widths) > 300
    before = page.picture("path")
    page.slide("alpha", 0.2)
    assert page.picture("path") != before
    # The two main sliders stay in view while a person scrolls to the pictures.
    page.run("document.getElementById('phase').scrollIntoView({block: 'end'})")
    top = page.run("return document.getElementById('alpha').getBoundingClientRect().top")
    assert 0 <= top < 100


@pytest.mark.parametrize("name", ["map", "path"])
def test_a_finger_scrolls_or_moves_the_setting_and_never_both(page, name):
    page.resize(*NARROW)
    page.load()
    page.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        before = page.settings()
        assert page.touch(name, (0.5, 0.8), (0.52, 0.1)) > 50
        assert page.touch(name, (0.5, 0.2), (0.48, 0.9)) < -50
        assert page.settings() == before
        assert page.touch(name, (0.4, 0.5)) == 0  # A tap.
        tapped = page.settings()
        assert tapped != before
        assert page.touch(name, (0.4, 0.5), (0.7, 0.3)) == 0  # Sideways.
        after = page.settings()
        across, up = ("alpha", "beta") if name == "map" else ("x", "y")
        assert float(after[across]) > float(tapped[across])
        assert float(after[up]) > float(tapped[up])
    finally:
        page.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_play_moves_unless_less_motion_is_preferred(page):
    page.run("document.getElementById('play').click()")
    assert page.text("play") == "Stop"
    first = page.picture("path")
    time.sleep(0.3)
    assert page.picture("path") != first
    page.prefer(motion="reduce")
    page.load()
    page.run("document.getElementById('play').click()")
    page.settle()
    first = page.picture("path")
    time.sleep(0.3)
    assert page.picture("path") == first
    assert page.text("play") == "Play"


def test_the_written_file_is_the_page(tmp_path):
    from momentax.__main__ import main

    main(["explore", "--output", str(tmp_path / "explore.html")])
    written = Path(tmp_path / "explore.html").read_text(encoding="utf-8")
    assert written == momentax.explorer.page()
