// SPDX-License-Identifier: MIT OR Apache-2.0
//! `explore`: the page that explains logs and structures, served to this computer or written.
//!
//! The server is for one user's own browser. It listens on 127.0.0.1 only; what other pages in that
//! browser may try is refused: a name that was rebound to this address (by the `Host` they then send),
//! and questions from other origins (by `Origin`, and by content types that a browser sends elsewhere
//! only with leave, which is never given). An answer holds nothing that was not in its question.

mod http;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;
use smmuv3_explore::Log;
use smmuv3_explore::page::{self, NoModule};

use self::http::{Reply, Request};
use crate::args::Explore;
use crate::{Failure, HELD, say, write_out};

/// Most bytes of a question about a structure.
const LONGEST_QUESTION: u64 = 1 << 20;
/// Most bytes of a log, which is read in pieces and not kept.
const LONGEST_LOG: u64 = 4 << 30;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ExploreError {
    /// The program was built without WebAssembly.
    #[error(transparent)]
    NoModule(#[from] NoModule),
    /// The page cannot be written.
    #[error(
        "the page can't be written to {path}: {reason}; give --out a folder that may be written to"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// Nothing can listen there.
    #[error(
        "port {port} of 127.0.0.1 can't be had: {reason}; leave --port out for one that is free"
    )]
    Port {
        /// The port that was asked for; 0 for any.
        port: u16,
        /// What the operating system says.
        reason: io::Error,
    },
    /// The server broke.
    #[error("the server stopped: {0}")]
    Server(io::Error),
}

/// Serves the page until it is stopped, or writes it.
pub fn execute(explore: &Explore) -> Result<u8, Failure> {
    match &explore.out {
        Some(folder) => write(folder.join("index.html"), explore.json),
        None => serve(explore),
    }
}

fn write(path: PathBuf, as_json: bool) -> Result<u8, Failure> {
    let page = page::alone().map_err(ExploreError::from)?;
    let written = match path.parent() {
        Some(folder) => std::fs::create_dir_all(folder),
        None => Ok(()),
    }
    .and_then(|()| std::fs::write(&path, &page));
    if let Err(reason) = written {
        return Err(ExploreError::Write { path, reason }.into());
    }
    let line = if as_json {
        format!("{}\n", json!({"file": path, "bytes": page.len()}))
    } else {
        format!("{}: {} kB; open it in a browser\n", path.display(), page.len().div_ceil(1000))
    };
    write_out(&line, anstream::stdout().lock()).map_err(Failure::Output)?;
    Ok(HELD)
}

fn serve(explore: &Explore) -> Result<u8, Failure> {
    let port = explore.port.unwrap_or(0);
    let refused = |reason| ExploreError::Port { port, reason };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let url = format!("http://{address}/");
    let line = if explore.json {
        format!("{}\n", json!({"url": url}))
    } else {
        format!("{url}  (this computer only; Ctrl-C ends it)\n")
    };
    write_out(&line, anstream::stdout().lock()).map_err(Failure::Output)?;
    if explore.open && !open(&url) {
        say("smmuv3: no browser could be started; open the address yourself");
    }
    // It lives as long as the program.
    let site = Site { page: page::served(explore.no_wasm).leak(), address };
    let reason = http::serve(&listener, HEADERS, move |request| site.reply(request));
    Err(ExploreError::Server(reason).into())
}

/// Opens `url` with the desktop's browser; whether something took it.
fn open(url: &str) -> bool {
    let mut command = if cfg!(target_os = "macos") {
        Command::new("open")
    } else if cfg!(windows) {
        let mut command = Command::new("rundll32");
        command.arg("url.dll,FileProtocolHandler");
        command
    } else {
        Command::new("xdg-open")
    };
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What is served, and where.
struct Site {
    page: &'static str,
    address: SocketAddr,
}

/// What is said beside the content: nothing may keep it, guess its type, or put it into a frame.
const HEADERS: &[(&str, &str)] = &[
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];

fn json_of(answer: String) -> Reply {
    Reply { status: 200, kind: "application/json", content: answer.into_bytes().into() }
}

impl Site {
    fn reply(&self, request: &mut Request) -> Reply {
        if !self.is_meant(request) {
            return Reply::plain(403, "this server answers its own page on this computer only");
        }
        match (&*request.method, &*request.target) {
            ("GET" | "HEAD", "/") => Reply {
                status: 200,
                kind: "text/html; charset=utf-8",
                content: self.page.as_bytes().into(),
            },
            ("POST", "/answer") => answer(request),
            ("POST", "/log") => log(request),
            (_, "/" | "/answer" | "/log") => {
                Reply::plain(405, "not so: GET / or POST /answer or /log")
            }
            _ => Reply::plain(404, "there is nothing here; the page is at /"),
        }
    }

    /// Whether the request was made for this server, by its own page where a page made it.
    fn is_meant(&self, request: &Request) -> bool {
        let port = self.address.port();
        let own =
            [SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).to_string(), format!("localhost:{port}")];
        let is_own = |host: &str| own.iter().any(|name| name.eq_ignore_ascii_case(host));
        let mut hosts = request.values("Host");
        let host = hosts.next().is_some_and(is_own) && hosts.next().is_none();
        let origin = |origin: &str| origin.strip_prefix("http://").is_some_and(is_own);
        host && request.values("Origin").all(origin)
    }
}

/// Whether the body is of this type. Other pages cannot send one of these types here without asking.
fn is_of(request: &Request, kind: &str) -> bool {
    request.values("Content-Type").any(|value| {
        value.split(';').next().is_some_and(|value| value.trim().eq_ignore_ascii_case(kind))
    })
}

/// A question, answered.
fn answer(request: &mut Request) -> Reply {
    if !is_of(request, "application/json") {
        return Reply::plain(415, "a question is application/json");
    }
    if request.length > LONGEST_QUESTION {
        return Reply::plain(413, "the question is too long");
    }
    let mut question = Vec::new();
    match request.read_to_end(&mut question) {
        Ok(_) => json_of(smmuv3_explore::answer(&String::from_utf8_lossy(&question))),
        Err(error) => Reply::plain(400, &error.to_string()),
    }
}

/// A log, explained. It is read in pieces, so that its size does not matter.
fn log(request: &mut Request) -> Reply {
    if !is_of(request, "application/octet-stream") {
        return Reply::plain(415, "a log is application/octet-stream");
    }
    if request.length > LONGEST_LOG {
        return Reply::plain(413, "the log is too long");
    }
    let mut log = Log::new(request.values("X-Options").next().unwrap_or("{}"));
    let mut piece = vec![0; 1 << 16];
    loop {
        match request.read(&mut piece) {
            Ok(0) => return json_of(log.finish()),
            Ok(length) => log.feed(piece.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Reply::plain(400, &error.to_string()),
        }
    }
}
