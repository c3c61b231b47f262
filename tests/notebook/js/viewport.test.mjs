import assert from "node:assert/strict";
import { test } from "node:test";
import { load, numbers } from "./load.mjs";

/** What of an element the geometry asks for. */
const element = () => ({
  style: { setProperty() {} }, attributes: {}, setAttribute(name, value) { this.attributes[name] = value; }, appendChild() {}, addEventListener() {},
  getBoundingClientRect: () => ({ left: 0, top: 0, width: 800, height: 560 }),
});

/** @param {[number, number]} stage in pixels @param {[number, number]} drawing */
function make([width, height], drawing) {
  const { viewport } = load(["viewport.js"], ["viewport"], {
    document: { createElement: element }, ResizeObserver: class { observe() {} disconnect() {} },
  });
  const svg = element(), seen = viewport(Object.assign(element(), { clientWidth: width, clientHeight: height }), svg, () => 0, () => {});
  seen.show(...drawing);
  seen.fit();
  return { seen, box: () => { const [x, y, w, h] = svg.attributes.viewBox.split(" ").map(Number); return { x, y, w, h, scale: width / w }; } };
}

test("text is between 11 and 24 pixels high, whatever the size of the drawing, and no larger than 12 at first", () => {
  for (const size of [10, 700, 5000, 100000]) {
    const { seen, box } = make([800, 560], [size, size]);
    assert.ok(box().scale >= 11 / 12 - 1e-9 && box().scale <= 1, `${size}: ${box().scale}`);
    for (let turn = 0; turn < 30; turn++) seen.zoom(1.25);
    assert.ok(Math.abs(box().scale - 2) < 1e-9);
    for (let turn = 0; turn < 30; turn++) seen.zoom(1 / 1.25);
    assert.ok(Math.abs(box().scale - 11 / 12) < 1e-9);
  }
});

test("what is under the pointer stays there when one zooms", () => {
  const { seen, box } = make([800, 560], [20000, 20000]);
  seen.pan({ x: 9000, y: 9000 }, 0, 0);
  const factors = [...numbers(50, 0.7, 1.4)], xs = [...numbers(50, 0, 800)];
  factors.forEach((factor, at) => {
    const pointer = { clientX: xs[at], clientY: xs[at] / 2 }, before = box();
    const [px, py] = [before.x + pointer.clientX / before.scale, before.y + pointer.clientY / before.scale];
    seen.zoom(factor, pointer);
    const after = box();
    assert.ok(Math.abs(after.x + pointer.clientX / after.scale - px) < 1e-6);
    assert.ok(Math.abs(after.y + pointer.clientY / after.scale - py) < 1e-6);
  });
});

test("a node that is looked for is in sight, wherever it is, and one that is in sight moves nothing", () => {
  const { seen, box } = make([800, 560], [20000, 20000]);
  const xs = [...numbers(50, 0, 19000)], ys = [...numbers(100, 0, 19000)].slice(50);
  xs.forEach((x, at) => {
    const node = { x, y: ys[at], width: 158, height: 26 };
    seen.reveal(node);
    const found = box();
    assert.ok(node.x >= found.x - 1e-6 && node.x + 158 <= found.x + found.w + 1e-6, `${x}`);
    assert.ok(node.y >= found.y - 1e-6 && node.y + 26 <= found.y + found.h + 1e-6, `${ys[at]}`);
    seen.reveal(node);
    assert.deepEqual(box(), found);
  });
});

test("a drawing is never moved out of sight", () => {
  for (const size of [100, 5000]) {
    const { seen, box } = make([800, 560], [size, size]);
    for (const [dx, dy] of [[1e6, 0], [-1e6, 0], [0, 1e6], [0, -1e6], [1e6, -1e6]]) {
      seen.pan(seen.origin(), dx, dy);
      const { x, y, w, h } = box();
      assert.ok(x < size && x + w > 0 && y < size && y + h > 0, `${size}: ${dx} ${dy}`);
    }
  }
});

test("what was opened stays where it was on the screen", () => {
  const { seen } = make([800, 560], [20000, 20000]);
  const node = { x: 5000, y: 6000, width: 158, height: 26 };
  seen.keep(node, { x: 120, y: 80 });
  const at = seen.screen(node);
  assert.ok(Math.abs(at.x - 120) < 1e-6 && Math.abs(at.y - 80) < 1e-6);
});
