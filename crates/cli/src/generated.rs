// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands `smmuv3 completions` and `smmuv3 man`: what follows from the definition of the command line.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use crate::args::{Cli, Completions, Man};
use crate::{Failure, HELD, write_out};

/// Why there are no pages.
#[derive(Debug, thiserror::Error)]
enum ManError {
    /// There is no such command.
    #[error("there is no command {0}; those that there are: {1}")]
    NoCommand(String, String),
    /// A page could not be written.
    #[error("{path} can't be written: {reason}; give --out a folder that files may be written to")]
    Unwritable {
        /// The page, or the folder.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
}

/// Prints completions; the exit status.
///
/// # Errors
/// [`Failure::Output`].
pub fn completions(completions: &Completions) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Cli::command(), "smmuv3", &mut script);
    print(&script)
}

/// Prints a page, or writes all; the exit status.
///
/// # Errors
/// [`Failure`], when there is no such command, or a page can't be written.
pub fn man(man: &Man) -> Result<u8, Failure> {
    // `help` has no page.
    let mut root = Cli::command().disable_help_subcommand(true);
    // Names, with that of the program before them.
    root.build();
    let refuse = |error: ManError| Failure::Other(Box::new(error));
    if let Some(folder) = &man.out {
        return write_all(&root, folder).map(|()| HELD).map_err(refuse);
    }
    let command = match &man.command {
        None => &root,
        Some(name) => root.find_subcommand(name).ok_or_else(|| {
            let names: Vec<&str> = root.get_subcommands().map(clap::Command::get_name).collect();
            refuse(ManError::NoCommand(name.clone(), names.join(", ")))
        })?,
    };
    let mut text = Vec::new();
    page(command, &mut text).map_err(Failure::Output)?;
    print(&text)
}

/// Completions and pages are not for reading here: what a terminal is told is up to them.
fn print(bytes: &[u8]) -> Result<u8, Failure> {
    write_out(&String::from_utf8_lossy(bytes), io::stdout().lock()).map_err(Failure::Output)?;
    Ok(HELD)
}

fn write_all(command: &clap::Command, folder: &Path) -> Result<(), ManError> {
    std::fs::create_dir_all(folder)
        .map_err(|reason| ManError::Unwritable { path: folder.to_owned(), reason })?;
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = folder.join(format!("{name}.1"));
    let mut text = Vec::new();
    let written = page(command, &mut text).and_then(|()| std::fs::write(&path, &text));
    written.map_err(|reason| ManError::Unwritable { path, reason })?;
    command.get_subcommands().try_for_each(|command| write_all(command, folder))
}

/// The page of a command, as the macros of `man` have it.
fn page(command: &clap::Command, out: &mut impl Write) -> io::Result<()> {
    let version = concat!("smmuv3 ", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone()).source(version).manual("smmuv3");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(out)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    sections(&after, out)
}

/// What `--help` says at its end. A paragraph whose first line ends with a colon, and what is indented below it, is a
/// section of its own, as it is; others are prose.
fn sections(after: &str, out: &mut impl Write) -> io::Result<()> {
    for paragraph in after.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        match first.strip_suffix(':') {
            Some(title) if !rest.is_empty() => {
                writeln!(out, ".SH {}\n.nf", escaped(&title.to_uppercase()))?;
                for line in rest.lines() {
                    writeln!(out, "{}", escaped(line))?;
                }
                writeln!(out, ".fi")?;
            }
            _ => {
                let (notes, status) = match paragraph.split_once("Exit status:") {
                    Some((notes, status)) => (notes, status),
                    None => (paragraph, ""),
                };
                for (title, text) in [("NOTES", notes.trim()), ("EXIT STATUS", status.trim())] {
                    if !text.is_empty() {
                        writeln!(out, ".SH {title}")?;
                        text.lines().try_for_each(|line| writeln!(out, "{}", escaped(line)))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// A line that is text, whatever is in it.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if line.starts_with('.') { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stay_as_they_are_and_prose_is_filled() {
        let mut out = Vec::new();
        let after = "Examples:\n  smmuv3 a --b\n  c 'd' \\e\n\nSome\n.prose. Exit status: 0 or\n1.";
        sections(after, &mut out).unwrap();
        let expected = ".SH EXAMPLES\n.nf\n  smmuv3 a \\-\\-b\n  c \\(aqd\\(aq \\ee\n.fi\n\
                        .SH NOTES\nSome\n\\&.prose.\n.SH EXIT STATUS\n0 or\n1.\n";
        assert_eq!(str::from_utf8(&out).unwrap(), expected);
    }
}
