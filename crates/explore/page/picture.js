// SPDX-License-Identifier: MIT OR Apache-2.0
// The bits of a structure: rows of 32 with the highest on the left, fewer where there is less room.

/// How many bits fit side by side into `width`, in the size of the text.
const bitsAcross = (width) => width >= 44 ? 32 : width >= 19 ? 16 : 8;

/// Width of a name in a wide bold font, in rem.
const widthOf = (name) => [...name].reduce((sum, letter) => sum + (/[WM]/.test(letter) ? 0.76 : /[a-z]/.test(letter) ? 0.48 : 0.54), 0);

/// Where the bits of one word go: cells {item, hi, lo} from the highest to the lowest; without `item`, reserved.
function cellsOf(items, word, bits) {
  const cells = [];
  let next = bits - 1;
  for (const item of items.filter((it) => it.word === word).sort((a, b) => b.hi - a.hi)) {
    if (item.hi < next) cells.push({ hi: next, lo: item.hi + 1 });
    cells.push({ item, hi: item.hi, lo: item.lo });
    next = item.lo - 1;
  }
  if (next >= 0) cells.push({ hi: next, lo: 0 });
  return cells;
}

const bitsOf = ({ hi, lo }) => hi === lo ? `${hi}` : `${hi}:${lo}`;

/// A picture of `items` [{name, word, hi, lo, value, meaning, set}] in `words` of `bits` bits. It has one
/// stop for Tab, and arrow keys go from field to field. `light` hears which one is looked at, or null. With
/// `values`, the words, reserved bits that are set stand out.
function picture(name, items, words, bits, light, values) {
  const caption = el("p", { class: "caption" });
  /// Whether a name has no room across so many bits, and goes upwards.
  const isNarrow = (item, wide) => widthOf(item.name) > wide * pitch - 0.4;
  const grid = el("div", { class: "bits", role: "group", "aria-label": `Bits of ${name}; arrow keys go from field to field` });
  let across = 0;
  /// Width of one bit, in rem.
  let pitch = 1;
  let current = 0;
  const order = [];

  const tell = (item) => {
    caption.replaceChildren(...(item
      ? [el("b", null, item.name), ` ${words > 1 ? `word ${item.word}, ` : ""}bit${item.hi === item.lo ? "" : "s"} ${bitsOf(item)}`,
        item.value === undefined ? "" : ` = ${item.value}`, item.meaning ? `: ${item.meaning}` : ""]
      : [el("span", { class: "dim" }, "Point at a field, or go there with Tab and the arrow keys.")]));
  };
  const look = (item) => {
    for (const part of grid.querySelectorAll(".bit")) part.classList.toggle("lit", Boolean(item) && part.dataset.field === String(items.indexOf(item)));
    tell(item);
    light?.(item);
  };

  function draw() {
    const focused = grid.contains(document.activeElement);
    order.length = 0;
    const rows = [];
    for (let word = 0; word < words; word++) {
      const wordBits = Math.min(bits, 64);
      const lines = [];
      const cells = cellsOf(items, word, wordBits);
      for (let top = wordBits - 1; top >= 0; top -= across) {
        const bottom = Math.max(top - across + 1, 0);
        const parts = cells.filter((cell) => cell.hi >= bottom && cell.lo <= top);
        const line = el("div", { class: "line" });
        line.style.gridTemplateColumns = `repeat(${Math.min(across, wordBits)}, minmax(0, 1fr))`;
        for (const cell of parts) {
          const [hi, lo] = [Math.min(cell.hi, top), Math.max(cell.lo, bottom)];
          line.append(part(cell, hi, lo, word));
        }
        // As high as the longest name that goes upwards.
        const upwards = [...line.querySelectorAll(".narrow .name")].map((name) => widthOf(name.textContent));
        line.classList.toggle("tall", upwards.length > 0);
        line.style.setProperty("--tall", `${Math.min(Math.max(...upwards, 3.5) * 0.86 + 1.2, 10)}rem`);
        lines.push(line);
      }
      rows.push(el("div", { class: "word" },
        words > 1 ? el("div", { class: "word-number", "aria-hidden": "true" }, String(word)) : null,
        el("div", { class: "lines" }, lines)));
    }
    grid.replaceChildren(...rows);
    if (order.length) {
      current = Math.min(current, order.length - 1);
      order[current].tabIndex = 0;
      if (focused) order[current].focus();
    }
  }

  function part({ item, hi, lo }, top, bottom, word) {
    const wide = top - bottom + 1;
    const numbers = el("span", { class: "edge", "aria-hidden": "true" }, top === bottom ? [el("i", null, `${top}`)] : [el("i", null, `${top}`), el("i", null, `${bottom}`)]);
    let cell;
    if (!item) {
      const wrong = values && BigInt(values[word] ?? 0) >> BigInt(bottom) & ((1n << BigInt(wide)) - 1n);
      cell = el("div", { class: wrong ? "reserved wrong" : "reserved", title: `${bitsOf({ hi, lo })}: no field` }, numbers,
        wrong ? el("span", { class: "value" }, `0x${wrong.toString(16)}`) : null);
    } else {
      const narrow = isNarrow(item, wide) ? " narrow" : "";
      const first = top === hi;
      const says = `${item.name}, ${words > 1 ? `word ${item.word}, ` : ""}bits ${bitsOf(item)}${item.value === undefined ? "" : `, ${item.value}`}${item.meaning ? `, ${item.meaning}` : ""}`;
      cell = el(first ? "button" : "div", {
        class: `bit${item.set ? " set" : ""}${narrow}`, "data-field": String(items.indexOf(item)),
        ...(first ? { type: "button", tabindex: "-1", "aria-label": says } : { "aria-hidden": "true" }),
      }, numbers, el("span", { class: "name" }, first ? item.name : `${item.name} …`),
      item.value !== undefined && first && !narrow && item.value.length < wide * 2 ? el("span", { class: "value" }, item.value) : null);
      cell.addEventListener("pointerenter", () => look(item));
      cell.addEventListener("pointerleave", () => look(null));
      if (first) {
        const at = order.push(cell) - 1;
        cell.addEventListener("focus", () => { current = at; look(item); });
        cell.addEventListener("blur", () => look(null));
      }
    }
    cell.style.gridColumn = `span ${wide}`;
    return cell;
  }

  grid.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? order.length - 1 : step && current + step;
    if (to === undefined || !order[to]) return;
    event.preventDefault();
    order[current].tabIndex = -1;
    order[to].tabIndex = 0;
    order[to].focus();
  });

  const figure = el("figure", { class: "picture", "aria-label": `Bits of ${name}` }, caption, grid);
  new ResizeObserver(() => {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const width = figure.clientWidth / rem;
    if (width === 0) return;
    const fits = bitsAcross(width);
    const wide = (width - 1.7) / fits;
    // Drawing anew at each pixel of a drag would be for nothing.
    if (fits === across && Math.abs(wide - pitch) < 0.05) return;
    [across, pitch] = [fits, wide];
    draw();
  }).observe(figure);
  tell(null);
  return figure;
}
