/**
 * Polynomials, as lists of real coefficients, the constant first, and complex numbers [re, im].
 */

/** @type {(p: number[], q: number[]) => number[]} */
export function multiply(p, q) {
  const product = new Array(p.length + q.length - 1).fill(0);
  p.forEach((u, i) => q.forEach((v, j) => (product[i + j] += u * v)));
  return product;
}

/** @type {(p: number[], q: number[], scale: number) => number[]} */
export function addScaled(p, q, scale) {
  return Array.from(
    { length: Math.max(p.length, q.length) },
    (_, i) => (p[i] ?? 0) + scale * (q[i] ?? 0),
  );
}

/** @type {(p: number[], re: number, im: number) => number[]} */
export function evaluate(p, re, im) {
  let [real, imaginary] = [0, 0];
  for (let i = p.length - 1; i >= 0; i--) {
    [real, imaginary] = [real * re - imaginary * im + p[i], real * im + imaginary * re];
  }
  return [real, imaginary];
}

/** Divide one complex number by another. @type {(a: number[], b: number[]) => number[]} */
export function quotient([a, b], [c, d]) {
  const size = c * c + d * d;
  return [(a * c + b * d) / size, (b * c - a * d) / size];
}

const ROUNDS = 80;

/**
 * All roots of a polynomial, by the method of Aberth and Ehrlich, from a guess if it has as many.
 * @type {(p: number[], guess?: number[][]) => number[][]}
 */
export function polynomialRoots(p, guess) {
  const largest = Math.max(...p.map(Math.abs));
  let degree = p.length - 1;
  while (degree > 0 && Math.abs(p[degree]) <= 1e-300 * largest) degree--;
  const radius = Math.max(Math.abs(p[0] / p[degree]) ** (1 / degree), 1e-8);
  const z = Array.from({ length: degree }, (_, i) => {
    // Not quite where they were: two that are equal could not separate.
    if (guess?.length === degree)
      return [guess[i][0], guess[i][1] + (i % 2 ? 1e-9 : -1e-9) * radius];
    const angle = (2 * Math.PI * i) / degree + 0.4;
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
  for (let round = 0; round < ROUNDS; round++) {
    let moved = 0;
    for (let i = 0; i < degree; i++) moved = Math.max(moved, improve(p, degree, z, i));
    if (moved < 1e-12) break;
  }
  return z;
}

/**
 * Move one root nearer, and return by which share of its size; no number is stored in between,
 * since this runs for every point of a map.
 * @type {(p: number[], degree: number, z: number[][], i: number) => number}
 */
function improve(p, degree, z, i) {
  const [re, im] = z[i];
  let [value, valueIm, slope, slopeIm] = [p[degree], 0, 0, 0];
  for (let k = degree - 1; k >= 0; k--) {
    const next = slope * re - slopeIm * im + value;
    slopeIm = slope * im + slopeIm * re + valueIm;
    slope = next;
    const after = value * re - valueIm * im + p[k];
    valueIm = value * im + valueIm * re;
    value = after;
  }
  const size = value * value + valueIm * valueIm;
  if (size === 0) return 0;
  let a = (slope * value + slopeIm * valueIm) / size;
  let b = (slopeIm * value - slope * valueIm) / size;
  for (let j = 0; j < degree; j++) {
    const [u, v] = [re - z[j][0], im - z[j][1]];
    const distance = u * u + v * v;
    if (distance === 0) continue;
    a -= u / distance;
    b += v / distance;
  }
  const whole = a * a + b * b;
  const [stepRe, stepIm] = [a / whole, -b / whole];
  if (!Number.isFinite(stepRe + stepIm)) return 0;
  z[i][0] = re - stepRe;
  z[i][1] = im - stepIm;
  return Math.hypot(stepRe, stepIm) / (Math.hypot(re, im) || 1);
}
