// The drawing of a run's graph. Positions come from Python; statuses are patched in place.
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 158, HEIGHT = 26;

function make(tag, attributes = {}, parent = null, text = null) {
  const element = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  if (parent) parent.appendChild(element);
  return element;
}

function shorten(label, count, single) {
  const shown = label.length <= 18 ? label : label.slice(0, 8) + "…" + label.slice(-9);
  return single ? shown : `${shown} (${count})`;
}

function edgePath(nodes, [a, b, bends]) {
  let x = nodes[a][2] + WIDTH, y = nodes[a][3] + HEIGHT / 2;
  let path = `M${x} ${y}`;
  const way = bends.map(([bx, by]) => [bx, by + HEIGHT / 2]);
  way.push([nodes[b][2], nodes[b][3] + HEIGHT / 2]);
  for (const [toX, toY] of way) {
    const middle = (x + toX) / 2;
    path += `C${middle} ${y} ${middle} ${toY} ${toX} ${toY}`;
    [x, y] = [toX, toY];
  }
  return path;
}

function render({ model, el }) {
  const looks = Object.fromEntries(model.get("looks").map((look) => [look[0], look]));
  const root = make("div", { class: "ms-dag" }, el);
  const bar = make("div", { class: "ms-bar" }, root);
  const legend = make("div", { class: "ms-legend", role: "status", "aria-label": "legend" }, bar);
  const search = make("input", { type: "search", placeholder: "find a task", "aria-label": "find a task" }, bar);
  const collapse = make("select", { "aria-label": "collapse by" }, bar);
  for (const [value, text] of [["auto", "automatic"], ["tasks", "every task"], ["group", "by group"], ["iteration", "by iteration"]])
    make("option", { value }, collapse, text);
  const buttons = {};
  for (const [name, text, title] of [["in", "+", "zoom in"], ["out", "−", "zoom out"], ["fit", "fit", "show all"]])
    buttons[name] = make("button", { type: "button", title, "aria-label": title }, bar, text);
  const note = make("div", { class: "ms-note" }, root);
  const body = make("div", { class: "ms-body" }, root);
  const svg = make("svg:svg", { class: "ms-canvas", tabindex: "0", role: "application",
    "aria-label": "graph of tasks: arrow keys walk, Enter opens, plus and minus zoom, 0 shows all" }, body);
  const panel = make("div", { class: "ms-panel", "aria-live": "polite" }, body);
  let nodes = [], elements = [], outward = [], inward = [], codes = "", view = [0, 0, 100, 100], only = null;

  function setView(next) {
    view = next;
    svg.setAttribute("viewBox", view.join(" "));
  }
  function fit() {
    const [width, height] = model.get("graph").size;
    setView([0, 0, Math.max(width, 300), Math.max(height, 60)]);
  }
  function zoom(factor, x = view[0] + view[2] / 2, y = view[1] + view[3] / 2) {
    setView([x - (x - view[0]) * factor, y - (y - view[1]) * factor, view[2] * factor, view[3] * factor]);
  }
  function reveal(number) {
    const [, , x, y] = nodes[number];
    const inside = x >= view[0] && y >= view[1] && x + WIDTH <= view[0] + view[2] && y + HEIGHT <= view[1] + view[3];
    if (!inside) setView([x + WIDTH / 2 - view[2] / 2, y + HEIGHT / 2 - view[3] / 2, view[2], view[3]]);
  }

  function paint(number, code, parts) {
    const element = elements[number], look = looks[code];
    element.box.setAttribute("stroke", look[2]);
    element.box.setAttribute("stroke-dasharray", "BSN".includes(code) ? "4 3" : "none");
    element.glyph.setAttribute("d", look[3]);
    element.glyph.setAttribute("stroke", look[2]);
    element.title.textContent = `${nodes[number][1]}: ${look[1]}`;
    element.group.setAttribute("data-status", look[1]);
    element.group.classList.toggle("ms-running", code === "X");
    if (parts) {
      element.parts.replaceChildren();
      let at = 1;
      for (const part of model.get("looks")) {
        const length = ((WIDTH - 2) * (parts[part[0]] || 0)) / nodes[number][4];
        if (length) make("svg:rect", { x: at, y: HEIGHT - 4, width: length, height: 3, fill: part[2] }, element.parts);
        at += length;
      }
    }
  }

  function draw() {
    const graph = model.get("graph");
    nodes = graph.nodes;
    elements = [];
    outward = nodes.map(() => []);
    inward = nodes.map(() => []);
    svg.replaceChildren();
    note.textContent = graph.note;
    note.hidden = !graph.note;
    const lines = make("svg:g", { class: "ms-edges" });
    for (const edge of graph.edges) {
      outward[edge[0]].push(edge[1]);
      inward[edge[1]].push(edge[0]);
      make("svg:path", { d: edgePath(nodes, edge), "data-ends": `${edge[0]} ${edge[1]}` }, lines);
    }
    const boxes = make("svg:g");
    nodes.forEach(([key, label, x, y, count, single], number) => {
      const group = make("svg:g", { transform: `translate(${x},${y})`, class: "ms-node", "data-key": key, "data-number": number }, boxes);
      const title = make("svg:title", {}, group);
      const box = make("svg:rect", { width: WIDTH, height: HEIGHT, rx: 5 }, group);
      const parts = make("svg:g", {}, group);
      const glyph = make("svg:path", { class: "ms-glyph", transform: "translate(5,5)" }, group);
      make("svg:text", { x: 26, y: 17 }, group, shorten(label, count, single));
      elements.push({ group, title, box, parts, glyph });
    });
    svg.append(lines, boxes);
    codes = "";
    update();
    fit();
    mark();
  }

  function update() {
    const state = model.get("state");
    if (state.codes.length !== nodes.length) return; // its graph is on the way
    for (let number = 0; number < nodes.length; number++) {
      const parts = state.parts[number];
      if (codes[number] !== state.codes[number] || parts) paint(number, state.codes[number], parts);
    }
    codes = state.codes;
    legend.replaceChildren();
    for (const [code, name, colour, glyph] of model.get("looks")) {
      const count = state.counts[code];
      if (!count) continue;
      const item = make("button", { type: "button", class: "ms-key", "aria-pressed": only === code, title: `show only ${name.toLowerCase()}` }, legend);
      const icon = make("svg:svg", { width: 14, height: 14, viewBox: "0 0 16 16" }, item);
      make("svg:path", { d: glyph, stroke: colour, fill: "none", "stroke-width": 2.2 }, icon);
      make("span", {}, item, `${count} ${name.toLowerCase()}`);
      item.onclick = () => { only = only === code ? null : code; update(); dim(); };
    }
    dim();
  }

  function dim() {
    const wanted = search.value.trim().toLowerCase();
    elements.forEach(({ group }, number) => {
      const hit = (!wanted || nodes[number][1].toLowerCase().includes(wanted)) && (!only || codes[number] === only
        || (model.get("state").parts[number] || {})[only]);
      group.classList.toggle("ms-dim", !hit);
    });
  }

  function mark() {
    const selected = model.get("selected");
    const number = nodes.findIndex((node) => node[0] === selected);
    elements.forEach(({ group }, other) => group.classList.toggle("ms-selected", other === number));
    for (const line of svg.querySelectorAll(".ms-edges path"))
      line.classList.toggle("ms-near", number >= 0 && line.dataset.ends.split(" ").includes(String(number)));
    return number;
  }
  function select(number) {
    if (number < 0 || number >= nodes.length) return;
    model.set("selected", nodes[number][0]);
    model.save_changes();
    if (!nodes[number][5]) panel.textContent = `${nodes[number][1]}: ${nodes[number][4]} tasks. Double-click or Enter shows them.`;
  }
  function open(number) {
    if (number < 0 || nodes[number][5]) return;
    model.set("expanded", [...model.get("expanded"), nodes[number][0]]);
    model.save_changes();
  }
  const numberOf = (event) => {
    const group = event.target.closest && event.target.closest(".ms-node");
    return group ? Number(group.dataset.number) : -1;
  };

  let drag = null;
  svg.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, view, moved: false }; });
  svg.addEventListener("pointermove", (event) => {
    if (!drag || !(event.buttons & 1)) return;
    const scale = view[2] / svg.clientWidth;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (Math.abs(dx) + Math.abs(dy) > 4) {
      drag.moved = true;
      setView([drag.view[0] - dx * scale, drag.view[1] - dy * scale, drag.view[2], drag.view[3]]);
    }
  });
  svg.addEventListener("click", (event) => { if (!(drag && drag.moved)) select(numberOf(event)); });
  svg.addEventListener("dblclick", (event) => open(numberOf(event)));
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== svg) return; // let the page scroll
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    const x = view[0] + ((event.clientX - box.left) / box.width) * view[2];
    const y = view[1] + ((event.clientY - box.top) / box.height) * view[3];
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, x, y);
  }, { passive: false });
  svg.addEventListener("keydown", (event) => {
    const at = nodes.findIndex((node) => node[0] === model.get("selected"));
    const nearest = (others) => others.length ? others.reduce((a, b) =>
      Math.abs(nodes[a][3] - nodes[at][3]) <= Math.abs(nodes[b][3] - nodes[at][3]) ? a : b) : -1;
    const column = (step) => {
      const same = nodes.map((node, number) => number).filter((number) => nodes[number][2] === nodes[at][2])
        .sort((a, b) => nodes[a][3] - nodes[b][3]);
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
  for (const field of [search, collapse]) field.addEventListener("keydown", (event) => event.stopPropagation());
  search.addEventListener("input", dim);
  search.addEventListener("keydown", (event) => {
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
  const alive = () => model.send({ here: true });
  model.on("change:graph", draw);
  model.on("change:state", update);
  model.on("change:selected", mark);
  model.on("change:panel", onPanel);
  model.on("change:collapse", onCollapse);
  onCollapse();
  draw();
  onPanel();
  alive();
  const pulse = setInterval(alive, 20000);
  return () => {
    clearInterval(pulse);
    model.off("change:graph", draw);
    model.off("change:state", update);
    model.off("change:selected", mark);
    model.off("change:panel", onPanel);
    model.off("change:collapse", onCollapse);
  };
}

export default { render };
