// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way in which the driver can fail: memory that runs out, hardware that does not answer or refuses,
//! registers that make no sense, callers that ask for nonsense. Each gives a typed error, breaks no rule, leaks
//! nothing, and can be recovered from.

mod deferred;
mod events;
mod frames;
mod handles;
mod keep;
mod machine;
mod mapping;
mod misuse;
mod probe;
mod queue;
mod refused;
mod resets;
mod setup;
mod several;
mod start;
mod streams;
mod suspend;
mod wedged;
