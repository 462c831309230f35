// SPDX-License-Identifier: MIT OR Apache-2.0
//! From names to answers: as firmware says, or as requester IDs become StreamIDs where nothing else is known.

use serde::Serialize;
use smmuv3::StreamId;
use smmuv3_discovery::{Device, InstanceIndex, LookupError, StreamIds, Topology};

use super::name::{Function, Name};
use crate::firmware::Firmware;
use crate::hex::Hex;
use crate::report::printable;
use crate::report::table::{Column, table};
use crate::report::text::{DIM, REFUSED, paint, wrap};

/// All that was asked.
#[derive(Debug, Serialize)]
pub struct Answers {
    /// Where the answers are from: `requester IDs`, or the file.
    mapping: String,
    ids: Vec<Answer>,
}

/// What a name is.
#[derive(Debug, Default, Serialize)]
struct Answer {
    /// As it was asked.
    asked: String,
    /// The device, where one is known.
    device: Option<String>,
    /// The SMMU that it is behind.
    smmu: Option<Smmu>,
    /// First and last of each run of StreamIDs.
    streams: Vec<[Hex; 2]>,
    /// What its interrupt messages are known by at the ITS.
    device_id: Option<Hex>,
    /// What there is to be known about it.
    note: Option<String>,
    /// Why there is no answer.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Smmu {
    index: usize,
    name: String,
}

impl Answers {
    /// As firmware says.
    pub fn by(firmware: &Firmware, asked: &[(String, Name)]) -> Self {
        let topology = &firmware.topology;
        let mut ids = Vec::new();
        for (text, name) in asked {
            match name {
                Name::Function(function) => {
                    ids.push(of_device(topology, text, function.device(), true))
                }
                Name::Path(path) => ids.push(of_device(topology, text, Device::Path(path), true)),
                Name::Stream(stream) => of_stream(topology, text, *stream, &mut ids),
            }
        }
        Self { mapping: firmware.file.clone(), ids }
    }

    /// As if requester IDs were StreamIDs.
    ///
    /// # Errors
    /// A name that has no requester ID.
    pub fn alike(asked: &[(String, Name)]) -> Result<Self, String> {
        let mut ids = Vec::new();
        for (text, name) in asked {
            let answer = Answer { asked: text.clone(), ..Answer::default() };
            ids.push(match name {
                Name::Path(path) => return Err(path.clone()),
                Name::Function(function) => {
                    let id = Hex(function.requester().into());
                    let note = function.segment.filter(|segment| *segment != 0).map(|segment| {
                        format!("which streams segment {segment:#x} has, only firmware says")
                    });
                    let (device, streams) = (Some(function.to_string()), vec![[id, id]]);
                    Answer { device, streams, note, ..answer }
                }
                Name::Stream(stream) => {
                    // The lower half is what a requester ID would be.
                    let function = Function::of_requester(*stream as u16);
                    let upper = stream >> 16;
                    let note = (upper != 0).then(|| {
                        format!(
                            "bits [31:16] are {upper:#x}: no requester ID is that wide, so firmware \
                             maps them, mostly one number a segment"
                        )
                    });
                    let id = Hex((*stream).into());
                    // A wider one is of no function that could be named without firmware's mapping.
                    let device = (upper == 0).then(|| function.to_string());
                    Answer { device, streams: vec![[id, id]], note, ..answer }
                }
            });
        }
        Ok(Self { mapping: REQUESTER_IDS.to_owned(), ids })
    }

    /// Whether there is an answer to each.
    pub fn all_found(&self) -> bool {
        self.ids.iter().all(|answer| answer.error.is_none())
    }

    /// For people.
    pub fn text(&self, columns: usize) -> String {
        let smmus = self.ids.iter().any(|answer| answer.smmu.is_some());
        let messages = self.ids.iter().any(|answer| answer.device_id.is_some());
        let mut heads = vec![Column::left("asked"), Column::left("device")];
        if smmus {
            heads.push(Column::left("SMMU"));
        }
        heads.push(Column::left("StreamIDs"));
        if messages {
            heads.push(Column::left("DeviceID"));
        }
        let rows = self.ids.iter().map(|answer| {
            let text = |value: &Option<String>| value.as_deref().map_or("-".into(), printable);
            let mut row = vec![printable(&answer.asked), text(&answer.device)];
            if smmus {
                row.push(answer.smmu.as_ref().map_or("-".into(), |smmu| printable(&smmu.name)));
            }
            row.push(if answer.streams.is_empty() { "-".into() } else { runs(&answer.streams) });
            if messages {
                row.push(answer.device_id.map_or("-".into(), |id| format!("{:#x}", id.0)));
            }
            row
        });
        let mut lines = table(&heads, rows);
        for answer in &self.ids {
            let said = answer.error.as_ref().map(|error| (REFUSED, error));
            let said = said.into_iter().chain(answer.note.as_ref().map(|note| (DIM, note)));
            for (style, text) in said {
                let text = format!("{}: {text}", answer.asked);
                let wrapped = wrap(&text, columns.clamp(40, 100), "  ", "    ");
                lines.extend(wrapped.iter().map(|line| paint(style, line)));
            }
        }
        if self.mapping == REQUESTER_IDS {
            let text = "StreamIDs taken to be requester IDs, as most firmware has it. This machine's own \
                        mapping: --iort /sys/firmware/acpi/tables/IORT, or --dt /sys/firmware/fdt";
            let wrapped = wrap(text, columns.clamp(40, 100), "  ", "  ");
            lines.extend(wrapped.iter().map(|line| paint(DIM, line)));
        }
        lines.join("\n") + "\n"
    }
}

const REQUESTER_IDS: &str = "requester IDs";

/// What the device's own messages and streams are. `alone`: nothing else was said of it.
fn of_device(topology: &Topology, asked: &str, device: Device<'_>, alone: bool) -> Answer {
    let mut answer =
        Answer { asked: asked.to_owned(), device: Some(device.to_string()), ..Answer::default() };
    if alone && let Ok(Some(msi)) = topology.msi_of(device) {
        answer.device_id = Some(Hex(msi.device_id.into()));
    }
    match topology.streams_of(device) {
        Ok((instance, streams)) => {
            answer.smmu = smmu(topology, instance);
            answer.streams = stream_runs(&streams);
        }
        Err(error) => answer.error = Some(why(topology, device, error)),
    }
    answer
}

/// Who issues the stream, on each SMMU where somebody does.
fn of_stream(topology: &Topology, asked: &str, stream: u32, answers: &mut Vec<Answer>) {
    let before = answers.len();
    for index in (0..topology.instances().len()).map(InstanceIndex) {
        let Some(device) = topology.device_of(index, StreamId(stream)) else { continue };
        let id = Hex(stream.into());
        let messages = topology.msi_of(device).ok().flatten();
        answers.push(Answer {
            asked: asked.to_owned(),
            device: Some(device.to_string()),
            smmu: smmu(topology, index),
            streams: vec![[id, id]],
            device_id: messages.map(|msi| Hex(msi.device_id.into())),
            ..Answer::default()
        });
    }
    if answers.len() == before {
        let id = Hex(stream.into());
        let error = "firmware mentions no device with this StreamID, on any SMMU".to_owned();
        let answer =
            Answer { asked: asked.to_owned(), streams: vec![[id, id]], ..Answer::default() };
        answers.push(Answer { error: Some(error), ..answer });
    }
}

fn smmu(topology: &Topology, index: InstanceIndex) -> Option<Smmu> {
    let instance = topology.instance(index)?;
    Some(Smmu { index: index.0, name: instance.short_name().to_owned() })
}

/// Why a device has no streams, with what there is instead.
pub fn why(topology: &Topology, device: Device<'_>, error: LookupError) -> String {
    let advice = match (device, error) {
        (Device::Pci { segment, .. }, LookupError::UnknownDevice) => {
            let mut segments: Vec<u32> = topology.roots().iter().map(|root| root.segment).collect();
            segments.sort_unstable();
            segments.dedup();
            if segments.contains(&segment) {
                "no root complex has that bus".to_owned()
            } else {
                let known: Vec<String> = segments.iter().map(|it| format!("{it:#x}")).collect();
                format!("there are root complexes of segments {}", list(&known))
            }
        }
        (Device::Path(_) | Device::OnBus { .. }, LookupError::UnknownDevice) => {
            let known: Vec<String> =
                topology.devices().iter().take(5).map(|named| named.name.clone()).collect();
            let more = if topology.devices().len() > 5 { " and more" } else { "" };
            format!("names that it has: {}{more}", list(&known))
        }
        (_, LookupError::NotBehindAnSmmu) => {
            "its DMA is not translated, or another IOMMU's".to_owned()
        }
        _ => return error.to_string(),
    };
    format!("{error}; {advice}")
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// Runs of streams, in order.
pub fn stream_runs(streams: &StreamIds) -> Vec<[Hex; 2]> {
    let mut all: Vec<u64> = streams.iter().map(|stream| stream.0.into()).collect();
    all.sort_unstable();
    let mut runs: Vec<[Hex; 2]> = Vec::new();
    for stream in all {
        match runs.last_mut() {
            Some([_, last]) if last.0 + 1 == stream => last.0 = stream,
            _ => runs.push([Hex(stream), Hex(stream)]),
        }
    }
    runs
}

/// `0x100, 0x200-0x20f`.
pub fn runs(runs: &[[Hex; 2]]) -> String {
    let text = |[first, last]: &[Hex; 2]| match first == last {
        true => format!("{:#x}", first.0),
        false => format!("{:#x}-{:#x}", first.0, last.0),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}
