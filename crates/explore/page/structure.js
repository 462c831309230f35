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

/// The table of fields. `rows` receives the row of each item, so that the picture can light it. With `change`,
/// which hears a field's name and its new value, values can be edited.
function fieldTable(caption, items, words, rows, change) {
  const valued = items.some((item) => item.value !== undefined);
  const meant = items.some((item) => item.meaning);
  const head = ["Bits", "Field", valued && "Value", meant && (valued ? "Meaning" : "What it is")].filter(Boolean);
  const body = items.map((item) => {
    const value = !valued ? null : el("td", { class: "mono" }, change
      ? [el("span", { class: "fixed" }, item.value), editor(item, change)] : item.value);
    const row = el("tr", { class: valued && !item.set ? "zero" : null },
      el("td", { class: "number mono" }, `${words > 1 ? `${item.word} ` : ""}[${bitsOf(item)}]`),
      el("th", { scope: "row" }, item.structure ? `${item.structure}.${item.name}` : item.name), value,
      meant ? el("td", null, item.meaning ?? "") : null);
    rows.set(item, row);
    return row;
  });
  const table = el("table", { class: "fields" }, el("caption", { class: "unseen" }, caption),
    el("thead", null, el("tr", null, head.map((text) => el("th", { scope: "col" }, text)))), el("tbody", null, body));
  const checks = [];
  const check = (label, style, on) => {
    const box = el("input", { type: "checkbox" });
    const set = () => table.classList.toggle(style, box.checked);
    box.checked = on;
    box.addEventListener("change", set);
    set();
    checks.push(el("label", { class: "check" }, box, label));
  };
  // Sixty zeros hide the five fields that matter.
  const zeros = body.filter((row) => row.classList.contains("zero")).length;
  if (zeros > 0 && zeros < items.length) check(`Hide the ${plural(zeros, "field that is", "fields that are")} zero`, "only-set", hideZeros ?? zeros > 11);
  if (change) check("Change values", "editing", editing);
  // Kept over an explanation anew, as after each change of a value.
  checks[0]?.addEventListener("change", () => { hideZeros = table.classList.contains("only-set"); });
  checks.at(-1)?.addEventListener("change", () => { editing = table.classList.contains("editing"); });
  return el("div", null, el("div", { class: "row" }, checks), el("div", { class: "scroll" }, table));
}

/// What the boxes above the table of fields said last.
let hideZeros = null;
let editing = false;

/// The input of one value. Enter, or leaving it, changes it.
function editor(item, change) {
  const input = el("input", { class: "editor", value: item.value, spellcheck: "false", autocomplete: "off", "aria-label": `Value of ${item.name}`, "data-field": item.name });
  input.addEventListener("change", () => change(item.name, input.value.trim()));
  return input;
}

/// Picture and table together, of so many words of so many bits; with their values, where there are any.
function fieldsOf(name, items, words, bits, values, change) {
  const rows = new Map();
  const table = fieldTable(`Fields of ${name}`, items, words, rows, change);
  let lit = null;
  const bitsPicture = picture(name, items, words, bits, (item) => {
    lit?.classList.remove("lit");
    lit = rows.get(item) ?? null;
    lit?.classList.add("lit");
  }, values);
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

/// The explanation of one structure. `changed` takes the fields of an edited one.
function showStructure(decoded, changed) {
  const { words, illegal } = decoded;
  const items = itemsOf(decoded);
  const refused = el("p", { class: "note bad", role: "alert", hidden: true });
  // What consists of several registers, or of none that is known, has no one layout to encode.
  const kind = layouts.has(decoded.name) ? decoded.name : null;
  const change = kind && items.length && (async (name, value) => {
    const fields = Object.fromEntries(items.filter((item) => item.set && item.name !== name).map((item) => [item.name, item.value]));
    if (value !== "") fields[name] = value;
    await changed(kind, fields, (why) => { refused.textContent = inPage(why); refused.hidden = false; });
    // The table is another one now; who edits goes on where he was.
    if (!document.contains(refused)) document.querySelector(`#results .editor[data-field="${CSS.escape(name)}"]`)?.focus();
  });
  return el("article", { class: "structure" },
    el("h2", null, decoded.name, " ", decoded.section ? el("span", { class: "dim" }, `§${decoded.section}`) : null),
    decoded.summary ? el("p", { class: "gist" }, sentence(decoded.summary)) : null,
    illegal ? el("div", { class: "note bad" }, el("b", null, "Illegal: the SMMU rejects it. "),
      `${illegal.field ? `${illegal.field}: ` : ""}${illegal.text} (§${illegal.section})`) : null,
    (decoded.problems ?? []).map((it) => el("div", { class: "note bad" }, el("b", null, it.name), ` ${it.text}. ${sentence(inPage(it.advice))}`)),
    listed("Against the architecture", "warn", decoded.violations),
    refused,
    items.length ? fieldsOf(decoded.name, items, words.length, decoded.word_bits ?? 64, words, change) : null,
    decoded.assumed?.length ? el("p", { class: "dim" }, `Assumed: ${inPage(decoded.assumed.join("; "))}.`) : null,
    el("h3", null, "Words"),
    el("pre", { class: "words" }, words.map((word, at) => `${String(at).padStart(2)}  ${padded(word, decoded.word_bits ?? 64)}`).join("\n")));
}

/// A word with all its digits.
const padded = (word, bits) => `0x${BigInt(word).toString(16).padStart(bits / 4, "0")}`;

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
