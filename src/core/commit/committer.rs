//! The only thread that changes anything.
//!
//! It takes the waiting mutations as one group and gives them one pass of syncs (amendment M7):
//!
//! 0. Each mutation runs in a barrier group, one after the other and only in memory, until none is waiting or the group
//!    is full. A failing mutation takes back only its own changes.
//! 1. The request entries of those that ran go to the audit log, durably.
//! 2. One engine transaction makes the group durable, with the audit head of step 1 in its state record.
//! 3. The anchor is written, durably.
//! 4. The remarks and the reply entries go to the audit log in one write, durably.
//! 5. Readers see the group, then every caller is answered.
//!
//! Only running the mutations shows how large the changes are, so step 0 comes before step 1. A mutation for which there
//! was no room is neither in the log nor in the group, and runs again in the next one. Steps 3 and 4 could run in
//! parallel. Measured with two files on one disk and two cores, 600 rounds each: one after the other 218 to 269 us,
//! with a scoped thread 235 to 244 us, with a standing thread 239 to 265 us. So they run one after the other, and a
//! reply entry never names a generation that is not anchored.
//!
//! If killed before step 2, nothing happened, and the next unseal notes the requests as absent. If killed between 2 and
//! 5, the changes happened although nobody was told, and the next unseal notes them as committed. Everything else that
//! the log must say about the group, rejections and remarks, is in the state record of the transaction (`outcomes`) and
//! is written then. A reader never sees a write that a crash could still undo. After a failed sync the content of the
//! disk is unknown: the vault seals itself and the process ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::api::reply::Reply;
use crate::audit::{self, AuditError, Broker, Ended, Note};
use crate::barrier::{AuditHead, Barrier, BarrierError, Durable, Group, Tx};

use super::change::{Done, Remark};
use super::outcomes;
use crate::core::Clock;
use crate::core::error::VaultError;
use crate::core::live::feed::Feed;
use crate::core::pipeline::audited::{Facts, Fields};
use crate::core::state::snapshot::{Snapshot, Touch};

/// Largest number of waiting mutations. More are rejected at once, because nobody is served by an endless queue.
const MAX_WAITING: usize = 1024;
/// Largest number of mutations in one group.
const MAX_GROUP: usize = 256;
/// Size in bytes at which a group closes ([`Group::bytes`]). This limits the memory of one engine transaction: 256
/// mutations may be 256 MiB of bodies, and as much again of what they replace. The mutation that reaches the limit still
/// belongs to the group. Later ones go into the next.
pub(in crate::core) const GROUP_BYTES: usize = 16 << 20;

/// Changes records through `Tx`. Decides on the snapshot, at a time in milliseconds.
type OnRecords = dyn FnOnce(&mut Tx<'_>, &Snapshot, u64) -> Result<Done, VaultError> + Send;
/// Changes the whole group, at a time in milliseconds.
type OnGroup = dyn FnOnce(&mut Group<'_>, u64) -> Result<Done, VaultError> + Send;

/// A mutation.
pub(in crate::core) enum Work {
    /// Changes records. Shares its commit with others.
    Records(Box<OnRecords>),
    /// Runs in a commit of its own, because it writes the header or needs the store as a whole.
    Alone(Box<OnGroup>),
}

/// One waiting mutation.
pub(in crate::core) struct Job {
    pub facts: Arc<Facts>,
    pub work: Work,
    pub answer: oneshot::Sender<Result<Reply, VaultError>>,
}

/// Called after the published state has changed. Gets the new snapshot, and whether somebody may have lost access.
pub(in crate::core) type OnChange = Box<dyn Fn(&Snapshot, bool) + Send + Sync>;

/// Tells the vault that the content of the disk is unknown. Called once, from the committer thread.
pub(in crate::core) type OnFatal = Box<dyn Fn(&'static str) + Send + Sync>;

/// The parts of the vault that the thread works on.
pub(in crate::core) struct Bench {
    pub barrier: Arc<Barrier>,
    pub audit: Arc<Broker>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub clock: Arc<dyn Clock>,
    /// Is told which secrets changed, once readers see the change.
    pub feed: Arc<Feed>,
    pub on_change: OnChange,
    pub on_fatal: OnFatal,
}

/// Handle of the thread.
pub(in crate::core) struct Committer {
    queue: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Run(Box<Job>),
    Stop,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the system cannot start a thread.
    pub(in crate::core) fn spawn(bench: Bench) -> Result<Self, VaultError> {
        let (queue, waiting) = sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || Worker { bench, unfinished: Vec::new() }.serve(&waiting))
            .map_err(|_| VaultError::Unavailable("the committer thread could not be started"))?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a mutation. It is answered when its group is durable, or never if the committer stops first.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when too many are waiting; [`VaultError::Sealed`] when the committer has stopped.
    pub(in crate::core) fn submit(&self, job: Job) -> Result<(), VaultError> {
        self.queue.try_send(Message::Run(Box::new(job))).map_err(|error| match error {
            TrySendError::Full(_) => VaultError::Unavailable("too many writes are waiting; try again"),
            TrySendError::Disconnected(_) => VaultError::Sealed,
        })
    }

    /// Waits for the running group and ends the thread. Later calls return at once.
    pub(in crate::core) fn stop(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        if thread.thread().id() == std::thread::current().id() {
            // After a fatal fault, the thread itself drops the open part of the vault and ends right afterwards.
            return;
        }
        // Blocks while the queue is full, which the thread empties. An error means that the thread has ended already.
        let _ = self.queue.send(Message::Stop);
        if thread.join().is_err() {
            tracing::error!("the committer thread panicked; please report it");
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread's own data.
struct Worker {
    bench: Bench,
    /// Requests whose reply entry could not be written, ascending.
    unfinished: Vec<Unfinished>,
}

/// What the log must record about a request as soon as it accepts entries again.
struct Unfinished {
    request: u64,
    ended: Ended,
    /// Generation of its group.
    generation: u64,
    remarks: Vec<Remark>,
}

impl Drop for Worker {
    /// After a panic in the middle of a group, the content of the disk is unknown, as after a failed sync.
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.bench.on_fatal)("the committer failed");
        }
    }
}

/// Whether the vault can continue.
enum Fate {
    Serve,
    Stop(&'static str),
}

impl Worker {
    fn serve(mut self, waiting: &Receiver<Message>) {
        // Taken from the queue, but not in a group yet.
        let mut taken = VecDeque::new();
        let mut stop = false;
        loop {
            if taken.is_empty() {
                match if stop { Ok(Message::Stop) } else { waiting.recv() } {
                    Ok(Message::Run(job)) => taken.push_back(*job),
                    Ok(Message::Stop) | Err(_) => return,
                }
            }
            while !stop && taken.len() < MAX_GROUP {
                match waiting.try_recv() {
                    Ok(Message::Run(job)) => taken.push_back(*job),
                    Ok(Message::Stop) => stop = true,
                    Err(_) => break,
                }
            }
            let together = taken.iter().take_while(|job| matches!(job.work, Work::Records(_))).count().max(1);
            let (fate, left) = self.group(taken.drain(..together).collect());
            if let Fate::Stop(why) = fate {
                tracing::error!(
                    why,
                    "the state on disk is unknown, so the vault is sealed now. Check the disk and restart the daemon"
                );
                (self.bench.on_fatal)(why);
                return;
            }
            for job in left.into_iter().rev() {
                taken.push_front(job);
            }
        }
    }

    /// Runs one group, from the first mutation to the answers. Returns the jobs that did not fit into it.
    fn group(&mut self, jobs: Vec<Job>) -> (Fate, Vec<Job>) {
        let (bench, unfinished) = (&self.bench, &mut self.unfinished);
        // (0)
        // A header cannot be taken back, so a full disk must show before it is written.
        let alone = jobs.iter().any(|job| matches!(job.work, Work::Alone(_)));
        let tried = match if alone { make_room(bench) } else { Ok(()) } {
            Ok(()) => run(bench, jobs),
            Err(error) => {
                tracing::error!(%error, "the change of the header cannot start");
                let tried = Tried::refused(jobs, || VaultError::from_barrier(&error));
                if !matches!(error, BarrierError::Full | BarrierError::Degraded) {
                    let why = "the store could not make a commit durable";
                    return (give_up(bench, tried.ends, why, || VaultError::from_barrier(&error)), tried.left);
                }
                tried
            }
        };
        let Tried { group, mut ends, touched, restricts, left } = tried;
        // (1)
        // The intent must be durable before the change, so a log that rejects it stops the whole group.
        let (first, head) = match note_unfinished(bench, unfinished).and_then(|()| log_requests(bench, &ends)) {
            Ok(logged) => logged,
            Err(error) => {
                drop(group);
                answer_all(ends, || VaultError::AuditUnavailable);
                return (fate_of(&error), left);
            }
        };
        // (2)
        let generation = group.as_ref().map_or_else(|| bench.barrier.mark().2, Group::generation);
        let mut durable = None;
        // A remark is kept by the commit, so it needs one even if nothing else is stored.
        let remarked = ends.iter().any(|end| !end.remarks.is_empty());
        if let Some(mut group) = group.filter(|group| remarked || !group.is_empty()) {
            let told = (first..).zip(&ends).map(|(request, end)| (request, end.result.is_err(), &*end.remarks));
            group.remember(outcomes::encode(told));
            match group.store(head, bench.clock.now_ms()) {
                Ok(stored) => durable = Some(stored),
                Err(BarrierError::Full) => {
                    // None of it was done, so nothing may be reported about it: neither a remark nor a rejection that
                    // names a record.
                    for end in ends.iter_mut().filter(|end| end.made) {
                        (end.result, end.made) = (Err(VaultError::Full), false);
                        end.remarks.clear();
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the engine could not commit a transaction");
                    let why = "the store could not make a commit durable";
                    return (give_up(bench, ends, why, || VaultError::Unavailable(UNKNOWN)), left);
                }
            }
        }
        (finish(bench, unfinished, first, Ran { ends, touched, restricts, durable, generation }), left)
    }
}

/// Mutations that ran in memory, and those that did not.
struct Tried<'b> {
    /// Absent when nothing ran.
    group: Option<Group<'b>>,
    ends: Vec<End>,
    touched: Vec<Touch>,
    restricts: bool,
    left: Vec<Job>,
}

impl Tried<'_> {
    /// The result when nothing ran: every caller gets the same error.
    fn refused(jobs: Vec<Job>, error: impl Fn() -> VaultError) -> Self {
        let ends = jobs.into_iter().map(|Job { facts, answer, .. }| End::failed(facts, answer, error()));
        Self { group: None, ends: ends.collect(), touched: Vec::new(), restricts: false, left: Vec::new() }
    }
}

/// Runs mutations one after the other until the group is full.
fn run(bench: &Bench, jobs: Vec<Job>) -> Tried<'_> {
    let snapshot = bench.snapshot.load_full();
    let mut group = bench.barrier.begin();
    let mut ends = Vec::with_capacity(jobs.len());
    let (mut touched, mut restricts) = (Vec::new(), false);
    let mut jobs = jobs.into_iter();
    for Job { facts, work, answer } in jobs.by_ref() {
        let now_ms = bench.clock.now_ms();
        let result = match work {
            Work::Records(work) => group.run(|tx| work(tx, &snapshot, now_ms)),
            Work::Alone(work) => work(&mut group, now_ms).inspect_err(|_| group.clear()),
        };
        ends.push(match result {
            Ok(Done { reply, touched: more, remarks, refusal, restricts: ends_something }) => {
                touched.extend(more);
                restricts |= ends_something;
                End { facts, answer, result: refusal.map_or(Ok(reply), Err), made: true, remarks }
            }
            Err(error) => End::failed(facts, answer, error),
        });
        if group.bytes() >= GROUP_BYTES {
            break;
        }
    }
    Tried { group: Some(group), ends, touched, restricts, left: jobs.collect() }
}

/// Writes the outcome of requests whose reply entry could not be written, before anything new is logged. So the state
/// record must remember the outcomes of only one group.
fn note_unfinished(bench: &Bench, unfinished: &mut Vec<Unfinished>) -> Result<(), AuditError> {
    let mut notes = Vec::new();
    for Unfinished { request, ended, generation, remarks } in unfinished.iter() {
        notes.extend(remarks.iter().map(|remark| remark.note(*request)));
        notes.push(Note::Unfinished { request: *request, ended: *ended, generation: *generation });
    }
    bench.audit.notes(bench.clock.now_ms(), &notes)?;
    unfinished.clear();
    Ok(())
}

/// Makes the request entries durable. Returns the sequence number of the first one and the head after the last.
fn log_requests(bench: &Bench, ends: &[End]) -> Result<(u64, AuditHead), AuditError> {
    let fields: Vec<Fields<'_>> = ends.iter().map(|end| end.facts.request_fields()).collect();
    let fields: Vec<Vec<(&str, &[u8])>> = fields.iter().map(Fields::borrow).collect();
    let facts: Vec<_> = ends.iter().zip(&fields).map(|(end, fields)| end.facts.request(fields)).collect();
    let head = bench.audit.requests(&facts)?;
    let count = u64::try_from(facts.len()).unwrap_or(u64::MAX);
    Ok((head.seq.saturating_sub(count).saturating_add(1), to_barrier(&head)))
}

/// A mutation that ran, or was rejected before it could.
struct End {
    facts: Arc<Facts>,
    answer: oneshot::Sender<Result<Reply, VaultError>>,
    result: Result<Reply, VaultError>,
    /// Whether it changed something, whatever the caller is told.
    made: bool,
    remarks: Vec<Remark>,
}

impl End {
    /// The end of a mutation that changed nothing.
    fn failed(facts: Arc<Facts>, answer: oneshot::Sender<Result<Reply, VaultError>>, error: VaultError) -> Self {
        Self { facts, answer, result: Err(error), made: false, remarks: Vec::new() }
    }

    /// How the log records the end if the reply entry is missing.
    fn ended(&self, stored: bool) -> Ended {
        match (&self.result, stored) {
            (Ok(_), true) => Ended::Committed,
            (Ok(_), false) | (Err(VaultError::Full), _) => Ended::Absent,
            (Err(_), _) => Ended::Refused,
        }
    }
}

/// A group that has run.
struct Ran<'b> {
    ends: Vec<End>,
    touched: Vec<Touch>,
    restricts: bool,
    /// Present when something changed.
    durable: Option<Durable<'b>>,
    generation: u64,
}

/// Runs steps 3 to 5.
fn finish(bench: &Bench, unfinished: &mut Vec<Unfinished>, first: u64, ran: Ran<'_>) -> Fate {
    let Ran { mut ends, touched, restricts, durable, generation } = ran;
    let committed = durable.is_some().then_some(generation);
    // (3)
    if let Some(durable) = &durable
        && let Err(error) = durable.anchor()
    {
        tracing::error!(%error, "the anchor could not be written");
        return give_up(bench, ends, "the anchor could not be written", || VaultError::Unavailable(UNKNOWN));
    }
    // (4)
    let logged = log_replies(bench, first, &ends, committed);
    // (5)
    if let Some(durable) = durable {
        durable.publish();
        // The snapshot must be in force before any caller hears of the change. Secrets are not part of it.
        if touched.iter().any(|touch| !matches!(touch, Touch::Secret(_))) {
            match bench.snapshot.load().after(&bench.barrier, &touched) {
                Ok(next) => {
                    let next = Arc::new(next);
                    bench.snapshot.store(Arc::clone(&next));
                    (bench.on_change)(&next, restricts);
                }
                Err(_) => {
                    return give_up(bench, ends, "a policy or identity just written could not be read back", || {
                        VaultError::Integrity
                    });
                }
            }
        }
    }
    if committed.is_some() {
        let secrets = touched.into_iter().filter_map(|touch| match touch {
            Touch::Secret(path) => Some(path),
            _ => None,
        });
        bench.feed.publish(generation, secrets);
    }
    let mut fate = Fate::Serve;
    // The change is durable although the log rejected its reply entries. They are written later, and until then nobody
    // may be told.
    if let Err(error) = logged {
        fate = fate_of(&error);
        for (request, end) in (first..).zip(ends.iter_mut()) {
            let (ended, remarks) = (end.ended(committed.is_some()), std::mem::take(&mut end.remarks));
            unfinished.push(Unfinished { request, ended, generation, remarks });
            end.result = Err(VaultError::AuditUnavailable);
        }
    }
    for End { answer, result, .. } in ends {
        // A caller that is gone is not an error.
        let _ = answer.send(result);
    }
    fate
}

/// Detects a full disk before anything is written that cannot be taken back, and lets the newest integrity set tag both
/// slots of the anchor.
fn make_room(bench: &Bench) -> Result<(), BarrierError> {
    bench.barrier.roll(bench.clock.now_ms())?;
    bench.barrier.settle_anchor(bench.clock.now_ms())
}

const UNKNOWN: &str = "the write may or may not have been done: the vault is restarting";

fn log_replies(bench: &Bench, first: u64, ends: &[End], committed: Option<u64>) -> Result<(), AuditError> {
    let facts: Vec<_> = (first..)
        .zip(ends)
        .map(|(request, end)| {
            let generation = committed.filter(|_| end.result.is_ok());
            (request, end.facts.reply(&end.result, generation, &[]))
        })
        .collect();
    let remarks = (first..).zip(ends).flat_map(|(request, end)| end.remarks.iter().map(move |it| it.note(request)));
    bench.audit.replies(bench.clock.now_ms(), &remarks.collect::<Vec<_>>(), &facts)
}

fn fate_of(error: &AuditError) -> Fate {
    match error {
        AuditError::Sync => Fate::Stop("the audit device could not make entries durable"),
        _ => Fate::Serve,
    }
}

/// Takes the vault out of service before anyone is answered: no caller may get a reply from an unknown state.
fn give_up(bench: &Bench, ends: Vec<End>, why: &'static str, error: impl Fn() -> VaultError) -> Fate {
    (bench.on_fatal)(why);
    answer_all(ends, error);
    Fate::Stop(why)
}

fn answer_all(ends: Vec<End>, error: impl Fn() -> VaultError) {
    for End { answer, .. } in ends {
        let _ = answer.send(Err(error()));
    }
}

/// The barrier has its own type with the same two fields, because it must not know the audit module.
fn to_barrier(head: &audit::AuditHead) -> AuditHead {
    AuditHead { seq: head.seq, hash: head.hash }
}
