// @ts-check
// A browser of an attempt: its logs as they grow, its files, what it was made from and what is made from it. It keeps a
// few pages of a text, however long that is; the kernel has the rest, and is asked in threads of its own.

/**
 * An attempt, and what of it is looked at. The task is its id, or its name with the iteration.
 * @typedef {{ task: string, iteration?: number, attempt?: number, run?: string, path?: string }} Which
 * @typedef {{ what: string, [more: string]: unknown }} Question
 * @typedef {{ ask: (question: Question, heard?: (part: any) => void) => Asked, late: (say: (is: boolean) => void) => void,
 *   changed: (hear: (about: any) => void) => void, tail: (path: unknown, hear: (page: TextPage) => void) => () => void, stop: () => void }} Desk
 * @typedef {{ answer: Promise<any>, stop: () => void }} Asked
 * @typedef {{ draw: (row: HTMLElement) => void, open?: () => Promise<Leaf[]>, act?: () => void, key?: string, opened?: boolean }} Leaf
 * @typedef {{ start: number, end: number, text: string, place: number | null, is_last: boolean, size: number, file: string }} TextPage
 * @typedef {{ name: string, kind: string, type: string, size: number, changed: number, cell: string, where: string }} FileInfo
 * @typedef {{ stop: () => void, ended?: () => void }} Pane
 */

/** After so many milliseconds without an answer it is said what is waited for. */
const LATE_MS = 1500;
/** What the view brought with it is shown where the kernel has not answered by then. */
const KNOWN_MS = 150;
const PIECE_BYTES = 1 << 20, UNASKED_BYTES = 1e7, MOST_SAVED_BYTES = 5e8;
/** Pages of a text that are kept, but for those close to what is in sight; and marks in one of them. */
const KEPT_PAGES = 5, MOST_MARKS = 500;
const ENTRIES = 100;
/** @type {Record<string, string>} */
const KIND_ICONS = { folder: "folder", text: "text", table: "table", tree: "tree", picture: "picture", structure: "structure", link: "open" };

/** @param {number} bytes */
function sizeText(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const power = Math.min(4, Math.floor(Math.log10(bytes) / 3)), number = bytes / 1000 ** power;
  return `${number.toFixed(number < 9.95 ? 1 : 0)} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}

/**
 * A button that shows an icon, and says what it does to who asks.
 * @param {string} name of the icon @param {string} said @param {Element} parent @param {() => void} act
 * @param {string | null} [text]
 */
function iconButton(name, said, parent, act, text = null) {
  const button = make("button", { type: "button", class: "ms-button", title: said, "aria-label": said }, parent);
  symbol(name, button);
  if (text) make("span", {}, button, text);
  button.onclick = act;
  return button;
}

/**
 * Ask Python, which answers each question by its number.
 * @param {any} model
 * @param {Record<string, any>} [begun] answers to the first questions, for a kernel that is busy by then
 * @returns {Desk}
 */
function deskOf(model, begun = {}) {
  begun = { ...begun };
  const me = Math.random().toString(36).slice(2);
  let turn = 0;
  /** @type {Map<string, { heard: (part: any) => void, done: (answer: any) => void, failed: (error: Error) => void, timer: any }>} */
  const waiting = new Map();
  const late = new Set();
  let sayLate = (/** @type {boolean} */ _) => {}, hearChanged = (/** @type {any} */ _) => {};
  /** @param {string} id */
  function inTime(id) {
    clearTimeout(waiting.get(id)?.timer);
    if (late.delete(id)) sayLate(late.size > 0);
  }
  const onMessage = (/** @type {any} */ message, /** @type {DataView[]} */ buffers) => {
    if (message.about) hearChanged(message.about);
    const one = waiting.get(message.answer);
    if (!one) return;
    inTime(message.answer);
    if (message.goes_on) { one.heard(message); return; }
    waiting.delete(message.answer);
    if (message.error !== undefined) one.failed(new Error(message.error));
    else one.done({ ...message, content: buffers && buffers[0] });
  };
  model.on("msg:custom", onMessage);
  return {
    ask(question, heard = () => {}) {
      const known = begun[question.what], isFirst = known && (known.path === undefined || known.path === question.path);
      delete begun[question.what];
      const id = `${me}.${++turn}`;
      const answer = new Promise((done, failed) => {
        const timer = question.what === "grow" ? 0 : setTimeout(() => { late.add(id); sayLate(true); }, LATE_MS);
        waiting.set(id, { heard, done, failed, timer });
        // As it is by then: how the attempt stands may have been told meanwhile.
        const now = () => (model.get("begun") || {})[question.what] || known;
        if (isFirst) setTimeout(() => { if (waiting.delete(id)) { clearTimeout(timer); done(now()); } }, KNOWN_MS);
      });
      answer.catch(() => {}); // whoever wants to know waits for it
      send(model, { browse: question, id });
      return {
        answer,
        stop() {
          inTime(id);
          if (waiting.delete(id)) send(model, { browse: { what: "stop", of: id }, id });
        },
      };
    },
    late(say) { sayLate = say; },
    changed(hear) { hearChanged = hear; },
    tail(path, hear) {
      const look = () => {
        const page = (model.get("begun") || {}).page;
        if (page && page.path === path) hear(page);
      };
      model.on("change:begun", look);
      look();
      return () => model.off("change:begun", look);
    },
    stop() {
      for (const [id, { timer }] of waiting) {
        clearTimeout(timer);
        send(model, { browse: { what: "stop", of: id }, id });
      }
      waiting.clear();
      model.off("msg:custom", onMessage);
    },
  };
}

/**
 * A tree whose branches open when somebody wants to see them; walked by the arrow keys.
 * @param {Element} parent @param {string} name
 */
function growTree(parent, name) {
  const root = make("div", { class: "ms-tree", role: "tree", "aria-label": name }, parent);
  /** @type {WeakMap<Element, Leaf>} */
  const leaves = new WeakMap();

  /** @param {Element} group @param {Leaf[]} some @param {number} level */
  function fill(group, some, level) {
    for (const leaf of some) {
      const row = make("div", { class: "ms-leaf", role: "treeitem", tabindex: "-1", "aria-level": level, style: `--ms-level:${level - 1}` }, group);
      if (leaf.key !== undefined) row.dataset.key = leaf.key;
      const twist = make("span", { class: "ms-twist", "aria-hidden": "true" }, row);
      if (leaf.open) {
        symbol("down", twist, 12);
        row.setAttribute("aria-expanded", "false");
      }
      leaves.set(row, leaf);
      leaf.draw(row);
      if (leaf.opened) toggle(row);
    }
    if (!root.querySelector("[tabindex='0']") && root.firstElementChild) root.firstElementChild.setAttribute("tabindex", "0");
  }
  /** @param {any} row */
  async function toggle(row) {
    const leaf = leaves.get(row);
    if (!leaf || !leaf.open) return;
    const opens = row.getAttribute("aria-expanded") !== "true";
    row.setAttribute("aria-expanded", String(opens));
    const known = row.nextElementSibling && row.nextElementSibling.getAttribute("role") === "group" ? row.nextElementSibling : null;
    if (known) { known.hidden = !opens; return; }
    if (!opens) return;
    const group = make("div", { role: "group" }, null), level = Number(row.getAttribute("aria-level")) + 1;
    row.after(group);
    const note = make("div", { class: "ms-leaf ms-note", style: `--ms-level:${level - 1}` }, group, "…");
    try {
      const some = await leaf.open();
      note.remove();
      if (some.length) fill(group, some, level);
      else group.append(make("div", { class: "ms-leaf ms-note", style: `--ms-level:${level - 1}` }, null, "nothing"));
    } catch (error) {
      note.textContent = /** @type {Error} */ (error).message;
    }
  }
  /** @param {any} row */
  function act(row) {
    const leaf = leaves.get(row);
    if (leaf && leaf.act) leaf.act();
    else toggle(row);
  }
  root.addEventListener("click", (/** @type {any} */ event) => {
    const row = event.target.closest("[role='treeitem']");
    if (!row) return;
    row.focus();
    const leaf = leaves.get(row);
    if (leaf && leaf.open && leaf.act && !event.target.closest(".ms-link")) toggle(row);
    else act(row);
  });
  root.addEventListener("focusin", (/** @type {any} */ event) => {
    const row = event.target.closest("[role='treeitem']");
    if (!row) return;
    for (const other of root.querySelectorAll("[tabindex='0']")) other.setAttribute("tabindex", "-1");
    row.setAttribute("tabindex", "0");
  });
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const rows = /** @type {HTMLElement[]} */ ([...root.querySelectorAll("[role='treeitem']")]).filter((row) => row.offsetParent);
    const row = /** @type {HTMLElement} */ (event.target), at = rows.indexOf(row), opened = row.getAttribute("aria-expanded");
    const level = Number(row.getAttribute("aria-level"));
    if (at < 0) return;
    switch (event.key) {
      case "ArrowDown": rows[at + 1]?.focus(); break;
      case "ArrowUp": rows[at - 1]?.focus(); break;
      case "Home": rows[0].focus(); break;
      case "End": rows[rows.length - 1].focus(); break;
      case "ArrowRight": if (opened === "false") toggle(row); else if (opened) rows[at + 1]?.focus(); break;
      case "ArrowLeft":
        if (opened === "true") toggle(row);
        else rows.slice(0, at).reverse().find((other) => Number(other.getAttribute("aria-level")) < level)?.focus();
        break;
      case "Enter": act(row); break;
      case " ": if (opened) toggle(row); else act(row); break;
      default: return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
  return {
    root,
    /** @param {Leaf[]} some */
    show(some) { root.replaceChildren(); fill(root, some, 1); },
    /** @param {string} key */
    select(key) {
      for (const row of root.querySelectorAll("[role='treeitem']")) row.setAttribute("aria-selected", String(row.dataset.key === key));
    },
  };
}

// -- a text of any length ---------------------------------------------------------------------

/**
 * A text: a few pages of it, and a rail that stands for the whole file.
 * @param {HTMLElement} bar @param {HTMLElement} parent @param {Desk} desk
 * @param {(more: object) => Question} question about this file
 * @param {FileInfo} info @param {boolean} live whether it may grow
 * @param {(size: number) => void} sized told when it has another size
 * @returns {Pane}
 */
function textPane(bar, parent, desk, question, info, live, sized) {
  const field = make("input", { type: "search", class: "ms-button", placeholder: "search", "aria-label": "search in the text; Enter finds, Shift and Enter goes back" }, bar);
  const back = iconButton("up", "the one before (Shift Enter)", bar, () => go(-1));
  const on = iconButton("down", "the next one (Enter)", bar, () => go(1));
  const halt = iconButton("stop", "stop searching", bar, () => halted(true));
  const hits = make("span", { class: "ms-note", role: "status" }, bar);
  make("span", { class: "ms-gap" }, bar);
  const first = make("button", { type: "button", class: "ms-button", title: "to the beginning" }, bar, "Start");
  const last = make("button", { type: "button", class: "ms-button", title: "to the end" }, bar, "End");
  const wrap = make("button", { type: "button", class: "ms-button", "aria-pressed": "true", title: "break long lines" }, bar, "Wrap");
  const follow = make("button", { type: "button", class: "ms-button", "aria-pressed": String(live), title: "stay at the end while it grows" }, bar, "Follow");
  follow.hidden = !live;
  const said = make("div", { class: "ms-note ms-log-said", role: "status" }, parent);
  const frame = make("div", { class: "ms-log" }, parent);
  const box = make("div", { class: "ms-log-box ms-wrap", tabindex: "0", role: "group", "aria-label": `text of ${info.name}` }, frame);
  const sheet = make("pre", {}, box);
  const rail = make("div", { class: "ms-rail", role: "scrollbar", "aria-orientation": "vertical", "aria-label": "where in the file", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" }, frame);
  sheet.id = `ms-log-${Math.random().toString(36).slice(2)}`;
  rail.setAttribute("aria-controls", sheet.id);
  const thumb = make("div", { class: "ms-thumb" }, rail);

  /** @type {(TextPage & { span: any })[]} */
  let pages = [];
  let size = info.size, file = "", stopped = false;
  const begun = performance.now();

  // -- which pages are there

  let busy = false;
  /** @type {(() => Promise<void>) | null} what is to be done next: only the last wish counts */
  let wish = null;
  /** One question at a time; the last one is always asked. @param {() => Promise<void>} work */
  async function turn(work) {
    if (busy) { wish = work; return; }
    busy = true;
    try { await work(); } catch (error) { say(/** @type {Error} */ (error).message); }
    busy = false;
    const next = wish;
    wish = null;
    if (stopped) return;
    if (next) turn(next);
    else grow();
  }
  const fetch_ = async (/** @type {string} */ way, /** @type {number} */ at) => {
    const page = /** @type {TextPage} */ (await desk.ask(question({ what: "page", way, at })).answer);
    notice(page);
    return page;
  };
  /** @param {TextPage} page */
  function notice(page) {
    if (file && (page.file !== file || page.size < size)) say(page.file !== file ? "Another file has taken this name: this is the new one." : "The file was cut short: this is what there is now.");
    const other = Boolean(file) && (page.file !== file || page.size < size);
    if (page.size !== size) sized(page.size);
    [file, size] = [page.file, page.size];
    info.size = size; // of it as much is saved as there is
    if (other) {
      clear();
      forget();
    }
    return other;
  }
  const say = (/** @type {string} */ text) => { said.textContent = text; };
  function clear() {
    pages = [];
    sheet.replaceChildren();
  }
  /** @param {TextPage} page @param {boolean} above */
  function put(page, above) {
    const kept = { ...page, span: make("span") };
    write(kept);
    const before = box.scrollHeight;
    if (above) {
      sheet.prepend(kept.span);
      pages.unshift(kept);
      box.scrollTop += box.scrollHeight - before;
    } else {
      sheet.append(kept.span);
      pages.push(kept);
    }
    const { top, bottom } = box.getBoundingClientRect(), far = box.clientHeight;
    while (pages.length > KEPT_PAGES && above && pages[pages.length - 1].span.getBoundingClientRect().top > bottom + far) pages.pop()?.span.remove();
    while (pages.length > KEPT_PAGES && !above && pages[0].span.getBoundingClientRect().bottom < top - far) {
      const high = box.scrollHeight;
      pages.shift()?.span.remove();
      box.scrollTop -= high - box.scrollHeight;
    }
  }
  /** Have more where what is there ends close to what is in sight. */
  function grow() {
    if (!pages.length) return;
    const left = box.scrollHeight - box.scrollTop - box.clientHeight, end = pages[pages.length - 1];
    if (box.scrollTop < box.clientHeight && pages[0].start > 0) {
      const at = pages[0].start;
      turn(async () => {
        const page = await fetch_("before", at);
        if (pages.length && page.end > page.start && pages[0].start === at) put(page, true);
      });
    } else if (left < box.clientHeight && !end.is_last) {
      turn(async () => {
        const page = await fetch_("from", end.end);
        end.is_last = page.end === end.end; // nothing more has come
        if (pages[pages.length - 1] === end && page.end > page.start) put(page, false);
      });
    }
    mark();
  }
  /** @param {string} way @param {number} at @param {boolean} [found] whether a word stands there */
  function jump(way, at, found = false) {
    turn(async () => {
      const page = await fetch_(way, at);
      clear();
      current = found && page.place !== null ? { start: page.start, place: page.place } : null;
      put(page, false);
      box.dataset.openedMs = box.dataset.openedMs || (performance.now() - begun).toFixed(1);
      const sign = sheet.querySelector(".ms-current");
      if (way === "before") box.scrollTop = box.scrollHeight;
      else if (sign) box.scrollTop += sign.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 3;
      else if (page.place) box.scrollTop = (box.scrollHeight * page.place) / Math.max(1, page.text.length);
      else box.scrollTop = 0;
      if (sign) sign.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
  }

  // -- the rail

  /** @returns {[number, number]} the bytes in sight, as well as that can be said */
  function sight() {
    const { top, bottom } = box.getBoundingClientRect();
    const at = (/** @type {number} */ y, /** @type {number} */ otherwise) => {
      for (const { start, end, span } of pages) {
        const area = span.getBoundingClientRect();
        if (y <= area.bottom) return start + Math.max(0, (y - area.top) / Math.max(1, area.height)) * (end - start);
      }
      return otherwise;
    };
    return [at(top, 0), at(bottom, pages.length ? pages[pages.length - 1].end : 0)];
  }
  function mark() {
    const [from, to] = sight(), high = rail.clientHeight, share = size ? Math.min(1, (to - from) / size) : 1;
    const tall = Math.max(24, share * high), free = Math.max(1, size - (to - from));
    const top = size ? Math.min(1, from / free) * (high - tall) : 0;
    rail.classList.toggle("ms-all", share >= 1);
    thumb.style.height = `${tall}px`;
    thumb.style.transform = `translateY(${Math.max(0, top)}px)`;
    rail.setAttribute("aria-valuenow", String(Math.round(size ? (100 * from) / free : 0)));
    rail.setAttribute("aria-valuetext", `${sizeText(Math.round(from))} of ${sizeText(size)}`);
    rail.title = `${sizeText(Math.round(from))} of ${sizeText(size)}`;
  }
  rail.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    event.preventDefault();
    const area = thumb.getBoundingClientRect(), inside = event.clientY >= area.top && event.clientY <= area.bottom;
    const grip = inside ? event.clientY - area.top : area.height / 2;
    const drag = (/** @type {PointerEvent} */ next) => {
      const whole = rail.getBoundingClientRect(), free = Math.max(1, whole.height - area.height);
      const share = Math.min(1, Math.max(0, (next.clientY - grip - whole.top) / free));
      thumb.style.transform = `translateY(${share * free}px)`;
      following(false);
      if (share >= 1) jump("before", size);
      else jump("around", Math.round(share * size));
    };
    rail.setPointerCapture(event.pointerId);
    if (!inside) drag(event);
    rail.addEventListener("pointermove", drag);
    rail.addEventListener("lostpointercapture", () => rail.removeEventListener("pointermove", drag), { once: true });
  });

  // -- the end, while it grows

  /** @param {boolean} is */
  const following = (is) => follow.setAttribute("aria-pressed", String(is));
  const follows = () => live && follow.getAttribute("aria-pressed") === "true";
  const atEnd = () => box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
  follow.onclick = () => {
    following(!follows());
    if (!follows()) return;
    if (newest && newest.end === size) showEnd(newest);
    else jump("before", size);
  };
  /** @type {TextPage | null} the end, as the kernel has told it last */
  let newest = null;
  /** @param {TextPage} page */
  function showEnd(page) {
    clear();
    put(page, false);
    box.scrollTop = box.scrollHeight;
    grow();
  }
  /** @param {TextPage} page */
  function more(page) {
    const other = notice(page), end = pages[pages.length - 1];
    newest = page;
    if (other || (follows() && !(end && end.end === page.start))) clear();
    else if (!follows()) {
      if (end && end.end < page.size) end.is_last = false;
      grow();
      return;
    }
    put(page, false);
    if (follows()) box.scrollTop = box.scrollHeight;
    mark();
  }
  /** @type {Asked | null} */
  let growing = null;
  let leaveTail = () => {};
  function watch() {
    if (!live || stopped) return;
    growing = desk.ask(question({ what: "grow", at: pages.length ? pages[pages.length - 1].end : 0 }), (page) => { leaveTail(); more(page); });
    // While the kernel takes no questions, the view itself brings the end of the log that it began with.
    leaveTail = desk.tail(question({ what: "" }).path, (page) => { if (!pages.length || page.end > pages[pages.length - 1].end || page.file !== file) more(page); });
  }

  // -- finding a word

  /** @type {number[]} */
  let places = [];
  let at = -1, word = "", origin = 0;
  /** @type {{ start: number, place: number } | null} */
  let current = null;
  /** @type {Asked | null} */
  let search = null;
  let told = "";
  const quoted = () => new RegExp(word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu");
  /** @param {TextPage & { span: any }} page */
  function write(page) {
    page.span.textContent = word ? "" : page.text;
    if (!word) return;
    let from = 0, count = 0;
    for (const hit of page.text.matchAll(quoted())) {
      if (++count > MOST_MARKS || !hit[0]) break;
      page.span.append(page.text.slice(from, hit.index));
      const sign = make("mark", {}, page.span, hit[0]);
      if (current && current.start === page.start && current.place === hit.index) sign.className = "ms-current";
      from = hit.index + hit[0].length;
    }
    page.span.append(page.text.slice(from));
  }
  function forget() {
    halted(false);
    [places, at, word, current, told] = [[], -1, "", null, ""];
    count();
  }
  function count() {
    const shown = places.length.toLocaleString("en");
    hits.textContent = !word ? "" : at >= 0 ? `${(at + 1).toLocaleString("en")} of ${shown}${told}` : `${search ? "" : places.length ? shown : "nothing"} ${search ? "" : "found"}${told}`.trim();
    halt.hidden = !search;
    back.disabled = on.disabled = !places.length;
  }
  /** @param {boolean} early */
  function halted(early) {
    if (!search) return;
    search.stop();
    search = null;
    told = early ? ", stopped" : told;
    count();
  }
  function find() {
    halted(false);
    places = [];
    at = -1;
    current = null;
    word = field.value;
    for (const page of pages) write(page);
    origin = sight()[0];
    told = "";
    if (!word) { count(); return; }
    following(false);
    const started = performance.now();
    const hear = (/** @type {{ places: number[], at: number, size: number }} */ part) => {
      const fresh = places.length;
      places.push(...part.places);
      told = `, ${Math.round((100 * part.at) / Math.max(1, part.size))} %`;
      if (at < 0) {
        const next = places.findIndex((place, number) => number >= fresh && place >= origin);
        if (next >= 0) show(next);
      }
      count();
    };
    search = desk.ask(question({ what: "search", word, at: 0 }), hear);
    count();
    search.answer.then((/** @type {{ at: number, size: number }} */ end) => {
      search = null;
      box.dataset.searchedMs = (performance.now() - started).toFixed(1);
      told = end.at < end.size ? ` in the first ${sizeText(end.at)}` : "";
      if (at < 0 && places.length) show(0);
      count();
    }, (/** @type {Error} */ error) => { search = null; say(error.message); count(); });
  }
  /** @param {number} number */
  function show(number) {
    at = number;
    jump("around", places[number], true);
    count();
  }
  /** @param {number} step */
  function go(step) {
    if (field.value !== word) find();
    else if (places.length) show((Math.max(at, step < 0 ? 0 : -1) + step + places.length) % places.length);
  }
  field.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    event.stopPropagation();
    if (event.key === "Enter") { event.preventDefault(); go(event.shiftKey ? -1 : 1); }
    if (event.key === "Escape" && field.value) {
      event.preventDefault();
      field.value = "";
      find();
    }
  });
  field.addEventListener("search", () => { if (!field.value && word) find(); });

  // -- moving

  first.onclick = () => { following(false); jump("from", 0); };
  last.onclick = () => jump("before", size);
  wrap.onclick = () => {
    const is = wrap.getAttribute("aria-pressed") !== "true";
    wrap.setAttribute("aria-pressed", String(is));
    box.classList.toggle("ms-wrap", is);
    grow();
  };
  box.addEventListener("scroll", () => {
    if (follows() && !atEnd()) following(false);
    grow();
  });
  box.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const page = box.clientHeight - 32;
    switch (event.key) {
      case "Home": first.click(); break;
      case "End": last.click(); break;
      case "PageDown": case " ": box.scrollTop += event.shiftKey && event.key === " " ? -page : page; break;
      case "PageUp": box.scrollTop -= page; break;
      case "ArrowDown": box.scrollTop += 18; break;
      case "ArrowUp": box.scrollTop -= 18; break;
      case "/": field.focus(); break;
      default: return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
  const sizes = new ResizeObserver(() => {
    if (follows() && pages.length) box.scrollTop = box.scrollHeight;
    grow();
  });
  sizes.observe(box);
  count();
  jump(live ? "before" : "from", live ? size : 0);
  const ready = setInterval(() => { if (pages.length) { clearInterval(ready); watch(); } }, 100);
  return {
    stop() {
      stopped = true;
      clearInterval(ready);
      sizes.disconnect();
      halted(false);
      leaveTail();
      if (growing) growing.stop();
    },
    ended() {
      live = false;
      follow.hidden = true;
      leaveTail();
      if (growing) growing.stop();
    },
  };
}

// -- other kinds of files -----------------------------------------------------------------------

/** @param {HTMLElement} parent @param {any} table @returns {Pane} */
function tablePane(parent, { head, rows, is_all, columns }) {
  const box = make("div", { class: "ms-grid-box", tabindex: "0", role: "group", "aria-label": "table" }, parent);
  const table = make("table", { class: "ms-data" }, box);
  const figures = head.map((/** @type {string} */ _, /** @type {number} */ column) => rows.length > 0 &&
    rows.slice(0, 50).every((/** @type {string[]} */ row) => !row[column] || Number.isFinite(Number(row[column]))));
  const names = make("tr", {}, make("thead", {}, table));
  head.forEach((/** @type {string} */ name, /** @type {number} */ column) => make("th", { scope: "col", class: figures[column] ? "ms-figure" : "" }, names, name));
  const body = make("tbody", {}, table);
  // Rows in sight, and room for the others.
  let high = 25, painted = -1;
  /** @param {number} rows_ */
  const room = (rows_) => { if (rows_ > 0) make("td", { colspan: Math.max(1, head.length), style: `height:${rows_ * high}px;padding:0;border:0` }, make("tr", { "aria-hidden": "true" }, body)); };
  function paint() {
    const from = Math.max(0, Math.min(Math.floor(box.scrollTop / high) - 4, rows.length - 1)), to = Math.min(rows.length, from + Math.ceil((box.clientHeight || 400) / high) + 8);
    if (from === painted) return;
    painted = from;
    body.replaceChildren();
    room(from);
    for (const row of rows.slice(from, to)) {
      const line = make("tr", {}, body);
      row.forEach((/** @type {string} */ cell, /** @type {number} */ column) => make("td", { class: figures[column] ? "ms-figure" : "", ...(cell.length > 24 ? { title: cell } : {}) }, line, cell));
    }
    room(rows.length - to);
  }
  paint();
  const line = body.querySelector("tr:not([aria-hidden])"), widths = [...names.children].map((cell) => /** @type {HTMLElement} */ (cell).getBoundingClientRect().width);
  if (line && line.getBoundingClientRect().height) {
    // From now on columns are as wide as they are, whichever rows are in sight.
    high = line.getBoundingClientRect().height;
    table.style.tableLayout = "fixed";
    table.style.width = `${widths.reduce((sum, width) => sum + width, 0)}px`;
    [...names.children].forEach((cell, column) => { /** @type {HTMLElement} */ (cell).style.width = `${widths[column]}px`; });
    painted = -1;
    paint();
  }
  box.addEventListener("scroll", paint);
  const sizes = new ResizeObserver(() => { painted = -1; paint(); });
  sizes.observe(box);
  const cut = columns > head.length ? `, ${head.length} of ${columns} columns` : "";
  make("div", { class: "ms-note ms-foot" }, parent, `${is_all ? "" : "the first "}${rows.length.toLocaleString("en")} rows${cut}${is_all ? "" : "; the file has more"}`);
  return { stop: () => sizes.disconnect() };
}

/**
 * @param {HTMLElement} parent @param {(more: object) => Promise<any>} ask
 */
async function treePane(parent, ask) {
  const box = make("div", { class: "ms-grid-box" }, parent);
  const tree = growTree(box, "JSON");
  /** @param {number[]} places @param {number} from @param {number} total @returns {Promise<Leaf[]>} */
  async function inside(places, from, total) {
    const to = Math.min(total, from + ENTRIES), { entries } = await ask({ what: "tree", places, at: from });
    return entries.slice(0, to - from).map((/** @type {any} */ entry, /** @type {number} */ number) => leafOf(entry, [...places, from + number]));
  }
  /** @param {number[]} places @param {number} from @param {number} to @returns {Leaf[]} ranges that are short enough to be opened */
  function ranges(places, from, to) {
    let step = ENTRIES;
    while ((to - from) / step > ENTRIES) step *= ENTRIES;
    const some = [];
    for (let at_ = from; at_ < to; at_ += step) {
      const end = Math.min(to, at_ + step);
      some.push({
        draw: (/** @type {HTMLElement} */ row) => make("span", { class: "ms-note" }, row, `${at_} to ${end - 1}`),
        open: async () => (step === ENTRIES ? inside(places, at_, end) : ranges(places, at_, end)),
      });
    }
    return some;
  }
  /** @param {any} entry @param {number[]} places @returns {Leaf} */
  function leafOf(entry, places) {
    const holds = entry.kind === "object" || entry.kind === "list";
    return {
      draw(row) {
        if (entry.name) make("span", { class: "ms-name" }, row, entry.name);
        if (holds) make("span", { class: "ms-note" }, row, entry.kind === "object" ? `{ ${entry.size} }` : `[ ${entry.size} ]`);
        make("span", { class: holds ? "ms-note ms-said" : `ms-said ms-is-${entry.kind}` }, row, entry.said);
      },
      open: holds && entry.size ? async () => (entry.size > ENTRIES ? ranges(places, 0, entry.size) : inside(places, 0, entry.size)) : undefined,
    };
  }
  const { total, entries } = await ask({ what: "tree", places: [], at: 0 });
  tree.show(total > ENTRIES ? ranges([], 0, total) : entries.map((/** @type {any} */ entry, /** @type {number} */ number) => leafOf(entry, [number])));
}

/**
 * Fetch a file in pieces, so that neither kernel nor page holds more of it than the browser's own store.
 * @param {(more: object) => Promise<any>} ask @param {FileInfo} info
 * @param {(share: number) => boolean} told told how far it is; says whether to go on
 * @returns {Promise<Blob | null>}
 */
async function fetchFile(ask, info, told) {
  const pieces = [];
  let at = 0, file = "";
  while (at < info.size) {
    const piece = await ask({ what: "bytes", at, count: PIECE_BYTES });
    if ((file && piece.file !== file) || !piece.content || !piece.content.byteLength) throw new Error("The file has become another one meanwhile: it was not saved.");
    file = piece.file;
    pieces.push(new Blob([piece.content]));
    at += piece.content.byteLength;
    if (!told(at / info.size)) return null;
  }
  return new Blob(pieces, { type: info.type });
}

/** @param {Blob} blob @param {string} name */
function saveAs(blob, name) {
  const url = URL.createObjectURL(blob), link = make("a", { href: url, download: name.split("/").pop() || "file" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

/** @param {Blob} blob @returns {Promise<string>} as a text that a picture can be made of, and that is of no origin */
function dataUrl(blob) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(String(reader.result));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(blob);
  });
}

// -- the browser ---------------------------------------------------------------------------------

/**
 * Browse an attempt.
 * @param {Element} parent @param {Desk} desk @param {Which} start @param {Look[]} looks
 * @param {{ shown?: (which: Which) => void, close?: () => void }} [heard]
 */
function attemptBrowser(parent, desk, start, looks, heard = {}) {
  const root = make("div", { class: "ms-view ms-browse" }, parent);
  const head = make("div", { class: "ms-browse-head" }, root);
  const status = make("span", { class: "ms-browse-status" }, head);
  const title = make("strong", { class: "ms-browse-title" }, head);
  const attempts = make("select", { class: "ms-button", "aria-label": "attempt" }, head);
  const facts = make("span", { class: "ms-note ms-browse-facts" }, head);
  make("span", { class: "ms-gap" }, head);
  const busy = make("span", { class: "ms-note", role: "status", hidden: "" }, head, "the kernel is busy: this comes as soon as it can");
  const home = iconButton("back", "back to the attempt before", head, () => { const which = trail.pop(); if (which) go(which, false); });
  if (heard.close) iconButton("close", "close (Escape)", head, heard.close);
  const body = make("div", { class: "ms-browse-body" }, root);
  const side = make("nav", { class: "ms-browse-side", "aria-label": "logs and files" }, body);
  make("div", { class: "ms-browse-caption" }, side, "Logs and origin");
  const logs = growTree(side, "logs and origin");
  const caption = make("div", { class: "ms-browse-caption" }, side, "Files");
  iconButton("retry", "look again which files there are", caption, () => list());
  const files = growTree(side, "files");
  const main = make("section", { class: "ms-browse-main", "aria-label": "what is chosen" }, body);

  /** @type {Which} */
  let which = { ...start };
  /** @type {any} */
  let about = null;
  /** @type {Pane | null} */
  let pane = null;
  /** @type {Which[]} where one came from */
  const trail = [];
  let turn = 0;
  const LIVE = new Set(["RUNNING", "SUBMITTED", "WAITING"]);
  const isLive = () => Boolean(about) && LIVE.has(about.look);
  desk.late((is) => { busy.hidden = !is; });

  /** @param {object} more @returns {Question} */
  const of = (more) => ({ what: "", run: which.run || "", task: which.task, iteration: which.iteration, attempt: which.attempt, ...more });
  const ask = (/** @type {object} */ more) => desk.ask(of(more)).answer;

  /** @param {string} text @param {Element} [where] */
  function fail(text, where = main) {
    where.replaceChildren(make("div", { class: "ms-browse-empty", role: "alert" }, null, text));
  }
  function leave() {
    if (pane) pane.stop();
    pane = null;
    main.replaceChildren();
  }

  /** @param {Which} next @param {boolean} keeps whether one can come back */
  async function go(next, keeps = true) {
    if (keeps && about) trail.push({ ...which });
    leave();
    which = { ...next };
    about = null;
    await load();
  }

  async function load() {
    const mine = ++turn;
    home.hidden = !trail.length;
    try {
      const found = await ask({ what: "attempt" });
      if (mine !== turn) return;
      about = found;
    } catch (error) {
      if (mine === turn) {
        title.textContent = which.task;
        fail(/** @type {Error} */ (error).message);
      }
      return;
    }
    which = { ...which, task: about.task, iteration: about.iteration, attempt: about.attempt };
    top();
    await list();
    if (mine !== turn || pane || main.firstChild) return;
    const wanted = which.path !== undefined ? which.path : (about.logs.find((/** @type {any} */ log) => log.size) || about.logs[0] || {}).key;
    if (wanted === ":links") openLinks();
    else if (wanted !== undefined) openFile(wanted);
    else fail(about.gone ? `There are no files: ${about.gone}.` : "It has written no log. Choose a file.");
  }

  /** Say which logs and files there are; what is a log is no file besides. */
  async function list() {
    const asked = which;
    logs.show([...about.logs.map((/** @type {any} */ log) => fileLeaf({ ...log, kind: "text" })), {
      key: ":links",
      draw: (/** @type {HTMLElement} */ row) => { symbol("tree", row); make("span", { class: "ms-name" }, row, "made from, used by"); },
      act: openLinks,
    }]);
    const known = new Set(about.logs.map((/** @type {any} */ log) => log.key));
    let some = [note(about.gone || "")];
    if (!about.gone) {
      try { some = (await folder("")).filter((leaf) => !leaf.key || !known.has(leaf.key)); } catch (error) { some = [note(/** @type {Error} */ (error).message)]; }
    }
    if (asked.task !== which.task || asked.attempt !== which.attempt || asked.run !== which.run) return;
    files.show(some.length ? some : [note("nothing")]);
    for (const tree of [logs, files]) if (which.path) tree.select(which.path);
  }

  function top() {
    const look = looks.find((one) => one.name === about.look);
    status.replaceChildren();
    if (look) icon(look, 14, status);
    make("span", {}, status, about.status);
    if (look) status.style.borderColor = look.colour;
    title.textContent = about.name;
    title.title = about.directory;
    attempts.replaceChildren();
    for (const one of about.attempts) make("option", { value: one.attempt }, attempts, `attempt ${one.attempt}: ${one.status}`);
    attempts.value = String(about.attempt);
    attempts.hidden = about.attempts.length < 2;
    const [submitted, started, ended] = about.times, since = started || submitted;
    const took = started && ended ? `, took ${ended - started < 100 ? (ended - started).toFixed(1) : Math.round(ended - started)} s` : "";
    const others = about.is_here ? "" : `of the run ${about.run}, `;
    const alone = about.attempts.length < 2 ? `attempt ${about.attempt}, ` : "";
    [facts.title, facts.textContent] = [`${moment(since)[0]}\n${about.directory}`, `${others}${alone}since ${moment(since)[1]}${took}`];
  }
  attempts.onchange = () => go({ ...which, attempt: Number(attempts.value), path: undefined }, false);

  /** @param {string} text @returns {Leaf} */
  const note = (text) => ({ draw: (row) => make("span", { class: "ms-note" }, row, text) });

  /** @param {{ name: string, key: string, size: number, kind: string }} entry @returns {Leaf} */
  function fileLeaf(entry) {
    return {
      key: entry.key,
      draw(row) {
        symbol(KIND_ICONS[entry.kind] || "file", row);
        make("span", { class: "ms-name", title: entry.name }, row, entry.name);
        const said = entry.kind === "folder" ? "" : entry.kind === "link" ? "link" : entry.kind === "other" ? "no file" : sizeText(entry.size);
        make("span", { class: "ms-size" }, row, said);
        if (entry.name.startsWith(".")) row.classList.add("ms-soft");
      },
      open: entry.kind === "folder" ? () => folder(entry.key) : undefined,
      act: entry.kind === "folder" ? undefined : () => openFile(entry.key),
    };
  }
  /** @param {string} path @returns {Promise<Leaf[]>} */
  async function folder(path) {
    const { entries, more } = await ask({ what: "folder", path });
    return [...entries.map(fileLeaf), ...(more ? [note(`and ${more.toLocaleString("en")} more`)] : [])];
  }

  /** @param {string} key */
  function choose(key) {
    leave();
    logs.select(key);
    files.select(key);
    which.path = key;
    if (heard.shown) heard.shown({ ...which });
  }

  /** @param {string} path @param {string} [as] another kind than it is */
  async function openFile(path, as) {
    choose(path);
    const mine = ++turn;
    /** @type {FileInfo} */
    let info;
    try { info = await ask({ what: "file", path }); } catch (error) {
      if (mine === turn) fail(/** @type {Error} */ (error).message);
      return;
    }
    if (mine !== turn) return;
    const kind = as || info.kind, bar = make("div", { class: "ms-browse-bar" }, main);
    make("span", { class: "ms-browse-path", title: info.where }, bar, info.name);
    const size = make("span", { class: "ms-note", title: moment(info.changed)[0] }, bar, `${sizeText(info.size)}, ${moment(info.changed)[1]}`);
    make("span", { class: "ms-gap" }, bar);
    const said = make("span", { class: "ms-note", role: "status" }, bar);
    if (["table", "tree", "structure"].includes(info.kind) || info.type === "image/svg+xml" || as) {
      const other = as ? info.kind : "text";
      iconButton(KIND_ICONS[other] || "text", as ? `show it as a ${info.kind}` : "show it as text", bar, () => openFile(path, as ? undefined : "text"), (as ? info.kind : "text").replace(/^./, (letter) => letter.toUpperCase()));
    }
    const save = iconButton("download", "save it", bar, () => download(info, path, save, said), "Save");
    const tools = make("div", { class: "ms-browse-bar" }, main);
    const area = make("div", { class: "ms-browse-area" }, main);
    cell(info.cell);
    const about_ = (/** @type {object} */ more) => of({ ...more, path });
    const inquire = (/** @type {object} */ more) => desk.ask(about_(more)).answer;
    tools.hidden = kind !== "text";
    try {
      if (kind === "text") pane = textPane(tools, area, desk, about_, info, isLive(), (is) => { size.textContent = sizeText(is); });
      else if (kind === "table") {
        const table = await inquire({ what: "table" });
        if (mine === turn) pane = tablePane(area, table);
      }
      else if (kind === "tree") await treePane(area, inquire);
      else if (kind === "structure") {
        const data = await inquire({ what: "structure" });
        if (mine !== turn) return;
        const scene = structureScene(area, data, () => inquire({ what: "structure", all: true }).then((more) => { if (mine === turn) scene.show(more); }, (error) => { said.textContent = error.message; }));
        pane = { stop: scene.stop };
      }
      else if (kind === "picture") await picture(area, inquire, info, () => mine === turn);
      else if (kind === "array") {
        const { shape, dtype, in_columns, said: numbers } = await inquire({ what: "array" });
        make("div", { class: "ms-foot" }, area, `shape (${shape.join(", ")}), ${dtype}${in_columns ? ", column by column" : ""}`);
        make("pre", { class: "ms-plain-text", tabindex: "0" }, area, numbers);
      } else await bytes(area, inquire, info);
    } catch (error) {
      if (mine !== turn) return;
      make("div", { class: "ms-browse-empty", role: "alert" }, area, /** @type {Error} */ (error).message);
    }
  }

  /** @param {HTMLElement} area @param {(more: object) => Promise<any>} inquire @param {FileInfo} info */
  async function bytes(area, inquire, info) {
    make("pre", { class: "ms-plain-text", tabindex: "0" }, area, (await inquire({ what: "hex" })).said);
    make("div", { class: "ms-note ms-foot" }, area, info.size > 1024 ? `the first kilobyte of ${sizeText(info.size)}` : `all of it`);
  }

  /** @param {HTMLElement} area @param {(more: object) => Promise<any>} inquire @param {FileInfo} info @param {() => boolean} wanted */
  async function picture(area, inquire, info, wanted) {
    if (info.size > UNASKED_BYTES) {
      const asks = make("div", { class: "ms-browse-empty" }, area, `The picture has ${sizeText(info.size)}. `);
      await new Promise((done) => { make("button", { type: "button", class: "ms-button" }, asks, "Show it all the same").onclick = done; });
      asks.remove();
    }
    const blob = await fetchFile(inquire, info, wanted);
    if (!blob || !wanted()) return;
    // An SVG has no origin then, also where somebody opens it in a page of its own.
    const url = info.type === "image/svg+xml" ? await dataUrl(blob) : URL.createObjectURL(blob);
    const box = make("div", { class: "ms-browse-picture", tabindex: "0", role: "group", "aria-label": "picture" }, area);
    const image = make("img", { alt: info.name, src: url }, box);
    image.onload = () => make("div", { class: "ms-note ms-foot" }, area, `${image.naturalWidth} by ${image.naturalHeight} pixels`);
    image.onerror = () => { box.remove(); make("div", { class: "ms-browse-empty", role: "alert" }, area, "It is no picture that a browser can show."); bytes(area, inquire, info); };
    pane = { stop: () => { if (url.startsWith("blob:")) URL.revokeObjectURL(url); } };
  }

  /** @param {FileInfo} info @param {string} path @param {any} button @param {HTMLElement} said */
  async function download(info, path, button, said) {
    if (button.dataset.stops) { delete button.dataset.stops; return; }
    if (info.size > MOST_SAVED_BYTES) { said.textContent = `It has ${sizeText(info.size)}: too much for a page. It lies at ${info.where}`; return; }
    if (info.size > UNASKED_BYTES && !button.dataset.sure) {
      button.dataset.sure = "1";
      said.textContent = `${sizeText(info.size)}: press Save again`;
      return;
    }
    button.dataset.stops = "1";
    try {
      const told = (/** @type {number} */ share) => { said.textContent = share < 1 ? `${Math.round(100 * share)} %, Save stops` : ""; return Boolean(button.dataset.stops); };
      const blob = await fetchFile((more) => desk.ask(of({ ...more, path })).answer, info, told);
      if (blob) saveAs(blob, info.name);
      said.textContent = blob ? "saved" : "stopped";
    } catch (error) { said.textContent = /** @type {Error} */ (error).message; }
    delete button.dataset.stops;
    delete button.dataset.sure;
  }

  /** @param {string} text Python that gets the file */
  function cell(text) {
    const strip = make("div", { class: "ms-browse-cell" }, main);
    const code = make("code", { tabindex: "0", "aria-label": "the cell that gets it" }, strip, text);
    const button = iconButton("copy", "copy the cell that gets it", strip, async () => {
      try { await navigator.clipboard.writeText(text); label.textContent = "Copied"; } catch {
        getSelection()?.selectAllChildren(code);
        label.textContent = "Press Ctrl C";
      }
      setTimeout(() => { label.textContent = "Copy cell"; }, 2000);
    }, "Copy cell");
    const label = button.querySelector("span");
  }

  // -- what it was made from

  async function openLinks() {
    choose(":links");
    const mine = ++turn;
    /** @param {Which} whose @param {string} way @returns {Promise<any>} */
    const links = (whose, way) => desk.ask({ what: "links", way, run: whose.run || "", task: whose.task, iteration: whose.iteration, attempt: whose.attempt }).answer;
    /** @param {any} link @param {string} way @returns {Leaf} */
    const linkLeaf = (link, way) => {
      const next = link.task ? { run: link.run, task: link.task, iteration: link.iteration, attempt: link.attempt } : null;
      return {
        draw(row) {
          symbol("file", row);
          make("span", { class: "ms-name", title: link.path }, row, link.path || "a file");
          make("span", { class: "ms-note" }, row, way === "up" ? (next ? "of" : "from outside") : "in");
          if (next) make("span", { class: "ms-link" }, row, link.label);
          if (next && !link.is_here) make("span", { class: "ms-note" }, row, `of the run ${link.run}`);
          if (link.takes !== link.path) make("span", { class: "ms-note ms-said" }, row, `as ${link.takes}`);
          if (link.sha256) make("code", { class: "ms-size", title: `SHA-256 ${link.sha256}` }, row, link.sha256.slice(0, 8));
        },
        open: next ? async () => leaves(await links(next, way), way) : undefined,
        act: next ? () => go({ ...next }) : undefined,
      };
    };
    /** @param {any} said @param {string} way @returns {Leaf[]} */
    const leaves = (said, way) => [...said.links.map((/** @type {any} */ link) => linkLeaf(link, way)), ...(said.more ? [note(`and ${said.more} more`)] : [])];
    const area = make("div", { class: "ms-browse-links" }, main);
    for (const [way, name, none] of [["up", "Made from", "It took nothing of other tasks."], ["down", "Used by", "Nothing has taken anything of it."]]) {
      const part = make("section", {}, area);
      make("h4", {}, part, name);
      const wait = make("div", { class: "ms-note" }, part, "…");
      links(which, way).then((said) => {
        if (mine !== turn) return;
        wait.remove();
        const some = leaves(said, way);
        if (some.length) growTree(part, name).show(some);
        else make("div", { class: "ms-note" }, part, none);
        if (!said.facts || !said.facts.length) return;
        const table = make("table", { class: "ms-browse-table" }, part);
        for (const [what, text] of said.facts) {
          const line = make("tr", {}, table);
          make("th", { scope: "row" }, line, what);
          make("td", {}, line, text);
        }
      }, (error) => { wait.textContent = error.message; });
    }
    make("div", { class: "ms-note ms-foot" }, main, "A row opens what lies behind it; the name of an attempt leads there.");
  }

  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" && event.key !== "Tab") event.stopPropagation(); // the notebook has keys of its own
  });
  desk.changed((said) => {
    if (!about || said.run !== about.run || said.name !== about.name) return;
    if (said.attempt !== about.attempt) { // there is another attempt by now
      if (said.attempts.length > about.attempts.length) { about.attempts = said.attempts; top(); }
      return;
    }
    const was = isLive();
    about = said;
    top();
    if (was && !isLive() && pane && pane.ended) pane.ended();
    list();
  });
  load();
  return { root, stop() { turn++; leave(); } };
}

/**
 * Open a browser in a dialog where a button of Python's text asks for one.
 * @param {any} model @param {HTMLElement} root of the view @param {Element} text
 * @returns {() => void} what stops that
 */
function opensBrowser(model, root, text) {
  /** @type {() => void} */
  let close = () => {};
  const open = (/** @type {Event} */ event) => {
    const button = event.target instanceof Element && event.target.closest("[data-open]");
    if (!button) return;
    const said = button.getAttribute("data-open") || "{}", dialog = make("dialog", { class: "ms-view ms-browse-dialog", "aria-label": "logs and files" }, root);
    const desk = deskOf(model);
    const browser = attemptBrowser(dialog, desk, JSON.parse(said), model.get("looks"), { close: () => dialog.close() });
    close = () => dialog.close();
    dialog.addEventListener("close", () => {
      browser.stop();
      desk.stop();
      dialog.remove();
      close = () => {};
      // What Python says of a task that runs is written anew: the button is another one by then.
      const alike = /** @type {HTMLElement[]} */ ([...text.querySelectorAll("[data-open]")]).filter((other) => other.getAttribute("data-open") === said && other.offsetParent);
      const again = /** @type {HTMLElement | undefined} */ (button.isConnected ? button : alike[0]);
      if (again) again.focus();
    });
    dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ key) => key.stopPropagation());
    dialog.addEventListener("click", (/** @type {MouseEvent} */ click) => { if (click.target === dialog) dialog.close(); });
    dialog.showModal();
  };
  text.addEventListener("click", open);
  return () => { text.removeEventListener("click", open); close(); };
}
