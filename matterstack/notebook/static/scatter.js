// @ts-check
// A scatter of results. Points are on a canvas, axes are SVG; which results there are, and which are best, Python says.

/**
 * @typedef {{ name: string, label: string, title: string, kind: string }} Choice
 * @typedef {{ x: string, y: string, colour: string, log_x: boolean, log_y: boolean }} Axes
 * @typedef {"x" | "y"} Side
 * @typedef {{ said: string, heads: string[], rows: string[][], total: number, places: number[], line: [number, number][],
 *   goes_on: boolean }} Best
 * @typedef {{ at: number, text: string }} Mark
 * @typedef {{ x: number[], y: number[] }} Window
 */

/** @type {Side[]} */
const SIDES = ["x", "y"];
const NEAR_PX = 12, DRAG_PX = 5, BUSY_MS = 1200, NARROW = 640, TOP_PX = 12, BOTTOM_PX = 48, RIGHT_PX = 16;

/** @param {number} value @param {number} digits */
const short = (value, digits = 6) => Number.isFinite(value) ? String(Number(value.toPrecision(digits))) : "";

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const root = make("div", { class: "ms-view ms-scatter" }, el);
  const bar = make("div", { class: "ms-bar" }, root);
  /** @type {Record<string, HTMLSelectElement>} */
  const selects = {};
  for (const [axis, said] of [["y", "y"], ["x", "x"], ["colour", "colour"]]) {
    const label = make("label", { class: "ms-choice" }, bar);
    make("span", {}, label, said);
    selects[axis] = make("select", { class: "ms-button", "aria-label": `${said}: column` }, label);
  }
  /** @type {Record<string, HTMLButtonElement>} */
  const logs = {};
  for (const side of SIDES)
    logs[side] = make("button", { type: "button", class: "ms-button", "aria-pressed": "false", title: `${side} logarithmic; what is not above zero is left out` }, bar, `log ${side}`);
  const count = make("span", { class: "ms-note", role: "status" }, bar);
  make("span", { class: "ms-gap" }, bar);
  const acts = make("span", { class: "ms-together" }, bar);
  /** @param {string} name @param {string} title @param {() => void} act @param {string} [text] */
  const button = (name, title, act, text = "") => {
    const made = make("button", { type: "button", class: "ms-button", title, "aria-label": title }, acts);
    symbol(name, made);
    if (text) make("span", {}, made, text);
    made.onclick = act;
  };
  button("zoom-in", "zoom in", () => zoom(0.6));
  button("zoom-out", "zoom out", () => zoom(1 / 0.6));
  button("fit", "show all", () => fit());
  button("picture", "save as PNG", () => savePicture(), "PNG");
  button("download", "save as CSV", () => saveTable(), "CSV");
  const busy = make("div", { class: "ms-note", role: "status", hidden: "" }, root, "The kernel is busy with a cell: this is done when it ends.");
  const legend = make("div", { class: "ms-bar ms-shades" }, root);
  const body = make("div", { class: "ms-body" }, root);
  const stage = make("div", { class: "ms-plot", tabindex: "0", role: "application",
    "aria-label": "results as points: arrow keys walk from point to point along x, Home and End, Enter tells all about one, Escape closes; plus and minus zoom, 0 shows all" }, body);
  const axesSvg = make("svg:svg", { "aria-hidden": "true" }, stage);
  const under = make("canvas", {}, stage), over = make("canvas", {}, stage);
  const tip = make("div", { class: "ms-tip", hidden: "" }, stage);
  const empty = make("div", { class: "ms-empty ms-note", hidden: "" }, stage);
  const panel = make("div", { class: "ms-panel", hidden: "" }, body);
  const close = make("button", { type: "button", class: "ms-button ms-close", title: "close the panel", "aria-label": "close the panel" }, make("div", { class: "ms-panel-head" }, panel));
  symbol("close", close);
  const told = make("div", { "aria-live": "polite" }, panel);
  const list = make("div", { class: "ms-best" }, root);
  const spoken = make("div", { class: "ms-spoken", role: "status" }, root);

  // -- the results -----------------------------------------------------------------------------

  /** @type {string[]} */
  let tasks = [];
  /** @type {Record<string, number[]>} */
  let along = { x: [], y: [], colour: [] };
  /** @type {Record<string, string[]>} */
  let words = {};
  let first = 0, number = -1, sorted = /** @type {number[] | null} */ (null);

  /** @returns {Axes} */
  const axes = () => model.get("axes");
  /** @param {DataView} view @returns {number[]} */
  const numbers = (view) => [...new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength))];
  /** @param {string} name @returns {Choice} */
  const about = (name) => model.get("columns").find((/** @type {Choice} */ one) => one.name === name) || { name, label: name, title: name, kind: "" };

  function takeAll() {
    const values = model.get("values"), turned = number !== values.number;
    ({ number, first, words } = values);
    tasks = [...model.get("tasks")];
    along = { x: numbers(values.x), y: numbers(values.y), colour: numbers(values.colour) };
    sorted = null;
    if (turned) { focus = -1; zoomed = false; }
    answered();
    refresh();
  }
  /** @param {any} message @param {DataView[]} buffers */
  function takeMore(message, buffers) {
    const more = message.more;
    if (!more || more.number !== number) return;
    const known = first + tasks.length;
    if (more.first > known) { askRest(); return; }
    const fresh = known - more.first;
    if (fresh >= more.tasks.length) return;
    for (const name of more.tasks.slice(fresh)) tasks.push(name);
    ["x", "y", "colour"].forEach((axis, place) => { for (const value of numbers(buffers[place]).slice(fresh)) along[axis].push(value); });
    words = more.words;
    sorted = null;
    refresh();
  }
  const askRest = () => send(model, { after: { number, count: first + tasks.length } });

  // -- from values to pixels, and back ------------------------------------------------------------

  /** @type {Window} what is in sight, in what the axes count: powers of ten where one is logarithmic */
  let sight = { x: [0, 1], y: [0, 1] };
  let zoomed = false, left = 64, width = 0, height = 0;
  /** @param {Side} side */
  const isLog = (side) => (side === "x" ? axes().log_x : axes().log_y) && !words[side];
  /** @param {Side} side @param {number} value */
  const counted = (side, value) => isLog(side) ? (value > 0 ? Math.log10(value) : NaN) : value;
  /** @param {number} value as the axis counts */
  const toX = (value) => left + (value - sight.x[0]) / (sight.x[1] - sight.x[0]) * (width - left - RIGHT_PX);
  /** @param {number} value as the axis counts */
  const toY = (value) => height - BOTTOM_PX - (value - sight.y[0]) / (sight.y[1] - sight.y[0]) * (height - BOTTOM_PX - TOP_PX);
  /** @param {number} px */
  const fromX = (px) => sight.x[0] + (px - left) / (width - left - RIGHT_PX) * (sight.x[1] - sight.x[0]);
  /** @param {number} px */
  const fromY = (px) => sight.y[0] + (height - BOTTOM_PX - px) / (height - BOTTOM_PX - TOP_PX) * (sight.y[1] - sight.y[0]);
  let across = new Float64Array(0), upward = new Float64Array(0); // where the points are, in pixels
  function settle() {
    across = Float64Array.from(along.x);
    upward = Float64Array.from(along.y);
    const logs_ = { x: isLog("x"), y: isLog("y") }, [x0, x1] = sight.x, [y0, y1] = sight.y;
    const wide = (width - left - RIGHT_PX) / (x1 - x0), high = (height - BOTTOM_PX - TOP_PX) / (y1 - y0);
    for (let place = 0; place < across.length; place++) {
      const x = logs_.x ? (across[place] > 0 ? Math.log10(across[place]) : NaN) : across[place];
      const y = logs_.y ? (upward[place] > 0 ? Math.log10(upward[place]) : NaN) : upward[place];
      across[place] = left + (x - x0) * wide;
      upward[place] = height - BOTTOM_PX - (y - y0) * high;
    }
  }
  /** @param {number} place @returns {[number, number]} */
  const pixel = (place) => [across[place] ?? NaN, upward[place] ?? NaN];

  /** @param {Side} side @returns {number[]} what has all points in it */
  function whole(side) {
    if (words[side]) return [-0.5, words[side].length - 0.5];
    let low = Infinity, high = -Infinity;
    const other = side === "x" ? "y" : "x";
    along[side].forEach((value, place) => {
      const at = counted(side, value);
      if (!Number.isFinite(at) || !Number.isFinite(counted(other, along[other][place]))) return;
      if (at < low) low = at;
      if (at > high) high = at;
    });
    if (low > high) return [0, 1];
    const room = (high - low) * 0.04 || Math.max(Math.abs(high) * 0.04, isLog(side) ? 0.1 : 1e-9);
    return [low - room, high + room];
  }
  function fit() {
    zoomed = false;
    draw();
  }
  /** @param {number} factor @param {number} [x] @param {number} [y] in pixels: what stays where it is */
  function zoom(factor, x = (left + width - RIGHT_PX) / 2, y = (TOP_PX + height - BOTTOM_PX) / 2) {
    look({ x: sight.x.map((end) => fromX(x) + (end - fromX(x)) * factor), y: sight.y.map((end) => fromY(y) + (end - fromY(y)) * factor) });
  }
  /** @param {number} x @param {number} y in pixels */
  function pan(x, y) {
    const by = { x: fromX(left) - fromX(left + x), y: fromY(0) - fromY(y) };
    look({ x: sight.x.map((end) => end + by.x), y: sight.y.map((end) => end + by.y) });
  }
  /** @param {Window} next */
  function look(next) {
    for (const side of SIDES) { // not below what numbers can tell apart
      const [low, high] = next[side];
      if (!(high - low > Math.max(Math.abs(low), Math.abs(high)) * 1e-12) || !Number.isFinite(high - low)) return;
    }
    sight = next;
    zoomed = true;
    draw();
  }

  /** @param {Side} side @returns {Mark[]} */
  function marks(side) {
    const [low, high] = sight[side], about = side === "x" ? (width - left) / 96 : height / 56;
    if (words[side]) {
      const step = Math.max(1, Math.ceil((high - low) / Math.max(1, about)));
      return words[side].map((word, at) => ({ at, text: word.length > 18 ? `${word.slice(0, 17)}…` : word }))
        .filter(({ at }) => at >= low && at <= high && at % step === 0);
    }
    if (!isLog(side)) return ticks(low, high, about).map((at) => ({ at, text: written(at) }));
    if (high - low > 2) {
      const step = Math.max(1, Math.ceil((high - low) / about));
      const powers = ticks(Math.ceil(low), Math.floor(high), (high - low) / step).filter(Number.isInteger);
      return (powers.length ? powers : [Math.ceil(low)]).map((at) => ({ at, text: written(10 ** at) }));
    }
    return ticks(10 ** low, 10 ** high, about).filter((value) => value > 0).map((value) => ({ at: Math.log10(value), text: written(value) }));
  }
  /** @param {number} value */
  const written = (value) => value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)
    ? value.toExponential(3).replace(/\.?0+e\+?/, "e") : String(Number(value.toPrecision(10)));

  // -- colours ---------------------------------------------------------------------------------

  /** @param {string} hex @returns {number[]} */
  const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  /** @param {number} share from 0 to 1 */
  function shade(share) {
    const ramp = model.get("ramp"), at = Math.min(0.9999, Math.max(0, share)) * (ramp.length - 1), from = Math.floor(at);
    const low = parts(ramp[from]), high = parts(ramp[from + 1]);
    return low.map((part, place) => Math.round(part + (high[place] - part) * (at - from)));
  }
  const MISSING = [147, 145, 146], SHADES = Array.from({ length: 48 }, (_, place) => shade(place / 47));
  function range() {
    let low = Infinity, high = -Infinity;
    for (const value of along.colour) { if (value < low) low = value; if (value > high) high = value; }
    return [low, high];
  }
  /** @returns {(place: number) => number[]} the colour of each place */
  function colours() {
    const series = model.get("series").map(parts), by = along.colour;
    if (!axes().colour) return () => series[0];
    if (words.colour) return (place) => Number.isNaN(by[place]) ? MISSING : series[by[place] % series.length];
    const [low, high] = range(), span = high - low || 1;
    return (place) => Number.isNaN(by[place]) ? MISSING : SHADES[Math.round(((by[place] - low) / span) * 47)];
  }
  function explain() {
    legend.replaceChildren();
    legend.hidden = !axes().colour;
    if (legend.hidden) return;
    make("span", { class: "ms-note" }, legend, about(axes().colour).title);
    if (words.colour) {
      words.colour.forEach((word, place) => {
        const key = make("span", { class: "ms-shade" }, legend);
        make("i", { style: `background:${model.get("series")[place % model.get("series").length]}` }, key);
        key.append(word);
      });
      return;
    }
    const [low, high] = range();
    make("span", { class: "ms-end" }, legend, short(low, 4));
    make("i", { class: "ms-ramp", style: `background:linear-gradient(to right, ${model.get("ramp").join(",")})` }, legend);
    make("span", { class: "ms-end" }, legend, short(high, 4));
  }

  // -- drawing -----------------------------------------------------------------------------------

  let due = 0, hover = -1, focus = -1, selected = -1, drag = /** @type {number[] | null} */ (null);
  function draw() {
    if (!due) due = requestAnimationFrame(() => { due = 0; paint(); });
  }
  /** @param {HTMLCanvasElement} canvas @param {number} [scale] @returns {CanvasRenderingContext2D} */
  function clean(canvas, scale = devicePixelRatio || 1) {
    const to = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== to[0] || canvas.height !== to[1]) [canvas.width, canvas.height] = to;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }
  function paint() {
    [width, height] = [stage.clientWidth, stage.clientHeight];
    if (!width || !tasks.length && !model.get("values").number) return;
    const begun = performance.now();
    if (!zoomed) sight = { x: whole("x"), y: whole("y") };
    const up = marks("y");
    left = Math.min(160, 40 + 7 * Math.max(2, ...up.map(({ text }) => text.length)));
    frame(marks("x"), up);
    settle();
    points(under, devicePixelRatio || 1);
    ring();
    root.dataset.drawMs = (performance.now() - begun).toFixed(2);
  }
  /** @param {Mark[]} right @param {Mark[]} up */
  function frame(right, up) {
    axesSvg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    axesSvg.replaceChildren();
    const bottom = height - BOTTOM_PX;
    for (const { at, text } of right) {
      make("svg:path", { d: `M${toX(at)} ${TOP_PX} V${bottom}` }, axesSvg);
      make("svg:text", { x: toX(at), y: bottom + 16, "text-anchor": "middle" }, axesSvg, text);
    }
    for (const { at, text } of up) {
      make("svg:path", { d: `M${left} ${toY(at)} H${width - RIGHT_PX}` }, axesSvg);
      make("svg:text", { x: left - 8, y: toY(at) + 4, "text-anchor": "end" }, axesSvg, text);
    }
    make("svg:text", { x: (left + width - RIGHT_PX) / 2, y: height - 8, "text-anchor": "middle", class: "ms-title" }, axesSvg, about(axes().x).title);
    make("svg:text", { transform: `translate(16,${(TOP_PX + bottom) / 2}) rotate(-90)`, "text-anchor": "middle", class: "ms-title" }, axesSvg, about(axes().y).title);
  }
  /**
   * Stamp the points into the pixels: where a browser draws without a graphics card, ten thousand circles take ten times as long.
   * @param {HTMLCanvasElement} canvas @param {number} scale
   */
  function points(canvas, scale) {
    const context = clean(canvas, scale), image = context.createImageData(canvas.width, canvas.height), { data } = image, row = canvas.width;
    const radius = scale * (tasks.length > 4000 ? 2.5 : tasks.length > 600 ? 3 : 4), reach = Math.ceil(radius), size = 2 * reach + 1;
    const solid = tasks.length > 600 ? 0.75 : 0.9;
    const stamp = Float32Array.from({ length: size * size }, (_, at) =>
      solid * Math.min(1, Math.max(0, radius + 0.5 - Math.hypot((at % size) - reach, Math.floor(at / size) - reach))));
    const colour = colours(), [low, high] = [left * scale - reach, (width - RIGHT_PX) * scale + reach];
    const [top, bottom] = [TOP_PX * scale - reach, (height - BOTTOM_PX) * scale + reach];
    for (let place = 0; place < across.length; place++) {
      const x = Math.round(across[place] * scale), y = Math.round(upward[place] * scale);
      if (!(x >= low && x <= high && y >= top && y <= bottom)) continue;
      const [red, green, blue] = colour(place);
      let at = 0;
      for (let down = y - reach; down <= y + reach; down++) {
        for (let pixel = 4 * (down * row + x - reach), end = pixel + 4 * size; pixel < end; pixel += 4) {
          const own = stamp[at++];
          if (!own) continue;
          const below = (data[pixel + 3] / 255) * (1 - own), all = own + below;
          data[pixel] = (red * own + data[pixel] * below) / all;
          data[pixel + 1] = (green * own + data[pixel + 1] * below) / all;
          data[pixel + 2] = (blue * own + data[pixel + 2] * below) / all;
          data[pixel + 3] = 255 * all;
        }
      }
    }
    context.putImageData(image, 0, 0);
    context.save();
    context.beginPath();
    context.rect(left - 6, TOP_PX - 6, width - left - RIGHT_PX + 12, height - TOP_PX - BOTTOM_PX + 12);
    context.clip();
    best_(context);
    context.restore();
  }
  /** Draw the line along the best, and these themselves. @param {CanvasRenderingContext2D} context */
  function best_(context) {
    /** @type {Best} */
    const best = model.get("best"), colour = model.get("highlight"), ground = getComputedStyle(root).getPropertyValue("--ms-ground");
    const corners = (best.line || []).map(([x, y]) => [toX(counted("x", x)), toY(counted("y", y))]).filter(([x, y]) => Number.isFinite(x + y));
    if (corners.length) {
      context.beginPath();
      corners.forEach(([x, y], place) => (place ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (best.goes_on) {
        const last = along.x.reduce((most, value) => (value > most ? value : most), -Infinity);
        context.lineTo(toX(counted("x", last)), corners[corners.length - 1][1]);
      }
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.stroke();
    }
    for (const whole of best.places || []) {
      const place = whole - first, [x, y] = place >= 0 && place < tasks.length ? pixel(place) : [NaN, NaN];
      if (!Number.isFinite(x + y)) continue;
      context.beginPath();
      context.arc(x, y, 5, 0, 2 * Math.PI);
      context.fillStyle = colour;
      context.strokeStyle = ground;
      context.lineWidth = 1.5;
      context.fill();
      context.stroke();
    }
  }
  /** Draw what is pointed at, walked to, selected, and the box that is dragged. */
  function ring() {
    const context = clean(over), style = getComputedStyle(root);
    const ink = style.getPropertyValue("--ms-ink"), accent = style.getPropertyValue("--ms-accent");
    for (const [place, colour, radius, line] of /** @type {[number, string, number, number][]} */ ([[selected, accent, 8, 3], [hover, ink, 7, 1.5], [focus, ink, 7, 2.5]])) {
      const [x, y] = place >= 0 ? pixel(place) : [NaN, NaN];
      if (!Number.isFinite(x + y) || x < left - 8 || y > height - BOTTOM_PX + 8 || y < 0) continue;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.stroke();
    }
    if (drag) {
      const [x, y, to, down] = drag;
      context.strokeStyle = accent;
      context.lineWidth = 1;
      context.strokeRect(x + 0.5, y + 0.5, to - x, down - y);
      context.globalAlpha = 0.12;
      context.fillStyle = accent;
      context.fillRect(x, y, to - x, down - y);
      context.globalAlpha = 1;
    }
  }

  // -- a point -----------------------------------------------------------------------------------

  /** @param {string} axis @param {number} place */
  const value = (axis, place) => Number.isNaN(along[axis][place]) ? "none" : words[axis] ? words[axis][along[axis][place]] : short(along[axis][place]);
  /** @param {number} place @returns {[string, string][]} */
  const facts = (place) => ["y", "x", "colour"].filter((axis) => axes()[/** @type {Side} */ (axis)])
    .map((axis) => [about(axes()[/** @type {Side} */ (axis)]).label, value(axis, place)]);
  /** @param {number} place */
  function tell_(place) {
    tip.hidden = place < 0 || place >= tasks.length;
    if (tip.hidden) return;
    tip.replaceChildren();
    make("b", {}, tip, tasks[place]);
    for (const [what, said] of facts(place)) {
      const line = make("div", {}, tip);
      make("span", { class: "ms-note" }, line, what);
      make("span", {}, line, said);
    }
    const [x, y] = pixel(place);
    tip.style.left = x > width / 2 ? "" : `${x + 12}px`;
    tip.style.right = x > width / 2 ? `${width - x + 12}px` : "";
    tip.style.top = `${Math.max(0, Math.min(y - 12, height - tip.offsetHeight - 4))}px`;
  }
  /** @param {number} x @param {number} y @returns {number} the place of the point that is nearest, or -1 */
  function nearest(x, y) {
    let found = -1, least = NEAR_PX ** 2;
    for (let place = 0; place < across.length; place++) {
      const far = (across[place] - x) ** 2 + (upward[place] - y) ** 2;
      if (far <= least) [found, least] = [place, far];
    }
    return found;
  }
  function order() {
    sorted ||= tasks.map((_, place) => place).filter((place) => Number.isFinite(counted("x", along.x[place]) + counted("y", along.y[place])))
      .sort((a, b) => along.x[a] - along.x[b] || along.y[a] - along.y[b]);
    return sorted;
  }
  /** @param {number} to in the order of x */
  function walk(to) {
    const places = order();
    if (!places.length) return;
    focus = places[Math.min(places.length - 1, Math.max(0, to))];
    const at = { x: counted("x", along.x[focus]), y: counted("y", along.y[focus]) };
    const out = SIDES.some((side) => at[side] < sight[side][0] || at[side] > sight[side][1]);
    if (out) look({ x: sight.x.map((end) => end - (sight.x[0] + sight.x[1]) / 2 + at.x), y: sight.y.map((end) => end - (sight.y[0] + sight.y[1]) / 2 + at.y) });
    settle();
    ring();
    tell_(focus);
    spoken.textContent = `${tasks[focus]}: ${facts(focus).map((pair) => pair.join(" ")).join(", ")}`;
  }
  /** @param {string} name @param {number} [x] where its point is */
  function choose(name, x = pixel(tasks.indexOf(name))[0]) {
    if (panel.hidden) panel.classList.toggle("ms-left", x > width / 2); // what was clicked is seen beside it
    if (name && name !== model.get("panel_of")) asked();
    change(model, { selected: name });
  }
  let late = 0;
  function asked() {
    clearTimeout(late);
    late = setTimeout(() => { busy.hidden = false; }, BUSY_MS);
  }
  function answered() {
    clearTimeout(late);
    busy.hidden = true;
  }
  function onSelected() {
    selected = tasks.indexOf(model.get("selected"));
    ring();
    onPanel();
  }
  function onPanel() {
    const name = model.get("selected"), html = name && model.get("panel_of") === name && model.get("panel");
    panel.hidden = !html;
    root.classList.toggle("ms-open", !panel.hidden);
    if (!html) return;
    answered();
    fillPanel(panel, told, name, html, stage);
  }

  // -- the pointer and the keys ------------------------------------------------------------------

  /** @type {{ x: number, y: number, pans: boolean, moved: boolean } | null} */
  let pressed = null;
  /** @param {MouseEvent} event @returns {[number, number]} */
  const place_ = (event) => {
    const area = stage.getBoundingClientRect();
    return [event.clientX - area.left, event.clientY - area.top];
  };
  stage.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (event.button > 1) return;
    const [x, y] = place_(event);
    pressed = { x, y, pans: event.shiftKey || event.button === 1, moved: false };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    const [x, y] = place_(event);
    if (!pressed) {
      const found = nearest(x, y);
      if (found !== hover) { hover = found; ring(); tell_(hover); }
      stage.classList.toggle("ms-on", hover >= 0);
      return;
    }
    pressed.moved ||= Math.hypot(x - pressed.x, y - pressed.y) > DRAG_PX;
    if (!pressed.moved) return;
    tell_(-1);
    if (pressed.pans) { pan(x - pressed.x, y - pressed.y); [pressed.x, pressed.y] = [x, y]; return; }
    drag = [pressed.x, pressed.y, x, y];
    ring();
  });
  stage.addEventListener("pointerup", (/** @type {PointerEvent} */ event) => {
    const was = pressed, box = drag, [x, y] = place_(event);
    pressed = drag = null;
    if (was && !was.moved) {
      const found = nearest(x, y);
      if (found >= 0) { focus = found; choose(tasks[found], x); }
    }
    if (box && Math.abs(box[2] - box[0]) > DRAG_PX && Math.abs(box[3] - box[1]) > DRAG_PX)
      look({ x: [fromX(Math.min(box[0], box[2])), fromX(Math.max(box[0], box[2]))], y: [fromY(Math.max(box[1], box[3])), fromY(Math.min(box[1], box[3]))] });
    ring();
  });
  stage.addEventListener("pointercancel", () => { pressed = drag = null; ring(); });
  stage.addEventListener("pointerleave", () => { hover = -1; ring(); tell_(-1); });
  stage.addEventListener("dblclick", fit);
  stage.addEventListener("wheel", (/** @type {WheelEvent} */ event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page is scrolled
    event.preventDefault();
    zoom(1.002 ** Math.max(-200, Math.min(200, event.deltaY)), ...place_(event));
  }, { passive: false });
  stage.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = focus < 0 ? -1 : order().indexOf(focus), step = width / 10;
    /** @type {Record<string, () => void>} */
    const keys = event.shiftKey && event.key.startsWith("Arrow")
      ? { ArrowLeft: () => pan(step, 0), ArrowRight: () => pan(-step, 0), ArrowUp: () => pan(0, step), ArrowDown: () => pan(0, -step) }
      : { ArrowRight: () => walk(at + 1), ArrowDown: () => walk(at + 1), ArrowLeft: () => walk(at < 0 ? 0 : at - 1), ArrowUp: () => walk(at < 0 ? 0 : at - 1),
        Home: () => walk(0), End: () => walk(Infinity), Enter: () => { if (focus >= 0) choose(tasks[focus], pixel(focus)[0]); },
        "+": () => zoom(0.8), "=": () => zoom(0.8), "-": () => zoom(1.25), 0: fit,
        Escape: () => { if (!panel.hidden) { choose(""); return; } focus = -1; tell_(-1); ring(); } };
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
  close.onclick = () => { choose(""); stage.focus(); };
  panel.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    event.stopPropagation();
    if (event.key === "Escape") { choose(""); stage.focus(); }
  });
  const stopLeading = leadsOn(model, root, told, (name) => choose(name));
  links(list, (name) => choose(name));

  // -- the bar, and the list of the best ---------------------------------------------------------

  for (const axis of Object.keys(selects)) {
    selects[axis].onchange = () => { asked(); change(model, { axes: { ...axes(), [axis]: selects[axis].value } }); };
  }
  for (const side of SIDES)
    logs[side].onclick = () => { sorted = null; zoomed = false; change(model, { axes: { ...axes(), [`log_${side}`]: !axes()[`log_${side}`] } }); };

  function offer() {
    /** @type {Choice[]} */
    const choices = model.get("columns");
    for (const [axis, select] of Object.entries(selects)) {
      const chosen = axes()[/** @type {Side} */ (axis)], names = choices.map(({ name }) => name);
      const all = [...(axis === "colour" || !chosen ? [{ name: "", label: axis === "colour" ? "one colour" : "none yet" }] : []),
        ...choices, ...(chosen && !names.includes(chosen) ? [about(chosen)] : [])];
      const holds = JSON.stringify(all.map(({ name, label }) => [name, label]));
      if (select.dataset.holds !== holds) {
        select.dataset.holds = holds;
        select.replaceChildren();
        for (const { name, label } of all) make("option", { value: name }, select, label);
      }
      select.value = chosen;
    }
    for (const side of SIDES) {
      logs[side].setAttribute("aria-pressed", String(axes()[`log_${side}`]));
      logs[side].disabled = Boolean(words[side]);
    }
  }
  function listBest() {
    /** @type {Best} */
    const best = model.get("best");
    if (list.dataset.holds === JSON.stringify(best)) return;
    list.dataset.holds = JSON.stringify(best);
    list.replaceChildren();
    if (!best.rows || !best.rows.length) return;
    make("p", {}, list, best.said);
    const table = make("table", {}, make("div", { class: "ms-wide" }, list)), head = make("tr", {}, make("thead", {}, table)), rows = make("tbody", {}, table);
    for (const name of ["task", ...best.heads]) make("th", { scope: "col" }, head, name);
    for (const [name, ...values] of best.rows) {
      const row = make("tr", {}, rows);
      make("button", { type: "button", class: "ms-link", "data-task": name }, make("td", {}, row), name);
      for (const said of values) make("td", {}, row, said);
    }
    if (best.total > best.rows.length) make("p", { class: "ms-note" }, list, `and ${best.total - best.rows.length} more`);
  }
  function refresh() {
    const drawn = order().length, all = first + tasks.length;
    count.textContent = `${drawn === all ? "" : `${drawn} of `}${all} result${all === 1 ? "" : "s"}`;
    empty.hidden = drawn > 0;
    empty.textContent = !all ? "No result yet: they appear here as they come in." : `No result has both a ${about(axes().x).label} and a ${about(axes().y).label}.`;
    selected = tasks.indexOf(model.get("selected"));
    offer();
    explain();
    listBest();
    draw();
  }

  // -- saving ------------------------------------------------------------------------------------

  /** @param {Blob | null} content @param {string} name */
  function save(content, name) {
    if (!content) return;
    const link = make("a", { href: URL.createObjectURL(content), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  const title = () => `${about(axes().y).label}-${about(axes().x).label}`.replace(/[^\w.-]+/g, "_").slice(0, 80);
  function saveTable() {
    const heads = ["task", ...["x", "y", "colour"].map((axis) => axes()[/** @type {Side} */ (axis)]).filter(Boolean)];
    const cell = (/** @type {string} */ text) => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const drawn = ["x", "y", "colour"].filter((axis) => axes()[/** @type {Side} */ (axis)]);
    const lines = tasks.map((name, place) => [name, ...drawn.map((axis) => Number.isNaN(along[axis][place]) ? "" : words[axis] ? words[axis][along[axis][place]] : String(along[axis][place]))]);
    save(new Blob([[heads, ...lines].map((line) => `${line.map(cell).join(",")}\r\n`).join("")], { type: "text/csv" }), `${title()}.csv`);
  }
  /** Draw all of it, with its legend, on the ground of the page. */
  function savePicture() {
    const canvas = document.createElement("canvas"), scale = 2, above = legend.hidden ? 0 : 28, style = getComputedStyle(root);
    [canvas.width, canvas.height] = [width * scale, (height + above) * scale];
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const ink = style.getPropertyValue("--ms-ink"), line = style.getPropertyValue("--ms-line");
    context.scale(scale, scale);
    context.fillStyle = style.getPropertyValue("--ms-ground") || "#fff";
    context.fillRect(0, 0, width, height + above);
    context.font = `12px ${style.fontFamily}`;
    context.fillStyle = ink;
    if (above) {
      let x = left;
      context.textBaseline = "middle";
      const say = (/** @type {string} */ text) => { context.fillStyle = ink; context.fillText(text, x, 16); x += context.measureText(text).width + 8; };
      say(about(axes().colour).title);
      if (words.colour) words.colour.forEach((word, place) => {
        context.fillStyle = model.get("series")[place % model.get("series").length];
        context.fillRect(x, 12, 8, 8);
        x += 12;
        say(word);
      });
      else {
        const [low, high] = range();
        say(short(low, 4));
        SHADES.forEach((own, place) => { context.fillStyle = `rgb(${own.join(",")})`; context.fillRect(x + 3 * place, 12, 3, 8); });
        x += 3 * SHADES.length + 8;
        say(short(high, 4));
      }
      context.textBaseline = "alphabetic";
    }
    context.translate(0, above);
    context.strokeStyle = line;
    context.lineWidth = 1;
    for (const path of axesSvg.querySelectorAll("path")) context.stroke(new Path2D(path.getAttribute("d") || ""));
    context.fillStyle = ink;
    for (const text of axesSvg.querySelectorAll("text")) {
      context.save();
      const turned = text.getAttribute("transform");
      if (turned) { context.translate(16, (TOP_PX + height - BOTTOM_PX) / 2); context.rotate(-Math.PI / 2); }
      context.textAlign = text.getAttribute("text-anchor") === "end" ? "right" : "center";
      context.fillText(text.textContent || "", Number(text.getAttribute("x") || 0), Number(text.getAttribute("y") || 0));
      context.restore();
    }
    const cloud = document.createElement("canvas");
    points(cloud, scale);
    context.drawImage(cloud, 0, 0, width, height);
    canvas.toBlob((content) => save(content, `${title()}.png`));
  }

  // -- the model -----------------------------------------------------------------------------------

  const turned = () => { offer(); explain(); sorted = null; draw(); };
  const heard = /** @type {[string, (...said: any[]) => void][]} */ ([["change:values", takeAll], ["msg:custom", takeMore], ["change:axes", turned],
    ["change:columns", () => { offer(); draw(); }], ["change:best", () => { listBest(); draw(); }],
    ["change:selected", onSelected], ["change:panel", onPanel], ["change:panel_of", onPanel]]);
  for (const [what, act] of heard) model.on(what, act);
  let seen = false;
  const sizes = new ResizeObserver(() => {
    root.classList.toggle("ms-narrow", stage.clientWidth < NARROW);
    if (stage.clientWidth && !seen) { seen = true; send(model, { seen: true }); }
    draw();
  });
  sizes.observe(stage);
  const theme = new MutationObserver(() => draw());
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class", "data-jp-theme-name"] });
  takeAll();
  onSelected();
  askRest();
  const stops = [pulse(model), ownKeys(root), still(model, root, "msg:custom", askRest), stopLeading];
  return () => {
    for (const stop of stops) stop();
    clearTimeout(late);
    cancelAnimationFrame(due);
    sizes.disconnect();
    theme.disconnect();
    for (const [what, act] of heard) model.off(what, act);
  };
}

export default { render };
