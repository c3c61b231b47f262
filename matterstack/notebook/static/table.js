// @ts-check
// The table of tasks. Which rows there are, and in which order, the kernel says: only those around the ones in sight
// are here, so that a million tasks cost a page no more than a hundred.

/**
 * @typedef {{ name: string, width: number, kind: string, shown: boolean }} Column
 * @typedef {{ found: number, total: number, statuses: Record<string, number>, iterations: number[], first: number,
 *   rows: any[][], number: string }} Rows
 */

const ROW = 22, HIGHEST_PX = 360;
/** No browser lays out an element that is higher than some 16 million pixels. */
const HIGHEST = 8000000;
/** After so many milliseconds without an answer the table says what it waits for. */
const PATIENCE = 1500;

/**
 * How high all rows are laid out, and how far the rows move when the scroll bar moves by one: more than that where they are higher
 * than a browser can lay out.
 * @param {number} found @param {number} height of what is seen of them, in pixels
 */
function laidOut(found, height) {
  const real = found * ROW, laid = Math.min(real, HIGHEST);
  return { height: laid, by: laid < real ? (real - height) / (laid - height) : 1 };
}

/**
 * The first row in sight, and the one after the last.
 * @param {number} found @param {number} scrolled in pixels @param {number} height of what is seen, in pixels
 * @returns {[number, number]}
 */
function inSight(found, scrolled, height) {
  const first = Math.floor((scrolled * laidOut(found, height).by) / ROW);
  return [first, Math.min(found, first + Math.ceil(height / ROW) + 1)];
}

/**
 * Whether the rows that are here end close to what is in sight, where there are more.
 * @param {number} first of those that are here @param {number} count of them @param {number} found
 * @param {[number, number]} sight
 */
function endsSoon(first, count, found, [from, to]) {
  return (from - 30 < first && first > 0) || (to + 30 > first + count && first + count < found);
}

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  /** @type {Record<string, Look>} */
  const looks = Object.fromEntries(model.get("looks").map((/** @type {Look} */ look) => [look.name, look]));
  const root = make("div", { class: "ms-table" }, el);
  const bar = make("div", { class: "ms-bar" }, root);
  const text = make("input", { type: "search", placeholder: "filter by text", "aria-label": "filter by text" }, bar);
  const status = make("select", { "aria-label": "status" }, bar);
  const iteration = make("select", { "aria-label": "iteration" }, bar);
  const chooser = make("details", { class: "ms-chooser" }, bar);
  make("summary", { title: "choose the columns" }, chooser, "columns");
  const choices = make("div", { class: "ms-choices" }, chooser);
  const shown = make("span", { role: "status" }, bar);
  const note = make("span", { class: "ms-note", hidden: "" }, bar,
    "the kernel is busy with a cell: this comes as soon as it can");
  const box = make("div", { class: "ms-rows", tabindex: "0", role: "grid", "aria-label": "tasks: arrow keys walk, Escape closes the details" }, root);
  const head = make("div", { class: "ms-head", role: "row" }, box);
  const canvas = make("div", { class: "ms-sheet" }, box);
  const panel = make("div", { class: "ms-panel ms-below", role: "group", "aria-label": "details", hidden: "" }, root);
  const close = make("button", { type: "button", class: "ms-close", title: "close the details", "aria-label": "close the details" }, panel, "×");
  const told = make("div", {}, panel);

  /** @type {string[]} what the values of a row are, whatever columns are shown in which order */
  const places = model.get("places");
  /** @returns {Rows} */
  const rows = () => model.get("window");
  /** @returns {Column[]} */
  const columns = () => model.get("columns").filter((/** @type {Column} */ column) => column.shown);
  const at = (/** @type {string} */ name) => places.indexOf(name);
  const nameAt = (/** @type {number} */ place) => rows().rows[place - rows().first]?.[at("task")];

  // -- asking the kernel ----------------------------------------------------------------------

  const me = Math.random().toString(36).slice(2);
  let turn = 0, waiting = "", begun = 0, again = false;
  /** @type {any} */
  let slow = 0;
  /** @type {{ by: string, down: boolean }} */
  let order = { by: model.get("asked").by, down: model.get("asked").down };

  /** Ask for the rows around those in sight: one question at a time, and the last one is always asked. */
  function ask() {
    if (waiting) { again = true; return; }
    waiting = `${me}.${++turn}`;
    begun = performance.now();
    slow = setTimeout(() => { note.hidden = false; }, PATIENCE);
    change(model, { asked: { text: text.value, status: status.value, iteration: iteration.value, ...order, first: sight()[0], number: waiting } });
  }
  function find() {
    box.scrollTop = 0;
    ask();
  }
  function answered() {
    if (waiting && rows().number === waiting) {
      waiting = "";
      clearTimeout(slow);
      note.hidden = true;
      root.dataset.foundMs = (performance.now() - begun).toFixed(1);
      if (again) { again = false; ask(); }
    }
    refill();
    paint();
  }

  // -- the rows -------------------------------------------------------------------------------

  const height_ = () => box.clientHeight || HIGHEST_PX;
  const sight = () => inSight(rows().found, box.scrollTop, height_());

  function paint() {
    const { found, total, first, rows: there } = rows(), selected = model.get("selected"), { height, by } = laidOut(found, height_());
    shown.textContent = `${found} of ${total}`;
    box.style.setProperty("--ms-height", `${Math.min(HIGHEST_PX, (total + 1) * ROW + 18)}px`);
    canvas.style.height = `${height}px`;
    canvas.style.width = head.style.width = `max(100%, ${columns().reduce((sum, column) => sum + column.width, 0)}px)`;
    const [from, to] = sight(), all = columns(), lift = box.scrollTop - box.scrollTop * by;
    const lines = [];
    box.setAttribute("aria-rowcount", String(found + 1));
    box.removeAttribute("aria-activedescendant");
    for (let place = Math.max(0, from - 5); place < Math.min(found, to + 5); place++) {
      const row = there[place - first], key = row ? row[at("task")] : "";
      const line = make("div", { class: "ms-row", role: "row", "aria-rowindex": place + 2, id: `ms-row-${me}-${place}`, style: `top:${place * ROW + lift}px` });
      if (row) line.dataset.key = key;
      line.setAttribute("aria-selected", String(Boolean(row) && key === selected));
      if (row && key === selected) {
        line.classList.add("ms-selected");
        box.setAttribute("aria-activedescendant", line.id);
      }
      for (const column of all) {
        const cell = make("div", { class: `ms-cell ms-is-${column.kind}`, role: "gridcell", style: `width:${column.width}px` }, line);
        const value = row ? row[at(column.name)] : "…";
        if (value === null) continue;
        if (column.kind === "status" && looks[value]) icon(looks[value], 13, cell);
        if (column.kind === "time" && typeof value === "number") [cell.title, value_(cell).textContent] = moment(value);
        else { value_(cell).textContent = String(value); cell.title = String(value); }
      }
      lines.push(line);
    }
    canvas.replaceChildren(...lines);
  }
  const value_ = (/** @type {Element} */ cell) => make("span", {}, cell);

  /** Ask for more where the window ends close to what is in sight. */
  function scrolled() {
    const { first, rows: there, found } = rows();
    if (endsSoon(first, there.length, found, sight())) ask();
    paint();
  }

  // -- the head -------------------------------------------------------------------------------

  const arrange = (/** @type {Column[]} */ next) => change(model, { columns: next });
  const every = () => /** @type {Column[]} */ (model.get("columns"));

  function top_() {
    keepFocus(head, fillHead, box);
    keepFocus(choices, fillChoices, chooser.querySelector("summary"));
  }
  function fillHead() {
    head.replaceChildren();
    for (const column of columns()) {
      const cell = make("div", { class: `ms-cell ms-is-${column.kind}`, role: "columnheader", style: `width:${column.width}px`, "data-column": column.name }, head);
      cell.setAttribute("aria-sort", column.name === order.by ? (order.down ? "descending" : "ascending") : "none");
      const button = make("button", { type: "button", title: `sort by ${column.name}; drag it to move the column (Alt+Shift+arrow; Shift+arrow for its width)`, "data-keep": column.name }, cell, column.name);
      button.onclick = () => {
        order = { by: column.name, down: order.by === column.name && !order.down };
        top_();
        find();
      };
      button.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => move(event, column.name, button));
      button.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => byKey(event, column));
      const edge = make("span", { class: "ms-edge", title: "drag to make the column wider; double-click for its content" }, cell);
      edge.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => widen(event, column.name, cell, edge));
      edge.addEventListener("dblclick", () => resize(column.name, widest(column.name)));
    }
  }
  function fillChoices() {
    choices.replaceChildren();
    for (const column of every()) {
      const label = make("label", {}, choices);
      const tick = make("input", { type: "checkbox", "aria-label": `show ${column.name}`, "data-keep": column.name }, label);
      tick.checked = column.shown;
      tick.disabled = column.shown && columns().length === 1;
      label.append(column.name);
      tick.onchange = () => arrange(every().map((other) => (other.name === column.name ? { ...other, shown: tick.checked } : other)));
    }
  }

  /**
   * Make a column wider or narrower by Shift and an arrow; move it by Alt, Shift and an arrow.
   * @param {KeyboardEvent} event @param {Column} column
   */
  function byKey(event, column) {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step || !event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.altKey) { resize(column.name, column.width + 16 * step); return; }
    const seen = columns(), beside = seen[seen.findIndex(({ name }) => name === column.name) + step];
    if (!beside) return;
    const next = every().filter(({ name }) => name !== column.name);
    next.splice(next.findIndex(({ name }) => name === beside.name) + (step > 0 ? 1 : 0), 0, column);
    arrange(next);
  }

  /** @param {string} name @param {number} width */
  const resize = (name, width) =>
    arrange(every().map((column) => (column.name === name ? { ...column, width: Math.max(40, Math.round(width)) } : column)));

  /** @param {string} name @returns {number} the width of the longest content in sight */
  function widest(name) {
    const place = columns().findIndex((column) => column.name === name);
    const cells = [...canvas.querySelectorAll(`.ms-cell:nth-child(${place + 1})`)];
    const needed = (/** @type {Element} */ cell) => [...cell.children].reduce((sum, part) => sum + part.getBoundingClientRect().width + 5, 18);
    return Math.min(900, Math.max(60, ...cells.map(needed)));
  }

  /** @param {PointerEvent} event @param {string} name @param {HTMLElement} cell @param {HTMLElement} edge */
  function widen(event, name, cell, edge) {
    event.preventDefault();
    const from = event.clientX, before = cell.getBoundingClientRect().width;
    edge.setPointerCapture(event.pointerId);
    const drag = (/** @type {PointerEvent} */ next) => { cell.style.width = `${Math.max(40, before + next.clientX - from)}px`; cell.style.flex = "none"; };
    edge.addEventListener("pointermove", drag);
    edge.addEventListener("lostpointercapture", () => {
      edge.removeEventListener("pointermove", drag);
      if (cell.style.flex) resize(name, cell.getBoundingClientRect().width);
    }, { once: true });
  }

  /** @param {PointerEvent} event @param {string} name @param {HTMLElement} button */
  function move(event, name, button) {
    const from = event.clientX;
    /** @type {string | null} */
    let before = null;
    const target = (/** @type {PointerEvent} */ next) => {
      if (Math.abs(next.clientX - from) < 6) return;
      const cells = /** @type {HTMLElement[]} */ ([...head.children]);
      const over = cells.find((cell) => next.clientX < cell.getBoundingClientRect().left + cell.offsetWidth / 2);
      before = over ? over.dataset.column || "" : "";
      cells.forEach((cell) => cell.classList.toggle("ms-here", cell === over));
    };
    const drop = () => {
      window.removeEventListener("pointermove", target);
      if (before === null) return;
      button.onclick = null; // it was dragged, not pressed
      const kept = every().filter((column) => column.name !== name), own = every().filter((column) => column.name === name);
      const place = kept.findIndex((column) => column.name === before);
      if (before !== name) kept.splice(place < 0 ? kept.length : place, 0, ...own);
      if (before !== name) setTimeout(() => arrange(kept));
      else setTimeout(top_);
    };
    window.addEventListener("pointermove", target);
    window.addEventListener("pointerup", drop, { once: true });
  }

  // -- choices, and what is selected ------------------------------------------------------------

  /** @param {HTMLSelectElement} select @param {[string, string][]} values @param {string} every @param {string} chosen */
  function fill(select, values, every, chosen) {
    if (chosen && !values.some(([value]) => value === chosen)) values.push([chosen, chosen]);
    const wanted = JSON.stringify([every, values]);
    if (select.dataset.holds !== wanted) {
      select.dataset.holds = wanted;
      select.replaceChildren();
      make("option", { value: "" }, select, every);
      for (const [value, said] of values) make("option", { value }, select, said);
    }
    select.value = chosen;
  }
  function refill() {
    const { statuses, iterations } = rows();
    fill(status, Object.entries(statuses).map(([name, count]) => [name, `${name} (${count})`]), "every status", status.value);
    fill(iteration, iterations.map((number) => [String(number), `iteration ${number}`]), "every iteration", iteration.value);
  }

  const select = (/** @type {string} */ key) => change(model, { selected: key });
  function follow() {
    const place = rows().rows.findIndex((row) => row[at("task")] === model.get("selected")) + rows().first;
    if (place >= rows().first && rows().found * ROW <= HIGHEST) {
      const top = place * ROW;
      if (top < box.scrollTop || top + 2 * ROW > box.scrollTop + box.clientHeight) box.scrollTop = Math.max(0, top - 100);
    }
    tell();
    paint();
  }
  function tell() {
    const known = model.get("selected") && model.get("panel_of") === model.get("selected") && model.get("panel");
    panel.hidden = !known;
    if (known) fillPanel(panel, told, model.get("selected"), model.get("panel"), box);
  }

  clicks(canvas, "data-key", select);
  const stopLeading = leadsOn(model, root, told, select);
  close.onclick = () => { select(""); box.focus(); };
  box.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.target !== box) return;
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (!step && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    if (!step) { select(""); return; }
    const { first, rows: there } = rows();
    const now = there.findIndex((row) => row[at("task")] === model.get("selected"));
    const next = nameAt(now < 0 ? sight()[0] : first + now + step);
    if (next) select(next);
  });
  for (const field of [text, status, iteration]) field.addEventListener("input", find);
  chooser.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || !chooser.open) return;
    chooser.open = false;
    chooser.querySelector("summary").focus();
  });
  panel.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => { if (event.key === "Escape") close.click(); });
  const outside = (/** @type {any} */ event) => { if (!chooser.contains(event.target)) chooser.open = false; };
  document.addEventListener("click", outside); // not when it is pressed: what is below moves up then, away from the pointer
  box.addEventListener("scroll", scrolled);
  const sizes = new ResizeObserver(() => scrolled());
  sizes.observe(box);

  const asked = () => {
    const { by, down } = model.get("asked");
    if (!waiting && (by !== order.by || down !== order.down)) { order = { by, down }; top_(); }
  };
  const arranged = () => { top_(); paint(); };
  const heard = /** @type {[string, () => void][]} */ ([["change:window", answered], ["change:columns", arranged],
    ["change:selected", follow], ["change:panel", tell], ["change:panel_of", tell], ["change:asked", asked]]);
  for (const [what, act] of heard) model.on(what, act);
  const start = model.get("asked");
  text.value = start.text;
  fill(status, [], "every status", start.status);
  fill(iteration, [], "every iteration", start.iteration);
  refill();
  top_();
  paint();
  tell();
  const stops = [pulse(model), ownKeys(root), still(model, root, "change:window", () => { waiting = ""; clearTimeout(slow); note.hidden = true; }), stopLeading];
  return () => {
    for (const stop of stops) stop();
    clearTimeout(slow);
    sizes.disconnect();
    document.removeEventListener("click", outside);
    for (const [what, act] of heard) model.off(what, act);
  };
}

export default { render };
