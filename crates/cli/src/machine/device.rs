// SPDX-License-Identifier: MIT OR Apache-2.0
//! One device of a machine: the answer to `--device`.

use serde::Serialize;
use smmuv3::StreamId;
use smmuv3_discovery::{Device, InstanceIndex, Topology};

use super::tree::extent;
use super::view::{Message, Range, message, range};
use crate::hex::Hex;
use crate::report::printable;
use crate::report::text::{BAD, BOLD, paint, wrap};
use crate::sid::{Name, runs, stream_runs, why};

/// What there is to be known of it: one answer, or where a StreamID was asked for one for each SMMU that knows it.
#[derive(Debug, Serialize)]
pub struct Answers {
    /// As it was asked.
    pub asked: String,
    devices: Vec<Answer>,
    /// Why there is none.
    error: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Answer {
    device: String,
    smmu: Option<Smmu>,
    /// First and last of each run.
    streams: Vec<[Hex; 2]>,
    msi: Option<Message>,
    /// Bits of its addresses.
    address_bits: Option<u8>,
    coherent: Option<bool>,
    /// Addresses that it must not be given.
    reserved: Vec<Range>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Smmu {
    index: usize,
    name: String,
}

impl Answers {
    /// What `topology` says of `name`.
    pub fn of(topology: &Topology, asked: &str, name: &Name) -> Self {
        let answers = match name {
            Name::Function(function) => vec![answer(topology, function.device())],
            Name::Path(path) => vec![answer(topology, Device::Path(path))],
            Name::Stream(stream) => (0..topology.instances().len())
                .filter_map(|index| topology.device_of(InstanceIndex(index), StreamId(*stream)))
                .map(|device| answer(topology, device))
                .collect(),
        };
        let error = answers
            .is_empty()
            .then(|| "firmware mentions no device with this StreamID, on any SMMU".to_owned());
        Self { asked: asked.to_owned(), devices: answers, error }
    }

    /// Whether each is behind an SMMU.
    pub fn is_found(&self) -> bool {
        self.error.is_none() && self.devices.iter().all(|answer| answer.error.is_none())
    }

    /// For people.
    pub fn text(&self, columns: usize) -> String {
        let mut lines = Vec::new();
        let columns = columns.clamp(40, 100);
        for answer in &self.devices {
            lines.push(paint(BOLD, &printable(&answer.device)));
            lines.extend(answer.lines(columns));
        }
        if let Some(error) = &self.error {
            let wrapped = wrap(&format!("{}: {error}", self.asked), columns, "", "  ");
            lines.extend(wrapped.iter().map(|line| paint(BAD, line)));
        }
        lines.join("\n") + "\n"
    }
}

impl Answer {
    fn lines(&self, columns: usize) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(error) = &self.error {
            lines.extend(wrap(error, columns, "  ", "    ").iter().map(|line| paint(BAD, line)));
        }
        let mut row = |name: &str, value: String| {
            let head = format!("  {name:<11}");
            lines.extend(wrap(&value, columns, &head, "             "));
        };
        if let Some(smmu) = &self.smmu {
            row("SMMU", format!("{}, {}", smmu.index, smmu.name));
            row("StreamIDs", runs(&self.streams));
        }
        if let Some(msi) = &self.msi {
            let address = msi.address.map(|address| format!(", written to {:#x}", address.0));
            let place = format!("{}{}", msi.doorbell, address.unwrap_or_default());
            row("messages", format!("DeviceID {:#x} to {place}", msi.device_id.0));
        }
        let mut dma: Vec<String> = Vec::new();
        dma.extend(self.address_bits.map(|bits| format!("{bits}-bit addresses")));
        let snoops = |coherent| if coherent { "coherent with caches" } else { "not coherent" };
        dma.extend(self.coherent.map(|coherent| snoops(coherent).to_owned()));
        if !dma.is_empty() {
            row("DMA", dma.join(", "));
        }
        if !self.reserved.is_empty() {
            let all: Vec<String> = self.reserved.iter().map(extent).collect();
            row("reserved", all.join(", "));
        }
        lines
    }
}

fn answer(topology: &Topology, device: Device<'_>) -> Answer {
    let mut answer = Answer { device: device.to_string(), ..Answer::default() };
    match topology.streams_of(device) {
        Ok((index, streams)) => {
            answer.smmu = topology
                .instance(index)
                .map(|instance| Smmu { index: index.0, name: instance.name.clone() });
            answer.streams = stream_runs(&streams);
        }
        Err(error) => answer.error = Some(why(topology, device, error)),
    }
    answer.msi = topology.msi_of(device).ok().flatten().map(|msi| message(topology, msi));
    if let Ok((bits, coherent)) = topology.dma_of(device) {
        (answer.address_bits, answer.coherent) = (bits, Some(coherent));
    }
    let reserved = topology.reserved_for(device).unwrap_or_default();
    answer.reserved = reserved.iter().map(range).collect();
    answer
}
