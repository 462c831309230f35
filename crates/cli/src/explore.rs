// SPDX-License-Identifier: MIT OR Apache-2.0
//! `explore`: the page that explains logs and structures, served to this computer or written.
//!
//! The server is for one user's own browser. It listens on 127.0.0.1 only; what other pages in that
//! browser may try is refused: a name that was rebound to this address (by the `Host` they then send),
//! and questions from other origins (by `Origin`, and by content types that a browser sends elsewhere
//! only with leave, which is never given). An answer holds nothing that was not in its question.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;
use smmuv3_explore::Log;
use smmuv3_explore::page::{self, NoModule};
use tiny_http::{Header, Method, Request, Response, Server};

use crate::args::Explore;
use crate::{Failure, HELD, say, write_out};

/// Most bytes of a question about a structure.
const LONGEST_QUESTION: u64 = 1 << 20;
/// Most bytes of a log, which is read in pieces and not kept.
const LONGEST_LOG: u64 = 4 << 30;
/// A log takes a while; a question is to be answered meanwhile.
const WORKERS: usize = 4;

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
    let server = Server::from_listener(listener, None)
        .map_err(|reason| refused(io::Error::other(reason.to_string())))?;
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
    let site = Site { page: page::served(explore.no_wasm), address };
    let broken = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| site.work(&server))).collect();
        // They end when the listener does.
        workers.into_iter().filter_map(|worker| worker.join().ok()).next()
    });
    let reason = broken.unwrap_or_else(|| io::Error::other("it failed"));
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
    page: String,
    address: SocketAddr,
}

/// Status, content type and content.
type Reply = (u16, &'static str, String);

fn plain(status: u16, text: &str) -> Reply {
    (status, "text/plain; charset=utf-8", format!("{text}\n"))
}

impl Site {
    /// Answers requests until there can be no more.
    fn work(&self, server: &Server) -> io::Error {
        loop {
            match server.recv() {
                Ok(mut request) => {
                    // Whatever is wrong with one question, the next is answered.
                    let reply = catch_unwind(AssertUnwindSafe(|| self.reply(&mut request)));
                    let (status, kind, content) = reply
                        .unwrap_or_else(|_| plain(500, "the decoder failed; please report it"));
                    // Whoever has gone away does not need it.
                    let _ = request.respond(response(status, kind, content));
                }
                Err(error) => return error,
            }
        }
    }

    fn reply(&self, request: &mut Request) -> Reply {
        if !self.is_meant(request) {
            return plain(403, "this server answers its own page on this computer only");
        }
        match (request.method(), request.url()) {
            (Method::Get | Method::Head, "/") => {
                (200, "text/html; charset=utf-8", self.page.clone())
            }
            (Method::Post, "/answer") => answer(request),
            (Method::Post, "/log") => log(request),
            (_, "/" | "/answer" | "/log") => plain(405, "not so: GET / or POST /answer or /log"),
            _ => plain(404, "there is nothing here; the page is at /"),
        }
    }

    /// Whether the request was made for this server, by its own page where a page made it.
    fn is_meant(&self, request: &Request) -> bool {
        let port = self.address.port();
        let own =
            [SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).to_string(), format!("localhost:{port}")];
        let is_own = |host: &str| own.iter().any(|name| name.eq_ignore_ascii_case(host));
        let mut hosts = values(request, "Host");
        let host = hosts.next().is_some_and(is_own) && hosts.next().is_none();
        let origin = |origin: &str| origin.strip_prefix("http://").is_some_and(is_own);
        host && values(request, "Origin").all(origin)
    }
}

/// The values of a header.
fn values<'a>(request: &'a Request, name: &'static str) -> impl Iterator<Item = &'a str> {
    let headers = request.headers().iter().filter(move |header| header.field.equiv(name));
    headers.map(|header| header.value.as_str())
}

/// Whether the body is of this type. Other pages cannot send one of these types here without asking.
fn is_of(request: &Request, kind: &str) -> bool {
    values(request, "Content-Type").any(|value| {
        value.split(';').next().is_some_and(|value| value.trim().eq_ignore_ascii_case(kind))
    })
}

/// A question, answered.
fn answer(request: &mut Request) -> Reply {
    if !is_of(request, "application/json") {
        return plain(415, "a question is application/json");
    }
    let mut question = Vec::new();
    match request.as_reader().take(LONGEST_QUESTION + 1).read_to_end(&mut question) {
        Ok(length) if length as u64 > LONGEST_QUESTION => plain(413, "the question is too long"),
        Ok(_) => {
            let answer = smmuv3_explore::answer(&String::from_utf8_lossy(&question));
            (200, "application/json", answer)
        }
        Err(error) => plain(400, &error.to_string()),
    }
}

/// A log, explained. It is read in pieces, so that its size does not matter.
fn log(request: &mut Request) -> Reply {
    if !is_of(request, "application/octet-stream") {
        return plain(415, "a log is application/octet-stream");
    }
    if request.body_length().is_some_and(|length| length as u64 > LONGEST_LOG) {
        return plain(413, "the log is too long");
    }
    let options = values(request, "X-Options").next().unwrap_or("{}").to_owned();
    let mut log = Log::new(&options);
    let mut piece = vec![0; 1 << 16];
    let mut body = request.as_reader().take(LONGEST_LOG);
    loop {
        match body.read(&mut piece) {
            Ok(0) => return (200, "application/json", log.finish()),
            Ok(length) => log.feed(piece.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return plain(400, &error.to_string()),
        }
    }
}

/// What is said beside the content: nothing may keep it, guess its type, or put it into a frame.
fn response(status: u16, kind: &str, content: String) -> Response<io::Cursor<Vec<u8>>> {
    let headers = [
        ("Content-Type", kind),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Content-Security-Policy", "frame-ancestors 'none'"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    ];
    // Its length is known, and need not be found out from chunks.
    let response = Response::from_data(content.into_bytes())
        .with_status_code(status)
        .with_chunked_threshold(usize::MAX);
    headers.into_iter().fold(response, |mut response, (name, value)| {
        // All of them are plain ASCII, which is what this asks for.
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
        response
    })
}
