// SPDX-License-Identifier: MIT OR Apache-2.0
// The page as a whole: what is asked, and where the answer goes.

/// Most characters that are put into the box; a larger log is read from its file.
const LARGEST_TEXT = 400_000;

const EXAMPLES = [
  ["A log: faults of a network card", "log", `[    3.101733] arm-smmu-v3 fd800000.iommu: ias 48-bit, oas 48-bit (features 0x0040ffef)
[   41.902114] nic0: link is up
[   42.000127] arm-smmu-v3 fd800000.iommu: event 0x10 received:
[   42.000131] arm-smmu-v3 fd800000.iommu: 	0x0000018000000010
[   42.000134] arm-smmu-v3 fd800000.iommu: 	0x0000020000000000
[   42.000136] arm-smmu-v3 fd800000.iommu: 	0x00000000ffffe040
[   42.000139] arm-smmu-v3 fd800000.iommu: 	0x0000000000000000
[   42.310522] arm-smmu-v3 fd800000.iommu: event 0x10 received:
[   42.310525] arm-smmu-v3 fd800000.iommu: 	0x0000790000000010
[   42.310528] arm-smmu-v3 fd800000.iommu: 	0x0000020800000000
[   42.310530] arm-smmu-v3 fd800000.iommu: 	0x0000007ffd105a00
[   42.310532] arm-smmu-v3 fd800000.iommu: 	0x0000000000000000
[   43.000001] arm-smmu-v3 fd900000.iommu: event 0x02 received:
[   43.000004] arm-smmu-v3 fd900000.iommu: 	0x0000c90000000002
[   43.000006] arm-smmu-v3 fd900000.iommu: 	0x0000000000000000
[   43.000008] arm-smmu-v3 fd900000.iommu: 	0x0000000000000000
[   43.000010] arm-smmu-v3 fd900000.iommu: 	0x0000000000000000
`],
  ["A log: commands that hang", "log", `[  812.400010] arm-smmu-v3 fd800000.iommu: unexpected global error reported (0x00000001), this could be serious
[  812.400015] arm-smmu-v3 fd800000.iommu: CMDQ error (cons 0x01000042): Illegal command
[  812.400019] arm-smmu-v3 fd800000.iommu: skipping command in error state:
[  812.400022] arm-smmu-v3 fd800000.iommu: 	0x0000010000000011
[  812.400024] arm-smmu-v3 fd800000.iommu: 	0x00000000ffffe001
[  900.120344] arm-smmu-v3 fd900000.iommu: CMD_SYNC timeout at 0x00000146 [hwprod 0x00000146, hwcons 0x00000000]
[  900.120348] arm-smmu-v3 fd900000.iommu: EVTQ overflow detected -- events lost
`],
  ["An STE", "ste", "0x000000008002000b 0x00000000000000d4 0 0 0 0 0 0"],
  ["A CD", "cd", "0x0005e204c0003510 0x0000000080010000 0x0000000000000000 0x00000000000444ff 0 0 0 0"],
  ["A command", "cmd", "0x0005000000004012 0x0000000001000701"],
  ["An event", "event", "0x0000018000000010 0x0000020000000000 0x00000000ffffe040 0x0000000000000000"],
];

/// What the box shows while it is empty.
const sample = byId("text").placeholder;

let engine = null;
/// The file that is explained, where it is not in the box.
let file = null;
/// Which question is the last; an older one's answer comes too late.
let latest = 0;

/// What the tab is called, after what it shows.
const entitle = (what) => { document.title = what ? `${what} · SMMUv3 explorer` : "SMMUv3 explorer"; };

const say = (text, style = "") => {
  const status = byId("status");
  status.className = style;
  status.textContent = text;
};

/// The options of a structure, by the names that they have in questions, links and the form.
const OPTIONS = ["kernel", "order", "idr", "ste", "stage", "level", "granule", "oas", "ds", "pie", "fwb"];

/// Whether a part of the form is for this kind: it names kinds, or `structure` for all but logs.
function isFor(part, kind) {
  const kinds = part.dataset.kind.split(" ");
  return kinds.includes(kind) || (kinds.includes("structure") && kind !== "log");
}

/// What the form asks.
function question() {
  const kind = byId("kind").value;
  const given = OPTIONS.filter((name) => isFor(byId(name).closest("[data-kind]"), kind)).map((name) => [name, byId(name).value.trim()]);
  return { kind, text: byId("text").value, options: Object.fromEntries(given.filter(([, value]) => value && value !== "auto")) };
}

function show(...nodes) {
  byId("results").replaceChildren(...nodes);
}

/// Explains what is in the form, or the file. `remember` puts it into the address.
async function explain(remember = true) {
  try {
    await explained(remember);
  } catch (error) {
    show();
    say(`The page failed (${error.message}). Please report what you gave it.`, "error");
  }
}

/// The fragment of a link that was pasted: a colleague's page has another address than this one.
const linkIn = (text) => /^\s*\S*(#(?:\S*&)?(?:text|z|fields)=\S+)\s*$/.exec(text)?.[1];

async function explained(remember) {
  const mine = ++latest;
  const asked = question();
  // Only of what a user gave: a link in a link could go on for ever.
  const linked = remember && !file && linkIn(asked.text);
  if (linked) {
    // The address of this page may be just that already.
    if (linked === location.hash) await follow();
    else location.hash = linked;
    return;
  }
  if (!file && asked.text.trim() === "") {
    show();
    say("There is nothing to explain yet: paste something, or take an example.");
    return;
  }
  say("Reading…");
  const late = () => mine !== latest;
  const answer = await answerTo(asked, late);
  if (late() || !answer) return;
  if (answer.error) {
    show();
    entitle("");
    const told = sentence(inPage(answer.error));
    say(told, "error");
    if (told.includes("(under Options)")) byId("options").open = true;
  } else if (answer.records) {
    entitle(plural(answer.summary.problems, "problem"));
    show(showLog(answer, engine));
    say(`${plural(answer.records.length + (answer.left_out ?? 0), "record")} found.`);
  } else {
    entitle(answer.name);
    show(showStructure(answer, changed));
    say(`${answer.name}, ${plural(answer.words.length, "word")}.`);
  }
  // On a small screen the answer begins below the edge.
  fitText();
  if (byId("results").getBoundingClientRect().top > innerHeight * 0.6) byId("status").scrollIntoView();
  if (remember) {
    const fragment = file ? null : await fragmentOf(asked);
    if (!late()) history.replaceState(null, "", fragment ?? "#");
  }
}

async function answerTo({ kind, text, options }, late) {
  let what = file && kind === "auto" ? "log" : kind;
  if (what === "auto") {
    const found = await engine.ask({ request: "detect", text: text.slice(0, 65536) });
    if (found.error) return found;
    what = found.kind;
  }
  if (what !== "log") {
    if (file && file.size > LARGEST_TEXT) return { error: "That file is too large to be one structure; choose A log." };
    return engine.ask({ request: "structure", kind: what, text: file ? await file.text() : text, options });
  }
  const blob = file ?? new Blob([text]);
  return engine.log(blob, options.kernel ? { kernel: options.kernel } : {}, (at) => {
    if (blob.size > 4 * PIECE) say(`Reading… ${Math.round(at / blob.size * 100)} % of ${(blob.size / 1e6).toFixed(0)} MB`);
    return !late();
  });
}

/// Puts words into the form that have other values of fields. `told` hears why not.
async function changed(kind, fields, told) {
  const { options } = question();
  const answer = await engine.ask({ request: "encode", kind, fields, options: { ...options, order: "" } });
  if (answer.error) {
    told(answer.error);
    return;
  }
  setText(answer.words.join(" "));
  chooseKind(answer.kind);
  choose("order", "");
  await explain();
}

async function takeFile(taken) {
  if (taken.size <= LARGEST_TEXT) {
    setText(await taken.text());
  } else {
    setText("");
    file = taken;
    byId("text").placeholder = `${taken.name}, ${(taken.size / 1e6).toFixed(1)} MB, is read from the file.`;
  }
  chooseKind("auto");
  await explain();
}

function setText(text) {
  file = null;
  byId("text").value = text;
  byId("text").placeholder = sample;
}

/// What was explained leaves most of the room to the explanation. Who drew the box larger keeps it so.
function fitText() {
  byId("text").rows = Math.min(Math.max(byId("text").value.split("\n").length, 2), 5);
}

async function copyLink() {
  const fragment = file ? null : await fragmentOf(question());
  if (fragment === null) {
    say("That is too long for a link. Send the file, or cut it to the lines that matter.", "error");
    return;
  }
  history.replaceState(null, "", fragment);
  const link = location.href;
  try {
    await navigator.clipboard.writeText(link);
    say(location.protocol.startsWith("https") ? "The link was copied. What it carries is behind its #, which no server gets to see."
      : "The link was copied. A colleague pastes it into the box of his own page: this address is known to this computer alone.");
  } catch {
    say("The link is in the address bar now: copy it from there.");
  }
}

/// Sets a part of the form; what a list does not have becomes its first.
function choose(id, value) {
  const part = byId(id);
  part.value = value;
  if (part.tagName === "SELECT" && part.selectedIndex < 0) part.selectedIndex = 0;
}

/// Chooses a kind, with the options that it has.
function chooseKind(kind) {
  choose("kind", kind);
  for (const part of document.querySelectorAll("[data-kind]")) part.hidden = !isFor(part, byId("kind").value);
}

/// Shows what the address asks for.
async function follow() {
  const asked = await questionOf(location.hash);
  const layout = asked?.fields;
  byId("explain").hidden = layout !== undefined;
  byId("layouts").hidden = layout === undefined;
  byId("to-explain").toggleAttribute("aria-current", layout === undefined);
  byId("to-layouts").toggleAttribute("aria-current", layout !== undefined);
  for (const link of [byId("to-explain"), byId("to-layouts")]) if (link.hasAttribute("aria-current")) link.setAttribute("aria-current", "page");
  if (layout !== undefined) {
    const fromList = byId("layouts").contains(document.activeElement);
    byId("layouts").replaceChildren(...showLayouts(layout));
    entitle(byId("layouts").querySelector("h2").firstChild.data);
    if (fromList) byId("layouts").querySelector("h2").focus();
    return;
  }
  entitle("");
  if (!asked) return;
  if (asked.error) {
    say(asked.error, "error");
    return;
  }
  setText(asked.text ?? "");
  chooseKind(asked.kind);
  for (const name of OPTIONS) choose(name, asked.options[name] ?? "");
  byId("options").open = Object.keys(asked.options).length > 0;
  await explain(false);
}

function wire() {
  byId("form").addEventListener("submit", (event) => { event.preventDefault(); explain(); });
  byId("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); explain(); }
  });
  byId("text").addEventListener("input", () => { file = null; });
  byId("text").addEventListener("paste", (event) => {
    // A large log in the box would make every key slow.
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (text.length > LARGEST_TEXT) {
      event.preventDefault();
      takeFile(new File([text], "What was pasted"));
    } else if (byId("text").value === "") {
      setTimeout(explain);
    }
  });
  byId("open").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", () => { if (byId("file").files[0]) takeFile(byId("file").files[0]); byId("file").value = ""; });
  byId("kind").addEventListener("change", () => chooseKind(byId("kind").value));
  byId("link").addEventListener("click", copyLink);
  byId("clear").addEventListener("click", () => {
    latest++;
    setText("");
    byId("text").rows = 6;
    entitle("");
    show();
    say("");
    history.replaceState(null, "", "#");
    byId("text").focus();
  });
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    (byId("explain").hidden ? byId("layouts").querySelector("h2") : byId("results")).focus();
  });
  for (const [title, kind, text] of EXAMPLES) {
    byId("examples").append(el("button", { type: "button", class: "quiet", click: () => {
      setText(text);
      chooseKind(kind);
      for (const name of OPTIONS) choose(name, "");
      explain();
    } }, title));
  }
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("drop"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("drop"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("drop");
    const [dropped] = event.dataTransfer.files;
    if (dropped) takeFile(dropped);
    else if (event.dataTransfer.getData("text/plain")) { setText(event.dataTransfer.getData("text/plain")); explain(); }
  });
  addEventListener("hashchange", follow);
}

async function start() {
  engine = await openEngine();
  byId("where").textContent = engine.where;
  const [{ structures }, choices] = await Promise.all([engine.ask({ request: "fields" }), engine.ask({ request: "kinds" })]);
  for (const structure of structures ?? []) layouts.set(structure.name, structure);
  const option = ({ name, about }) => el("option", { value: name }, about);
  const capital = ({ name, about }) => ({ name, about: about.replace(/^./, (letter) => letter.toUpperCase()) });
  byId("kind").append(el("option", { value: "auto" }, "Find out"), el("option", { value: "log" }, "A log"),
    el("optgroup", { label: "A structure" }, (choices.kinds ?? []).map(capital).map(option)),
    el("optgroup", { label: "A register" }, (choices.others ?? []).map(option)));
  byId("order").append(...(choices.orders ?? []).map(capital).map(option));
  byId("instances").append(...(choices.instances ?? []).map(option));
  wire();
  await follow();
  document.documentElement.dataset.ready = "true";
}

start().catch((error) => say(`The page could not start: ${error.message}`, "error"));
