// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `explore`.

use std::path::PathBuf;

use clap::Args;

/// Operands of `explore`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Explore {
    /// The port on 127.0.0.1 to serve the page on [default: one that is free]
    #[arg(long, value_name = "N", conflicts_with = "out")]
    pub port: Option<u16>,

    /// Open the page in the browser that the desktop prefers
    #[arg(long, conflicts_with = "out")]
    pub open: bool,

    /// Decode in this program instead of in the page, for a browser without WebAssembly
    #[arg(long, conflicts_with = "out")]
    pub no_wasm: bool,

    /// Serve nothing, but write the page to DIR/index.html, which needs no server and no network
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Print where the page is as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What `--help` says at its end.
pub const EXPLORE_EXAMPLES: &str = "\
Paste a kernel log or the words of one structure, and get the explanation: fields, pictures of bits, \
likely causes, a summary that sorts. A link carries the words in its fragment, which no server sees.

Examples:
  smmuv3 explore --open       serve the page to this computer, and open it
  smmuv3 explore --port 8080  always on the same port; Ctrl-C ends it
  smmuv3 explore --out page   one file, for a colleague or a web server

Exit status: 0 when the page was written; 2 when it could not be, or not served. Ctrl-C ends a server.";
