// @ts-check
// What the views share. Python puts this text in front of each of them: a widget is one ES module without a build step.

const SVG = "http://www.w3.org/2000/svg";

/**
 * How a status looks, as matterstack/notebook/statuses.py says.
 * @typedef {{ code: string, name: string, colour: string, glyph: string }} Look
 */

/**
 * Make an element; `svg:` before its name makes one of SVG. Text is text: nothing in it is markup.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {Element | null} [parent]
 * @param {string | null} [text]
 * @returns {any}
 */
function make(tag, attributes = {}, parent = null, text = null) {
  const element = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text !== null) element.textContent = text;
  if (parent) parent.appendChild(element);
  return element;
}

/**
 * Draw the glyph of a status as an icon.
 * @param {Look} look
 * @param {number} size in pixels
 * @param {Element} parent
 */
function icon(look, size, parent) {
  const svg = make("svg:svg", { width: size, height: size, viewBox: "0 0 16 16" }, parent);
  make("svg:path", { d: look.glyph, stroke: look.colour, fill: "none", "stroke-width": 2.2 }, svg);
}

/**
 * The icons of all views: lines in a box of 16 by 16.
 * @type {Record<string, string>}
 */
const ICONS = {
  back: "M9.5 3.5 L5 8 L9.5 12.5",
  chart: "M2.5 2.5 V13.5 H13.5 M5 10 L7.5 6.5 L9.5 8.5 L13 4",
  check: "M3 8.5 L6.5 12 L13 4.5",
  clock: "M8 2.5 A5.5 5.5 0 1 1 7.99 2.5 M8 5 V8 L10.5 9.5",
  close: "M4 4 L12 12 M12 4 L4 12",
  compare: "M2.5 2.5 H6.5 V13.5 H2.5 Z M9.5 2.5 H13.5 V13.5 H9.5 Z",
  copy: "M5.5 5.5 H13.5 V13.5 H5.5 Z M10.5 5.5 V2.5 H2.5 V10.5 H5.5",
  down: "M3.5 6 L8 10.5 L12.5 6",
  download: "M8 2.5 V10 M4.5 7 L8 10.5 L11.5 7 M2.5 13.5 H13.5",
  file: "M4 1.5 H9.5 L12.5 4.5 V14.5 H4 Z M9.5 1.5 V4.5 H12.5",
  fit: "M2.5 6 V2.5 H6 M10 2.5 H13.5 V6 M13.5 10 V13.5 H10 M6 13.5 H2.5 V10",
  folder: "M1.5 3.5 H6 L7.5 5 H14.5 V13 H1.5 Z",
  full: "M9.5 2.5 H13.5 V6.5 M13.5 2.5 L9 7 M6.5 13.5 H2.5 V9.5 M2.5 13.5 L7 9",
  left: "M12.5 8 H3.5 M7 4.5 L3.5 8 L7 11.5",
  more: "M3.5 8 H3.51 M8 8 H8.01 M12.5 8 H12.51",
  open: "M6 3 H3 V13 H13 V10 M9 3 H13 V7 M13 3 L7.5 8.5",
  pause: "M5.5 3.5 V12.5 M10.5 3.5 V12.5",
  person: "M8 2.5 A2.75 2.75 0 1 1 7.99 2.5 M2.5 14 C2.5 10 13.5 10 13.5 14",
  picture: "M2 3 H14 V13 H2 Z M2 11 L6 7.5 L9 10 L11 8.5 L14 11 M10.5 5.5 H10.51",
  play: "M5 3 L13 8 L5 13 Z",
  retry: "M13 8 A5 5 0 1 1 11.5 4.4 M13 2 V5 H10",
  right: "M3.5 8 H12.5 M9 4.5 L12.5 8 L9 11.5",
  run: "M2.5 8 H5 L7 3.5 L9.5 12.5 L11.5 8 H13.5",
  search: "M7 2.5 A4.5 4.5 0 1 1 6.99 2.5 M10.3 10.3 L13.5 13.5",
  step: "M4 3.5 L10 8 L4 12.5 Z M12.5 3.5 V12.5",
  stop: "M4 4 H12 V12 H4 Z",
  structure: "M8 1.5 L13.5 4.75 V11.25 L8 14.5 L2.5 11.25 V4.75 Z M2.5 4.75 L8 8 L13.5 4.75 M8 8 V14.5",
  table: "M2 3 H14 V13 H2 Z M2 6.5 H14 M2 10 H14 M7 3 V13",
  text: "M3 4 H13 M3 7 H13 M3 10 H13 M3 13 H9",
  tree: "M3 2.5 V12.5 H7 M3 5.5 H7 M8.5 4 H13 V7 H8.5 Z M8.5 11 H13 V14 H8.5 Z",
  up: "M3.5 10 L8 5.5 L12.5 10",
  "zoom-in": "M7 2.5 A4.5 4.5 0 1 1 6.99 2.5 M10.3 10.3 L13.5 13.5 M5 7 H9 M7 5 V9",
  "zoom-out": "M7 2.5 A4.5 4.5 0 1 1 6.99 2.5 M10.3 10.3 L13.5 13.5 M5 7 H9",
};

/**
 * Draw one of the icons, in the colour of the text; it says nothing to a screen reader, which the button does.
 * @param {string} name
 * @param {Element} parent
 * @param {number} size in pixels
 */
function symbol(name, parent, size = 16) {
  const svg = make("svg:svg", { class: "ms-symbol", width: size, height: size, viewBox: "0 0 16 16", "aria-hidden": "true" }, parent);
  make("svg:path", { d: ICONS[name] }, svg);
  return svg;
}

/**
 * Numbers for the marks of an axis: multiples of 1, 2 or 5 times a power of ten.
 * @param {number} low @param {number} high @param {number} about how many of them
 * @returns {number[]}
 */
function ticks(low, high, about) {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span) || about < 1) return Number.isFinite(low) ? [low] : [];
  const power = 10 ** Math.floor(Math.log10(span / about));
  const step = power * ([1, 2, 5].find((factor) => span / (factor * power) <= about) || 10);
  const found = [], first = Math.ceil(low / step - 1e-9);
  for (let number = first; number * step <= high + step * 1e-9; number++) found.push(Number((number * step).toPrecision(12)));
  return found;
}

/**
 * Say so where the kernel of a view is gone; what Python changes shows that it is there. Returns what stops that.
 * @param {any} model
 * @param {Element} root
 * @param {string} sign the event of what Python alone says, and often
 * @param {() => void} [ask] has Python say it
 */
function still(model, root, sign, ask = () => {}) {
  const note = make("div", { class: "ms-still", hidden: "" }, null,
    "A still picture: the kernel that drew it is gone, the run is not. Run this cell again to go on.");
  root.prepend(note);
  const gone = () => { note.hidden = false; ask(); };
  const back = () => { note.hidden = true; };
  model.on("comm_live_update", gone);
  model.on(sign, back);
  return () => { model.off("comm_live_update", gone); model.off(sign, back); };
}

/**
 * Send a message to Python. Where its kernel is gone nothing is sent: the view says so.
 * @param {{ send: (message: unknown) => void }} model
 * @param {unknown} message
 */
function send(model, message) {
  try { model.send(message); } catch (error) { console.debug("matterstack: not sent,", error); }
}

/**
 * Tell Python for as long as somebody may see a view; returns what stops that.
 * @param {{ send: (message: unknown) => void }} model
 */
function pulse(model) {
  const alive = () => send(model, { here: true });
  alive();
  const timer = setInterval(alive, 20000);
  return () => clearInterval(timer);
}

/**
 * Call a function with what is clicked in an element, as an attribute of it says. Also where that is made anew while it is pressed, as
 * happens where a run goes on: then a browser sends no click.
 * @param {Element} parent
 * @param {string} attribute
 * @param {(value: string) => void} act
 */
function clicks(parent, attribute, act) {
  const valueAt = (/** @type {Event} */ event) => event.target instanceof Element && event.target.closest(`[${attribute}]`)?.getAttribute(attribute) || "";
  let pressed = "", isDone = false;
  parent.addEventListener("pointerdown", (event) => {
    const { button, pointerType } = /** @type {PointerEvent} */ (event);
    pressed = button || pointerType !== "mouse" ? "" : valueAt(event); // the click of a finger comes later than its end
  });
  parent.addEventListener("pointerup", (event) => {
    const value = pressed;
    pressed = "";
    isDone = false;
    if (value && valueAt(event) === value) setTimeout(() => { if (!isDone) act(value); }); // after the click, where there is one
  });
  parent.addEventListener("click", (event) => {
    isDone = true;
    const value = valueAt(event);
    if (value) act(value);
  });
}

/**
 * Call a function with the name of a task that is clicked in a text of Python.
 * @param {Element} text
 * @param {(name: string) => void} go
 */
const links = (text, go) => clicks(text, "data-task", go);

/**
 * Change a model, here and in Python. Not by `save_changes`: that waits until the kernel has told the end of the change
 * before, which is never told when a cell awaits meanwhile (ipykernel 7.4); what is changed after that would be lost.
 * @param {any} model
 * @param {Record<string, unknown>} values
 */
function change(model, values) {
  model.set(values);
  send(model, { change: values });
}

/** @param {number} at seconds since the Unix epoch @returns {[string, string]} the whole of it, with its zone and in UTC; and short */
function moment(at) {
  const date = new Date(at * 1000), two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const minute = `${two(date.getHours())}:${two(date.getMinutes())}`, second = `${minute}:${two(date.getSeconds())}`;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const today = date.toDateString() === new Date().toDateString();
  return [`${day} ${second} ${zone}\n${date.toISOString().slice(0, 19).replace("T", " ")} UTC`, today ? second : `${day} ${minute}`];
}

/**
 * A duration by its two largest units, as in `2 h 5 min`.
 * @param {number} seconds
 */
function span(seconds) {
  const left = Math.max(0, Math.round(seconds));
  const steps = /** @type {[number, string][]} */ ([[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]);
  const first = steps.findIndex(([size]) => left >= size);
  if (first < 0) return "0 s";
  const [size, unit] = steps[first], [below, name] = steps[first + 1] || [1, ""], rest = Math.floor((left % size) / below);
  return `${Math.floor(left / size)} ${unit}${rest && name ? ` ${rest} ${name}` : ""}`;
}

/**
 * Keep keys without Ctrl, Alt or Meta from the notebook, for which they are commands: `b` makes a cell, `d` twice takes one away.
 * Also those of buttons beside the view, in the outermost widget around it. Returns what stops that.
 * @param {HTMLElement} root
 */
function ownKeys(root) {
  const keep = (/** @type {KeyboardEvent} */ event) => { if (!event.ctrlKey && !event.altKey && !event.metaKey) event.stopPropagation(); };
  let outer = root;
  const placed = new ResizeObserver(() => { // it has parents now
    for (let at = root.parentElement; at; at = at.parentElement) if (at.classList.contains("jupyter-widgets")) outer = at;
    outer.addEventListener("keydown", keep);
    if (outer !== root) placed.disconnect();
  });
  // Notebook 7 takes keys before they come to where they are typed, unless that says so; others before that, which are kept here.
  const suppress = (/** @type {KeyboardEvent} */ event) => {
    if (event.target instanceof Element && outer.contains(event.target))
      event.target.toggleAttribute("data-lm-suppress-shortcuts", !event.ctrlKey && !event.altKey && !event.metaKey);
  };
  root.addEventListener("keydown", keep);
  window.addEventListener("keydown", suppress, true);
  placed.observe(root);
  return () => { placed.disconnect(); outer.removeEventListener("keydown", keep); window.removeEventListener("keydown", suppress, true); };
}

/**
 * Fill an element anew, and leave the focus where it was: at what has the same `data-keep`, else at the same place.
 * @param {Element} parent
 * @param {() => void} fill
 * @param {{ focus: () => void }} [otherwise] what has the focus where that is gone
 */
function keepFocus(parent, fill, otherwise) {
  const all = () => /** @type {HTMLElement[]} */ ([...parent.querySelectorAll("button, input, select, summary, a, [tabindex]")]);
  const had = document.activeElement, place = had instanceof HTMLElement ? all().indexOf(had) : -1;
  const key = place < 0 ? "" : all()[place].dataset.keep;
  fill();
  if (place < 0) return;
  (key ? all().find((part) => part.dataset.keep === key) || otherwise : all()[place] || otherwise)?.focus();
}

/**
 * Let the keyboard reach what scrolls and has nothing in it that it could go to.
 * @param {Element} text
 */
function reachable(text) {
  for (const part of /** @type {HTMLElement[]} */ ([...text.querySelectorAll("pre, .ms-value, .ms-scroll")])) {
    if (part.scrollHeight > part.clientHeight || part.scrollWidth > part.clientWidth) part.tabIndex = 0;
  }
}
