/** Everything that the views show, computed from the settings. */

import { METHOD_CHOICES, short } from "./choices.js";
import {
  damping,
  edge,
  kernelOf,
  kernelSummary,
  kernelWeights,
  noiseFloor,
  optimum,
  radius,
  rate,
  roots,
} from "./formulas.js";
import { METHODS } from "./methods.js";
import { SURFACES, eigen, gaussians, simulate } from "./runs.js";

/** @typedef {import("./choices.js").Settings} Settings */
/** @typedef {import("./formulas.js").Kernel} Kernel */
/** @typedef {import("./formulas.js").Root} Root */
/** @typedef {import("./runs.js").Run} Run */
/**
 * One eigenvector of the Hessian: its curvature, and the run along it.
 * @typedef {{curvature: number, factor: number, roots: Root[],
 *   damping: {kind: string, period: number, halfLife: number}, position: number[],
 *   velocity: number[]}} Direction
 * @typedef {{settings: Settings, coefficients: import("./methods.js").Coefficients,
 *   kernel: Kernel, run: Run, least: number, mu: number, L: number, directions: Direction[],
 *   rate: number, edge: number, floor: number, weights: number[],
 *   summary: {total: number, meanAge: number, gain: number}}} Model
 */

const SEED = 1;
const NOISE = gaussians(1000, SEED);
const MOST_LAGS = 80;

/** @type {(settings: Settings) => number[]} */
export function curvaturesOf({ surface, shape }) {
  return eigen(SURFACES[surface].hessian(shape)).values;
}

/**
 * What depends on the method and β only.
 * @typedef {Pick<Model, "coefficients" | "kernel" | "edge" | "weights" | "summary">} Facts
 * @type {{key: string, facts: Facts | null}}
 */
const last = { key: "", facts: null };

/** @type {(settings: Settings) => Facts} */
function factsOf({ method, beta, extra }) {
  const key = [method, beta, extra].join();
  if (last.facts && last.key === key) return last.facts;
  const coefficients = METHODS[method].coefficients(beta, extra);
  const kernel = kernelOf(coefficients);
  const facts = {
    coefficients,
    kernel,
    edge: edge(kernel),
    weights: kernelWeights(kernel, lagsOf(kernel)),
    summary: kernelSummary(kernel),
  };
  Object.assign(last, { key, facts });
  return facts;
}

/** @type {(settings: Settings) => Model} */
export function compute(settings) {
  const { surface, shape, alpha, noise, x, y, steps } = settings;
  const facts = factsOf(settings);
  const { coefficients, kernel } = facts;
  const { point, hessian, loss, isMinimum } = SURFACES[surface];
  const [px, py] = point(shape);
  const { values, vectors } = eigen(hessian(shape));
  const [μ, L] = values;
  const errors = noise > 0 ? NOISE.slice(0, 2 * steps).map((value) => noise * value) : null;
  const run = simulate(surface, shape, coefficients, alpha, [x, y], steps, errors);
  const directions = values.map((λ, i) => {
    const [qx, qy] = vectors[i];
    return {
      curvature: λ,
      factor: radius(kernel, alpha * λ),
      roots: roots(kernel, alpha * λ),
      damping: damping(kernel, alpha * λ),
      position: run.x.map((value, t) => (value - px) * qx + (run.y[t] - py) * qy),
      velocity: run.vx.map((value, t) => value * qx + run.vy[t] * qy),
    };
  });
  return {
    ...facts,
    settings,
    run,
    least: isMinimum ? loss(px, py, shape) : NaN,
    mu: μ,
    L,
    directions,
    rate: rate(kernel, alpha, μ, L),
    floor: isMinimum ? noiseFloor(kernel, alpha, values, noise ** 2) : NaN,
  };
}

/** As many lags as hold nearly all of a kernel. @type {(k: Kernel) => number} */
function lagsOf({ betas }) {
  const slowest = Math.max(0, ...betas);
  const lags = slowest > 0 ? Math.ceil(Math.log(0.02) / Math.log(slowest)) + 2 : 0;
  return Math.min(MOST_LAGS, Math.max(12, lags));
}

/** The distance of a run from the point that the theory is about. @type {(model: Model) => number[]} */
export function distances({ directions: [flat, steep] }) {
  return flat.position.map((value, t) => Math.hypot(value, steep.position[t]));
}

/** @type {(settings: Settings) => string} */
export function pythonCall({ method, alpha, beta, extra }) {
  const call = METHOD_CHOICES[method].call(short(beta, 12), short(extra, 12));
  return `momentax.sgd(${short(alpha, 12)}, ${call})`;
}

/** @type {Map<string, {alpha: number, beta: number, rate: number} | null>} */
const optima = new Map();

/**
 * The best α and β of the method on the surface, or null on a saddle. It is searched for once.
 * @type {(settings: Settings) => {alpha: number, beta: number, rate: number} | null}
 */
export function bestOf(settings) {
  const [μ, L] = curvaturesOf(settings);
  if (!(μ > 0)) return null;
  const key = [settings.method, settings.extra, L / μ].join();
  if (!optima.has(key)) optima.set(key, optimum(settings.method, settings.extra, 1, L / μ));
  const found = optima.get(key);
  return found ? { ...found, alpha: found.alpha / μ } : null;
}

/** @type {(settings: Settings) => boolean} */
export const isBestKnown = (settings) => {
  const [μ, L] = curvaturesOf(settings);
  return !(μ > 0) || optima.has([settings.method, settings.extra, L / μ].join());
};
