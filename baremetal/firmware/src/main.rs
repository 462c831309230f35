// SPDX-License-Identifier: MIT OR Apache-2.0
//! A firmware that puts every stream under one fixed table, without a heap: what the driver's layer below `Iommu` is
//! for. Devices reach one window of memory, at its physical address, and nothing else, until an operating system takes
//! over.
//!
//! [`protect`] is all of it. The rest is a board: memory, a console, and a device to try it with.
#![no_std]
#![no_main]
#![deny(warnings)]

mod board;
mod console;
#[path = "../../src/memory.rs"]
#[allow(dead_code, reason = "only the tables of the CPU are needed, not where the image is")]
mod memory;
mod pool;
#[path = "../../src/semihosting.rs"]
mod semihosting;

use core::fmt;
use core::panic::PanicInfo;
use core::ptr::NonNull;

use aarch64_rt::{ExceptionHandlers, entry, exception_handlers};
use smmuv3::context_table::ContextTable;
use smmuv3::entry::{Context, Stream, WithoutSubstream};
use smmuv3::event_queue::Delivery;
use smmuv3::formats::{EventId, EventRecord};
use smmuv3::hardware::Registers;
use smmuv3::instance::{Instance, InstanceConfig, Probed};
use smmuv3::pagetable::Stage1Table4K;
use smmuv3::update::{CdKind, SteKind, update};
use smmuv3::{Attributes, EnableError, Iova, Prot, StreamId, SubstreamId};

use crate::board::{Edu, SMMU, WINDOW};
use crate::pool::Pool;

entry!(main);
exception_handlers!(Exceptions);

/// None is expected: each ends in a panic.
struct Exceptions;

impl ExceptionHandlers for Exceptions {}

/// StreamIDs of up to this many bits have entries: one PCI bus. Those beyond abort.
const SID_BITS: u32 = 8;

/// The tag of the only address space.
const ASID: u16 = 1;

/// What went wrong.
type Error = &'static str;

/// Takes the SMMU into use, with every stream under one table that maps `window` to itself.
fn protect(pool: &Pool, mmio: Registers) -> Result<Instance<Pool>, Error> {
    let mut config = InstanceConfig::named("smmu");
    config.sid_bits = SID_BITS;
    let probed = Probed::<Pool>::new(mmio, config).map_err(|_| "the SMMU cannot be used")?;
    // SAFETY: there is one platform.
    let smmu = unsafe { probed.enable(pool) }.map_err(|refused| match refused.error {
        EnableError::NoMemory => "no memory for the SMMU",
        _ => "the SMMU does not answer",
    })?;
    // Everything aborts from here on, and until a stream has its entry.

    let features = smmu.features();
    let (input_bits, output_bits) = (features.input_bits.min(48), features.output_bits.min(48));
    let table = Stage1Table4K::new(pool, input_bits, output_bits).map_err(|_| "no table")?;
    let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
    let (start, bytes) = WINDOW;
    // SAFETY: the window is for devices, and nobody else knows the table.
    unsafe { table.map(pool, Iova(start.0), start, bytes, attributes) }
        .map_err(|_| "the window cannot be mapped")?;

    // SAFETY: there is one platform.
    let contexts = unsafe { ContextTable::new(pool, features, 0) }.ok_or("no memory")?;
    let context = Context::new(table.root(), 12, [input_bits, output_bits], ASID);
    let entry = contexts.entry(pool, SubstreamId(0)).ok_or("no context")?;
    // No stream leads there yet: nothing has to be forgotten.
    let untold = || Ok::<(), Error>(());
    // SAFETY: the tables of the window, which stay.
    unsafe { update::<_, CdKind, _>(pool, entry, &context.encode(features).0, untold) }?;

    let translated = Stream::Stage1 {
        contexts: contexts.base(),
        format: contexts.format(),
        bits: 0,
        without: WithoutSubstream::First,
        vmid: 0,
    };
    for stream in (0..1 << smmu.streams().log2()).map(StreamId) {
        let entry = smmu.streams().entry(pool, stream).ok_or("no entry")?;
        let forget = || smmu.forget_streams(pool, &[stream]).map_err(|_| "a command failed");
        // SAFETY: the window is all that devices reach by these contexts, and nobody else changes entries.
        unsafe { update::<_, SteKind, _>(pool, entry, &translated.encode(features).0, forget) }?;
    }
    Ok(smmu)
}

fn main(_: u64, _: u64, _: u64, _: u64) -> ! {
    println!("smmuv3 {} without a heap", env!("CARGO_PKG_VERSION"));
    match run() {
        Ok(()) => {
            println!("verdict: ok");
            semihosting::exit(0)
        }
        Err(what) => fail(format_args!("{what}")),
    }
}

fn run() -> Result<(), Error> {
    let pool = Pool;
    let pages = NonNull::new(SMMU as *mut u8).ok_or("an SMMU at 0")?;
    // SAFETY: the board has its registers there, mapped as Device memory, and nobody else uses them.
    let smmu = protect(&pool, unsafe { Registers::new(pages, 0x2_0000) })?;
    let streams = 1u64 << smmu.streams().log2();
    let (start, bytes) = WINDOW;
    println!("{streams} streams reach {bytes:#x} bytes at {start}, by one table");

    let edu = Edu::find().ok_or("no device")?;
    // SAFETY: the first word of the window, and the first behind it: memory that nobody uses.
    let [inside, outside] = [start.0, start.0 + bytes].map(|address| address as *mut u64);
    for word in [inside, outside] {
        // SAFETY: as above.
        unsafe { word.write_volatile(!0) };
    }
    // The device's buffer is full of zeros.
    edu.write(start.0, 8).ok_or("the device does not answer")?;
    edu.write(start.0 + bytes, 8).ok_or("the device does not answer")?;
    // SAFETY: as above.
    let words = [inside, outside].map(|word| unsafe { word.read_volatile() });
    if words != [0, !0] {
        return Err("the device did not reach exactly the window");
    }
    println!("the device wrote inside, not behind it");

    let mut fault = None;
    let mut keep = |delivery| {
        if let Delivery::Record(record) = delivery {
            fault.get_or_insert(record);
        }
    };
    while smmu
        .events()
        .drain(&pool, smmu.mmio(), 16, &mut keep)
        .map_err(|_| "the event queue makes no sense")?
    {}
    let fault: EventRecord = fault.ok_or("nothing was reported")?;
    let expected = fault.event() == Some(EventId::FTranslation)
        && fault.sid() == u64::from(edu.stream.0)
        && fault.input_addr() == start.0 + bytes;
    println!("{fault}");
    if !expected {
        return Err("that is not what was reported");
    }
    smmu.stop(&pool).map_err(|_| "the SMMU does not stop")?;
    let used = pool.used();
    println!("stopped, and aborts everything; {used} bytes of memory were used");
    Ok(())
}

fn fail(what: fmt::Arguments) -> ! {
    println!("verdict: FAILED: {what}");
    semihosting::exit(1)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    fail(format_args!("{info}"))
}
