// SPDX-License-Identifier: MIT OR Apache-2.0
// A log, explained: the summary first, then the records.

/// Records that are shown at first, and with each press of the button.
const RECORDS = 50;

const hexOf = (text) => text === null || text === undefined ? null : BigInt(text);

/// A stream ID as a PCI function: bus:device.function.
function bdf(sid) {
  const id = Number(sid);
  if (!(id >= 0 && id <= 0xffff)) return null;
  const hex = (number) => number.toString(16).padStart(2, "0");
  return `${hex(id >> 8)}:${hex(id >> 3 & 31)}.${id & 7}`;
}

const streamOf = (sid) => sid === null || sid === undefined ? "" : `SID ${sid}${bdf(sid) ? ` (${bdf(sid)} if a PCI function)` : ""}`;

/// What a record says in one line, after its name.
function gist(record) {
  const fields = record.fields ?? {};
  return [
    streamOf(fields.sid),
    fields.ssid === null || fields.ssid === undefined ? "" : `SSID ${fields.ssid}`,
    fields.addr === null || fields.addr === undefined ? "" : `${fields.rnw === false ? "write to" : fields.rnw ? "read of" : "at"} ${fields.addr}`,
  ].filter(Boolean).join(", ");
}

const causesOf = (record) => record.causes?.length
  ? el("div", null, el("h4", null, "Likely causes, the likeliest first"), el("ol", { class: "causes" },
    record.causes.map((cause) => el("li", null, el("b", null, cause.id), " ", cause.why))))
  : null;

/// One record, closed but for its causes; what is inside is made when it is opened.
function showRecord(record, engine) {
  const inside = el("div", { class: "inside" });
  const details = el("details", null, el("summary", null, "Fields and bits"), inside);
  let filled = false;
  details.addEventListener("toggle", async () => {
    if (!details.open || filled) return;
    filled = true;
    if (record.kind === "event" && record.words?.length === 4) {
      const decoded = await engine.ask({ request: "structure", kind: "event", text: record.words.join(" ") });
      inside.replaceChildren(...(decoded.error ? [el("p", null, decoded.error)]
        : [...fieldsOf(decoded.name, itemsOf(decoded), decoded.words.length, 64), el("pre", { class: "words" }, record.words.join("\n"))]));
    } else {
      inside.replaceChildren(el("table", { class: "fields" }, el("tbody", null, Object.entries(record)
        .filter(([name, value]) => value !== null && !["causes", "kind", "name", "violations"].includes(name))
        .map(([name, value]) => el("tr", null, el("th", { scope: "row" }, name),
          el("td", { class: "mono" }, typeof value === "object" ? JSON.stringify(value) : String(value)))))));
    }
  });
  const place = [record.instance, `line ${record.line}`, record.count > 1 ? `×${record.count.toLocaleString("en")}` : null].filter(Boolean).join(" · ");
  return el("article", { class: "record" },
    el("h3", null, record.name ?? record.kind, " ", el("span", { class: "gist" }, gist(record)), " ", el("span", { class: "dim" }, place)),
    record.meaning ? el("p", null, record.meaning) : null,
    listed("Against the architecture", "warn", record.violations),
    causesOf(record), details);
}

/// The explanation of a log.
function showLog({ records, summary }, engine) {
  const list = el("div", { class: "records" });
  return el("div", null, el("h2", null, plural(records.length, "record")), list, fillRecords(list, records, engine));
}

function fillRecords(list, records, engine) {
  list.replaceChildren(...records.slice(0, RECORDS).map((record) => showRecord(record, engine)));
  return null;
}
