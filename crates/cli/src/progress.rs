// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a long step is, for somebody who waits at a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::run::Progress;

/// Runs shorter than this show nothing: a bar that flashes up tells nobody anything.
const PATIENCE: Duration = Duration::from_millis(400);

/// A bar on standard error while a long step runs; nothing when that is no terminal.
pub struct Bar {
    started: Instant,
    bar: Option<ProgressBar>,
    step: usize,
}

impl Bar {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        Self { started: Instant::now(), bar: None, step: 0 }
    }

    /// Shows how far it is.
    pub fn show(&mut self, progress: Progress) {
        if self.started.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            ProgressBar::with_draw_target(Some(progress.total), target).with_style(style())
        });
        if self.step != progress.step {
            self.step = progress.step;
            bar.set_length(progress.total);
            bar.set_message(format!("step {}", progress.step));
        }
        bar.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{msg}  {bar:40}  {pos} of {len} operations, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
