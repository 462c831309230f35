// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupts: a GICv3, and who handles which. Shared ones go to CPU 0.

use alloc::boxed::Box;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicV3};
use arm_gic::{IntId, InterruptGroup, UniqueMmioPointer};
use smmuv3_discovery::{Line, Trigger};
use spin::Once;

use crate::lock::Lock;
use crate::machine::Machine;
use crate::verdict;

/// What is to be done at an interrupt. It runs with interrupts masked.
pub type Handler = Box<dyn Fn() + Send + Sync>;

static GIC: Lock<Option<GicV3<'static>>> = Lock::new(None);

/// Read without a lock by every interrupt; filled from the first on, and never emptied.
static HANDLERS: [Once<(IntId, Handler)>; 16] = [const { Once::new() }; 16];

/// How many interrupts there were.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Starts the interrupt controller, and this CPU's part of it.
pub fn init(machine: &Machine) {
    let [distributor, redistributors] = machine.gic;
    let pointers =
        (NonNull::new(distributor as *mut Gicd), NonNull::new(redistributors as *mut GicrSgi));
    let (Some(distributor), Some(redistributors)) = pointers else { panic!("a GIC at 0") };
    // SAFETY: the device tree says that the registers are there; they are mapped as Device memory and used by nobody
    // but this driver.
    let gic = unsafe {
        GicV3::new(UniqueMmioPointer::new(distributor), redistributors, machine.cpus.len())
    };
    match gic {
        Ok(mut gic) => {
            gic.setup(0);
            GIC.with(|place| *place = Some(gic));
        }
        Err(error) => panic!("GIC: {error}"),
    }
    open();
}

/// Starts the part of the interrupt controller that belongs to another CPU, this one.
pub fn init_cpu(cpu: usize) {
    GIC.with(|gic| gic.as_mut().map(|gic| gic.init_cpu(cpu)));
    GicCpuInterface::enable_group1(true);
    open();
}

fn open() {
    GicCpuInterface::set_priority_mask(0xff);
}

/// Has `handler` called at every interrupt of `line`: a shared one on CPU 0, a private one of the calling CPU's.
pub fn attach(line: Line, handler: Handler) {
    let id = match IntId::try_from(line.intid) {
        Ok(id) => id,
        Err(error) => panic!("{error}"),
    };
    let trigger = match line.trigger {
        Trigger::Edge => arm_gic::Trigger::Edge,
        Trigger::Level => arm_gic::Trigger::Level,
    };
    let mut handler = Some((id, handler));
    for place in &HANDLERS {
        place.call_once(|| handler.take().unwrap_or_else(|| unreachable!("it is taken once")));
        if handler.is_none() {
            break;
        }
    }
    assert!(handler.is_none(), "too many interrupt handlers");
    let cpu = id.is_private().then(crate::cpu::number);
    let enabled = GIC.with(|gic| {
        let Some(gic) = gic else { return Ok(()) };
        gic.set_trigger(id, cpu, trigger)?;
        gic.enable_interrupt(id, cpu, true)
    });
    if let Err(error) = enabled {
        panic!("interrupt {id:?}: {error}");
    }
}

/// How many interrupts there were so far.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Called by the vectors, with interrupts masked.
pub extern "C" fn dispatch() {
    let group = InterruptGroup::Group1;
    while let Some(id) = GicCpuInterface::get_and_acknowledge_interrupt(group) {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let mut handlers = HANDLERS.iter().map_while(Once::get).filter(|(of, _)| *of == id);
        let Some((_, first)) = handlers.next() else {
            verdict::die(format_args!("nobody expects interrupt {id:?}"));
        };
        first();
        for (_, handler) in handlers {
            handler();
        }
        GicCpuInterface::end_interrupt(id, group);
    }
}
