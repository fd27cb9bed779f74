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

/**
 * All roots of a polynomial, by the method of Aberth and Ehrlich.
 * @type {(p: number[], guess?: number[][]) => number[][]}
 */
export function polynomialRoots(p, guess) {
  const largest = Math.max(...p.map(Math.abs));
  let degree = p.length - 1;
  while (degree > 0 && Math.abs(p[degree]) <= 1e-300 * largest) degree--;
  const q = p.slice(0, degree + 1);
  const slope = q.slice(1).map((value, i) => (i + 1) * value);
  const radius = Math.max(Math.abs(q[0] / q[degree]) ** (1 / degree), 1e-8);
  const z =
    guess?.length === degree
      ? guess.map(([re, im], i) => [re, im + (i % 2 ? 1e-9 : -1e-9) * radius])
      : q.slice(1).map((_, i) => {
          const angle = (2 * Math.PI * i) / degree + 0.4;
          return [radius * Math.cos(angle), radius * Math.sin(angle)];
        });
  for (let round = 0; round < 80; round++) {
    let moved = 0;
    for (let i = 0; i < degree; i++) {
      const [re, im] = z[i];
      const value = evaluate(q, re, im);
      if (value[0] === 0 && value[1] === 0) continue;
      const newton = quotient(evaluate(slope, re, im), value);
      for (let j = 0; j < degree; j++) {
        if (j === i) continue;
        const repelled = quotient([1, 0], [re - z[j][0], im - z[j][1]]);
        if (Number.isFinite(repelled[0])) {
          newton[0] -= repelled[0];
          newton[1] -= repelled[1];
        }
      }
      const [dre, dim] = quotient([1, 0], newton);
      if (!Number.isFinite(dre + dim)) continue;
      z[i] = [re - dre, im - dim];
      moved = Math.max(moved, Math.hypot(dre, dim) / (Math.hypot(re, im) || 1));
    }
    if (moved < 1e-12) break;
  }
  return z;
}
