// @ts-check
// What is seen of a drawing: a part of it, at a scale at which text can be read, and a map of the whole beside it.

// The text of a drawing is 12 units high: it is shown between 11 and 24 pixels high, and at first at 12 at most.
const SMALLEST = 11 / 12, LARGEST = 2;
const LOWEST_PX = 140, HIGHEST_PX = 560, MAP_PX = 150;

/**
 * @typedef {{ x: number, y: number, width: number, height: number }} Box
 * @typedef {{
 *   show: (width: number, height: number) => void,
 *   fit: () => void,
 *   zoom: (factor: number, event?: { clientX: number, clientY: number }) => void,
 *   reveal: (box: Box, close?: boolean) => void,
 *   pan: (from: { x: number, y: number }, dx: number, dy: number) => void,
 *   origin: () => { x: number, y: number },
 *   screen: (box: Box) => { x: number, y: number },
 *   keep: (box: Box, at: { x: number, y: number }) => void,
 *   paint: (marks: (Box & { colour: string })[]) => void,
 *   isWhole: () => boolean,
 *   isTouched: () => boolean,
 *   stop: () => void,
 * }} Viewport
 */

/**
 * @param {HTMLElement} stage what holds the drawing; its height may be dragged
 * @param {any} svg the drawing
 * @param {() => number} covered how many pixels of its right are covered, or negative, of its left
 * @param {() => void} resized told when the stage has another size
 * @returns {Viewport}
 */
function viewport(stage, svg, covered, resized) {
  const map = make("div", { class: "ms-map", title: "all of the graph: click to go there", hidden: "" }, stage);
  const picture = make("canvas", {}, map);
  const frame = make("div", { class: "ms-frame" }, map);
  let size = { width: 1, height: 1 }, scale = 1, x = 0, y = 0;
  let width = 0, height = 0; // of the stage, in pixels
  let untouched = true, shown = "";
  let mapped = { width: 1, height: 1 }; // the size of the map

  const seen = () => ({ width: width / scale, height: height / scale });

  function place() {
    if (!width || !height) return;
    const { width: w, height: h } = seen();
    const slack = 40 / scale, beside = slack + Math.abs(covered()) / scale;
    x = Math.min(Math.max(x, Math.min(0, size.width - w) - beside), Math.max(0, size.width - w) + beside);
    y = Math.min(Math.max(y, -slack), Math.max(0, size.height - h) + slack);
    const next = [x, y, w, h].join(" ");
    if (next !== shown) svg.setAttribute("viewBox", shown = next); // text is laid out anew each time
    const whole = x <= 1 && y <= 1 && x + w >= size.width - 1 && y + h >= size.height - 1;
    map.hidden = whole;
    if (whole) return;
    const [mx, my] = [mapped.width / size.width, mapped.height / size.height];
    const [left, top] = [Math.max(0, x), Math.max(0, y)];
    frame.style.left = `${left * mx}px`;
    frame.style.top = `${top * my}px`;
    frame.style.width = `${Math.min(size.width - left, w - (left - x)) * mx}px`;
    frame.style.height = `${Math.min(size.height - top, h - (top - y)) * my}px`;
  }

  function measure() {
    [width, height] = [stage.clientWidth, stage.clientHeight];
  }

  function fit() {
    untouched = true;
    measure();
    scale = Math.min(1, Math.max(SMALLEST, width / size.width));
    // As high as the drawing, where nobody has dragged it and it is no full screen.
    stage.style.setProperty("--ms-height", `${Math.min(HIGHEST_PX, Math.max(LOWEST_PX, Math.ceil(size.height * scale) + 2))}px`);
    measure();
    scale = Math.min(1, Math.max(SMALLEST, Math.min(width / size.width, height / size.height)));
    [x, y] = [0, 0]; // at the left: the panel opens at the right
    place();
  }

  /** @param {number} factor @param {{ clientX: number, clientY: number }} [event] */
  function zoom(factor, event) {
    const next = Math.min(LARGEST, Math.max(SMALLEST, scale * factor));
    const box = svg.getBoundingClientRect();
    const [px, py] = event ? [event.clientX - box.left, event.clientY - box.top] : [width / 2, height / 2];
    x += px / scale - px / next;
    y += py / scale - py / next;
    scale = next;
    untouched = false;
    place();
  }

  const observer = new ResizeObserver(() => {
    const before = width;
    measure();
    if (width !== before && untouched) fit();
    else place();
    resized();
  });
  observer.observe(stage);

  /** @param {any} event */
  function go(event) {
    if (!(event.buttons & 1)) return;
    const box = picture.getBoundingClientRect(), { width: w, height: h } = seen();
    x = ((event.clientX - box.left) / box.width) * size.width - w / 2;
    y = ((event.clientY - box.top) / box.height) * size.height - h / 2;
    untouched = false;
    place();
  }
  map.addEventListener("pointerdown", (/** @type {any} */ event) => { map.setPointerCapture(event.pointerId); go(event); });
  map.addEventListener("pointermove", go);

  return {
    show(w, h) {
      size = { width: Math.max(1, w), height: Math.max(1, h) };
      const ratio = MAP_PX / Math.max(size.width, size.height);
      mapped = { width: Math.max(24, size.width * ratio), height: Math.max(24, Math.min(100, size.height * ratio)) };
      map.style.width = `${mapped.width}px`;
      map.style.height = `${mapped.height}px`;
    },
    fit,
    zoom,
    reveal(box, close = false) {
      if (close && scale < 1) scale = 1;
      const { width: w, height: h } = seen();
      const right = Math.max(0, covered()) / scale, left = Math.max(0, -covered()) / scale;
      const inside = box.x >= x + left && box.y >= y && box.x + box.width <= x + w - right && box.y + box.height <= y + h;
      if (!inside) {
        x = box.x + box.width / 2 - left - (w - left - right) / 2;
        y = box.y + box.height / 2 - h / 2;
        untouched = false;
      }
      place();
    },
    pan(from, dx, dy) {
      x = from.x - dx / scale;
      y = from.y - dy / scale;
      untouched = false;
      place();
    },
    origin: () => ({ x, y }),
    screen: (box) => ({ x: (box.x - x) * scale, y: (box.y - y) * scale }),
    keep(box, at) {
      x = box.x - at.x / scale;
      y = box.y - at.y / scale;
      place();
    },
    paint(marks) {
      const ratio = window.devicePixelRatio || 1;
      picture.width = mapped.width * ratio;
      picture.height = mapped.height * ratio;
      const pen = picture.getContext("2d");
      if (!pen) return;
      const [mx, my] = [picture.width / size.width, picture.height / size.height];
      for (const mark of marks) {
        pen.fillStyle = mark.colour;
        pen.fillRect(mark.x * mx, mark.y * my, Math.max(1, mark.width * mx), Math.max(1, mark.height * my));
      }
    },
    isWhole: () => map.hidden,
    isTouched: () => !untouched,
    stop: () => observer.disconnect(),
  };
}
