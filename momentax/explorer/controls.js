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

/** Set a text, without touching the page where it is the same. @type {(id: string, text: string) => void} */
export function write(id, text) {
  const node = element(id);
  if (node.textContent !== text) node.textContent = text;
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
  const place = String(Math.round(PLACES * share));
  if (range.value !== place) range.value = place;
  const text = short(value, 4);
  range.setAttribute("aria-valuetext", text);
  field.setAttribute("aria-label", `${label.textContent}, exact value`);
  if (document.activeElement !== field) field.value = text;
}
