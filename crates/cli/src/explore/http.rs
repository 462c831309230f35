// SPDX-License-Identifier: MIT OR Apache-2.0
//! As much of HTTP/1.1 (RFC 9112) as a browser on the same computer needs.
//!
//! A connection carries one request, whose body has a length that is told beforehand. What a client says of itself
//! reserves no memory, and a client that is slow, or has stopped, holds up nobody else: each has a thread,
//! of which there are [`MOST`], and all of them have to go on within [`PATIENCE`].

use std::borrow::Cow;
use std::io::{self, Cursor, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Connections at one time. A browser has six, and some that it opens in case.
const MOST: usize = 64;
/// Most bytes of what comes before the body.
const LONGEST_HEAD: usize = 16 << 10;
/// How long the whole head may take, and each piece of a body or of an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a client may go on sending what nobody reads, before the connection is cut.
const LINGER: Duration = Duration::from_secs(2);

/// A request. Its body is read from it.
pub struct Request<'a> {
    /// `GET`, ...
    pub method: String,
    /// What is asked for, as it was written: `/`.
    pub target: String,
    /// Bytes of the body.
    pub length: u64,
    headers: Vec<(String, String)>,
    body: io::Take<io::Chain<Cursor<Vec<u8>>, &'a TcpStream>>,
    /// Where to send leave for the body, which the client waits for.
    waits: Option<&'a TcpStream>,
}

/// What is said to one.
pub struct Reply {
    /// 200, ...
    pub status: u16,
    /// The content's type.
    pub kind: &'static str,
    /// The content.
    pub content: Cow<'static, [u8]>,
}

impl Reply {
    /// A line of text.
    pub fn plain(status: u16, text: &str) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            content: format!("{text}\n").into_bytes().into(),
        }
    }
}

impl Request<'_> {
    /// The values of a header, in any case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let headers =
            self.headers.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        headers.map(|(_, value)| value.as_str())
    }
}

impl Read for Request<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(mut stream) = self.waits.take() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let left = self.body.limit();
        match self.body.read(buffer)? {
            0 if left > 0 && !buffer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(length),
        }
    }
}

/// Answers what comes to `listener`, for as long as it can. `headers` go with each answer.
pub fn serve<H>(
    listener: &TcpListener,
    headers: &'static [(&'static str, &'static str)],
    handler: H,
) -> io::Error
where
    H: Fn(&mut Request) -> Reply + Send + Sync + 'static,
{
    let handler = Arc::new(handler);
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // A client that went away, or too many files for now.
            Err(error) if is_passing(&error) => {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            Err(error) => return error,
        };
        let held = Held::new(&open);
        if held.0.load(Ordering::Relaxed) > MOST {
            // What it has sent already is read, or closing would cut the answer off. Others wait meanwhile.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(10)));
            let _ = (&stream).read(&mut [0; 4096]);
            let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
            let _ =
                send(&stream, headers, &Reply::plain(503, "too many connections; try again"), true);
            continue;
        }
        let handler = handler.clone();
        // Where there can be no further thread, the connection is closed.
        let _ = thread::Builder::new().name("connection".to_owned()).spawn(move || {
            let _held = held;
            // Whoever has gone away needs no answer.
            let _ = converse(&stream, headers, &*handler);
        });
    }
}

/// Whether `accept` may do better the next time.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, OutOfMemory, WouldBlock};
    // EMFILE and ENFILE have no kind of their own.
    let files = cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24));
    files
        || matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | Interrupted | OutOfMemory | WouldBlock
        )
}

/// A connection that is counted while this lives.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request and its answer.
fn converse<H>(stream: &TcpStream, headers: &[(&str, &str)], handler: &H) -> io::Result<()>
where
    H: Fn(&mut Request) -> Reply,
{
    stream.set_write_timeout(Some(PATIENCE))?;
    match read_head(stream)? {
        Ok((head, rest)) => {
            stream.set_read_timeout(Some(PATIENCE))?;
            match parse(&head, rest, stream) {
                Ok(mut request) => {
                    let with_content = request.method != "HEAD";
                    // Whatever is wrong with one question, the next is answered.
                    let reply = catch_unwind(AssertUnwindSafe(|| handler(&mut request)))
                        .unwrap_or_else(|_| {
                            Reply::plain(500, "the decoder failed; please report it")
                        });
                    send(stream, headers, &reply, with_content)?;
                }
                Err(reply) => send(stream, headers, &reply, true)?,
            }
        }
        Err(reply) => send(stream, headers, &reply, true)?,
    }
    // Closed with something unread, the connection would be cut, and the answer lost.
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(LINGER))?;
    let (end, mut stream, mut piece) = (Instant::now() + LINGER, stream, [0; 8192]);
    while Instant::now() < end && stream.read(&mut piece)? > 0 {}
    Ok(())
}

/// A request's head, without the empty line, and what came of the body with it.
type Head = (Vec<u8>, Vec<u8>);

fn read_head(mut stream: &TcpStream) -> io::Result<Result<Head, Reply>> {
    const END: &[u8] = b"\r\n\r\n";
    let end = Instant::now() + PATIENCE;
    let (mut head, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err(Reply::plain(408, "the request took too long")));
        }
        stream.set_read_timeout(Some(left))?;
        let length = match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A connection that a browser opened in case, and never used.
            Err(error) => return Err(error),
        };
        let seen = head.len().saturating_sub(END.len() - 1);
        head.extend(piece.iter().take(length));
        let new = head.get(seen..).unwrap_or_default();
        if let Some(at) = new.windows(END.len()).position(|window| window == END) {
            let rest = head.split_off(seen + at + END.len());
            head.truncate(seen + at);
            return Ok(Ok((head, rest)));
        }
        if head.len() > LONGEST_HEAD {
            return Ok(Err(Reply::plain(431, "the head of the request is too long")));
        }
    }
}

fn parse<'a>(head: &[u8], rest: Vec<u8>, stream: &'a TcpStream) -> Result<Request<'a>, Reply> {
    let bad = |why: &str| Reply::plain(400, why);
    let head = str::from_utf8(head).map_err(|_| bad("a head is text"))?;
    let mut lines = head.split("\r\n");
    let first: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let &[method, target, version] = &*first else { return Err(bad("this is no request")) };
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(Reply::plain(505, "HTTP/1.1 is spoken here"));
    }
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header without a colon"))?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) || value.contains(['\r', '\n', '\0']) {
            return Err(bad("a header that is none"));
        }
        headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        length: 0,
        headers,
        body: Cursor::new(rest).chain(stream).take(0),
        waits: None,
    };
    if request.values("Transfer-Encoding").next().is_some() {
        return Err(Reply::plain(411, "the length is to be told beforehand"));
    }
    let lengths: Vec<_> = request.values("Content-Length").collect();
    let length = match *lengths {
        [] => 0,
        [one] if one.bytes().all(|byte| byte.is_ascii_digit()) => {
            one.parse().map_err(|_| bad("a length that is none"))?
        }
        _ => return Err(bad("a length that is none")),
    };
    let waits = request.values("Expect").any(|value| value.eq_ignore_ascii_case("100-continue"));
    let mut request = Request { length, waits: waits.then_some(stream), ..request };
    request.body.set_limit(length);
    Ok(request)
}

fn send(
    mut stream: &TcpStream,
    headers: &[(&str, &str)],
    reply: &Reply,
    with_content: bool,
) -> io::Result<()> {
    let reason = match reply.status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    };
    let (status, kind, length) = (reply.status, reply.kind, reply.content.len());
    let mut head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n"
    );
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if with_content { stream.write_all(&reply.content) } else { Ok(()) }
}
