// SPDX-License-Identifier: MIT OR Apache-2.0
// Making elements. Text becomes text nodes: there is no way here to make markup of it.

const byId = (id) => document.getElementById(id);

/// An element with properties and children; strings among the children are text.
function el(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "click") element.addEventListener("click", value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/// `text` as a sentence begins.
const sentence = (text) => text.replace(/^[a-z](?![A-Z0-9_])/, (letter) => letter.toUpperCase());

/// The options of the command that a text may name, as the form here calls them.
const OPTION_LABELS = new Map([
  ["idr", "the instance"], ["ste", "its STE"], ["order", "the order"], ["kernel", "the version of the kernel"],
  ["stage", "the stage"], ["level", "the level of its table"], ["granule", "the granule"],
  ["oas", "the bits of output addresses"],
]);

/// What the command says, for somebody who has this page before him.
function inPage(text) {
  const said = text
    .replace(/; see smmuv3 [a-z]+ --help/g, "")
    .replace(/\| smmuv3 decode -/g, "> FILE.txt, and open that")
    .replace(/a whole kernel log goes to smmuv3 decode FILE/g, "choose A log for a whole one")
    .replace(/smmuv3 fields( \S+)? lists all/g, "Layouts has them all")
    .replace(/with smmuv3 decode ([a-z-]+)/g, "as $1");
  let named = false;
  const told = said.replace(/--([a-z]+)/g, (option, name) => {
    named ||= OPTION_LABELS.has(name);
    return OPTION_LABELS.get(name) ?? option;
  });
  return named ? `${told} (under Options)` : told;
}

const plural = (count, one, many = one + "s") => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/// Lets the browser draw and take input before the work goes on.
const breathe = () => new Promise((resolve) => setTimeout(resolve));

/// Who pressed the button for more goes on at the first of them.
function goOn(element) {
  element?.setAttribute("tabindex", "-1");
  element?.focus();
}

/// A table whose columns sort. A column: {label, of: row => what is shown, by: row => what is sorted by,
/// number}. The heads are buttons, and say how they are sorted. Rows appear `step` at a time.
function sortable(caption, columns, rows, step = 200) {
  let sorted = [...rows];
  let [column, falling] = [null, false];
  let shown = step;
  const body = el("tbody");
  const more = el("button", { type: "button", click: () => { const first = shown; shown += step; fill(); goOn(body.rows[first]); } });
  const heads = columns.map((it, index) => {
    const head = el("th", { scope: "col", class: it.number ? "number" : null, "aria-sort": "none" },
      el("button", { type: "button", class: "sort", click: () => sort(index) }, it.label));
    return head;
  });
  function sort(index) {
    const it = columns[index];
    // Numbers begin with the most, words with A.
    falling = column === index ? !falling : Boolean(it.number);
    column = index;
    const by = it.by ?? it.of;
    const compare = (a, b) => {
      if (a === b) return 0;
      if (a === null || a === undefined) return 1;
      if (b === null || b === undefined) return -1;
      return a < b ? -1 : 1;
    };
    sorted = [...rows].sort((a, b) => compare(by(a), by(b)) * (falling ? -1 : 1));
    heads.forEach((head, at) =>
      head.setAttribute("aria-sort", at === index ? (falling ? "descending" : "ascending") : "none"));
    fill();
  }
  function fill() {
    body.replaceChildren(...sorted.slice(0, shown).map((row) =>
      el("tr", null, columns.map((it) => el("td", { class: it.number ? "number" : it.class }, cell(it.of(row)))))));
    const left = sorted.length - shown;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(step, left)} more of ${left.toLocaleString("en")}`;
  }
  const cell = (value) => value === null || value === undefined ? "–" : value instanceof Node ? value : String(value);
  fill();
  return el("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    el("table", { class: "sortable" }, el("caption", { class: "unseen" }, `${caption}; the buttons of the head sort it`), el("thead", null, el("tr", null, heads)), body), more);
}
