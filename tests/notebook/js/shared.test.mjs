import assert from "node:assert/strict";
import { test } from "node:test";
import { load, numbers } from "./load.mjs";

const { ticks, span, moment } = load([], ["ticks", "span", "moment"]);

test("an axis has round numbers, within it, as many as asked for at most", () => {
  assert.deepEqual(ticks(0, 10, 5), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(ticks(-0.3, 0.3, 3), [-0.2, 0, 0.2]);
  assert.deepEqual(ticks(1e-7, 3e-7, 2), [1e-7, 2e-7, 3e-7]);
  const lows = [...numbers(300, -1000, 1000)], widths = [...numbers(300, -6, 6)];
  lows.forEach((low, at) => {
    const high = low + 10 ** widths[at], found = ticks(low, high, 5);
    assert.ok(found.length >= 1 && found.length <= 6, `${low} ${high}: ${found}`);
    assert.ok(found.every((number) => number >= low - 1e-6 * (high - low) && number <= high + 1e-6 * (high - low)), `${low} ${high}: ${found}`);
    assert.ok(found.every((number) => String(number).replace(/e.*/, "").length <= 13), `${found}`);
  });
});

test("an axis without a length has one mark, and what is no number none", () => {
  assert.deepEqual(ticks(3, 3, 5), [3]);
  assert.deepEqual(ticks(NaN, 1, 5), []);
  assert.deepEqual(ticks(0, Infinity, 5), [0]);
});

test("a duration is told by its two largest units", () => {
  assert.deepEqual([-1, 0.4, 59.6, 61, 3725, 172800].map(span), ["0 s", "0 s", "1 min", "1 min 1 s", "1 h 2 min", "2 d"]);
});

test("a moment of today has no day, one of another day has, and both say all of it with its zone and in UTC", () => {
  const now = new Date();
  now.setHours(12, 34, 56, 0);
  assert.equal(moment(now / 1000)[1], "12:34:56");
  const [whole, short] = moment(Date.UTC(2001, 1, 3, 12, 5, 6) / 1000);
  assert.match(short, /^2001-02-0[234] \d\d:\d\d$/);
  assert.ok(whole.endsWith("2001-02-03 12:05:06 UTC"), whole);
});

test("what is pressed is clicked once, also where it is made anew meanwhile, and then gets no click", async () => {
  class Element extends EventTarget { closest() { return this.value ? this : null; } getAttribute() { return this.value; } }
  const { clicks } = load([], ["clicks"], { Element }), there = new Element(), heard = [];
  clicks(there, "data-key", (value) => heard.push(value));
  for (const [by, down, up, click, wanted] of [
    ["mouse", "a", "a", "a", "a"], ["mouse", "a", "a", null, "a"], ["mouse", "a", "b", null, ""], ["mouse", "", "a", null, ""],
    ["keys", null, null, "a", "a"], ["touch", "a", "a", "a", "a"],
  ]) {
    for (const [type, value] of [["pointerdown", down], ["pointerup", up], ["click", click]]) {
      there.value = value;
      if (by === "touch") await new Promise((done) => setTimeout(done)); // a click of a finger comes later
      if (value !== null) there.dispatchEvent(Object.assign(new Event(type), { button: 0, pointerType: by }));
    }
    await new Promise((done) => setTimeout(done));
    assert.equal(heard.splice(0).join(), wanted, `${down} ${up} ${click}`);
  }
});
