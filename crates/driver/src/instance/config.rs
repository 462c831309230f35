// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an SMMU is to be used.

use core::time::Duration;

use super::Coherence;
use crate::command_queue::Completion;
use crate::errata::Firmware;
use crate::message::Messages;
use crate::name::Name;
use crate::overrides::WhileOff;
#[cfg(doc)]
use crate::platform::Platform;
use crate::stream_table::StreamTableShape;

/// How an SMMU is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstanceConfig {
    /// What to call it, for people. The driver shows it in traces and by `Debug`, and does nothing else with it.
    pub name: Name,
    /// log2 of the commands that the queue is to hold; less when the SMMU supports less.
    pub command_queue_log2: u32,
    /// log2 of the events that the queue is to hold; less when the SMMU supports less.
    pub event_queue_log2: u32,
    /// log2 of the page requests that the queue is to hold, where the SMMU has one (IDR0.PRI): 12 at most, and less when
    /// the SMMU supports less. That many can devices be granted together ([`MasterConfig::page_requests`]), and wait for
    /// the caller's answers. `None`: without a queue the SMMU tells whoever asks that it has failed.
    ///
    /// [`MasterConfig::page_requests`]: crate::MasterConfig::page_requests
    pub page_request_queue_log2: Option<u32>,
    /// Streams beyond this many bits always abort, which is reported (C_BAD_STREAMID), and take no memory. All 32 can be
    /// had. See [`StreamTableShape`] for streams within that no master has.
    pub sid_bits: u32,
    /// How the stream table is laid out.
    pub stream_table: StreamTableShape,
    /// Use ASIDs of at most this many bits, although the SMMU may support more: 6 to 16, or it is refused
    /// ([`Unsupported::AsidBits`](crate::Unsupported::AsidBits)).
    pub asid_bits: u32,
    /// How long the SMMU may do nothing although it has something to do.
    pub deadline: Duration,
    /// The same while devices have ATC_INVs to answer. An SMMU does nothing more at the next CMD_SYNC until they have, or
    /// until it gives them up (CERROR_ATC_INV_SYNC), after which they are in quarantine and it goes on. PCIe lets a device take a
    /// minute, and the root complex half as much again. Who has less finds the SMMU failed instead, and all devices behind it.
    pub device_deadline: Duration,
    /// Raise the interrupts of the event queue, of page requests and of errors: wired, but those that are messages.
    pub interrupts: bool,
    /// Which interrupts are messages. Where the SMMU cannot send them, it is refused: nobody would hear of its
    /// events.
    pub messages: Messages,
    /// Use at most this many enhanced command queues beside the command queue, where the SMMU has them and
    /// [`Mmio::bytes`](crate::Mmio::bytes) covers them; never more than one queue for each CPU
    /// ([`Platform::max_cpus`]). CPUs then give their commands to different queues ([`Platform::cpu`]), and wait for
    /// less of what others gave. Each is as large as the command queue.
    pub enhanced_queues: u32,
    /// How the SMMU tells of completed commands. With anything but [`Completion::Poll`], [`Platform::relax`] may wait for
    /// that; see there for what else it takes.
    pub completion: Completion,
    /// Take part in the TLB maintenance that CPUs broadcast, where the SMMU can (CR2.PTM = 0, §8.3). To be
    /// chosen only where broadcasts reach the SMMU. Processes can then have the CPU's ASID there.
    pub broadcast: bool,
    /// Put streams that stage 1 translates in EL2 with E2H, where the SMMU can (IDR0.HYP): for a kernel that runs there
    /// itself, and shares address spaces of processes with devices by what its CPUs broadcast. There are no banks then.
    pub el2_host: bool,
    /// Whether its accesses to tables and queues are coherent with the CPUs' caches, where firmware knows better.
    pub coherent: Coherence,
    /// Most stalled transactions that wait for the caller's answer at the same time; less when the SMMU stalls less.
    /// Others are aborted; and those of one guest's devices beyond half of it, or less while others have much of it, so that a guest
    /// leaves room for the host and for other guests. An eighth, or room for one, is left by all guests together: of 1 they have none.
    pub stalls: u32,
    /// What firmware knows of it that its ID registers do not say.
    pub firmware: Firmware,
    /// What transactions do while it is off: stopped, removed or suspended, with its power on.
    pub while_off: WhileOff,
}

impl InstanceConfig {
    /// Queues of 256 commands, 128 events and 128 page requests, StreamIDs of up to 25 bits (for which a 2-level stream table takes at most
    /// 1 MiB, and 16 KiB for each 256 neighbouring streams in use; where the SMMU has linear ones only, 16 bits and
    /// 4 MiB at most), one second to answer, and a hundred for devices, interrupts on, by wires,
    /// completion polled, a queue for each CPU where there are enhanced ones, broadcasts of CPUs ignored, coherent if it says so,
    /// up to 64 stalled transactions.
    ///
    /// `name` is cut to what a [`Name`] has room for.
    pub const fn named(name: &str) -> Self {
        Self {
            name: Name::new(name),
            command_queue_log2: 8,
            event_queue_log2: 7,
            page_request_queue_log2: Some(7),
            sid_bits: 25,
            stream_table: StreamTableShape::Automatic,
            asid_bits: 16,
            deadline: Duration::from_secs(1),
            device_deadline: Duration::from_secs(100),
            interrupts: true,
            messages: Messages { events: None, errors: None, page_requests: None, sync: None },
            enhanced_queues: u32::MAX,
            completion: Completion::Poll,
            broadcast: false,
            el2_host: false,
            coherent: Coherence::Detected,
            stalls: 64,
            firmware: Firmware::NONE,
            while_off: WhileOff::ABORT,
        }
    }

    /// With a queue of 2^`log2` commands.
    #[must_use]
    pub const fn with_command_queue_log2(mut self, log2: u32) -> Self {
        self.command_queue_log2 = log2;
        self
    }

    /// With a queue of 2^`log2` events.
    #[must_use]
    pub const fn with_event_queue_log2(mut self, log2: u32) -> Self {
        self.event_queue_log2 = log2;
        self
    }

    /// With a queue of 2^`log2` page requests, or without.
    #[must_use]
    pub const fn with_page_request_queue_log2(mut self, log2: Option<u32>) -> Self {
        self.page_request_queue_log2 = log2;
        self
    }

    /// With streams of `bits` bits, 32 at most.
    #[must_use]
    pub const fn with_sid_bits(mut self, bits: u32) -> Self {
        self.sid_bits = bits;
        self
    }

    /// With a stream table of that shape.
    #[must_use]
    pub const fn with_stream_table(mut self, shape: StreamTableShape) -> Self {
        self.stream_table = shape;
        self
    }

    /// With ASIDs of `bits` bits, 6 to 16.
    #[must_use]
    pub const fn with_asid_bits(mut self, bits: u32) -> Self {
        self.asid_bits = bits;
        self
    }

    /// With so long for an answer: see [`InstanceConfig::deadline`].
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// With so long for what devices are to answer: see [`InstanceConfig::device_deadline`].
    #[must_use]
    pub const fn with_device_deadline(mut self, deadline: Duration) -> Self {
        self.device_deadline = deadline;
        self
    }

    /// Without interrupts: whoever has none looks from time to time.
    #[must_use]
    pub const fn without_interrupts(mut self) -> Self {
        self.interrupts = false;
        self
    }

    /// With interrupts by messages.
    #[must_use]
    pub const fn with_messages(mut self, messages: Messages) -> Self {
        self.messages = messages;
        self
    }

    /// With at most so many enhanced command queues.
    #[must_use]
    pub const fn with_enhanced_queues(mut self, most: u32) -> Self {
        self.enhanced_queues = most;
        self
    }

    /// With completed commands told of in that way, which may ask something of [`Platform::relax`].
    #[must_use]
    pub const fn with_completion(mut self, completion: Completion) -> Self {
        self.completion = completion;
        self
    }

    /// With a part in the TLB maintenance that CPUs broadcast: see [`InstanceConfig::broadcast`].
    #[must_use]
    pub const fn with_broadcast(mut self) -> Self {
        self.broadcast = true;
        self
    }

    /// For a kernel in EL2 with E2H: see [`InstanceConfig::el2_host`].
    #[must_use]
    pub const fn with_el2_host(mut self) -> Self {
        self.el2_host = true;
        self
    }

    /// With what firmware knows of its coherence.
    #[must_use]
    pub const fn with_coherence(mut self, coherent: Coherence) -> Self {
        self.coherent = coherent;
        self
    }

    /// With at most so many stalled transactions that wait for an answer.
    #[must_use]
    pub const fn with_stalls(mut self, most: u32) -> Self {
        self.stalls = most;
        self
    }

    /// With what else firmware knows of it.
    #[must_use]
    pub const fn with_firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// With that done to transactions while it is off.
    #[must_use]
    pub const fn with_while_off(mut self, while_off: WhileOff) -> Self {
        self.while_off = while_off;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::overrides::Overrides;
    use smmuv3_formats::PhysAddr;

    #[test]
    fn every_field_can_be_set_in_a_chain() {
        let mut expected = InstanceConfig::named("smmu");
        expected.command_queue_log2 = 4;
        expected.event_queue_log2 = 5;
        expected.page_request_queue_log2 = None;
        expected.sid_bits = 9;
        expected.stream_table = StreamTableShape::Linear;
        expected.asid_bits = 8;
        expected.deadline = Duration::from_millis(12);
        expected.device_deadline = Duration::from_secs(34);
        expected.interrupts = false;
        // SAFETY: nothing is configured so.
        expected.messages.events = Some(unsafe { Message::new(PhysAddr(0x800), 1) });
        expected.enhanced_queues = 3;
        expected.completion = Completion::Interrupt;
        expected.broadcast = true;
        expected.el2_host = true;
        expected.coherent = Coherence::No;
        expected.stalls = 7;
        expected.firmware.page_0_only = true;
        // SAFETY: nothing is configured so.
        expected.while_off = unsafe { WhileOff::bypass(Overrides::default()) };
        let config = InstanceConfig::named("smmu")
            .with_command_queue_log2(4)
            .with_event_queue_log2(5)
            .with_page_request_queue_log2(None)
            .with_sid_bits(9)
            .with_stream_table(StreamTableShape::Linear)
            .with_asid_bits(8)
            .with_deadline(Duration::from_millis(12))
            .with_device_deadline(Duration::from_secs(34))
            .without_interrupts()
            .with_messages(expected.messages)
            .with_enhanced_queues(3)
            .with_completion(Completion::Interrupt)
            .with_broadcast()
            .with_el2_host()
            .with_coherence(Coherence::No)
            .with_stalls(7)
            .with_firmware(expected.firmware)
            .with_while_off(expected.while_off);
        assert_eq!(config, expected);
    }
}
