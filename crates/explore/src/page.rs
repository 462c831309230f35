// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page: one file that needs no other.
//!
//! It is put together of the parts in `page/`, which are neither compressed nor generated. What may run
//! in it is said by a Content-Security-Policy that has the digests of its one script and its one style
//! sheet: whatever is pasted cannot become a second.

use crate::hash::{base64, sha256};

/// The WebAssembly module, from the build script; empty where it could not be built.
const MODULE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/explore.wasm"));

const FRAME: &str = include_str!("../page/index.html");
const STYLE: &str = include_str!("../page/style.css");
const SCRIPTS: [&str; 7] = [
    include_str!("../page/elements.js"),
    include_str!("../page/engine.js"),
    include_str!("../page/link.js"),
    include_str!("../page/picture.js"),
    include_str!("../page/structure.js"),
    include_str!("../page/log.js"),
    include_str!("../page/main.js"),
];

/// Why there is no page that works by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoModule;

impl std::fmt::Display for NoModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "a page that works by itself needs WebAssembly, and this program was built without it; run \
             rustup target add wasm32-unknown-unknown, build it again from its sources, or use smmuv3 \
             explore without --out",
        )
    }
}

impl std::error::Error for NoModule {}

/// The page that works by itself, also opened as a file.
///
/// # Errors
/// [`NoModule`] where this was built without it.
pub fn alone() -> Result<String, NoModule> {
    if has_module() { Ok(assemble(MODULE, false)) } else { Err(NoModule) }
}

/// The page for a server, which it asks where it has no module: `POST /answer` with a question,
/// `POST /log` with a log. With `ask`, it asks the server in any case.
pub fn served(ask: bool) -> String {
    assemble(if ask { &[] } else { MODULE }, true)
}

/// Whether there is a WebAssembly module.
pub fn has_module() -> bool {
    !MODULE.is_empty()
}

/// The `Content-Security-Policy` of a page with this script and style. Where a browser knows Trusted Types, it makes
/// no markup of text at all.
fn policy(script: &str, served: bool) -> String {
    let digest = |text: &str| base64(&sha256(text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}' 'wasm-unsafe-eval'; style-src 'sha256-{}'; \
         connect-src {}; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
        digest(script),
        digest(STYLE),
        if served { "'self'" } else { "'none'" }
    )
}

fn assemble(module: &[u8], served: bool) -> String {
    // One scope, and nothing of it in the window's.
    let script = format!("\"use strict\";\n(() => {{\n{}}})();\n", SCRIPTS.concat());
    // One pass over the frame: what is put in is not looked through again.
    let mut page = String::with_capacity(script.len() + module.len() * 4 / 3 + 65536);
    for part in FRAME.split_inclusive("-->") {
        let (before, name) = part.rsplit_once("<!--").unwrap_or((part, ""));
        page.push_str(before);
        match name.trim_end_matches("-->") {
            "" => {}
            "POLICY" => {
                page.push_str("<meta http-equiv=\"Content-Security-Policy\" content=\"");
                page.push_str(&policy(&script, served));
                page.push_str("\">");
            }
            "STYLE" => page.extend(["<style>", STYLE, "</style>"]),
            "MODULE" => {
                page.push_str("<script type=\"text/plain\" id=\"module\">");
                page.push_str(&base64(module));
                page.push_str("</script>");
            }
            "SCRIPT" => page.extend(["<script>", &script, "</script>"]),
            _ => {}
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        let page = assemble(b"module", true);
        for outside in ["http:", "https:", "src=", "@import", "url(", "<link", "//cdn", "import("] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(outside), "{outside}");
        }
    }

    /// The rule that what is pasted never becomes markup holds by there being no way to make any.
    #[test]
    fn no_script_writes_markup() {
        for script in SCRIPTS {
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "DOMParser",
                "createContextualFragment",
                "setHTML",
                "srcdoc",
                "eval(",
                "new Function",
                "javascript:",
            ] {
                assert!(!script.contains(way), "{way}");
            }
        }
    }

    #[test]
    fn one_script_and_one_style_may_run_and_they_are_the_ones_in_the_page() {
        let page = assemble(b"module", false);
        let inside = |begin: &str, end: &str| {
            let (_, rest) = page.split_once(begin).unwrap();
            rest.split_once(end).unwrap().0.to_owned()
        };
        let policy = inside("http-equiv=\"Content-Security-Policy\" content=\"", "\">");
        let script = base64(&sha256(inside("<script>", "</script>").as_bytes()));
        let style = base64(&sha256(inside("<style>", "</style>").as_bytes()));
        assert!(policy.contains(&format!("script-src 'sha256-{script}' 'wasm-unsafe-eval';")));
        assert!(policy.contains(&format!("style-src 'sha256-{style}';")));
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe-inline"));
        assert!(policy.contains("connect-src 'none'"));
        assert!(policy.contains("require-trusted-types-for 'script'; trusted-types 'none'"));
        assert!(assemble(&[], true).contains("connect-src 'self'"));
        assert_eq!(page.matches("</script>").count(), 2, "the module's and the script's");
        assert_eq!(inside("id=\"module\">", "<"), "bW9kdWxl");
        // The policy comes before all that it is about.
        assert!(page.find("Content-Security").unwrap() < page.find("<style>").unwrap());
    }
}
