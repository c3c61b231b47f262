// @ts-check
// A structure or trajectory that is turned: spheres and bonds on a canvas, without a library and without WebGL, of which a page has few.

/**
 * @typedef {{ symbol: string, radius: number, colour: string, metal: boolean }} Kind
 * What Python's Frames.as_data gives: `numbers` and `positions` (float32) are base64, those of all frames after each other.
 * @typedef {{ counts: number[], atoms: number, most: number, numbers: string, positions: string, cells: (number[] | null)[],
 *   pbc: boolean[][], elements: Record<string, Kind>, formula: string, total: number, step: number }} StructureData
 * @typedef {{ x: Float64Array, y: Float64Array, z: Float64Array, number: Uint8Array, index: Int32Array, count: number }} DrawnAtoms
 */

/** Of a bond, in covalent radii of both atoms; as in structure_picture.py, as the radii drawn and the first view are. */
const BOND_RATIO = 1.15, LEAST_BOND_A = 0.1, BOND_HALF_WIDTH_A = 0.09;
const MOST_LOOKS = 4e6, MOST_DRAWN = 20000;
/** With more of them, bonds are left out while it is being moved. */
const MANY_BONDS = 4000, STILL_MS = 150, UNANSWERED_MS = 3000;
const FOG_LEVELS = 8, MOST_FOG = 0.55, DEPTH_BUCKETS = 4096;
const FRAMES_PER_S = 12, TURN_STEP = Math.PI / 18;
/** Atoms this near to a face of the cell are shown at the opposite one, too. */
const FACE = 0.01;
/** @type {number[]} */
const FIRST_VIEW = (() => {
  const turn = (-25 * Math.PI) / 180, tilt = (12 * Math.PI) / 180;
  const [c, s, ct, st] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
  return [c, -s, 0, s * st, c * st, ct, -s * ct, -c * ct, st]; // right, up, near
})();

/** @param {string} text base64 @returns {Uint8Array} */
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
/** @param {number[]} m @param {number[]} n @returns {number[]} the product of two 3 by 3 matrices */
const product = (m, n) => [0, 1, 2].flatMap((row) => [0, 1, 2].map((column) =>
  m[3 * row] * n[column] + m[3 * row + 1] * n[3 + column] + m[3 * row + 2] * n[6 + column]));
/** @param {number} radius @returns {number} of the sphere that is drawn */
const drawnRadius = (radius) => 0.22 + 0.35 * radius;
/** @param {number[]} colour @param {number[]} other @param {number} share */
const mixedRgb = (colour, other, share) => colour.map((part, at) => Math.round(part * (1 - share) + other[at] * share));
/** @param {number[]} rgb */
const cssOf = (rgb) => `rgb(${rgb[0]},${rgb[1]},${rgb[2]})`;

/**
 * Which atoms are joined: two metals only where most atoms of one of them are not joined to anything else.
 * @param {DrawnAtoms} atoms @param {Record<string, Kind>} elements
 * @returns {[Int32Array, Int32Array]}
 */
function bondsOf(atoms, elements) {
  const { x, y, z, number, index, count } = atoms;
  const widest = 2 * BOND_RATIO * Math.max(...Object.values(elements).map(({ radius }) => radius));
  /** @type {Map<string, number[]>} */
  const boxes = new Map();
  const at = (/** @type {number} */ i, /** @type {number} */ j, /** @type {number} */ k) => `${i},${j},${k}`;
  const placeOf = (/** @type {number} */ i) => [Math.floor(x[i] / widest), Math.floor(y[i] / widest), Math.floor(z[i] / widest)];
  /** @type {[number[], number[]]} */
  const [first, second] = [[], []];
  const bound = new Uint8Array(count);
  let looks = 0;
  for (let i = 0; i < count; i++) {
    const [p, q, r] = placeOf(i), one = elements[number[i]];
    for (let a = -1; a <= 1; a++) for (let b = -1; b <= 1; b++) for (let c = -1; c <= 1; c++) {
      for (const j of boxes.get(at(p + a, q + b, r + c)) || []) {
        if (++looks > MOST_LOOKS) return [new Int32Array(0), new Int32Array(0)]; // all in one place
        const other = elements[number[j]], reach = BOND_RATIO * (one.radius + other.radius);
        const apart = (x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2 + (z[i] - z[j]) ** 2;
        if (apart >= reach * reach || apart <= LEAST_BOND_A ** 2) continue;
        first.push(j);
        second.push(i);
        if (one.metal !== other.metal) bound[index[one.metal ? i : j]] = 1;
      }
    }
    const here = at(p, q, r), box = boxes.get(here);
    if (box) box.push(i);
    else boxes.set(here, [i]);
  }
  // Of an element together: an atom at the border of what is drawn has lost some of its neighbours.
  const [there, joined] = [new Uint32Array(256), new Uint32Array(256)];
  for (let i = 0; i < count; i++) { there[number[i]]++; joined[number[i]] += bound[index[i]]; }
  const isBound = there.map((all, of) => Number(2 * joined[of] > all));
  const kept = first.map((_, bond) => bond).filter((bond) => !(isBound[number[first[bond]]] && isBound[number[second[bond]]]));
  return [Int32Array.from(kept, (bond) => first[bond]), Int32Array.from(kept, (bond) => second[bond])];
}

/**
 * Show a structure in an element of the page. `more` is called when somebody asks for all atoms: give them to `show`.
 * @param {Element} parent
 * @param {StructureData} data
 * @param {() => void} [more]
 */
function structureScene(parent, data, more = () => {}) {
  const root = make("div", { class: "ms-view ms-structure" }, parent);
  const bar = make("div", { class: "ms-bar" }, root);
  const title = make("strong", {}, bar), about = make("span", { class: "ms-note" }, bar);
  const all = make("button", { type: "button", class: "ms-button", hidden: "" }, bar);
  make("span", { class: "ms-gap" }, bar);
  const images = make("select", { class: "ms-button", "aria-label": "images of the cell", title: "images of the cell" }, bar);
  const sides = make("span", { class: "ms-structure-group", role: "group", "aria-label": "look along" }, bar);
  const sizes = make("span", { class: "ms-structure-group", role: "group", "aria-label": "size" }, bar);
  const stage = make("div", { class: "ms-structure-stage" }, root);
  const canvas = make("canvas", { tabindex: 0, role: "application", "aria-roledescription": "structure",
    "aria-label": "structure: arrow keys turn, with Shift they move it; plus and minus zoom, 0 resets; n and p go from atom to atom, "
      + "m measures from it, Escape lets it go; space plays, page up and page down go from frame to frame" }, stage);
  const legend = make("div", { class: "ms-structure-legend" }, stage);
  const told = make("div", { class: "ms-structure-told", role: "status" }, stage);
  const foot = make("div", { class: "ms-bar ms-structure-foot" }, root);
  const play = make("button", { type: "button", class: "ms-button", title: "play", "aria-label": "play" }, foot);
  const slider = make("input", { type: "range", min: 0, value: 0, "aria-label": "frame" }, foot);
  const which = make("span", { class: "ms-note" }, foot);

  /** @type {Uint8Array} */ let numbers;
  /** @type {Float32Array} */ let positions;
  /** @type {number[]} */ let starts = [];
  /** @type {DrawnAtoms} */ let atoms;
  /** @type {Int32Array} */ let bondA;
  /** @type {Int32Array} */ let bondB;
  let frame = 0, playing = false, repeats = "1";
  let view = FIRST_VIEW, zoomed = 1, [shiftX, shiftY] = [0, 0];
  let centre = [0, 0, 0], reach = 1, isPlaced = false, settled = false;
  /** @type {number[]} the selected atoms, one or two, as drawn */ let chosen = [];
  let marked = false;
  let [width, height, ratio] = [0, 0, 1];
  /** @type {Float32Array} */ let px = new Float32Array(0);
  /** @type {Float32Array} */ let py = px;
  /** @type {Float32Array} */ let pz = px;

  // -- what there is to draw --------------------------------------------------------------------

  /** @param {StructureData} next */
  function show(next) {
    data = next;
    numbers = bytesOf(data.numbers);
    positions = new Float32Array(bytesOf(data.positions).buffer);
    starts = [0];
    for (const count of data.counts) starts.push(starts[starts.length - 1] + count);
    settled = data.counts.every((count) => count === data.counts[0]);
    frame = Math.min(frame, data.counts.length - 1);
    const periodic = data.pbc.some((axes) => axes.some(Boolean));
    images.replaceChildren();
    images.hidden = !periodic;
    for (const [value, text] of [["1", "one cell"], ["faces", "cell with its faces"], ["2", "2 × 2 × 2 cells"], ["3", "3 × 3 × 3 cells"]]) {
      make("option", { value }, images, text);
    }
    repeats = periodic && data.counts.length === 1 && data.counts[0] === data.atoms && data.atoms <= 500 ? "faces" : "1";
    images.value = repeats;
    all.hidden = data.counts[0] >= Math.min(data.atoms, data.most);
    all.textContent = `draw ${data.atoms > data.most ? `the first ${data.most.toLocaleString("en")}` : `all ${data.atoms.toLocaleString("en")}`} atoms`;
    foot.hidden = data.counts.length < 2;
    slider.max = data.counts.length - 1;
    legend.replaceChildren();
    for (const { symbol: name, colour } of Object.values(data.elements)) {
      const entry = make("span", {}, legend);
      make("i", { style: `background:${colour}` }, entry);
      entry.append(name);
    }
    sides.replaceChildren();
    for (const [axis, name] of (data.cells[0] ? ["a", "b", "c"] : ["x", "y", "z"]).entries()) {
      make("button", { type: "button", class: "ms-button", title: `look along ${name}`, "aria-label": `look along ${name}` }, sides, name)
        .onclick = () => lookAlong(axis);
    }
    isPlaced = false;
    chosen = [];
    sprites.clear();
    turnTo(frame);
  }

  /** @param {number} next */
  function turnTo(next) {
    const kept = frame === next || settled ? chosen : [];
    frame = next;
    slider.value = frame;
    chosen = kept;
    arrange();
    const now = `frame ${frame + 1} of ${data.counts.length}`;
    which.textContent = data.step > 1 ? `${now}: every ${data.step}th of ${data.total.toLocaleString("en")}, this is ${frame * data.step}` : now;
    slider.setAttribute("aria-valuetext", now);
    const count = data.counts[frame];
    title.textContent = data.formula;
    about.textContent = count < data.atoms && settled ? `${count.toLocaleString("en")} of ${data.atoms.toLocaleString("en")} atoms`
      : `${count.toLocaleString("en")} atom${count === 1 ? "" : "s"}`;
    say();
    again();
  }

  /** Put the atoms of this frame, and their images, where they are, and join them. */
  function arrange() {
    const cell = data.cells[frame], start = starts[frame], count = data.counts[frame];
    const shifts = shiftsOf(cell, start, count);
    const total = shifts.reduce((sum, of) => sum + of.length, 0);
    /** @type {DrawnAtoms} */
    const drawn = { x: new Float64Array(total), y: new Float64Array(total), z: new Float64Array(total),
      number: new Uint8Array(total), index: new Int32Array(total), count: total };
    // The atoms themselves come first: what is selected stays so when its images change.
    let at = 0;
    for (const isImage of [false, true]) {
      for (let i = 0; i < count; i++) {
        for (const [n, [a, b, c]] of shifts[i].entries()) {
          if (n > 0 !== isImage) continue;
          const moved = (/** @type {number} */ axis) =>
            positions[3 * (start + i) + axis] + (cell ? a * cell[axis] + b * cell[3 + axis] + c * cell[6 + axis] : 0);
          [drawn.x[at], drawn.y[at], drawn.z[at]] = [moved(0), moved(1), moved(2)];
          drawn.number[at] = numbers[start + i];
          drawn.index[at++] = i;
        }
      }
    }
    atoms = drawn;
    chosen = chosen.filter((atom) => atom < total);
    [bondA, bondB] = bondsOf(atoms, data.elements);
    [px, py, pz] = [new Float32Array(total), new Float32Array(total), new Float32Array(total)];
    if (!isPlaced || !settled) place();
  }

  /** @param {number[] | null} cell @param {number} start @param {number} count @returns {number[][][]} of each atom, in cells */
  function shiftsOf(cell, start, count) {
    const alone = [[0, 0, 0]], pbc = data.pbc[frame], every = Number(repeats) || 1;
    const sizes3 = pbc.map((repeat) => (repeat ? every : 1)), copies = sizes3[0] * sizes3[1] * sizes3[2];
    const inverse = cell && repeats === "faces" ? inverseOf(cell) : null;
    if (!cell || copies * count > MOST_DRAWN || (repeats === "faces" && !inverse)) return Array.from({ length: count }, () => alone);
    if (!inverse) {
      /** @type {number[][]} */
      const grid = [];
      for (let a = 0; a < sizes3[0]; a++) for (let b = 0; b < sizes3[1]; b++) for (let c = 0; c < sizes3[2]; c++) grid.push([a, b, c]);
      return Array.from({ length: count }, () => grid);
    }
    return Array.from({ length: count }, (_, i) => {
      const [x, y, z] = positions.subarray(3 * (start + i), 3 * (start + i) + 3);
      const choices = [0, 1, 2].map((axis) => {
        const part = x * inverse[axis] + y * inverse[3 + axis] + z * inverse[6 + axis];
        if (!pbc[axis]) return [0];
        return Math.abs(part) < FACE ? [0, 1] : Math.abs(part - 1) < FACE ? [0, -1] : [0];
      });
      return choices[0].flatMap((a) => choices[1].flatMap((b) => choices[2].map((c) => [a, b, c])));
    });
  }

  /** @param {number[]} m @returns {number[] | null} */
  function inverseOf(m) {
    const [a, b, c, d, e, f, g, h, i] = m;
    const volume = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
    if (Math.abs(volume) < 1e-9) return null;
    return [e * i - f * h, c * h - b * i, b * f - c * e, f * g - d * i, a * i - c * g, c * d - a * f, d * h - e * g, b * g - a * h, a * e - b * d]
      .map((part) => part / volume);
  }

  /** Corners of what is drawn as a box: the cell, and around all of its images. @returns {number[][][]} */
  function boxesOf() {
    const cell = data.cells[frame];
    if (!cell) return [];
    const every = Number(repeats) || 1;
    const most = data.pbc[frame].map((repeat) => (repeat && atoms.count > data.counts[frame] ? every : 1));
    const corners = (/** @type {number[]} */ n) => Array.from({ length: 8 }, (_, corner) => [0, 1, 2].map((axis) =>
      [0, 1, 2].reduce((sum, v) => sum + ((corner >> v) & 1) * n[v] * cell[3 * v + axis], 0)));
    return most.some((n) => n > 1) ? [corners([1, 1, 1]), corners(most)] : [corners([1, 1, 1])];
  }

  /** Find the middle of all, and how far it reaches. */
  function place() {
    const points = boxesOf().flat(), low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    const along = [atoms.x, atoms.y, atoms.z];
    for (let axis = 0; axis < 3; axis++) {
      for (const part of along[axis]) { low[axis] = Math.min(low[axis], part); high[axis] = Math.max(high[axis], part); }
      for (const point of points) { low[axis] = Math.min(low[axis], point[axis]); high[axis] = Math.max(high[axis], point[axis]); }
    }
    centre = low.map((part, axis) => (part + high[axis]) / 2);
    const far = (/** @type {number[]} */ point) => Math.hypot(...point.map((part, axis) => part - centre[axis]));
    reach = 1;
    for (let i = 0; i < atoms.count; i++) {
      reach = Math.max(reach, far([atoms.x[i], atoms.y[i], atoms.z[i]]) + drawnRadius(data.elements[atoms.number[i]].radius));
    }
    for (const point of points) reach = Math.max(reach, far(point));
    isPlaced = true;
  }

  // -- drawing ----------------------------------------------------------------------------------

  /** @type {Map<number, HTMLCanvasElement>} by element and fog, for one scale and theme */
  const sprites = new Map();
  let spritesFor = "", ground = [255, 255, 255], ink = [34, 34, 34], accent = "#1976d2";
  /** @type {Map<string, number[]>} */
  const colours = new Map();
  const probe = make("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });

  /** @param {string} css @returns {number[]} */
  function rgbOf(css) {
    let found = colours.get(css);
    if (!found) {
      probe.fillStyle = css;
      probe.fillRect(0, 0, 1, 1);
      found = [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)];
      colours.set(css, found);
    }
    return found;
  }

  let waiting = 0, moving = 0;
  function again() {
    if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; draw(); });
  }
  function move() {
    clearTimeout(moving);
    moving = setTimeout(() => { moving = 0; again(); }, STILL_MS);
    again();
  }

  /** @param {number} number @param {number} fog @param {number} scale in pixels of the screen @returns {HTMLCanvasElement} */
  function spriteOf(number, fog, scale) {
    const key = number * FOG_LEVELS + fog;
    let sprite = sprites.get(key);
    if (sprite) return sprite;
    const kind = data.elements[number], share = (fog / (FOG_LEVELS - 1)) * MOST_FOG;
    const radius = drawnRadius(kind.radius) * scale, line = Math.max(0.5, Math.min(1.5 * ratio, radius * 0.12));
    const size = Math.ceil(2 * (radius + line)) + 2;
    sprite = /** @type {HTMLCanvasElement} */ (make("canvas", { width: size, height: size }));
    const pen = /** @type {CanvasRenderingContext2D} */ (sprite.getContext("2d"));
    const middle = size / 2, colour = rgbOf(kind.colour);
    const light = pen.createRadialGradient(middle - 0.3 * radius, middle - 0.35 * radius, 0, middle - 0.3 * radius, middle - 0.35 * radius, 1.5 * radius);
    for (const [at, other, part] of /** @type {[number, number[], number][]} */ ([[0, [255, 255, 255], 0.65], [0.55, colour, 0], [1, [0, 0, 0], 0.35]])) {
      light.addColorStop(at, cssOf(mixedRgb(mixedRgb(colour, other, part), ground, share)));
    }
    pen.fillStyle = light;
    pen.strokeStyle = cssOf(mixedRgb(mixedRgb(colour, ink, 0.6), ground, share));
    pen.lineWidth = line;
    pen.beginPath();
    pen.arc(middle, middle, radius, 0, 2 * Math.PI);
    pen.fill();
    pen.stroke();
    sprites.set(key, sprite);
    return sprite;
  }

  const scaleNow = () => (zoomed * (Math.min(width, height) / 2 - 12)) / reach;
  /** @param {number} x @param {number} y @param {number} z @returns {number[]} in pixels, and how near */
  function seenAt(x, y, z) {
    const [dx, dy, dz] = [x - centre[0], y - centre[1], z - centre[2]], scale = scaleNow();
    return [width / 2 + shiftX + scale * (view[0] * dx + view[1] * dy + view[2] * dz),
      height / 2 + shiftY - scale * (view[3] * dx + view[4] * dy + view[5] * dz), view[6] * dx + view[7] * dy + view[8] * dz];
  }

  function draw() {
    const pen = canvas.getContext("2d");
    if (!pen || !width || !atoms) return;
    const style = getComputedStyle(canvas), scale = scaleNow();
    const key = `${style.backgroundColor} ${style.color} ${scale} ${ratio}`;
    if (key !== spritesFor) {
      spritesFor = key;
      sprites.clear();
      [ground, ink, accent] = [rgbOf(style.backgroundColor), rgbOf(style.color), style.outlineColor];
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = cssOf(ground);
    pen.fillRect(0, 0, width, height);
    const [vx, vy, vz, ux, uy, uz, nx, ny, nz] = view, [cx, cy, cz] = centre;
    for (let i = 0; i < atoms.count; i++) { // as seenAt, without an array for each
      const [dx, dy, dz] = [atoms.x[i] - cx, atoms.y[i] - cy, atoms.z[i] - cz];
      px[i] = width / 2 + shiftX + scale * (vx * dx + vy * dy + vz * dz);
      py[i] = height / 2 + shiftY - scale * (ux * dx + uy * dy + uz * dz);
      pz[i] = nx * dx + ny * dy + nz * dz;
    }
    const lines = cellLines(), count = atoms.count, bonds = moving && bondA.length > MANY_BONDS ? 0 : bondA.length;
    const depth = new Float32Array(count + bonds + lines.length);
    depth.set(pz);
    for (let bond = 0; bond < bonds; bond++) depth[count + bond] = (pz[bondA[bond]] + pz[bondB[bond]]) / 2;
    for (let line = 0; line < lines.length; line++) depth[count + bonds + line] = lines[line][4];
    const styles = bondStyles(), wide = Math.max(1, 2 * BOND_HALF_WIDTH_A * scale), cellLine = cssOf(mixedRgb(ink, ground, 0.45));
    const room = 40;
    for (const item of farthestFirst(depth)) {
      if (item < count) {
        const [x, y] = [px[item], py[item]];
        if (x < -room * zoomed || y < -room * zoomed || x > width + room * zoomed || y > height + room * zoomed) continue;
        const sprite = spriteOf(atoms.number[item], fogAt(pz[item]), scale * ratio);
        pen.drawImage(sprite, x - sprite.width / ratio / 2, y - sprite.height / ratio / 2, sprite.width / ratio, sprite.height / ratio);
      } else if (item < count + bonds) drawBond(pen, item - count, wide, scale, styles);
      else {
        const [x1, y1, x2, y2] = lines[item - count - bonds];
        pen.strokeStyle = cellLine;
        pen.lineWidth = 1;
        pen.beginPath();
        pen.moveTo(x1, y1);
        pen.lineTo(x2, y2);
        pen.stroke();
      }
    }
    drawChosen(pen, scale);
    drawAxes(pen);
    canvas.dataset.drawn = String(Number(canvas.dataset.drawn || 0) + 1);
  }

  /** @param {number} near @returns {number} */
  const fogAt = (near) => Math.max(0, Math.min(FOG_LEVELS - 1, Math.round(((reach - near) / (2 * reach)) * (FOG_LEVELS - 1))));

  /** @param {Float32Array} depth @returns {Uint32Array} sorted by counting: the same at 80,000 items as at 80 */
  function farthestFirst(depth) {
    let low = Infinity, high = -Infinity;
    for (const part of depth) { low = Math.min(low, part); high = Math.max(high, part); }
    const per = (DEPTH_BUCKETS - 1) / Math.max(high - low, 1e-9);
    const counted = new Uint32Array(DEPTH_BUCKETS + 1), order = new Uint32Array(depth.length);
    for (const part of depth) counted[Math.floor((part - low) * per) + 1]++;
    for (let bucket = 1; bucket <= DEPTH_BUCKETS; bucket++) counted[bucket] += counted[bucket - 1];
    for (let item = 0; item < depth.length; item++) order[counted[Math.floor((depth[item] - low) * per)]++] = item;
    return order;
  }

  /** Edges of the cell in short pieces, so that atoms stand before and behind them. @returns {number[][]} */
  function cellLines() {
    const pieces = 8, found = [];
    // Farther by the radius of an atom: what is inside one at a corner is not seen.
    const behind = Math.max(...Object.values(data.elements).map(({ radius }) => drawnRadius(radius)));
    for (const corners of boxesOf()) {
      const seen = corners.map(([x, y, z]) => seenAt(x, y, z));
      for (let a = 0; a < 8; a++) for (const bit of [1, 2, 4]) {
        if (a & bit) continue;
        const [from, to] = [seen[a], seen[a | bit]];
        for (let piece = 0; piece < pieces; piece++) {
          const [s, t] = [piece / pieces, (piece + 1) / pieces];
          const at = (/** @type {number} */ axis, /** @type {number} */ part) => from[axis] * (1 - part) + to[axis] * part;
          found.push([at(0, s), at(1, s), at(0, t), at(1, t), at(2, (s + t) / 2) - behind]);
        }
      }
    }
    return found;
  }

  /** @returns {Record<string, string[][]>} of each element, by fog: the colour of a bond and of its line around */
  function bondStyles() {
    return Object.fromEntries(Object.entries(data.elements).map(([number, { colour }]) => [number,
      Array.from({ length: FOG_LEVELS }, (_, fog) => {
        const share = (fog / (FOG_LEVELS - 1)) * MOST_FOG, plain = rgbOf(colour);
        return [cssOf(mixedRgb(mixedRgb(plain, [0, 0, 0], 0.12), ground, share)), cssOf(mixedRgb(mixedRgb(plain, ink, 0.6), ground, share))];
      })]));
  }

  /** @param {CanvasRenderingContext2D} pen @param {number} bond @param {number} wide @param {number} scale @param {Record<string, string[][]>} styles */
  function drawBond(pen, bond, wide, scale, styles) {
    const [a, b] = [bondA[bond], bondB[bond]];
    const [dx, dy, dz] = [px[b] - px[a], py[b] - py[a], (pz[b] - pz[a]) * scale], length = Math.hypot(dx, dy, dz);
    const inside = (/** @type {number} */ i) => (0.9 * drawnRadius(data.elements[atoms.number[i]].radius) * scale) / length;
    const [from, to] = [inside(a), 1 - inside(b)];
    if (from >= to) return;
    const [x1, y1, x2, y2] = [px[a] + dx * from, py[a] + dy * from, px[a] + dx * to, py[a] + dy * to];
    const [mx, my] = [(x1 + x2) / 2, (y1 + y2) / 2];
    const ends = /** @type {[number, number, number][]} */ ([[a, x1, y1], [b, x2, y2]]);
    for (const around of wide > 2.5 ? [1, 0] : [0]) {
      pen.lineWidth = around ? wide + 1.5 : wide;
      for (const [atom, x, y] of ends) {
        pen.strokeStyle = styles[atoms.number[atom]][fogAt(pz[atom])][around];
        pen.beginPath();
        pen.moveTo(x, y);
        pen.lineTo(mx, my);
        pen.stroke();
      }
    }
  }

  /** @param {CanvasRenderingContext2D} pen @param {string} text @param {number} x @param {number} y @param {string} colour */
  function write(pen, text, x, y, colour) {
    pen.font = `600 12px ${getComputedStyle(root).fontFamily}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.strokeStyle = cssOf(ground);
    pen.lineWidth = 4;
    pen.strokeText(text, x, y);
    pen.fillStyle = colour;
    pen.fillText(text, x, y);
  }

  /** @param {CanvasRenderingContext2D} pen @param {number} scale */
  function drawChosen(pen, scale) {
    pen.strokeStyle = accent;
    pen.lineWidth = 2.5;
    for (const atom of chosen) {
      pen.beginPath();
      pen.arc(px[atom], py[atom], drawnRadius(data.elements[atoms.number[atom]].radius) * scale + 3, 0, 2 * Math.PI);
      pen.stroke();
    }
    if (chosen.length < 2) return;
    const [a, b] = chosen;
    pen.lineWidth = 2;
    pen.setLineDash([5, 4]);
    pen.beginPath();
    pen.moveTo(px[a], py[a]);
    pen.lineTo(px[b], py[b]);
    pen.stroke();
    pen.setLineDash([]);
    write(pen, `${apart().toFixed(3)} Å`, (px[a] + px[b]) / 2, (py[a] + py[b]) / 2 - 10, cssOf(ink));
  }

  /** @param {CanvasRenderingContext2D} pen */
  function drawAxes(pen) {
    const cell = data.cells[frame], long = 26, [x, y] = [44, height - 44];
    for (let axis = 0; axis < 3; axis++) {
      const along = cell ? cell.slice(3 * axis, 3 * axis + 3) : [0, 1, 2].map((other) => Number(other === axis));
      const size = Math.hypot(...along);
      if (!size) continue;
      const [dx, dy] = [0, 3].map((row) => (long * (view[row] * along[0] + view[row + 1] * along[1] + view[row + 2] * along[2])) / size);
      pen.strokeStyle = cssOf(mixedRgb(ink, ground, 0.25));
      pen.lineWidth = 2;
      pen.lineCap = "round";
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(x + dx, y - dy);
      pen.stroke();
      pen.lineCap = "butt";
      write(pen, (cell ? "abc" : "xyz")[axis], x + dx * 1.4, y - dy * 1.4, cssOf(ink));
    }
  }

  // -- what one does ----------------------------------------------------------------------------

  function apart() {
    const [a, b] = chosen;
    return Math.hypot(atoms.x[a] - atoms.x[b], atoms.y[a] - atoms.y[b], atoms.z[a] - atoms.z[b]);
  }

  function say() {
    const name = (/** @type {number} */ atom) => `${data.elements[atoms.number[atom]].symbol} ${atoms.index[atom]}${atom >= data.counts[frame] ? " (image)" : ""}`;
    const [a, b] = chosen;
    if (a === undefined) told.textContent = "";
    else if (b === undefined) {
      const at = [atoms.x[a], atoms.y[a], atoms.z[a]].map((part) => part.toFixed(3)).join(", ");
      told.textContent = `${name(a)}: ${at} Å${marked ? "; to which?" : ""}`;
    } else told.textContent = `${name(a)} to ${name(b)}: ${apart().toFixed(3)} Å`;
    told.hidden = !told.textContent;
  }

  /** @param {number[]} next */
  function choose(next) {
    chosen = next;
    if (!next.length) marked = false;
    say();
    again();
  }

  /** @param {number} x @param {number} y @returns {number} the nearest atom there; -1 where there is none */
  function atomAt(x, y) {
    let found = -1;
    const scale = scaleNow();
    for (let i = 0; i < atoms.count; i++) {
      const radius = Math.max(5, drawnRadius(data.elements[atoms.number[i]].radius) * scale);
      if ((px[i] - x) ** 2 + (py[i] - y) ** 2 <= radius * radius && (found < 0 || pz[i] > pz[found])) found = i;
    }
    return found;
  }

  /** @param {number} step */
  function walk(step) {
    const total = data.counts[frame], last = chosen.length ? chosen[chosen.length - 1] : step > 0 ? -1 : 0;
    const next = (last + step + total) % total;
    choose(marked && chosen.length ? [chosen[0], next] : [next]);
  }

  /** @param {number} right @param {number} down in radians */
  function turn(right, down) {
    const [c, s, ct, st] = [Math.cos(right), Math.sin(right), Math.cos(down), Math.sin(down)];
    view = product(product([1, 0, 0, 0, ct, -st, 0, st, ct], [c, 0, s, 0, 1, 0, -s, 0, c]), view);
    // Rounding must not shear it, however long it is turned.
    const [x, y] = [view.slice(0, 3), view.slice(3, 6)], long = Math.hypot(...x), dot = x.reduce((sum, part, at) => sum + (part / long) * y[at], 0);
    const right_ = x.map((part) => part / long), up = y.map((part, at) => part - dot * right_[at]), high = Math.hypot(...up);
    const [u, v] = [right_, up.map((part) => part / high)];
    view = [...u, ...v, u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    move();
  }

  /** @param {number} axis */
  function lookAlong(axis) {
    const cell = data.cells[frame], of = (/** @type {number} */ v) => (cell ? cell.slice(3 * v, 3 * v + 3) : [0, 1, 2].map((other) => Number(other === v)));
    const near = of(axis), size = Math.hypot(...near);
    if (!size) return;
    const n = near.map((part) => part / size);
    let right = of((axis + 1) % 3);
    const over = right.reduce((sum, part, at) => sum + part * n[at], 0);
    right = right.map((part, at) => part - over * n[at]);
    const long = Math.hypot(...right);
    if (!long) return;
    const u = right.map((part) => part / long);
    view = [...u, n[1] * u[2] - n[2] * u[1], n[2] * u[0] - n[0] * u[2], n[0] * u[1] - n[1] * u[0], ...n];
    [shiftX, shiftY] = [0, 0];
    again();
  }

  /** @param {number} factor */
  function zoom(factor) {
    const next = Math.min(20, Math.max(0.2, zoomed * factor));
    [shiftX, shiftY] = [(shiftX * next) / zoomed, (shiftY * next) / zoomed];
    zoomed = next;
    move();
  }

  function reset() {
    view = FIRST_VIEW;
    zoomed = 1;
    [shiftX, shiftY] = [0, 0];
    again();
  }

  let ticked = 0;
  /** @param {number} now */
  function tick(now) {
    if (!playing || !canvas.isConnected) { playing = false; return; }
    if (now - ticked >= 1000 / FRAMES_PER_S) {
      ticked = now;
      turnTo((frame + 1) % data.counts.length);
    }
    requestAnimationFrame(tick);
  }

  /** @param {boolean} on */
  function setPlaying(on) {
    playing = on && data.counts.length > 1;
    play.replaceChildren();
    symbol(playing ? "pause" : "play", play);
    play.title = playing ? "pause" : "play";
    play.setAttribute("aria-label", play.title);
    if (playing) requestAnimationFrame(tick);
  }

  /** @type {{ id: number, x: number, y: number, moved: boolean } | null} */
  let held = null;
  canvas.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    if (event.button > 1) return;
    canvas.setPointerCapture(event.pointerId);
    held = { id: event.pointerId, x: event.clientX, y: event.clientY, moved: false };
  });
  canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    if (!held || held.id !== event.pointerId) return;
    const [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
    if (!held.moved && Math.hypot(dx, dy) < 4) return;
    held = { id: held.id, x: event.clientX, y: event.clientY, moved: true };
    if (event.shiftKey || event.buttons & 4) {
      [shiftX, shiftY] = [shiftX + dx, shiftY + dy];
      move();
    } else turn(dx * 0.01, dy * 0.01);
  });
  canvas.addEventListener("pointerup", (/** @type {PointerEvent} */ event) => {
    if (held && !held.moved) {
      const box = canvas.getBoundingClientRect(), found = atomAt(event.clientX - box.left, event.clientY - box.top);
      choose(found < 0 ? [] : chosen.length === 1 && chosen[0] !== found ? [chosen[0], found] : [found]);
    }
    held = null;
  });
  canvas.addEventListener("pointercancel", () => { held = null; });
  canvas.addEventListener("wheel", (/** @type {WheelEvent} */ event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page is scrolled
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.002));
  }, { passive: false });
  canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] });
    const arrow = arrows[event.key], last = data.counts.length;
    if (arrow && event.shiftKey) { [shiftX, shiftY] = [shiftX + 20 * arrow[0], shiftY + 20 * arrow[1]]; again(); }
    else if (arrow) turn(arrow[0] * TURN_STEP, arrow[1] * TURN_STEP);
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(1 / 1.25);
    else if (event.key === "0") reset();
    else if (event.key === "n" || event.key === "p") walk(event.key === "n" ? 1 : -1);
    else if (event.key === "m" && chosen.length) { marked = true; choose(chosen.slice(-1)); }
    else if (event.key === " " && last > 1) setPlaying(!playing);
    else if (event.key === "PageDown" && last > 1) turnTo((frame + 1) % last);
    else if (event.key === "PageUp" && last > 1) turnTo((frame + last - 1) % last);
    else if (event.key === "Escape" && chosen.length) choose([]);
    else return;
    event.preventDefault();
    event.stopPropagation(); // the notebook has keys of its own
  });
  for (const field of [slider, images]) {
    field.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape" && !event.ctrlKey && !event.metaKey) event.stopPropagation();
    });
  }
  slider.addEventListener("input", () => { setPlaying(false); turnTo(Number(slider.value)); });
  images.addEventListener("change", () => {
    repeats = images.value;
    isPlaced = false;
    turnTo(frame);
  });
  play.onclick = () => setPlaying(!playing);
  let late = 0;
  all.onclick = () => {
    all.disabled = true;
    all.textContent = "being fetched …";
    clearTimeout(late);
    late = setTimeout(() => { [all.disabled, all.textContent] = [false, "the kernel is busy, or gone: ask again"]; }, UNANSWERED_MS);
    more();
  };
  for (const [name, text, act] of /** @type {[string, string, () => void][]} */ ([["zoom-in", "zoom in", () => zoom(1.25)],
    ["zoom-out", "zoom out", () => zoom(1 / 1.25)], ["fit", "as at first", reset]])) {
    const button = make("button", { type: "button", class: "ms-button", title: text, "aria-label": text }, sizes);
    symbol(name, button);
    button.onclick = act;
  }

  const resized = new ResizeObserver(() => {
    ratio = Math.min(2, window.devicePixelRatio || 1);
    [width, height] = [stage.clientWidth, stage.clientHeight];
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    draw();
  });
  resized.observe(stage);
  const themed = new MutationObserver(again);
  themed.observe(document.body, { attributes: true });
  setPlaying(false);
  show(data);

  return {
    root,
    canvas,
    /** @param {StructureData} next */
    show(next) {
      clearTimeout(late);
      all.disabled = false;
      show(next);
    },
    stop() {
      playing = false;
      resized.disconnect();
      themed.disconnect();
      cancelAnimationFrame(waiting);
      clearTimeout(moving);
      clearTimeout(late);
    },
  };
}

/**
 * Open a structure in a dialog where a button of Python's text asks for one; Python answers with the data.
 * @param {any} model
 * @param {Element} root where the dialog is put
 * @param {Element} text
 */
function opensStructure(model, root, text) {
  text.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest("[data-structure]");
    if (!(button instanceof HTMLElement)) return;
    const task = model.get("selected");
    const dialog = make("dialog", { class: "ms-view ms-structure-dialog", "aria-label": `structure of ${task}` }, root);
    const head = make("div", { class: "ms-bar" }, dialog);
    make("strong", {}, head, task);
    make("span", { class: "ms-gap" }, head);
    const close = make("button", { type: "button", class: "ms-button", title: "close", "aria-label": "close" }, head);
    symbol("close", close);
    const place = make("div", { class: "ms-structure-place" }, dialog, "…");
    const ask = (/** @type {boolean} */ all) => send(model, { structure: task, all });
    const late = setTimeout(() => { if (!scene) place.textContent = "the kernel is busy: this comes when its cell ends …"; }, 1500);
    /** @type {ReturnType<typeof structureScene> | null} */ let scene = null;
    const answered = (/** @type {any} */ message) => {
      if (message.structure !== task) return;
      if (!message.data) { place.textContent = "its structure is not there any more"; return; }
      if (scene) { scene.show(message.data); return; }
      place.replaceChildren();
      scene = structureScene(place, message.data, () => ask(true));
      scene.canvas.focus();
    };
    model.on("msg:custom", answered);
    dialog.addEventListener("close", () => {
      clearTimeout(late);
      model.off("msg:custom", answered);
      if (scene) scene.stop();
      dialog.remove();
      (button.isConnected ? button : /** @type {HTMLElement} */ (text.querySelector("[data-structure]")) || button).focus();
    });
    dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ key) => key.stopPropagation());
    dialog.addEventListener("click", (/** @type {MouseEvent} */ click) => { if (click.target === dialog) dialog.close(); });
    close.onclick = () => dialog.close();
    dialog.showModal();
    ask(false);
  });
}
