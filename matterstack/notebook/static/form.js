// @ts-check
// A form made from a JSON Schema. It keeps the schema's order, preselects nothing but the rows or entries that a list has
// by default, and decides nothing: every change goes to Python, which validates and says what is wrong with which field.
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

/** @param {any} value @returns {string} a choice or a bound as a person reads it: 0.3, not 0.30000000000000004 */
function shown(value) {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  return typeof value === "string" ? value : value === null ? "none" : value === true ? "yes" : value === false ? "no" : JSON.stringify(value);
}

/** @param {any} schema @returns {any[] | null} the values that are allowed, where they are listed */
function choices(schema) {
  return "const" in schema ? [schema.const] : Array.isArray(schema.enum) ? schema.enum : null;
}

/** @param {any} schema @returns {string | undefined} its type, besides null */
function kindOf(schema) {
  return Array.isArray(schema.type) ? schema.type.find((/** @type {string} */ type) => type !== "null") : schema.type;
}

/**
 * Return the columns of a list of flat objects, which is shown as a table; null for anything else.
 * @param {any} items schema of an entry
 * @param {any} root
 * @returns {[string, any][] | null}
 */
function columnsOf(items, root) {
  if (kindOf(items) !== "object" || !items.properties) return null;
  const found = /** @type {[string, any][]} */ (Object.entries(items.properties).map(([key, inner]) => [key, resolve(inner, root)]));
  const isFlat = found.every(([, inner]) => choices(inner) || ["string", "number", "integer", "boolean"].includes(kindOf(inner) || ""));
  return found.length && isFlat ? found : null;
}

/** @param {number} least @param {number} most @param {string} thing @returns {string} how many are wanted */
function howMany(least, most, thing) {
  if (least === most) return `${least} ${thing}`;
  return [least > 0 ? `at least ${least}` : "", Number.isFinite(most) ? `at most ${most}` : ""].filter(Boolean).join(", ");
}

/** Each form is a module of its own: a label must not lead to the field of another form. */
const PREFIX = `ms-field-${Math.random().toString(36).slice(2)}`;
let counter = 0;

/**
 * What is wrong: where, and in words.
 * @typedef {[(string | number)[], string]} Wrong
 *
 * A field: `element`; `read()` gives its value or NOTHING; `errors(list)` shows what is wrong.
 * @typedef {{ element: HTMLElement, read: () => any, errors: (list: Wrong[]) => void }} Field
 */

/**
 * Return what is wrong at a path or below it, but for what those fields show that lie there.
 * @param {Wrong[]} list
 * @param {(string | number)[]} path
 * @param {(string | number)[]} fields that lie below
 * @returns {string} a line each
 */
function say(list, path, fields) {
  return list.filter(([at]) => path.every((part, place) => at[place] === part) && !(at.length > path.length && fields.includes(at[path.length])))
    .map(([at, text]) => (fields.length && at.length > path.length ? `${at.slice(path.length).join(".")}: ${text}` : text)).join("\n");
}

/**
 * Hand what is wrong with the entries of a list to their fields. Python counts the entries that are filled in, and a
 * field knows the place it was made with.
 * @param {Wrong[]} list
 * @param {(string | number)[]} path of the list
 * @param {Field[]} entries
 * @returns {number[]} the places that were shown
 */
function spread(list, path, entries) {
  let place = 0;
  for (const entry of entries) {
    const isFilled = entry.read() !== NOTHING;
    const mine = JSON.parse(entry.element.dataset.path || "[]");
    const wanted = [...path, place];
    entry.errors(isFilled ? list.filter(([at]) => wanted.every((part, number) => at[number] === part))
      .map(([at, text]) => /** @type {Wrong} */ ([[...mine, ...at.slice(wanted.length)], text])) : []);
    if (isFilled) place += 1;
  }
  return [...Array(place).keys()];
}

/**
 * Make the field of a schema.
 * @param {any} schema
 * @param {any} root the whole schema, for its references
 * @param {(string | number)[]} path of the value in the answer
 * @param {boolean} required
 * @param {string} name
 * @param {() => void} changed
 * @param {boolean} [isCell] of a table, whose head says what it is
 * @param {any} [given] value that it begins with
 * @returns {Field}
 */
function field(schema, root, path, required, name, changed, isCell = false, given = undefined) {
  schema = resolve(schema, root);
  const id = `${PREFIX}-${counter++}`;
  const element = make("div", { class: "ms-field", "data-path": JSON.stringify(path) });
  const kind = kindOf(schema);
  const title = isCell ? "" : schema.title || name;
  const wrong = make("div", { class: "ms-error", id: `${id}-wrong`, "aria-live": "polite" });
  const own = (/** @type {Wrong[]} */ list) => tell(say(list, path, []));
  const tell = (/** @type {string} */ text) => {
    if (wrong.textContent !== text) wrong.textContent = text; // what is the same is not read out again
    element.querySelector(`#${id}`)?.setAttribute("aria-invalid", String(Boolean(text)));
  };
  const label = (/** @type {Element} */ parent, /** @type {string} */ target) => {
    if (!title) return;
    const made = make("label", { for: target }, parent, title);
    if (required) made.classList.add("ms-required");
    if (schema.unit) make("span", { class: "ms-unit" }, made, ` (${schema.unit})`);
  };
  const bounds = [["minimum", "≥"], ["exclusiveMinimum", ">"], ["maximum", "≤"], ["exclusiveMaximum", "<"]]
    .filter(([rule]) => rule in schema).map(([rule, sign]) => `${sign} ${shown(schema[rule])}`);
  if ((kind === "array" || schema.items) && (schema.minItems > 0 || "maxItems" in schema)) bounds.push(howMany(schema.minItems || 0, schema.maxItems ?? Infinity, ""));
  const help = [schema.description, bounds.join(", ")].filter(Boolean).join("; ");
  const hint = (/** @type {Element} */ parent) => { if (help && !isCell) make("div", { class: "ms-help", id: `${id}-help` }, parent, help); };
  // A cell is named by what stands above it.
  const named = (/** @type {Element} */ input) => {
    if (!title) input.setAttribute("aria-label", schema.title || name || String(path[path.length - 2] ?? "entry"));
    input.setAttribute("aria-describedby", `${id}-help ${id}-wrong`);
    if (required) input.setAttribute("aria-required", "true");
  };
  const legend = (/** @type {Element} */ parent) => { if (title) make("legend", { class: required ? "ms-required" : "" }, parent, title); };

  if (schema.properties || kind === "object") {
    const set = make("fieldset", {}, element);
    legend(set);
    hint(set);
    /** @type {[string, Field][]} */
    const inner = Object.entries(schema.properties || {}).map(([key, child]) => {
      const made = field(child, root, [...path, key], (schema.required || []).includes(key), key, changed, false, given?.[key]);
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
      errors(list) { tell(say(list, path, inner.map(([key]) => key))); inner.forEach(([, made]) => made.errors(list)); },
    };
  }
  const listed = choices(schema);
  if (listed) {
    label(element, id);
    hint(element);
    const select = make("select", { id }, element);
    named(select);
    make("option", { value: "" }, select, isCell ? "" : "choose …");
    listed.forEach((value, number) => make("option", { value: String(number) }, select, shown(value)));
    if (listed.includes(given)) select.value = String(listed.indexOf(given));
    select.addEventListener("input", changed);
    element.appendChild(wrong);
    return { element, read: () => (select.value === "" ? NOTHING : listed[Number(select.value)]), errors: own };
  }
  if (kind === "boolean") {
    label(element, id);
    hint(element);
    const select = make("select", { id }, element);
    named(select);
    for (const [value, text] of [["", isCell ? "" : "choose …"], ["true", "yes"], ["false", "no"]]) make("option", { value }, select, text);
    if (typeof given === "boolean") select.value = String(given);
    select.addEventListener("input", changed);
    element.appendChild(wrong);
    return { element, read: () => (select.value === "" ? NOTHING : select.value === "true"), errors: own };
  }
  if (kind === "number" || kind === "integer") {
    label(element, id);
    hint(element);
    const input = make("input", { id, inputmode: "decimal", autocomplete: "off", class: "ms-number" }, element);
    if (typeof given === "number") input.value = String(given);
    named(input);
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
    const items = resolve(schema.items, root);
    const set = make("fieldset", {}, element);
    legend(set);
    hint(set);
    const offered = choices(items);
    if (offered) {
      // What is chosen from a list is ticked; the answer has the order of the list.
      const boxes = make("div", { class: "ms-choices" }, set);
      const ticks = offered.map((value) => {
        const line = make("label", {}, boxes);
        const tick = make("input", { type: "checkbox" }, line);
        line.append(shown(value));
        tick.checked = Array.isArray(given) && given.includes(value);
        tick.addEventListener("input", changed);
        return tick;
      });
      set.appendChild(wrong);
      const read = () => {
        const values = offered.filter((_, number) => ticks[number].checked);
        return values.length || required || !path.length ? values : NOTHING;
      };
      return { element, read, errors: own };
    }
    const columns = columnsOf(items, root);
    const rows = columns ? gridOf(columns, items, set) : make("div", {}, set);
    /** @type {{ made: Field, row: HTMLElement }[]} */
    let inner = [];
    const add = (/** @type {any} */ value) => {
      const place = [...path, inner.length];
      const row = columns ? make("tr", {}, rows) : make("div", { style: "display:flex;gap:6px;align-items:flex-end" }, rows);
      const made = columns ? rowOf(columns, root, place, row, changed, value) : field(items, root, place, false, "", changed, false, value);
      if (!columns) row.appendChild(made.element);
      const entry = { made, row };
      const what = columns ? "row" : "entry";
      make("button", { type: "button", title: `remove this ${what}`, "aria-label": `remove this ${what}` }, columns ? make("td", {}, row) : row, "×").onclick = () => {
        rows.removeChild(row);
        inner = inner.filter((other) => other !== entry);
        more.focus(); // what had the focus is gone
        changed();
      };
      inner.push(entry);
    };
    const more = make("button", { type: "button" }, set, columns ? "add a row" : "add");
    more.onclick = () => { add(undefined); /** @type {HTMLElement | null} */ (inner[inner.length - 1].row.querySelector("input, select, textarea"))?.focus(); changed(); };
    const first = [given, schema.default].find(Array.isArray) || [];
    for (const value of first) add(value);
    while (inner.length < Math.min(Math.max(1, schema.minItems || 0), 50)) add(undefined);
    set.appendChild(wrong);
    return {
      element,
      read() {
        const values = inner.map(({ made }) => made.read()).filter((value) => value !== NOTHING);
        return values.length || required || !path.length ? values : NOTHING;
      },
      errors(list) { tell(say(list, path, spread(list, path, inner.map(({ made }) => made)))); },
    };
  }
  if (kind === "string") {
    label(element, id);
    hint(element);
    const long = !isCell && !schema.format && !(schema.maxLength <= 80);
    const input = make(long ? "textarea" : "input", long ? { id, rows: 2, style: "width:min(100%,40em)" } : { id }, element);
    if (typeof given === "string") input.value = given;
    named(input);
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
    named(input);
    if (given !== undefined) input.value = JSON.stringify(given);
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
      errors(/** @type {Wrong[]} */ list) { own(list); if (broken) tell(`not JSON, so it is taken as text (${broken})`); },
    };
  }
}

/**
 * Make the table of a list of flat objects, and return where its rows go.
 * @param {[string, any][]} columns
 * @param {any} items schema of a row
 * @param {Element} parent
 * @returns {any}
 */
function gridOf(columns, items, parent) {
  const table = make("table", { class: "ms-grid" }, make("div", { class: "ms-scroll" }, parent));
  const head = make("tr", {}, make("thead", {}, table));
  for (const [key, inner] of columns) {
    const cell = make("th", { scope: "col", title: inner.description || "" }, head, inner.title || key);
    if (inner.unit) make("span", { class: "ms-unit" }, cell, ` (${inner.unit})`);
    if ((items.required || []).includes(key)) cell.classList.add("ms-required");
  }
  return make("tbody", {}, table);
}

/**
 * Make a row of such a table: a cell for each column, by its type. A row that is empty does not count.
 * @param {[string, any][]} columns
 * @param {any} root
 * @param {(string | number)[]} path
 * @param {HTMLElement} element
 * @param {() => void} changed
 * @param {any} given values that it begins with
 * @returns {Field}
 */
function rowOf(columns, root, path, element, changed, given) {
  element.dataset.path = JSON.stringify(path);
  const cells = columns.map(([key, inner]) => {
    const made = field(inner, root, [...path, key], false, key, changed, true, given?.[key]);
    make("td", {}, element).appendChild(made.element);
    return /** @type {[string, Field]} */ ([key, made]);
  });
  const wrong = make("div", { class: "ms-error", "aria-live": "polite" }, element.lastElementChild);
  return {
    element,
    read() {
      const filled = cells.map(([key, made]) => [key, made.read()]).filter(([, value]) => value !== NOTHING);
      return filled.length ? Object.fromEntries(filled) : NOTHING;
    },
    errors(list) {
      const text = say(list, path, cells.map(([key]) => key));
      if (wrong.textContent !== text) wrong.textContent = text;
      cells.forEach(([, made]) => made.errors(list));
    },
  };
}

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const request = model.get("request");
  const root = make("div", { class: "ms-form", "data-task": request.task, tabindex: "-1", role: "group", "aria-label": `request of ${request.task}` }, el);
  const line = make("div", {}, root);
  make("b", {}, line, request.task);
  make("span", {}, line, ` of ${request.run}${request.assignee ? `, for ${request.assignee}` : ""}, since `);
  const [exactly, since] = moment(request.since);
  make("span", { title: exactly }, line, since);
  const reason = make("div", { class: "ms-note", role: "status" }, root);
  const asks = make("div", {}, root);
  make("div", { class: "ms-instructions" }, asks).innerHTML = request.instructions; // made in Python, where all is escaped
  make("div", { class: "ms-context" }, asks).innerHTML = model.get("context"); // likewise
  make("div", { class: "ms-help" }, asks, `in ${request.directory}`);
  const form = make("form", { novalidate: "" }, asks);
  let asked = 0;
  /** The number of the answer that is being checked, and whether something was typed since. */
  let sent = 0;
  let typed = false;
  let isLive = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let slow;
  const ask = (/** @type {boolean} */ submit) => {
    clearTimeout(timer);
    const value = made.read();
    asked += 1;
    send(model, { value: value === NOTHING ? null : value, empty: value === NOTHING, submit, number: asked });
  };
  const changed = () => {
    clearTimeout(timer);
    if (sent) { typed = true; return; }
    outcome.textContent = "";
    timer = setTimeout(() => ask(false), 150);
  };
  const made = field(request.schema, request.schema, [], true, "", changed);
  form.appendChild(made.element);
  const submit = make("button", { type: "submit", class: "ms-submit" }, form, "Submit");
  const outcome = make("div", { class: "ms-outcome", role: "status" }, asks);
  // Keys that are typed on must not go to the notebook, for which they are commands: so the button stays one that can
  // have the focus while an answer is checked, and a form that is over takes the focus itself.
  const checking = (/** @type {boolean} */ is) => {
    clearTimeout(slow);
    submit.setAttribute("aria-disabled", String(is));
    submit.textContent = is ? "checking …" : "Submit";
  };
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    if (sent) return;
    if (!isLive) { ask(false); return; } // what comes back says that it is live again
    ask(true);
    sent = asked;
    typed = false;
    made.errors([]);
    outcome.textContent = "";
    checking(true);
    slow = setTimeout(() => { outcome.textContent = "Still checking: while a cell runs, the kernel may take it up only when that ends."; }, 5000);
  });
  const onMessage = (/** @type {any} */ message) => {
    if (!isLive) { isLive = true; checking(false); }
    if (message.number === undefined || message.number < Math.max(asked, sent)) return;
    if (message.outcome !== undefined) outcome.textContent = message.outcome;
    if (!message.errors) return; // it is still being checked
    made.errors(message.errors);
    if (!sent) return;
    sent = 0;
    checking(false);
    root.querySelector(".ms-error:not(:empty)")?.scrollIntoView({ block: "nearest" });
    if (typed) changed();
  };
  const onState = () => {
    const over = model.get("over");
    reason.textContent = over || model.get("reason");
    const isTypedInto = asks.contains(document.activeElement);
    asks.hidden = Boolean(over);
    if (over && isTypedInto) root.focus();
    root.classList.toggle("ms-over", Boolean(over));
    form.hidden = !request.answerable;
  };
  model.on("msg:custom", onMessage);
  model.on("change:over", onState);
  model.on("change:reason", onState);
  onState();
  // What was sent may have arrived: whether the request is over, the form says that is made anew.
  const gone = () => {
    isLive = false;
    sent = 0;
    checking(false);
    submit.setAttribute("aria-disabled", "true");
    outcome.textContent = "";
  };
  const stops = [pulse(model), ownKeys(root), still(model, root, "msg:custom", gone)];
  return () => {
    for (const stop of stops) stop();
    clearTimeout(timer);
    clearTimeout(slow);
    model.off("msg:custom", onMessage);
    model.off("change:over", onState);
    model.off("change:reason", onState);
  };
}

export default { render };
