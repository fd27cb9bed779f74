/** The two maps: the surface with the path on it, and the rate over (α, β). */

import {
  clipped,
  drawAxes,
  drawCross,
  drawDisc,
  drawLayer,
  drawLine,
  drawStar,
  invert,
  logTicks,
  makeScale,
  niceTicks,
  placeChart,
  rgbOf,
  viridis,
} from "./charts.js";
import { LARGEST_BETA, SURFACE_CHOICES, rangesOf } from "./choices.js";
import { criticalProducts, edge, kernelOf, linspace, ratesAlong } from "./formulas.js";
import { METHODS } from "./methods.js";
import { SURFACES } from "./runs.js";
import { drawTimed } from "./views.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./charts.js").Chart} Chart */
/** @typedef {import("./charts.js").Scale} Scale */
/** @typedef {import("./choices.js").Settings} Settings */

const SURFACE_MARGIN = { left: 40, right: 8, top: 22, bottom: 36 };
const LEVELS = 14;
const MOST_DOTS = 200; // Later steps are too near to each other for dots to be told apart.

/** @type {(chart: Chart, surface: string) => {x: Scale, y: Scale}} */
function surfaceScales(chart, surface) {
  const [left, right, bottom, top] = SURFACE_CHOICES[surface].view;
  return {
    x: makeScale(left, right, chart.left, chart.right),
    y: makeScale(bottom, top, chart.bottom, chart.top),
  };
}

/** The point of the surface at a place on the canvas. @type {(canvas: HTMLCanvasElement, surface: string, at: number[]) => number[]} */
export function surfacePoint(canvas, surface, [u, v]) {
  const { x, y } = surfaceScales(placeChart(canvas, SURFACE_MARGIN), surface);
  return [invert(x, u), invert(y, v)];
}

/** @typedef {(pixels: Uint8ClampedArray, width: number, height: number) => void} Paint */

/** A picture of pixels. @type {(width: number, height: number, paint: Paint) => HTMLCanvasElement} */
function paintPicture(width, height, paint) {
  const picture = document.createElement("canvas");
  Object.assign(picture, { width, height });
  const ctx = /** @type {CanvasRenderingContext2D} */ (picture.getContext("2d"));
  const image = ctx.createImageData(width, height);
  paint(image.data, width, height);
  ctx.putImageData(image, 0, 0);
  return picture;
}

/**
 * Shade a surface by its height, with lines of equal height.
 * @type {(settings: Settings, colors: Record<string, string>) => Paint}
 */
function paintSurface({ surface, shape }, colors) {
  const { loss } = SURFACES[surface];
  const [left, right, bottom, top] = SURFACE_CHOICES[surface].view;
  const [low, high, lines] = [colors.low, colors.high, colors.hatch].map(rgbOf);
  return (pixels, width, height) => {
    const heights = new Float64Array(width * height);
    let [least, most] = [Infinity, -Infinity];
    for (let i = 0, row = 0; row < height; row++) {
      const y = top - ((row + 0.5) / height) * (top - bottom);
      for (let column = 0; column < width; column++, i++) {
        const value = loss(left + ((column + 0.5) / width) * (right - left), y, shape);
        heights[i] = value;
        if (value < least) least = value;
        if (value > most) most = value;
      }
    }
    // A root spreads the levels, which would otherwise all lie on the walls of the valley.
    for (let i = 0; i < heights.length; i++) {
      heights[i] = LEVELS * ((heights[i] - least) / (most - least || 1)) ** 0.35;
    }
    for (let i = 0, row = 0; row < height; row++) {
      for (let column = 0; column < width; column++, i++) {
        const h = heights[i];
        const dx = column + 1 < width ? heights[i + 1] - h : h - heights[i - 1];
        const dy = row + 1 < height ? heights[i + width] - h : h - heights[i - width];
        const slope = Math.hypot(dx, dy);
        const distance = Math.abs(h - Math.round(h)) / (slope || 1e-9);
        const cover = slope > 0.5 ? 0.5 : Math.max(0, Math.min(1, 1.1 - distance)) * 0.8;
        for (let c = 0; c < 3; c++) {
          const base = low[c] + (high[c] - low[c]) * (h / LEVELS);
          pixels[4 * i + c] = base + cover * (lines[c] - base);
        }
        pixels[4 * i + 3] = 255;
      }
    }
  };
}

/** Draw what does not move with a run: the surface and the axes. @type {(chart: Chart, settings: Settings, x: Scale, y: Scale) => void} */
function drawSurfaceGround(chart, settings, x, y) {
  const { left, top, right, bottom, colors } = chart;
  const ratio = Math.min(window.devicePixelRatio || 1, 1.5);
  const [width, height] = [right - left, bottom - top];
  const size = [width, height].map((side) => Math.round(ratio * side));
  const picture = paintPicture(size[0], size[1], paintSurface(settings, colors));
  chart.ctx.drawImage(picture, left, top, width, height);
  const ticks = { x: niceTicks(x, 6), y: niceTicks(y, 5) };
  drawAxes(chart, x, y, { x: "x", y: "y" }, ticks, { grid: false });
}

/** @type {(canvas: HTMLCanvasElement, model: Model, at: number | null) => void} */
export function drawSurface(canvas, model, at) {
  const chart = placeChart(canvas, SURFACE_MARGIN);
  const { ctx, colors } = chart;
  const { settings, run } = model;
  const { x, y } = surfaceScales(chart, settings.surface);
  drawLayer(chart, "surface", [settings.surface, settings.shape], (layer) =>
    drawSurfaceGround(layer, settings, x, y),
  );
  const [px, py] = SURFACES[settings.surface].point(settings.shape);
  clipped(chart, () => {
    drawTimed(chart, x, y, run.x, run.y, colors.run, at);
    const last = at === null ? run.x.length - 1 : Math.min(at, run.x.length - 1);
    ctx.fillStyle = colors.run;
    for (let t = 1; t < Math.min(last, MOST_DOTS); t++) {
      ctx.fillRect(x(run.x[t]) - 2, y(run.y[t]) - 2, 4, 4);
    }
    drawCross(chart, x(px), y(py), 5, colors.ink);
    if (at === null) drawDisc(chart, x(run.x[last]), y(run.y[last]), 5, colors.run, colors.card);
  });
  drawDisc(chart, x(settings.x), y(settings.y), 7, colors.card, colors.run, 3);
}

/* The map of the rate. */

const MAP_MARGIN = { left: 46, right: 10, top: 22, bottom: 36 };
/** The points of a map: α, β. The rates of a method with several velocities take longer. */
const FINE = [128, 88];
const COARSE = [64, 44];
const BETA_TICKS = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99];

/** @type {(low: number, high: number, count: number) => number[]} */
const geomspace = (low, high, count) =>
  linspace(Math.log(low), Math.log(high), count).map(Math.exp);

/**
 * What the map needs of a method at each β: its kernel and its edge.
 * @typedef {{key: string, columns: number, betas: number[],
 *   kernels: import("./formulas.js").Kernel[], edges: number[]}} Rows
 * @type {Rows | null}
 */
let lastRows = null;

/** @type {(settings: Settings) => Rows} */
function rowsOf({ method, extra }) {
  const key = `${method},${extra}`;
  if (lastRows?.key === key) return lastRows;
  const { coefficients, leastBeta } = METHODS[method];
  const [columns, rows] = coefficients(0.5, extra).betas.length > 1 ? COARSE : FINE;
  const betas = geomspace(1 - leastBeta, 1 - LARGEST_BETA, rows).map((each) => 1 - each);
  const kernels = betas.map((β) => kernelOf(coefficients(β, extra)));
  lastRows = { key, columns, betas, kernels, edges: kernels.map(edge) };
  return lastRows;
}

/**
 * The products α λ of critical damping at many β, the more the nearer β is to 0, where the curve
 * is flat.
 * @type {(settings: Settings) => {shares: number[], products: number[][]}}
 */
function criticalCurve({ method, extra }) {
  const { coefficients, leastBeta } = METHODS[method];
  const shares = linspace(0, 1, 160).map(
    (t) => (1 - leastBeta - 1e-9) * (1 - t * t * LARGEST_BETA),
  );
  const products = shares.map((share) =>
    criticalProducts(kernelOf(coefficients(1 - share, extra))),
  );
  return { shares, products };
}

/** The learning rates that a map shows: up to a little beyond its edges, as far as α may go. @type {(settings: Settings, L: number) => number[]} */
function alphaLimits(settings, L) {
  const { edges } = rowsOf(settings);
  const finite = edges.filter((each) => each > 0 && each < 1e4);
  const { low, high } = rangesOf(settings).alpha;
  const most = Math.min((1.6 * Math.max(2, ...finite)) / L, high);
  return [Math.max(Math.min(0.02, Math.min(2, ...finite) / 50) / L, low), most];
}

/** @type {(chart: Chart, settings: Settings, L: number) => {x: Scale, y: Scale}} */
function mapScales(chart, settings, L) {
  const [low, high] = alphaLimits(settings, L);
  const { leastBeta } = METHODS[settings.method];
  return {
    x: makeScale(low, high, chart.left, chart.right, true),
    y: makeScale(1 - leastBeta, 1 - LARGEST_BETA, chart.bottom, chart.top, true),
  };
}

/** The α and β at a place on the canvas. @type {(canvas: HTMLCanvasElement, settings: Settings, L: number, at: number[]) => number[]} */
export function mapPoint(canvas, settings, L, [u, v]) {
  const { x, y } = mapScales(placeChart(canvas, MAP_MARGIN), settings, L);
  return [invert(x, u), 1 - invert(y, v)];
}

/**
 * Colour the rates, bright being fast, on a log scale of 1 − ρ; leave what is unstable clear.
 * @type {(model: Model) => Paint}
 */
function paintRates({ settings, mu: μ, L }) {
  return (pixels, width, height) => {
    const { kernels, edges } = rowsOf(settings);
    const alphas = geomspace(.../** @type {[number, number]} */ (alphaLimits(settings, L)), width);
    const rates = kernels.map((kernel) => ratesAlong(kernel, alphas, μ, L));
    const best = Math.min(...rates.map((row) => Math.min(...row)));
    const stable = rates.map((row, i) =>
      Math.max(...row.filter((_, j) => alphas[j] * L < edges[i])),
    );
    const fastest = Math.log(Math.max(...stable));
    for (let row = 0; row < height; row++) {
      const cells = rates[height - 1 - row];
      cells.forEach((_, column) => {
        const i = 4 * (row * width + column);
        // The cells beyond the edge are hatched; the last colour before it reaches up to the line.
        while (column > 0 && !(alphas[column] * L < edges[height - 1 - row])) column--;
        const rate = cells[column];
        // On a saddle every rate is above 1, and the larger is the faster escape.
        const slowness = Math.log(Math.max(1 - rate, 1e-9) / (1 - best)) / Math.log(1e-3);
        const share = μ > 0 ? slowness : 1 - Math.sqrt(Math.log(rate) / fastest);
        viridis(share).forEach((value, channel) => (pixels[i + channel] = value));
        pixels[i + 3] = 255;
      });
    }
  };
}

/** Hatch the region beyond the edge. @type {(chart: Chart, x: Scale, y: Scale, edges: number[], betas: number[]) => void} */
function hatchUnstable(chart, x, y, edges, betas) {
  const { ctx, colors } = chart;
  ctx.save();
  ctx.beginPath();
  betas.forEach((β, i) => ctx.lineTo(Math.min(x(edges[i] || 1e-300), chart.right + 1), y(1 - β)));
  ctx.lineTo(chart.right + 1, chart.top);
  ctx.lineTo(chart.right + 1, chart.bottom);
  ctx.closePath();
  ctx.clip();
  ctx.fillStyle = colors.card;
  ctx.fillRect(chart.left, chart.top, chart.right - chart.left, chart.bottom - chart.top);
  Object.assign(ctx, { strokeStyle: colors.hatch, lineWidth: 1 });
  ctx.beginPath();
  for (let at = chart.left - chart.height; at < chart.right; at += 7) {
    ctx.moveTo(at, chart.bottom);
    ctx.lineTo(at + chart.height, chart.bottom - chart.height);
  }
  ctx.stroke();
  ctx.restore();
}

/** Draw a line that is visible on every colour. @type {(chart: Chart, x: Scale, y: Scale, xs: number[], ys: number[], color: string, halo: string, dash?: number[]) => void} */
function drawHaloed(chart, x, y, xs, ys, color, halo, dash = []) {
  drawLine(chart, x, y, xs, ys, { color: halo, width: 4, alpha: 0.6 });
  drawLine(chart, x, y, xs, ys, { color, width: 2, dash });
}

/** The last picture of rates, which takes longer than all else. @type {{key: string, picture: HTMLCanvasElement | null}} */
const rates = { key: "", picture: null };

/** @type {(model: Model, key: string) => HTMLCanvasElement} */
function pictureOfRates(model, key) {
  const { columns, betas } = rowsOf(model.settings);
  const isKnown = rates.key === key && rates.picture;
  const picture = isKnown || paintPicture(columns, betas.length, paintRates(model));
  Object.assign(rates, { key, picture });
  return picture;
}

/**
 * Draw what does not move with α and β: the colours, the edge, critical damping and the axes.
 * @type {(chart: Chart, model: Model, x: Scale, y: Scale) => void}
 */
function drawMapGround(chart, model, x, y) {
  const { settings, mu: μ, L } = model;
  const { betas, edges } = rowsOf(settings);
  const picture = pictureOfRates(model, [settings.method, settings.extra, μ, L].join());
  const { left, top, right, bottom } = chart;
  clipped(chart, () => {
    chart.ctx.drawImage(picture, left, top, right - left, bottom - top);
    drawCriticalDamping(chart, model, x, y);
    const limits = edges.map((each) => each / L);
    hatchUnstable(chart, x, y, limits, betas);
    const shares = betas.map((β) => 1 - β);
    drawHaloed(chart, x, y, limits, shares, "#000000", "#ffffff");
  });
  const shares = BETA_TICKS.map((β) => 1 - β).filter((share) => share <= y.low);
  const ticks = { x: logTicks(x, 5), y: { values: shares, label: betaLabel } };
  drawAxes(chart, x, y, { x: "learning rate α", y: "β" }, ticks, { grid: false });
}

/** @type {(chart: Chart, model: Model, x: Scale, y: Scale) => void} */
function drawCriticalDamping(chart, { settings, mu: μ, L }, x, y) {
  const { products, shares } = criticalCurve(settings);
  const curvatures = /** @type {[number, number[]][]} */ ([
    [μ, [7, 5]],
    [L, [2, 4]],
  ]);
  for (const [λ, dash] of curvatures.filter(([each]) => each > 0)) {
    for (const which of [0, 1]) {
      const found = products.map((pair) => (pair[which] ?? NaN) / λ);
      drawHaloed(chart, x, y, found, shares, "#ffffff", "#000000", dash);
    }
  }
}

/** @type {(canvas: HTMLCanvasElement, model: Model, best: {alpha: number, beta: number} | null) => void} */
export function drawMap(canvas, model, best) {
  const chart = placeChart(canvas, MAP_MARGIN);
  const { settings, mu: μ, L } = model;
  const { x, y } = mapScales(chart, settings, L);
  drawLayer(chart, "map", [settings.method, settings.extra, μ, L], (layer) =>
    drawMapGround(layer, model, x, y),
  );
  if (best) drawStar(chart, x(best.alpha), y(1 - best.beta), 10, "#d55e00", "#ffffff");
  const α = Math.min(Math.max(settings.alpha, x.low), x.high);
  drawDisc(chart, x(α), y(1 - settings.beta), 7.5, "transparent", "#000000", 5);
  drawDisc(chart, x(α), y(1 - settings.beta), 7.5, "transparent", "#ffffff", 2.5);
}

/** @type {(share: number) => string} */
const betaLabel = (share) => String(Number((1 - share).toPrecision(3)));
