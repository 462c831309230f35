// SPDX-License-Identifier: MIT OR Apache-2.0
//! A trace as a picture: the scenario's own steps along a time axis, a row for each track, as SVG.

use std::fmt::Write;

use serde_json::Value;

/// Where time begins, left of it are names.
const LEFT: f64 = 172.0;
/// Width of the time axis.
const WIDTH: f64 = 1040.0;
/// Height of a bar, and of a row.
const BAR: f64 = 15.0;
const ROW: f64 = 19.0;
/// Height of a line of text.
const LINE: f64 = 17.0;
/// Width of a letter, roughly: fonts differ.
const LETTER: f64 = 6.3;
/// More than anybody can see.
const MOST_EVENTS: usize = 1500;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// It is something else.
    #[error("this is no trace of smmuv3 run --trace: {0}")]
    NoTrace(String),
    /// It has too much in it.
    #[error(
        "{0} events are too many for a picture, which holds {MOST_EVENTS}; open the trace in \
         ui.perfetto.dev, or trace a shorter scenario"
    )]
    TooLong(usize),
}

/// One thing that is drawn: a bar, or a mark where it has no length.
#[derive(Debug)]
struct Event {
    name: String,
    kind: String,
    track: (u64, u64),
    begin: f64,
    /// `None` for a moment.
    end: Option<f64>,
    args: String,
}

/// A track, with its place in the order of all.
#[derive(Debug)]
struct Track {
    ids: (u64, u64),
    order: (u64, u64),
    process: String,
    thread: String,
}

/// Draws the trace in `json`.
///
/// # Errors
/// [`PictureError`].
pub fn draw(json: &str) -> Result<String, PictureError> {
    let no_trace = |why: &str| PictureError::NoTrace(why.to_owned());
    let trace: Value =
        serde_json::from_str(json).map_err(|error| PictureError::NoTrace(error.to_string()))?;
    let all = trace["traceEvents"].as_array().ok_or_else(|| no_trace("it has no traceEvents"))?;
    let events: Vec<Event> = all.iter().filter_map(event).collect();
    // Bringing up is the first step, taking down has no number.
    let own = |value: &&Value| value["cat"] == "step" && value["args"]["number"].as_u64() > Some(1);
    let steps: Vec<Event> = all.iter().filter(own).filter_map(event).collect();
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return Err(no_trace("it has no steps"));
    };
    let (begin, end) = (first.begin, last.end.unwrap_or(last.begin));
    let inside = |event: &Event| begin <= event.begin && event.begin <= end;
    let events: Vec<Event> = events.into_iter().filter(inside).collect();
    if events.len() > MOST_EVENTS {
        return Err(PictureError::TooLong(events.len()));
    }
    let mut tracks = tracks(all);
    tracks.retain(|track| events.iter().any(|event| event.track == track.ids));
    tracks.sort_by_key(|track| track.order);
    let scale = Scale { begin, per_unit: WIDTH / (end - begin).max(1.0) };
    Ok(Drawing::new(scale).all(&trace["otherData"], &steps, &tracks, &events, end))
}

fn event(value: &Value) -> Option<Event> {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let begin = value["ts"].as_f64()?;
    let end = match value["ph"].as_str()? {
        "X" => Some(begin + value["dur"].as_f64()?),
        "i" => None,
        _ => return None,
    };
    let operand = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    };
    let args: Vec<String> = value["args"].as_object()?.iter().map(operand).collect();
    let track = (value["pid"].as_u64()?, value["tid"].as_u64()?);
    let args = args.join(" · ");
    Some(Event { name: text("name")?, kind: text("cat")?, track, begin, end, args })
}

/// The tracks that have a name.
fn tracks(events: &[Value]) -> Vec<Track> {
    let metadata = |name: &str, pid: u64, tid: u64| {
        let this = |event: &&Value| {
            event["name"] == name && event["pid"] == pid && (event["tid"] == tid || tid == 0)
        };
        events.iter().find(this).map(|event| &event["args"])
    };
    let track = |event: &Value| {
        let (pid, tid) = (event["pid"].as_u64()?, event["tid"].as_u64()?);
        Some(Track {
            ids: (pid, tid),
            order: (pid, metadata("thread_sort_index", pid, tid)?["sort_index"].as_u64()?),
            process: metadata("process_name", pid, 0)?["name"].as_str()?.to_owned(),
            thread: event["args"]["name"].as_str()?.to_owned(),
        })
    };
    events.iter().filter(|event| event["name"] == "thread_name").filter_map(track).collect()
}

/// Kinds of things, each with a colour that people who see colours differently can tell from the others, and
/// what the legend calls it.
const KINDS: &[(&str, &str, &str)] = &[
    ("step", "#3b4a5a", "step"),
    ("call", "#8fa1b3", "driver's call"),
    ("dma", "#56b4e9", "DMA"),
    ("wait", "#f0c75e", "SYNC wait"),
    ("CMD_CFGI", "#0072b2", "CMD_CFGI"),
    ("CMD_TLBI", "#cc5fa0", "CMD_TLBI"),
    ("CMD_SYNC", "#222222", "CMD_SYNC"),
    ("fetch", "#7a6fd0", "fetch"),
    ("walk", "#009e73", "walk"),
    ("prefetch", "#b5c7bf", "prefetch"),
    ("event", "#d62f1f", "event, report"),
    ("interrupt", "#e69f00", "interrupt"),
];

fn kind(event: &Event) -> &str {
    let named = |(kind, ..): &&(&'static str, &str, &str)| event.name.starts_with(*kind);
    match event.kind.as_str() {
        "fetch" | "walk" if event.name.starts_with("prefetch") => "prefetch",
        "command" => KINDS.iter().find(named).map_or("call", |(kind, ..)| *kind),
        "report" | "lost" => "event",
        other => other,
    }
}

fn colour(event: &Event) -> &'static str {
    let kind = kind(event);
    KINDS.iter().find(|(name, ..)| *name == kind).map_or("#999999", |(_, colour, _)| *colour)
}

/// Microseconds to places.
#[derive(Clone, Copy, Debug)]
struct Scale {
    begin: f64,
    per_unit: f64,
}

impl Scale {
    fn x(&self, time: f64) -> f64 {
        LEFT + (time - self.begin) * self.per_unit
    }
}

struct Drawing {
    scale: Scale,
    svg: String,
    /// Where the next row is.
    y: f64,
}

impl Drawing {
    fn new(scale: Scale) -> Self {
        Self { scale, svg: String::new(), y: 0.0 }
    }

    /// Everything, one below the other.
    fn all(
        mut self,
        about: &Value,
        steps: &[Event],
        tracks: &[Track],
        events: &[Event],
        end: f64,
    ) -> String {
        let text = |key: &str| about[key].as_str().unwrap_or("?").to_owned();
        let title = format!("{} on {}, seed {}", text("scenario"), text("machine"), about["seed"]);
        self.y = 30.0;
        self.text(16.0, "title", &title);
        self.y += 10.0;
        let shown: Vec<&Event> = steps.iter().filter(|step| self.width(step) >= 4.0).collect();
        let right = self.step_names(&shown, tracks, events);
        let (top, mut process) = (self.y, "");
        for track in tracks {
            if track.process != process {
                process = &track.process;
                self.y += 6.0;
                let (line, y) = (LEFT + WIDTH, self.y);
                self.put(format_args!(r#"<path class="rule" d="M16 {y:.1}H{line:.1}"/>"#));
                self.y += 6.0;
                self.text_at(16.0, self.y + BAR - 3.5, "process", process);
            }
            self.row(track, events);
        }
        self.axis(top, end);
        self.legend(events);
        let (width, height) = (right.max(LEFT + WIDTH) + 16.0, self.y + 8.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-label=\"{}\">\n\
             <style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#fff\"/>\n{}</svg>\n",
            escaped(&title),
            self.svg
        )
    }

    /// The names of steps as stairs, each with a line down to its step: no line crosses a name. Returns where the
    /// longest ends.
    fn step_names(&mut self, steps: &[&Event], tracks: &[Track], events: &[Event]) -> f64 {
        let bottom = self.y + LINE * steps.len() as f64 + 16.0;
        let rows: usize = tracks.iter().map(|track| depth(track, events)).sum();
        let processes = tracks.iter().filter(|track| track.order.1 % 1000 == 0).count();
        let end = bottom + ROW * rows as f64 + 12.0 * processes as f64;
        let mut right = 0.0_f64;
        for step in steps {
            self.y += LINE;
            let x = self.scale.x(step.begin);
            self.put(format_args!(
                r#"<path class="lead" d="M{x:.1} {:.1}V{end:.1}"/>"#,
                self.y - 11.0
            ));
            self.text_at(x + 5.0, self.y, "step", &step.name);
            right = right.max(x + 5.0 + LETTER * step.name.chars().count() as f64);
        }
        self.y = bottom - 6.0;
        right
    }

    /// One track: spans within spans lie below them.
    fn row(&mut self, track: &Track, events: &[Event]) {
        self.text_at(LEFT - 8.0, self.y + BAR - 3.5, "thread", &track.thread);
        let mut open: Vec<f64> = Vec::new();
        let mut marked = LEFT;
        for event in ordered(track, events) {
            let Some(end) = event.end else {
                self.mark(event, self.y, marked);
                marked = self.scale.x(event.begin);
                continue;
            };
            open.retain(|outer| *outer > event.begin);
            let y = self.y + ROW * open.len() as f64;
            open.push(end);
            self.bar(event, y);
        }
        self.command_names(track, events);
        self.y += ROW * depth(track, events) as f64;
    }

    /// Commands are too short for their names: these follow each group of them, where there is room.
    fn command_names(&mut self, track: &Track, events: &[Event]) {
        let command = |event: &&Event| event.kind == "command" && event.end.is_some();
        let commands = ordered(track, events).into_iter().filter(command);
        // A group ends with its CMD_SYNC.
        let mut groups: Vec<(f64, f64, Vec<&str>)> = Vec::new();
        for event in commands {
            let begin = self.scale.x(event.begin);
            let end = begin + self.width(event);
            let name = event.name.trim_start_matches("CMD_");
            match groups.last_mut() {
                Some((_, last, names)) if names.last() != Some(&"SYNC") => {
                    *last = end;
                    names.push(name);
                }
                _ => groups.push((begin, end, vec![name])),
            }
        }
        let next: Vec<f64> = groups.iter().skip(1).map(|(begin, ..)| *begin).collect();
        for (index, (_, end, names)) in groups.iter().enumerate() {
            let text = names.join(" · ");
            // Up to the next group, or to the edge.
            let room = next.get(index).copied().unwrap_or(LEFT + WIDTH) - end;
            if LETTER * text.chars().count() as f64 + 8.0 < room {
                self.text_at(end + 4.0, self.y + BAR - 4.0, "small", &text);
            }
        }
    }

    fn bar(&mut self, event: &Event, y: f64) {
        let (x, width, fill) = (self.scale.x(event.begin), self.width(event), colour(event));
        let hint = self.hint(event);
        self.put(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="2" fill="{fill}">{hint}</rect>"#
        ));
        let short = event.name.trim_start_matches("wait for CMD_");
        if LETTER * short.chars().count() as f64 + 6.0 < width {
            let class = if event.kind == "wait" || event.kind == "call" { "dark" } else { "light" };
            self.text_at(x + 4.0, y + BAR - 4.0, class, short);
        }
    }

    /// A moment: a diamond for what somebody has to see, a tick for what took effect. Its name has room from `left`
    /// on.
    fn mark(&mut self, event: &Event, y: f64, left: f64) {
        let (x, fill, hint) = (self.scale.x(event.begin), colour(event), self.hint(event));
        let half = if event.kind == "interrupt" { 4.0 } else { 6.5 };
        let middle = y + BAR / 2.0;
        if event.kind == "command" {
            let top = y + BAR - 4.0;
            self.put(format_args!(
                r#"<path d="M{x:.1} {top:.1}l3 5h-6z" fill="{fill}">{hint}</path>"#
            ));
            return;
        }
        self.put(format_args!(
            r#"<path d="M{x:.1} {:.1}l{half} {half}l-{half} {half}l-{half} -{half}z" fill="{fill}">{hint}</path>"#,
            middle - half
        ));
        let room = x - left > 10.0 + LETTER * event.name.chars().count() as f64;
        if room && matches!(event.kind.as_str(), "event" | "report") {
            self.text_at(x - 10.0, y + BAR - 3.5, "mark", &event.name);
        }
    }

    /// What a browser shows when the pointer is on it.
    fn hint(&self, event: &Event) -> String {
        let at = event.begin - self.scale.begin;
        let time = match event.end {
            Some(end) => format!("{at:.1} µs, {:.1} µs long", end - event.begin),
            None => format!("{at:.1} µs"),
        };
        let text = format!("{}\n{}\n{time}", event.name, event.args);
        format!("<title>{}</title>", escaped(&text))
    }

    /// Ticks with their times, over all rows.
    fn axis(&mut self, top: f64, end: f64) {
        let span = end - self.scale.begin;
        let unit = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
            .into_iter()
            .find(|unit| span / unit <= 12.0)
            .unwrap_or(span / 10.0);
        let bottom = self.y + 8.0;
        self.y += 22.0;
        let mut time = 0.0;
        while time <= span {
            let x = self.scale.x(self.scale.begin + time);
            self.put(format_args!(r#"<path class="tick" d="M{x:.1} {top:.1}V{bottom:.1}"/>"#));
            self.text_at(x, self.y, "time", &format!("{time} µs"));
            time += unit;
        }
        self.y += 12.0;
    }

    /// What the colours mean, as far as they are used.
    fn legend(&mut self, events: &[Event]) {
        self.y += 16.0;
        let mut x = 16.0;
        for (name, fill, text) in KINDS {
            if !events.iter().any(|event| kind(event) == *name) {
                continue;
            }
            let width = 17.0 + LETTER * text.chars().count() as f64 + 14.0;
            if x + width > LEFT + WIDTH {
                (x, self.y) = (16.0, self.y + LINE);
            }
            let y = self.y - 10.0;
            self.put(format_args!(
                r#"<rect x="{x:.1}" y="{y:.1}" width="12" height="12" rx="2" fill="{fill}"/>"#
            ));
            self.text_at(x + 17.0, self.y, "legend", text);
            x += width;
        }
        self.y += 4.0;
    }

    /// Thin things can still be seen.
    fn width(&self, event: &Event) -> f64 {
        let end = event.end.unwrap_or(event.begin);
        ((end - event.begin) * self.scale.per_unit).max(2.0)
    }

    fn text(&mut self, x: f64, class: &str, text: &str) {
        self.text_at(x, self.y, class, text);
    }

    fn text_at(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escaped(text);
        self.put(format_args!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.svg, "{element}");
    }
}

const STYLE: &str = "\
text{font:11px system-ui,'DejaVu Sans',sans-serif;fill:#333}\
.title{font-size:14px;font-weight:600}.process{font-size:13px;font-weight:700}\
.thread{text-anchor:end;fill:#666}.light{fill:#fff}.dark{fill:#222}\
.mark{text-anchor:end;fill:#d62f1f;font-weight:600}.time{text-anchor:middle;fill:#888}\
.small{font-size:10px;fill:#555}\
.rule{stroke:#ccc}.lead{stroke:#9aa7b4;stroke-opacity:.6}.tick{stroke:#000;stroke-opacity:.06}";

/// The events of a track as they begin, outer spans first.
fn ordered<'a>(track: &Track, events: &'a [Event]) -> Vec<&'a Event> {
    let mut of: Vec<&Event> = events.iter().filter(|event| event.track == track.ids).collect();
    let end = |event: &Event| event.end.unwrap_or(event.begin);
    of.sort_by(|a, b| a.begin.total_cmp(&b.begin).then(end(b).total_cmp(&end(a))));
    of
}

/// How many bars lie below each other in a track.
fn depth(track: &Track, events: &[Event]) -> usize {
    let (mut open, mut most): (Vec<f64>, usize) = (Vec::new(), 1);
    for event in ordered(track, events) {
        open.retain(|outer| *outer > event.begin);
        open.extend(event.end);
        most = most.max(open.len());
    }
    most
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
