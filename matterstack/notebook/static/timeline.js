// @ts-check
// The timeline: a bar an attempt on a canvas, how many run and wait below it, and a table of what was spent. Python says which
// bars there are and in which lane each lies; what is under way grows here, by the clock of this page.

/**
 * A bar: its row, task, attempt, place of its status among the words, when it was submitted, started and ended in seconds since
 * the origin (null where it has not), places of its function, operator and group among the words, its iteration, and its lanes.
 * @typedef {[number, string, number, number, number, number | null, number | null, number, number, number, number, number, number, number, number]} TimeBar
 * @typedef {{ turn: number, after: number, now: number, origin: number, total: number, rows: TimeBar[], word: number, words: string[] }} TimeNews
 * @typedef {{ key: number, name: string, lanes: number, top: number, height: number }} TimeGroup
 */

const TIME_ID = 0, TIME_TASK = 1, TIME_ATTEMPT = 2, TIME_STATUS = 3, TIME_SUBMITTED = 4, TIME_STARTED = 5, TIME_ENDED = 6;
/** Where the key of a bar stands, by what it is; its lane stands four places behind. @type {Record<string, number>} */
const TIME_KEYS = { function: 7, operator: 8, iteration: 9, group: 10 };
const TIME_LANES = 4;
/** In pixels: names at the left, the axis above, the lines below, and what is between groups. */
const TIME_GUTTER = 128, TIME_TOP = 24, TIME_STRIP = 68, TIME_GAP = 8, TIME_PAD = 10;
const TIME_LANE = 14, TIME_THINNEST = 3, TIME_NAME = 16, TIME_HIGHEST = 460;
/** Steps of the axis, in seconds. */
const TIME_STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
const TIME_DAY = 86400;

/** @param {number} seconds @returns {string} a duration; of a short one the tenths of a second, too */
const timeSpan = (seconds) => (seconds < 9.95 ? `${Math.max(0, seconds).toFixed(1)} s` : span(seconds));

/**
 * Moments for the axis, in the time of this browser: of the step that gives so many, each with what is written there.
 * @param {number} low @param {number} high seconds since the Unix epoch @param {number} about how many
 * @returns {[number, string][]}
 */
function timeMarks(low, high, about) {
  const wanted = (high - low) / Math.max(1, about);
  const step = TIME_STEPS.find((size) => size >= wanted) || TIME_DAY * Math.ceil(wanted / TIME_DAY);
  const zone = new Date(low * 1000).getTimezoneOffset() * 60;
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  /** @type {[number, string][]} */
  const found = [];
  for (let number = Math.ceil((low - zone) / step); number * step + zone <= high; number++) {
    const at = number * step + zone, date = new Date(Math.round(at * 1000));
    const clock = `${two(date.getHours())}:${two(date.getMinutes())}`;
    const second = step < 60 ? `:${two(date.getSeconds())}` : "", part = step < 1 ? `.${Math.floor(date.getMilliseconds() / 100)}` : "";
    const day = `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
    found.push([at, step >= TIME_DAY || (step >= 3600 && clock === "00:00") ? day : `${clock}${second}${part}`]);
  }
  return found;
}

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const root = make("div", { class: "ms-view ms-timeline" }, el);
  const bar = make("div", { class: "ms-bar" }, root);
  const choice = make("label", {}, bar, "by");
  const by = make("select", { "aria-label": "by" }, choice);
  for (const name of Object.keys(TIME_KEYS)) make("option", { value: name }, by, name);
  const count = make("span", { class: "ms-note" }, bar);
  make("span", { class: "ms-gap" }, bar);
  const keys = make("div", { class: "ms-time-keys" }, root);
  const stage = make("div", { class: "ms-time-stage" }, root);
  const canvas = make("canvas", { tabindex: "0", role: "application", "aria-roledescription": "timeline",
    "aria-label": "timeline of attempts: arrow keys walk from bar to bar, Shift and arrow keys move, plus, minus and 0 zoom, Enter tells about the task, Escape closes that" }, stage);
  const tip = make("div", { class: "ms-time-tip", hidden: "" }, stage);
  const said = make("div", { class: "ms-time-said", "aria-live": "polite" }, root);
  const panel = make("div", { class: "ms-panel ms-below", hidden: "" }, root);
  const close = make("button", { type: "button", class: "ms-close", title: "close the details", "aria-label": "close the details" }, panel, "×");
  const told = make("div", { "aria-live": "polite" }, panel);
  const table = make("div", { class: "ms-time-spent" }, root);
  const ink = canvas.getContext("2d");
  if (!ink) return;

  /** @type {Map<number, TimeBar>} by the row of the attempt, in the order of submission */
  let bars = new Map();
  /** @type {string[]} */
  let words = [];
  let turn = 0, origin = 0, total = 0, frozen = 0;
  /** What the clock of the kernel is ahead of ours, in seconds. */
  let ahead = 0;
  /** @type {TimeGroup[]} */
  let groups = [];
  let high = 0, lane = TIME_LANE, scroll = 0, lives = false;
  /** What is seen: seconds since the origin; all of it where null. @type {[number, number] | null} */
  let sight = null;
  let cursor = 0, over = 0, tipped = 0;
  /** How many run and wait from each of these moments on. @type {{ at: number[], run: number[], wait: number[] }} */
  let counts = { at: [], run: [], wait: [] };

  // -- what there is ----------------------------------------------------------------------------

  const now = () => (frozen || Date.now() / 1000 + ahead) - origin;
  const end = (/** @type {TimeBar} */ one) => one[TIME_ENDED] ?? now();
  const began = (/** @type {TimeBar} */ one) => one[TIME_STARTED] ?? end(one);
  const status = (/** @type {TimeBar} */ one) => words[one[TIME_STATUS]] || "";
  const key = () => TIME_KEYS[model.get("by")];
  const nameOf = (/** @type {number} */ value) =>
    model.get("by") === "iteration" ? `iteration ${value}` : words[value] || model.get("nameless")[model.get("by")] || "";

  /** @param {TimeNews} news */
  function take(news) {
    if (news.after > turn && turn) send(model, { since: turn }); // something between was not heard
    if (!news.after) { bars = new Map(); words = []; }
    if (news.word <= words.length) words = words.slice(0, news.word).concat(news.words);
    ({ origin, total } = news);
    turn = Math.max(turn, news.turn);
    const drift = news.now - Date.now() / 1000;
    ahead = Math.abs(drift) < 2 ? 0 : drift;
    for (const row of news.rows) bars.set(row[TIME_ID], row);
    for (const row of bars.keys()) {
      if (bars.size <= model.get("most")) break;
      bars.delete(row);
    }
    arrange();
  }
  function takeAll() {
    const text = model.get("bars");
    if (text) { turn = 0; take(JSON.parse(text)); } else draw();
  }

  /** Give each group its place, and count how many run and wait. */
  function arrange() {
    /** @type {Map<number, TimeGroup>} */
    const found = new Map();
    /** @type {[number, number, number][]} when, and by how many more run and wait from then on */
    const steps = [];
    lives = false;
    const place = key();
    for (const one of bars.values()) {
      const value = /** @type {number} */ (one[place]), lanes = /** @type {number} */ (one[place + TIME_LANES]) + 1;
      const group = found.get(value);
      if (!group) found.set(value, { key: value, name: nameOf(value), lanes, top: 0, height: 0 });
      else if (lanes > group.lanes) group.lanes = lanes;
      lives = lives || one[TIME_ENDED] === null;
      const left = one[TIME_STARTED] ?? one[TIME_ENDED];
      steps.push([one[TIME_SUBMITTED], 0, 1]);
      if (left !== null) steps.push([left, one[TIME_STARTED] === null ? 0 : 1, -1]);
      if (one[TIME_STARTED] !== null && one[TIME_ENDED] !== null) steps.push([one[TIME_ENDED], -1, 0]);
    }
    groups = [...found.values()];
    if (model.get("by") === "iteration") groups.sort((one, other) => one.key - other.key);
    const lanes = groups.reduce((sum, group) => sum + group.lanes, 0);
    const room = TIME_HIGHEST - TIME_TOP - TIME_STRIP - groups.length * TIME_GAP;
    lane = Math.max(TIME_THINNEST, Math.min(TIME_LANE, Math.floor(room / Math.max(1, lanes))));
    let top = 0;
    for (const group of groups) {
      group.top = top;
      group.height = Math.max(TIME_NAME, group.lanes * lane);
      top += group.height + TIME_GAP;
    }
    high = top;
    steps.sort((one, other) => one[0] - other[0]);
    counts = { at: [], run: [], wait: [] };
    let run = 0, wait = 0;
    for (const [at, runs, waits] of steps) {
      run += runs;
      wait += waits;
      if (counts.at.at(-1) === at) { counts.run[counts.run.length - 1] = run; counts.wait[counts.wait.length - 1] = wait; continue; }
      counts.at.push(at);
      counts.run.push(run);
      counts.wait.push(wait);
    }
    stage.style.setProperty("--ms-height", `${Math.min(TIME_HIGHEST, TIME_TOP + high + TIME_STRIP + 2)}px`);
    explain();
    draw();
  }

  /** Say which colour means what, and how many there are. */
  function explain() {
    const used = new Set([...bars.values()].map(status)), colours = model.get("colours");
    const wanted = JSON.stringify([...used]);
    const shown = total > bars.size ? `the last ${bars.size} of ${total} attempts` : `${total} attempt${total === 1 ? "" : "s"}`;
    count.textContent = shown;
    if (keys.dataset.holds === wanted) return;
    keys.dataset.holds = wanted;
    keys.replaceChildren();
    for (const [name, colour] of Object.entries(colours)) {
      if (!used.has(name)) continue;
      const one = make("span", { class: "ms-time-key" }, keys);
      make("i", { style: `background:${colour}` }, one);
      one.append(name.toLowerCase());
    }
    if (used.size) {
      const pale = make("span", { class: "ms-time-key" }, keys);
      make("i", { style: "background:var(--ms-soft);opacity:0.35" }, pale);
      pale.append("pale: not begun");
    }
  }

  // -- where it is ------------------------------------------------------------------------------

  const width = () => Math.max(50, canvas.clientWidth - TIME_GUTTER - TIME_PAD);
  const room = () => Math.max(20, canvas.clientHeight - TIME_TOP - TIME_STRIP);
  /** @returns {[number, number]} all there is to be seen */
  function whole() {
    let first = Infinity, last = -Infinity;
    for (const one of bars.values()) {
      first = Math.min(first, one[TIME_SUBMITTED]);
      last = Math.max(last, end(one));
    }
    if (!(last >= first)) return [0, 1];
    const more = Math.max(0.05, (last - first) * 0.01);
    return [first - more, last + more];
  }
  /** @returns {[number, number]} */
  const seen = () => sight || whole();
  /** @param {number} from @param {number} to */
  function look(from, to) {
    const [first, last] = whole(), all = last - first, wanted = Math.min(all, Math.max(to - from, Math.min(all, 0.05)));
    const start = Math.min(Math.max(from, first), last - wanted);
    sight = wanted >= all * 0.999 ? null : [start, start + wanted];
    draw();
  }
  /** @param {number} by how much larger @param {number} [at] the pixel that stays where it is */
  function zoom(by, at = TIME_GUTTER + width() / 2) {
    const [from, to] = seen(), place = (at - TIME_GUTTER) / width(), fixed = from + (to - from) * place;
    look(fixed - (fixed - from) / by, fixed + (to - fixed) / by);
  }
  /** @param {number} right @param {number} down in pixels */
  function move(right, down) {
    const [from, to] = seen(), by = (right * (to - from)) / width();
    scroll = Math.max(0, Math.min(scroll + down, high - room()));
    look(from + by, to + by);
  }
  function fit() {
    sight = null;
    scroll = 0;
    draw();
  }

  // -- drawing ----------------------------------------------------------------------------------

  let asked = 0, drawn = false;
  /** @type {any} */
  let later = 0;
  function draw() {
    if (!asked) asked = requestAnimationFrame(paint);
  }
  function paint() {
    asked = 0;
    clearTimeout(later);
    const wide = canvas.clientWidth, tall = canvas.clientHeight;
    if (!ink || !wide || !tall) return;
    const begun = performance.now();
    const sharp = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(wide * sharp) || canvas.height !== Math.round(tall * sharp)) {
      canvas.width = Math.round(wide * sharp);
      canvas.height = Math.round(tall * sharp);
    }
    ink.setTransform(sharp, 0, 0, sharp, 0, 0);
    ink.clearRect(0, 0, wide, tall);
    const style = getComputedStyle(root), colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    ink.font = `11px ${style.fontFamily}`;
    ink.textBaseline = "middle";
    if (!bars.size) {
      ink.fillStyle = style.color;
      ink.textAlign = "center";
      ink.fillText(model.get("bars") || turn ? "Nothing was submitted yet." : "Attempts are being read …", wide / 2, tall / 2);
      return;
    }
    const [from, to] = seen(), scale = width() / (to - from), x = (/** @type {number} */ at) => TIME_GUTTER + (at - from) * scale;
    const floor = tall - TIME_STRIP;
    scroll = Math.max(0, Math.min(scroll, high - (floor - TIME_TOP)));
    // The axis.
    ink.lineWidth = 1;
    ink.textAlign = "center";
    for (const [at, text] of timeMarks(origin + from, origin + to, width() / 90)) {
      const place = Math.round(x(at - origin)) + 0.5;
      ink.strokeStyle = colour("--ms-line");
      line([[place, TIME_TOP - 4], [place, tall]]);
      ink.fillStyle = colour("--ms-soft");
      ink.fillText(text, Math.min(place, wide - 4 - ink.measureText(text).width / 2), 11);
    }
    // The bars.
    ink.save();
    ink.beginPath();
    ink.rect(0, TIME_TOP, wide, floor - TIME_TOP);
    ink.clip();
    const tops = new Map(groups.map((group) => [group.key, TIME_TOP + group.top - scroll])), place = key();
    ink.textAlign = "left";
    for (const group of groups) {
      const top = TIME_TOP + group.top - scroll;
      if (top > floor || top + group.height < TIME_TOP) continue;
      ink.fillStyle = style.color;
      ink.fillText(fitting(group.name, TIME_GUTTER - 16), 8, Math.max(TIME_TOP + 8, Math.min(top + 8, floor - 8)));
      ink.strokeStyle = colour("--ms-line");
      line([[0, Math.round(top + group.height + TIME_GAP / 2) + 0.5], [wide, Math.round(top + group.height + TIME_GAP / 2) + 0.5]]);
    }
    ink.beginPath();
    ink.rect(TIME_GUTTER, TIME_TOP, wide - TIME_GUTTER, floor - TIME_TOP);
    ink.clip();
    const thick = lane > 6 ? lane - 2 : lane - 1, selected = model.get("selected");
    /** @type {Map<string, number[]>} */
    const full = new Map(), pale = new Map();
    /** @type {[TimeBar, number][]} */
    const framed = [];
    let many = 0;
    for (const one of bars.values()) {
      const left = x(one[TIME_SUBMITTED]), right = x(end(one));
      if (right < TIME_GUTTER || left > wide) continue;
      const y = (tops.get(/** @type {number} */ (one[place])) || 0) + /** @type {number} */ (one[place + TIME_LANES]) * lane;
      if (y > floor || y + lane < TIME_TOP) continue;
      many++;
      const name = status(one), middle = x(began(one));
      if (middle > left + 0.3) store(pale, name).push(left, y, middle - left);
      if (one[TIME_STARTED] !== null) store(full, name).push(middle, y, Math.max(1, right - middle));
      if (one[TIME_TASK] === selected || one[TIME_ID] === cursor || one[TIME_ID] === over) framed.push([one, y]);
    }
    const colours = model.get("colours");
    for (const [kinds, opaque] of /** @type {[Map<string, number[]>, number][]} */ ([[pale, 0.35], [full, 1]])) {
      ink.globalAlpha = opaque;
      for (const [name, parts] of kinds) {
        ink.fillStyle = colours[name] || colour("--ms-soft");
        for (let part = 0; part < parts.length; part += 3) ink.fillRect(parts[part], parts[part + 1], parts[part + 2], thick);
      }
    }
    ink.globalAlpha = 1;
    for (const [one, y] of framed) {
      const left = x(one[TIME_SUBMITTED]), strong = one[TIME_TASK] === selected;
      ink.strokeStyle = strong ? colour("--ms-accent") : style.color;
      ink.lineWidth = strong ? 2 : 1;
      ink.strokeRect(left - 1, y - 1, Math.max(3, x(end(one)) - left + 2), thick + 2);
    }
    ink.restore();
    strip(from, to, floor, wide, tall, colour, style.color);
    const pointed = tip.hidden ? undefined : bars.get(tipped);
    if (pointed) tip.textContent = words_(pointed);
    root.dataset.bars = String(many);
    root.dataset.sight = (to - from).toFixed(3);
    root.dataset.drawnMs = (performance.now() - begun).toFixed(1);
    // What is under way grows: smoothly where a second is many pixels. Nobody is asked for it.
    if (lives && !frozen && !document.hidden && drawn) later = setTimeout(draw, scale > 5 ? 200 : 1000);
  }
  /** @param {Map<string, number[]>} kinds @param {string} name */
  function store(kinds, name) {
    let parts = kinds.get(name);
    if (!parts) kinds.set(name, (parts = []));
    return parts;
  }
  /** @param {[number, number][]} points */
  function line(points) {
    if (!ink) return;
    ink.beginPath();
    points.forEach(([x, y], number) => (number ? ink.lineTo(x, y) : ink.moveTo(x, y)));
    ink.stroke();
  }
  /** @param {string} text @param {number} room */
  function fitting(text, room) {
    if (!ink || ink.measureText(text).width <= room) return text;
    let length = text.length;
    while (length > 1 && ink.measureText(`${text.slice(0, length)}…`).width > room) length--;
    return `${text.slice(0, length)}…`;
  }
  /**
   * How many run, and how many wait: at each pixel the most that it is there.
   * @param {number} from @param {number} to @param {number} top @param {number} wide @param {number} tall
   * @param {(name: string) => string} colour @param {string} text
   */
  function strip(from, to, top, wide, tall, colour, text) {
    if (!ink) return;
    const { at, run, wait } = counts, columns = Math.ceil(width()), step = (to - from) / columns;
    const lines = [run, wait].map(() => new Float64Array(columns));
    let next = upTo(at, from);
    const last = Math.min(columns, Math.ceil((now() - from) / step));
    for (let column = 0; column < last; column++) {
      let most = next ? [run[next - 1], wait[next - 1]] : [0, 0];
      for (; next < at.length && at[next] <= from + (column + 1) * step; next++) most = [Math.max(most[0], run[next]), Math.max(most[1], wait[next])];
      lines[0][column] = most[0];
      lines[1][column] = most[1];
    }
    const most = Math.max(1, ...lines.map((values) => values.reduce((one, other) => Math.max(one, other), 0)));
    const y = (/** @type {number} */ value) => tall - 8 - (value / most) * (tall - top - 20);
    ink.strokeStyle = colour("--ms-edge");
    ink.lineWidth = 1;
    line([[0, top + 0.5], [wide, top + 0.5]]);
    ink.strokeStyle = colour("--ms-line");
    line([[TIME_GUTTER, Math.round(y(0)) + 0.5], [wide, Math.round(y(0)) + 0.5]]);
    const colours = model.get("colours");
    /** @type {[string, string, number[]][]} */
    const kinds = [["running", colours.RUNNING, []], ["waiting", colours.SUBMITTED, [4, 3]]];
    kinds.forEach(([name, tone, dash], number) => {
      const values = lines[number].subarray(0, Math.max(0, last));
      ink.strokeStyle = ink.fillStyle = tone;
      ink.lineWidth = 1.5;
      ink.setLineDash(dash);
      line([...values].map((value, column) => [TIME_GUTTER + column, y(value)]));
      if (!number && values.length) {
        ink.globalAlpha = 0.15;
        ink.beginPath();
        ink.moveTo(TIME_GUTTER, y(0));
        values.forEach((value, column) => ink.lineTo(TIME_GUTTER + column, y(value)));
        ink.lineTo(TIME_GUTTER + values.length - 1, y(0));
        ink.fill();
        ink.globalAlpha = 1;
      }
      const level = top + 18 + 16 * number;
      line([[8, level], [24, level]]);
      ink.setLineDash([]);
      ink.fillStyle = text;
      ink.textAlign = "left";
      const there = counts.at.length ? (number ? counts.wait : counts.run)[counts.at.length - 1] : 0;
      ink.fillText(lives ? `${there} ${name}` : name, 30, level);
    });
    ink.fillStyle = colour("--ms-soft");
    ink.textAlign = "right";
    ink.fillText(String(most), TIME_GUTTER - 4, Math.round(y(most)) + 1);
  }
  /** @param {number[]} values @param {number} bound @returns {number} how many are no larger */
  function upTo(values, bound) {
    let low = 0, top = values.length;
    while (low < top) {
      const middle = (low + top) >> 1;
      if (values[middle] <= bound) low = middle + 1;
      else top = middle;
    }
    return low;
  }

  // -- what is pointed at -----------------------------------------------------------------------

  /** @param {number} right @param {number} down @returns {TimeBar | undefined} the bar at a pixel */
  function at(right, down) {
    if (right < TIME_GUTTER || down < TIME_TOP || down > canvas.clientHeight - TIME_STRIP) return undefined;
    const y = down - TIME_TOP + scroll, group = groups.find(({ top, height }) => y >= top && y < top + height);
    if (!group) return undefined;
    const [from, to] = seen(), pixel = (to - from) / width(), when = from + (right - TIME_GUTTER) * pixel;
    const row = Math.floor((y - group.top) / lane), place = key();
    let best, nearest = 3 * pixel; // a bar may be thinner than a pixel
    for (const one of bars.values()) {
      if (one[place] !== group.key || one[place + TIME_LANES] !== row) continue;
      const apart = Math.max(one[TIME_SUBMITTED] - when, when - end(one), 0);
      if (apart < nearest || (apart === 0 && nearest === 0)) [best, nearest] = [one, apart];
    }
    return best;
  }
  /** @param {TimeBar} one @returns {string} */
  function words_(one) {
    const waited = began(one) - one[TIME_SUBMITTED], parts = [`${one[TIME_TASK]} · attempt ${one[TIME_ATTEMPT]} · ${status(one).toLowerCase()}`];
    parts.push(`submitted ${moment(origin + one[TIME_SUBMITTED])[1]}, ${one[TIME_STARTED] === null && one[TIME_ENDED] === null ? "waits" : "waited"} ${timeSpan(waited)}`);
    if (one[TIME_STARTED] !== null) parts.push(`${one[TIME_ENDED] === null ? "runs" : "ran"} ${timeSpan(end(one) - began(one))}`);
    return parts.join("\n");
  }
  /** @param {TimeBar | undefined} one @param {number} right @param {number} down where, in pixels */
  function show(one, right, down) {
    tip.hidden = !one;
    canvas.classList.toggle("ms-time-over", Boolean(one));
    if (!one) return;
    tipped = one[TIME_ID];
    tip.textContent = words_(one);
    tip.style.left = `${Math.max(4, Math.min(right + 12, canvas.clientWidth - tip.offsetWidth - 4))}px`;
    const above = down - tip.offsetHeight - 8;
    tip.style.top = `${above > 4 ? above : Math.min(down + 16, canvas.clientHeight - tip.offsetHeight - 4)}px`;
  }
  /** @param {PointerEvent | MouseEvent | WheelEvent} event @returns {[number, number]} */
  function spot(event) {
    const area = canvas.getBoundingClientRect();
    return [event.clientX - area.left, event.clientY - area.top];
  }
  const select = (/** @type {string} */ name) => change(model, { selected: name });

  /** @type {[number, number, boolean] | null} where the pointer is that holds the picture, and whether it has moved it */
  let held = null;
  canvas.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (event.button) return;
    held = [event.clientX, event.clientY, false];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    const [right, down] = spot(event);
    if (!held) {
      const one = at(right, down), id = one ? one[TIME_ID] : 0;
      show(one, right, down);
      if (id !== over) { over = id; draw(); }
      return;
    }
    const [x, y, moved] = held;
    if (!moved && Math.hypot(event.clientX - x, event.clientY - y) < 4) return;
    tip.hidden = true;
    canvas.classList.add("ms-time-dragged");
    held = [event.clientX, event.clientY, true];
    move(x - event.clientX, y - event.clientY);
  });
  canvas.addEventListener("pointerup", (/** @type {PointerEvent} */ event) => {
    const one = held && !held[2] ? at(...spot(event)) : undefined;
    if (one) { cursor = one[TIME_ID]; select(one[TIME_TASK]); }
  });
  canvas.addEventListener("lostpointercapture", () => { held = null; canvas.classList.remove("ms-time-dragged"); });
  canvas.addEventListener("pointerleave", () => { show(undefined, 0, 0); if (over) { over = 0; draw(); } });
  canvas.addEventListener("wheel", (/** @type {WheelEvent} */ event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    zoom(Math.exp(-event.deltaY / 300), spot(event)[0]);
  }, { passive: false });

  /** @param {number} right @param {number} down -1, 0 or 1: walk from the bar one is at to the next */
  function walk(right, down) {
    const here = bars.get(cursor), place = key(), [from, to] = seen();
    const top = (/** @type {TimeBar} */ one) => (groups.find((group) => group.key === one[place])?.top || 0) + /** @type {number} */ (one[place + TIME_LANES]) * lane;
    /** @type {TimeBar | undefined} */
    let best;
    let least = Infinity;
    const when = here ? here[TIME_SUBMITTED] : from, row = here ? top(here) : 0;
    for (const one of bars.values()) {
      if (one === here) continue;
      const apart = one[TIME_SUBMITTED] - when, below = top(one) - row;
      let cost = Infinity;
      if (!here) cost = end(one) >= from && one[TIME_SUBMITTED] <= to ? top(one) * 1e6 + Math.abs(apart) : Infinity;
      else if (right) cost = below === 0 && apart * right > 0 ? Math.abs(apart) : Infinity;
      else if (below * down > 0) cost = Math.abs(below) * 1e9 + Math.max(0, one[TIME_SUBMITTED] - end(here), when - end(one)) + Math.abs(apart) / 1e3;
      if (cost < least) [best, least] = [one, cost];
    }
    if (!best) return;
    cursor = best[TIME_ID];
    const y = top(best), left = best[TIME_SUBMITTED], wide = to - from;
    if (y < scroll) scroll = y;
    if (y + lane > scroll + room()) scroll = y + lane - room();
    if (sight && (left < from || left > to)) look(left - wide / 4, left + (3 * wide) / 4);
    draw();
    const [first, last] = seen(), pixel = width() / (last - first);
    show(best, TIME_GUTTER + Math.max(0, (left - first) * pixel), TIME_TOP + y - scroll);
    said.textContent = words_(best);
  }
  canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const right = { ArrowLeft: -1, ArrowRight: 1 }[event.key] || 0, down = { ArrowUp: -1, ArrowDown: 1 }[event.key] || 0;
    const one = bars.get(cursor);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if ((right || down) && event.shiftKey) move((right * width()) / 8, down * 4 * lane);
    else if (right || down) walk(right, down);
    else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") fit();
    else if (event.key === "Enter" && one) select(one[TIME_TASK]);
    else if (event.key === "Escape") { select(""); show(undefined, 0, 0); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  canvas.addEventListener("blur", () => { tip.hidden = true; });

  for (const [name, title, act] of /** @type {[string, string, () => void][]} */ ([
    ["zoom-out", "zoom out (-)", () => zoom(1 / 1.5)], ["zoom-in", "zoom in (+)", () => zoom(1.5)], ["fit", "show all (0)", fit]])) {
    const button = make("button", { type: "button", class: "ms-button ms-time-icon", title, "aria-label": title }, bar);
    symbol(name, button);
    button.onclick = act;
  }
  by.onchange = () => { change(model, { by: by.value }); };

  // -- what was spent, and what is told of a task -------------------------------------------------

  function spent() {
    const { rows = [], more = 0, by: said_ = "" } = model.get("spent");
    table.replaceChildren();
    if (!rows.length) return;
    const sheet = make("table", { "aria-label": `time spent by ${said_}` }, table), top = make("tr", {}, make("thead", {}, sheet));
    for (const name of [said_, ...model.get("head")]) {
      const cell = make("th", { scope: "col" }, top, name);
      if (name === "core hours") cell.colSpan = 2; // and a bar
    }
    const hoursAt = model.get("head").indexOf("core hours");
    const body = make("tbody", {}, sheet), most = Math.max(1e-12, ...rows.map((/** @type {any[]} */ row) => row[1]));
    for (const [name, hours, ...cells] of rows) {
      const line_ = make("tr", {}, body);
      make("td", { title: name }, line_, said_ === "iteration" ? `iteration ${name}` : name);
      cells.forEach((/** @type {string} */ cell, /** @type {number} */ place) => {
        make("td", {}, line_, cell);
        if (place === hoursAt) make("i", { style: `width:${((100 * hours) / most).toFixed(1)}%` }, make("td", { class: "ms-time-share" }, line_));
      });
    }
    if (more) make("p", { class: "ms-note" }, table, `and ${more} more: run.time_spent has all`);
  }
  function tell() {
    const known = model.get("selected") && model.get("panel_of") === model.get("selected") && model.get("panel");
    panel.hidden = !known;
    if (known) fillPanel(panel, told, model.get("selected"), model.get("panel"), canvas);
  }
  const stopLeading = leadsOn(model, root, told, select);
  close.onclick = () => { select(""); canvas.focus(); };
  panel.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close.onclick();
  });

  // -- following --------------------------------------------------------------------------------

  const custom = (/** @type {any} */ message) => { if (message && typeof message.bars === "string") take(JSON.parse(message.bars)); };
  const chosen = () => { by.value = model.get("by"); scroll = 0; cursor = 0; if (bars.size) arrange(); };
  const selected = () => { tell(); draw(); };
  const heard = /** @type {[string, (message?: any) => void][]} */ ([["msg:custom", custom], ["change:bars", takeAll], ["change:by", chosen],
    ["change:spent", spent], ["change:selected", selected], ["change:panel", tell], ["change:panel_of", tell]]);
  for (const [what, act] of heard) model.on(what, act);
  by.value = model.get("by");
  takeAll();
  spent();
  tell();
  if (turn) send(model, { since: turn }); // what changed since this page got the bars
  const sizes = new ResizeObserver(() => draw());
  sizes.observe(canvas);
  const sights = new IntersectionObserver((entries) => {
    drawn = entries.some((entry) => entry.isIntersecting);
    if (drawn && !model.get("bars")) send(model, { shown: true });
    if (drawn) draw();
  });
  sights.observe(canvas);
  const themes = new MutationObserver(() => draw());
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  document.addEventListener("visibilitychange", draw);
  const stop = () => { frozen = frozen || Date.now() / 1000 + ahead; };
  const goOn = () => { frozen = 0; };
  model.on("comm_live_update", stop);
  model.on("change:spent", goOn);
  const stops = [pulse(model), ownKeys(root), still(model, root, "change:spent"), stopLeading];
  return () => {
    for (const end_ of stops) end_();
    sizes.disconnect();
    sights.disconnect();
    themes.disconnect();
    document.removeEventListener("visibilitychange", draw);
    clearTimeout(later);
    cancelAnimationFrame(asked);
    model.off("comm_live_update", stop);
    model.off("change:spent", goOn);
    for (const [what, act] of heard) model.off(what, act);
  };
}

export default { render };
