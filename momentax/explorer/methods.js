/**
 * The methods of the explorer, under the names of momentax, as coefficients of one recurrence:
 *
 *     vᵢ ← βᵢ vᵢ + γᵢ g,    d = a g + Σ wᵢ vᵢ,    θ ← θ − α d
 */

/**
 * @typedef {{a: number, betas: number[], gains: number[], weights: number[]}} Coefficients
 * @typedef {{name: string, low: number, high: number, initial: number, integer?: boolean}} Extra
 * @typedef {{usesBeta: boolean, leastBeta: number, extra: Extra | null,
 *   coefficients: (beta: number, extra: number) => Coefficients}} Method
 */

/** @type {(a: number, beta: number, weight: number, gain?: number) => Coefficients} */
const single = (a, beta, weight, gain = 1) => ({
  a,
  betas: [beta],
  gains: [gain],
  weights: [weight],
});

/** @type {(beta1: number, beta2: number) => Coefficients} */
const synthesized = (beta1, beta2) =>
  single(beta2 / beta1, beta1, 1 - (beta2 * (1 - beta1)) / beta1);

/** @type {Record<string, Method>} */
export const METHODS = {
  gradient_descent: {
    usesBeta: false,
    leastBeta: 0,
    extra: null,
    coefficients: () => ({ a: 1, betas: [], gains: [], weights: [] }),
  },
  heavy_ball: {
    usesBeta: true,
    leastBeta: 0,
    extra: null,
    coefficients: (β) => single(0, β, 1),
  },
  nesterov: {
    usesBeta: true,
    leastBeta: 0,
    extra: null,
    coefficients: (β) => single(1, β, β),
  },
  average: {
    usesBeta: true,
    leastBeta: 0,
    extra: null,
    coefficients: (β) => single(0, β, 1, 1 - β),
  },
  quasi_hyperbolic: {
    usesBeta: true,
    leastBeta: 0,
    extra: { name: "nu", low: 0, high: 1, initial: 0.7 },
    coefficients: (β, ν) => single(1 - ν, β, ν, 1 - β),
  },
  synthesized_nesterov: {
    usesBeta: true,
    leastBeta: 0.05,
    extra: { name: "beta2", low: 0, high: 2, initial: 0.5 },
    coefficients: synthesized,
  },
  overshoot: {
    usesBeta: true,
    leastBeta: 0.05,
    extra: { name: "gamma", low: 0, high: 10, initial: 5 },
    coefficients: synthesized,
  },
  mass: {
    usesBeta: true,
    leastBeta: 0,
    extra: { name: "compensation", low: 0, high: 1, initial: 0.05 },
    coefficients: (β, c) => single(1, β, 1, β - c),
  },
  aggregated: {
    usesBeta: true,
    leastBeta: 0,
    extra: { name: "velocities", low: 2, high: 4, initial: 3, integer: true },
    coefficients: (β, number) => {
      const betas = Array.from({ length: number }, (_, i) => 1 - (1 - β) ** (i / (number - 1)));
      return { a: 0, betas, gains: betas.map(() => 1), weights: betas.map(() => 1 / number) };
    },
  },
  aggregated_averages: {
    usesBeta: true,
    leastBeta: 0,
    extra: { name: "weight", low: 0, high: 1, initial: 0.5 },
    coefficients: (β, weight) => ({
      a: 0,
      betas: [0.9, β],
      gains: [1 - 0.9, 1 - β],
      weights: [1 - weight, weight],
    }),
  },
};
