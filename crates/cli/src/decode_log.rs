// SPDX-License-Identifier: MIT OR Apache-2.0
//! `decode FILE`: a whole log, explained.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use smmuv3_decode::log::{
    Blocks, Decoder, Filter, FilterError, Kernel, Options, Record, Tone, in_short, of_record,
    of_summary, packed,
};

use crate::args::Decode;
use crate::{BROKEN, Failure, HELD, progress};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 18;
/// How long a log may pause before what is known is told.
const PAUSE: Duration = Duration::from_millis(200);
/// Kinds of records that are told in full.
const SEEN: usize = 4096;

/// Why a log was not explained.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No file was named, and nobody pipes one in.
    #[error("name a log file, or pipe one in: dmesg | smmuv3 decode -")]
    Nothing,
    /// More than one was named.
    #[error("one log at a time; for several: cat {} | smmuv3 decode -", .0.join(" "))]
    Several(Vec<String>),
    /// It cannot be read.
    #[error("{0} can't be read: {1}; give a log file, or - for standard input")]
    Unreadable(String, io::Error),
    /// It is packed.
    #[error("{0} is {1}, which is not read here; use {2}")]
    Packed(String, &'static str, String),
    /// A condition is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A kernel's version is wrong.
    #[error("{0:?} is no kernel version; use one such as 6.12 or 5.10.0-60.oe2203")]
    Kernel(String),
}

/// Explains a log.
///
/// # Errors
/// The log could not be read, or the report not written.
pub fn execute(decode: &Decode) -> Result<u8, Failure> {
    let options = options(decode)?;
    let (name, log, length) = open(decode)?;
    let mut teller = Teller::new(decode.json, length);
    let outcome = explain(&name, log, options, &mut teller)?;
    Ok(if outcome { BROKEN } else { HELD })
}

fn options(decode: &Decode) -> Result<Options, LogError> {
    let mut filter = Filter::default();
    for condition in &decode.only {
        filter.add(condition)?;
    }
    if let Some(time) = &decode.since {
        filter.since(time)?;
    }
    let kernel = match &decode.kernel {
        Some(text) => Kernel::parse(text).ok_or_else(|| LogError::Kernel(text.clone()))?,
        None => Kernel::default(),
    };
    Ok(Options { filter, kernel })
}

/// A log, what messages call it, and how long it is where that is known.
type Source = (String, Box<dyn Read + Send>, Option<u64>);

fn open(decode: &Decode) -> Result<Source, LogError> {
    if decode.what.len() > 1 {
        return Err(LogError::Several(decode.what.clone()));
    }
    match decode.what.first().map(String::as_str) {
        None if io::stdin().is_terminal() => Err(LogError::Nothing),
        None | Some("-") => Ok(("standard input".to_owned(), Box::new(io::stdin()), None)),
        Some(path) => {
            let wrong = |error| LogError::Unreadable(path.to_owned(), error);
            let file = File::open(Path::new(path)).map_err(wrong)?;
            let about = file.metadata().map_err(wrong)?;
            if about.is_dir() {
                return Err(wrong(io::Error::other("it is a folder")));
            }
            let length = about.is_file().then_some(about.len());
            Ok((path.to_owned(), Box::new(file), length))
        }
    }
}

/// Reads on a thread of its own, so that a log that is still written does not hold back what is known.
fn reader(mut log: Box<dyn Read + Send>, chunks: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let message = match log.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = message.is_err();
        if chunks.send(message).is_err() || last {
            return;
        }
    }
}

/// Whether something is wrong.
fn explain(
    name: &str,
    log: Box<dyn Read + Send>,
    options: Options,
    teller: &mut Teller,
) -> Result<bool, Failure> {
    let (sender, chunks): (_, Receiver<io::Result<Vec<u8>>>) = sync_channel(4);
    std::thread::spawn(move || reader(log, &sender));
    let mut decoder = Decoder::new(options);
    let mut blocks = Blocks::default();
    let mut done = 0;
    loop {
        match chunks.recv_timeout(PAUSE) {
            Ok(Ok(chunk)) => {
                if done == 0
                    && let Some((what, how)) = packed(&chunk)
                {
                    let how =
                        how.replace("FILE", if name == "standard input" { "FILE" } else { name });
                    return Err(LogError::Packed(name.to_owned(), what, how).into());
                }
                done += chunk.len() as u64;
                blocks.add(&chunk, &mut decoder, &mut |record| teller.record(&record));
                teller.progress(done);
            }
            Ok(Err(error)) => return Err(LogError::Unreadable(name.to_owned(), error).into()),
            Err(RecvTimeoutError::Timeout) => {
                decoder.flush(&mut |record| teller.record(&record));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
        teller.outcome()?;
        if teller.unwanted {
            return Ok(teller.problems);
        }
    }
    blocks.end(&mut decoder, &mut |record| teller.record(&record));
    let summary = decoder.finish(&mut |record| teller.record(&record));
    if teller.json {
        teller.line(&serde_json::to_string(&summary).map_err(|e| Failure::Output(e.into()))?);
    } else {
        teller.tell(&of_summary(&summary));
    }
    teller.outcome()?;
    Ok(teller.problems)
}

/// What records that are told in full once have in common: SMMU, name, stream, cause.
type Like = (Option<String>, String, Option<u64>, Option<&'static str>);

/// Tells what is found, a line at a time.
struct Teller {
    json: bool,
    /// Of the terminal, where there is one.
    columns: Option<usize>,
    out: anstream::AutoStream<io::Stdout>,
    bar: progress::Bytes,
    seen: HashSet<Like>,
    problems: bool,
    /// Nobody reads any more.
    unwanted: bool,
    failure: Option<io::Error>,
}

impl Teller {
    fn new(json: bool, length: Option<u64>) -> Self {
        Self {
            json,
            columns: io::stdout().is_terminal().then(crate::columns),
            out: anstream::stdout(),
            bar: progress::Bytes::new(length),
            seen: HashSet::new(),
            problems: false,
            unwanted: false,
            failure: None,
        }
    }

    fn record(&mut self, record: &Record) {
        self.problems |= record.problem;
        if self.json {
            match serde_json::to_string(record) {
                Ok(line) => self.line(&line),
                Err(error) => self.failure = Some(error.into()),
            }
            return;
        }
        let cause = record.causes.first().map(|cause| cause.id);
        let like = (record.instance.clone(), record.name.clone(), record.sid(), cause);
        let told = self.seen.contains(&like) && record.problem && record.violations.is_empty();
        if told {
            self.line(&in_short(record));
        } else {
            if self.seen.len() < SEEN {
                self.seen.insert(like);
            }
            self.tell(&of_record(record));
        }
    }

    fn tell(&mut self, lines: &[(Tone, String)]) {
        let mut text = String::new();
        for (tone, line) in lines {
            let style = style(*tone);
            for line in self.wrapped(line) {
                text.push_str(&format!("{style}{line}{style:#}\n"));
            }
        }
        self.write(&text);
    }

    /// A line as it fits on a terminal; whole where there is none, for grep.
    fn wrapped<'a>(&self, line: &'a str) -> Vec<Cow<'a, str>> {
        let Some(columns) = self.columns else { return vec![Cow::Borrowed(line)] };
        let indent = " ".repeat(line.len() - line.trim_start().len() + 2);
        let options = textwrap::Options::new(columns.max(40)).subsequent_indent(&indent);
        textwrap::wrap(line, options)
            .into_iter()
            .map(|line| Cow::Owned(line.into_owned()))
            .collect()
    }

    fn line(&mut self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    fn write(&mut self, text: &str) {
        if self.unwanted || self.failure.is_some() {
            return;
        }
        self.bar.hide();
        // JSON has no colours that would have to be taken out.
        let written = if self.json {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        } else {
            self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush())
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.unwanted = true,
            Err(error) => self.failure = Some(error),
        }
    }

    fn progress(&mut self, done: u64) {
        self.bar.show(done);
    }

    fn outcome(&mut self) -> Result<(), Failure> {
        self.failure.take().map_or(Ok(()), |error| Err(Failure::Output(error)))
    }
}

fn style(tone: Tone) -> anstyle::Style {
    match tone {
        Tone::Title => anstyle::Style::new().bold(),
        Tone::Plain => anstyle::Style::new(),
        Tone::Warning => anstyle::AnsiColor::Yellow.on_default(),
        Tone::Cause => anstyle::AnsiColor::Cyan.on_default(),
        Tone::Faint => anstyle::Style::new().dimmed(),
    }
}
