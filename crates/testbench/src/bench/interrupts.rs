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
    let message = |data: u32| Some(Message::new(PhysAddr(page + 8 * u64::from(data)), data));
    config.messages = Messages {
        events: message(EVENTS),
        errors: message(ERRORS),
        sync: message(SYNC),
        page_requests: message(PAGE_REQUESTS),
    };
}

impl Bench {
    /// The interrupts of an instance whose handlers are to run. With messages only those that have arrived.
    pub(super) fn pending(&self, instance: usize) -> impl Iterator<Item = Interrupt> + use<> {
        const ALL: [Option<Interrupt>; 4] = [
            Some(Interrupt::Sync),
            Some(Interrupt::Error),
            Some(Interrupt::Events),
            Some(Interrupt::PageRequests),
        ];
        let how = self.scenario.instances.get(instance).map(|known| known.queues.interrupts);
        let pending = match how {
            Some(Interrupts::Combined) => [Some(Interrupt::Any), None, None, None],
            Some(Interrupts::Wired) => ALL,
            Some(Interrupts::Messages) => {
                let numbers = [SYNC, ERRORS, EVENTS, PAGE_REQUESTS];
                let page = self.messages.get(instance).copied().flatten();
                let ram = self.world.machine().ram();
                let arrived = |number: u32| {
                    let at = page? + 8 * u64::from(number);
                    let arrived = ram.read64(at) == Some(u64::from(number));
                    // Taken: the next one is another.
                    let _ = ram.write64(at, 0);
                    arrived.then_some(())
                };
                let mut interrupts = ALL;
                for (interrupt, number) in interrupts.iter_mut().zip(numbers) {
                    *interrupt = interrupt.filter(|_| arrived(number).is_some());
                }
                interrupts
            }
            None => [None; 4],
        };
        pending.into_iter().flatten()
    }
}
