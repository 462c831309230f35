// SPDX-License-Identifier: MIT OR Apache-2.0
// A log, explained: what to do, the summary in tables, and the records.

/// Records that are shown at first, and with each press of the button.
const RECORDS = 50;

/// Numbers that are sorted by, out of their texts.
const numberOf = (text) => text === null || text === undefined ? null : BigInt(text);

const present = (value) => value !== null && value !== undefined;

/// What a record says in one line, after its name.
function gist(record) {
  const fields = record.fields ?? {};
  // The kernel knows the device better than its number does.
  const who = record.client ?? record.bdf;
  const access = fields.rnw === true ? "read of" : fields.rnw === false ? "write to" : "at";
  return [
    present(fields.sid) ? `SID ${fields.sid}${who ? ` (${who})` : ""}` : "",
    present(fields.ssid) ? `SSID ${fields.ssid}` : "",
    present(fields.addr) ? `${access} ${fields.addr}` : "",
    fields.stall === true ? "stalled" : "",
    who && !present(fields.sid) ? who : "",
  ].filter(Boolean).join(", ");
}

/// The name of a cause, of its id.
const causeName = (id) => sentence(id.replaceAll("-", " ")
  .replace(/\b(msi|cpu|iova|pasid|ats|pri|sid|ste|cd|dma|tlb)\b/gi, (word) => word.toUpperCase()));

/// Why a record is there, most likely first.
const causesOf = (causes) => causes?.length
  ? el("div", null, el("h4", null, "Likely causes"), el("ol", { class: "causes" }, causes.map((cause) => el("li", null,
    el("b", null, causeName(cause.id)), cause.certainty ? el("span", { class: "dim" }, ` ${cause.certainty}`) : null,
    el("br"), sentence(cause.why), cause.next ? el("div", { class: "next" }, el("span", { class: "dim" }, "Do: "), cause.next) : null))))
  : null;

/// Kinds of records whose names do not say what they are.
const KINDS = {
  gerror: "global error", "cmdq-error": "command queue error", "skipped-command": "command that was skipped",
  "sync-timeout": "timed out", "queue-timeout": "queue that stayed full", overflow: "overflowed", "page-request": "page request",
  features: "features", options: "options", queue: "queue", probe: "while it starts",
};

/// What of a record is told by itself; the rest is a table.
const TOLD = new Set(["kind", "name", "instance", "line", "count", "time", "problem", "violations", "causes", "meaning", "diagnosis", "section", "disagreements", "bdf", "client", "text", "id"]);

/// What is inside of a record: of an event or a command its fields and bits, of others what they carry.
async function insideOf(record, engine) {
  const kind = { event: "event", "skipped-command": "cmd" }[record.kind];
  if (kind && record.words?.length === (kind === "event" ? 4 : 2)) {
    const decoded = await engine.ask({ request: "structure", kind, text: record.words.join(" "), options: { order: "memory" } });
    if (decoded.error) return [el("p", null, decoded.error)];
    const link = new URLSearchParams({ kind, text: record.words.join(" ") });
    return [fieldsOf(decoded.name, itemsOf(decoded), decoded.words.length, 64, decoded.words),
      el("pre", { class: "words" }, record.words.join("\n")),
      el("p", null, el("a", { href: `#${link}` }, `This ${kind === "event" ? "event" : "command"} alone`))].flat();
  }
  const rows = Object.entries({ ...record, ...record.fields }).filter(([name, value]) => present(value) && !TOLD.has(name) && name !== "fields");
  if (rows.length === 0) return null;
  const shown = (value) => Array.isArray(value) ? value.join(", ") : written(value);
  return [el("div", { class: "scroll" }, el("table", { class: "fields" }, el("tbody", null, rows.map(([name, value]) =>
    el("tr", null, el("th", { scope: "row" }, name), el("td", null, shown(value)))))))];
}

/// One record; what is inside is made when it is opened.
function showRecord(record, engine) {
  const details = el("details", null, el("summary", null, record.words?.length ? "Fields and bits" : "What it says"));
  let filled = false;
  details.addEventListener("toggle", async () => {
    if (!details.open || filled) return;
    filled = true;
    details.append(...(await insideOf(record, engine)) ?? [el("p", { class: "dim" }, "No more than that.")]);
  });
  const place = [record.instance, record.time, `line ${record.line.toLocaleString("en")}`, record.section ? `§${record.section}` : null].filter(Boolean).join(" · ");
  return el("article", { class: "record" },
    el("h3", null, record.name, KINDS[record.kind] && KINDS[record.kind] !== record.name ? el("span", { class: "gist" }, ` ${KINDS[record.kind]}`) : null, " ", record.count > 1 ? el("span", { class: "count" }, `×${record.count.toLocaleString("en")}`) : null, " ",
      el("span", { class: "gist" }, gist(record)), " ", el("span", { class: "dim place" }, place)),
    record.meaning || record.diagnosis || record.text ? el("p", null, sentence(record.meaning ?? record.diagnosis ?? record.text)) : null,
    causesOf(record.causes),
    listed("The kernel's own line says otherwise", "warn", record.disagreements),
    listed("Against the architecture", "warn", record.violations), details);
}

/// The tables of the summary: by page, stream, event and instance.
function showTables(summary) {
  const place = (title, which) => ({
    label: title, by: (group) => group[which].line,
    of: (group) => `line ${group[which].line.toLocaleString("en")}${group[which].time ? `, ${group[which].time}` : ""}`,
  });
  const instance = { label: "Instance", of: (group) => group.instance ?? "–" };
  const stream = {
    label: "Stream", by: (group) => numberOf(group.sid),
    of: (group) => present(group.sid) ? `${group.sid}${group.bdf ? ` (${group.bdf})` : ""}` : null,
  };
  const name = { label: "What", of: (group) => group.name };
  const page = { label: "Page", class: "mono", of: (group) => group.page, by: (group) => numberOf(group.page) };
  const access = { label: "Access", of: (group) => group.rnw === true ? "read" : group.rnw === false ? "write" : null };
  const count = { label: "Count", number: true, of: (group) => group.count.toLocaleString("en"), by: (group) => group.count };
  const ends = [count, place("First", "first"), place("Last", "last")];
  const tables = [
    ["by_page", "By page", [instance, stream, name, page, access, ...ends]],
    ["by_stream", "By stream", [instance, stream, ...ends]],
    ["by_event", "By event or error", [name, ...ends]],
    ["by_instance", "By instance", [instance, ...ends]],
  ].filter(([key]) => summary[key]?.length);
  return tables.map(([key, title, columns], at) => {
    const left = summary.others?.[key] ?? 0;
    return el("details", { open: at === 0 }, el("summary", null, `${title} (${summary[key].length.toLocaleString("en")})`),
      sortable(title, columns, summary[key]),
      left ? el("p", { class: "dim" }, `And ${plural(left, "record")} of others, for which there was no room.`) : null);
  });
}

/// The records, with filters.
function showRecords(records, engine) {
  const list = el("div");
  const found = el("p", { class: "dim", role: "status" });
  const more = el("button", { type: "button", click: () => { const first = shown; shown += RECORDS; fill(); goOn(list.children[first]); } });
  let shown = RECORDS;
  const options = (values) => [el("option", { value: "" }, "All"), ...[...new Set(values.filter(present))].sort().map((value) => el("option", null, value))];
  const sid = el("input", { id: "only-sid", size: "18", spellcheck: "false", autocomplete: "off", placeholder: "0x100 or 01:00.0" });
  const name = el("select", { id: "only-name" }, options(records.map((record) => record.name)));
  const instance = el("select", { id: "only-instance" }, options(records.map((record) => record.instance)));
  const problems = el("input", { type: "checkbox", id: "only-problems" });
  // Banners of a start that went well are not what somebody came for.
  problems.checked = records.some((record) => record.problem) && records.some((record) => record.problem === false);
  const isWanted = (record) => {
    const wanted = sid.value.trim().toLowerCase();
    const given = record.fields?.sid;
    const same = !wanted || record.bdf?.toLowerCase().includes(wanted) || (present(given) && /^(0x[0-9a-f]+|[0-9]+)$/.test(wanted) && BigInt(given) === BigInt(wanted));
    return same && (!name.value || record.name === name.value) && (!instance.value || record.instance === instance.value)
      && (!problems.checked || record.problem !== false);
  };
  function fill() {
    const wanted = records.filter(isWanted);
    list.replaceChildren(...wanted.slice(0, shown).map((record) => showRecord(record, engine)));
    const left = wanted.length - shown;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(RECORDS, left)} more of ${left.toLocaleString("en")}`;
    found.textContent = wanted.length === records.length ? "" : `${plural(wanted.length, "record")} of ${records.length.toLocaleString("en")}`;
  }
  for (const input of [sid, name, instance, problems]) input.addEventListener("input", () => { shown = RECORDS; fill(); });
  fill();
  const labelled = (label, input) => el("span", { class: "field" }, el("label", { for: input.id }, label), input);
  return el("section", { "aria-label": "Records" }, el("h2", null, "Records"),
    el("div", { class: "row filters", role: "group", "aria-label": "Which records are shown" }, labelled("Stream", sid), labelled("Event or error", name), labelled("Instance", instance),
      el("label", { class: "check" }, problems, "Only what is wrong"), found),
    list, more);
}

/// What to do about one cause: where it is, so that nobody has to look it up, and what to do.
function showAdvice({ id, text, count, first }, records) {
  const record = records.find((it) => it.line === first.line && it.causes?.some((cause) => cause.id === id))
    ?? records.find((it) => it.line === first.line);
  const where = record ? [record.name, gist(record)].filter(Boolean).join(", ") : "";
  const how = count > 1 ? `${plural(count, "record")}, the first in line` : "line";
  return el("li", null, el("b", null, causeName(id)), where ? `: ${where}` : null, " ",
    el("span", { class: "dim place" }, `${how} ${first.line.toLocaleString("en")}`), el("br"), inPage(text));
}

/// The explanation of a log.
function showLog({ records, summary, left_out: leftOut }, engine) {
  if (records.length === 0) {
    return el("div", null, el("h2", null, "Nothing about an SMMU"),
      el("p", null, `${plural(summary.lines ?? 0, "line")}, and none of them is one that a driver of an SMMUv3 writes. Are they of the right machine, and of the right time?`));
  }
  return el("div", null,
    el("h2", { class: `verdict ${summary.problems ? "bad" : "fine"}` }, summary.problems ? plural(summary.problems, "problem") : "Nothing is wrong", " ", el("span", { class: "dim" }, `in ${plural(summary.lines, "line")}`)),
    summary.overflows ? el("p", { class: "note warn" }, "A queue was full: records were lost, and nobody knows how many. What follows may be the lesser part.") : null,
    summary.advice?.length ? el("section", { "aria-label": "What to do" }, el("h3", null, "What to do"), el("ol", { class: "advice" }, summary.advice.map((advice) => showAdvice(advice, records)))) : null,
    el("section", { "aria-label": "Summary" }, showTables(summary)),
    showRecords(records, engine),
    leftOut ? el("p", { class: "dim" }, `${plural(leftOut, "more record")} are only in the summary.`) : null);
}
