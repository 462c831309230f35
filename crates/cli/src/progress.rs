// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a long step is, for somebody who waits at a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use smmuv3_testbench::run::Progress;

/// Runs shorter than this show nothing: a bar that flashes up tells nobody anything.
const PATIENCE: Duration = Duration::from_millis(400);

/// How far a run is, on standard error; nothing when that is no terminal.
pub struct Bar {
    started: Instant,
    step: String,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        Self { started: Instant::now(), step: String::new(), bar: None }
    }

    /// Shows how far it is.
    pub fn show(&mut self, progress: &Progress) {
        let (message, place) = match progress {
            Progress::Step { number, of } => {
                self.step = format!("step {number} of {of}");
                (self.step.clone(), None)
            }
            Progress::Random { done, of } => (self.step.clone(), Some((*done, *of))),
            Progress::Shrinking { left } => {
                let words = format!("looking for a shorter trace than {left} operations");
                (words, None)
            }
        };
        if self.started.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(bar);
        match place {
            Some((done, of)) => {
                bar.set_style(style("{msg}  {bar:24}  {pos} of {len} operations"));
                bar.set_length(of);
                bar.set_message(message);
                bar.set_position(done);
            }
            None => tell(bar, message),
        }
    }

    /// Shows how far a campaign is, in words.
    pub fn say(&mut self, message: String) {
        if self.started.elapsed() >= PATIENCE {
            tell(self.bar.get_or_insert_with(bar), message);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How much of a file was read, on standard error; nothing when that is no terminal, or the length is not known.
pub struct Bytes {
    started: Instant,
    length: Option<u64>,
    bar: Option<ProgressBar>,
}

impl Bytes {
    /// Nothing is shown yet.
    pub fn new(length: Option<u64>) -> Self {
        Self { started: Instant::now(), length, bar: None }
    }

    /// Shows how much was read.
    pub fn show(&mut self, done: u64) {
        let Some(length) = self.length.filter(|_| self.started.elapsed() >= PATIENCE) else {
            return;
        };
        let bar = self.bar.get_or_insert_with(|| {
            let bar = bar();
            bar.set_style(style("{bar:24}  {bytes} of {total_bytes}"));
            bar.set_length(length);
            bar
        });
        bar.set_position(done);
    }

    /// Makes room for a line; the bar comes again with the next [`Self::show`].
    pub fn hide(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.hide();
    }
}

fn bar() -> ProgressBar {
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10))
}

/// Words without a bar.
fn tell(bar: &ProgressBar, message: String) {
    bar.set_style(style("{msg}"));
    bar.set_message(message);
    bar.tick();
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
