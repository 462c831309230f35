// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask scaling`: what threads do at once, as docs/scaling.md and its pictures.

use std::fs;

use anyhow::{Context, Result};

use crate::boot;
use crate::environment::Workspace;
use crate::figures::Place;
use crate::perf;

const PAGE: &str = "docs/scaling.md";
const PICTURES: &str = "docs/scaling";

const HEAD: &str = "\
# Many threads

Written by `cargo xtask scaling`; not to be edited. Real threads, each on a processor of its own as long as there are enough.
What is compared with each other runs by turns, so that it meets the same machine; with another machine's rows it cannot be
compared. In a virtual machine the way of a cache line from one processor to another is now short, now long: rates of two
threads on one queue differ by a factor of three between two runs for all queues alike. Where there are more threads than processors,
the longest time is the scheduler's more than the queue's: whoever never waits gives its processor up only when its slice of time is
over. So where the SMMU takes no time, threads of the driver's queue get less even shares than those of the other two, who stand in each
other's way and yield.
On a machine that has other things to do, give it the processors first (`chrt -f 10 cargo xtask scaling`, as root).
What the queues cost in shared accesses, whatever the machine, is counted in [performance.md](performance.md#many-cpus-on-one-command-queue),
with sixteen CPUs and with enhanced queues.

";

const AFTER: &str = "
## What is measured

The SMMU, where it is not the model, is one that has carried out what it was told so many microseconds later, in order, however
much it was. Each row is the median of twenty-one runs of 10 ms, less those in which a thread was stopped for half a
millisecond; those of one command queue are medians of five machines, on each of which that was done. A queue is given one TLBI and a CMD_SYNC, and both are waited for; *fewest / most* is 1 where all threads get as
much, *longest* the longest that one of them took. Registers are memory here, which flatters whoever accesses them often: a read
of CONS costs nothing, and on a bus it does. The baselines are in `crates/perf/src/scaling/baseline.rs`: they are given a
flattering lightness, with neither errors, nor power that may go, and the lock is held while PROD is written.

*Carried out by the model*: the SMMU is the model that the driver is tested against (`crates/model`), with nothing left to chance.
It reads the commands from memory, judges them, carries out TLBIs in its caches, and moves CONS. It stands before each CMD_SYNC
for so many microseconds from when it comes to it: when the one before is complete, or PROD is written, whatever is later. Commands
behind a CMD_SYNC do not start before that is complete, as the architecture has it; so times add up, and with 1 us for each there
are a million a second at most, whatever threads do. The SMMU of the other sections lets the times of many overlap. No processor is
left for the model: whoever wrote PROD lets it go on at its next look at CONS, until nothing is left, unless another thread is at it; others
do so where it has stood before a CMD_SYNC for long enough, and else at one of sixteen looks. So its own time is
theirs who tell it something, and longer where it goes from one processor to the other: with 0 and 1 us, several threads are busy with
queue and model together; with 10 us, they wait. After each run, CONS is PROD, there were as many CMD_SYNCs and TLBIs as threads had given,
and the model had found nothing wrong; else there would be no page.

The other SMMU carries out each of its queues by itself, and one batch does not wait for the next: so enhanced queues spare CPUs each
other. A queue each is the command queue for one of the threads, and an enhanced one for each of
the others. One thread has one queue either way. With several, the driver's short way for few commands is not taken; what they gain all
the same where the SMMU takes no time is what they cost each other otherwise, which depends on how near the
processors are: from a tenth to nearly four times as much, on machines that this page was written on.

All is built with the profile `bench`, as for performance.md. Threads that map and unmap have 2 MiB of input addresses each, and unmap the page that they have just mapped. *One by one*
gives each SMMU the same TLBI and CMD_SYNC, and waits, before it turns to the next; the page itself is only cleared.

CPUs of QEMU run the driver in a bare-metal image (`baremetal/src/rig`), each as a thread of the host: where there are more than
the host has, they are in each other's way. Each maps and unmaps a page in 2 MiB of input addresses of its own. The SMMU's
registers are memory, and it has carried out what it is told at once. A row is the best of twenty runs of 20 ms. Exact counts
of instructions cannot show this: where QEMU counts (`-icount`), CPUs take turns.

```console
$ cargo xtask boot --scaling                     # prints the rows of QEMU's CPUs
$ cargo xtask scaling                            # writes this page
$ cargo bench -p smmuv3-perf --bench scaling     # prints it
```
";

/// Measures, and writes the page with its pictures.
pub fn write() -> Result<()> {
    let workspace = Workspace::find()?;
    let mut command = workspace.cargo(["bench", "-p", "smmuv3-perf", "--bench", "scaling", "--"]);
    command.arg("--out").arg(workspace.root.join(PICTURES));
    // Where there is no QEMU, the page has no such section.
    if let Some(rates) = boot::rates(&workspace)? {
        let file = workspace.target.join("xtask/scaling.txt");
        fs::write(&file, rates).with_context(|| format!("cannot write {}", file.display()))?;
        command.arg("--cpus").arg(file);
    }
    let tables = perf::shown(&mut command)?;
    let Place { rustc, host, machine, date } = perf::place()?;
    let place = format!("Measured on {machine}, {date}, with {rustc} for {host}.\n");
    let page = format!("{HEAD}{place}{}{AFTER}", illustrated(&tables));
    fs::write(workspace.root.join(PAGE), page).with_context(|| format!("cannot write {PAGE}"))?;
    println!("\nwritten: {PAGE}, {PICTURES}");
    Ok(())
}

/// Puts each picture before the table that it shows.
fn illustrated(tables: &str) -> String {
    let mut text = String::new();
    for line in tables.lines() {
        text.push_str(line);
        text.push('\n');
        let picture = match line {
            "The SMMU takes 0 us." => "queue-0us",
            "The SMMU takes 10 us." => "queue-10us",
            "A CMD_SYNC takes 0 us." => "model-0us",
            "A CMD_SYNC takes 1 us." => "model-1us",
            "A CMD_SYNC takes 10 us." => "model-10us",
            "The SMMU takes 1 us." if text.contains("## Mapping") => "unmap",
            "The SMMU takes 1 us." => "queue-1us",
            _ if line.starts_with("One queue for all threads") => "ecmdq",
            _ if line.starts_with("CPUs of QEMU") => "cpus",
            _ if line.starts_with("An unmap of a page on one thread") => "instances",
            _ => continue,
        };
        text.push_str(&format!("\n![{line}](scaling/{picture}.svg)\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::illustrated;

    #[test]
    fn pictures_stand_where_they_belong() {
        let tables = "## One\n\nThe SMMU takes 1 us.\n| a |\n## One, by the model\n\n\
                      A CMD_SYNC takes 1 us.\n| m |\n## Mapping\n\nThe SMMU takes 1 us.\n\nCPUs of QEMU that map\n| b |\n";
        let text = illustrated(tables);
        let at = |what: &str| text.find(what).unwrap();
        assert!(at("queue-1us.svg") < at("| a |") && at("| a |") < at("model-1us.svg"));
        assert!(at("model-1us.svg") < at("| m |") && at("| m |") < at("unmap.svg"));
        assert!(at("unmap.svg") < at("cpus.svg") && at("cpus.svg") < at("| b |"));
    }
}
