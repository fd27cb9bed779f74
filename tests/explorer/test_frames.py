"""What a frame costs while a slider of the explorer moves, in headless Chromium."""

import pytest

pytestmark = pytest.mark.browser
METHODS = ["heavy_ball", "aggregated"]
SETTINGS = "#method={}&extra=3&beta=0.95&steps=500&noise=0.5"

# Counts, while the slider of α moves for some frames, what a browser has to do for them.
WORK = """
const [frames, done] = [arguments[0], arguments[arguments.length - 1]];
window.setTimeout = () => 0;  // The page must not find, meanwhile, that the slider rests.
const slider = document.getElementById('alpha');
const found = {drawn: {}, elements: 0, reach: 0};
const observer = new MutationObserver((records) => {
  for (const {addedNodes, removedNodes} of records)
    found.elements += addedNodes.length + removedNodes.length;
});
observer.observe(document.body, {childList: true, subtree: true});
const canvasPrototype = CanvasRenderingContext2D.prototype;
for (const [prototype, name] of [
  [canvasPrototype, 'fillRect'], [canvasPrototype, 'drawImage'],
  [Path2D.prototype, 'lineTo'], [Path2D.prototype, 'moveTo'],
]) {
  const real = prototype[name];
  prototype[name] = function (...given) {
    if (prototype === Path2D.prototype) found.reach = Math.max(found.reach, ...given.map(Math.abs));
    // What covers a canvas begins a new picture of it.
    else if (given.at(-2) === this.canvas.width || this.canvas.id === '')
      found.drawn[this.canvas.id] = (found.drawn[this.canvas.id] ?? 0) + 1;
    return real.apply(this, given);
  };
}
let count = 0;
const frame = () => {
  if (++count > frames) {
    requestAnimationFrame(() => { observer.disconnect(); done(found); });
    return;
  }
  for (const more of [0, 1, 2]) {
    slider.value = String(150 + more + 10 * count);
    slider.dispatchEvent(new Event('input'));
  }
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_frame_draws_what_is_on_the_screen_once_and_nothing_else(page, method):
    page.load(SETTINGS.format(method))
    before = page.metrics()["LayoutCount"]
    frames = 12
    found = page.driver.execute_async_script(WORK, frames)
    # Three moves of the slider are one picture, and the grounds of the maps stay as they are.
    assert found["drawn"] == dict.fromkeys(("path", "map", "loss", "oscillation"), frames)
    assert found["elements"] == 0  # Only texts change.
    assert found["reach"] < 700  # Lines end at the edge of their chart, also where α is unstable.
    assert page.metrics()["LayoutCount"] - before <= frames + 3


FRAMES = """
const done = arguments[arguments.length - 1];
const slider = document.getElementById('alpha');
const [times, work] = [[], []];
let count = 0;
const frame = (now) => {
  times.push(now);
  if (++count > 120) {
    work.sort((a, b) => a - b);
    done({mean: 1000 * (times.length - 1) / (times.at(-1) - times[0]),
          least: work[0], work: work[60]});
    return;
  }
  slider.value = String(150 + Math.round(40 * Math.sin(count / 10)));
  slider.dispatchEvent(new Event('input'));
  requestAnimationFrame(frame);
  // Runs after the callbacks of the next frame, those that draw included.
  requestAnimationFrame((at) => work.push(performance.now() - at));
};
requestAnimationFrame(frame);
"""


@pytest.mark.parametrize("method", METHODS)
def test_frames_at_500_steps_are_measured(page, method, capsys):
    page.driver.set_script_timeout(120)
    page.load(SETTINGS.format(method))
    before = page.metrics()["TaskDuration"]
    measured = page.driver.execute_async_script(FRAMES)
    used = 1000 * (page.metrics()["TaskDuration"] - before) / 120
    with capsys.disabled():
        print(
            f"\n{method}: {measured['mean']:.1f} frames/s at 500 steps while α moves; a frame "
            f"takes {used:.1f} ms of processor time, and until its scripts end "
            f"{measured['least']:.1f} ms (least) and {measured['work']:.1f} ms (median)"
        )
    assert measured["mean"] > 0
