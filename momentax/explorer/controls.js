/** The sliders, each beside a field for an exact number. */

import { clamp, fromScale, rangesOf, short, toScale } from "./choices.js";

/** @typedef {import("./choices.js").Settings} Settings */
/** @typedef {import("./choices.js").Range} Range */
/** @typedef {"alpha" | "beta" | "shape" | "extra" | "noise" | "steps" | "x" | "y"} NumberName */
/** @typedef {{row: HTMLElement, label: HTMLLabelElement, range: HTMLInputElement, field: HTMLInputElement}} Slider */

const PLACES = 400; // Positions of a slider.

/** @type {(id: string) => HTMLElement} */
export function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found;
}

/*
 * A browser works on whatever is set, even if it was the same before. These functions leave alone
 * what is, and keep the elements of the page where only their texts differ.
 */

/** Set properties of an element. @type {(target: Node, properties: Record<string, unknown>) => void} */
export function set(target, properties) {
  const now = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (target));
  for (const [name, value] of Object.entries(properties)) {
    if (now[name] !== value) now[name] = value;
  }
}

/** Set the text of an element. @type {(id: string | HTMLElement, text: string) => void} */
export function write(id, text) {
  const target = typeof id === "string" ? element(id) : id;
  const node = target.firstChild;
  if (node instanceof Text) set(node, { data: text });
  else if (text !== "") target.textContent = text;
}

/** What was written as HTML: its tags, its texts and their nodes. @type {Map<string, {tags: string, texts: string[], nodes: Text[]}>} */
const written = new Map();

/** Set the content of an element. @type {(id: string, html: string) => void} */
export function writeHtml(id, html) {
  const parts = html.split(/(<[^>]*>)/);
  const tags = parts.map((part) => (part === "" || part[0] === "<" ? part : "_")).join("");
  const texts = parts.filter((part) => part !== "" && part[0] !== "<");
  const known = written.get(id);
  const changes = texts.flatMap((text, i) => (known?.texts[i] === text ? [] : [i]));
  // A text node would show an entity, such as &lt;, as it is written.
  if (known?.tags === tags && !changes.some((i) => texts[i].includes("&"))) {
    for (const i of changes) known.nodes[i].data = texts[i];
    known.texts = texts;
    return;
  }
  const target = element(id);
  target.innerHTML = html;
  const walker = document.createTreeWalker(target, NodeFilter.SHOW_TEXT);
  const nodes = texts.map(() => /** @type {Text} */ (walker.nextNode()));
  written.set(id, { tags, texts, nodes });
}

/**
 * Add a slider and its field to a group.
 * @type {(group: string, name: NumberName, text: string, change: (changes: Partial<Settings>) => void, settings: () => Settings) => Slider}
 */
export function addSlider(group, name, text, change, settings) {
  const row = document.createElement("div");
  row.className = "slider";
  const label = document.createElement("label");
  const [range, field] = [document.createElement("input"), document.createElement("input")];
  Object.assign(label, { htmlFor: name, textContent: text });
  Object.assign(range, { type: "range", id: name, min: "0", max: String(PLACES), step: "1" });
  Object.assign(field, { type: "text", id: `${name}-field`, inputMode: "decimal" });
  field.autocomplete = "off";
  row.append(label, field, range);
  element(group).append(row);
  range.addEventListener("input", () => {
    const limits = rangesOf(settings())[name];
    change({ [name]: valueAt(Number(range.value) / PLACES, limits) });
  });
  field.addEventListener("change", () => {
    const limits = rangesOf(settings())[name];
    const value = Number(field.value.trim().replace("−", "-").replace(",", "."));
    const isNumber = field.value.trim() !== "" && Number.isFinite(value);
    change(isNumber ? { [name]: clamp(value, limits) } : {});
    field.value = short(settings()[name], 4); // A text that is no number, or too large, goes.
  });
  return { row, label, range, field };
}

/** The value at a share of a slider, rounded to digits that a person reads. @type {(share: number, limits: Range) => number} */
export function valueAt(share, limits) {
  const [low, high] = [toScale(limits.low, limits), toScale(limits.high, limits)];
  const value = fromScale(low + share * (high - low), limits);
  if (limits.scale === "momentum") return clamp(1 - Number((1 - value).toPrecision(3)), limits);
  if (limits.scale === "log") return clamp(Number(value.toPrecision(3)), limits);
  const step = limits.step ?? (limits.high - limits.low) / PLACES;
  return clamp(Number((Math.round(value / step) * step).toPrecision(6)), limits);
}

/** Show a value on a slider. @type {(slider: Slider, value: number, limits: Range) => void} */
export function showValue({ range, field, label }, value, limits) {
  const [low, high] = [toScale(limits.low, limits), toScale(limits.high, limits)];
  const share = high > low ? (toScale(value, limits) - low) / (high - low) : 0;
  const text = short(value, 4);
  set(range, { value: String(Math.round(PLACES * share)), ariaValueText: text });
  set(field, { ariaLabel: `${label.textContent}, exact value` });
  if (document.activeElement !== field) set(field, { value: text });
}
