import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { NOTHING, resolve, shown, choices, kindOf, columnsOf, howMany, say, spread } = load(["form.js"],
  ["NOTHING", "resolve", "shown", "choices", "kindOf", "columnsOf", "howMany", "say", "spread"]);

test("references lead into the schema, and end where they go round", () => {
  const root = { $defs: { "a/b~c": { type: "string" }, loop: { $ref: "#/$defs/loop" }, twice: { $ref: "#/$defs/a~1b~0c" } } };
  assert.deepEqual(resolve({ $ref: "#/$defs/a~1b~0c" }, root), { type: "string" });
  assert.deepEqual(resolve({ $ref: "#/$defs/twice" }, root), { type: "string" });
  assert.deepEqual(resolve({ $ref: "#/$defs/none" }, root), {});
  assert.equal(typeof resolve({ $ref: "#/$defs/loop" }, root), "object");
  for (const odd of [true, null, 7, "x", undefined]) assert.deepEqual(resolve(odd, root), {});
});

test("a value is shown as a person reads it", () => {
  assert.deepEqual([0.1 + 0.2, 5, 1 / 3, "a", null, true, false, [1]].map(shown), ["0.3", "5", "0.333333", "a", "none", "yes", "no", "[1]"]);
});

test("what is allowed, and of which type it is besides null", () => {
  assert.deepEqual(choices({ enum: [1, null] }), [1, null]);
  assert.deepEqual(choices({ const: 0 }), [0]);
  assert.equal(choices({ type: "string" }), null);
  assert.equal(kindOf({ type: ["null", "integer"] }), "integer");
  assert.equal(kindOf({}), undefined);
});

test("a list of flat objects is a table, and of nothing else", () => {
  const flat = { type: "object", properties: { T_K: { type: "number" }, gas: { enum: ["air"] }, way: { $ref: "#/$defs/way" } } };
  const root = { $defs: { way: { type: "boolean" } } };
  assert.deepEqual(columnsOf(flat, root).map(([key, inner]) => [key, kindOf(inner)]), [["T_K", "number"], ["gas", undefined], ["way", "boolean"]]);
  assert.equal(columnsOf({ type: "object", properties: { deep: { type: "object" } } }, root), null);
  assert.equal(columnsOf({ type: "object", properties: {} }, root), null);
  assert.equal(columnsOf({ type: "number" }, root), null);
});

test("how many entries are wanted", () => {
  assert.deepEqual([howMany(2, 2, "rows"), howMany(1, 3, ""), howMany(0, Infinity, "")], ["2 rows", "at least 1, at most 3", ""]);
});

test("what is wrong is said at its place, and by the innermost that shows it", () => {
  const wrong = [[[], "is too short"], [["a"], "is missing"], [["b", "c"], "is no number"], [["z"], "is not allowed"]];
  assert.equal(say(wrong, [], ["a", "b"]), "is too short\nz: is not allowed");
  assert.equal(say(wrong, ["b", "c"], []), "is no number");
});

test("what Python says of the second entry that is filled in goes to the field of that entry, which may be the third", () => {
  const entry = (value, path) => ({ element: { dataset: { path: JSON.stringify(path) } }, read: () => value, heard: [], errors(list) { this.heard = list; } });
  const entries = [entry("x", ["notes", 0]), entry(NOTHING, ["notes", 1]), entry("y", ["notes", 4])];
  const places = spread([[["notes", 1], "is too short"], [["notes", 1, "deep"], "is no number"]], ["notes"], entries);
  assert.deepEqual(places, [0, 1]);
  assert.deepEqual(entries.map(({ heard }) => heard), [[], [], [[["notes", 4], "is too short"], [["notes", 4, "deep"], "is no number"]]]);
});
