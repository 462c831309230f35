// SPDX-License-Identifier: MIT OR Apache-2.0
// One structure, explained; and the layouts of all of them.

/// Layouts by name, as the decoder has them: {name, class, section, words, bits, code, offset, fields}.
const layouts = new Map();

/// How a value is written: bits as 0 and 1, small numbers in decimal and hexadecimal.
function written(value) {
  if (value === true) return "1";
  if (value === false) return "0";
  if (typeof value === "number") return value < 10 ? String(value) : `0x${value.toString(16)}`;
  return String(value);
}

const isZero = (value) => value === false || value === null || Number(value) === 0;

/// The table of fields. `rows` receives the row of each item, so that the picture can light it.
function fieldTable(caption, items, words, rows) {
  const valued = items.some((item) => item.value !== undefined);
  const head = ["Bits", "Field", valued ? "Value" : null, items.some((item) => item.meaning) ? "Meaning" : null].filter(Boolean);
  const body = items.map((item) => {
    const row = el("tr", { class: valued && !item.set ? "zero" : null },
      el("td", { class: "number mono" }, `${words > 1 ? `${item.word} ` : ""}[${bitsOf(item)}]`),
      el("th", { scope: "row" }, item.name),
      valued ? el("td", { class: "mono" }, item.value) : null,
      head.includes("Meaning") ? el("td", null, item.meaning ?? "") : null);
    rows.set(item, row);
    return row;
  });
  const table = el("table", { class: "fields" }, el("caption", null, caption),
    el("thead", null, el("tr", null, head.map((text) => el("th", { scope: "col" }, text)))), el("tbody", null, body));
  const zeros = body.filter((row) => row.classList.contains("zero")).length;
  if (zeros === 0) return el("div", { class: "scroll" }, table);
  // Sixty zeros hide the five fields that matter.
  const box = el("input", { type: "checkbox" });
  const set = () => table.classList.toggle("only-set", !box.checked);
  box.checked = zeros < 12;
  box.addEventListener("change", set);
  set();
  return el("div", null, el("label", { class: "check" }, box, `Also the ${plural(zeros, "field that is", "fields that are")} zero`),
    el("div", { class: "scroll" }, table));
}

/// Picture and table together.
function fieldsOf(name, items, words, bits) {
  const rows = new Map();
  const table = fieldTable(`Fields of ${name}`, items, words, rows);
  let lit = null;
  const bitsPicture = picture(name, items, words, bits, (item) => {
    lit?.classList.remove("lit");
    lit = rows.get(item) ?? null;
    lit?.classList.add("lit");
  });
  // What is set is short and comes first; a layout is looked at for its bits.
  return items.some((item) => item.value !== undefined) ? [table, bitsPicture] : [bitsPicture, table];
}

const itemsOf = (decoded) => decoded.described.map((field) => ({
  ...field, value: written(field.value), set: !isZero(field.value),
}));

/// A list of sentences in a box; nothing for none.
const listed = (title, style, sentences) => sentences?.length
  ? el("div", { class: `note ${style}` }, el("b", null, title), el("ul", null, sentences.map((it) => el("li", null, it))))
  : null;

/// The explanation of one structure.
function showStructure(decoded) {
  const layout = layouts.get(decoded.name);
  const { words } = decoded;
  const bits = layout?.bits ?? 64 * words.length;
  const illegal = decoded.illegal;
  return el("article", { class: "structure" },
    el("h2", null, decoded.name, " ", el("span", { class: "dim" }, `§${decoded.section}`)),
    illegal ? el("div", { class: "note bad" }, el("b", null, "Illegal. "),
      `${illegal.text}${illegal.field ? ` (${illegal.field})` : ""}`, illegal.section ? ` §${illegal.section}` : "") : null,
    listed("Against the architecture", "warn", decoded.violations),
    fieldsOf(decoded.name, itemsOf(decoded), words.length, bits),
    el("h3", null, "Words"),
    el("pre", { class: "words" }, words.map((word, at) => `${String(at).padStart(2)}  ${word}`).join("\n")));
}

const CLASSES = {
  entry: "Table entries", command: "Commands", event: "Events", request: "Page requests",
  descriptor: "Descriptors", register: "Registers",
};

/// The page of all layouts, with one of them open.
function showLayouts(name) {
  const wanted = String(name ?? "").toLowerCase();
  const all = [...layouts.values()];
  const open = all.find((it) => it.name.toLowerCase() === wanted) ?? all[0];
  const find = el("input", { id: "find", type: "search", spellcheck: "false", autocomplete: "off" });
  const lists = el("div", { class: "lists" });
  const fill = () => {
    const part = find.value.trim().toLowerCase();
    const has = (it) => it.name.toLowerCase().includes(part) || it.fields.some((field) => field.name.toLowerCase() === part);
    lists.replaceChildren(...Object.entries(CLASSES).map(([kind, title]) => {
      const some = all.filter((it) => it.class === kind && has(it));
      return some.length === 0 ? "" : el("div", null, el("h3", null, title), el("ul", null, some.map((it) =>
        el("li", null, el("a", { href: "#" + new URLSearchParams({ fields: it.name }), "aria-current": it === open ? "page" : null }, it.name)))));
    }));
  };
  find.addEventListener("input", fill);
  fill();
  const facts = [`§${open.section}`, open.code === null ? null : `code 0x${open.code.toString(16).padStart(2, "0")}`,
    open.offset === null ? null : `offset 0x${open.offset.toString(16)}`,
    open.bits > 64 ? `${open.words} words of 64 bits` : `${open.bits} bits`].filter(Boolean).join(", ");
  const items = open.fields.map((field) => ({ ...field, meaning: field.about }));
  return [
    el("nav", { class: "side", "aria-label": "Structures" },
      el("label", { for: "find" }, "Find a structure, or a field by its whole name"), find, lists),
    el("article", { class: "structure" }, el("h2", { tabindex: "-1" }, open.name, " ", el("span", { class: "dim" }, facts)),
      items.length ? fieldsOf(open.name, items, open.words, open.bits) : el("p", null, "The reference names no fields of it.")),
  ];
}
