// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model against the architecture reference, through its public face alone.

mod adversary;
mod anything;
mod atc;
mod atos;
mod ats;
mod attributes;
mod broadcast;
mod change;
mod command_queue;
mod context_table;
mod disabled;
mod ecmdq;
mod el2;
mod errata;
mod event_queue;
mod flag;
mod held;
mod invalidation;
mod legality;
mod machine;
mod monitor;
mod nested;
mod nested_references;
mod power;
mod pri;
mod ranges;
mod references;
mod registers;
mod stage_2;
mod stall;
mod stream_table;
mod translation;
mod wide;
