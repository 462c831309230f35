// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU as a machine: its SMMUv3 model, written by others, and PCI devices that do DMA through it.
//!
//! A QEMU is a child process that runs no guest. Its RAM is a memory file that this process
//! maps too ([`Ram`]); registers and devices are reached over a socket, by QEMU's qtest
//! protocol, and a reset of the machine over another. No file or socket has a name, so any number can run side by side. A QEMU never
//! outlives its [`Qemu`], nor this process, however that ends. Everything has a deadline: a QEMU that dies
//! or falls silent is an error that quotes its last words, and so is every later request.
//!
//! Versions 10 and 11 differ in what a machine can have: see [`Version`] and `topology`.

use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod binary;
pub mod deviation;
mod device;
mod edu;
mod error;
mod interrupts;
mod mmio;
mod pci;
mod process;
mod qmp;
mod qtest;
pub mod testdev;
mod topology;
mod trace;

pub use binary::{VARIABLE, Version, find, version};
pub use device::{Capabilities, DeviceKind, DmaStatus};
pub use error::QemuError;
pub use interrupts::Interrupts;
pub use mmio::QemuMmio;
pub use topology::{QemuInstance, QemuMaster, Stage, TopologyError};
pub use trace::TranslationCounts;

use edu::{Clock, Edu};
use process::Process;
use qmp::Qmp;
use qtest::Qtest;
use testdev::TestdevResult;
use topology::{Layout, MasterPlan, Plan};
use trace::Log;

use crate::ram::Ram;

/// The physical address of the first byte of RAM.
pub const RAM_BASE: u64 = 0x4000_0000;

/// How long an answer may take unless the configuration says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// RAM beyond the user's, in MiB: a page for the devices' data and one for the idle CPU.
const OWN_MIB: u32 = 1;

/// As much of the beginning of RAM as a reset may overwrite: QEMU puts a device tree of up to 1 MiB there.
const OVERWRITTEN: usize = 2 << 20;

/// An AArch64 `wfi` and a branch back to it: what the CPU does when there has to be one.
const IDLE_LOOP: u64 = 0x17ff_ffff_d503_207f;

/// The machine that is wanted.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// The program, for example from [`find`].
    pub binary: PathBuf,
    /// RAM in MiB, at [`RAM_BASE`].
    pub ram_mib: u32,
    /// The SMMUs.
    pub instances: Vec<QemuInstance>,
    /// The devices behind them.
    pub masters: Vec<QemuMaster>,
    /// Whether to count TLB look-ups: see [`Qemu::translation_counts`].
    pub log_translations: bool,
    /// How long an answer of QEMU may take.
    pub deadline: Duration,
}

impl QemuConfig {
    /// 64 MiB, one instance with both stages, no masters, nothing counted.
    #[must_use]
    pub fn new(binary: PathBuf) -> Self {
        Self {
            binary,
            ram_mib: 64,
            instances: vec![QemuInstance { stage: Stage::Nested }],
            masters: Vec::new(),
            log_translations: false,
            deadline: DEADLINE,
        }
    }
}

/// A running QEMU. Dropping it ends the process.
pub struct Qemu {
    shared: Arc<Shared>,
    version: Version,
    process_id: u32,
    ram: Ram,
    /// A page that only the devices' data passes through.
    staging: Ram,
    clock: Clock,
    instances: Vec<u64>,
    /// Where each instance's wires end; `None` where nothing is known of an interrupt controller.
    wires: Option<Vec<u32>>,
    masters: Vec<MasterPlan>,
}

/// What the machine and the handles to its registers share.
struct Shared(Mutex<Inner>);

struct Inner {
    qtest: Qtest,
    monitor: Qmp,
    log: Option<Log>,
    /// The first error of any access to a register.
    first_error: Option<QemuError>,
}

impl Shared {
    /// The lock is held over whole sequences of requests, so that they are one step for everybody else.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| {
            let mut inner = poisoned.into_inner();
            // Who panicked may have left an answer unread, or a transfer half done.
            inner.qtest.fail(|_| QemuError::Protocol {
                request: String::from("something"),
                reply: String::from("nothing: the thread that asked panicked"),
            });
            inner
        })
    }
}

impl Qemu {
    /// Starts the machine and makes its devices ready for DMA. The SMMUs are as after reset.
    ///
    /// # Errors
    /// A version that is too old or lacks what is wanted, a machine that cannot be had
    /// ([`TopologyError`]), or QEMU's own complaint.
    pub fn start(config: QemuConfig) -> Result<Self, QemuError> {
        let version = check_version(&config)?;
        let layout = match version.has_several_instances() {
            true => Layout::Several,
            false => Layout::Single,
        };
        let plan = Plan::new(layout, config.ram_mib, &config.instances, &config.masters)?;
        // The qtest accelerator is a module that a build may leave out; then a real CPU idles.
        let clock = if layout == Layout::Several { Clock::Stepped } else { Clock::Free };
        match Self::launch(&config, version, &plan, clock) {
            Err(QemuError::Died { last_words, .. })
                if clock == Clock::Stepped && last_words.contains("invalid accelerator") =>
            {
                Self::launch(&config, version, &plan, Clock::Free)
            }
            result => result,
        }
    }

    fn launch(
        config: &QemuConfig,
        version: Version,
        plan: &Plan,
        clock: Clock,
    ) -> Result<Self, QemuError> {
        // Both fit: the plan has limited the size.
        let user_len = (config.ram_mib as usize) << 20;
        let whole = Ram::shared(RAM_BASE, user_len + ((OWN_MIB as usize) << 20))?;
        let ram = whole.part(RAM_BASE, user_len)?;
        let staging = whole.part(RAM_BASE + user_len as u64, Ram::PAGE)?;
        let idle_loop = staging.base() + Ram::PAGE as u64;

        let pair = || UnixStream::pair().map_err(|error| system("making QEMU's socket", &error));
        let ((ours, theirs), (monitor, its)) = (pair()?, pair()?);
        let log = config.log_translations.then(Log::new).transpose()?;
        let ram_file = duplicate(whole.as_fd())?;
        let mut inherited = vec![OwnedFd::from(theirs), OwnedFd::from(its)];
        let mut command = Command::new(&config.binary);
        command.stdout(Stdio::null());
        command.args(["-display", "none", "-nodefaults", "-no-user-config", "-nic", "none"]);
        command.args(&plan.arguments).args(["-cpu", "max"]);
        let mib = config.ram_mib + OWN_MIB;
        command.args(["-m", &format!("{mib}M"), "-object"]).arg(format!(
            "memory-backend-file,id=ram0,size={mib}M,share=on,mem-path=/proc/self/fd/{}",
            ram_file.as_raw_fd()
        ));
        command.arg("-chardev").arg(format!("socket,id=q,fd={}", inherited[0].as_raw_fd()));
        command.args(["-object", "qtest,id=qtest,chardev=q,log=/dev/null"]);
        command.arg("-chardev").arg(format!("socket,id=m,fd={}", inherited[1].as_raw_fd()));
        command.args(["-mon", "chardev=m,mode=control"]);
        inherited.push(ram_file);
        match clock {
            Clock::Stepped => {
                command.args(["-accel", "qtest"]);
            }
            Clock::Free => {
                // Counting instructions without sleeping makes time jump over an idle CPU.
                command.args(["-accel", "tcg", "-icount", "shift=0,sleep=off", "-device"]);
                command.arg(format!("loader,addr={idle_loop:#x},data={IDLE_LOOP:#x},data-len=8"));
                command.args(["-device", &format!("loader,addr={idle_loop:#x},cpu-num=0")]);
            }
        }
        if let Some(log) = &log {
            let file = duplicate(Some(log.file().as_fd()))?;
            command.args(["-d", trace::EVENTS, "-D"]);
            command.arg(format!("/proc/self/fd/{}", file.as_raw_fd()));
            inherited.push(file);
        }

        let process =
            Process::spawn(command, inherited).map_err(|error| system("starting QEMU", &error))?;
        let mut qtest = Qtest::new(ours, process, config.deadline)?;
        let mut monitor = Qmp::new(monitor, config.deadline)
            .map_err(|error| system("setting the deadline of QEMU's socket", &error))?;
        // Answered when the machine is complete and has been reset.
        qtest.readl(RAM_BASE)?;
        // QEMU has put a device tree there.
        ram.clear()?;
        pci::bring_up(&mut qtest, &plan.masters)?;
        let controller = monitor.interrupt_controller(&mut qtest)?;
        if let Some(controller) = &controller {
            qtest.intercept_inputs(controller)?;
        }
        let process_id = qtest.process_id();
        let shared = Arc::new(Shared(Mutex::new(Inner { qtest, monitor, log, first_error: None })));
        Ok(Self {
            shared,
            version,
            process_id,
            ram,
            staging,
            clock,
            instances: plan.instances.clone(),
            wires: controller.map(|_| plan.wires.clone()),
            masters: plan.masters.clone(),
        })
    }

    /// The version of QEMU.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The number of the child process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The machine's RAM, all zeros at first.
    #[must_use]
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// How many SMMUs there are.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.instances.len()
    }

    /// How many masters there are.
    #[must_use]
    pub fn masters(&self) -> usize {
        self.masters.len()
    }

    /// The registers of an SMMU.
    ///
    /// # Errors
    /// [`QemuError::NoInstance`].
    pub fn mmio(&self, instance: usize) -> Result<QemuMmio, QemuError> {
        let count = self.instances.len();
        let base =
            *self.instances.get(instance).ok_or(QemuError::NoInstance { instance, count })?;
        Ok(QemuMmio { shared: Arc::clone(&self.shared), instance, base })
    }

    /// How often an SMMU has raised its wires so far.
    ///
    /// # Errors
    /// [`QemuError::NoInstance`], or [`QemuError::Lacks`] where QEMU's interrupt controller is none that is known.
    pub fn interrupts(&self, instance: usize) -> Result<Interrupts, QemuError> {
        let lacks = QemuError::Lacks { version: self.version, what: "known interrupt controller" };
        let wires = self.wires.as_ref().ok_or(lacks)?;
        let count = wires.len();
        let first = *wires.get(instance).ok_or(QemuError::NoInstance { instance, count })?;
        Ok(Interrupts::raised(&self.shared.lock().qtest, first))
    }

    /// What a master can do.
    ///
    /// # Errors
    /// [`QemuError::NoMaster`].
    pub fn capabilities(&self, master: usize) -> Result<Capabilities, QemuError> {
        Ok(self.master(master)?.kind.capabilities())
    }

    /// Lets `master` write `data` to `iova`, through its SMMU. Done, events included, when this returns.
    ///
    /// A transfer is cut at 4 KiB boundaries of the IOVA. What the SMMU refuses is not an error here:
    /// it shows in the [`DmaStatus`] where the master has one, in the event queue, and in memory.
    ///
    /// # Errors
    /// [`QemuError::CannotDo`] when the master cannot write this data; otherwise QEMU's failure.
    pub fn write(&self, master: usize, iova: u64, data: &[u8]) -> Result<DmaStatus, QemuError> {
        let plan = self.master(master)?;
        let kind = plan.kind;
        let refuse = |what| Err(QemuError::CannotDo { master, kind, what });
        match kind {
            DeviceKind::Edu => {
                let edu = self.edu(master, plan)?;
                let mut inner = self.shared.lock();
                for (iova, range) in chunks(iova, data.len()) {
                    // `chunks` cuts up exactly the length it was given.
                    edu.write(&mut inner.qtest, iova, &data[range])?;
                }
                Ok(DmaStatus::Unreported)
            }
            DeviceKind::Testdev => {
                let mut bytes = data.iter().enumerate();
                if !bytes.all(|(offset, &byte)| byte == testdev::pattern(offset)) {
                    return refuse("write anything but its pattern");
                }
                let Ok(length) = u32::try_from(data.len()) else {
                    return refuse("write 4 GiB at once");
                };
                if length == 0 {
                    return Ok(DmaStatus::Completed);
                }
                match self.run_testdev(master, iova, length, self.staging.base())? {
                    TestdevResult::Written
                    | TestdevResult::Mismatch
                    | TestdevResult::ReadBackFailed => Ok(DmaStatus::Completed),
                    TestdevResult::WriteFailed => Ok(DmaStatus::Refused),
                    other => {
                        let what = format!("answered {other:?}");
                        let fail = |_| QemuError::Device { master, kind, what };
                        Err(self.shared.lock().qtest.fail(fail))
                    }
                }
            }
        }
    }

    /// Lets `master` read `len` bytes at `iova`, through its SMMU. Done, events included, when this returns.
    ///
    /// A transfer is cut at 4 KiB boundaries of the IOVA. **What the SMMU refused arrives as zeros**,
    /// never as leftovers of an earlier transfer: where memory may hold zeros, only the event queue tells.
    ///
    /// # Errors
    /// [`QemuError::CannotDo`] when the master cannot read; otherwise QEMU's failure.
    pub fn read(&self, master: usize, iova: u64, len: usize) -> Result<Vec<u8>, QemuError> {
        let plan = self.master(master)?;
        let kind = plan.kind;
        if !kind.capabilities().reads {
            return Err(QemuError::CannotDo { master, kind, what: "read" });
        }
        let edu = self.edu(master, plan)?;
        let mut data = vec![0; len];
        let mut inner = self.shared.lock();
        for (iova, range) in chunks(iova, len) {
            // As in `write`.
            edu.read(&mut inner.qtest, iova, &mut data[range])?;
        }
        Ok(data)
    }

    /// Lets a [`DeviceKind::Testdev`] write `length` bytes of its pattern to `iova`, through its SMMU, and
    /// compare with what is at physical address `pa`.
    ///
    /// # Errors
    /// [`QemuError::CannotDo`] for other devices; otherwise QEMU's failure.
    pub fn run_testdev(
        &self,
        master: usize,
        iova: u64,
        length: u32,
        pa: u64,
    ) -> Result<TestdevResult, QemuError> {
        let plan = self.master(master)?;
        if plan.kind != DeviceKind::Testdev {
            let (kind, what) = (plan.kind, "write a pattern of its own");
            return Err(QemuError::CannotDo { master, kind, what });
        }
        testdev::run(&mut self.shared.lock().qtest, plan.bar, iova, length, pa)
    }

    /// Resets the machine as a loss of power would: SMMUs are as after reset, devices are ready for DMA again, and memory
    /// keeps what it had.
    ///
    /// # Errors
    /// QEMU's failure.
    pub fn power_cycle(&self) -> Result<(), QemuError> {
        let mut inner = self.shared.lock();
        let Inner { qtest, monitor, .. } = &mut *inner;
        let mut kept = vec![0; self.ram.len().min(OVERWRITTEN)];
        self.ram.read(self.ram.base(), &mut kept)?;
        monitor.reset(qtest)?;
        self.ram.write(self.ram.base(), &kept)?;
        pci::bring_up(qtest, &self.masters)
    }

    /// How often the SMMUs' TLBs were asked so far; `None` unless [`QemuConfig::log_translations`].
    ///
    /// # Errors
    /// [`QemuError::System`] when the log cannot be read.
    pub fn translation_counts(&self) -> Result<Option<TranslationCounts>, QemuError> {
        self.shared.lock().log.as_mut().map(Log::count).transpose()
    }

    /// Whether every request so far was answered: the failure that ended QEMU, else the first error of
    /// any [`QemuMmio`].
    ///
    /// # Errors
    /// That error.
    pub fn health(&self) -> Result<(), QemuError> {
        let inner = self.shared.lock();
        match inner.qtest.failure().or(inner.first_error.as_ref()) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn master(&self, master: usize) -> Result<&MasterPlan, QemuError> {
        let count = self.masters.len();
        self.masters.get(master).ok_or(QemuError::NoMaster { master, count })
    }

    fn edu<'a>(&'a self, index: usize, plan: &'a MasterPlan) -> Result<Edu<'a>, QemuError> {
        let smmu = self.mmio(plan.instance)?.base;
        Ok(Edu { index, plan, smmu, staging: &self.staging, clock: self.clock })
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Handles may live on, so the process is ended here and not with the last of them.
        let mut inner = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.qtest.fail(|_| QemuError::Stopped);
    }
}

impl core::fmt::Debug for Qemu {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (version, id) = (self.version, self.process_id);
        let (instances, masters) = (self.instances.len(), self.masters.len());
        write!(f, "Qemu({version}, process {id}, {instances} instances, {masters} masters)")
    }
}

fn check_version(config: &QemuConfig) -> Result<Version, QemuError> {
    let version = version(&config.binary)?;
    if !version.is_supported() {
        return Err(QemuError::TooOld { binary: config.binary.clone(), version });
    }
    if config.instances.len() > 1 && !version.has_several_instances() {
        return Err(QemuError::Lacks { version, what: "second SMMU in a machine" });
    }
    let testdev = config.masters.iter().any(|master| master.device == DeviceKind::Testdev);
    if testdev && !version.has_testdev() {
        return Err(QemuError::Lacks { version, what: "iommu-testdev" });
    }
    Ok(version)
}

/// Cuts a transfer at multiples of 4 KiB of the IOVA: each part's IOVA and its range of the data.
fn chunks(iova: u64, len: usize) -> impl Iterator<Item = (u64, core::ops::Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        if done == len {
            return None;
        }
        // An IOVA that wraps is the caller's affair: the device would wrap too.
        let at = iova.wrapping_add(done as u64);
        let room = edu::BUFFER - (at % edu::BUFFER as u64) as usize;
        let range = done..done + room.min(len - done);
        done = range.end;
        Some((at, range))
    })
}

fn duplicate(fd: Option<BorrowedFd<'_>>) -> Result<OwnedFd, QemuError> {
    let what = "passing a memory file to QEMU";
    let fd = fd.ok_or_else(|| QemuError::System { what, reason: String::from("there is none") })?;
    fd.try_clone_to_owned().map_err(|error| system(what, &error))
}

fn system(what: &'static str, error: &std::io::Error) -> QemuError {
    QemuError::System { what, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_cut_at_pages_and_nothing_is_lost() {
        let cut: Vec<_> = chunks(0x1ff0, 0x1020).collect();
        assert_eq!(cut, [(0x1ff0, 0..0x10), (0x2000, 0x10..0x1010), (0x3000, 0x1010..0x1020)]);
        assert_eq!(chunks(0x1000, 0).count(), 0);
        assert_eq!(chunks(u64::MAX, 2).map(|(at, _)| at).collect::<Vec<_>>(), [u64::MAX, 0]);
    }
}
