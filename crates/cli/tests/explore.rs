// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smmuv3 explore` as a shell and as other programs on the computer see it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

fn smmuv3(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smmuv3"));
    command.arg("explore").args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    smmuv3(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// A server that ends with this.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut child = smmuv3(arguments).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let url = said["url"].as_str().unwrap();
        let address = url.strip_prefix("http://").unwrap().strip_suffix('/').unwrap();
        Self { child, address: address.parse().unwrap() }
    }

    /// Sends a request with these lines after the first, and gives status, head and content.
    fn ask(&self, first: &str, lines: &[&str], content: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut request = format!("{first} HTTP/1.1\r\nConnection: close\r\n");
        for line in lines {
            request += &format!("{line}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n", content.len());
        stream.write_all(request.as_bytes()).unwrap();
        // It may answer, and hang up, before it has read everything.
        let _ = stream.write_all(content);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, content) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), content.to_owned())
    }

    /// Sends these bytes and no more, and gives the answer. It may hang up before it has read them all.
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn host(&self) -> String {
        format!("Host: {}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const JSON: &str = "Content-Type: application/json";
const BYTES: &str = "Content-Type: application/octet-stream";
const KINDS: &[u8] = br#"{"request": "kinds"}"#;
const LOG: &[u8] = b"arm-smmu-v3 smmu0: event 0x10 received:\n\
    arm-smmu-v3 smmu0: \t0x0000018000000010\n\
    arm-smmu-v3 smmu0: \t0x0000020100000000\n\
    arm-smmu-v3 smmu0: \t0x00000000ffffe040\n\
    arm-smmu-v3 smmu0: \t0x00000000ffffe000\n";

#[test]
fn the_page_is_served_to_this_computer_only_and_to_be_kept_by_nobody() {
    let server = Server::start(&[]);
    assert_eq!(server.address.ip(), Ipv4Addr::LOCALHOST);
    let (status, head, page) = server.ask("GET /", &[&server.host()], b"");
    assert_eq!(status, 200);
    assert!(page.starts_with("<!doctype html>") && page.contains("Content-Security-Policy"));
    for header in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
    ] {
        assert!(head.contains(header), "no {header} in {head}");
    }
    assert!(!head.contains("access-control"), "{head}");
    let localhost = format!("Host: LOCALHOST:{}", server.address.port());
    assert_eq!(server.ask("GET /", &[&localhost], b"").0, 200);
}

#[test]
fn questions_and_logs_are_answered() {
    let server = Server::start(&["--no-wasm"]);
    let origin = format!("Origin: http://{}", server.address);
    let (status, head, content) =
        server.ask("POST /answer", &[&server.host(), &origin, JSON], KINDS);
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(content, smmuv3_explore::answer(text(KINDS)));
    assert!(content.contains(r#""ste""#), "{content}");

    let (status, _, content) = server.ask("POST /log", &[&server.host(), BYTES], LOG);
    assert_eq!(status, 200);
    let question = json!({"request": "log", "text": text(LOG)}).to_string();
    assert_eq!(content, smmuv3_explore::answer(&question));
    assert!(content.contains("F_TRANSLATION"), "{content}");
}

/// Another page in the same browser can reach loopback; it must get nothing, and start nothing.
#[test]
fn other_pages_are_refused() {
    let server = Server::start(&[]);
    let own = server.host();
    let port = server.address.port();
    let rebound = format!("Host: evil.example:{port}");
    let elsewhere = format!("Host: 127.0.0.1:{}", port ^ 1);
    let origin = format!("Origin: http://evil.example:{port}");
    for lines in [
        &[rebound.as_str(), JSON][..],
        &[elsewhere.as_str(), JSON],
        &["Host: 127.0.0.1", JSON],
        &[JSON],
        &[&own, &rebound, JSON],
        &[&own, &origin, JSON],
        &[&own, "Origin: null", JSON],
    ] {
        for first in ["POST /answer", "GET /"] {
            assert_eq!(server.ask(first, lines, KINDS).0, 403, "{first} {lines:?}");
        }
    }
    // The types that a form or a careless fetch has.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let kind = format!("Content-Type: {kind}");
        assert_eq!(server.ask("POST /answer", &[&own, &kind], KINDS).0, 415, "{kind}");
        assert_eq!(server.ask("POST /log", &[&own, &kind], LOG).0, 415, "{kind}");
    }
    assert_eq!(server.ask("POST /answer", &[&own], KINDS).0, 415);
    let (status, head, _) = server.ask("OPTIONS /answer", &[&own], b"");
    assert_eq!(status, 405);
    assert!(!head.contains("access-control"), "{head}");
}

#[test]
fn what_is_too_long_or_nothing_is_refused_and_the_server_goes_on() {
    let server = Server::start(&[]);
    let own = server.host();
    let long = vec![b' '; (1 << 20) + 1];
    assert_eq!(server.ask("POST /answer", &[&own, JSON], &long).0, 413);
    assert_eq!(server.ask("GET /../etc/passwd", &[&own], b"").0, 404);
    assert_eq!(server.ask("GET /answer", &[&own], b"").0, 405);
    for nonsense in [&b""[..], b"{", b"\xff\xfe", b"[]", b"null"] {
        let (status, _, content) = server.ask("POST /answer", &[&own, JSON], nonsense);
        assert_eq!(status, 200);
        assert!(serde_json::from_str::<Value>(&content).unwrap()["error"].is_string(), "{content}");
    }
    let (status, _, content) = server.ask("POST /log", &[&own, BYTES], b"\0\xff\n\n");
    assert_eq!((status, content.contains("\"records\":[]")), (200, true), "{content}");
    assert_eq!(server.ask("GET /", &[&own], b"").0, 200);
}

/// What a client says of its body reserves nothing, and is not waited for.
#[test]
fn lengths_that_are_lies_are_refused() {
    let server = Server::start(&[]);
    let own = server.host();
    for (length, status) in [
        ("1152921504606846976", 413),
        ("18446744073709551615", 413),
        ("18446744073709551616", 400),
        ("-1", 400),
        ("+1", 400),
        ("1, 1", 400),
        ("1\r\nContent-Length: 2", 400),
        ("1\r\nTransfer-Encoding: chunked", 411),
    ] {
        let request =
            format!("POST /log HTTP/1.1\r\n{own}\r\n{BYTES}\r\nContent-Length: {length}\r\n\r\nx");
        let answer = server.send(request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{length}: {answer}");
    }
    // A body that ends before its end is no log.
    let short = format!("POST /log HTTP/1.1\r\n{own}\r\n{BYTES}\r\nContent-Length: 9\r\n\r\nx");
    assert!(server.send(short.as_bytes()).starts_with("HTTP/1.1 400 "));
    let endless = format!("GET / HTTP/1.1\r\n{own}\r\nX: {}", "x".repeat(20_000));
    assert!(server.send(endless.as_bytes()).starts_with("HTTP/1.1 431 "));
    for nonsense in [
        "GET  / HTTP/1.1",
        "GET / HTTP/2.0",
        "GET /",
        "\0",
        "GET / HTTP/1.1\r\nHost",
        "GET / HTTP/1.1\r\nHost : x",
        "GET / HTTP/1.1\r\nA: b\r\n c",
        "GET / HTTP/1.1\r\nA: b\nHost: x",
    ] {
        let answer = server.send(format!("{nonsense}\r\n\r\n").as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 505 "),
            "{nonsense:?}: {answer}"
        );
    }
    assert_eq!(server.ask("GET /", &[&own], b"").0, 200);
}

/// Whoever sends nothing, or half, holds up nobody else, until there are too many of them.
#[test]
fn slow_clients_are_not_waited_for() {
    let server = Server::start(&[]);
    let own = server.host();
    let half = format!("POST /log HTTP/1.1\r\n{own}\r\n{BYTES}\r\nContent-Length: 100\r\n\r\nx");
    let slow = |at: usize| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        if at.is_multiple_of(2) {
            // It may be cut off already.
            let _ = stream.write_all(half.as_bytes());
        }
        stream
    };
    let mut held: Vec<_> = (0..30).map(slow).collect();
    assert_eq!(server.ask("GET /", &[&own], b"").0, 200);
    // More than 64: while the one that asked still counts, one of these is not held.
    held.extend((30..70).map(slow));
    let refused = server.send(format!("GET / HTTP/1.1\r\n{own}\r\n\r\n").as_bytes());
    // Cut off, or told.
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 503 "), "{refused}");
    drop(held);
    // They are gone as soon as the server sees it.
    let answers = || server.send(format!("GET / HTTP/1.1\r\n{own}\r\n\r\n").as_bytes());
    assert!((0..1000).any(|_| answers().starts_with("HTTP/1.1 200 ")));
}

/// curl asks before it sends a large body, and waits a second for leave.
#[test]
fn who_asks_for_leave_gets_it() {
    let server = Server::start(&[]);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /log HTTP/1.1\r\n{}\r\n{BYTES}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        server.host(),
        LOG.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut leave = [0; 25];
    stream.read_exact(&mut leave).unwrap();
    assert_eq!(text(&leave), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(LOG).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("F_TRANSLATION"),
        "{answer}"
    );
}

#[test]
fn a_port_that_is_taken_is_told() {
    let server = Server::start(&[]);
    let port = server.address.port().to_string();
    let output = run(&["--port", &port]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("leave --port out"), "{}", text(&output.stderr));
}

#[test]
fn the_page_is_written_whole_or_what_is_missing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let within = folder.path().join("new").join("page");
    let output = run(&["--out", within.to_str().unwrap(), "--json"]);
    if smmuv3_explore::page::has_module() {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let page = std::fs::read_to_string(within.join("index.html")).unwrap();
        assert_eq!(said["file"], json!(within.join("index.html")));
        assert_eq!(said["bytes"], json!(page.len()));
        assert_eq!(std::fs::read_dir(&within).unwrap().count(), 1);
        assert_eq!(page, smmuv3_explore::page::alone().unwrap());

        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let output = run(&["--out", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("give --out a folder"), "{}", text(&output.stderr));
    } else {
        assert_eq!(output.status.code(), Some(2));
        let advice = "rustup target add wasm32-unknown-unknown";
        assert!(text(&output.stderr).contains(advice), "{}", text(&output.stderr));
        assert!(!within.exists());
    }
}

#[test]
fn help_has_examples() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    assert!(
        help.contains("Examples:\n  smmuv3 explore --open") && help.contains("Exit status"),
        "{help}"
    );
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    let output = run(&["--out", ".", "--port", "1"]);
    assert_eq!(output.status.code(), Some(2));
}
