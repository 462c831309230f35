// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices reach what is mapped for them, and nothing else.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;

use smmuv3::formats::event::class;
use smmuv3::formats::{EventId, EventRecord};
use smmuv3::{Attributes, Domain, DomainConfig, Iova, Master, Prot, StreamId};
use smmuv3_dma::{Direction, DmaConfig, Lazy, Reclaim};

use super::{Bench, events_of};
use crate::buffer::Buffer;
use crate::edu::{self, Edu};
use crate::pci::Device;
use crate::platform::Kernel;
use crate::testdev::{self, Testdev};
use crate::verdict::{Outcome, Report};
use crate::{bring_up, ensure, time};

/// Where the buffers are mapped; beyond 32 bits, and nowhere near their physical addresses.
const IN: u64 = 0x12_3456_0000;
const OUT: u64 = 0x12_3456_1000;
/// Never mapped.
const NOWHERE: u64 = 0x12_3457_0000;

/// Bytes of a transfer that is to fail: QEMU reports each four of them.
const FEW: u64 = 16;

/// A device, its master, and its domain.
struct Seat<'a> {
    bench: &'a Bench,
    edu: Edu,
    stream: StreamId,
    master: Master<Kernel>,
    domain: Domain<Kernel>,
    source: Buffer,
    target: Buffer,
}

pub fn run(report: &mut Report, bench: &Bench) {
    let found: Vec<&Device> = bench.pci.find(edu::ID.0, edu::ID.1).collect();
    let Some(first) = found.first() else {
        report.note("edu", Err("there is none".into()));
        return;
    };
    report.note("blocked", blocked(bench, first));
    let seat = match Seat::new(bench, first) {
        Ok(seat) => seat,
        Err(error) => {
            report.note("master", Err(error));
            return;
        }
    };
    report.note("unattached", seat.unattached());
    report.note("in and out", seat.in_and_out());
    report.note("fault", seat.fault());
    report.note("permission", seat.permission());
    report.note("unmap", seat.unmap());
    for second in found.iter().skip(1) {
        report.note("isolation", seat.isolation(second));
    }
    for device in bench.pci.find(testdev::ID.0, testdev::ID.1) {
        report.note("testdev", seat.testdev(device));
    }
    report.note("detach", seat.detach());
    report.note("next domain", next_domain(bench, first));
    report.note("first dma", first_dma(bench, first));
    report.note("given back", given_back(bench, first));
}

/// A device that nobody made known reaches nothing, which is reported by interrupt.
fn blocked(bench: &Bench, device: &Device) -> Outcome {
    let (edu, stream) = (Edu::new(device), bench.stream(device)?);
    let target = Buffer::new(edu::BUFFER as usize);
    target.fill(1);
    edu.write(target.address().0, FEW)?;
    let (reports, interrupts) = bench.faults.take(1);
    ensure!(target.differences(1) == 0, "it wrote to memory");
    let events = events_of(stream, &reports)?;
    let all = |event: &EventRecord| event.event() == Some(EventId::CBadStreamId);
    ensure!(events.iter().all(all), "not C_BAD_STREAMID only: {events:?}");
    ensure!(
        interrupts > 0 && !events.is_empty(),
        "{interrupts} interrupts, {} events",
        events.len()
    );
    let first = events.first().ok_or("no event")?;
    Ok(format!("{first}, {} events, {interrupts} interrupts; memory as it was", events.len()))
}

/// A domain that ended with something mapped leaves nothing in the SMMU for the next one, which has its ASID.
fn next_domain(bench: &Bench, device: &Device) -> Outcome {
    let iommu = bench.smmus.iommu();
    let (edu, master, bytes) = (Edu::new(device), bench.master(device)?, edu::BUFFER);
    let both = Attributes::normal(Prot::READ | Prot::WRITE);
    let enter = |memory: &Buffer| -> Result<_, Box<dyn Error>> {
        let domain = iommu.create_domain(DomainConfig::default())?;
        // SAFETY: the buffers stay until their domains are closed; nobody else uses those.
        unsafe { domain.map(Iova(IN), memory.address(), bytes, both)? };
        iommu.attach(&master, &domain)?;
        let tag = domain.targets()?.first().map(|target| target.tag).ok_or("no tag")?;
        Ok((domain, tag))
    };
    let (old, new) = (Buffer::new(bytes as usize), Buffer::new(bytes as usize));
    let (domain, tag) = enter(&old)?;
    old.fill(8);
    edu.read(IN, bytes)?;
    iommu.detach(&master)?;
    domain.close()?;
    old.fill(9);
    let (domain, again) = enter(&new)?;
    ensure!(tag == again, "another tag, {again:?} after {tag:?}: this shows nothing");
    edu.write(IN, bytes)?;
    ensure!(old.differences(9) == 0, "it wrote to memory of the domain before");
    ensure!(new.differences(8) == 0, "it did not write to its own memory");
    iommu.detach(&master)?;
    domain.close()?;
    master.close()?;
    Ok(format!("ASID {:#x} twice, with other memory", tag.asid))
}

/// What the example of bring-up does, with buffers of whole pages and with others.
fn first_dma(bench: &Bench, device: &Device) -> Outcome {
    let edu = Edu::new(device);
    // SAFETY: edu writes nothing after the end of a transfer, for which `copy` waits.
    let deferred = unsafe { DmaConfig::deferred() };
    let all =
        [(DmaConfig::strict(), "strict"), (DmaConfig::lazy(), "lazy"), (deferred, "deferred")];
    for (config, name) in all {
        let (master, space) = bring_up::connect(&bench.smmus, device.name(), config)?;
        for bytes in [4096, 1000] {
            let data: Box<[u8]> = (0..bytes).map(|index| (index * 7 + index / 256) as u8).collect();
            let copy = bring_up::copy(&space, &edu, data.clone())?;
            ensure!(copy == data, "{name}: {bytes} bytes did not come back as they were");
        }
        bring_up::disconnect(master, space)?;
    }
    Ok("4096 and 1000 bytes lent and taken back, strict, lazy and deferred".into())
}

/// A buffer that is unmapped without waiting comes back after a flush, with what the device wrote.
fn given_back(bench: &Bench, device: &Device) -> Outcome {
    let edu = Edu::new(device);
    let config =
        DmaConfig::default().with_reclaim(Reclaim::Lazy(Lazy::default().with_copy_up_to(0)));
    let (master, space) = bring_up::connect(&bench.smmus, device.name(), config)?;
    // Some of its pages are its own, wherever it begins.
    let (len, part) = (4 * edu::BUFFER, edu::BUFFER as usize..2 * edu::BUFFER as usize);
    let data: Box<[u8]> = (0..len).map(|index| (index * 7 + index / 256) as u8).collect();
    let expected = data.get(part.clone()).ok_or("a part")?.to_vec();
    let later = |lent| -> Result<Box<[u8]>, Box<dyn Error>> {
        let retiring = space.retire(lent)?;
        let Err(retiring) = space.recover(retiring) else {
            return Err("it came back before a flush".into());
        };
        space.flush()?;
        space.recover(retiring).map_err(|_| "it did not come back after a flush".into())
    };
    let lent = space.lend(data, Direction::ToDevice)?;
    edu.read(lent.iova().0 + edu::BUFFER, edu::BUFFER)?;
    let mut data = later(lent)?;
    data.fill(0);
    let lent = space.lend(data, Direction::FromDevice)?;
    edu.write(lent.iova().0 + edu::BUFFER, edu::BUFFER)?;
    let data = later(lent)?;
    ensure!(data.get(part) == Some(&*expected), "they did not come back as they were");
    bring_up::disconnect(master, space)?;
    Ok(format!("{} bytes by a buffer that is given back after a flush", edu::BUFFER))
}

impl<'a> Seat<'a> {
    fn new(bench: &'a Bench, device: &Device) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            bench,
            edu: Edu::new(device),
            stream: bench.stream(device)?,
            master: bench.master(device)?,
            domain: bench.smmus.iommu().create_domain(DomainConfig::default())?,
            source: Buffer::new(edu::BUFFER as usize),
            target: Buffer::new(edu::BUFFER as usize),
        })
    }

    /// A master without a domain reaches nothing, silently.
    fn unattached(&self) -> Outcome {
        self.target.fill(1);
        self.edu.write(self.target.address().0, FEW)?;
        ensure!(self.target.differences(1) == 0, "it wrote to memory");
        self.expect_silence()?;
        Ok(format!("stream {} aborts silently; memory as it was", self.stream))
    }

    fn expect_silence(&self) -> Result<(), String> {
        let (reports, interrupts) = self.bench.faults.take(0);
        match reports.first() {
            Some(first) => Err(format!("{} reports, the first {first:?}", reports.len())),
            None if interrupts > 0 => Err(format!("{interrupts} interrupts without a report")),
            None => Ok(()),
        }
    }

    /// A page goes into the device, and out of it elsewhere.
    fn in_and_out(&self) -> Outcome {
        let (read, both) =
            (Attributes::normal(Prot::READ), Attributes::normal(Prot::READ | Prot::WRITE));
        let bytes = edu::BUFFER;
        // SAFETY: the buffers stay where they are until `unmap`; nobody else uses the domain.
        unsafe {
            self.domain.map(Iova(IN), self.source.address(), bytes, read)?;
            self.domain.map(Iova(OUT), self.target.address(), bytes, both)?;
        }
        self.bench.smmus.iommu().attach(&self.master, &self.domain)?;
        self.source.fill(2);
        let begun = time::now();
        self.edu.read(IN, bytes)?;
        self.edu.write(OUT, bytes)?;
        let took = (time::now() - begun) / 1_000_000;
        let wrong = self.target.differences(2);
        ensure!(wrong == 0, "{wrong} words of {} are wrong", bytes / 8);
        ensure!(self.source.differences(2) == 0, "the source was changed");
        self.expect_silence()?;
        Ok(format!("{bytes} bytes in by {IN:#x} and out by {OUT:#x} as they were, {took} ms"))
    }

    /// Accesses where nothing is mapped are reported by interrupt, and reach nothing.
    fn fault(&self) -> Outcome {
        self.edu.write(NOWHERE, FEW)?;
        let write = self.expect_fault(EventId::FTranslation, NOWHERE, false)?;
        self.edu.read(NOWHERE, FEW)?;
        self.expect_fault(EventId::FTranslation, NOWHERE, true)?;
        Ok(write)
    }

    /// What may only be read is not written.
    fn permission(&self) -> Outcome {
        self.edu.write(IN, FEW)?;
        let told = self.expect_fault(EventId::FPermission, IN, false)?;
        ensure!(self.source.differences(2) == 0, "it was written");
        Ok(told)
    }

    /// Takes the events of a transfer of [`FEW`] bytes at `iova`, which must have come by interrupt, and describes them.
    fn expect_fault(&self, kind: EventId, iova: u64, read: bool) -> Result<String, String> {
        let fails = |what: &str| Err(format!("{}: {what}", kind.name()));
        // Each four bytes are an event on QEMU; one would be enough.
        let (reports, interrupts) = self.bench.faults.take((FEW / 4) as usize);
        let events = events_of(self.stream, &reports)?;
        let Some(first) = events.first() else { return fails("not reported") };
        if interrupts == 0 {
            return fails("reported without an interrupt");
        }
        for event in &events {
            let inside = (iova..iova + FEW).contains(&event.input_addr());
            let right = event.event() == Some(kind) && event.rnw() == read;
            if !right || !inside || event.class() != class::INPUT || event.s2() || event.stall() {
                return Err(format!("{event} is not the expected {}", kind.name()));
            }
        }
        if first.input_addr() != iova {
            return fails("the first is not about the first address");
        }
        Ok(format!("{first}, {} events, {interrupts} interrupts", events.len()))
    }

    /// After an unmap the device does not reach the memory, whatever it had cached.
    fn unmap(&self) -> Outcome {
        // SAFETY: nobody else uses the domain.
        let gone = unsafe { self.domain.unmap(Iova(OUT), edu::BUFFER)? };
        ensure!(gone == edu::BUFFER, "{gone} bytes were unmapped");
        self.target.fill(3);
        self.edu.write(OUT, FEW)?;
        let told = self.expect_fault(EventId::FTranslation, OUT, false)?;
        ensure!(self.target.differences(3) == 0, "it wrote to memory that was unmapped");
        Ok(told)
    }

    /// Another device in a domain of its own reaches by the same address its own memory.
    fn isolation(&self, device: &Device) -> Outcome {
        let other = Seat::new(self.bench, device)?;
        let bytes = edu::BUFFER;
        let both = Attributes::normal(Prot::READ | Prot::WRITE);
        let iommu = self.bench.smmus.iommu();
        // SAFETY: the buffer stays until it is unmapped below; nobody else uses the domain.
        unsafe { other.domain.map(Iova(IN), other.source.address(), bytes, both)? };
        iommu.attach(&other.master, &other.domain)?;
        other.source.fill(4);
        self.source.fill(5);
        self.edu.read(IN, bytes)?;
        other.edu.write(IN, bytes)?;
        // Its buffer was empty.
        let zeros = (0..bytes as usize / 8).filter(|index| other.source.read(*index) == 0).count();
        ensure!(zeros == bytes as usize / 8, "it did not write to its own memory");
        ensure!(self.source.differences(5) == 0, "it wrote to the other device's memory");
        self.expect_silence()?;
        iommu.detach(&other.master)?;
        // SAFETY: nobody else uses the domain.
        unsafe { other.domain.unmap(Iova(IN), bytes)? };
        other.end()?;
        Ok(format!("{device} wrote by {IN:#x} to its own memory, not to that of {}", self.stream))
    }

    /// A device that says what became of its accesses.
    fn testdev(&self, device: &Device) -> Outcome {
        let seat = Seat::new(self.bench, device)?;
        let iommu = self.bench.smmus.iommu();
        let (testdev, bytes) = (Testdev::new(device), edu::BUFFER);
        let physical = seat.target.address();
        let both = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the buffer stays until it is unmapped below; nobody else uses the domain.
        unsafe { seat.domain.map(Iova(OUT), physical, bytes, both)? };
        iommu.attach(&seat.master, &seat.domain)?;
        let told = testdev.write(OUT, bytes as u32, physical.0);
        ensure!(told == testdev::WRITTEN, "a write to what is mapped ended with {told:#x}");
        let pattern = u64::from(testdev::PATTERN) << 32 | u64::from(testdev::PATTERN);
        let right =
            (0..bytes as usize / 8).filter(|index| seat.target.read(*index) == pattern).count();
        ensure!(right == bytes as usize / 8, "{right} words of {} are right", bytes / 8);
        seat.expect_silence()?;

        // SAFETY: as above.
        unsafe { seat.domain.unmap(Iova(OUT), bytes)? };
        seat.target.fill(6);
        let told = testdev.write(OUT, FEW as u32, physical.0);
        ensure!(told == testdev::REFUSED, "a write to what was unmapped ended with {told:#x}");
        let event = seat.expect_fault(EventId::FTranslation, OUT, false)?;
        ensure!(seat.target.differences(6) == 0, "it wrote to memory that was unmapped");
        iommu.detach(&seat.master)?;
        seat.end()?;
        Ok(format!("{bytes} bytes written, then refused: {event}"))
    }

    /// A device that was detached reaches nothing, silently.
    fn detach(self) -> Outcome {
        self.source.fill(7);
        self.bench.smmus.iommu().detach(&self.master)?;
        self.edu.write(IN, FEW)?;
        ensure!(self.source.differences(7) == 0, "it wrote to memory");
        self.expect_silence()?;
        // SAFETY: nobody else uses the domain.
        unsafe { self.domain.unmap(Iova(IN), edu::BUFFER)? };
        self.end()?;
        Ok("aborts silently; master and domain closed".into())
    }

    fn end(self) -> Result<(), Box<dyn Error>> {
        self.master.close()?;
        Ok(self.domain.close()?)
    }
}
