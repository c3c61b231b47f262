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
 * Say so where the kernel of a view is gone; what Python changes shows that it is there. Returns what stops that.
 * @param {any} model
 * @param {Element} root
 * @param {string} sign what Python alone changes, and often
 * @param {() => void} [ask] has Python change it
 */
function still(model, root, sign, ask = () => {}) {
  const note = make("div", { class: "ms-still", hidden: "" }, null,
    "A still picture: the kernel that drew it is gone, the run is not. Run this cell again to go on.");
  root.prepend(note);
  const gone = () => { note.hidden = false; ask(); };
  const back = () => { note.hidden = true; };
  model.on("comm_live_update", gone);
  model.on(`change:${sign}`, back);
  return () => { model.off("comm_live_update", gone); model.off(`change:${sign}`, back); };
}

/**
 * Tell Python for as long as somebody may see a view; returns what stops that.
 * @param {{ send: (message: unknown) => void }} model
 */
function pulse(model) {
  const alive = () => model.send({ here: true });
  alive();
  const timer = setInterval(alive, 20000);
  return () => clearInterval(timer);
}

/**
 * Change a model, here and in Python. Not by `save_changes`: that waits until the kernel has told the end of the change
 * before, which is never told when a cell awaits meanwhile (ipykernel 7.4); what is changed after that would be lost.
 * @param {any} model
 * @param {Record<string, unknown>} values
 */
function change(model, values) {
  model.set(values);
  model.send({ change: values });
}
