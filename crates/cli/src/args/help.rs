// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `--help` says at its end.

use crate::source::BUILT_IN;

pub const EXAMPLES: &str = "\
Examples:
  smmuv3 decode dmesg.txt    everything about SMMUs in a kernel log, explained
  smmuv3 decode ste 0x8002000b 0xd4 0 0 0 0 0 0
  smmuv3 walk --help         what an address becomes, in an image of memory
  smmuv3 explore             the same as a page in the browser
  smmuv3                     the built-in scenario: the driver on the model
  smmuv3 run --machine qemu  the same on QEMU's SMMUv3
  smmuv3 fuzz                a hundred random scenarios on the model

Exit status: 0 when nothing is wrong; 1 when something is: a problem in what was read, or a rule that \
did not hold; 2 when the input could not be used. Colours only on a terminal; NO_COLOR=1 turns them \
off.";

pub const FUZZ_EXAMPLES: &str = "\
Examples:
  smmuv3 fuzz                                  seeds 0 to 99, 2000 steps each
  smmuv3 fuzz --seeds 100..10000 --minutes 30  as many as half an hour allows
  smmuv3 fuzz --keep-going --out found         go on after a rule was broken
  smmuv3 fuzz --seeds 17..18 --steps 500       one seed
  smmuv3 run fuzz-17.toml                      what it wrote, step by step

Exit status: 0 when all rules held; 1 when one did not, with the rule, the shortest trace and the \
file that breaks it again; 2 when the input could not be used or there is nowhere to write to.";

pub const ASID_EXAMPLES: &str = "\
What is counted: *attached* domains are those of which every attach succeeded. *Moved* is each tag \
{instance, VMID, ASID} of a live domain that was given up for another one, as the SMMU was told (a \
CMD_TLBI_NH_ASID in an attach of something idle). *Work* is counted in commands, in CMD_SYNCs among \
them, each of which is waited for, and in stores: words of STEs, CDs and tables that were published \
to SMMUs. That of moves is part of the attach that needed them. Nothing does DMA.

Examples:
  smmuv3 asid                                     500 domains, all policies
  smmuv3 asid --domains 1..70000 --plot asid.svg  what each can attach
  smmuv3 asid --policy banked --instances 8 --domains 65025
  smmuv3 asid --processes 300 --broadcast 1 --churn 10000
  smmuv3 asid --scale                             64 SMMUs, 65000 domains

Exit status: 0 when it was measured, whatever was refused; 1 when an SMMU was told something wrong, \
or ASIDs were lost; 2 when the input could not be used. docs/asid.md says what it is about.";

pub const STRESS_EXAMPLES: &str = "\
Examples:
  smmuv3 stress                             each policy for five seconds
  smmuv3 stress --policy shared-min-move    one policy, for half a minute
  smmuv3 stress --seconds 3600 --seed 7     a long one, with other choices
  smmuv3 stress --threads 16 --instances 8  more of everything
  smmuv3 stress --json | jq .runs[].counts  what was done, for programs

Pages are mapped, used and unmapped, masters attached and detached, with PASIDs and without, \
processes bound and released, and tags of live domains changed. Judged are R0 to R3, and R8 where an \
attach is refused. A run is not deterministic: the seed says what each thread does, not when.

Exit status: 0 when these rules held; 1 when something did not; 2 when the input could not be used. \
docs/stress.md says what the threads do, what is judged, and how to repeat a failure.";

pub const DECODE_EXAMPLES: &str = "\
Examples:
  smmuv3 decode dmesg.txt                       all about SMMUs in a log
  dmesg -w | smmuv3 decode -                    each event as it comes
  smmuv3 decode dmesg.txt --only sid=0x100 --since 12.5
  smmuv3 decode --json dmesg.txt | jq -r .name  docs/decode.schema.json
  smmuv3 decode ste 0x8002000b 0xd4 0 0 0 0 0 0 --idr qemu
  xxd event.bin | smmuv3 decode event -         one structure, in any form
  smmuv3 decode pte 0x60000090000f43 --stage 1 --level 3 --granule 4k

One structure: event, ste, cd, l1std, l1cd, cmd, pri, pte, idr, gerror, cmdq-cons, features, or any \
command, event or register that smmuv3 fields lists. Words are 64-bit or 32-bit numbers, bytes, or \
what xxd, hexdump, od, QEMU's xp, gdb, crash, U-Boot and devmem print. Legality is that of --idr. \
--json of one is described in docs/structure.schema.json.

Of logs, finds events, global and command queue errors, SYNC timeouts, overflows, page requests and \
boot messages of Linux, Xen, FreeBSD, L4Re and QEMU behind any prefix, and bare numbers that \
somebody pasted. Everything else is ignored.

Exit status: 0 when nothing is wrong; 1 when what is shown of a log has events or errors, or a structure \
is illegal, has reserved bits set or reports an error; 2 when it could not be read. Colours only on a terminal; \
NO_COLOR=1 turns them off.";

/// With the scenarios that there are.
pub fn run_examples() -> String {
    let names =
        BUILT_IN.iter().map(|built_in| format!("  {:<18}{}\n", built_in.name, built_in.words));
    format!("Built-in scenarios:\n{}\n{RUN_EXAMPLES}", names.collect::<String>())
}

const RUN_EXAMPLES: &str = "\
Examples:
  smmuv3 run                                    the scenario two-instances
  smmuv3 run the-fix                            another one
  smmuv3 run mine.toml                          a scenario of your own
  smmuv3 run mine.toml --seed 7                 with other random choices
  smmuv3 run mine.toml --machine qemu           the same on QEMU's SMMUv3
  smmuv3 run --qemu ~/qemu/qemu-system-aarch64  on a QEMU that is not on PATH
  smmuv3 run --json | jq .dma                   a report for programs
  smmuv3 run --trace trace.json                 a timeline, for ui.perfetto.dev
  sed s/16/8/ mine.toml | smmuv3 run -          a scenario from standard input

Exit status: 0 when all rules held; 1 when one did not, with the rule (R0 to R9), the step and the \
shortest trace; 2 when the input could not be used. docs/scenarios.md describes scenario files, \
docs/trace.md traces.";

pub const PICTURE_EXAMPLES: &str = "\
Examples:
  smmuv3 run docs/trace.toml --trace trace.json
  smmuv3 picture trace.json > docs/trace.svg

Exit status: 0 when it was drawn; 2 when the input could not be used. docs/trace.md shows one.";
