/** The views of a run over time: loss, oscillation, phase portrait and kernel. */

import {
  clipped,
  drawAxes,
  drawDisc,
  drawLayer,
  drawLevel,
  drawLine,
  logTicks,
  makeScale,
  niceTicks,
  openChart,
  placeChart,
} from "./charts.js";
import { distances } from "./model.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./charts.js").Chart} Chart */
/** @typedef {import("./charts.js").Scale} Scale */

/** @type {(chart: Chart, high: number) => Scale} */
const stepScale = (chart, high) => makeScale(0, high, chart.left, chart.right);

/** @type {(values: number[]) => number} */
const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** Steps that suffice for a smooth curve. @type {(steps: number) => number[]} */
function sampled(steps) {
  const count = Math.min(steps, 100);
  return Array.from({ length: count + 1 }, (_, i) => (i * steps) / count);
}

/** @type {(model: Model) => number[]} */
const stepsOf = ({ run }) => run.x.map((_, t) => t);

/**
 * What falls or grows at the rate of the theory: the loss above the minimum, or on a saddle the
 * distance from it.
 * @type {(model: Model) => {values: number[], power: number, name: string}}
 */
export function measureOf(model) {
  if (Number.isNaN(model.least)) {
    return { values: distances(model), power: 1, name: "distance from the saddle" };
  }
  const values = model.run.loss.map((loss) => loss - model.least);
  return { values, power: 2, name: "loss above the minimum" };
}

const FEWEST = 1e-16; // Below this share of the start a loss is rounding.

/** @type {(canvas: HTMLCanvasElement, model: Model, at: number | null) => void} */
export function drawLoss(canvas, model, at) {
  const chart = openChart(canvas);
  const { colors } = chart;
  const { values, power, name } = measureOf(model);
  const steps = model.settings.steps;
  const start = values[0] || model.floor || 1;
  const shown = values.filter((value) => value > FEWEST * start);
  const low = Math.max(
    Math.min(...shown, model.floor > 0 ? model.floor : Infinity),
    FEWEST * start,
  );
  const high = Math.min(Math.max(...shown, start), 1e12 * start);
  const spread = Math.max(high / low, 10) ** 0.06;
  const x = stepScale(chart, steps);
  const y = makeScale(
    low / spread,
    Math.max(high, 10 * low) * spread,
    chart.bottom,
    chart.top,
    true,
  );
  drawAxes(chart, x, y, { x: "step", y: name }, { x: niceTicks(x, 6), y: logTicks(y, 6) });
  const all = sampled(steps);
  const added = model.floor > 0 && Number.isFinite(model.floor) ? model.floor : 0;
  const theory = all.map((t) => start * model.rate ** (power * t) + added);
  clipped(chart, () => {
    drawLine(chart, x, y, all, theory, { color: colors.theory, dash: [7, 5], width: 1.75 });
    drawTimed(chart, x, y, stepsOf(model), values, colors.run, at);
    if (added) drawLevel(chart, y, added, { color: colors.noise, dash: [3, 6], width: 3 });
  });
}

/** Draw a line, faint beyond a step, and a mark at that step. @type {(chart: Chart, x: Scale, y: Scale, xs: number[], ys: number[], color: string, at: number | null) => void} */
export function drawTimed(chart, x, y, xs, ys, color, at) {
  if (at === null) {
    drawLine(chart, x, y, xs, ys, { color });
    return;
  }
  const t = Math.min(at, xs.length - 1);
  drawLine(chart, x, y, xs, ys, { color, width: 1, alpha: 0.4 });
  drawLine(chart, x, y, xs, ys, { color }, t + 1);
  drawDisc(chart, x(xs[t]), y(ys[t]), 4.5, color, chart.colors.card);
}

/** @type {(canvas: HTMLCanvasElement, model: Model, at: number | null) => void} */
export function drawOscillation(canvas, model, at) {
  const chart = openChart(canvas);
  const { colors } = chart;
  const { steps } = model.settings;
  const start = largest(model.directions.map(({ position }) => position[0])) || 1;
  const most = largest(model.directions.flatMap(({ position }) => position));
  const high = 1.08 * Math.min(Math.max(most, start), 6 * start);
  const x = stepScale(chart, steps);
  const y = makeScale(-high, high, chart.bottom, chart.top);
  const names = { x: "step", y: "distance along each eigenvector" };
  drawAxes(chart, x, y, names, { x: niceTicks(x, 6), y: niceTicks(y, 5) });
  const all = sampled(steps);
  clipped(chart, () => {
    drawLevel(chart, y, 0, { color: colors.muted, width: 1 });
    model.directions.forEach(({ position, factor }, i) => {
      const color = i ? colors.steep : colors.flat;
      for (const sign of [1, -1]) {
        const envelope = all.map((t) => sign * Math.abs(position[0]) * factor ** t);
        drawLine(chart, x, y, all, envelope, { color, dash: [2, 4], width: 1 });
      }
      drawTimed(chart, x, y, stepsOf(model), position, color, at);
    });
  });
}

/** @type {(canvas: HTMLCanvasElement, model: Model, at: number | null) => void} */
export function drawPhase(canvas, model, at) {
  const chart = placeChart(canvas);
  const { colors } = chart;
  const x = makeScale(-1.15, 1.15, chart.left, chart.right);
  const y = makeScale(-1.15, 1.15, chart.bottom, chart.top);
  const names = {
    x: "position, as a share of its largest",
    y: "velocity, as a share of its largest",
  };
  drawLayer(chart, "phase", [], (layer) => {
    drawAxes(layer, x, y, names, { x: niceTicks(x, 5), y: niceTicks(y, 5) });
    clipped(layer, () => {
      drawLine(layer, x, y, [0, 0], [-2, 2], { color: colors.muted, width: 1 });
      drawLine(layer, x, y, [-2, 2], [0, 0], { color: colors.muted, width: 1 });
    });
  });
  clipped(chart, () => {
    model.directions.forEach(({ position, velocity }, i) => {
      const color = i ? colors.steep : colors.flat;
      // A run that diverges shows its beginning, not its last and largest steps only.
      const kept = near(position);
      const [xs, ys] = [position.slice(0, kept), velocity.slice(0, kept)];
      const [width, height] = [largest(xs) || 1, largest(ys) || 1];
      const [u, v] = [xs.map((value) => value / width), ys.map((value) => value / height)];
      drawTimed(chart, x, y, u, v, color, at);
      drawDisc(chart, x(u[0]), y(v[0]), 5, colors.card, color);
      if (at === null) drawDisc(chart, x(u[kept - 1]), y(v[kept - 1]), 4.5, color, colors.card);
    });
  });
}

/** The number of points before a run is ten times as far away as at its start. @type {(position: number[]) => number} */
function near(position) {
  const limit = 10 * Math.abs(position[0]) || Infinity;
  const first = position.findIndex((value) => Math.abs(value) > limit);
  return first < 0 ? position.length : Math.max(first, 3);
}

/** @type {(canvas: HTMLCanvasElement, model: Model) => void} */
export function drawKernel(canvas, model) {
  const { method, extra, beta } = model.settings; // All that a kernel depends on.
  drawLayer(placeChart(canvas), "kernel", [method, extra, beta], (layer) =>
    drawWeights(layer, model),
  );
}

/** @type {(chart: Chart, model: Model) => void} */
function drawWeights(chart, { weights, summary }) {
  const { ctx, colors } = chart;
  const [low, high] = [Math.min(0, ...weights), Math.max(0, ...weights)];
  const spread = 0.06 * (high - low || 1);
  const x = makeScale(-0.7, weights.length - 0.3, chart.left, chart.right);
  const y = makeScale(low < 0 ? low - spread : 0, high + spread, chart.bottom, chart.top);
  const names = { x: "lag of the gradient, in steps", y: "weight in the direction" };
  const ticks = { x: niceTicks({ ...x, low: 0, high: weights.length - 1 }, 7), y: niceTicks(y, 5) };
  ticks.x.values = ticks.x.values.filter(Number.isInteger);
  drawAxes(chart, x, y, names, ticks);
  const width = Math.max(1.5, Math.min(18, 0.72 * (x(1) - x(0))));
  ctx.fillStyle = colors.run;
  weights.forEach((weight, k) => {
    const [top, bottom] = [y(Math.max(weight, 0)), y(Math.min(weight, 0))];
    ctx.fillRect(x(k) - width / 2, top, width, Math.max(bottom - top, 1));
  });
  const age = summary.meanAge;
  if (Number.isFinite(age) && age > 0 && age < weights.length) {
    const style = { color: colors.theory, dash: [7, 5], width: 1.75 };
    drawLine(chart, x, y, [age, age], [y.low, y.high], style);
    const right = x(age) < (chart.left + chart.right) / 2;
    ctx.fillStyle = colors.ink;
    Object.assign(ctx, { textAlign: right ? "left" : "right", textBaseline: "top" });
    ctx.fillText("mean age", x(age) + (right ? 6 : -6), chart.top + 2);
  }
}
