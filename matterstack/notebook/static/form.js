// @ts-check
// A form made from a JSON Schema. It keeps the schema's order, preselects nothing, and decides nothing: every change
// goes to Python, which validates and says what is wrong with which field.
const NOTHING = Symbol("nothing");
// What counts as a number, in a form as in a table: matterstack/core/numbers.py has the same, and a test compares them.
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const MINUSES = /[\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d]/g;

/** @param {any} schema @param {any} root @returns {any} */
function resolve(schema, root) {
  for (let turn = 0; turn < 10 && schema && typeof schema === "object" && typeof schema.$ref === "string" && schema.$ref.startsWith("#/"); turn++)
    schema = schema.$ref.slice(2).split("/").reduce((/** @type {any} */ at, /** @type {string} */ part) => (at || {})[part.replaceAll("~1", "/").replaceAll("~0", "~")], root);
  return schema && typeof schema === "object" ? schema : {};
}

let counter = 0;

/**
 * A field: `element`; `read()` gives its value or NOTHING; `errors(list)` shows what is wrong.
 * @typedef {{ element: HTMLElement, read: () => any, errors: (list: [(string | number)[], string][]) => void }} Field
 */

/**
 * Make the field of a schema.
 * @param {any} schema
 * @param {any} root the whole schema, for its references
 * @param {(string | number)[]} path of the value in the answer
 * @param {boolean} required
 * @param {string} name
 * @param {() => void} changed
 * @returns {Field}
 */
function field(schema, root, path, required, name, changed) {
  schema = resolve(schema, root);
  const id = `ms-field-${counter++}`;
  const element = make("div", { class: "ms-field", "data-path": JSON.stringify(path) });
  const kind = Array.isArray(schema.type) ? schema.type.find((/** @type {string} */ type) => type !== "null") : schema.type;
  const title = schema.title || name;
  const wrong = make("div", { class: "ms-error", role: "alert" });
  const own = (/** @type {[(string | number)[], string][]} */ list) => {
    wrong.textContent = list.filter(([at]) => JSON.stringify(at) === JSON.stringify(path)).map(([, text]) => text).join("\n");
  };
  const label = (/** @type {Element} */ parent, /** @type {string} */ target) => {
    if (!title) return;
    const made = make("label", { for: target }, parent, title);
    if (required) made.classList.add("ms-required");
    if (schema.unit) make("span", { class: "ms-unit" }, made, ` (${schema.unit})`);
  };
  const bounds = [["minimum", "≥"], ["exclusiveMinimum", ">"], ["maximum", "≤"], ["exclusiveMaximum", "<"]]
    .filter(([rule]) => rule in schema).map(([rule, sign]) => `${sign} ${schema[rule]}`);
  const help = [schema.description, bounds.join(", ")].filter(Boolean).join("; ");
  const hint = (/** @type {Element} */ parent) => { if (help) make("div", { class: "ms-help" }, parent, help); };

  if (schema.properties || kind === "object") {
    const set = make("fieldset", {}, element);
    if (title) make("legend", { class: required ? "ms-required" : "" }, set, title);
    hint(set);
    /** @type {[string, Field][]} */
    const inner = Object.entries(schema.properties || {}).map(([key, child]) => {
      const made = field(child, root, [...path, key], (schema.required || []).includes(key), key, changed);
      set.appendChild(made.element);
      return [key, made];
    });
    if (!inner.length) return raw();
    set.appendChild(wrong);
    return {
      element,
      read() {
        /** @type {Record<string, any>} */
        const value = {};
        for (const [key, made] of inner) { const got = made.read(); if (got !== NOTHING) value[key] = got; }
        return Object.keys(value).length || required || !path.length ? value : NOTHING;
      },
      errors(list) { own(list); inner.forEach(([, made]) => made.errors(list)); },
    };
  }
  if (Array.isArray(schema.enum)) {
    label(element, id);
    hint(element);
    const select = make("select", { id }, element);
    make("option", { value: "" }, select, "choose …");
    schema.enum.forEach((/** @type {any} */ value, /** @type {number} */ number) => make("option", { value: String(number) }, select, typeof value === "string" ? value : JSON.stringify(value)));
    select.addEventListener("input", changed);
    element.appendChild(wrong);
    return { element, read: () => (select.value === "" ? NOTHING : schema.enum[Number(select.value)]), errors: own };
  }
  if (kind === "boolean") {
    label(element, id);
    hint(element);
    const select = make("select", { id }, element);
    for (const [value, text] of [["", "choose …"], ["true", "yes"], ["false", "no"]]) make("option", { value }, select, text);
    select.addEventListener("input", changed);
    element.appendChild(wrong);
    return { element, read: () => (select.value === "" ? NOTHING : select.value === "true"), errors: own };
  }
  if (kind === "number" || kind === "integer") {
    label(element, id);
    hint(element);
    const input = make("input", { id, inputmode: "decimal", autocomplete: "off" }, element);
    input.addEventListener("input", changed);
    element.appendChild(wrong);
    const read = () => {
      const text = input.value.trim().replace(MINUSES, "-");
      if (text === "") return NOTHING;
      const isExact = !/^[+-]?\d+$/.test(text) || Number.isSafeInteger(Number(text)); // JavaScript rounds more digits
      return NUMBER.test(text) && Number.isFinite(Number(text)) && isExact ? Number(text) : input.value;
    };
    return { element, read, errors: own };
  }
  if (kind === "array" && schema.items) {
    const set = make("fieldset", {}, element);
    if (title) make("legend", { class: required ? "ms-required" : "" }, set, title);
    hint(set);
    const rows = make("div", {}, set);
    /** @type {{ made: Field, row: HTMLElement }[]} */
    let inner = [];
    const add = () => {
      const row = make("div", { style: "display:flex;gap:6px;align-items:flex-end" }, rows);
      const made = field(schema.items, root, [...path, inner.length], false, "", changed);
      row.appendChild(made.element);
      const entry = { made, row };
      make("button", { type: "button", title: "remove this entry", "aria-label": "remove this entry" }, row, "×").onclick = () => {
        const values = inner.filter((other) => other !== entry);
        rows.removeChild(row);
        inner = values;
        changed();
      };
      inner.push(entry);
    };
    const more = make("button", { type: "button" }, set, "add");
    more.onclick = () => { add(); changed(); };
    for (let number = 0; number < Math.max(1, schema.minItems || 0); number++) add();
    set.appendChild(wrong);
    return {
      element,
      read() {
        const values = inner.map(({ made }) => made.read()).filter((value) => value !== NOTHING);
        return values.length || required || !path.length ? values : NOTHING;
      },
      errors(list) {
        own(list);
        // Errors name an entry by its place among those that are filled in.
        let place = 0;
        for (const { made } of inner) {
          const filled = made.read() !== NOTHING;
          const mine = JSON.parse(made.element.dataset.path || "[]");
          const wanted = [...path, place];
          made.errors(filled ? list.filter(([at]) => wanted.every((part, number) => at[number] === part))
            .map(([at, text]) => /** @type {[(string | number)[], string]} */ ([[...mine, ...at.slice(wanted.length)], text])) : []);
          if (filled) place += 1;
        }
      },
    };
  }
  if (kind === "string") {
    label(element, id);
    hint(element);
    const long = !schema.format && !(schema.maxLength <= 80);
    const input = make(long ? "textarea" : "input", long ? { id, rows: 2, style: "width:min(100%,40em)" } : { id }, element);
    input.addEventListener("input", changed);
    element.appendChild(wrong);
    return { element, read: () => (input.value === "" ? NOTHING : input.value), errors: own };
  }
  return raw();

  // What has no better form: JSON.
  function raw() {
    element.replaceChildren();
    label(element, id);
    hint(element);
    const input = make("textarea", { id, rows: 3, placeholder: "JSON", style: "width:min(100%,40em);font-family:monospace" }, element);
    input.addEventListener("input", changed);
    element.appendChild(wrong);
    let broken = "";
    return {
      element,
      read() {
        broken = "";
        if (input.value.trim() === "") return NOTHING;
        try { return JSON.parse(input.value); } catch (error) { broken = error instanceof Error ? error.message : String(error); return input.value; }
      },
      errors(/** @type {[(string | number)[], string][]} */ list) { own(list); if (broken) wrong.textContent = `not JSON, so it is taken as text (${broken})`; },
    };
  }
}

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const request = model.get("request");
  const root = make("div", { class: "ms-form", "data-task": request.task }, el);
  const line = make("div", {}, root);
  make("b", {}, line, request.task);
  make("span", {}, line, ` of ${request.run}${request.assignee ? `, for ${request.assignee}` : ""}, since ${request.since}`);
  if (request.instructions) make("div", { class: "ms-instructions" }, root, request.instructions);
  const context = make("div", { class: "ms-context" }, root);
  context.innerHTML = model.get("context"); // escaped in Python
  make("div", { class: "ms-help" }, root, `in ${request.directory}`);
  const reason = make("div", { class: "ms-note" }, root);
  const form = make("form", { novalidate: "" }, root);
  let asked = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const ask = (/** @type {boolean} */ submit) => {
    clearTimeout(timer);
    const value = made.read();
    asked += 1;
    model.send({ value: value === NOTHING ? null : value, empty: value === NOTHING, submit, number: asked });
  };
  const changed = () => { outcome.textContent = ""; clearTimeout(timer); timer = setTimeout(() => ask(false), 150); };
  const made = field(request.schema, request.schema, [], true, "", changed);
  form.appendChild(made.element);
  const submit = make("button", { type: "submit" }, form, "Submit");
  const outcome = make("div", { class: "ms-outcome", role: "status" }, root);
  form.addEventListener("submit", (/** @type {Event} */ event) => { event.preventDefault(); ask(true); });
  form.addEventListener("keydown", (/** @type {Event} */ event) => event.stopPropagation());
  form.addEventListener("click", (/** @type {any} */ event) => { if (event.target.tagName === "BUTTON" && event.target.type === "button") changed(); });
  const onMessage = (/** @type {any} */ message) => {
    if (message.number !== undefined && message.number < asked) return;
    if (message.errors) made.errors(message.errors);
    if (message.outcome !== undefined) outcome.textContent = message.outcome;
  };
  const onState = () => {
    const over = model.get("over");
    submit.disabled = Boolean(over);
    reason.textContent = over || model.get("reason");
    form.hidden = Boolean(over) || !request.answerable;
  };
  model.on("msg:custom", onMessage);
  model.on("change:over", onState);
  model.on("change:reason", onState);
  onState();
  return () => {
    clearTimeout(timer);
    model.off("msg:custom", onMessage);
    model.off("change:over", onState);
    model.off("change:reason", onState);
  };
}

export default { render };
