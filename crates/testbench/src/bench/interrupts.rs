// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the driver gets to know that it has something to look at: by one wire, a wire each, or messages.

use smmuv3::{InstanceConfig, Interrupt, Message, Messages, PhysAddr};

use super::Bench;
use crate::oracle::PAGE;
use crate::platform::World;
use crate::scenario::{Instance, Interrupts};

/// What the message of each interrupt is; its word is as many words from the beginning of the page.
const EVENTS: u32 = 1;
const ERRORS: u32 = 2;
const SYNC: u32 = 3;
const PAGE_REQUESTS: u32 = 4;

/// Memory for the messages of an instance's interrupts, if they are messages.
pub(super) fn place(world: &World, instance: &Instance) -> Option<u64> {
    let messages = instance.queues.interrupts == Interrupts::Messages;
    messages.then(|| world.frames().allocate(PAGE, PAGE)).flatten()
}

/// Tells the driver how the interrupts of an instance reach it, and where messages go, if they do.
pub(super) fn configure(config: &mut InstanceConfig, instance: &Instance, page: Option<u64>) {
    config.completion = instance.queues.completion;
    let Some(page) = page else { return };
    // SAFETY: that page is for messages, and stays.
    let message =
        |data: u32| Some(unsafe { Message::new(PhysAddr(page + 8 * u64::from(data)), data) });
    config.messages = Messages {
        events: message(EVENTS),
        errors: message(ERRORS),
        sync: message(SYNC),
        page_requests: message(PAGE_REQUESTS),
    };
}

impl Bench {
    /// The interrupts of an instance whose handlers are to run: those that were raised. Of wires QEMU does not tell here: its
    /// may have been.
    pub(super) fn pending(&self, instance: usize) -> impl Iterator<Item = Interrupt> + use<> {
        const ALL: [Interrupt; 4] =
            [Interrupt::Sync, Interrupt::Error, Interrupt::Events, Interrupt::PageRequests];
        let how = self.scenario.instances.get(instance).map(|known| known.queues.interrupts);
        let raised = match how {
            None => [false; 4],
            Some(Interrupts::Messages) => self.arrived(instance),
            Some(Interrupts::Combined | Interrupts::Wired) => {
                match self.world.interrupts(instance) {
                    Some(edges) => [edges.cmd_sync, edges.gerror, edges.eventq, edges.priq],
                    None => [true; 4],
                }
            }
        };
        let combined = how == Some(Interrupts::Combined);
        let any = (combined && raised.contains(&true)).then_some(Interrupt::Any);
        let each = ALL.into_iter().zip(raised).filter(move |(_, raised)| *raised && !combined);
        any.into_iter().chain(each.map(|(interrupt, _)| interrupt))
    }

    /// Which messages of an instance have arrived. They are taken: the next one is another.
    fn arrived(&self, instance: usize) -> [bool; 4] {
        let Some(page) = self.messages.get(instance).copied().flatten() else { return [false; 4] };
        let ram = self.world.machine().ram();
        [SYNC, ERRORS, EVENTS, PAGE_REQUESTS].map(|number| {
            let at = page + 8 * u64::from(number);
            let arrived = ram.read64(at) == Some(u64::from(number));
            let _ = ram.write64(at, 0);
            arrived
        })
    }
}
