import assert from "node:assert/strict";
import { test } from "node:test";
import { load, numbers } from "./load.mjs";

const { ROW, HIGHEST, laidOut, inSight, endsSoon } = load(["table.js"], ["ROW", "HIGHEST", "laidOut", "inSight", "endsSoon"]);

test("the scroll bar leads from the first row to the last, however many there are", () => {
  for (const found of [1, 16, 1000, 363636, 363637, 1000000, 50000000]) {
    const sight = 360, { height, by } = laidOut(found, sight), lowest = Math.max(0, height - sight);
    assert.ok(height <= HIGHEST);
    assert.ok(by >= 1);
    assert.deepEqual(inSight(found, 0, sight), [0, Math.min(found, 18)]);
    const [first, end] = inSight(found, lowest, sight);
    assert.equal(end, found);
    assert.ok((found - first) * ROW >= Math.min(found * ROW, sight), `the last ${found - first} fill what is seen`);
  }
});

test("each row is in sight for some position of the scroll bar, up to a million", () => {
  const found = 1000000, sight = 360, { by } = laidOut(found, sight);
  for (const row of [...numbers(500, 0, found)].map(Math.floor)) {
    const [first, end] = inSight(found, Math.min(Math.round((row * ROW) / by), HIGHEST - sight), sight);
    assert.ok(first <= row && row < end, `${row}: ${first} to ${end}`);
  }
});

test("more rows are asked for before those that are here end, and never where there are no more", () => {
  assert.ok(!endsSoon(0, 300, 300, [0, 18]));
  assert.ok(!endsSoon(0, 300, 300, [282, 300]));
  assert.ok(!endsSoon(0, 300, 1000, [100, 118]));
  assert.ok(endsSoon(0, 300, 1000, [260, 278]));
  assert.ok(endsSoon(100, 300, 1000, [110, 128]));
  assert.ok(endsSoon(100, 300, 1000, [700, 718]), "one has gone far");
  assert.ok(endsSoon(100, 300, 1000, [5, 23]));
});
