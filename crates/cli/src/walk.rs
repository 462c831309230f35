// SPDX-License-Identifier: MIT OR Apache-2.0
//! `walk`: what an SMMU makes of an access, read from an image of memory.

mod json;
mod registers;
mod svg;
mod text;

use std::io;
use std::path::PathBuf;

use smmuv3_walk::reach::{Limits, Scope, Severity, Survey, reach};
use smmuv3_walk::{Access, Outcome, Smmu, walk};

use crate::args::Walk;
use crate::image::{ImageError, Images};
use crate::progress::Bar;
use crate::{BROKEN, Failure, HELD, UNUSABLE, write_out};

/// Why nothing can be walked.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The images cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The file with registers cannot be read.
    #[error("{path} can't be read: {reason}")]
    Registers {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// The registers say too little.
    #[error("{0}")]
    Setup(String),
}

/// Walks.
///
/// # Errors
/// [`Failure`] when the input cannot be used, or the output not be written.
pub fn execute(arguments: &Walk) -> Result<u8, Failure> {
    let piped = arguments.memory.iter().map(|image| &image.path).chain(&arguments.registers);
    if piped.filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Failure::Walk(WalkError::Setup(
            "standard input can be read once: give the other one as a file".to_owned(),
        )));
    }
    let smmu = registers::smmu(arguments).map_err(Failure::Walk)?;
    let (smmu, off) = smmu;
    if off {
        anstream::eprintln!(
            "note: the registers say that the SMMU is off (CR0.SMMUEN = 0), so that GBPA decides; this is \
             what it does once it is on"
        );
    }
    let images = Images::open(&arguments.memory, arguments.whole)
        .map_err(|error| Failure::Walk(error.into()))?;
    let status = match (arguments.sid, arguments.address) {
        (Some(stream), Some(address)) => one(arguments, &images, &smmu, stream, address)?,
        (Some(_), None) if !arguments.all => {
            return Err(Failure::Walk(WalkError::Setup(
                "what does the stream access? Give --address A, or --all for everything that it reaches"
                    .to_owned(),
            )));
        }
        _ => survey(arguments, &images, &smmu)?,
    };
    images.finish().map_err(|error| Failure::Walk(error.into()))?;
    Ok(status)
}

/// One access.
fn one(
    arguments: &Walk,
    images: &Images,
    smmu: &Smmu,
    stream: u32,
    address: u64,
) -> Result<u8, Failure> {
    let access = Access {
        stream,
        substream: arguments.ssid,
        address,
        write: arguments.write,
        privileged: arguments.privileged,
        instruction: arguments.exec,
    };
    let found = walk(images, smmu, access);
    let output = if arguments.json {
        write_out(&(json::walk(&found).to_string() + "\n"), io::stdout().lock())
    } else if arguments.svg {
        write_out(&svg::walk(&found), io::stdout().lock())
    } else {
        write_out(&text::walk(&found, arguments.idr.is_some()), anstream::stdout().lock())
    };
    output.map_err(Failure::Output)?;
    Ok(match found.outcome {
        Outcome::Translated(_) => HELD,
        Outcome::Fault(_) | Outcome::Silent { .. } => BROKEN,
        Outcome::Missing { .. } | Outcome::Unsupported { .. } => UNUSABLE,
    })
}

/// Everything that streams reach.
fn survey(arguments: &Walk, images: &Images, smmu: &Smmu) -> Result<u8, Failure> {
    let scope =
        Scope { stream: arguments.sid, substream: arguments.ssid, only_streams: !arguments.all };
    let mut bar = Bar::new();
    let found = reach(images, smmu, scope, Limits::default(), &mut |progress| {
        let (streams, descriptors) = (progress.streams, progress.descriptors);
        let empty = match progress.skipped >> 20 {
            0 => String::new(),
            mebibytes => format!(", {mebibytes} MiB of the stream table are empty"),
        };
        bar.say(format!("{streams} streams, {descriptors} descriptors{empty}"));
    });
    drop(bar);
    let shown = text::Shown { limit: arguments.limit, only: scope.stream, tables: arguments.all };
    let output = if arguments.json {
        write_out(&(json::survey(&found, arguments.limit).to_string() + "\n"), io::stdout().lock())
    } else if arguments.svg {
        write_out(&svg::survey(&found), io::stdout().lock())
    } else {
        write_out(&text::survey(&found, shown), anstream::stdout().lock())
    };
    output.map_err(Failure::Output)?;
    Ok(status(&found, arguments.sid.is_some()))
}

/// The exit status; `one`: a stream was asked for, and is to be there.
fn status(found: &Survey, one: bool) -> u8 {
    match found.severity() {
        Some(Severity::Wrong | Severity::Risk) => BROKEN,
        _ if found.missing() => UNUSABLE,
        _ if one && found.streams.is_empty() => BROKEN,
        _ => HELD,
    }
}
