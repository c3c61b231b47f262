// @ts-check
// The head of a cockpit: where the run stands, what needs a person, and the buttons. What it says, Python decides.

/**
 * @typedef {{ name: string, symbol: string, tip: string, on: boolean, pressed: boolean | null }} Button_
 * @typedef {[string, number][]} Parts codes of statuses, and how many tasks have them
 * @typedef {{ workspace: string, run_id: string, status: Look, iteration: number, parts: Parts, over: number, total: number,
 *   started_at: number | null, ended_at: number | null, pace: string, reason: string, directory: string,
 *   before: { title: string, parts: Parts, said: string }[] }} Standing
 * @typedef {{ code: string, title: string, text: string, task: string, tab: string }} Need
 */

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  /** @type {Look[]} */
  const every = model.get("looks");
  /** @type {Record<string, Look>} */
  const looks = Object.fromEntries(every.map((look) => [look.code, look]));
  const root = make("div", { class: "ms-view ms-head-of-run" }, el);
  const top = make("div", { class: "ms-head-top" }, root);
  const title = make("div", { class: "ms-head-title" }, top);
  const bar = make("div", { class: "ms-head-buttons", role: "toolbar", "aria-label": "the run" }, top);
  const progress = make("div", { class: "ms-progress", role: "img" }, root);
  const line = make("div", { class: "ms-head-line" }, root);
  const counts = make("div", { class: "ms-head-counts" }, line);
  const times = make("div", { class: "ms-head-times" }, line);
  const reason = make("div", { class: "ms-head-reason" }, root);
  const needs = make("div", { class: "ms-needs", role: "list", "aria-label": "what needs somebody" }, root);
  const state = make("div", { class: "ms-message", role: "status" }, root);
  const said = make("div", { class: "ms-message", role: "status" }, root);
  const before = make("details", { class: "ms-head-before" }, root);
  make("summary", {}, before, "the run, and its earlier iterations");
  const table = make("table", {}, before);

  /** @returns {Standing} */
  const standing = () => model.get("standing");
  const inWords = (/** @type {Parts} */ parts) => parts.map(([code, number]) => `${number} ${looks[code].name.toLowerCase()}`).join(", ");

  /** @param {Element} box @param {Parts} parts */
  function fill(box, parts) {
    box.replaceChildren();
    box.setAttribute("aria-label", inWords(parts) || "no tasks");
    for (const [code, number] of parts)
      make("div", { class: "ms-part", title: `${number} ${looks[code].name.toLowerCase()}`, style: `flex-grow:${number};background:${looks[code].colour}` }, box);
  }

  function show() {
    const { workspace, run_id, status, iteration, parts, over, total, started_at, directory, before: rows } = standing();
    title.replaceChildren();
    icon(status, 20, title);
    make("b", {}, title, status.name);
    make("span", { class: "ms-head-name" }, title, workspace);
    make("span", { class: "ms-note ms-head-id" }, title, run_id);
    make("span", { class: "ms-note" }, title, `iteration ${iteration}`);
    fill(progress, parts);
    counts.replaceChildren();
    for (const [code, number] of parts) {
      const item = make("span", { class: "ms-count" }, counts);
      icon(looks[code], 14, item);
      make("span", {}, item, `${number} ${looks[code].name.toLowerCase()}`);
    }
    make("span", { class: "ms-note" }, counts, total ? `${over} of ${total} tasks over` : "no tasks");
    reason.textContent = standing().reason;
    reason.hidden = !standing().reason;
    table.replaceChildren();
    const row = (/** @type {string} */ name) => {
      const cells = make("tr", {}, table);
      make("th", { scope: "row" }, cells, name);
      return make("td", {}, cells);
    };
    row("directory").append(make("code", {}, null, directory));
    if (started_at !== null) {
      const [whole, short] = moment(started_at);
      make("span", { title: whole }, row("started"), short);
    }
    for (const { title: name, parts: some, said: words } of rows) {
      const cell = row(name);
      fill(make("div", { class: "ms-progress ms-small", role: "img" }, cell), some);
      make("span", { class: "ms-note" }, cell, words);
    }
    tick();
  }

  /** Time goes on without a word of Python. */
  function tick() {
    const { started_at, ended_at, pace } = standing();
    const parts = [];
    if (started_at !== null) parts.push(ended_at === null ? `${span(Date.now() / 1000 - started_at)} so far` : `took ${span(ended_at - started_at)}`);
    if (pace) parts.push(pace);
    const text = parts.join(" · ");
    if (times.textContent !== text) times.textContent = text;
  }

  function showButtons() {
    /** @type {Button_[]} */
    const wanted = model.get("buttons");
    wanted.forEach(({ name, symbol: drawn, tip, on, pressed }, place) => {
      let button = bar.children[place];
      if (!button) {
        button = make("button", { type: "button", class: "ms-button", title: tip, "data-name": name }, bar);
        symbol(drawn, button);
        make("span", {}, button, name);
        button.onclick = () => send(model, { press: name });
      }
      button.disabled = !on;
      if (pressed !== null) button.setAttribute("aria-pressed", String(pressed));
    });
  }

  function showNeeds() {
    /** @type {Need[]} */
    const wanted = model.get("needs");
    keepFocus(needs, () => fillNeeds(wanted));
  }
  /** @param {Need[]} wanted */
  function fillNeeds(wanted) {
    needs.replaceChildren();
    needs.hidden = !wanted.length;
    for (const need of wanted) {
      const item = make("div", { role: "listitem", class: "ms-need", style: `border-left-color:${looks[need.code].colour}` }, needs);
      icon(looks[need.code], 14, item);
      if (need.task || need.tab) make("button", { type: "button", class: "ms-link", "data-keep": need.code + need.tab }, item, need.title).onclick = () => send(model, { go: { task: need.task, tab: need.tab } });
      else make("b", {}, item, need.title);
      make("span", { class: "ms-note ms-need-text", title: need.text }, item, need.text);
    }
  }
  function tell() {
    state.textContent = model.get("state");
    state.hidden = !model.get("state");
    said.textContent = model.get("said");
    said.hidden = !model.get("said");
  }

  const heard = /** @type {[string, () => void][]} */ ([["change:standing", show], ["change:buttons", showButtons], ["change:needs", showNeeds],
    ["change:said", tell], ["change:state", tell]]);
  for (const [event, act] of heard) model.on(event, act);
  show();
  showButtons();
  showNeeds();
  tell();
  const timer = setInterval(tick, 1000), stops = [pulse(model), ownKeys(root)];
  return () => {
    clearInterval(timer);
    for (const stop of stops) stop();
    for (const [event, act] of heard) model.off(event, act);
  };
}

export default { render };
