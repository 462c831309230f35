// SPDX-License-Identifier: MIT OR Apache-2.0
//! A headless Chromium that is told what to do over its DevTools pipe.
//!
//! The protocol is JSON with a zero byte at the end, on the descriptors 3 and 4 of the browser: a shell
//! makes them of its standard input and output. No port is opened.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A browser with one tab. It ends with this.
pub struct Chromium {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    last: u64,
    /// Errors that the page and the browser reported: uncaught ones, and what the policy refused.
    pub complaints: Vec<String>,
    /// Addresses that the page asked for beside its own.
    pub requests: Vec<String>,
    _profile: TempDir,
}

/// Where Chromium is: what `SMMUV3_CHROMIUM` names, or one of the usual places.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SMMUV3_CHROMIUM") {
        return Some(named.into());
    }
    ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// Says that the running test does nothing, and why: to whoever reads, and to whoever counts.
pub fn skipped(reason: &str) {
    eprintln!("skipped: {reason}");
    if let Some(list) = std::env::var_os("SMMUV3_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(list);
        let thread = std::thread::current();
        let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

impl Chromium {
    /// Starts one; `None`, and a line that says so, where there is none.
    pub fn start() -> Option<Self> {
        let Some(program) = program() else {
            skipped("there is no Chromium (apt install chromium, or set SMMUV3_CHROMIUM)");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(program)
            // It may run as root, in a container with little shared memory. It sees only our pages.
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Self {
            child,
            to,
            from,
            session: None,
            last: 0,
            complaints: Vec::new(),
            requests: Vec::new(),
            _profile: profile,
        };
        let tab = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": tab["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method of the protocol.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut answer = self.read();
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
        }
    }

    /// The next message; what is an error is noted.
    fn read(&mut self) -> Value {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "Chromium has gone away");
        let message: Value = serde_json::from_slice(&message).unwrap();
        let parameters = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(parameters.to_string()),
            Some("Log.entryAdded") => self.complaints.push(parameters["entry"].to_string()),
            Some("Network.requestWillBeSent") => {
                self.requests.push(parameters["request"]["url"].as_str().unwrap().to_owned());
            }
            _ => {}
        }
        message
    }

    /// Opens an address and waits until the page in it has done what the address asks for.
    pub fn open(&mut self, url: &str) {
        // Only another fragment would not load the page anew.
        self.call("Page.navigate", json!({"url": "about:blank"}));
        self.call("Page.navigate", json!({"url": url}));
        self.wait("document.documentElement?.dataset.ready === 'true'");
    }

    /// The value of an expression, whose promise is awaited.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let question = json!({"expression": expression, "awaitPromise": true, "returnByValue": true,
                "allowUnsafeEvalBlockedByCSP": false});
        let mut answer = self.call("Runtime.evaluate", question);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// The text that an expression gives.
    #[track_caller]
    pub fn text(&mut self, expression: &str) -> String {
        self.value(expression).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true. The browser looks at each frame, and gives up after a while.
    #[track_caller]
    pub fn wait(&mut self, condition: &str) {
        let wait = format!(
            "new Promise((done) => {{
                const end = performance.now() + 20000;
                const look = () => ({condition}) ? done(true)
                    : performance.now() > end ? done(false) : setTimeout(look, 10);
                look();
            }})"
        );
        // A page that is being left takes the promise with it.
        for _ in 0..10 {
            let question = json!({"expression": wait, "awaitPromise": true, "returnByValue": true});
            self.last += 1;
            let message = json!({"id": self.last, "method": "Runtime.evaluate",
                "params": question, "sessionId": self.session});
            self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
            let answer = loop {
                let answer = self.read();
                if answer["id"] == self.last {
                    break answer;
                }
            };
            match answer["result"]["result"]["value"].as_bool() {
                Some(true) => return,
                Some(false) => break,
                None => {}
            }
        }
        panic!("never came: {condition}");
    }

    /// Presses and releases a key, as `KeyboardEvent.key` names it. `modifiers`: 1 Alt, 2 Control, 8 Shift.
    pub fn press(&mut self, key: &str, modifiers: u32) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            " " => 32,
            "End" => 35,
            "Home" => 36,
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            other => panic!("which key is {other}?"),
        };
        let text = match key {
            "Enter" => "\r",
            " " => " ",
            _ => "",
        };
        let mut event = json!({"type": "keyDown", "key": key, "modifiers": modifiers,
            "windowsVirtualKeyCode": code, "code": if key == " " { "Space" } else { key }});
        if !text.is_empty() {
            event["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", event.clone());
        event["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", event);
    }

    /// Makes the window `width` by `height`, with so many device pixels a pixel, in the dark or not.
    pub fn window(&mut self, width: u32, height: u32, dark: bool) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}),
        );
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// Writes what the window shows to a PNG file.
    pub fn picture(&mut self, file: &Path) {
        // Two frames, so that what was measured was drawn anew too.
        self.value(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 200))))",
        );
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"}));
        std::fs::write(file, base64(shot["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes that a text in Base64 stands for.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0_u32);
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|other| *other == digit).unwrap() as u32;
        held = held << 6 | value;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    bytes
}
