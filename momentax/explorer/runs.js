/** The surfaces f(x, y) of the explorer, with a parameter p each, and the runs on them. */

/** @typedef {import("./methods.js").Coefficients} Coefficients */
/**
 * @typedef {{initial: number, start: number[], loss: (x: number, y: number, p: number) => number,
 *   gradient: (x: number, y: number, p: number) => number[], point: (p: number) => number[],
 *   hessian: (p: number) => number[], isMinimum: boolean}} Surface
 * @typedef {{x: number[], y: number[], vx: number[], vy: number[], loss: number[],
 *   diverged: boolean}} Run
 */

/** The surfaces; those of momentax.problems have its formulas. @type {Record<string, Surface>} */
export const SURFACES = {
  ravine: {
    initial: 100,
    start: [1, 1],
    loss: (x, y, κ) => κ * x * x + y * y,
    gradient: (x, y, κ) => [2 * κ * x, 2 * y],
    point: () => [0, 0],
    hessian: (κ) => [2 * κ, 0, 2],
    isMinimum: true,
  },
  saddle: {
    initial: 1,
    start: [1, 0.001],
    loss: (x, y, c) => (x * x - c * y * y) / 2,
    gradient: (x, y, c) => [x, -c * y],
    point: () => [0, 0],
    hessian: (c) => [1, 0, -c],
    isMinimum: false,
  },
  plateau: {
    initial: 0.05,
    start: [1, 0.5],
    loss: (x, y, s) =>
      (Math.abs(x) <= s ? (x * x) / 2 : s * Math.abs(x) - (s * s) / 2) + (y * y) / 2,
    gradient: (x, y, s) => [Math.max(-s, Math.min(s, x)), y],
    point: () => [0, 0],
    hessian: () => [1, 0, 1],
    isMinimum: true,
  },
  rosenbrock: {
    initial: 100,
    start: [-1.2, 1],
    loss: (x, y, b) => (1 - x) ** 2 + b * (y - x * x) ** 2,
    gradient: (x, y, b) => [2 * (x - 1) - 4 * b * x * (y - x * x), 2 * b * (y - x * x)],
    point: () => [1, 1],
    hessian: (b) => [2 + 8 * b, -4 * b, 2 * b],
    isMinimum: true,
  },
  double_well: {
    // The slope along x is (x² − 1)(x − p): wells at ±1, the deeper one at −1, and a pass at p.
    initial: 0.2,
    start: [1.7, 0.6],
    loss: (x, y, p) => x ** 4 / 4 - (p * x ** 3) / 3 - x ** 2 / 2 + p * x + (y * y) / 2,
    gradient: (x, y, p) => [(x * x - 1) * (x - p), y],
    point: () => [-1, 0],
    hessian: (p) => [2 + 2 * p, 0, 1],
    isMinimum: true,
  },
};

/**
 * The eigenvalues, ascending, and the eigenvectors of a Hessian [fxx, fxy, fyy].
 * @type {(hessian: number[]) => {values: number[], vectors: number[][]}}
 */
export function eigen([xx, xy, yy]) {
  const angle = Math.atan2(2 * xy, xx - yy) / 2;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const gap = Math.hypot(xx - yy, 2 * xy);
  const large = (xx + yy + gap) / 2;
  // The product of both is the determinant, which keeps the digits of a small eigenvalue.
  const determinant = xx * yy - xy * xy;
  const small = large > 0 && determinant > 0 ? determinant / large : (xx + yy - gap) / 2;
  return {
    values: [small, large],
    vectors: [
      [-sin, cos],
      [cos, sin],
    ],
  };
}

/**
 * Run a method on a surface: θ_0 .. θ_T, the velocity and the loss at each.
 *
 * The velocity is v of a method with one, Σ wᵢ vᵢ of one with several, and d of one without. A run
 * ends early when it diverges.
 * @type {(surface: string, p: number, m: Coefficients, alpha: number, start: number[],
 *   steps: number, noise: number[] | null) => Run}
 */
export function simulate(surface, p, { a, betas, gains, weights }, α, start, steps, noise) {
  const { loss, gradient } = SURFACES[surface];
  let [x, y] = start;
  const vx = betas.map(() => 0);
  const vy = betas.map(() => 0);
  const run = { x: [x], y: [y], vx: [0], vy: [0], loss: [loss(x, y, p)], diverged: false };
  for (let t = 0; t < steps; t++) {
    let [gx, gy] = gradient(x, y, p);
    if (noise) {
      gx += noise[2 * t];
      gy += noise[2 * t + 1];
    }
    let [dx, dy] = [0, 0];
    for (let i = 0; i < betas.length; i++) {
      vx[i] = betas[i] * vx[i] + gains[i] * gx;
      vy[i] = betas[i] * vy[i] + gains[i] * gy;
      dx += weights[i] * vx[i];
      dy += weights[i] * vy[i];
    }
    const velocity = betas.length === 1 ? [vx[0], vy[0]] : [dx + a * gx, dy + a * gy];
    x -= α * (a * gx + dx);
    y -= α * (a * gy + dy);
    const value = loss(x, y, p);
    if (!(Math.abs(x) < 1e9 && Math.abs(y) < 1e9 && Number.isFinite(value))) {
      run.diverged = true;
      break;
    }
    run.x.push(x);
    run.y.push(y);
    run.vx.push(velocity[0]);
    run.vy.push(velocity[1]);
    run.loss.push(value);
  }
  return run;
}

/** Independent standard normal numbers, the same for the same seed. @type {(count: number, seed: number) => number[]} */
export function gaussians(count, seed) {
  let state = seed >>> 0;
  const uniform = () => {
    // The generator mulberry32, in the public domain.
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}
