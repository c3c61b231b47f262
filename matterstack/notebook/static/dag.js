// @ts-check
// The drawing of a run's graph. All geometry comes from Python; statuses are patched in place.

/**
 * @typedef {{ key: string, label: string, shown: string, x: number, y: number, count: number, single: boolean, inside: string }} Node
 * @typedef {{ from: number, to: number, path: string }} Edge
 * @typedef {{ width: number, height: number }} Size
 * @typedef {{ nodes: Node[], edges: Edge[], width: number, height: number, node: Size, step: Size, margin: number,
 *   opened: { key: string, label: string }[], note: string }} Graph
 * @typedef {{ codes: string, parts: Record<string, Record<string, number>>, counts: Record<string, number> }} State
 * @typedef {{ find: string, found: number, inside: Record<string, number> }} Found
 */

const SLOW_MS = 1200, NARROW_PX = 640, HIGHEST_PANEL_PX = 380;

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  /** @type {Look[]} */
  const every = model.get("looks");
  /** @type {Record<string, Look>} */
  const looks = Object.fromEntries(every.map((look) => [look.code, look]));
  const root = make("div", { class: "ms-dag" }, el);
  const bar = make("div", { class: "ms-bar" }, root);
  const legend = make("div", { class: "ms-legend", role: "group", "aria-label": "legend" }, bar);
  const search = make("input", { type: "search", placeholder: "find a task", "aria-label": "find a task" }, bar);
  const hits = make("span", { class: "ms-note", role: "status", "aria-label": "found" }, bar);
  const collapse = make("select", { "aria-label": "collapse by" }, bar);
  for (const [value, text] of [["auto", "automatic"], ["tasks", "every task"], ["group", "by group"], ["iteration", "by iteration"]])
    make("option", { value }, collapse, text);
  /** @type {Record<string, HTMLButtonElement>} */
  const buttons = {};
  const views = make("span", { class: "ms-together" }, bar);
  for (const [name, text, title] of [["in", "+", "zoom in"], ["out", "−", "zoom out"], ["fit", "fit", "show all"], ["full", "full screen", "full screen, and back"]])
    buttons[name] = make("button", { type: "button", title, "aria-label": title }, views, text);
  const chips = make("div", { class: "ms-bar ms-chips" }, root);
  const note = make("div", { class: "ms-note" }, root);
  const busy = make("div", { class: "ms-note", role: "status", hidden: "" }, root, "The kernel is busy with a cell: this is done when it ends.");
  const body = make("div", { class: "ms-body" }, root);
  const stage = make("div", { class: "ms-stage" }, body);
  const svg = make("svg:svg", { class: "ms-canvas", tabindex: "0", role: "application", preserveAspectRatio: "xMinYMin meet",
    "aria-label": "graph of tasks: arrow keys walk, Enter opens a group, Backspace closes it, plus and minus zoom, 0 shows all, Escape closes the panel" }, stage);
  const panel = make("div", { class: "ms-panel", role: "group", "aria-label": "details", hidden: "" }, body);
  const head = make("div", { class: "ms-bar ms-panel-head" }, panel);
  const told = make("div", {}, panel);
  const spoken = make("div", { class: "ms-unseen", role: "status" }, root);
  /** @type {Node[]} */
  let nodes = [];
  /** @type {Record<string, any>[]} */
  let elements = [];
  /** @type {number[][]} */
  let outward = [];
  /** @type {number[][]} */
  let inward = [];
  /** @type {string | null} */
  let only = null;
  /** @type {Found | null} */
  let found = null;
  let box = { width: 0, height: 0 }, codes = "", painted = false, late = 0;

  const covered = () => panel.hidden || root.classList.contains("ms-narrow") ? 0
    : (panel.offsetWidth + 8) * (panel.classList.contains("ms-left") ? -1 : 1);
  const seen = viewport(stage, svg, covered, () => {
    root.classList.toggle("ms-narrow", stage.clientWidth < NARROW_PX);
    clearTimeout(measuring);
    measuring = setTimeout(tellRoom, 250);
  });
  let measuring = 0;

  /** Say how many nodes there is room for, at the smallest scale: Python groups what has none. */
  function tellRoom() {
    if (!stage.clientWidth) return; // in a tab that is not shown
    const { step, node, margin } = model.get("graph");
    const fits = (/** @type {number} */ px, /** @type {"width" | "height"} */ side) =>
      Math.max(1, Math.floor((px / SMALLEST - 2 * margin + step[side] - node[side]) / step[side]));
    const room = [fits(stage.clientWidth, "width"), fits(Math.max(HIGHEST_PX, stage.clientHeight), "height")];
    if (room.join() === model.get("room").join()) return;
    change(model, { room });
  }

  /** Note that something was asked of Python: where no answer comes, a cell holds the kernel up. */
  function asked() {
    clearTimeout(late);
    late = setTimeout(() => { busy.hidden = false; }, SLOW_MS);
  }
  function answered() {
    clearTimeout(late);
    busy.hidden = true;
  }

  /** @param {number} number */
  const boxOf = (number) => ({ x: nodes[number].x, y: nodes[number].y, ...box });
  /** @param {string} key */
  const numberOfKey = (key) => nodes.findIndex((node) => node.key === key);

  /** @param {number} number @param {string} code @param {Record<string, number>} [parts] */
  function paint(number, code, parts) {
    const element = elements[number], look = looks[code];
    element.frame.setAttribute("stroke", look.colour);
    element.frame.setAttribute("stroke-dasharray", "BSN".includes(code) ? "4 3" : "none");
    element.glyph.setAttribute("d", look.glyph);
    element.glyph.setAttribute("stroke", look.colour);
    element.title.textContent = `${nodes[number].label}: ${look.name}`;
    element.group.setAttribute("data-status", look.name);
    element.group.classList.toggle("ms-running", code === "X");
    if (parts) {
      element.title.textContent = `${nodes[number].label}: ${inWords(parts)}`;
      element.parts.replaceChildren();
      let at = 1;
      for (const part of every) {
        const length = ((box.width - 2) * (parts[part.code] || 0)) / nodes[number].count;
        if (length) make("svg:rect", { x: at, y: box.height - 4, width: length, height: 3, fill: part.colour }, element.parts);
        at += length;
      }
    }
    painted = true;
  }
  /** @param {Record<string, number>} counts */
  const inWords = (counts) => every.filter(({ code }) => counts[code]).map(({ code, name }) => `${counts[code]} ${name.toLowerCase()}`).join(", ");

  function draw() {
    answered();
    /** @type {Graph} */
    const graph = model.get("graph");
    const before = nodes, places = new Map(before.map((node, number) => [node.key, seen.screen(boxOf(number))]));
    nodes = graph.nodes;
    box = graph.node;
    elements = [];
    outward = nodes.map(() => []);
    inward = nodes.map(() => []);
    svg.replaceChildren();
    note.textContent = graph.note;
    note.hidden = !graph.note;
    const lines = make("svg:g", { class: "ms-edges" });
    for (const edge of graph.edges) {
      outward[edge.from].push(edge.to);
      inward[edge.to].push(edge.from);
      make("svg:path", { d: edge.path, "data-ends": `${edge.from} ${edge.to}` }, lines);
    }
    const boxes = make("svg:g");
    nodes.forEach(({ key, shown, single, x, y }, number) => {
      const group = make("svg:g", { transform: `translate(${x},${y})`, class: "ms-node", "data-key": key, "data-number": number }, boxes);
      const title = make("svg:title", {}, group);
      if (!single) make("svg:rect", { ...box, x: 3, y: 3, rx: 5, class: "ms-behind" }, group);
      const frame = make("svg:rect", { ...box, rx: 5, class: "ms-box" }, group);
      const parts = make("svg:g", {}, group);
      const glyph = make("svg:path", { class: "ms-glyph", transform: "translate(5,5)" }, group);
      make("svg:text", { x: 26, y: 17 }, group, shown);
      elements.push({ group, title, frame, parts, glyph });
    });
    keepFocus(chips, () => fillChips(graph.opened), svg);
    codes = "";
    seen.show(graph.width, graph.height);
    keepPlace(before, places); // while there is nothing in it: then text is laid out once
    update();
    svg.append(lines, boxes);
    found = null;
    if (search.value.trim()) ask();
    mark();
  }

  /** @param {{ key: string, label: string }[]} opened */
  function fillChips(opened) {
    chips.replaceChildren();
    chips.hidden = !opened.length;
    if (opened.length) make("span", { class: "ms-note" }, chips, "open:");
    for (const { key, label } of opened) {
      const chip = make("button", { type: "button", class: "ms-chip", "data-keep": key, title: `close ${label}` }, chips, `${label} ×`);
      chip.onclick = () => close(key);
    }
  }

  /**
   * After a new drawing leave where it was what was opened, closed, or looked at.
   * @param {Node[]} before @param {Map<string, { x: number, y: number }>} places of those, on the screen
   */
  function keepPlace(before, places) {
    const touched = seen.isTouched(), selected = model.get("selected");
    seen.fit();
    const gone = before.find((node) => numberOfKey(node.key) < 0);
    const heir = nodes.find((node) => gone && (node.inside === gone.key || node.key === gone.inside));
    const kept = heir && gone ? heir : nodes.find((node) => places.has(node.key));
    const at = heir && gone ? places.get(gone.key) : kept && places.get(kept.key);
    if (kept && at && (touched || !seen.isWhole())) seen.keep({ ...kept, ...box }, at);
    if (numberOfKey(selected) >= 0 && !places.has(selected)) seen.reveal(boxOf(numberOfKey(selected)), true);
  }

  function update() {
    /** @type {State} */
    const state = model.get("state");
    if (state.codes.length !== nodes.length) return; // its graph is on the way
    for (let number = 0; number < nodes.length; number++) {
      const parts = state.parts[number];
      if (codes[number] !== state.codes[number] || parts) paint(number, state.codes[number], parts);
    }
    codes = state.codes;
    if (painted) seen.paint(nodes.map((_, number) => ({ ...boxOf(number), colour: looks[codes[number]].colour })));
    painted = false;
    keepFocus(legend, () => fillLegend(state.counts));
    dim();
    if (panel.dataset.about !== model.get("panel_of")) waitForPanel();
  }

  /** @param {Record<string, number>} counts */
  function fillLegend(counts) {
    legend.replaceChildren();
    for (const look of every) {
      const { code, name } = look, count = counts[code];
      if (!count) continue;
      const item = make("button", { type: "button", class: "ms-key", "aria-pressed": only === code, "data-keep": code, title: `show only ${name.toLowerCase()}` }, legend);
      icon(look, 14, item);
      make("span", {}, item, `${count} ${name.toLowerCase()}`);
    }
  }

  clicks(legend, "data-keep", (code) => { only = only === code ? null : code; update(); dim(); });

  // -- finding ------------------------------------------------------------------------------

  const wanted = () => search.value.trim().toLowerCase();
  /** @param {number} number */
  const isFound = (number) => nodes[number].label.toLowerCase().includes(wanted()) || Boolean(found && found.inside[nodes[number].key]);

  function dim() {
    const text = wanted();
    let count = 0;
    elements.forEach(({ group }, number) => {
      const hit = !text || isFound(number);
      if (hit) count += 1;
      group.classList.toggle("ms-dim", !hit || !(!only || codes[number] === only || (model.get("state").parts[number] || {})[only]));
    });
    const total = found ? found.found : count;
    const drawn = nodes.filter((node, number) => node.single && isFound(number)).length;
    hits.textContent = !text ? "" : !total && !count ? (found ? "nothing found" : "…") : found && found.found > drawn
      ? `${found.found} found, ${found.found - drawn} in closed groups: Enter opens` : `${total} found`;
  }
  /** Ask Python, which knows the tasks in closed groups. */
  function ask() {
    send(model, { find: wanted() });
    asked();
  }
  let typing = 0;
  search.addEventListener("input", () => {
    found = null;
    dim();
    clearTimeout(typing);
    if (wanted()) typing = setTimeout(ask, 150);
    else answered();
  });
  search.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape" && wanted()) { search.value = ""; found = null; dim(); }
    if (event.key !== "Enter" || !wanted()) return;
    const shown = nodes.map((_, number) => number).filter((number) => nodes[number].single && isFound(number));
    const next = shown[shown.indexOf(numberOfKey(model.get("selected"))) + 1];
    if (next !== undefined) { select(next); seen.reveal(boxOf(next), true); return; }
    if (!found || found.found > shown.length) { send(model, { open: wanted() }); asked(); }
    else if (shown.length) { select(shown[0]); seen.reveal(boxOf(shown[0]), true); }
  });
  const onMessage = (/** @type {any} */ message) => {
    if (message.find !== wanted()) return;
    answered();
    found = message;
    dim();
  };

  // -- selecting, opening, closing --------------------------------------------------------------

  function mark() {
    const number = numberOfKey(model.get("selected"));
    elements.forEach(({ group }, other) => group.classList.toggle("ms-selected", other === number));
    for (const line of svg.querySelectorAll(".ms-edges .ms-near")) line.classList.remove("ms-near");
    if (number >= 0) for (const line of svg.querySelectorAll(`[data-ends^="${number} "], [data-ends$=" ${number}"]`)) line.classList.add("ms-near");
    return number;
  }
  function onSelected() {
    const number = mark();
    onPanel();
    if (number >= 0) seen.reveal(boxOf(number));
    const parts = model.get("state").parts[number];
    spoken.textContent = number < 0 ? "" : `${nodes[number].label}: ${parts ? inWords(parts) : looks[codes[number]]?.name.toLowerCase()}`;
  }
  /** @param {string} key */
  function choose(key) {
    if (key !== model.get("panel_of")) asked();
    change(model, { selected: key });
  }
  /** @param {number} number @param {{ clientX: number }} [event] */
  function select(number, event) {
    if (number < 0 || number >= nodes.length) return;
    if (panel.hidden && event) {
      // On the side where it covers nothing that is looked at: what was clicked stays where it is, and is seen.
      const area = stage.getBoundingClientRect();
      panel.classList.toggle("ms-left", event.clientX - area.left > area.width / 2);
    }
    choose(nodes[number].key);
  }
  /** @param {number} number */
  function open(number) {
    if (number < 0 || nodes[number].single) return;
    change(model, { expanded: [...model.get("expanded"), nodes[number].key] });
    asked();
  }
  /** @param {string} key */
  function close(key) {
    change(model, { expanded: model.get("expanded").filter((/** @type {string} */ other) => other !== key && !other.startsWith(`${key}#`)) });
    asked();
  }

  // -- the panel ------------------------------------------------------------------------------

  /** Say what is known here, until Python has said more. */
  function waitForPanel() {
    const number = numberOfKey(model.get("selected"));
    if (panel.hidden || number < 0) return;
    const state = model.get("state"), parts = state.parts[number];
    told.textContent = `${nodes[number].label}: ${parts ? inWords(parts) : looks[codes[number]].name} …`;
    told.dataset.html = "";
  }

  function onPanel() {
    const selected = model.get("selected"), number = numberOfKey(selected);
    const html = model.get("panel_of") === selected ? model.get("panel") : "";
    const known = model.get("panel_of") === selected;
    panel.hidden = !selected || (known && !html);
    root.classList.toggle("ms-open", !panel.hidden);
    if (known) answered();
    panel.dataset.about = known ? selected : "";
    keepFocus(head, () => fillHead(selected, number, Boolean(html)), svg);
    if (!known) { waitForPanel(); return; }
    fillPanel(panel, told, selected, html, svg);
    // There is room for as much of it as there was before: what is below the view is moved as little as can be.
    highest = panel.hidden ? 0 : Math.max(highest, Math.min(HIGHEST_PANEL_PX, panel.scrollHeight + 26));
    stage.style.setProperty("--ms-panel", `${highest}px`);
  }
  let highest = 0;

  /** @param {string} selected @param {number} number @param {boolean} isTold */
  function fillHead(selected, number, isTold) {
    head.replaceChildren();
    const button = (/** @type {string} */ text, /** @type {() => void} */ act, /** @type {string} */ title = text) => {
      make("button", { type: "button", title, "aria-label": title, "data-keep": title }, head, text).onclick = act;
    };
    if (number >= 0 && !nodes[number].single) button(`show the ${nodes[number].count} tasks`, () => open(numberOfKey(selected)));
    else if (number >= 0 && nodes[number].inside) {
      const opened = model.get("graph").opened.find((/** @type {{ key: string }} */ { key }) => key === nodes[number].inside);
      if (opened) button(`close ${opened.label}`, () => close(opened.key));
    } else if (number < 0 && isTold) button("show it in the graph", () => { send(model, { show: selected }); asked(); });
    make("span", { class: "ms-gap" }, head);
    button("×", () => { choose(""); svg.focus(); }, "close the panel");
  }

  const stopLeading = leadsOn(model, root, told, (name) => {
    const number = numberOfKey(name);
    if (number < 0) { send(model, { show: name }); asked(); return; }
    select(number);
    seen.reveal(boxOf(number));
  });

  // -- pointer and keys -------------------------------------------------------------------------

  const numberOf = (/** @type {any} */ event) => {
    const group = event.target.closest && event.target.closest(".ms-node");
    return group ? Number(group.dataset.number) : -1;
  };
  /** @type {{ x: number, y: number, from: { x: number, y: number }, moved: boolean } | null} */
  let drag = null;
  svg.addEventListener("pointerdown", (/** @type {any} */ event) => { drag = { x: event.clientX, y: event.clientY, from: seen.origin(), moved: false }; });
  svg.addEventListener("pointermove", (/** @type {any} */ event) => {
    if (!drag || !(event.buttons & 1)) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.abs(dx) + Math.abs(dy) <= 4) return;
    if (!drag.moved) svg.setPointerCapture(event.pointerId);
    drag.moved = true;
    seen.pan(drag.from, dx, dy);
  });
  svg.addEventListener("click", (/** @type {any} */ event) => { if (!(drag && drag.moved)) select(numberOf(event), event); });
  svg.addEventListener("dblclick", (/** @type {any} */ event) => open(numberOf(event)));
  svg.addEventListener("wheel", (/** @type {any} */ event) => {
    if (!event.ctrlKey && document.activeElement !== svg) return; // let the page scroll
    event.preventDefault();
    seen.zoom(event.deltaY > 0 ? 1 / 1.15 : 1.15, event);
  }, { passive: false });
  svg.addEventListener("keydown", (/** @type {any} */ event) => {
    const at = numberOfKey(model.get("selected"));
    const nearest = (/** @type {number[]} */ others) => others.length ? others.reduce((a, b) =>
      Math.abs(nodes[a].y - nodes[at].y) <= Math.abs(nodes[b].y - nodes[at].y) ? a : b) : -1;
    const column = (/** @type {number} */ step) => {
      const same = nodes.map((node, number) => number).filter((number) => nodes[number].x === nodes[at].x)
        .sort((a, b) => nodes[a].y - nodes[b].y);
      return same[same.indexOf(at) + step] ?? -1;
    };
    let next = -1;
    switch (event.key) {
      case "+": case "=": seen.zoom(1.25); break;
      case "-": seen.zoom(1 / 1.25); break;
      case "0": seen.fit(); break;
      case "Enter": open(at); break;
      case "Backspace": if (at >= 0 && nodes[at].inside) close(nodes[at].inside); break;
      case "Escape": if (panel.hidden) return; choose(""); break;
      case "ArrowRight": next = at < 0 ? 0 : nearest(outward[at]); break;
      case "ArrowLeft": next = at < 0 ? 0 : nearest(inward[at]); break;
      case "ArrowDown": next = at < 0 ? 0 : column(1); break;
      case "ArrowUp": next = at < 0 ? 0 : column(-1); break;
      default: return;
    }
    event.preventDefault();
    event.stopPropagation(); // the notebook has keys of its own
    if (next >= 0) { select(next); seen.reveal(boxOf(next)); }
  });
  panel.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    event.stopPropagation();
    if (event.key === "Escape") { choose(""); svg.focus(); }
  });
  collapse.onchange = () => { change(model, { expanded: [], collapse: collapse.value }); asked(); };
  buttons.in.onclick = () => seen.zoom(1.25);
  buttons.out.onclick = () => seen.zoom(1 / 1.25);
  buttons.fit.onclick = seen.fit;
  buttons.full.onclick = () => document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen();

  const onCollapse = () => { collapse.value = model.get("collapse"); };
  /** @type {[string, (value?: any) => void][]} */
  const heard = [["change:graph", draw], ["change:state", update], ["change:selected", onSelected], ["change:panel", onPanel],
    ["change:panel_of", onPanel], ["change:collapse", onCollapse], ["msg:custom", onMessage]];
  for (const [event, act] of heard) model.on(event, act);
  onCollapse();
  draw();
  onPanel();
  const stops = [pulse(model), ownKeys(root), still(model, root, "change:state"), stopLeading];
  return () => {
    for (const stop of stops) stop();
    seen.stop();
    clearTimeout(measuring);
    clearTimeout(late);
    for (const [event, act] of heard) model.off(event, act);
  };
}

export default { render };
