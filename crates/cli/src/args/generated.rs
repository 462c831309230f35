// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operands of `completions` and `man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// Operands of `completions`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// Operands of `man`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Man {
    /// The command whose page is printed [default: smmuv3 itself]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    pub command: Option<String>,

    /// Write all pages, one a command, into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

pub const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  smmuv3 completions bash > ~/.local/share/bash-completion/completions/smmuv3
  smmuv3 completions zsh > ~/.zfunc/_smmuv3  with ~/.zfunc in fpath
  smmuv3 completions fish > ~/.config/fish/completions/smmuv3.fish

Exit status: 0; 2 when there is no such shell.";

pub const MAN_EXAMPLES: &str = "\
Examples:
  smmuv3 man | man -l -                     the page of smmuv3
  smmuv3 man tlbi | man -l -                of a command
  smmuv3 man --out ~/.local/share/man/man1  all pages, for man smmuv3-tlbi

Exit status: 0; 2 when there is no such command, or the pages can't be written.";
