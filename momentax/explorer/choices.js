/** What a person can choose: methods, surfaces, settings and the six steps of the story. */

import { optimum } from "./formulas.js";
import { METHODS } from "./methods.js";
import { SURFACES } from "./runs.js";

/**
 * @typedef {{method: string, surface: string, shape: number, alpha: number, beta: number,
 *   extra: number, noise: number, x: number, y: number, steps: number}} Settings
 * @typedef {{low: number, high: number, scale: "linear" | "log" | "momentum", step?: number}} Range
 * @typedef {{label: string, symbol: string, call: (beta: string, extra: string) => string}} MethodChoice
 * @typedef {{label: string, formula: string, meaning: string, shape: Range, view: number[],
 *   at: string}} SurfaceChoice
 * @typedef {{title: string, text: string, settings: () => Settings}} Preset
 */

/** @type {(low: number, high: number, scale: Range["scale"], step?: number) => Range} */
const range = (low, high, scale, step) => ({ low, high, scale, step });

/** @type {Record<string, MethodChoice>} */
export const METHOD_CHOICES = {
  gradient_descent: { label: "Gradient descent", symbol: "", call: () => "optax.identity()" },
  heavy_ball: { label: "Heavy ball", symbol: "", call: (β) => `momentax.heavy_ball(${β})` },
  nesterov: { label: "Nesterov", symbol: "", call: (β) => `momentax.nesterov(${β})` },
  average: {
    label: "Running average",
    symbol: "",
    call: (β) => `momentax.average(${β}, debias=False)`,
  },
  quasi_hyperbolic: {
    label: "Quasi-hyperbolic",
    symbol: "Average’s weight ν",
    call: (β, ν) => `momentax.quasi_hyperbolic(${β}, nu=${ν})`,
  },
  synthesized_nesterov: {
    label: "Synthesized Nesterov",
    symbol: "Look-ahead β2",
    call: (β, β2) => `momentax.synthesized_nesterov(${β}, ${β2})`,
  },
  overshoot: {
    label: "Overshoot",
    symbol: "Look-ahead γ",
    call: (β, γ) => `momentax.overshoot(${β}, gamma=${γ})`,
  },
  mass: {
    label: "MaSS",
    symbol: "Compensation c",
    call: (β, c) => `momentax.mass(${β}, compensation=${c})`,
  },
  aggregated: {
    label: "Aggregated velocities",
    symbol: "Velocities K",
    call: (β, number) => `momentax.aggregated((${aggregatedBetas(Number(β), Number(number))}))`,
  },
  aggregated_averages: {
    label: "Mixture of two averages",
    symbol: "Slow average’s weight w",
    call: (β, w) =>
      `momentax.aggregated((0.9, ${β}), (${short(1 - Number(w))}, ${w}), gain="average")`,
  },
};

/** @type {(beta: number, number: number) => string} */
function aggregatedBetas(β, number) {
  return METHODS.aggregated
    .coefficients(β, number)
    .betas.map((β) => short(β, 12))
    .join(", ");
}

/** A number as Python reads it, to so many digits. @type {(value: number, digits?: number) => string} */
export function short(value, digits = 6) {
  return String(Number(value.toPrecision(digits)));
}

const AROUND_ZERO = [-1.5, 1.5, -1.3, 1.3]; // The least and the largest x, then those of y.

/** @type {Record<string, SurfaceChoice>} */
export const SURFACE_CHOICES = {
  ravine: {
    label: "Ravine",
    formula: "f = κ x² + y²",
    meaning: "Condition number κ",
    shape: range(1, 1000, "log"),
    view: AROUND_ZERO,
    at: "the minimum",
  },
  saddle: {
    label: "Saddle",
    formula: "f = x²/2 − c y²/2",
    meaning: "Downward curvature c",
    shape: range(0.01, 2, "log"),
    view: AROUND_ZERO,
    at: "the saddle",
  },
  plateau: {
    label: "Plateau",
    formula: "f = s |x| − s²/2 + y²/2 beyond |x| = s, x²/2 + y²/2 within",
    meaning: "Slope of the plateau s",
    shape: range(0.005, 1, "log"),
    view: AROUND_ZERO,
    at: "the minimum",
  },
  rosenbrock: {
    label: "Rosenbrock",
    formula: "f = (1 − x)² + b (y − x²)²",
    meaning: "Wall steepness b",
    shape: range(1, 100, "log"),
    view: [-1.8, 1.8, -0.7, 2.2],
    at: "the minimum",
  },
  double_well: {
    label: "Double well",
    formula: "∂f/∂x = (x² − 1)(x − p), ∂f/∂y = y",
    meaning: "Place of the pass p",
    shape: range(0, 0.9, "linear"),
    view: [-2, 2, -1.3, 1.3],
    at: "the deeper well",
  },
};

export const LARGEST_BETA = 0.995;

/** The range of every number among the settings. @type {(settings: Settings) => Record<string, Range>} */
export function rangesOf({ method, surface }) {
  const { extra, leastBeta } = METHODS[method];
  const { shape, view } = SURFACE_CHOICES[surface];
  return {
    alpha: range(1e-4, 10, "log"),
    beta: range(leastBeta, LARGEST_BETA, "momentum"),
    shape,
    extra: range(extra?.low ?? 0, extra?.high ?? 0, "linear", extra?.integer ? 1 : undefined),
    noise: range(0, 5, "linear", 0.05),
    steps: range(10, 500, "linear", 1),
    x: range(view[0], view[1], "linear", 0.01),
    y: range(view[2], view[3], "linear", 0.01),
  };
}

/** @type {(value: number, range: Range) => number} */
export function toScale(value, { scale }) {
  if (scale === "log") return Math.log10(value);
  return scale === "momentum" ? -Math.log10(1 - value) : value;
}

/** @type {(position: number, range: Range) => number} */
export function fromScale(position, { scale }) {
  if (scale === "log") return 10 ** position;
  return scale === "momentum" ? 1 - 10 ** -position : position;
}

/** @type {(value: number, range: Range) => number} */
export function clamp(value, { low, high, step }) {
  const rounded = step === 1 ? Math.round(value) : value;
  return Math.min(high, Math.max(low, rounded));
}

/** @type {(surface: string) => Pick<Settings, "surface" | "shape" | "x" | "y">} */
export function surfaceSettings(surface) {
  const { initial, start } = SURFACES[surface];
  return { surface, shape: initial, x: start[0], y: start[1] };
}

/** @type {(changes: Partial<Settings>) => Settings} */
const onRavine = (changes) => ({
  method: "heavy_ball",
  ...surfaceSettings("ravine"),
  x: 0.4, // The error along the steep direction grows fivefold before it shrinks at the best α and β.
  alpha: 0.005,
  beta: 0.9,
  extra: 0,
  noise: 0,
  steps: 100,
  ...changes,
});

const BEST = optimum("heavy_ball", 0, 2, 200);

/** The story: each step is a view of the ravine with κ = 100. @type {Preset[]} */
export const PRESETS = [
  {
    title: "Too little β",
    text: "Without momentum the learning rate must stay below 2/L, or the steep direction blows up. The flat direction then keeps 98 % of its error at each step, so that the path soon reaches the valley and creeps along it.",
    settings: () => onRavine({ alpha: 0.0095, beta: 0 }),
  },
  {
    title: "Critical",
    text: "At α = 4/(√L + √μ)² and β = ((√κ − 1)/(√κ + 1))² the two modes of each direction meet: both directions are critically damped. No other α and β of heavy ball has a smaller rate, 0.818 per step where plain descent reaches 0.980.",
    settings: () => onRavine({ alpha: BEST.alpha, beta: BEST.beta }),
  },
  {
    title: "Oscillating",
    text: "With more β the velocity remembers for too long, and the path shoots past the minimum and comes back. Both directions now oscillate and shrink by √β per step, and in this region α changes only their periods.",
    settings: () => onRavine({ alpha: 0.002, beta: 0.97, steps: 200 }),
  },
  {
    title: "Unstable",
    text: "The stability edge of heavy ball is α L = 2 (1 + β), the thick line on the map. Just beyond it the steep direction grows at every step, while the flat one still converges.",
    settings: () => onRavine({ alpha: 0.0168, beta: BEST.beta, steps: 60, x: 0.1 }),
  },
  {
    title: "Nesterov",
    text: "Nesterov’s momentum takes each gradient where the velocity is about to lead, and at α = 1/L this removes the error along the steep direction in two steps. The price is a nearer edge, α L = 2 (1 + β)/(1 + 2 β), and on quadratics a larger rate than the best of heavy ball.",
    settings: () => onRavine({ method: "nesterov", alpha: 0.005, beta: 9 / 11 }),
  },
  {
    title: "Noise",
    text: "With noise in every gradient the loss stops falling at a floor, the dotted line. For small steps the floor is proportional to α/(1 − β): more β at the same α raises it, and only a smaller effective learning rate lowers it.",
    settings: () => onRavine({ alpha: 0.005, beta: 0.9, noise: 2, steps: 300 }),
  },
];

/* The address keeps the settings, as in #method=heavy_ball&alpha=0.01. */

/** @type {(settings: Settings) => string} */
export function toAddress(settings) {
  const entries = Object.entries(settings).map(([name, value]) => [
    name,
    typeof value === "number" ? short(value, 12) : value,
  ]);
  return `#${new URLSearchParams(entries)}`;
}

/** Read an address; what it lacks or has wrong takes the initial value. @type {(address: string) => Settings} */
export function fromAddress(address) {
  const given = new URLSearchParams(address.replace(/^#/, ""));
  const settings = PRESETS[1].settings();
  const method = given.get("method") ?? "";
  const surface = given.get("surface") ?? "";
  if (Object.hasOwn(METHODS, method)) settings.method = method;
  settings.extra = METHODS[settings.method].extra?.initial ?? 0;
  if (Object.hasOwn(SURFACES, surface)) Object.assign(settings, surfaceSettings(surface));
  for (const [name, range] of Object.entries(rangesOf(settings))) {
    const text = given.get(name) ?? "";
    const value = text.trim() === "" ? NaN : Number(text);
    const key = /** @type {"alpha"} */ (name);
    settings[key] = clamp(Number.isFinite(value) ? value : settings[key], range);
  }
  return settings;
}
