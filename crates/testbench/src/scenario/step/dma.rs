// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps of devices, and what is expected of them.

use smmuv3_formats::EventId;

use super::Reader;
use crate::scenario::data::{LIMIT, data};
use crate::scenario::read::lookup;
use crate::scenario::source::Fields;
use crate::scenario::{Action, Device, Substream};

/// What an expectation is about.
#[derive(Clone, Copy)]
pub(super) enum Before {
    /// No DMA.
    Nothing,
    /// A step with a mistake in it: anything.
    Unknown,
    /// This DMA.
    Dma(Dma),
}

#[derive(Clone, Copy)]
pub(super) struct Dma {
    master: usize,
    substream: Substream,
    iova: u64,
    length: u64,
    write: bool,
    expects_data: bool,
}

impl Before {
    /// What it is after a step; `None` is one with a mistake in it.
    pub(super) fn after(self, action: Option<&Action>) -> Self {
        match action {
            None => Before::Unknown,
            Some(Action::Write { master, substream, iova, data }) => Before::Dma(Dma {
                master: *master,
                substream: *substream,
                iova: *iova,
                length: data.len() as u64,
                write: true,
                expects_data: false,
            }),
            Some(Action::Read { master, substream, iova, length, expect, .. }) => {
                let (master, iova, length) = (*master, *iova, *length);
                Before::Dma(Dma {
                    master,
                    substream: *substream,
                    iova,
                    length,
                    write: false,
                    expects_data: expect.is_some(),
                })
            }
            Some(
                Action::ExpectFault { .. }
                | Action::ExpectBlocked { .. }
                | Action::ExpectData { .. },
            ) => self,
            Some(_) => Before::Nothing,
        }
    }
}

impl Reader<'_> {
    pub(super) fn write(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields);
        let substream = self.substream(fields);
        let iova = self.address(fields);
        let value = fields.need("data", "\"hello\"")?;
        let data = data(fields, "data", value)?;
        let (master, iova) = (master?, iova?);
        self.transfer(fields, iova, data.len() as u64)?;
        let device = self.scenario.masters.get(master)?.device;
        let pattern = Device::TEST_PATTERN.to_le_bytes();
        if device == Device::TestDevice && data.chunks(4).any(|chunk| chunk != pattern) {
            fields.wrong(
                value,
                format!(
                    "master \"{}\" is a testdev, which writes only {{ pattern = {:#x}, length = a multiple \
                     of 4 }}",
                    self.names.masters[master],
                    Device::TEST_PATTERN
                ),
            );
        }
        Some(Action::Write { master, substream: substream?, iova, data })
    }

    pub(super) fn read(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields);
        let substream = self.substream(fields);
        let iova = self.address(fields);
        let instruction = fields.flag("instruction");
        let expect_value = fields.get("expect");
        let expect = expect_value.map(|value| data(fields, "expect", value));
        let given = match fields.get("length") {
            Some(value) => Some(fields.bytes("length", value)?),
            None => None,
        };
        let expect = match expect {
            Some(expect) => Some(expect?),
            None => None,
        };
        let length = match (given, &expect) {
            (Some(length), None) => length,
            (None, Some(data)) => data.len() as u64,
            (Some(length), Some(data)) => {
                if length != data.len() as u64 {
                    fields.source.wrong_at(
                        fields.places().of("length"),
                        format!(
                            "length = {length}, but expect has {} bytes; leave length out",
                            data.len()
                        ),
                    );
                }
                length
            }
            (None, None) => {
                fields.need("length", "64")?;
                return None;
            }
        };
        let (master, iova) = (master?, iova?);
        self.transfer(fields, iova, length)?;
        if self.scenario.masters.get(master)?.device == Device::TestDevice {
            fields.source.wrong_at(
                fields.places().of("master"),
                format!(
                    "master \"{}\" is a testdev, which only writes; give it device = \"edu\"",
                    self.names.masters[master]
                ),
            );
        }
        let (substream, instruction) = (substream?, instruction.unwrap_or(false));
        Some(Action::Read { master, substream, iova, length, instruction, expect })
    }

    pub(super) fn expect_fault(&self, fields: &Fields<'_>) -> Option<Action> {
        let master = self.master(fields);
        let substream = self.substream(fields);
        let iova = match fields.get("iova") {
            Some(value) => Some(fields.bytes("iova", value)?),
            None => None,
        };
        let events: Vec<_> = EventId::ALL.iter().map(|event| (event.name(), *event)).collect();
        let event = match fields.need("event", "\"F_TRANSLATION\"") {
            Some(_) => fields.word("event", &events),
            None => None,
        };
        let write = match fields.get("access") {
            Some(_) => Some(fields.word("access", &[("read", false), ("write", true)])?),
            None => None,
        };
        let stalled = fields.flag("stalled").unwrap_or(false);
        let (master, substream, event) = (master?, substream?, event?);
        let dma = self.dma_of(fields, master, substream)?;
        if dma.expects_data {
            fields.source.wrong_at(
                fields.places().whole,
                "the read before expects data and a fault; leave one of them out",
            );
        }
        if let Some(iova) = iova.filter(|iova| !(dma.iova..dma.iova + dma.length).contains(iova)) {
            let last = dma.iova + (dma.length - 1);
            fields.source.wrong_at(
                fields.places().of("iova"),
                format!(
                    "{iova:#x} is not in the DMA before, which is {:#x} to {last:#x}",
                    dma.iova
                ),
            );
        }
        if write.is_some_and(|write| write != dma.write) {
            let (is, right) = if dma.write { ("a write", "write") } else { ("a read", "read") };
            fields.source.wrong_at(
                fields.places().of("access"),
                format!("the DMA before is {is}; write access = \"{right}\" or leave it out"),
            );
        }
        Some(Action::ExpectFault {
            master,
            substream,
            iova: iova.unwrap_or(dma.iova),
            event,
            write: dma.write,
            stalled,
        })
    }

    pub(super) fn expect_blocked(&self, fields: &Fields<'_>) -> Option<Action> {
        let (master, substream) = (self.master(fields), self.substream(fields));
        let (master, substream) = (master?, substream?);
        let dma = self.dma_of(fields, master, substream)?;
        if dma.expects_data {
            fields.source.wrong_at(
                fields.places().whole,
                "the read before expects data and to be blocked; leave one of them out",
            );
        }
        Some(Action::ExpectBlocked { master, substream })
    }

    pub(super) fn expect_data(&self, fields: &Fields<'_>) -> Option<Action> {
        let memory = fields
            .need("memory", "\"rx\"")
            .and_then(|value| lookup(fields, "memory", &self.names.memories, value));
        let offset = match fields.get("offset") {
            Some(value) => fields.bytes("offset", value),
            None => Some(0),
        };
        let data = fields.need("data", "\"hello\"").and_then(|value| data(fields, "data", value));
        let (memory, offset, data) = (memory?, offset?, data?);
        let size = self.scenario.memories.get(memory)?.size;
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > size) {
            fields.source.wrong_at(
                fields.places().of("offset"),
                format!(
                    "{} bytes from offset {offset:#x} leave memory \"{}\", which has {size:#x} bytes",
                    data.len(),
                    self.names.memories[memory]
                ),
            );
        }
        Some(Action::ExpectData { memory, offset, data })
    }

    /// IOVA of a DMA: any address.
    pub(super) fn address(&self, fields: &Fields<'_>) -> Option<u64> {
        fields.bytes("iova", fields.need("iova", "0x10000")?)
    }

    /// Whether a DMA has a length and its addresses fit 64 bits.
    fn transfer(&self, fields: &Fields<'_>, iova: u64, length: u64) -> Option<()> {
        if length == 0 || length > LIMIT || iova.checked_add(length).is_none() {
            fields.source.wrong_at(
                fields.places().whole,
                format!(
                    "a DMA of {length} bytes at {iova:#x}; it has 1 byte to {} MiB and stays within 64 bits",
                    LIMIT >> 20
                ),
            );
            return None;
        }
        Some(())
    }

    /// The DMA that an expectation for `master` is about.
    fn dma_of(&self, fields: &Fields<'_>, master: usize, substream: Substream) -> Option<Dma> {
        let wrong = |message: String| {
            fields.source.wrong_at(fields.places().whole, message);
            None
        };
        let (what, name) = (&fields.what, &self.names.masters[master]);
        match self.before {
            Before::Dma(dma) if (dma.master, dma.substream) == (master, substream) => Some(dma),
            Before::Dma(dma) if dma.master == master => wrong(format!(
                "{what} for master \"{name}\", but the DMA before has another PASID; write the same pasid or \
                 process, or none"
            )),
            Before::Dma(dma) => wrong(format!(
                "{what} for master \"{name}\", but the DMA before is of \"{}\"; it must follow a write or \
                 read of \"{name}\"",
                self.names.masters[dma.master]
            )),
            Before::Nothing => wrong(format!(
                "{what} without a DMA before; it must follow a write or read of \"{name}\" (other \
                 expectations may lie between)"
            )),
            // The mistake there was noted; this step may be right.
            Before::Unknown => None,
        }
    }
}
