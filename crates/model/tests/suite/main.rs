// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model against the architecture reference, through its public face alone.

mod adversary;
mod anything;
mod broadcast;
mod change;
mod command_queue;
mod context_table;
mod event_queue;
mod flag;
mod held;
mod invalidation;
mod machine;
mod nested;
mod power;
mod references;
mod registers;
mod stage_2;
mod stream_table;
mod translation;
mod wide;
