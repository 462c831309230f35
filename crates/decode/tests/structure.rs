// SPDX-License-Identifier: MIT OR Apache-2.0
//! One structure from words to fields and back: the vectors of the architecture reference, every field of
//! every structure, and text that nobody would write.

#[path = "structure/encode.rs"]
mod encode;
#[path = "structure/mutation.rs"]
mod mutation;
#[path = "structure/schema.rs"]
mod schema;
#[path = "structure/vectors.rs"]
mod vectors;
