// @ts-check
// The runs of a workspace: a row each, live. Python sends all rows once, and then those that changed; the page filters,
// sorts, and draws those in sight. What is opened of a run stands below, as widgets of their own.

/**
 * @typedef {{ kind: string, words: string, more: string }} Need
 * @typedef {{ workspace: string, run: string, path: string, status: string, reason: string, iteration: number,
 *   counts: number[], over: number, total: number, needs: Need[], created: number | null, changed: number | null }} RunRow
 * @typedef {{ number: number, rows: Record<string, RunRow> }} AllRows
 * @typedef {{ kind: string, keys: string[], busy: boolean, said: string, kept: string[] }} Opened
 * @typedef {{ text: string, status: string, by: string, down: boolean }} Asked
 */

const RUN_PX = 32, MOST_ROWS_PX = 384;
/** After so many milliseconds without an answer the view says what it waits for. */
const WAIT_MS = 1500;
const UNREADABLE = "UNREADABLE", NEEDS = "needs you";
/** @type {[string, string][]} what is a column by which one can sort */
const HEADS = [["status", "status"], ["run", "run"], ["progress", "progress"], ["iteration", "iter."], ["needs", "needs you, why"], ["changed", "last change"]];

/** @param {number} at seconds since the Unix epoch @returns {string} how long ago that is */
function ago(at) {
  const seconds = Math.max(0, Date.now() / 1000 - at);
  if (seconds < 10) return "now";
  for (const [size, unit] of /** @type {[number, string][]} */ ([[86400, "d"], [3600, "h"], [60, "min"]])) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return `${Math.floor(seconds)} s ago`;
}

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  /** @type {Record<string, Look>} */
  const looks = Object.fromEntries(model.get("looks").map((/** @type {Look} */ look) => [look.name, look]));
  /** @type {[string, string][]} */
  const parts = model.get("parts");
  const many = model.get("many");
  const root = make("div", { class: `ms-view ms-runs${many ? " ms-many" : ""}` }, el);
  const top = make("div", { class: "ms-runs-top" }, root);
  make("span", { class: "ms-runs-title" }, top, model.get("about"));
  const sums = make("div", { class: "ms-runs-sums", role: "group", "aria-label": "runs by status" }, top);
  const bar = make("div", { class: "ms-runs-bar" }, root);
  const field = make("label", { class: "ms-runs-find" }, bar);
  symbol("search", field);
  const text = make("input", { type: "search", placeholder: "filter by text", "aria-label": "filter by text" }, field);
  const found = make("span", { class: "ms-note", role: "status" }, bar);
  make("span", { class: "ms-gap" }, bar);
  const note = make("span", { class: "ms-note", hidden: "" }, bar, "the kernel is busy with a cell: this comes as soon as it can");
  const comparing = make("button", { type: "button", class: "ms-button", title: "tick two runs to compare them" }, bar);
  symbol("compare", comparing);
  const compareWords = make("span", {}, comparing);
  const box = make("div", { class: "ms-runs-box", tabindex: "0", role: "grid", "aria-label": "runs: arrow keys walk, Enter opens, Space ticks, Escape closes what is open" }, root);
  const head = make("div", { class: "ms-runs-row ms-runs-head", role: "row" }, box);
  const sheet = make("div", { class: "ms-runs-sheet", role: "rowgroup" }, box);
  const below = make("div", { class: "ms-runs-open", hidden: "" }, root);

  const me = Math.random().toString(36).slice(2, 8);
  /** @returns {AllRows} */
  const all = () => model.get("rows");
  /** @returns {Asked} */
  const asked = () => model.get("asked");
  /** @returns {Opened} */
  const opened = () => model.get("opened");
  const ask = (/** @type {Partial<Asked>} */ some) => { change(model, { asked: { ...asked(), ...some } }); };
  /** @type {string[]} keys of the rows that are wanted, in their order */
  let order = [];
  let here = "";
  /** @type {string[]} */
  let ticked = [];
  /** @type {any} */
  let slow = 0;

  // -- which rows, and in which order ---------------------------------------------------------

  const statusOf = (/** @type {RunRow} */ row) => row.status || UNREADABLE;
  const byNumber = new Intl.Collator("en", { numeric: true });
  const urgency = ["FAILED", "PAUSED", "RUNNING", "PENDING", UNREADABLE, "CANCELLED", "COMPLETED"];
  /** @type {Record<string, (row: RunRow) => number | string>} */
  const values = {
    status: (row) => urgency.indexOf(statusOf(row)),
    run: (row) => `${row.workspace}/${row.run}`,
    progress: (row) => (row.total ? row.over / row.total : -1),
    iteration: (row) => row.iteration,
    needs: (row) => -row.needs.length,
    changed: (row) => -(row.changed || 0),
  };

  /** @param {RunRow} row @param {string} wanted */
  const is = (row, wanted) => (wanted === NEEDS ? row.needs.length > 0 : !wanted || statusOf(row) === wanted);

  function arrange() {
    const { text: words, status, by, down } = asked(), rows = all().rows, sought = words.trim().toLowerCase();
    const said = (/** @type {RunRow} */ row) => [row.workspace, row.run, statusOf(row), row.reason, ...row.needs.map((need) => need.words)].join("\n").toLowerCase();
    const value = values[by] || values.run, turn = down ? -1 : 1;
    order = Object.keys(rows).filter((key) => is(rows[key], status) && (!sought || said(rows[key]).includes(sought)));
    order.sort((one, other) => {
      const a = value(rows[one]), b = value(rows[other]);
      const first = typeof a === "number" && typeof b === "number" ? a - b : byNumber.compare(String(a), String(b));
      return turn * first || byNumber.compare(one, other);
    });
    if (!rows[here]) here = "";
    ticked = ticked.filter((key) => rows[key]);
  }

  // -- drawing --------------------------------------------------------------------------------

  function drawSums() {
    const rows = Object.values(all().rows), { status } = asked();
    const counted = [["", rows.length], [NEEDS, rows.filter((row) => is(row, NEEDS)).length],
      ...[...Object.keys(looks), UNREADABLE].map((name) => [name, rows.filter((row) => is(row, name)).length])];
    const focused = sums.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.status : null;
    sums.replaceChildren();
    for (const [name, count] of /** @type {[string, number][]} */ (counted)) {
      if (!count && name && name !== status && name !== NEEDS) continue;
      const key = make("button", { type: "button", class: "ms-button ms-runs-sum", "aria-pressed": name === status, "data-status": name }, sums);
      if (looks[name]) icon(looks[name], 12, key);
      if (name === NEEDS) symbol("person", key, 12);
      make("b", {}, key, String(count));
      make("span", {}, key, name === NEEDS ? (count === 1 ? NEEDS : "need you") : name ? name.toLowerCase() : count === 1 ? "run" : "runs");
      if (name === NEEDS && count) key.classList.add("ms-urgent");
      key.onclick = () => ask({ status: name === status ? "" : name });
      if (name === focused) key.focus();
    }
  }

  function drawHead() {
    const { by, down } = asked();
    const focused = head.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.by : null;
    head.replaceChildren();
    make("span", { role: "columnheader", "aria-label": "ticked for a comparison" }, head);
    for (const [name, words] of HEADS) {
      const cell = make("span", { role: "columnheader", class: `ms-runs-${name}`, "aria-sort": name === by ? (down ? "descending" : "ascending") : "none" }, head);
      const button = make("button", { type: "button", title: `sort by ${words}`, "data-by": name }, cell, words);
      if (name === by) symbol(down ? "down" : "up", cell, 12);
      button.onclick = () => ask({ by: name, down: name === by && !down });
      if (name === focused) button.focus();
    }
  }

  /** @param {string} key @param {number} place */
  function drawRow(key, place) {
    const row = all().rows[key], status = statusOf(row), is_open = opened().keys.includes(key);
    const line = make("div", { class: "ms-runs-row", role: "row", id: `ms-run-${me}-${place}`, "aria-rowindex": place + 2, "aria-selected": key === here,
      style: `top:${place * RUN_PX}px`, "data-key": key, title: row.path });
    if (is_open) line.classList.add("ms-runs-is-open");
    const choice = make("span", { role: "gridcell" }, line);
    const tick = make("input", { type: "checkbox", tabindex: "-1", "aria-label": `compare ${row.run}` }, choice);
    tick.checked = ticked.includes(key);
    const first = make("span", { role: "gridcell", class: "ms-runs-status", title: status, "aria-label": status }, line);
    if (looks[status]) icon(looks[status], 14, first);
    else symbol("close", first, 14);
    make("span", {}, first, status);
    const name = make("span", { role: "gridcell", class: "ms-runs-run" }, line);
    if (many) make("span", { class: "ms-note" }, name, `${row.workspace} / `);
    make("span", {}, name, row.run);
    if (opened().kept.includes(key)) { const on = make("span", { class: "ms-runs-on", title: "Run is on in this notebook" }, name); symbol("play", on, 12); }
    const progress = make("span", { role: "gridcell", class: "ms-runs-progress" }, line);
    const words = parts.map(([part], number) => (row.counts[number] ? `${row.counts[number]} ${part}` : "")).filter(Boolean).join(", ");
    if (row.total) {
      const strip = make("span", { class: "ms-runs-strip", role: "img", "aria-label": words, title: words }, progress);
      parts.forEach(([, colour], number) => {
        if (row.counts[number]) make("span", { style: `flex:${row.counts[number]} 0 0px;background:${colour}` }, strip);
      });
      make("span", { class: "ms-runs-of" }, progress, `${row.over}/${row.total}`);
    }
    make("span", { role: "gridcell", class: "ms-runs-iteration" }, line, row.status ? String(row.iteration) : "");
    const why = make("span", { role: "gridcell", class: "ms-runs-needs" }, line);
    for (const need of row.needs) {
      make("button", { type: "button", tabindex: "-1", class: "ms-runs-need", "data-kind": need.kind, title: [need.words, need.more, need.kind === "inbox" ? "a click opens the inbox" : ""].filter(Boolean).join("\n") }, why, need.words);
    }
    if (row.reason && !row.needs.some((need) => need.words === row.reason)) make("span", { class: "ms-note", title: row.reason }, why, row.reason);
    const when = make("span", { role: "gridcell", class: "ms-runs-changed" }, line);
    if (row.changed) { when.textContent = ago(row.changed); when.title = moment(row.changed)[0]; }
    return line;
  }

  /** @type {Map<string, { row: RunRow, looks: string, line: HTMLElement }>} */
  const drawn = new Map();
  /** A line is drawn anew only where it changed: one that is pressed meanwhile stays, and so is clicked. @param {string} key @param {number} place */
  function lineOf(key, place) {
    const row = all().rows[key], { keys, kept } = opened(), known = drawn.get(key);
    const now = JSON.stringify([place, key === here, ticked.includes(key), keys.includes(key), kept.includes(key)]);
    if (known && known.row === row && known.looks === now) {
      if (known.line.lastElementChild && row.changed) known.line.lastElementChild.textContent = ago(row.changed);
      return known.line;
    }
    const line = drawRow(key, place);
    drawn.set(key, { row, looks: now, line });
    return line;
  }
  /** @param {HTMLElement[]} lines */
  function put(lines) {
    const there = [...sheet.children];
    if (lines.length !== there.length || lines.some((line, place) => line.isConnected && line !== there[place])) sheet.replaceChildren(...lines);
    else lines.forEach((line, place) => { if (there[place] !== line) there[place].replaceWith(line); });
    for (const [key, { line }] of drawn) if (!line.isConnected) drawn.delete(key);
  }

  function paint() {
    const height = order.length * RUN_PX, total = Object.keys(all().rows).length;
    box.style.setProperty("--ms-runs-height", `${Math.min(MOST_ROWS_PX, Math.max(order.length, 1) * RUN_PX) + RUN_PX + 2}px`);
    box.setAttribute("aria-rowcount", String(order.length + 1));
    sheet.style.height = `${Math.max(height, RUN_PX)}px`;
    const from = Math.max(0, Math.floor(box.scrollTop / RUN_PX) - 4);
    const to = Math.min(order.length, Math.ceil((box.scrollTop + (box.clientHeight || MOST_ROWS_PX)) / RUN_PX) + 4);
    /** @type {HTMLElement[]} */
    const lines = [];
    for (let place = from; place < to; place++) lines.push(lineOf(order[place], place));
    if (!order.length) lines.push(make("div", { class: "ms-runs-none ms-note", role: "row" }));
    put(lines);
    if (!order.length) make("span", { role: "gridcell" }, lines[0], total ? "no run is like that" : "there is no run yet: a new one shows by itself");
    const place = order.indexOf(here);
    if (place >= from && place < to) box.setAttribute("aria-activedescendant", `ms-run-${me}-${place}`);
    else box.removeAttribute("aria-activedescendant");
    found.textContent = order.length === total ? "" : `${order.length} of ${total}`;
    comparing.disabled = ticked.length !== 2;
    compareWords.textContent = ticked.length === 2 ? "compare" : ticked.length ? "compare: tick one more" : "compare";
  }

  function drawOpened() {
    const { kind, keys, busy, said } = opened();
    below.hidden = !kind && !said;
    below.replaceChildren();
    if (below.hidden) return;
    const words = { run: "", inbox: "inbox", comparison: "comparison" }[kind] ?? "";
    const close = make("button", { type: "button", class: "ms-button", title: "close (Escape in the list)", "aria-label": "close what is open" }, below);
    symbol("close", close);
    close.onclick = () => { act("close", []); box.focus(); };
    make("b", {}, below, keys.map((key) => all().rows[key]?.run ?? key).join("  |  "));
    if (busy) make("span", { class: "ms-note", role: "status" }, below, "opening …");
    else if (said) make("span", { class: "ms-error", role: "alert" }, below, said);
    if (keys.length !== 1) { make("span", { class: "ms-note" }, below, words); return; }
    make("span", { class: "ms-gap" }, below);
    for (const [other, label, picture] of [["run", "cockpit", "run"], ["inbox", "inbox", "person"]]) {
      const button = make("button", { type: "button", class: "ms-button", "aria-pressed": kind === other }, below);
      symbol(picture, button);
      make("span", {}, button, label);
      button.onclick = () => act(other, keys);
    }
  }

  // -- acting ---------------------------------------------------------------------------------

  /** @param {string} what @param {string[]} keys */
  function act(what, keys) {
    clearTimeout(slow);
    if (what !== "close") slow = setTimeout(() => { note.hidden = false; }, WAIT_MS);
    send(model, { do: what, keys });
  }
  function answered() {
    clearTimeout(slow);
    note.hidden = true;
    drawOpened();
    paint();
  }
  /** @param {string} key */
  function tick(key) {
    ticked = ticked.includes(key) ? ticked.filter((other) => other !== key) : [...ticked, key].slice(-2);
    paint();
  }
  /** @param {number} place */
  function walk(place) {
    if (!order.length) return;
    const next = Math.min(order.length - 1, Math.max(0, place));
    here = order[next];
    const over = next * RUN_PX, room = box.clientHeight - RUN_PX;
    if (over < box.scrollTop) box.scrollTop = over;
    if (over + RUN_PX > box.scrollTop + room) box.scrollTop = over + RUN_PX - room;
    paint();
  }

  sheet.addEventListener("click", (/** @type {any} */ event) => {
    const line = event.target.closest(".ms-runs-row"), need = event.target.closest(".ms-runs-need");
    if (!line) return;
    here = line.dataset.key;
    if (event.target.closest("input, [role=gridcell]:first-child")) tick(here);
    else act(need ? need.dataset.kind : "run", [here]);
    paint();
    box.focus({ preventScroll: true });
  });
  box.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.target !== box) return;
    const now = order.indexOf(here), page = Math.max(1, Math.floor(box.clientHeight / RUN_PX) - 2);
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowDown: () => walk(now + 1), ArrowUp: () => walk(now - 1), PageDown: () => walk(now + page), PageUp: () => walk(now - page),
      Home: () => walk(0), End: () => walk(order.length - 1), Enter: () => { if (here) act("run", [here]); },
      " ": () => { if (here) tick(here); }, Escape: () => { if (opened().kind) act("close", []); },
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  });
  text.addEventListener("input", () => { box.scrollTop = 0; ask({ text: text.value }); });
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // letters are no commands to the notebook; Ctrl+S is one
  });
  comparing.onclick = () => act("comparison", ticked);
  box.addEventListener("scroll", paint);
  const sizes = new ResizeObserver(paint);
  sizes.observe(box);

  // -- what Python says -------------------------------------------------------------------------

  function fresh() { arrange(); drawSums(); paint(); }
  /** @param {any} message */
  function heard(message) {
    const patch = message.patch;
    if (!patch || patch.number <= all().number) return;
    if (patch.number !== all().number + 1) { send(model, { want: true }); return; }
    const rows = { ...all().rows, ...patch.rows };
    for (const key of patch.gone) delete rows[key];
    root.dataset.patched = JSON.stringify(Object.keys(patch.rows));
    model.set("rows", { number: patch.number, rows });
  }
  function chosen() {
    if (document.activeElement !== text) text.value = asked().text;
    arrange();
    drawSums();
    drawHead();
    paint();
  }
  const hears = /** @type {[string, (message: any) => void][]} */ ([["change:rows", fresh], ["change:asked", chosen], ["change:opened", answered], ["msg:custom", heard]]);
  for (const [what, then] of hears) model.on(what, then);
  const clock = setInterval(paint, 10000);
  chosen();
  drawOpened();
  send(model, { want: all().number });
  const stops = [pulse(model), ownKeys(root), still(model, root, "msg:custom")];
  return () => {
    for (const stop of stops) stop();
    clearInterval(clock);
    clearTimeout(slow);
    sizes.disconnect();
    for (const [what, then] of hears) model.off(what, then);
  };
}

export default { render };
