// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page of `smmuv3 explore` in a headless Chromium: written to a file and opened from there, and served.
//!
//! Skipped where there is no Chromium. `SMMUV3_PICTURES=DIR` keeps pictures of the page, to be looked at.

mod chromium;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use chromium::{Chromium, skipped};

/// A write to what looks like an MSI doorbell, as Linux reports it.
const LOG: &str = "[   42.000127] arm-smmu-v3 smmu0: event 0x10 received:\n\
    [   42.000131] arm-smmu-v3 smmu0: \t0x0000018000000010\n\
    [   42.000134] arm-smmu-v3 smmu0: \t0x0000020000000000\n\
    [   42.000136] arm-smmu-v3 smmu0: \t0x00000000ffffe040\n\
    [   42.000139] arm-smmu-v3 smmu0: \t0x0000000000000000\n";
/// Stage 1, the CD at 0x80020000.
const STE: &str = "0x8002000b 0xd4 0 0 0 0 0 0";

/// What the page shows of the explanation.
const RESULTS: &str = "document.getElementById('results').innerText";

/// `text` as a part of a fragment.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The page as a file.
struct File {
    _folder: TempDir,
    path: PathBuf,
}

impl File {
    /// Writes it; `None`, and a line that says so, where this was built without WebAssembly.
    fn write() -> Option<Self> {
        let Ok(page) = smmuv3_explore::page::alone() else {
            skipped("there is no WebAssembly (rustup target add wasm32-unknown-unknown)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.html");
        std::fs::write(&path, page).unwrap();
        Some(Self { _folder: folder, path })
    }

    fn url(&self, fragment: &str) -> String {
        format!("file://{}{fragment}", self.path.display())
    }
}

/// A server that ends with this.
struct Server(Child, String);

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_smmuv3"))
            .args(["explore", "--no-wasm", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let url = said["url"].as_str().unwrap().to_owned();
        Self(child, url)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn assert_shows(browser: &mut Chromium, words: &[&str]) {
    let shown = browser.text(RESULTS);
    for word in words {
        assert!(shown.contains(word), "no {word:?} in {shown:?}");
    }
}

/// What the page shows of the explanation, once its pictures have their bits too.
fn drawn(browser: &mut Chromium) -> String {
    browser.wait(
        "document.getElementById('results').firstChild
            && [...document.querySelectorAll('#results .picture')].every((it) => it.querySelector('.bit'))",
    );
    browser.text(RESULTS)
}

/// One browser for all of it: starting one costs more than everything else.
#[test]
fn the_page_in_a_browser() {
    let Some(file) = File::write() else { return };
    let Some(mut browser) = Chromium::start() else { return };
    browser.window(1200, 900, false);
    a_link_shows_a_log_and_its_causes(&mut browser, &file);
    tables_sort_and_records_are_filtered(&mut browser, &file);
    a_link_shows_a_structure(&mut browser, &file);
    what_is_pasted_never_runs(&mut browser, &file);
    the_module_answers_as_the_program(&mut browser, &file);
    failures_and_haste_leave_the_page_usable(&mut browser, &file);
    texts_are_about_the_page(&mut browser, &file);
    links_come_back_as_they_went(&mut browser, &file);
    a_damaged_link_is_told(&mut browser, &file);
    values_are_changed(&mut browser, &file);
    the_keyboard_is_enough(&mut browser, &file);
    a_large_log_is_read_in_pieces(&mut browser, &file);
    layouts_are_found(&mut browser, &file);
    nothing_is_wider_than_a_narrow_window(&mut browser, &file);
    everything_can_be_read_by_day_and_by_night(&mut browser, &file);
    let outside: Vec<_> = browser.requests.iter().filter(|url| !url.starts_with("file:")).collect();
    assert!(outside.iter().all(|url| url.starts_with("about:")), "{outside:?}");
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
    a_server_decodes_for_a_browser_that_cannot(&mut browser);
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
    if let Some(folder) = std::env::var_os("SMMUV3_PICTURES") {
        pictures(&mut browser, &file, Path::new(&folder));
    }
}

fn a_link_shows_a_log_and_its_causes(browser: &mut Chromium, file: &File) {
    browser.open(&file.url(&format!("#kind=log&text={}", escaped(LOG))));
    assert_shows(
        browser,
        &["F_TRANSLATION", "0x180", "01:10.0", "write", "0xffffe040", "doorbell"],
    );
    assert_eq!(browser.text("document.getElementById('text').value"), LOG);
    assert_eq!(browser.text("document.getElementById('status').textContent"), "1 record found.");
    // Without a kind, it is found out.
    browser.open(&file.url(&format!("#text={}", escaped(LOG))));
    assert_shows(browser, &["F_TRANSLATION"]);
    // The bits of the record, once it is opened.
    browser.value("document.querySelector('#results .record details').open = true");
    browser.wait("document.querySelector('#results .record .bit')");
    assert_shows(browser, &["StreamID", "InputAddr"]);
}

/// The same from two streams, of one three times.
fn tables_sort_and_records_are_filtered(browser: &mut Chromium, file: &File) {
    let other =
        |at: u32| LOG.replace("00000180", "00000200").replace("ffffe040", &format!("0000{at}000"));
    let log: String = [LOG.to_owned(), other(1), other(2), other(3)].concat();
    browser.open(&file.url(&format!("#kind=log&text={}", escaped(&log))));
    let column = "[...document.querySelectorAll('#results table')[0].tBodies[0].rows].map((row) => row.cells[3].innerText).join()";
    // The page: a head that is pressed twice sorts upwards, then downwards.
    browser.value(
        "document.querySelectorAll('#results table')[0].querySelectorAll('button.sort')[3].focus()",
    );
    browser.press("Enter", 0);
    assert_eq!(browser.text(column), "0x1000,0x2000,0x3000,0xffffe000");
    let sorted = "document.querySelectorAll('#results th')[3].getAttribute('aria-sort')";
    assert_eq!(browser.text(sorted), "ascending");
    browser.press("Enter", 0);
    assert_eq!(browser.text(column), "0xffffe000,0x3000,0x2000,0x1000");
    assert_eq!(browser.text(sorted), "descending");

    let mut filtered = |sid: &str| {
        browser.value(&format!(
            "(() => {{ const it = document.getElementById('only-sid'); it.value = '{sid}'; it.dispatchEvent(new Event('input')); }})()"
        ));
        browser.value("document.querySelectorAll('.record').length")
    };
    assert_eq!(filtered("0x180"), 1);
    assert_eq!(filtered("384"), 1);
    assert_eq!(filtered("02:00.0"), 3);
    assert_eq!(filtered("0x999"), 0);
    assert_eq!(filtered(""), 4);
}

fn a_link_shows_a_structure(browser: &mut Chromium, file: &File) {
    browser.open(&file.url(&format!("#kind=ste&text={}", escaped(STE))));
    assert_shows(browser, &["STE", "§5.2", "Config", "5", "S1ContextPtr", "0x80020000", "S1CIR"]);
    browser.wait("document.querySelector('.bit')");
    // Every field once by name, of 8 words.
    let fields = smmuv3_formats::structure::find("STE").unwrap().fields.len();
    assert_eq!(browser.value("document.querySelectorAll('button.bit').length"), fields);
    assert_eq!(browser.value("document.querySelectorAll('.word').length"), 8);
    // It is judged by the instance that the link names: without stage 1 there is no such STE.
    browser.open(&file.url(&format!("#kind=ste&text={}&idr=idr0%3D0x1", escaped(STE))));
    assert_shows(browser, &["Illegal"]);
}

/// Markup in a log, a structure, a name of an instance and a link stays text.
fn what_is_pasted_never_runs(browser: &mut Chromium, file: &File) {
    let bad = "<img src=x onerror=\"window.ran = 1\"><script>window.ran = 1</script>";
    let log = LOG.replace("smmu0", "<img/src=x/onerror=window.ran=1>");
    for (kind, text) in [
        ("log", format!("{log}{bad}\n{LOG}")),
        ("ste", format!("{bad} {STE}")),
        ("nonsense", bad.to_owned()),
        ("auto", bad.to_owned()),
    ] {
        let text = escaped(&text);
        browser.open(&file.url(&format!("#kind={kind}&text={text}&idr={}", escaped(bad))));
        browser.value("new Promise((done) => setTimeout(done, 50))");
        let made = "document.querySelectorAll('img, main script, iframe, object').length";
        assert_eq!(browser.value(made), 0, "{kind}");
        assert_eq!(browser.value("window.ran ?? null"), Value::Null, "{kind}");
    }
    // A name of a file, and names that every object has.
    let named = "<img src=x onerror='window.ran = 1'>";
    browser.open(
        &file.url("#__proto__=1&constructor=2&toString=3&idr=__proto__&kind=__proto__&text=0+0"),
    );
    browser.value(&format!(
        "(() => {{ const transfer = new DataTransfer();
            transfer.items.add(new File(['x'.repeat(500000)], {}));
            window.dispatchEvent(new DragEvent('drop', {{ dataTransfer: transfer, cancelable: true }})); }})()",
        Value::from(named)
    ));
    browser.wait("document.getElementById('text').placeholder.includes('onerror')");
    browser.wait("document.getElementById('results').firstChild");
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    assert_eq!(browser.value("Object.keys(Object.prototype).length"), 0);
    // And if there were a way to make markup, the policy would stop it.
    let refused = browser.value(
        "(() => {
            const [it, script] = [document.createElement('div'), document.createElement('script')];
            const ways = [
                () => { it.innerHTML = '<img src=x onerror=\"window.ran = 1\">'; },
                () => { script.textContent = 'window.ran = 1'; },
                () => new Function('window.ran = 1')(),
                () => { it.setAttribute('onclick', 'window.ran = 1'); document.body.append(it); it.click(); },
                () => { script.append('window.ran = 1'); document.body.append(script); },
            ];
            return ways.map((way) => { try { way(); return 'done'; } catch (error) { return error.name; } });
        })()",
    );
    browser.value("new Promise((done) => setTimeout(done, 50))");
    assert_eq!(browser.value("window.ran ?? null"), Value::Null);
    assert_eq!(refused[0], "TypeError", "no markup is made: {refused}");
    let refused = std::mem::take(&mut browser.complaints);
    let security = refused.iter().filter(|it| it.contains("\"source\":\"security\""));
    assert!(security.count() >= 5, "each way: {refused:#?}");
}

/// The module's answers are the program's, for every log of the corpus.
fn the_module_answers_as_the_program(browser: &mut Chromium, file: &File) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../decode/tests/corpus");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    let logs: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    browser.open(&file.url(""));
    let answers = browser.value(&format!(
        "(async () => {{
            const bytes = Uint8Array.from(atob(document.getElementById('module').textContent), (it) => it.charCodeAt(0));
            const {{ instance: {{ exports: module }} }} = await WebAssembly.instantiate(bytes);
            const give = (bytes) => {{
                const block = module.block_new(bytes.length);
                new Uint8Array(module.memory.buffer, block + 4, bytes.length).set(bytes);
                return block;
            }};
            const answers = {}.map((log) => {{
                module.log_open(give(new TextEncoder().encode('{{}}')));
                for (let at = 0; at < log.length; at += 97) module.log_feed(give(Uint8Array.from(log.slice(at, at + 97))));
                const block = module.log_close();
                const length = new DataView(module.memory.buffer).getUint32(block, true);
                const answer = new TextDecoder().decode(new Uint8Array(module.memory.buffer, block + 4, length));
                module.block_free(block);
                return answer;
            }});
            // All blocks were given up: as much again takes no more memory. What none can have is null.
            const before = module.memory.buffer.byteLength;
            for (let at = 0; at < 1000; at++) module.block_free(module.block_new(100000));
            return [answers, module.memory.buffer.byteLength - before, module.block_new(-1), module.block_new(0x7fffffff)];
        }})()",
        serde_json::json!(logs)
    ));
    for ((path, log), answer) in paths.iter().zip(&logs).zip(answers[0].as_array().unwrap()) {
        let mut here = smmuv3_explore::Log::new("{}");
        here.feed(log);
        assert_eq!(answer.as_str().unwrap(), here.finish(), "{}", path.display());
    }
    assert!(answers[1].as_u64() < Some(1 << 20), "memory grew: {}", answers[1]);
    assert_eq!((&answers[2], &answers[3]), (&Value::from(0), &Value::from(0)));
}

/// A decoder that failed is begun anew, and who asks again before there was an answer gets the last one.
fn failures_and_haste_leave_the_page_usable(browser: &mut Chromium, file: &File) {
    let submit = "document.getElementById('form').requestSubmit()";
    browser.open(&file.url(&format!("#kind=ste&text={}", escaped(STE))));
    browser.value(
        "(() => {
            window.instances = 0;
            const [instantiate, decode] = [WebAssembly.instantiate, TextDecoder.prototype.decode];
            WebAssembly.instantiate = (...all) => { window.instances++; return instantiate(...all); };
            TextDecoder.prototype.decode = () => { TextDecoder.prototype.decode = decode; throw new WebAssembly.RuntimeError('unreachable'); };
        })()",
    );
    browser.value(submit);
    browser.wait("document.getElementById('status').className === 'error'");
    let status = browser.text("document.getElementById('status').textContent");
    assert!(status.contains("decoder failed (unreachable)"), "{status}");
    assert_eq!(browser.value("window.instances"), 1);
    browser.value(submit);
    browser.wait("document.querySelector('#results .structure')");

    browser.open(&file.url(&format!("#kind=log&text={}", escaped(LOG))));
    for wait in 0..12 {
        browser.value(&format!(
            "new Promise((done) => {{ {submit}; setTimeout(() => {{ {submit}; done(); }}, {}); }})",
            wait / 2
        ));
        browser.wait("document.getElementById('status').textContent === '1 record found.'");
    }
    assert_shows(browser, &["F_TRANSLATION"]);
}

/// What the command says of its options is said of the page's.
fn texts_are_about_the_page(browser: &mut Chromium, file: &File) {
    for (fragment, words) in [
        ("#kind=pte&text=0x0060000090000f43", "the level of its table"),
        ("#kind=cd&text=0x0005e204c0003510+0x80010000+0+0x444ff+0+0+0+0", "its STE"),
        ("#kind=features&text=0x80000", "the version of the kernel"),
        ("#kind=gerror&text=5", "Decode CMDQ_CONS as cmdq-cons"),
        ("#kind=ste&text=zzz", "choose A log"),
    ] {
        browser.open(&file.url(fragment));
        let shown = browser.text("document.getElementById('status').textContent + document.getElementById('results').innerText");
        assert!(shown.contains(words), "no {words:?} in {shown}");
        assert!(!shown.contains("--") && !shown.contains("smmuv3 "), "{shown}");
    }
}

/// What is typed goes into the address, and comes out of it in another window.
fn links_come_back_as_they_went(browser: &mut Chromium, file: &File) {
    let long: String = (0..60).map(|at| LOG.replace("42.", &format!("{}.", at + 100))).collect();
    for text in ["0x0005000000004012 0x0000000001000701", LOG, &long] {
        browser.open(&file.url(""));
        browser.value(&format!("document.getElementById('text').value = {}", Value::from(text)));
        browser.value("document.getElementById('form').requestSubmit()");
        browser.wait("location.hash.length > 1");
        let shown = drawn(browser);
        let url = browser.text("location.href");
        assert!(url.len() < 2000, "{} characters for {}", url.len(), text.len());
        browser.open(&url);
        assert_eq!(browser.text("document.getElementById('text').value"), text);
        assert_eq!(drawn(browser), shown);
        if text == LOG {
            continue;
        }
        // Or it goes into the box of a page elsewhere.
        browser.open(&file.url(""));
        let fragment = url.split_once('#').unwrap().1;
        let link = Value::from(format!("http://127.0.0.1:1234/#{fragment}\n"));
        browser.value(&format!("document.getElementById('text').value = {link}"));
        browser.value("document.getElementById('form').requestSubmit()");
        browser.wait("!document.getElementById('text').value.includes('127.0.0.1')");
        assert_eq!(browser.text("document.getElementById('text').value"), text);
        assert_eq!(drawn(browser), shown);
    }
}

fn a_damaged_link_is_told(browser: &mut Chromium, file: &File) {
    browser.open(&file.url("#kind=log&z=nonsense!"));
    let status = browser.text("document.getElementById('status').textContent");
    assert!(status.contains("damaged"), "{status}");
    // Five megabytes of nothing, packed into little, are not unpacked.
    browser.value(
        "(async () => {
            const packed = new Blob([new Uint8Array(5_000_000)]).stream().pipeThrough(new CompressionStream('deflate-raw'));
            const bytes = new Uint8Array(await new Response(packed).arrayBuffer());
            let text = ''; for (const byte of bytes) text += String.fromCharCode(byte);
            location.hash = 'kind=log&z=' + btoa(text).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
        })()",
    );
    browser.wait("document.getElementById('status').className === 'error'");
}

fn values_are_changed(browser: &mut Chromium, file: &File) {
    browser.open(&file.url(&format!("#kind=ste&text={}", escaped(STE))));
    let change = |value: &str| {
        format!(
            "(() => {{
                const box = [...document.querySelectorAll('#results .check')].find((it) => it.innerText.includes('Change'));
                if (!box.querySelector('input').checked) box.click();
                const input = document.querySelector('.editor[data-field=Config]');
                input.focus(); input.value = '{value}'; input.dispatchEvent(new Event('change'));
            }})()"
        )
    };
    browser.value(&change("9"));
    browser.wait("document.querySelector('[role=alert]:not([hidden])')");
    assert_shows(browser, &["does not fit"]);
    browser.value(&change("4"));
    browser.wait("document.getElementById('text').value.startsWith('0x0000000080020009 ')");
    browser.wait("document.activeElement.dataset.field === 'Config'");
}

/// Everything can be reached and done by Tab, Enter and arrows, and what has the focus shows it.
fn the_keyboard_is_enough(browser: &mut Chromium, file: &File) {
    browser.open(&file.url(""));
    browser.press("Tab", 0);
    assert_eq!(browser.text("document.activeElement.id"), "skip");
    let mut reached = Vec::new();
    for _ in 0..40 {
        browser.press("Tab", 0);
        let focus = browser.text(
            "(() => { const it = document.activeElement; const style = getComputedStyle(it);
                const visible = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
                return `${it.id || it.innerText}${visible ? '' : ' INVISIBLE'}`; })()",
        );
        assert!(!focus.contains("INVISIBLE"), "{focus}");
        reached.push(focus);
        if reached.last().is_some_and(|last| last == "An STE") {
            break;
        }
    }
    for id in ["to-explain", "to-layouts", "text", "kind", "go", "open", "link", "clear", "An STE"]
    {
        assert!(reached.iter().any(|it| it == id), "{id} is not reached: {reached:?}");
    }
    browser.press("Enter", 0);
    browser.wait("document.querySelector('button.bit')");
    // One stop for the whole picture, in which the arrows go on.
    browser.value("document.querySelector('#results .check:last-child input').focus()");
    browser.press("Tab", 0);
    for _ in 0..5 {
        if browser.value("document.activeElement.matches('.bit')") == true {
            break;
        }
        browser.press("Tab", 0);
    }
    let label = "document.activeElement.getAttribute('aria-label')";
    assert!(
        browser.text(label).starts_with("S1CDMax, word 0, bits 63:59"),
        "{}",
        browser.text(label)
    );
    browser.press("ArrowRight", 0);
    assert!(browser.text(label).contains("S1ContextPtr"), "{}", browser.text(label));
    let caption = browser.text("document.querySelector('.caption').innerText");
    assert!(caption.contains("S1ContextPtr") && caption.contains("0x80020000"), "{caption}");
    assert_eq!(browser.text("document.querySelector('tr.lit th').innerText"), "S1ContextPtr");
    browser.press("End", 0);
    assert!(browser.text(label).starts_with("S2POI"), "{}", browser.text(label));
    browser.press("Home", 0);
    assert!(browser.text(label).starts_with("S1CDMax"), "{}", browser.text(label));
    // Ctrl+Enter in the text explains it.
    browser.value("(() => { const text = document.getElementById('text'); text.value = '0 0 0 0 0 0 0 0'; text.focus(); })()");
    browser.press("Enter", 2);
    browser.wait("location.hash.includes('text=0+0')");
}

/// Much more than fits into the box: while it is read the page goes on living.
fn a_large_log_is_read_in_pieces(browser: &mut Chromium, file: &File) {
    browser.open(&file.url(""));
    let frames = browser.value(&format!(
        "(async () => {{
            const noise = '[    1.000000] usb 1-1: new high-speed USB device number 2 using xhci_hcd\\n'.repeat(14000);
            const log = new File([...Array(50).fill(noise), {}], 'kern.log');
            let frames = 0;
            const count = () => {{ frames++; requestAnimationFrame(count); }};
            count();
            const transfer = new DataTransfer();
            transfer.items.add(log);
            window.dispatchEvent(new DragEvent('drop', {{ dataTransfer: transfer, cancelable: true, bubbles: true }}));
            const seen = new Set();
            while (!document.querySelector('.record')) {{
                seen.add(document.getElementById('status').textContent);
                await new Promise((done) => setTimeout(done, 20));
            }}
            return [log.size, frames, [...seen].filter((it) => it.includes('%')).length];
        }})()",
        Value::from(LOG)
    ));
    assert!(frames[0].as_u64() > Some(50_000_000), "{frames}");
    assert!(frames[2].as_u64() >= Some(2), "progress was seen: {frames}");
    assert_shows(browser, &["F_TRANSLATION"]);
    // It is not put into the box, nor into the address.
    assert_eq!(browser.text("document.getElementById('text').value"), "");
    assert_eq!(browser.text("location.hash"), "");
}

fn layouts_are_found(browser: &mut Chromium, file: &File) {
    browser.open(&file.url("#fields=CMD_SYNC"));
    let shown = browser.text("document.querySelector('#layouts article').innerText");
    for word in ["CMD_SYNC", "code 0x46", "MSIAttr", "MSIAddr"] {
        assert!(shown.contains(word), "no {word} in {shown}");
    }
    assert_eq!(browser.value("document.getElementById('explain').hidden"), true);
    let links = browser.value("document.querySelectorAll('.side li a').length");
    assert_eq!(links, smmuv3_formats::structure::ALL.len());
    browser.value(
        "(() => { const find = document.getElementById('find'); find.value = 'msiaddr'; find.dispatchEvent(new Event('input')); })()",
    );
    let found = browser.text("document.querySelector('.side .lists').innerText");
    assert!(found.contains("CMD_SYNC") && !found.contains("STE"), "{found}");
    browser.value("document.querySelector('.side li a').click()");
    browser.wait("location.hash === '#fields=CMD_SYNC'");
}

/// At 320 pixels, which is 200 % on a small screen and 400 % on a usual one, nothing but tables and dumps,
/// which scroll by themselves, goes beyond the edge.
fn nothing_is_wider_than_a_narrow_window(browser: &mut Chromium, file: &File) {
    browser.window(320, 640, false);
    for fragment in [
        format!("#kind=ste&text={}", escaped(STE)),
        format!("#kind=log&text={}", escaped(LOG)),
        "#fields=CD".to_owned(),
    ] {
        browser.open(&file.url(&fragment));
        let excess = browser.value("document.documentElement.scrollWidth - innerWidth");
        assert!(excess.as_i64() <= Some(0), "{fragment}: {excess} pixels");
    }
    browser.window(1200, 900, false);
}

/// The contrast of each text is that of WCAG 2.2 (1.4.3): 4.5 to 1.
fn everything_can_be_read_by_day_and_by_night(browser: &mut Chromium, file: &File) {
    const FAINT: &str = "(() => {
        const parts = (color) => { const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
        const light = (rgb) => { const [r, g, b] = rgb.map((it) => it / 255).map((it) => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const behind = (it) => { for (; it; it = it.parentElement) { const color = parts(getComputedStyle(it).backgroundColor); if (color.a === 1) return color.rgb; } return [255, 255, 255]; };
        const faint = [];
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        for (let text = texts.nextNode(); text; text = texts.nextNode()) {
            const it = text.parentElement;
            if (!text.data.trim() || !it.checkVisibility() || it.closest('script, style, noscript, select')) continue;
            const [one, other] = [light(parts(getComputedStyle(it).color).rgb), light(behind(it))].sort((a, b) => b - a);
            if ((one + 0.05) / (other + 0.05) < 4.5) faint.push(text.data);
        }
        return faint;
    })()";
    // With a reserved bit and a rule that is broken.
    let wrong = escaped("0x8002000b 0x00000400000000d4 0 0 0 0 0 0");
    for dark in [false, true] {
        browser.window(1200, 900, dark);
        for fragment in [
            format!("#kind=ste&text={wrong}&idr=idr0%3D0x1"),
            format!("#kind=log&text={}", escaped(LOG)),
            "#fields=STE".to_owned(),
        ] {
            browser.open(&file.url(&fragment));
            browser
                .value("document.querySelectorAll('details').forEach((it) => { it.open = true; })");
            browser.wait(
                "!document.querySelector('.record') || document.querySelector('.record .bit')",
            );
            assert_eq!(browser.value(FAINT), Value::Array(Vec::new()), "{fragment} {dark}");
        }
    }
    browser.open(&file.url(&format!("#kind=ste&text={wrong}")));
    browser.wait("document.querySelector('button.bit')");
    assert_eq!(browser.text("document.querySelector('.reserved.wrong').title"), "43:41: no field");
    browser.window(1200, 900, false);
}

fn a_server_decodes_for_a_browser_that_cannot(browser: &mut Chromium) {
    let server = Server::start();
    browser.requests.clear();
    browser.open(&format!("{}#kind=log&text={}", server.1, escaped(LOG)));
    assert_shows(browser, &["F_TRANSLATION", "0x180", "doorbell"]);
    browser.open(&format!("{}#kind=ste&text={}", server.1, escaped(STE)));
    assert_shows(browser, &["STE", "0x80020000"]);
    let requests = std::mem::take(&mut browser.requests);
    let is_own = |url: &&String| url.starts_with(&server.1) || url.starts_with("about:");
    assert!(requests.iter().all(|url| is_own(&url)), "{requests:?}");
    assert!(requests.iter().any(|url| url.ends_with("/answer")), "{requests:?}");
    drop(server);
    browser.value("document.getElementById('form').requestSubmit()");
    browser.wait("document.getElementById('status').className === 'error'");
    let status = browser.text("document.getElementById('status').textContent");
    assert!(status.contains("still running"), "{status}");
    // That it does not answer is what the browser complains about.
    browser.complaints.retain(|it| !it.contains("ERR_CONNECTION_REFUSED"));
}

/// What the page looks like, for somebody to look at.
fn pictures(browser: &mut Chromium, file: &File, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let example =
        |at: usize| format!("document.querySelectorAll('#examples button')[{at}].click()");
    for (name, at) in [("log", 0), ("hang", 1), ("ste", 2), ("cd", 3), ("cmd", 4), ("event", 5)] {
        browser.open(&file.url(""));
        browser.value(&example(at));
        browser.wait("document.getElementById('results').firstChild");
        for (kind, width, height, dark) in [
            ("light", 1200, 900, false),
            ("dark", 1200, 900, true),
            ("200", 600, 800, false),
            ("narrow", 360, 800, false),
        ] {
            browser.window(width, height, dark);
            browser.picture(&folder.join(format!("{name}-{kind}.png")));
        }
        browser.window(1200, 2400, false);
        browser.picture(&folder.join(format!("{name}-whole.png")));
    }
    // Those of the README: a log by day, a structure by night.
    browser.window(1000, 760, false);
    browser.open(&file.url(""));
    browser.value(&example(0));
    browser.wait("document.getElementById('results').firstChild");
    browser.picture(&folder.join("explore-light.png"));
    browser.window(1000, 760, true);
    browser.value(&example(2));
    browser.wait("document.querySelector('button.bit')");
    browser.value("document.querySelector('#results h2').scrollIntoView()");
    browser.value("document.querySelectorAll('button.bit')[1].focus()");
    browser.picture(&folder.join("explore-dark.png"));

    browser.open(&file.url("#fields=CD"));
    for (kind, width, dark) in
        [("light", 1200, false), ("dark", 1200, true), ("narrow", 360, false)]
    {
        browser.window(width, 900, dark);
        browser.picture(&folder.join(format!("layouts-{kind}.png")));
    }
}
