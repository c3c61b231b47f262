// @ts-check
// The drawing of a run's graph. All geometry comes from Python; statuses are patched in place.

/**
 * @typedef {{ key: string, label: string, shown: string, x: number, y: number, count: number, single: boolean }} Node
 * @typedef {{ from: number, to: number, path: string }} Edge
 * @typedef {{ nodes: Node[], edges: Edge[], width: number, height: number, node: { width: number, height: number }, note: string }} Graph
 * @typedef {{ codes: string, parts: Record<string, Record<string, number>>, counts: Record<string, number> }} State
 */

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  /** @type {Look[]} */
  const every = model.get("looks");
  /** @type {Record<string, Look>} */
  const looks = Object.fromEntries(every.map((look) => [look.code, look]));
  const root = make("div", { class: "ms-dag" }, el);
  const bar = make("div", { class: "ms-bar" }, root);
  const legend = make("div", { class: "ms-legend", role: "status", "aria-label": "legend" }, bar);
  const search = make("input", { type: "search", placeholder: "find a task", "aria-label": "find a task" }, bar);
  const collapse = make("select", { "aria-label": "collapse by" }, bar);
  for (const [value, text] of [["auto", "automatic"], ["tasks", "every task"], ["group", "by group"], ["iteration", "by iteration"]])
    make("option", { value }, collapse, text);
  /** @type {Record<string, HTMLButtonElement>} */
  const buttons = {};
  for (const [name, text, title] of [["in", "+", "zoom in"], ["out", "−", "zoom out"], ["fit", "fit", "show all"]])
    buttons[name] = make("button", { type: "button", title, "aria-label": title }, bar, text);
  const note = make("div", { class: "ms-note" }, root);
  const body = make("div", { class: "ms-body" }, root);
  const svg = make("svg:svg", { class: "ms-canvas", tabindex: "0", role: "application",
    "aria-label": "graph of tasks: arrow keys walk, Enter opens, plus and minus zoom, 0 shows all" }, body);
  const panel = make("div", { class: "ms-panel", "aria-live": "polite" }, body);
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
  let box = { width: 0, height: 0 }, codes = "", view = [0, 0, 100, 100];

  /** @param {number[]} next */
  function setView(next) {
    view = next;
    svg.setAttribute("viewBox", view.join(" "));
  }
  function fit() {
    const { width, height } = model.get("graph");
    setView([0, 0, Math.max(width, 300), Math.max(height, 60)]);
  }
  /** @param {number} factor @param {number} [x] @param {number} [y] */
  function zoom(factor, x = view[0] + view[2] / 2, y = view[1] + view[3] / 2) {
    setView([x - (x - view[0]) * factor, y - (y - view[1]) * factor, view[2] * factor, view[3] * factor]);
  }
  /** @param {number} number */
  function reveal(number) {
    const { x, y } = nodes[number], { width, height } = box;
    const inside = x >= view[0] && y >= view[1] && x + width <= view[0] + view[2] && y + height <= view[1] + view[3];
    if (!inside) setView([x + width / 2 - view[2] / 2, y + height / 2 - view[3] / 2, view[2], view[3]]);
  }

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
      element.parts.replaceChildren();
      let at = 1;
      for (const part of every) {
        const length = ((box.width - 2) * (parts[part.code] || 0)) / nodes[number].count;
        if (length) make("svg:rect", { x: at, y: box.height - 4, width: length, height: 3, fill: part.colour }, element.parts);
        at += length;
      }
    }
  }

  function draw() {
    /** @type {Graph} */
    const graph = model.get("graph");
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
    nodes.forEach(({ key, shown, x, y }, number) => {
      const group = make("svg:g", { transform: `translate(${x},${y})`, class: "ms-node", "data-key": key, "data-number": number }, boxes);
      const title = make("svg:title", {}, group);
      const frame = make("svg:rect", { ...box, rx: 5 }, group);
      const parts = make("svg:g", {}, group);
      const glyph = make("svg:path", { class: "ms-glyph", transform: "translate(5,5)" }, group);
      make("svg:text", { x: 26, y: 17 }, group, shown);
      elements.push({ group, title, frame, parts, glyph });
    });
    svg.append(lines, boxes);
    codes = "";
    update();
    fit();
    mark();
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
    legend.replaceChildren();
    for (const look of every) {
      const { code, name } = look, count = state.counts[code];
      if (!count) continue;
      const item = make("button", { type: "button", class: "ms-key", "aria-pressed": only === code, title: `show only ${name.toLowerCase()}` }, legend);
      icon(look, 14, item);
      make("span", {}, item, `${count} ${name.toLowerCase()}`);
      item.onclick = () => { only = only === code ? null : code; update(); dim(); };
    }
    dim();
  }

  function dim() {
    const wanted = search.value.trim().toLowerCase();
    elements.forEach(({ group }, number) => {
      const hit = (!wanted || nodes[number].label.toLowerCase().includes(wanted)) && (!only || codes[number] === only
        || (model.get("state").parts[number] || {})[only]);
      group.classList.toggle("ms-dim", !hit);
    });
  }

  function mark() {
    const selected = model.get("selected");
    const number = nodes.findIndex((node) => node.key === selected);
    elements.forEach(({ group }, other) => group.classList.toggle("ms-selected", other === number));
    for (const line of svg.querySelectorAll(".ms-edges path"))
      line.classList.toggle("ms-near", number >= 0 && line.dataset.ends.split(" ").includes(String(number)));
    return number;
  }
  /** @param {number} number */
  function select(number) {
    if (number < 0 || number >= nodes.length) return;
    model.set("selected", nodes[number].key);
    model.save_changes();
    const { single, label, count } = nodes[number];
    if (!single) panel.textContent = `${label}: ${count} tasks. Double-click or Enter shows them.`;
  }
  /** @param {number} number */
  function open(number) {
    if (number < 0 || nodes[number].single) return;
    model.set("expanded", [...model.get("expanded"), nodes[number].key]);
    model.save_changes();
  }
  const numberOf = (/** @type {any} */ event) => {
    const group = event.target.closest && event.target.closest(".ms-node");
    return group ? Number(group.dataset.number) : -1;
  };

  /** @type {{ x: number, y: number, view: number[], moved: boolean } | null} */
  let drag = null;
  svg.addEventListener("pointerdown", (/** @type {any} */ event) => { drag = { x: event.clientX, y: event.clientY, view, moved: false }; });
  svg.addEventListener("pointermove", (/** @type {any} */ event) => {
    if (!drag || !(event.buttons & 1)) return;
    const scale = view[2] / svg.clientWidth;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (Math.abs(dx) + Math.abs(dy) > 4) {
      drag.moved = true;
      setView([drag.view[0] - dx * scale, drag.view[1] - dy * scale, drag.view[2], drag.view[3]]);
    }
  });
  svg.addEventListener("click", (/** @type {any} */ event) => { if (!(drag && drag.moved)) select(numberOf(event)); });
  svg.addEventListener("dblclick", (/** @type {any} */ event) => open(numberOf(event)));
  svg.addEventListener("wheel", (/** @type {any} */ event) => {
    if (!event.ctrlKey && document.activeElement !== svg) return; // let the page scroll
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    const x = view[0] + ((event.clientX - box.left) / box.width) * view[2];
    const y = view[1] + ((event.clientY - box.top) / box.height) * view[3];
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, x, y);
  }, { passive: false });
  svg.addEventListener("keydown", (/** @type {any} */ event) => {
    const at = nodes.findIndex((node) => node.key === model.get("selected"));
    const nearest = (/** @type {number[]} */ others) => others.length ? others.reduce((a, b) =>
      Math.abs(nodes[a].y - nodes[at].y) <= Math.abs(nodes[b].y - nodes[at].y) ? a : b) : -1;
    const column = (/** @type {number} */ step) => {
      const same = nodes.map((node, number) => number).filter((number) => nodes[number].x === nodes[at].x)
        .sort((a, b) => nodes[a].y - nodes[b].y);
      return same[same.indexOf(at) + step] ?? -1;
    };
    let next = -1;
    switch (event.key) {
      case "+": case "=": zoom(1 / 1.25); break;
      case "-": zoom(1.25); break;
      case "0": fit(); break;
      case "Enter": open(at); break;
      case "ArrowRight": next = at < 0 ? 0 : nearest(outward[at]); break;
      case "ArrowLeft": next = at < 0 ? 0 : nearest(inward[at]); break;
      case "ArrowDown": next = at < 0 ? 0 : column(1); break;
      case "ArrowUp": next = at < 0 ? 0 : column(-1); break;
      default: return;
    }
    event.preventDefault();
    event.stopPropagation(); // the notebook has keys of its own
    if (next >= 0) { select(next); reveal(next); }
  });
  for (const field of [search, collapse]) field.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => event.stopPropagation());
  search.addEventListener("input", dim);
  search.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter") return;
    const number = elements.findIndex(({ group }) => !group.classList.contains("ms-dim"));
    if (number >= 0) { select(number); reveal(number); }
  });
  collapse.onchange = () => { model.set("expanded", []); model.set("collapse", collapse.value); model.save_changes(); };
  buttons.in.onclick = () => zoom(1 / 1.25);
  buttons.out.onclick = () => zoom(1.25);
  buttons.fit.onclick = fit;

  const onPanel = () => { panel.innerHTML = model.get("panel"); panel.hidden = !panel.innerHTML; }; // escaped in Python
  const onCollapse = () => { collapse.value = model.get("collapse"); };
  model.on("change:graph", draw);
  model.on("change:state", update);
  model.on("change:selected", mark);
  model.on("change:panel", onPanel);
  model.on("change:collapse", onCollapse);
  onCollapse();
  draw();
  onPanel();
  const stop = pulse(model);
  return () => {
    stop();
    model.off("change:graph", draw);
    model.off("change:state", update);
    model.off("change:selected", mark);
    model.off("change:panel", onPanel);
    model.off("change:collapse", onCollapse);
  };
}

export default { render };
