// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Linux's driver says while it starts that is worth an explanation. The messages are parts of what the driver
//! of Linux 6.x prints.

use memchr::memmem;

/// A message and its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Part of the message.
    pub said: &'static str,
    /// Identifies the cause.
    pub id: &'static str,
    /// Whether something is wrong.
    pub problem: bool,
    /// What it means.
    pub why: &'static str,
    /// What to do.
    pub next: &'static str,
}

macro_rules! probes {
    ($($said:literal $id:literal $problem:literal $why:literal $next:literal)*) => {
        &[$(Probe { said: $said, id: $id, problem: $problem, why: $why, next: $next }),*]
    };
}

const NO_ANSWER: &str = "the acknowledge register (CR0ACK, IRQ_CTRLACK) did not follow in time: the SMMU has no \
    clock or power, or firmware owns it";

const IRQ: &str =
    "Check the interrupt numbers of the SMMU (device tree or IORT) and /proc/interrupts.";

/// In the order in which they are tried.
const PROBES: &[Probe] = &[
    Probe {
        said: "failed to enable evtq irq",
        id: "no-interrupt",
        problem: true,
        why: "the kernel could not take the interrupt of the event queue: faults stay unseen: another driver has it, or its controller is missing",
        next: IRQ,
    },
    Probe {
        said: "failed to enable gerror irq",
        id: "no-interrupt",
        problem: true,
        why: "the kernel could not take the interrupt of global errors: another driver has it, or its controller is missing",
        next: IRQ,
    },
    Probe {
        said: "failed to enable priq irq",
        id: "no-interrupt",
        problem: true,
        why: "the kernel could not take the interrupt of the PRI queue: another driver has it, or its controller is missing",
        next: IRQ,
    },
    Probe {
        said: "failed to enable combined irq",
        id: "no-interrupt",
        problem: true,
        why: "the kernel could not take the interrupt of the SMMU: faults and errors stay unseen: another driver has it, or its controller is missing",
        next: IRQ,
    },
    Probe {
        said: "failed to disable irqs",
        id: "smmu-unpowered",
        problem: true,
        why: NO_ANSWER,
        next: "Check the SMMU's clock and power domain in the device tree or firmware, then that \
            its base address is right.",
    },
    Probe {
        said: "failed to enable",
        id: "smmu-unpowered",
        problem: true,
        why: NO_ANSWER,
        next: "Check the SMMU's clock and power domain in the device tree or firmware, then that \
            its base address is right.",
    },
    Probe {
        said: "failed to clear cr0",
        id: "smmu-unpowered",
        problem: true,
        why: NO_ANSWER,
        next: "Check the SMMU's clock and power domain in the device tree or firmware, then that \
            its base address is right.",
    },
    Probe {
        said: "GBPA not responding to update",
        id: "smmu-unpowered",
        problem: true,
        why: "GBPA.UPDATE stayed set: the SMMU has no clock or power, or GBPA belongs to secure \
            firmware",
        next: "Check the SMMU's clock and power domain, and whether firmware keeps GBPA for \
            itself.",
    },
];

/// Messages of the probe itself.
const MORE: &[Probe] = probes! {
    "SMMU currently enabled! Resetting" "firmware-left-running" true
    "firmware left the SMMU on: devices that it started may still do DMA, which is refused from \
     now on"
    "If faults follow, have firmware stop these devices, or describe their buffers as RMR nodes \
     (IORT) or iommu-addresses (device tree)."

    "unknown/unsupported TT endianness" "registers-unreadable" true
    "IDR0.TTENDIAN is reserved or not that of the CPU; registers that read as zero or garbage \
     look the same"
    "Read IDR0 at the SMMU's base address: if it is 0 or all ones, the address, the clock or the \
     bus is wrong."

    "no translation support" "registers-unreadable" true
    "IDR0 says that neither stage 1 nor stage 2 exists; registers that read as zero look the same"
    "Read IDR0 at the SMMU's base address: if it is 0, the address, the clock or the bus is wrong."

    "AArch64 table format not supported" "unsupported-hardware" true
    "IDR0.TTF has no VMSAv8-64 tables; registers that read as zero look the same"
    "Read IDR0 at the SMMU's base address."

    "embedded implementation not supported" "unsupported-hardware" true
    "IDR1 says that tables or queues are at fixed places, which Linux does not support"
    "Read IDR1: if it is all ones, the SMMU does not answer."

    "command queue size <=" "unsupported-hardware" true
    "IDR1.CMDQS is smaller than a batch of commands, which Linux does not support"
    "Read IDR1: if it is 0, the SMMU does not answer."

    "unknown output address size" "unsupported-hardware" false
    "IDR5.OAS has a code that this kernel does not know; 48 bits are used"
    "Use a newer kernel if there is memory above 256 TB."

    "msi_domain absent" "wired-interrupts" false
    "the SMMU can send MSIs but firmware gives it no MSI controller: wired interrupts are used, \
     which is fine"
    "Nothing, if events are reported; else name an msi-parent (device tree) or a device ID \
     mapping (IORT)."

    "failed to allocate MSIs" "wired-interrupts" false
    "no MSIs could be had: wired interrupts are used"
    "Nothing, if events are reported."

    "no evtq irq" "no-interrupt" true
    "firmware names no interrupt of the event queue: faults stay unseen"
    "Give the SMMU its eventq interrupt (or a combined one) in the device tree or the IORT."

    "no gerr irq" "no-interrupt" true
    "firmware names no interrupt for global errors: a stopped command queue shows only as \
     CMD_SYNC timeouts"
    "Give the SMMU its gerror interrupt (or a combined one) in the device tree or the IORT."

    "no priq irq" "no-interrupt" true
    "firmware names no interrupt of the PRI queue: page requests stay unseen"
    "Give the SMMU its priq interrupt in the device tree or the IORT."

    "2-level strtab only covers" "sid-beyond-table" false
    "the SMMU has more StreamIDs than the stream table covers: those beyond are refused with \
     C_BAD_STREAMID"
    "Nothing, unless C_BAD_STREAMID follows."

    "failed to allocate queue" "no-memory" true
    "no contiguous memory for a queue"
    "Reserve more CMA memory, or boot with smaller queues."

    "failed to allocate l1 stream table" "no-memory" true
    "no contiguous memory for the stream table"
    "Reserve more CMA memory."

    "failed to allocate linear stream table" "no-memory" true
    "no contiguous memory for the stream table"
    "Reserve more CMA memory."

    "failed to set DMA mask for table walker" "width" true
    "the SMMU cannot reach all memory in which tables may lie"
    "Check dma-ranges of the SMMU's bus."

    "IDR0.COHACC overridden" "coherency-override" false
    "firmware and the hardware's IDR0.COHACC do not say the same about coherent table walks; \
     firmware's word is taken"
    "If translations are stale or C_BAD_STE comes without reason, correct dma-coherent (device \
     tree) or the COHACC flags (IORT)."

    "IDR0.HTTU features" "coherency-override" false
    "firmware overrides what the hardware says of hardware updates of access and dirty flags"
    "Nothing, unless F_ACCESS or F_PERMISSION follow."

    "MMIO region too small" "bad-firmware" true
    "firmware gives the SMMU fewer registers than an SMMUv3 has"
    "Correct the size of reg (device tree) or the IORT node; it is 128 KiB."

    "Unhandled context fault" "smmu-v2" true
    "this is an SMMUv2 (driver arm-smmu), whose faults are another format: nothing here decodes \
     them"
    "Read fsr, iova, fsynr and cbfrsynra (the stream) against the SMMUv2 architecture."

    "missing #iommu-cells property" "bad-firmware" true
    "the device tree node lacks #iommu-cells"
    "Add #iommu-cells = <1>."

    "invalid #iommu-cells value" "bad-firmware" true
    "SMMUv3 takes one cell, the StreamID"
    "Set #iommu-cells = <1>, and one StreamID in each iommus."
};

impl Probe {
    /// The message that `text` is.
    pub fn find(text: &[u8]) -> Option<&'static Self> {
        let mut all = PROBES.iter().chain(MORE);
        all.find(|probe| memmem::find(text, probe.said.as_bytes()).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_that_cannot_be_had_is_no_lack_of_power() {
        let id = |text: &str| Probe::find(text.as_bytes()).map(|probe| probe.id);
        assert_eq!(id("failed to enable evtq irq"), Some("no-interrupt"));
        assert_eq!(id("failed to enable combined irq"), Some("no-interrupt"));
        assert_eq!(id("failed to enable command queue"), Some("smmu-unpowered"));
        assert_eq!(id("failed to disable irqs"), Some("smmu-unpowered"));
        assert_eq!(
            id("command queue size <= 64 entries not supported"),
            Some("unsupported-hardware")
        );
        assert_eq!(id("no evtq irq - events will not be reported!"), Some("no-interrupt"));
        assert_eq!(id("failed to register iommu"), None);
    }
}
