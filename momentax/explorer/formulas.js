/**
 * The theory of the explorer: what a method does on quadratics.
 *
 * This file knows no page, so that any JavaScript engine can run it. The tests compare every
 * function with momentax.theory. The letters are those of the library: α learning rate, β share
 * of the velocity kept, λ curvature, μ and L the smallest and the largest curvature, ρ rate per
 * step, x = α λ.
 */

import { METHODS } from "./methods.js";
import { addScaled, evaluate, multiply, polynomialRoots, quotient } from "./polynomials.js";

/** @typedef {import("./methods.js").Coefficients} Coefficients */
/** @typedef {import("./methods.js").Method} Method */
/**
 * The kernel of a method, which is all that its theory needs: hₖ = a [k = 0] + Σ cᵢ βᵢᵏ.
 * @typedef {{a: number, betas: number[], c: number[]}} Kernel
 * @typedef {{re: number, im: number, size: number}} Root
 */

/** Join velocities of one β, and leave out those without an effect. @type {(m: Coefficients) => Kernel} */
export function kernelOf({ a, betas, gains, weights }) {
  const shares = new Map();
  betas.forEach((β, i) => {
    const c = weights[i] * gains[i];
    if (β === 0) a += c;
    else shares.set(β, (shares.get(β) ?? 0) + c);
  });
  const kept = [...shares].filter(([, c]) => c !== 0);
  return { a, betas: kept.map(([β]) => β), c: kept.map(([, c]) => c) };
}

/** @type {(values: number[]) => number} */
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** The weights hₖ of the last gradients in the direction. @type {(k: Kernel, lags: number) => number[]} */
export function kernelWeights({ a, betas, c }, lags) {
  return Array.from(
    { length: lags },
    (_, k) => (k === 0 ? a : 0) + sum(betas.map((β, i) => c[i] * β ** k)),
  );
}

/**
 * The sum of all weights, their mean age, and the gain in the signal-to-noise ratio.
 * @type {(k: Kernel) => {total: number, meanAge: number, gain: number}}
 */
export function kernelSummary({ a, betas, c }) {
  const total = a + sum(betas.map((β, i) => c[i] / (1 - β)));
  const aged = sum(betas.map((β, i) => (c[i] * β) / (1 - β) ** 2));
  const square =
    a * a +
    2 * a * sum(c) +
    sum(betas.map((β, i) => sum(betas.map((γ, j) => (c[i] * c[j]) / (1 - β * γ)))));
  return { total, meanAge: aged / total, gain: total ** 2 / square };
}

/* One curvature: the roots z of (z − 1) + x H(z) = 0, where H is the transform of the kernel. */

/** p and q of p(z) + x q(z) = 0, shifted to powers of z − shift. @type {(k: Kernel, shift: number) => number[][]} */
function characteristic({ a, betas, c }, shift) {
  const others = (/** @type {number} */ left) =>
    betas.reduce((p, β, j) => (j === left ? p : multiply(p, [shift - β, 1])), [1]);
  let q = others(-1).map((value) => a * value);
  betas.forEach((_, i) => (q = addScaled(q, multiply(others(i), [shift, 1]), c[i])));
  return [multiply(others(-1), [shift - 1, 1]), q];
}

/** The polynomials of each kernel. @type {WeakMap<Kernel, number[][]>} */
const known = new WeakMap();

/**
 * The values z − 1 of all roots z. A guess is replaced by them, for a point nearby.
 * @type {(k: Kernel, x: number, guess?: number[][]) => number[][]}
 */
function distancesToOne(kernel, x, guess) {
  const pair = known.get(kernel) ?? characteristic(kernel, 1);
  known.set(kernel, pair);
  const found = polynomialRoots(addScaled(pair[0], pair[1], x), guess);
  guess?.splice(0, guess.length, ...found);
  return found;
}

/** @type {(re: number, im: number) => Root} */
const asRoot = (re, im) => ({ re, im, size: Math.hypot(re, im) });

/**
 * The factors per step of an error along x = α λ, the largest first.
 *
 * They come from the distances of the roots to 1, so that a slow error, whose root is nearly 1,
 * keeps its digits.
 * @type {(k: Kernel, x: number) => Root[]}
 */
export function roots(kernel, x) {
  const { a, betas, c } = kernel;
  if (betas.length === 0) return [asRoot(1 - x * a, 0)];
  if (betas.length > 1) {
    const found = distancesToOne(kernel, x);
    return found.map(([re, im]) => asRoot(1 + re, im)).sort((u, v) => v.size - u.size);
  }
  const half = (1 - betas[0] + x * (a + c[0])) / 2;
  const product = x * (a * (1 - betas[0]) + c[0]);
  const square = half * half - product;
  if (square < 0) {
    const size = Math.sqrt(Math.abs(betas[0] * (1 - x * a)));
    const im = Math.sqrt(-square);
    return [
      { re: 1 - half, im, size },
      { re: 1 - half, im: -im, size },
    ];
  }
  const far = half + (half < 0 ? -1 : 1) * Math.sqrt(square);
  const near = far === 0 ? 0 : product / far;
  return [asRoot(1 - near, 0), asRoot(1 - far, 0)].sort((u, v) => v.size - u.size);
}

/** The spectral radius along x = α λ. @type {(k: Kernel, x: number, guess?: number[][]) => number} */
export function radius(kernel, x, guess) {
  const { a, betas, c } = kernel;
  // As in `roots`, but fast enough for every point of a map.
  if (betas.length === 0) return Math.abs(1 - x * a);
  if (betas.length > 1) {
    return distancesToOne(kernel, x, guess).reduce(
      (most, [re, im]) => Math.max(most, Math.hypot(1 + re, im)),
      0,
    );
  }
  const β = betas[0];
  const half = (1 - β + x * (a + c[0])) / 2;
  const product = x * (a * (1 - β) + c[0]);
  const square = half * half - product;
  if (square < 0) return Math.sqrt(Math.abs(β * (1 - x * a)));
  const far = half + (half < 0 ? -1 : 1) * Math.sqrt(square);
  return Math.max(Math.abs(1 - far), far === 0 ? 1 : Math.abs(1 - product / far));
}

/**
 * All x at which a root may lie on the circle |z| = r, ascending.
 * @type {(k: Kernel, r: number) => number[]}
 */
function crossings(kernel, r) {
  const [p, q] = characteristic(kernel, 0);
  const n = p.length - 1;
  // x = −p(z) / q(z) is real where p(z) q(r²/z) = p(r²/z) q(z); z = ±r always is such a point.
  let level = new Array(2 * n + 1).fill(0);
  p.forEach((u, i) =>
    q.forEach((v, j) => {
      level[n + i - j] += u * v * r ** (2 * j - n);
      level[n + j - i] -= u * v * r ** (2 * i - n);
    }),
  );
  const rest = new Array(2 * n - 1).fill(0); // level / (z² − r²)
  for (let i = 2 * n - 2; i >= 0; i--) rest[i] = level[i + 2] + r * r * (rest[i + 2] ?? 0);
  const angles = rest.some((value) => value !== 0)
    ? polynomialRoots(rest).map(([re, im]) => Math.atan2(im, re))
    : [];
  return [...angles, 0, Math.PI]
    .map((angle) => {
      const z = [r * Math.cos(angle), angle === Math.PI ? 0 : r * Math.sin(angle)];
      return -quotient(evaluate(p, z[0], z[1]), evaluate(q, z[0], z[1]))[0];
    })
    .filter(Number.isFinite)
    .sort((u, v) => u - v);
}

/** @type {(values: number[]) => number[]} */
const middles = (values) => values.slice(1).map((value, i) => (value + values[i]) / 2);

/**
 * The worst factor per step over the curvatures from μ to L.
 * @type {(k: Kernel, alpha: number, mu: number, L: number) => number}
 */
export function rate(kernel, α, μ, L) {
  const [low, high] = [α * μ, α * L];
  let best = Math.max(radius(kernel, low), radius(kernel, high));
  // With one velocity the worst curvature is an end. With more, the level ρ rises until no root
  // crosses the circle of this radius between the ends.
  for (let round = 0; kernel.betas.length > 1 && low < high && round < 60; round++) {
    const inner = crossings(kernel, best * (1 + 1e-13)).filter((x) => low < x && x < high);
    const higher = Math.max(...middles([low, ...inner, high]).map((x) => radius(kernel, x)));
    if (higher <= best * (1 + 1e-12)) return Math.max(best, higher);
    best = higher;
  }
  return best;
}

/** The largest α λ up to which a method is stable. @type {(k: Kernel) => number} */
export function edge(kernel) {
  const { a, betas, c } = kernel;
  if (!(kernelSummary(kernel).total > 0)) return 0;
  if (betas.length <= 1) {
    const [β, weight] = [betas[0] ?? 0, c[0] ?? 0];
    const [oscillating, spiralling] = [a * (1 + β) + weight, -a * β];
    const flip = oscillating > 0 ? (2 * (1 + β)) / oscillating : Infinity;
    return Math.min(flip, spiralling > 0 ? (1 - β) / spiralling : Infinity);
  }
  const found = crossings(kernel, 1).filter((x) => x > 1e-9);
  const distinct = found.filter((x, i) => i === 0 || x - found[i - 1] > 1e-9 * x);
  const between = [0, ...distinct, 2 * (distinct.at(-1) ?? 0.5)];
  const unstable = middles(between).findIndex((x) => radius(kernel, x) >= 1 - 1e-13);
  return unstable < 0 ? Infinity : between[unstable];
}

/**
 * The two x = α λ between which a method with one velocity oscillates, or none.
 * @type {(k: Kernel) => number[]}
 */
export function criticalProducts({ a, betas, c }) {
  if (betas.length !== 1) return [];
  const β = betas[0];
  const s = a + c[0];
  const half = (1 + β) * s - 2 * β * a;
  const root = Math.sqrt(half ** 2 - (s * (1 - β)) ** 2);
  const large = (half + root) / s ** 2;
  return large > 0 && Number.isFinite(large) ? [(1 - β) ** 2 / (half + root), large] : [];
}

/** Steps in which an error of factor ρ halves. @type {(rho: number) => number} */
export const halfLife = (ρ) => (ρ < 1 - 1e-14 ? Math.log(0.5) / Math.log(ρ) : Infinity);

/**
 * Whether the slowest mode along x = α λ oscillates, its period and its half-life, in steps.
 * @type {(k: Kernel, x: number) => {kind: string, period: number, halfLife: number}}
 */
export function damping(kernel, x) {
  const all = roots(kernel, x);
  const ρ = all[0].size;
  if (ρ < 1e-6) return { kind: "critical", period: Infinity, halfLife: 0 };
  const slowest = all.filter((root) => root.size >= ρ * (1 - 1e-6));
  const angle = Math.max(...slowest.map((root) => Math.abs(Math.atan2(root.im, root.re))));
  if (angle > 1e-6) return { kind: "under", period: (2 * Math.PI) / angle, halfLife: halfLife(ρ) };
  const kind = slowest.length > 1 ? "critical" : "over";
  return { kind, period: Infinity, halfLife: halfLife(ρ) };
}

/** @type {(A: number[][], B: number[][]) => number[][]} */
function matmul(A, B) {
  const product = A.map(() => new Array(B[0].length).fill(0));
  // Loops, since this runs a hundred times for a frame.
  for (let i = 0; i < A.length; i++) {
    for (let k = 0; k < B.length; k++) {
      for (let j = 0; j < B[0].length; j++) product[i][j] += A[i][k] * B[k][j];
    }
  }
  return product;
}
/** @type {(A: number[][]) => number[][]} */
const transpose = (A) => A[0].map((_, j) => A.map((row) => row[j]));
/** @type {(A: number[][], B: number[][]) => number[][]} */
const plus = (A, B) => A.map((row, i) => row.map((value, j) => value + B[i][j]));

/**
 * The variance that gradient noise of variance σ² sustains along a curvature λ.
 *
 * Σ = M Σ Mᵀ + σ² B Bᵀ is a sum whose number of terms doubles each time. The change M − 1 is
 * kept in place of M, so that slow modes keep their digits.
 * @type {(k: Kernel, alpha: number, lambda: number, variance: number) => number}
 */
export function stationaryVariance(kernel, α, λ, variance) {
  const { a, betas, c } = kernel;
  if (!(λ > 0) || radius(kernel, α * λ) >= 1 - 1e-13) return Infinity;
  if (variance === 0) return 0;
  const b = -α * (a + sum(c));
  const B = [b, ...betas.map(() => 1)];
  let change = [
    [b * λ, ...betas.map((β, i) => -α * c[i] * β)],
    ...betas.map((β, i) => [λ, ...betas.map((_, j) => (i === j ? β - 1 : 0))]),
  ];
  let Q = B.map((u) => B.map((v) => u * v));
  for (let round = 0; round < 64; round++) {
    const moved = matmul(change, Q);
    const both = plus(plus(Q, moved), transpose(moved));
    const added = plus(both, matmul(moved, transpose(change)));
    Q = plus(Q, added);
    change = plus(plus(change, change), matmul(change, change));
    if (added.every((row, i) => Math.abs(row[i]) <= 1e-15 * Math.abs(Q[i][i]))) break;
  }
  return variance * Q[0][0];
}

/**
 * The loss above the minimum at which gradient noise holds a quadratic.
 * @type {(k: Kernel, alpha: number, curvatures: number[], variance: number) => number}
 */
export function noiseFloor(kernel, α, curvatures, variance) {
  const along = curvatures.filter((λ) => λ > 0);
  return sum(along.map((λ) => λ * stationaryVariance(kernel, α, λ, variance))) / 2;
}

/**
 * The rates at learning rates on a log scale, one row of a map: exact with one velocity, and to
 * the width of a cell with several.
 * @type {(k: Kernel, alphas: number[], mu: number, L: number) => number[]}
 */
export function ratesAlong(kernel, alphas, μ, L) {
  if (kernel.betas.length <= 1) {
    return alphas.map((α) => Math.max(radius(kernel, α * μ), radius(kernel, α * L)));
  }
  /** @type {(lambda: number) => number[]} */
  const along = (λ) => {
    /** @type {number[][]} */
    const guess = []; // The roots at one learning rate are near those at the next.
    return alphas.map((α) => radius(kernel, α * λ, guess));
  };
  const [low, high] = [along(μ), along(L)];
  const spacing = Math.log(alphas[1] / alphas[0]);
  // The curvatures between μ and L, as far as they are those of an end at a smaller α.
  const reach = μ > 0 ? Math.floor(Math.log(L / μ) / spacing) : alphas.length;
  return alphas.map((_, i) => {
    let worst = Math.max(low[i], high[i]);
    for (let j = Math.max(0, i - reach); j < i; j++) worst = Math.max(worst, high[j]);
    for (let j = i; μ > 0 && j < Math.min(i + reach, alphas.length); j++)
      worst = Math.max(worst, low[j]);
    return worst;
  });
}

/** @type {(low: number, high: number, count: number) => number[]} */
export const linspace = (low, high, count) =>
  Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));

/**
 * The learning rate and β with the smallest rate over the curvatures from μ > 0 to L.
 * @type {(name: string, extra: number, mu: number, L: number) => {alpha: number, beta: number, rate: number}}
 */
export function optimum(name, extra, μ, L) {
  const κ = L / μ;
  const root = Math.sqrt(κ);
  const polyak = ((root - 1) / (root + 1)) ** 2;
  if (!METHODS[name].usesBeta) return { alpha: 2 / (μ + L), beta: 0, rate: (κ - 1) / (κ + 1) };
  if (name === "heavy_ball" || name === "average") {
    const α = 4 / (Math.sqrt(L) + Math.sqrt(μ)) ** 2;
    const gain = name === "average" ? 1 - polyak : 1;
    return { alpha: α / gain, beta: polyak, rate: Math.sqrt(polyak) };
  }
  if (name === "nesterov") {
    const size = Math.sqrt(3 * κ + 1);
    return { alpha: 4 / (3 * L + μ), beta: (size - 2) / (size + 2), rate: 1 - 2 / size };
  }
  return searchOptimum(METHODS[name], extra, μ, L);
}

/**
 * Search a coarse map of (log α, −log(1 − β)), and then ever closer around the best point.
 * @type {(method: Method, extra: number, mu: number, L: number) => {alpha: number, beta: number, rate: number}}
 */
function searchOptimum({ coefficients, leastBeta }, extra, μ, L) {
  const least = -Math.log1p(-leastBeta);
  /** @type {(t: number) => number} */
  const betaAt = (t) => Math.max(-Math.expm1(-t), leastBeta);
  const kernelAt = (/** @type {number} */ t) => kernelOf(coefficients(betaAt(t), extra));
  const α = linspace(Math.log(1e-4 / L), Math.log(1e3 / L), 120);
  let best = { u: 0, t: 0, rate: Infinity };
  for (const t of linspace(least, 9, 40)) {
    ratesAlong(kernelAt(t), α.map(Math.exp), μ, L).forEach((rate, i) => {
      if (rate < best.rate) best = { u: α[i], t, rate };
    });
  }
  best.rate = rate(kernelAt(best.t), Math.exp(best.u), μ, L);
  // The least rate often lies in a narrow valley, so that steps lead along its direction too.
  let [along, step] = [[0, 0], 0.1];
  for (let round = 0; round < 400 && step > 1e-9; round++) {
    const from = best;
    const moves = [
      along,
      [step, 0],
      [-step, 0],
      [0, step],
      [0, -step],
      [step, step],
      [-step, -step],
      [step, -step],
      [-step, step],
    ];
    for (const [du, dt] of moves) {
      const [u, t] = [best.u + du, Math.max(best.t + dt, least)];
      const kernel = kernelAt(t);
      // The rate between the ends takes longer, and is not needed where an end is worse.
      if (Math.max(...[μ, L].map((λ) => radius(kernel, λ * Math.exp(u)))) >= best.rate) continue;
      const found = rate(kernel, Math.exp(u), μ, L);
      if (found < best.rate) best = { u, t, rate: found };
    }
    along = [best.u - from.u, best.t - from.t];
    if (best === from) step /= 2;
  }
  return { alpha: Math.exp(best.u), beta: betaAt(best.t), rate: best.rate };
}
