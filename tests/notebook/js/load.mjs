// The functions of matterstack/notebook/static by their names: its files are put together there, and export but their `render`.

import { readFileSync } from "node:fs";

const STATIC = new URL("../../../matterstack/notebook/static/", import.meta.url);

/**
 * @param {string[]} files besides shared.js
 * @param {string[]} names of what is wanted
 * @param {object} page what stands for the page: `document`, `window` and the like
 */
export function load(files, names, page = {}) {
  const text = ["shared.js", ...files].map((file) => readFileSync(new URL(file, STATIC), "utf8")).join("\n");
  const body = `${text.replaceAll(/^export default .*$/gm, "")}\nreturn { ${names.join(", ")} };`;
  return new Function(...Object.keys(page), body)(...Object.values(page));
}

/** Numbers that look like chance and are the same each time. */
export function* numbers(count, low, high) {
  for (let state = 12345; count > 0; count -= 1) {
    state = (state * 1103515245 + 12345) % 2147483648;
    yield low + ((high - low) * state) / 2147483648;
  }
}
