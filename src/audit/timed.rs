//! Bounds the wait on a device that may hang: a pipe, a network mount, a socket.
//!
//! A write into the page cache of a local disk returns at once and needs no guard; for that [`super::FileDevice`] is
//! used bare. Any other device runs in its own thread here, and a caller waits at most one second for it.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::Device;

/// Longest wait on one call of a device.
const WAIT: Duration = Duration::from_secs(1);

enum Job {
    Append(Vec<u8>),
    Sync,
    Reopen,
    Check,
}

enum Answer {
    Done(io::Result<bool>),
    Checked(Result<(), &'static str>),
}

/// A device in a thread of its own, with a bounded wait. Costs two thread switches a call.
///
/// A sync that takes longer than the wait counts as failed, which stops the process: use it for devices whose sync
/// does nothing or is quick.
pub struct TimedDevice {
    name: String,
    jobs: SyncSender<Job>,
    answers: Receiver<Answer>,
    /// Calls that were given up on and whose answers are still to come.
    late: usize,
}

impl TimedDevice {
    /// Starts the thread. It ends when the device is dropped and its last call has returned.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(mut device: Box<dyn Device>) -> io::Result<Self> {
        let name = device.name().to_owned();
        let (jobs, inbox) = sync_channel::<Job>(1);
        let (outbox, answers) = sync_channel::<Answer>(2);
        std::thread::Builder::new().name("audit-device".to_owned()).spawn(move || {
            while let Ok(job) = inbox.recv() {
                let answer = match job {
                    Job::Append(lines) => Answer::Done(device.append(&lines).map(|()| false)),
                    Job::Sync => Answer::Done(device.sync().map(|()| false)),
                    Job::Reopen => Answer::Done(device.reopen()),
                    Job::Check => Answer::Checked(device.check()),
                };
                if outbox.send(answer).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { name, jobs, answers, late: 0 })
    }

    fn call(&mut self, job: Job) -> io::Result<Answer> {
        while self.late > 0 {
            match self.answers.try_recv() {
                Ok(_) => self.late -= 1,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(io::ErrorKind::TimedOut.into()),
            Err(TrySendError::Disconnected(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        match self.answers.recv_timeout(WAIT) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                self.late += 1;
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn done(&mut self, job: Job) -> io::Result<bool> {
        match self.call(job)? {
            Answer::Done(result) => result,
            Answer::Checked(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Device for TimedDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.done(Job::Append(lines.to_vec())).map(|_| ())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.done(Job::Sync).map(|_| ())
    }

    fn reopen(&mut self) -> io::Result<bool> {
        self.done(Job::Reopen)
    }

    fn check(&mut self) -> Result<(), &'static str> {
        match self.call(Job::Check) {
            Ok(Answer::Checked(result)) => result,
            _ => Err("device does not answer"),
        }
    }
}
