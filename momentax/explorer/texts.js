/** The numbers in words and equations: the tiles, the notes on the cards, the equations. */

import { powerLabel, withMinus } from "./charts.js";
import { METHOD_CHOICES, SURFACE_CHOICES, short } from "./choices.js";
import { element, set, write, writeHtml } from "./controls.js";
import { halfLife } from "./formulas.js";
import { METHODS } from "./methods.js";
import { pythonCall } from "./model.js";
import { measureOf } from "./views.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./model.js").Direction} Direction */
/** @typedef {{alpha: number, beta: number, rate: number}} Optimum */

/** A number to four digits, as a person reads it. @type {(value: number, digits?: number) => string} */
export function readable(value, digits = 4) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "none";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e5)) {
    const [factor, exponent] = value.toExponential(2).split("e");
    return `${withMinus(String(Number(factor)))} × ${powerLabel(10 ** Number(exponent))}`;
  }
  return withMinus(short(value, digits));
}

/** @type {(count: number) => string} */
const inSteps = (count) => (Number.isFinite(count) ? `${readable(count, 3)} steps` : "never");

/** Show the four numbers above the cards. @type {(model: Model, best: Optimum | null, isKnown: boolean) => void} */
export function writeTiles(model, best, isKnown) {
  const { rate, edge, L, floor, settings } = model;
  const isSaddle = !(model.mu > 0);
  write("rate", rate.toFixed(4));
  const halves = halfLife(rate);
  const note = Number.isFinite(halves)
    ? `half in ${inSteps(halves)}`
    : `grows × 2 in ${inSteps(Math.log(2) / Math.log(rate))}`;
  write("rate-note", note);
  const isUnstable = settings.alpha * L >= edge;
  element("rate").classList.toggle("unstable", isUnstable);
  write("edge", Number.isFinite(edge) ? `α < ${readable(edge / L)}` : "none");
  const share = (100 * settings.alpha * L) / edge;
  write(
    "edge-note",
    isUnstable ? "α lies beyond it: unstable" : `α is at ${readable(share, 3)} % of it`,
  );
  element("edge-note").classList.toggle("unstable", isUnstable);
  write("best-rate", best ? best.rate.toFixed(4) : isKnown ? "none" : "…");
  const place = best && `at α = ${readable(best.alpha)}, β = ${readable(best.beta)}`;
  write("best-note", place ?? (isSaddle ? "a saddle has none" : isKnown ? "" : "searching …"));
  write("floor", isSaddle || settings.noise === 0 ? "none" : readable(floor, 3));
  const why = settings.noise === 0 ? "there is no noise" : "mean loss of a long run";
  write(
    "floor-note",
    isSaddle ? "a saddle has none" : settings.noise > 0 && floor === Infinity ? "unstable" : why,
  );
}

/** @type {(direction: Direction) => string} */
function kindOf({ damping: { kind, period } }) {
  if (kind === "under") return `period ${readable(period, 3)}`;
  return kind === "over" ? "no oscillation" : "critical";
}

/** @type {(direction: Direction) => string} */
function decay({ damping: { halfLife: halves }, factor }) {
  if (factor > 1) return `× 2 in ${inSteps(Math.log(2) / Math.log(factor))}`;
  return `half in ${inSteps(halves)}`;
}

/** @type {(model: Model) => string} */
function endOf({ run: { x, y } }) {
  const last = x.length - 1;
  return `θ = (${readable(x[last], 3)}, ${readable(y[last], 3)}) after ${last} steps`;
}

/** Show the notes beside the titles of the cards. @type {(model: Model) => void} */
export function writeNotes(model) {
  const { run, settings, directions, summary } = model;
  write("path-note", run.diverged ? `left all bounds at step ${run.x.length}` : endOf(model));
  write("path-key", SURFACE_CHOICES[settings.surface].at.replace(/^the /, ""));
  write(
    "map-note",
    `α = ${readable(settings.alpha)}, β = ${readable(settings.beta)}; bright is fast, hatched ${model.mu > 0 ? "is unstable" : "blows up along L"}`,
  );
  const { values } = measureOf(model);
  write("loss-title", Number.isNaN(model.least) ? "Distance from the saddle" : "Loss");
  write("loss-note", `${readable(values[0], 3)} → ${readable(values[values.length - 1], 3)}`);
  const hasCurves = model.coefficients.betas.length === 1;
  set(element("flat-key"), { hidden: !hasCurves || !(model.mu > 0) });
  set(element("steep-key"), { hidden: !hasCurves });
  set(element("best-key"), { hidden: !(model.mu > 0) });
  set(element("noise-key"), { hidden: !(model.floor > 0 && Number.isFinite(model.floor)) });
  const [flat, steep] = directions;
  write("oscillation-note", `flat: ${kindOf(flat)}; steep: ${kindOf(steep)}`);
  write(
    "kernel-note",
    `sum ${readable(summary.total, 3)}, mean age ${readable(summary.meanAge, 3)} steps`,
  );
  write("phase-note", `flat: ${decay(flat)}; steep: ${decay(steep)}`);
}

/** Describe the views, for those who do not see them. @type {(model: Model) => void} */
export function writeLabels(model) {
  const { settings, directions, summary } = model;
  const { values, name } = measureOf(model);
  const [flat, steep] = directions;
  label(
    "path",
    `Path on the surface ${settings.surface.replace("_", " ")}. ${endOf(model)}. Arrow keys move the start.`,
  );
  label(
    "map",
    `Rate at every α and β. Here it is ${model.rate.toFixed(4)}. Arrow keys change α and β.`,
  );
  label(
    "loss",
    `The ${name} goes from ${readable(values[0], 3)} to ${readable(values[values.length - 1], 3)}.`,
  );
  label(
    "oscillation",
    `Along the flat direction: ${kindOf(flat)}, ${decay(flat)}. Along the steep one: ${kindOf(steep)}, ${decay(steep)}.`,
  );
  label(
    "kernel",
    `Weights of past gradients: sum ${readable(summary.total, 3)}, mean age ${readable(summary.meanAge, 3)} steps.`,
  );
  label("phase", "Velocity against position along both eigenvectors.");
}

/** @type {(id: string, text: string) => void} */
const label = (id, text) => set(element(id), { ariaLabel: text });

/** @type {(factor: number, name: string) => string} */
function term(factor, name) {
  if (factor === 0) return "";
  const number = factor === 1 ? "" : `<b>${readable(Math.abs(factor))}</b> `;
  return `${factor < 0 ? " − " : " + "}${number}<i>${name}</i>`;
}

/** Join terms with their signs. @type {(terms: string[]) => string} */
function joined(terms) {
  const text = terms.join("");
  return text.startsWith(" + ") ? text.slice(3) : text.replace(/^ − /, "−") || "0";
}

/** @type {(model: Model) => string} */
function updateEquations({ coefficients: { a, betas, gains, weights }, settings }) {
  const many = betas.length > 1;
  const name = (/** @type {number} */ i) => (many ? `v<sub>${i + 1}</sub>` : "v");
  const lines = betas.map((β, i) =>
    many && β === 0
      ? `<i>${name(i)}</i> ← ${joined([term(gains[i], "g")])}`
      : `<i>${name(i)}</i> ← <b class="beta">${readable(β)}</b> <i>${name(i)}</i>${term(gains[i], "g")}`,
  );
  const terms = [term(a, "g"), ...weights.map((weight, i) => term(weight, name(i)))].filter(
    Boolean,
  );
  const isMean = a === 0 && many && weights.every((weight) => weight === weights[0]);
  const mean = `· <b>${readable(weights[0])}</b> (${betas.map((_, i) => `<i>${name(i)}</i>`).join(" + ")})`;
  const direction = isMean
    ? mean
    : terms.length > 1 || terms[0]?.startsWith(" −")
      ? `(${joined(terms)})`
      : joined(terms);
  lines.push(`<i>θ</i> ← <i>θ</i> − <b class="alpha">${readable(settings.alpha)}</b> ${direction}`);
  return lines.map((each) => `<div>${each}</div>`).join("");
}

/** @type {(direction: Direction) => string} */
function rootsText({ roots }) {
  const [first, second] = roots;
  const digits = (/** @type {number} */ value) => withMinus(value.toFixed(4));
  if (second && Math.hypot(first.re - second.re, first.im - second.im) < 1e-4) {
    return `${digits(first.re)}, twice${roots.length > 2 ? ", …" : ""}`;
  }
  if (first.im !== 0) {
    return `${digits(first.re)} ± ${digits(Math.abs(first.im))} i${roots.length > 2 ? ", …" : ""}`;
  }
  return second
    ? `${digits(first.re)}, ${second.im === 0 ? digits(second.re) : "…"}`
    : digits(first.re);
}

/** @type {(model: Model) => string} */
function directionTable({ directions, settings }) {
  /** @type {[string, (direction: Direction) => string][]} */
  const rows = [
    ["curvature λ", ({ curvature }) => readable(curvature)],
    ["α λ", ({ curvature }) => readable(settings.alpha * curvature)],
    ["roots z", rootsText],
    ["factor |z| per step", ({ factor }) => factor.toFixed(4)],
    ["motion", kindOf],
    ["error", decay],
  ];
  const cells = rows.map(
    ([name, text]) =>
      `<tr><th scope="row">${name}</th>${directions.map((each) => `<td>${text(each)}</td>`).join("")}</tr>`,
  );
  const head = `<th scope="col" class="flat-text">flat, μ</th><th scope="col" class="steep-text">steep, L</th>`;
  return `<table><thead><tr><td></td>${head}</tr></thead><tbody>${cells.join("")}</tbody></table>`;
}

/** The kernel as a formula of the lag k. @type {(model: Model) => string} */
function kernelEquation({ kernel: { a, betas, c } }) {
  const terms = betas.map((β, i) => {
    const power = `<b class="beta">${readable(β)}</b><sup><i>k</i></sup>`;
    return term(c[i], "").replace("<i></i>", c[i] === 1 ? power : `· ${power}`);
  });
  const first = term(a, "").replace("<i></i>", a === 1 ? "[<i>k</i> = 0]" : "· [<i>k</i> = 0]");
  return `<div><i>h<sub>k</sub></i> = ${joined([first, ...terms])}</div>`;
}

const CHARACTERISTIC =
  "<div>(<i>z</i> − 1) + α λ <i>H</i>(<i>z</i>) = 0, &nbsp; <i>H</i>(<i>z</i>) = Σ <i>h<sub>k</sub> z</i><sup>−<i>k</i></sup></div>";

/** Show one step with the current numbers, and its rate. @type {(model: Model) => void} */
export function writeUpdate(model) {
  writeHtml("update", `${updateEquations(model)}<div>ρ = <b>${model.rate.toFixed(4)}</b></div>`);
}

/** Show the equations of the theory with the current numbers. @type {(model: Model) => void} */
export function writeEquations(model) {
  const { settings, rate, edge, mu: μ, L, summary } = model;
  const sum = Number.isFinite(edge) ? `α λ &lt; <b>${readable(edge)}</b>` : "every α λ";
  const effective = settings.alpha * summary.total;
  const left = [
    kernelEquation(model),
    CHARACTERISTIC,
    `<div>ρ = max |<i>z</i>| over λ in [${readable(μ)}, ${readable(L)}] = <b>${rate.toFixed(4)}</b></div>`,
    `<div>stable for ${sum}</div>`,
    `<div>α Σ <i>h<sub>k</sub></i> = <b>${readable(effective)}</b>, the effective learning rate</div>`,
  ].join("");
  const html = `<div class="columns"><div class="equation">${left}</div><div>${directionTable(model)}</div></div>`;
  writeHtml("equations", html);
  const from = METHODS[settings.method].usesBeta ? "import momentax" : "import momentax, optax";
  write(
    "python",
    `${from}\ntx = ${pythonCall(settings)}\nmomentax.theory.rate(tx, ${short(μ, 12)}, ${short(L, 12)})  # ${rate.toFixed(4)}`,
  );
}

/** Say in one sentence where the run stands, for those who do not see the views. @type {(model: Model) => string} */
export function summaryText({ settings, rate, edge, L, mu: μ }) {
  const name = METHOD_CHOICES[settings.method].label;
  const isUnstable = settings.alpha * L >= edge;
  const state = isUnstable ? "unstable" : μ > 0 ? "stable" : "leaving the saddle";
  return `${name}: rate ${rate.toFixed(4)} per step, ${state}.`;
}
