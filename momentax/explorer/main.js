/** The page: it keeps the settings, listens to the person, and draws each change once. */

import { MARGIN, forgetSizes, readColors } from "./charts.js";
import {
  METHOD_CHOICES,
  PRESETS,
  SURFACE_CHOICES,
  clamp,
  fromAddress,
  fromScale,
  rangesOf,
  surfaceSettings,
  toAddress,
  toScale,
} from "./choices.js";
import { addSlider, element, set, showValue, write } from "./controls.js";
import { METHODS } from "./methods.js";
import { drawMap, drawSurface, mapPoint, surfacePoint } from "./maps.js";
import { bestOf, compute, curvaturesOf, isBestKnown } from "./model.js";
import {
  summaryText,
  writeEquations,
  writeLabels,
  writeNotes,
  writeTiles,
  writeUpdate,
} from "./texts.js";
import { drawKernel, drawLoss, drawOscillation, drawPhase } from "./views.js";

/** @typedef {import("./choices.js").Settings} Settings */
/** @typedef {import("./controls.js").NumberName} NumberName */
/** @typedef {import("./controls.js").Slider} Slider */
/** @typedef {import("./model.js").Model} Model */

const STEPS_PER_SECOND = 30;
const QUIET = 180; // Milliseconds without a change, after which slower work begins.
const TAP = 10; // Pixels that a finger may move during a tap.

/** @type {{settings: Settings, at: number | null, playing: number, frame: number, quiet: number}} */
const page = { settings: fromAddress(location.hash), at: null, playing: 0, frame: 0, quiet: 0 };

/** @type {Record<string, Slider>} */
const sliders = {};
/** @type {HTMLButtonElement[]} */
const presetButtons = [];
const PRESET_ADDRESSES = PRESETS.map((preset) => toAddress(preset.settings()));

/** @type {(id: string) => HTMLCanvasElement} */
const canvas = (id) => /** @type {HTMLCanvasElement} */ (element(id));
/** @type {(id: string) => HTMLSelectElement} */
const select = (id) => /** @type {HTMLSelectElement} */ (element(id));

/** What takes the most time, by its element. @type {Record<string, (model: Model, at: number | null) => void>} */
const VIEWS = {
  path: (model, at) => drawSurface(canvas("path"), model, at),
  map: (model) => drawMap(canvas("map"), model, knownBest(model.settings)),
  loss: (model, at) => drawLoss(canvas("loss"), model, at),
  oscillation: (model, at) => drawOscillation(canvas("oscillation"), model, at),
  kernel: (model) => drawKernel(canvas("kernel"), model),
  phase: (model, at) => drawPhase(canvas("phase"), model, at),
  equations: writeEquations,
};
/** The views on the screen; the others follow when a person pauses or scrolls to them. */
const onScreen = new Set(Object.keys(VIEWS));

/** Draw before the next frame, once for all changes since the last. */
function schedule() {
  if (page.frame === 0) page.frame = requestAnimationFrame(() => render(onScreen));
}

/** @type {(changes: Partial<Settings>) => void} */
function change(changes) {
  Object.assign(page.settings, changes);
  page.at = null;
  stop();
  schedule();
  clearTimeout(page.quiet);
  page.quiet = window.setTimeout(finish, QUIET);
}

/**
 * Do what may wait until a person pauses: the address, the search for the best, what only a screen
 * reader says.
 */
function finish() {
  history.replaceState(null, "", toAddress(page.settings));
  bestOf(page.settings);
  const model = compute(page.settings);
  write("status", summaryText(model));
  writeLabels(model);
  render(Object.keys(VIEWS));
}

/** @type {(settings: Settings) => ReturnType<typeof bestOf>} */
const knownBest = (settings) => (isBestKnown(settings) ? bestOf(settings) : null);

/** Draw some views, and write all numbers. @type {(names: Iterable<string>) => void} */
function render(names) {
  if (page.frame) cancelAnimationFrame(page.frame);
  page.frame = 0;
  const { settings, at } = page;
  const model = compute(settings);
  const best = knownBest(settings);
  showSettings();
  for (const name of names) VIEWS[name](model, at);
  writeTiles(model, best, isBestKnown(settings));
  writeNotes(model);
  writeUpdate(model);
  set(element("best"), { disabled: best === null });
}

/** Show the settings on the sliders, the lists and the presets. */
function showSettings() {
  const { settings } = page;
  const ranges = rangesOf(settings);
  const { extra, usesBeta } = METHODS[settings.method];
  const { meaning, formula } = SURFACE_CHOICES[settings.surface];
  set(sliders.extra.row, { hidden: extra === null });
  for (const each of [sliders.beta.range, sliders.beta.field]) set(each, { disabled: !usesBeta });
  write(sliders.extra.label, METHOD_CHOICES[settings.method].symbol);
  write(sliders.shape.label, meaning);
  write("formula", formula);
  set(select("method"), { value: settings.method });
  set(select("surface"), { value: settings.surface });
  for (const [name, slider] of Object.entries(sliders)) {
    showValue(slider, settings[/** @type {NumberName} */ (name)], ranges[name]);
  }
  const address = toAddress(settings);
  let text = "Your own settings. Choose a step of the story to go back to it.";
  presetButtons.forEach((button, i) => {
    const isShown = PRESET_ADDRESSES[i] === address;
    set(button, { ariaPressed: String(isShown) });
    if (isShown) text = PRESETS[i].text;
  });
  write("story", text);
}

/* Playing a run step by step. */

function stop() {
  if (page.playing) cancelAnimationFrame(page.playing);
  page.playing = 0;
  write("play", "Play");
}

function play() {
  if (page.playing) {
    stop();
    return;
  }
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    // Without motion, each press shows the next tenth of the run.
    const { steps } = page.settings;
    const next = (page.at ?? 0) + Math.ceil(steps / 10);
    page.at = next > steps ? null : next;
    schedule();
    return;
  }
  const begin = performance.now();
  const tick = (/** @type {number} */ now) => {
    const at = Math.floor(((now - begin) / 1000) * STEPS_PER_SECOND);
    page.at = at < page.settings.steps ? Math.max(at, 0) : null;
    if (page.at === null) stop();
    else page.playing = requestAnimationFrame(tick);
    schedule();
  };
  page.playing = requestAnimationFrame(tick);
  write("play", "Stop");
}

/* What a person does. */

/** @type {(surface: string) => void} */
function chooseSurface(surface) {
  const [, before] = curvaturesOf(page.settings);
  const next = { ...page.settings, ...surfaceSettings(surface) };
  // The same share of the stability edge, which lies at a fixed α L.
  next.alpha = (page.settings.alpha * before) / curvaturesOf(next)[1];
  next.alpha = clamp(Number(next.alpha.toPrecision(4)), rangesOf(next).alpha);
  change(next);
}

/** @type {(method: string) => void} */
function chooseMethod(method) {
  const { extra, leastBeta } = METHODS[method];
  const beta = Math.max(page.settings.beta, leastBeta);
  change({ method, beta, extra: extra?.initial ?? 0 });
}

function goToBest() {
  const best = bestOf(page.settings);
  if (!best) return;
  const ranges = rangesOf(page.settings);
  const beta = METHODS[page.settings.method].usesBeta
    ? clamp(best.beta, ranges.beta)
    : page.settings.beta;
  change({ alpha: clamp(best.alpha, ranges.alpha), beta });
}

async function share() {
  history.replaceState(null, "", toAddress(page.settings));
  try {
    await navigator.clipboard.writeText(location.href);
    write("status", "The link to this view is copied.");
  } catch {
    write("status", "The address bar has the link to this view.");
  }
}

/** @type {(changes: Partial<Record<NumberName, number>>) => void} */
function changeNumbers(changes) {
  const ranges = rangesOf(page.settings);
  const clamped = Object.entries(changes).map(([name, value]) => [
    name,
    clamp(value, ranges[name]),
  ]);
  change(Object.fromEntries(clamped));
}

/**
 * Call a function with the place of the pointer while it is down.
 *
 * A finger that moves up or down scrolls the page and must change nothing. Its place therefore
 * counts from the moment on at which it has moved sideways, or at the end of a tap.
 * @type {(id: string, move: (at: number[]) => void) => void}
 */
function onDrag(id, move) {
  const target = canvas(id);
  /** @type {number[] | null} */
  let undecided = null; // Where a finger went down.
  const at = (/** @type {PointerEvent} */ event) => {
    const box = target.getBoundingClientRect();
    move([event.clientX - box.left, event.clientY - box.top]);
  };
  target.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    target.setPointerCapture(event.pointerId);
    undecided = event.pointerType === "mouse" ? null : [event.clientX, event.clientY];
    if (!undecided) at(event);
  });
  target.addEventListener("pointermove", (event) => {
    if (!target.hasPointerCapture(event.pointerId)) return;
    if (undecided) {
      const [x, y] = undecided;
      const across = Math.abs(event.clientX - x);
      if (across < TAP || across < Math.abs(event.clientY - y)) return;
      undecided = null;
    }
    at(event);
  });
  target.addEventListener("pointerup", (event) => {
    if (!undecided || !event.isPrimary) return;
    const [x, y] = undecided;
    if (Math.hypot(event.clientX - x, event.clientY - y) < TAP) at(event);
    undecided = null;
  });
  target.addEventListener("pointercancel", () => (undecided = null));
}

/** Move along two settings with the arrow keys. @type {(id: string, across: NumberName, up: NumberName) => void} */
function onArrows(id, across, up) {
  canvas(id).addEventListener("keydown", (event) => {
    const places = {
      ArrowLeft: [across, -1],
      ArrowRight: [across, 1],
      ArrowDown: [up, -1],
      ArrowUp: [up, 1],
    };
    const found = places[/** @type {keyof typeof places} */ (event.key)];
    if (!found || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const [name, sign] = /** @type {[NumberName, number]} */ (found);
    if (name === "beta" && !METHODS[page.settings.method].usesBeta) return;
    const range = rangesOf(page.settings)[name];
    const [low, high] = [toScale(range.low, range), toScale(range.high, range)];
    const place =
      toScale(page.settings[name], range) + (sign * (high - low)) / (event.shiftKey ? 20 : 100);
    changeNumbers({ [name]: fromScale(place, range) });
  });
}

/** Show the step under the pointer on all views. @type {(id: string) => void} */
function onHover(id) {
  const target = canvas(id);
  target.addEventListener("pointermove", (event) => {
    const box = target.getBoundingClientRect();
    const { left, right } = MARGIN;
    const share = (event.clientX - box.left - left) / (box.width - left - right);
    page.at = Math.round(Math.min(Math.max(share, 0), 1) * page.settings.steps);
    stop();
    schedule();
  });
  target.addEventListener("pointerleave", () => {
    page.at = null;
    schedule();
  });
}

/** @type {(id: string, choices: Record<string, {label: string}>, choose: (name: string) => void) => void} */
function fillSelect(id, choices, choose) {
  for (const [value, { label }] of Object.entries(choices)) {
    select(id).append(new Option(label, value));
  }
  select(id).addEventListener("change", () => choose(select(id).value));
}

function build() {
  /** @type {[string, NumberName, string][]} */
  const rows = [
    ["rates", "alpha", "Learning rate α"],
    ["rates", "beta", "Velocity kept β"],
    ["method-sliders", "extra", ""],
    ["surface-sliders", "shape", ""],
    ["surface-sliders", "noise", "Gradient noise σ"],
    ["surface-sliders", "steps", "Steps"],
    ["surface-sliders", "x", "Start x"],
    ["surface-sliders", "y", "Start y"],
  ];
  for (const [group, name, text] of rows) {
    sliders[name] = addSlider(group, name, text, change, () => page.settings);
  }
  PRESETS.forEach((preset, i) => {
    const button = document.createElement("button");
    button.type = "button";
    const number = document.createElement("span");
    Object.assign(number, { className: "number", textContent: String(i + 1) });
    button.append(number, preset.title);
    button.addEventListener("click", () => change(preset.settings()));
    presetButtons.push(button);
    element("presets").append(button);
  });
  fillSelect("method", METHOD_CHOICES, chooseMethod);
  fillSelect("surface", SURFACE_CHOICES, chooseSurface);
  element("play").addEventListener("click", play);
  element("best").addEventListener("click", goToBest);
  element("share").addEventListener("click", share);
  onDrag("path", (at) => {
    const [x, y] = surfacePoint(canvas("path"), page.settings.surface, at);
    changeNumbers({ x: Number(x.toFixed(3)), y: Number(y.toFixed(3)) });
  });
  onDrag("map", (at) => {
    const [, L] = curvaturesOf(page.settings);
    const [α, β] = mapPoint(canvas("map"), page.settings, L, at);
    const changes = { alpha: Number(α.toPrecision(4)), beta: 1 - Number((1 - β).toPrecision(4)) };
    changeNumbers(METHODS[page.settings.method].usesBeta ? changes : { alpha: changes.alpha });
  });
  onArrows("path", "x", "y");
  onArrows("map", "alpha", "beta");
  onHover("loss");
  onHover("oscillation");
}

build();
readColors();
if (matchMedia("(max-width: 720px)").matches) element("more").removeAttribute("open");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColors();
  schedule();
});
new ResizeObserver(() => {
  forgetSizes();
  schedule();
}).observe(element("path"));
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) onScreen.add(target.id);
    else onScreen.delete(target.id);
  }
  schedule();
});
for (const name of Object.keys(VIEWS)) watcher.observe(element(name));
window.addEventListener("hashchange", () => change(fromAddress(location.hash)));
finish();
