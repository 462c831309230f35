// SPDX-License-Identifier: MIT OR Apache-2.0
//! A child process that never outlives its owner, and whose last words are kept.

use core::time::Duration;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, Signal};

/// How much of standard error is kept, in bytes.
const LAST_WORDS: usize = 4096;

/// How long to wait for the last words of a process that has already ended.
const DRAIN: Duration = Duration::from_secs(1);

/// A running child process. Dropping it kills it and waits for it.
pub(super) struct Process {
    child: Child,
    last_words: Arc<Mutex<Vec<u8>>>,
    /// Disconnected when standard error has been read to its end.
    drained: mpsc::Receiver<()>,
    end: Option<End>,
}

/// How a process ended.
#[derive(Clone)]
pub(super) struct End {
    pub(super) status: String,
    pub(super) last_words: String,
}

impl Process {
    /// Starts `command` with `inherited` open under the same numbers; they are closed here.
    ///
    /// The kernel kills the child when the *thread* that forked it ends, so a thread of its own
    /// does that: it then reads the child's standard error, to its end, and so lives as long.
    pub(super) fn spawn(mut command: Command, inherited: Vec<OwnedFd>) -> io::Result<Self> {
        command.stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        die_with_parent(&mut command, inherited.iter().map(AsRawFd::as_raw_fd).collect());

        let last_words = Arc::new(Mutex::new(Vec::new()));
        let words = Arc::clone(&last_words);
        let (started, starting) = mpsc::sync_channel(1);
        let (draining, drained) = mpsc::sync_channel(1);
        std::thread::Builder::new().name(String::from("qemu-keeper")).spawn(move || {
            // Held until standard error ends; dropping it is the message.
            let _draining: mpsc::SyncSender<()> = draining;
            let spawned = command.spawn();
            drop(inherited);
            match spawned {
                Ok(mut child) => {
                    let stderr = child.stderr.take();
                    if let Err(unwanted) = started.send(Ok(child)) {
                        // Nobody waits for it any more.
                        if let Ok(mut child) = unwanted.0 {
                            let _ = child.kill();
                            let _ = child.wait();
                        }
                        return;
                    }
                    if let Some(stderr) = stderr {
                        keep_last_words(stderr, &words);
                    }
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        let child = starting
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")))?;
        Ok(Self { child, last_words, drained, end: None })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process unless it has ended, waits for it, and says how it ended.
    pub(super) fn stop(&mut self) -> End {
        if let Some(end) = &self.end {
            return end.clone();
        }
        // A process that has already died keeps the status it died with. Its group goes with it:
        // a wrapper script may have started QEMU as a child of its own. The number cannot belong
        // to somebody else yet, because nobody has waited for the process.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.kill();
        let status = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => format!("not waited for: {error}"),
        };
        let _ = self.drained.recv_timeout(DRAIN);
        let kept = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let last_words = String::from_utf8_lossy(&kept).trim().to_owned();
        let end = End { status, last_words };
        self.end.insert(end).clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs `command` to its end and gives its standard output and how it ended. `None`: it took longer
/// than `limit`, and was killed.
pub(super) fn output_of(
    mut command: Command,
    limit: Duration,
) -> io::Result<Option<(String, End)>> {
    command.stdout(Stdio::piped());
    let mut process = Process::spawn(command, Vec::new())?;
    let Some(stdout) = process.child.stdout.take() else {
        return Err(io::Error::other("no standard output"));
    };
    let Some(bytes) = read_to_end(stdout, limit)? else {
        return Ok(None);
    };
    // Its output has ended, so it ends too, or is killed here.
    let end = process.stop();
    Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), end)))
}

fn read_to_end(mut stdout: ChildStdout, limit: Duration) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let readable =
            match rustix::event::poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&left)) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
        // Nobody's version takes 64 KiB: something that writes for ever must end too.
        if readable == 0 || bytes.len() > 64 * 1024 {
            return Ok(None);
        }
        match stdout.read(&mut chunk)? {
            0 => return Ok(Some(bytes)),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// Makes the child die when this process does, however that happens, and leaves `inherited` open in it.
fn die_with_parent(command: &mut Command, inherited: Vec<RawFd>) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // Had the parent died before that line, nobody would send the signal.
        if rustix::process::getppid() != Some(parent) {
            return Err(Errno::SRCH.into());
        }
        for &number in &inherited {
            // SAFETY: the parent keeps these open until `spawn` has returned, and the child of
            // a fork has the same numbers.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: `prepare` runs between fork and exec; it makes plain system calls only, takes no
    // lock and allocates nothing (`Errno` becomes an `io::Error` without allocating).
    unsafe {
        command.pre_exec(prepare);
    }
}

fn keep_last_words(mut stderr: ChildStderr, words: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 1024];
    loop {
        match stderr.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                let mut kept = words.lock().unwrap_or_else(PoisonError::into_inner);
                // `count` is at most the chunk's length.
                kept.extend_from_slice(&chunk[..count]);
                let excess = kept.len().saturating_sub(LAST_WORDS);
                kept.drain(..excess);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::PidfdFlags;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_dead_child_leaves_its_own_status_and_last_words() {
        let mut process = Process::spawn(shell("echo why >&2; kill -ABRT $$"), vec![]).unwrap();
        // Standard error ends when the process does.
        let _ = process.drained.recv_timeout(Duration::from_secs(10));
        assert!(!process.child.wait().unwrap().success());
        let end = process.stop();
        assert!(end.status.contains("SIGABRT"), "{}", end.status);
        assert_eq!(end.last_words, "why");
    }

    #[test]
    fn only_the_end_of_a_long_complaint_is_kept() {
        let script = "i=0; while [ $i -lt 900 ]; do echo line $i >&2; i=$((i+1)); done";
        let mut process = Process::spawn(shell(script), vec![]).unwrap();
        let _ = process.drained.recv_timeout(Duration::from_secs(10));
        let end = process.stop();
        assert!(end.last_words.ends_with("line 899") && end.last_words.len() <= LAST_WORDS);
    }

    #[test]
    fn a_child_lives_on_when_the_thread_that_asked_for_it_ends() {
        let asker = std::thread::spawn(|| Process::spawn(shell("exec sleep 600"), vec![]).unwrap());
        let mut process = asker.join().unwrap();
        assert!(process.child.try_wait().unwrap().is_none());
        assert!(process.stop().status.contains("SIGKILL"));
    }

    #[test]
    fn a_wrapper_script_takes_its_child_along() {
        let mut command = shell("sleep 600 & echo $!; wait");
        command.stdout(Stdio::piped());
        let mut process = Process::spawn(command, vec![]).unwrap();
        let mut number = [0; 16];
        let count = process.child.stdout.take().unwrap().read(&mut number).unwrap();
        let grandchild = std::str::from_utf8(&number[..count]).unwrap().trim().parse().unwrap();
        let grandchild = Pid::from_raw(grandchild).unwrap();
        let watched = rustix::process::pidfd_open(grandchild, PidfdFlags::empty()).unwrap();
        process.stop();
        // Readable once it has ended.
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ended = rustix::event::poll(&mut [PollFd::new(&watched, PollFlags::IN)], Some(&limit));
        assert_eq!(ended, Ok(1), "it lives on");
    }

    #[test]
    fn a_program_that_never_ends_is_cut_off() {
        let limit = Duration::from_millis(50);
        assert!(output_of(shell("exec sleep 600"), limit).unwrap().is_none());
        assert!(
            output_of(shell("while :; do echo x; done"), Duration::from_secs(60))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_program_that_cannot_be_started_is_an_error() {
        let error = Process::spawn(Command::new("/nonexistent/qemu"), vec![]).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
