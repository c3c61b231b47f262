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
 * Call a function with the name of a task that is clicked in a text of Python.
 * @param {Element} text
 * @param {(name: string) => void} go
 */
function links(text, go) {
  text.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("[data-task]");
    if (link) go(link.getAttribute("data-task") || "");
  });
}

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
