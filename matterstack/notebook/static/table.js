// @ts-check
// The table of tasks: filtered and sorted here, so that ten thousand rows answer at once. Only rows in sight exist.
const ROW = 22;

// Rows that changed are put into the model, so that a view opened later is up to date.
/** @param {any} model @param {any} message */
function patch(model, message) {
  const rows = model.get("rows");
  for (const [number, row] of message.rows || []) rows[number] = row;
}

// Once a model, for patches that come while no view is open.
/** @param {{ model: any }} context */
function initialize({ model }) {
  model.on("msg:custom", (/** @type {any} */ message) => patch(model, message));
}

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  /** @type {{ name: string, width: number }[]} */
  const columns = model.get("columns");
  /** @type {Record<string, Look>} */
  const looks = Object.fromEntries(model.get("looks").map((/** @type {Look} */ look) => [look.name, look]));
  const place = (/** @type {string} */ name) => columns.findIndex((column) => column.name === name);
  const root = make("div", { class: "ms-table" }, el);
  const bar = make("div", { class: "ms-bar" }, root);
  const text = make("input", { type: "search", placeholder: "filter by text", "aria-label": "filter by text" }, bar);
  const status = make("select", { "aria-label": "status" }, bar);
  const iteration = make("select", { "aria-label": "iteration" }, bar);
  const shown = make("span", { role: "status" }, bar);
  const box = make("div", { class: "ms-rows", tabindex: "0", role: "grid", "aria-label": "tasks" }, root);
  const head = make("div", { class: "ms-head", role: "row" }, box);
  const canvas = make("div", { style: "position:relative" }, box);
  let order = { column: -1, down: false };
  /** @type {number[]} */
  let hits = [];

  columns.forEach(({ name, width }, column) => {
    const cell = make("div", { class: "ms-cell", role: "columnheader", style: `width:${width}px` }, head);
    const button = make("button", { type: "button", title: `sort by ${name}` }, cell, name);
    button.onclick = () => { order = { column, down: order.column === column && !order.down }; find(); };
  });

  function choices() {
    const rows = model.get("rows"), at = place("status"), it = place("iteration");
    const fill = (/** @type {HTMLSelectElement} */ select, /** @type {string[]} */ values, /** @type {string} */ every) => {
      const kept = select.value;
      select.replaceChildren();
      make("option", { value: "" }, select, every);
      for (const value of values) make("option", { value }, select, value);
      select.value = kept;
    };
    const there = new Set(rows.map((/** @type {any[]} */ row) => row[at]));
    fill(status, Object.keys(looks).filter((name) => there.has(name)), "every status");
    fill(iteration, [...new Set(/** @type {any[][]} */ (rows).map((row) => String(row[it])))], "every iteration");
  }

  function find() {
    const begin = performance.now();
    /** @type {any[][]} */
    const rows = model.get("rows");
    const wanted = text.value.trim().toLowerCase();
    const at = place("status"), it = place("iteration");
    hits = [];
    for (let number = 0; number < rows.length; number++) {
      const row = rows[number];
      if (status.value && row[at] !== status.value) continue;
      if (iteration.value && String(row[it]) !== iteration.value) continue;
      if (wanted && !row.some((cell) => cell !== null && String(cell).toLowerCase().includes(wanted))) continue;
      hits.push(number);
    }
    if (order.column >= 0) {
      const sign = order.down ? -1 : 1, column = order.column;
      hits.sort((a, b) => {
        const [x, y] = [rows[a][column], rows[b][column]];
        if (x === y) return a - b;
        if (x === null || x === "") return 1;
        if (y === null || y === "") return -1;
        return (typeof x === "number" && typeof y === "number" ? x - y : String(x) < String(y) ? -1 : 1) * sign;
      });
    }
    head.querySelectorAll('[role="columnheader"]').forEach((/** @type {Element} */ cell, /** @type {number} */ column) =>
      cell.setAttribute("aria-sort", column === order.column ? (order.down ? "descending" : "ascending") : "none"));
    shown.textContent = `${hits.length} of ${rows.length}`;
    canvas.style.height = `${hits.length * ROW}px`;
    paint();
    root.dataset.foundMs = (performance.now() - begin).toFixed(1);
  }

  function paint() {
    const rows = model.get("rows"), selected = model.get("selected"), name = place("task");
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 5);
    const last = Math.min(hits.length, first + Math.ceil((box.clientHeight || 360) / ROW) + 10);
    const drawn = [];
    for (let place = first; place < last; place++) {
      const row = rows[hits[place]];
      const line = make("div", { class: "ms-row", role: "row", style: `top:${place * ROW}px`, "data-key": row[name] });
      if (row[name] === selected) line.classList.add("ms-selected");
      row.forEach((/** @type {any} */ value, /** @type {number} */ column) => {
        const cell = make("div", { class: "ms-cell", role: "gridcell", style: `width:${columns[column].width}px` }, line);
        if (columns[column].name === "status" && looks[value]) icon(looks[value], 13, cell);
        cell.append(value === null ? "" : String(value));
        cell.title = value === null ? "" : String(value);
      });
      drawn.push(line);
    }
    canvas.replaceChildren(...drawn);
  }

  /** @param {string} key */
  function select(key) {
    model.set("selected", key);
    model.save_changes();
  }
  canvas.addEventListener("click", (/** @type {any} */ event) => {
    const line = event.target.closest(".ms-row");
    if (line) select(line.dataset.key);
  });
  box.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (!step || event.target !== box) return;
    event.preventDefault();
    event.stopPropagation();
    const rows = model.get("rows"), name = place("task");
    const at = hits.findIndex((number) => rows[number][name] === model.get("selected"));
    const next = Math.min(hits.length - 1, Math.max(0, at + step));
    if (hits.length) select(rows[hits[next]][name]);
  });
  function follow() {
    const rows = model.get("rows"), name = place("task");
    const at = hits.findIndex((number) => rows[number][name] === model.get("selected"));
    if (at >= 0 && (at * ROW < box.scrollTop || (at + 2) * ROW > box.scrollTop + box.clientHeight))
      box.scrollTop = Math.max(0, at * ROW - 100);
    paint();
  }
  const renew = () => { choices(); find(); };
  const onPatch = (/** @type {any} */ message) => { patch(model, message); renew(); };
  for (const field of [text, status, iteration]) {
    field.addEventListener("input", find);
    field.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => event.stopPropagation());
  }
  box.addEventListener("scroll", paint);
  model.on("change:rows", renew);
  model.on("msg:custom", onPatch);
  model.on("change:selected", follow);
  renew();
  const stop = pulse(model);
  return () => {
    stop();
    model.off("change:rows", renew);
    model.off("msg:custom", onPatch);
    model.off("change:selected", follow);
  };
}

export default { initialize, render };
