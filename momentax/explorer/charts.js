/** Charts on a canvas: a frame with axes, lines, and marks, in the colours of the page. */

/**
 * @typedef {{(value: number): number, low: number, high: number, log: boolean}} Scale
 * @typedef {{ctx: CanvasRenderingContext2D, width: number, height: number, left: number,
 *   right: number, top: number, bottom: number, colors: Record<string, string>}} Chart
 * @typedef {{color: string, width?: number, dash?: number[], alpha?: number}} LineStyle
 * @typedef {{values: number[], label?: (value: number) => string}} Ticks
 */

const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
export const MARGIN = { left: 52, right: 12, top: 24, bottom: 36 };
const COLOR_NAMES = "card ink muted grid run flat steep theory noise star low high hatch".split(
  " ",
);

/** @type {Record<string, string>} */
let palette = {};

/** Read the colours from the style of the page, which follows the colour scheme. */
export function readColors() {
  const style = getComputedStyle(document.documentElement);
  palette = Object.fromEntries(
    COLOR_NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
  );
}

/**
 * The canvases at their sizes on the screen. The page would have to lay out its changed text at
 * each question for a size.
 * @type {Map<HTMLCanvasElement, {ctx: CanvasRenderingContext2D, width: number, height: number, ratio: number}>}
 */
const fitted = new Map();

/** Measure the canvases anew. */
export const forgetSizes = () => fitted.clear();

/** Fit the pixels of a canvas to its size on the screen. @type {(canvas: HTMLCanvasElement) => {ctx: CanvasRenderingContext2D, width: number, height: number}} */
function fit(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const known = fitted.get(canvas);
  if (known?.ratio === ratio) return known;
  const { clientWidth: width, clientHeight: height } = canvas;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const found = { ctx: contextOf(canvas, ratio), width, height, ratio };
  fitted.set(canvas, found);
  return found;
}

/** What draws on a canvas, with its unit, font and lines. @type {(canvas: HTMLCanvasElement, ratio: number) => CanvasRenderingContext2D} */
function contextOf(canvas, ratio) {
  // A browser need not blend an opaque canvas with what is behind it.
  const options = { alpha: false };
  const ctx = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", options));
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.font = FONT;
  ctx.lineJoin = ctx.lineCap = "round";
  return ctx;
}

/** The place of a chart on a canvas. @type {(canvas: HTMLCanvasElement, margin?: typeof MARGIN) => Chart} */
export function placeChart(canvas, { left, right, top, bottom } = MARGIN) {
  const { ctx, width, height } = fit(canvas);
  const place = { left, top, right: Math.max(width - right, left + 1), bottom: height - bottom };
  return { ctx, width, height, ...place, colors: palette };
}

/** Fill the ground of a chart. @type {(chart: Chart) => void} */
function clear({ ctx, width, height, colors }) {
  ctx.fillStyle = colors.card;
  ctx.fillRect(0, 0, width, height);
}

/** Clear a canvas, and return the place for a chart. @type {typeof placeChart} */
export function openChart(canvas, margin) {
  const chart = placeChart(canvas, margin);
  clear(chart);
  return chart;
}

/** @type {Map<string, {key: string, canvas: HTMLCanvasElement}>} */
const layers = new Map();

/**
 * Draw the ground of a chart, which seldom changes, over all that was there. It is kept as a
 * picture, and drawn anew only if its key, the colours or the size of the canvas change.
 * @type {(chart: Chart, name: string, parts: (string | number)[], draw: (chart: Chart) => void) => void}
 */
export function drawLayer(chart, name, parts, draw) {
  const { width, height } = chart.ctx.canvas;
  const key = [...parts, width, height, chart.colors.card].join();
  const canvas = layers.get(name)?.canvas ?? document.createElement("canvas");
  if (layers.get(name)?.key !== key) {
    Object.assign(canvas, { width, height });
    const layer = { ...chart, ctx: contextOf(canvas, width / chart.width) };
    clear(layer);
    draw(layer);
    layers.set(name, { key, canvas });
  }
  chart.ctx.drawImage(canvas, 0, 0, chart.width, chart.height);
}

/** @type {(low: number, high: number, from: number, to: number, log?: boolean) => Scale} */
export function makeScale(low, high, from, to, log = false) {
  const on = log ? Math.log : (/** @type {number} */ value) => value;
  const [first, span] = [on(low), on(high) - on(low) || 1];
  const scale = (/** @type {number} */ value) => from + ((on(value) - first) / span) * (to - from);
  return Object.assign(scale, { low, high, log });
}

/** The value at a place of a scale. @type {(scale: Scale, at: number) => number} */
export function invert(scale, at) {
  const [from, to] = [scale(scale.low), scale(scale.high)];
  const share = (at - from) / (to - from);
  if (!scale.log) return scale.low + share * (scale.high - scale.low);
  return scale.low * (scale.high / scale.low) ** share;
}

/** Round numbers within an interval, about as many as asked for. @type {(scale: {low: number, high: number}, count: number) => Ticks} */
export function niceTicks({ low, high }, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((each) => each * power >= rough) ?? 10);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++)
    values.push(i * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return { values, label: (value) => withMinus(value.toFixed(Math.min(digits, 6))) };
}

/** Powers of ten within an interval, or 1, 2 and 5 times these. @type {(scale: Scale, count: number) => Ticks} */
export function logTicks({ low, high }, count) {
  const [first, last] = [Math.log10(low), Math.log10(high)];
  const every = Math.max(1, Math.ceil((last - first) / count));
  const values = [];
  for (let i = Math.ceil(first - 1e-9); i <= last + 1e-9; i++)
    if (i % every === 0) values.push(10 ** i);
  if (values.length < 2) {
    values.length = 0;
    for (let i = Math.floor(first); i <= last; i++) {
      values.push(...[1, 2, 5].map((each) => each * 10 ** i).filter((v) => v >= low && v <= high));
    }
  }
  const isPlain = values.every((value) => value >= 0.9e-4 && value <= 1.1e4);
  return { values, label: isPlain ? (value) => String(Number(value.toPrecision(3))) : powerLabel };
}

/** A power of ten as 10⁻⁶. @type {(value: number) => string} */
export function powerLabel(value) {
  const exponent = Math.round(Math.log10(value));
  const digits = [...String(exponent)].map((digit) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(digit)]);
  return `10${digits.join("")}`;
}

/** @type {(text: string) => string} */
export const withMinus = (text) => text.replace("-", "−").replace(/^−(0(\.0*)?)$/, "$1");

/** @type {(chart: Chart, draw: () => void) => void} */
export function clipped({ ctx, left, top, right, bottom }, draw) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, right - left, bottom - top);
  ctx.clip();
  draw();
  ctx.restore();
}

/** The widths of texts, whose measuring takes longer than their drawing. @type {Map<string, number>} */
const widths = new Map();

/** @type {(ctx: CanvasRenderingContext2D, text: string) => number} */
function widthOf(ctx, text) {
  const width = widths.get(text) ?? ctx.measureText(text).width;
  if (widths.size > 1000) widths.clear();
  widths.set(text, width);
  return width;
}

/**
 * Draw the frame: a grid, ticks and their labels, and the names of both axes.
 * @type {(chart: Chart, x: Scale, y: Scale, names: {x: string, y: string},
 *   ticks: {x: Ticks, y: Ticks}, options?: {grid?: boolean}) => void}
 */
export function drawAxes(chart, x, y, names, ticks, { grid = true } = {}) {
  const { ctx, left, right, top, bottom, colors } = chart;
  ctx.lineWidth = 1;
  ctx.fillStyle = colors.muted;
  ctx.strokeStyle = colors.grid;
  ctx.textBaseline = "top";
  ctx.textAlign = "center";
  const label = (/** @type {Ticks} */ { label: text = String }, /** @type {number} */ value) =>
    text(value);
  ctx.beginPath();
  let end = -Infinity;
  for (const value of ticks.x.values) {
    const at = Math.round(x(value)) + 0.5;
    ctx.moveTo(at, grid ? top : bottom);
    ctx.lineTo(at, bottom + 4);
    const text = label(ticks.x, value);
    const half = widthOf(ctx, text) / 2;
    const middle = Math.min(Math.max(at, half), chart.width - half);
    if (middle - half < end + 6) continue;
    ctx.fillText(text, middle, bottom + 6);
    end = middle + half;
  }
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  for (const value of ticks.y.values) {
    const at = Math.round(y(value)) + 0.5;
    ctx.moveTo(left - 4, at);
    ctx.lineTo(grid ? right : left, at);
    ctx.fillText(label(ticks.y, value), left - 7, at);
  }
  ctx.stroke();
  ctx.textBaseline = "bottom";
  ctx.fillText(names.x, right, chart.height - 1);
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  ctx.fillText(names.y, 2, 3);
  ctx.strokeStyle = colors.muted;
  ctx.beginPath();
  ctx.moveTo(left + 0.5, top);
  ctx.lineTo(left + 0.5, bottom + 0.5);
  ctx.lineTo(right, bottom + 0.5);
  ctx.stroke();
}

const MANY = 120;
const BEYOND = 8; // Pixels that a line goes on beyond its chart, more than half of its width.
// Three lines of one pixel that look like one of two pixels in every direction. Without a graphics
// processor, browsers draw a line of many points ten times as fast if it is one pixel wide.
const OFFSETS = [
  [0, -0.6],
  [0.52, 0.3],
  [-0.52, 0.3],
];
/**
 * The shares of the way from one place to another at which it comes into an interval and leaves
 * it; the second is the smaller one if it never is there.
 * @type {(from: number, to: number, low: number, high: number) => number[]}
 */
function sharesWithin(from, to, low, high) {
  if (from === to) return from >= low && from <= high ? [0, 1] : [1, 0];
  const [first, second] = [(low - from) / (to - from), (high - from) / (to - from)];
  return first < second ? [first, second] : [second, first];
}

/**
 * The path through values, as far as it lies within the chart, with gaps where a value is not
 * finite. Without this cut, a browser dashes a line that leaves the chart to its far end.
 * @type {(chart: Chart, x: Scale, y: Scale, xs: ArrayLike<number>, ys: ArrayLike<number>, until: number) => Path2D}
 */
export function pathThrough({ left, right, top, bottom }, x, y, xs, ys, until) {
  const path = new Path2D();
  const [west, east] = [left - BEYOND, right + BEYOND];
  const [north, south] = [top - BEYOND, bottom + BEYOND];
  const count = Math.min(xs.length, until);
  let [u, v, wasWithin] = [NaN, NaN, false];
  for (let i = 0; i < count; i++) {
    const p = x(xs[i]);
    const q = y(ys[i]);
    const isWithin = p >= west && p <= east && q >= north && q <= south;
    if (isWithin && wasWithin) path.lineTo(p, q);
    else if (Number.isFinite(u - p + v - q)) {
      const [across, down] = [sharesWithin(u, p, west, east), sharesWithin(v, q, north, south)];
      const [first, last] = [Math.max(0, across[0], down[0]), Math.min(1, across[1], down[1])];
      if (first <= last) {
        if (!wasWithin) path.moveTo(u + first * (p - u), v + first * (q - v));
        path.lineTo(u + last * (p - u), v + last * (q - v));
      }
    } else if (isWithin) path.moveTo(p, q);
    u = p;
    v = q;
    wasWithin = isWithin;
  }
  return path;
}

/** Draw a line through values. @type {(chart: Chart, x: Scale, y: Scale, xs: ArrayLike<number>, ys: ArrayLike<number>, style: LineStyle, until?: number) => void} */
export function drawLine(
  chart,
  x,
  y,
  xs,
  ys,
  { color, width = 2, dash = [], alpha = 1 },
  until = Infinity,
) {
  const { ctx } = chart;
  ctx.save();
  Object.assign(ctx, { strokeStyle: color, lineWidth: width, globalAlpha: alpha });
  if (xs.length > MANY) ctx.lineJoin = "bevel";
  if (dash.length) {
    Object.assign(ctx, { lineJoin: "bevel", lineCap: "butt" });
    ctx.setLineDash(dash);
  }
  const path = pathThrough(chart, x, y, xs, ys, until);
  if (xs.length > MANY && width === 2 && ctx.getTransform().a === 1) {
    ctx.lineWidth = 1;
    for (const [right, down] of OFFSETS) {
      ctx.setTransform(1, 0, 0, 1, right, down);
      ctx.stroke(path);
    }
  } else ctx.stroke(path);
  ctx.restore();
}

/** Draw a horizontal line at a value. @type {(chart: Chart, y: Scale, value: number, style: LineStyle) => void} */
export function drawLevel(chart, y, value, style) {
  const along = makeScale(0, 1, chart.left, chart.right);
  drawLine(chart, along, y, [0, 1], [value, value], style);
}

/** Draw a disc with a ring around it. @type {(chart: Chart, x: number, y: number, radius: number, fill: string, ring: string, width?: number) => void} */
export function drawDisc({ ctx }, x, y, size, fill, ring, width = 2) {
  if (!Number.isFinite(x + y)) return;
  ctx.beginPath();
  ctx.arc(x, y, size, 0, 2 * Math.PI);
  Object.assign(ctx, { fillStyle: fill, strokeStyle: ring, lineWidth: width });
  ctx.fill();
  ctx.stroke();
}

/** Draw a star with five points. @type {(chart: Chart, x: number, y: number, radius: number, fill: string, ring: string) => void} */
export function drawStar({ ctx }, x, y, size, fill, ring) {
  ctx.beginPath();
  for (let i = 0; i < 10; i++) {
    const angle = (Math.PI * i) / 5 - Math.PI / 2;
    const length = i % 2 ? 0.42 * size : size;
    ctx.lineTo(x + length * Math.cos(angle), y + length * Math.sin(angle));
  }
  ctx.closePath();
  Object.assign(ctx, { fillStyle: fill, strokeStyle: ring, lineWidth: 1.5 });
  ctx.fill();
  ctx.stroke();
}

/** Draw a cross of two strokes. @type {(chart: Chart, x: number, y: number, size: number, color: string) => void} */
export function drawCross({ ctx }, x, y, size, color) {
  Object.assign(ctx, { strokeStyle: color, lineWidth: 2 });
  ctx.beginPath();
  ctx.moveTo(x - size, y - size);
  ctx.lineTo(x + size, y + size);
  ctx.moveTo(x - size, y + size);
  ctx.lineTo(x + size, y - size);
  ctx.stroke();
}

/** @type {(color: string) => number[]} */
export function rgbOf(color) {
  const hex = color.replace("#", "");
  return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

// Every eighth of the colour map viridis, from its bright end on, as on momentax's own maps.
const VIRIDIS = "fde725 addc30 5ec962 28ae80 21918c 2c728e 3b528b 472d7b 440154"
  .split(" ")
  .map(rgbOf);

/** The colour of a share in [0, 1], 0 being bright. @type {(share: number) => number[]} */
export function viridis(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[i].map((value, channel) => value + (at - i) * (VIRIDIS[i + 1][channel] - value));
}
