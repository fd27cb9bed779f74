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

/** A method with β. @type {(coefficients: Method["coefficients"], extra?: Extra | null, leastBeta?: number) => Method} */
const ofBeta = (coefficients, extra = null, leastBeta = 0) => ({
  usesBeta: true,
  leastBeta,
  extra,
  coefficients,
});

/** @type {Record<string, Method>} */
export const METHODS = {
  gradient_descent: {
    usesBeta: false,
    leastBeta: 0,
    extra: null,
    coefficients: () => ({ a: 1, betas: [], gains: [], weights: [] }),
  },
  heavy_ball: ofBeta((β) => single(0, β, 1)),
  nesterov: ofBeta((β) => single(1, β, β)),
  average: ofBeta((β) => single(0, β, 1, 1 - β)),
  quasi_hyperbolic: ofBeta((β, ν) => single(1 - ν, β, ν, 1 - β), {
    name: "nu",
    low: 0,
    high: 1,
    initial: 0.7,
  }),
  synthesized_nesterov: ofBeta(
    synthesized,
    { name: "beta2", low: 0, high: 2, initial: 0.5 },
    0.05,
  ),
  overshoot: ofBeta(synthesized, { name: "gamma", low: 0, high: 10, initial: 5 }, 0.05),
  mass: ofBeta((β, c) => single(1, β, 1, β - c), {
    name: "compensation",
    low: 0,
    high: 1,
    initial: 0.05,
  }),
  aggregated: ofBeta(
    (β, number) => {
      const betas = Array.from({ length: number }, (_, i) => 1 - (1 - β) ** (i / (number - 1)));
      return { a: 0, betas, gains: betas.map(() => 1), weights: betas.map(() => 1 / number) };
    },
    { name: "velocities", low: 2, high: 4, initial: 3, integer: true },
  ),
  aggregated_averages: ofBeta(
    (β, weight) => ({
      a: 0,
      betas: [0.9, β],
      gains: [1 - 0.9, 1 - β],
      weights: [1 - weight, weight],
    }),
    { name: "weight", low: 0, high: 1, initial: 0.5 },
  ),
};
