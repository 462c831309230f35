// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model against the architecture reference, through its public face alone.

mod adversary;
mod anything;
mod broadcast;
mod command_queue;
mod context_table;
mod event_queue;
mod held;
mod invalidation;
mod machine;
mod references;
mod registers;
mod stream_table;
mod translation;
