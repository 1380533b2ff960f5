//! The thread that rotates values: orders, ends of steps, and rotations that have become due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::api::reply::Reply;
use crate::barrier::MountId;
use crate::connect::Target;
use crate::rotate::generate::Generator;
use crate::rotate::policy::{Mode, Policy};

use super::effect::Ended;
use super::machine::{self, Next};
use super::record::{self, Phase, ValueRow};
use super::view;
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::rotation::desk::Desk;
use crate::core::rotation::orders::{ValueErrand, ValueOrder};
use crate::core::rotation::worker::{self, Post, Worker};

/// Largest number of waiting orders and ends of steps.
const MAX_WAITING: usize = 256;
/// Number of concurrent steps at targets.
const MAX_EFFECTS: usize = 8;
/// How long to wait for killed programs before they are left to the system.
const LAST_WAIT: Duration = Duration::from_secs(3);
/// How often expiry dates are checked, in milliseconds.
const REMIND_EVERY_MS: u64 = 60_000;

/// Handle of the thread. Steps at targets report their end to it.
pub(in crate::core) type Rotator = Worker<ValueOrder, Box<Ended>>;

type Message = worker::Message<ValueOrder, Box<Ended>>;

impl Rotator {
    /// Starts the thread. When it is stopped, its programs are killed. Other steps at targets end by themselves, and the
    /// next unseal asks the targets about their results.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the system cannot start a thread.
    pub(in crate::core) fn spawn(desk: Desk) -> Result<Self, VaultError> {
        let busy = "too many rotations are waiting; try again";
        let post = Post { name: "rotator", room: MAX_WAITING, busy, stopping: Arc::clone(&desk.stopping) };
        Self::start(post, move |waiting, own| {
            Thread { desk, own, rows: BTreeMap::new(), busy: BTreeMap::new(), reminded_ms: 0 }.serve(waiting);
        })
    }
}

/// The thread's own data.
struct Thread {
    desk: Desk,
    own: SyncSender<Message>,
    /// When each value has to be checked again, by entry key.
    rows: BTreeMap<String, Watched>,
    /// Values with a running step at their target, and whether that step ends soon after a stop.
    busy: BTreeMap<String, bool>,
    reminded_ms: u64,
}

struct Watched {
    path: String,
    key: String,
    at_ms: u64,
}

impl Thread {
    fn serve(mut self, waiting: &Receiver<Message>) {
        self.work(waiting);
        // Programs are being killed. None of them may be left when the vault has stopped.
        while self.busy.values().any(|stops| *stops) {
            match waiting.recv_timeout(LAST_WAIT) {
                Ok(Message::Note(ended)) => drop(self.busy.remove(&ended.row)),
                Ok(_) => {}
                Err(_) => {
                    tracing::warn!("a program of a rotation could not be killed: check for a hanging process");
                    return;
                }
            }
        }
    }

    fn work(&mut self, waiting: &Receiver<Message>) {
        if let Err(error) = self.load() {
            tracing::error!(%error, "the records of rotating values cannot be read, so none is rotated until the next unseal");
            return;
        }
        let mut wait = Duration::ZERO;
        while !self.desk.stopping.load(Ordering::SeqCst) {
            match waiting.recv_timeout(wait) {
                Ok(Message::Do(errand)) => self.perform(*errand),
                Ok(Message::Note(ended)) => self.ended(*ended),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            wait = if self.look() { Duration::ZERO } else { self.desk.settings.tick };
        }
    }

    fn load(&mut self) -> Result<(), VaultError> {
        for row in record::all(&self.desk.barrier.view(MountId::ROTATION))? {
            let watched = Watched { path: row.path.clone(), key: row.key.clone(), at_ms: 0 };
            self.rows.insert(row.own_key(), watched);
        }
        Ok(())
    }

    /// Takes one step of one value that is due. Returns `false` when none is due.
    fn look(&mut self) -> bool {
        let now_ms = self.desk.clock.now_ms();
        if now_ms.abs_diff(self.reminded_ms) >= REMIND_EVERY_MS {
            self.reminded_ms = now_ms;
            if let Err(error) = self.remind(now_ms) {
                tracing::error!(%error, "reminders of expiry dates could not be checked");
            }
        }
        if self.busy.len() >= MAX_EFFECTS {
            return false;
        }
        let due = self.rows.iter().find(|(id, row)| row.at_ms <= now_ms && !self.busy.contains_key(*id));
        let Some((id, path, key)) = due.map(|(id, row)| (id.clone(), row.path.clone(), row.key.clone())) else {
            return false;
        };
        let found = record::find(&self.desk.barrier.view(MountId::ROTATION), &path, &key);
        let next = match found {
            Ok(Some(row)) => machine::next(&self.desk, row, now_ms),
            Ok(None) => {
                self.rows.remove(&id);
                return true;
            }
            Err(error) => Err(error),
        };
        self.follow(&id, next, now_ms);
        true
    }

    fn follow(&mut self, id: &str, next: Result<Next, VaultError>, now_ms: u64) {
        let at_ms = match next {
            Ok(Next::Wait(at_ms)) => at_ms.max(now_ms.saturating_add(1)),
            Ok(Next::Again) => 0,
            Ok(Next::Effect(effect)) => {
                let stops = effect.stops;
                match effect.start(id.to_owned(), self.own.clone(), |ended| Message::Note(Box::new(ended))) {
                    Ok(()) => {
                        self.busy.insert(id.to_owned(), stops);
                        0
                    }
                    Err(_) => now_ms.saturating_add(1_000),
                }
            }
            Err(error) => {
                if !matches!(error, VaultError::Sealed)
                    && let Some(Watched { path, key, .. }) = self.rows.get(id)
                {
                    tracing::error!(%error, %path, %key, "a value could not be rotated");
                }
                now_ms.saturating_add(5_000)
            }
        };
        if let Some(row) = self.rows.get_mut(id) {
            row.at_ms = at_ms;
        }
    }

    fn ended(&mut self, ended: Ended) {
        let id = ended.row.clone();
        self.busy.remove(&id);
        let Some((path, key)) = self.rows.get(&id).map(|row| (row.path.clone(), row.key.clone())) else { return };
        let now_ms = self.desk.clock.now_ms();
        let next = match record::find(&self.desk.barrier.view(MountId::ROTATION), &path, &key) {
            Ok(Some(row)) => machine::ended(&self.desk, row, ended),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        self.follow(&id, next, now_ms);
    }

    fn perform(&mut self, errand: ValueErrand) {
        let ValueErrand { facts, order, answer } = errand;
        let result = self.carry_out(&facts, order);
        let result = match result {
            Ok(row) => view::reply(&row, self.desk.clock.now_ms()),
            // Rejected before anything was submitted, so nobody has audited it yet.
            Err(Refused { error, audited: false }) => self.desk.log(&facts, Err(error)),
            Err(Refused { error, .. }) => Err(error),
        };
        let _ = answer.send(result);
    }

    fn carry_out(&mut self, facts: &Arc<Facts>, order: ValueOrder) -> Result<ValueRow, Refused> {
        let now_ms = self.desk.clock.now_ms();
        let row = match order {
            ValueOrder::Set { path, key, policy } => {
                let row = self.set(facts, path, key, *policy)?;
                let watched = Watched { path: row.path.clone(), key: row.key.clone(), at_ms: 0 };
                self.rows.insert(row.own_key(), watched);
                row
            }
            ValueOrder::Forget { path, key } => {
                let row = self.find(&path, &key)?;
                self.forget(facts, row)?
            }
            ValueOrder::Rotate { path, key } => {
                let row = self.find(&path, &key)?;
                if row.paused {
                    return Err(Refused::early(VaultError::BadRequest(
                        "the rotation of this value is paused: resume it first".to_owned(),
                    )));
                }
                // With a target the previous value is still valid there, and a new rotation would end its grace period
                // early.
                if row.phase == Phase::Promoted && row.policy.target.is_some() {
                    let until = row.previous().map_or(0, |previous| previous.grace_until_ms);
                    return Err(Refused::early(VaultError::BadRequest(format!(
                        "the previous value is in its grace period until {}: rotating now would end it early; wait until then",
                        crate::api::time::rfc3339_nano(until)
                    ))));
                }
                machine::start(&self.desk, facts, &row, now_ms)?
            }
            ValueOrder::Abort { path, key } => {
                let row = self.find(&path, &key)?;
                machine::abort(&self.desk, facts, row)?
            }
            ValueOrder::Pause { path, key } => {
                let row = self.find(&path, &key)?;
                machine::commit(&self.desk, facts, &row, |row, _| row.paused = true, |_, _, _, _| Ok(()))?
            }
            ValueOrder::Resume { path, key } => {
                let row = self.find(&path, &key)?;
                machine::resume(&self.desk, facts, row)?
            }
        };
        // The schedule or the pause may have changed, so check the value at once.
        if let Some(watched) = self.rows.get_mut(&row.own_key()) {
            watched.at_ms = 0;
        }
        Ok(row)
    }

    fn find(&self, path: &str, key: &str) -> Result<ValueRow, Refused> {
        let missing = || {
            VaultError::BadRequest("this key has no rotation policy: set one with `strongroom rotation set`".to_owned())
        };
        let found = record::find(&self.desk.barrier.view(MountId::ROTATION), path, key);
        found.and_then(|row| row.ok_or_else(missing)).map_err(Refused::early)
    }

    /// Stores a policy. An existing policy is replaced only between two rotations.
    fn set(&self, facts: &Arc<Facts>, path: String, key: String, policy: Policy) -> Result<ValueRow, Refused> {
        super::fields::place(&self.desk.snapshot.load(), &path).map_err(Refused::early)?;
        self.possible(&policy).map_err(|text| Refused::early(VaultError::BadRequest(text)))?;
        let now_ms = self.desk.clock.now_ms();
        let next_ms = ValueRow::due_after(&policy, &path, &key, now_ms);
        let stored = record::find(&self.desk.barrier.view(MountId::ROTATION), &path, &key).map_err(Refused::early)?;
        if let Some(row) = stored {
            if !matches!(row.phase, Phase::Idle | Phase::Promoted) {
                return Err(Refused::early(VaultError::BadRequest(
                    "a rotation of this value is under way: wait for it, or abort it, then set the policy".to_owned(),
                )));
            }
            let change = move |row: &mut ValueRow, _| {
                (row.policy, row.next_ms) = (policy, next_ms);
                row.reminded.clear();
            };
            return Ok(machine::commit(&self.desk, facts, &row, change, |_, _, _, _| Ok(()))?);
        }
        let row = ValueRow {
            format: 1,
            revision: 1,
            path,
            key,
            policy,
            labels: None,
            phase: Phase::Idle,
            paused: false,
            run: String::new(),
            candidate: None,
            refused: false,
            attempts: 0,
            candidates: 0,
            not_before_ms: 0,
            rotated_ms: 0,
            next_ms,
            error: None,
            reminded: Vec::new(),
        };
        // Returns the row as committed. The thread updates its list of rows with it.
        let (sender, written) = sync_channel(1);
        self.desk.records(facts, move |tx, _| {
            row.put(tx)?;
            let _ = sender.send(row);
            Ok(Reply::none())
        })?;
        Ok(written.try_recv().map_err(|_| VaultError::Internal)?)
    }

    /// Checks what the policy alone cannot know.
    fn possible(&self, policy: &Policy) -> Result<(), String> {
        let target = policy.target.as_ref().map(|name| self.listed(name)).transpose()?;
        if let (Some(name), Some(false)) = (&policy.target, target.map(|target| target.applies())) {
            return Err(format!(
                "target: \"{name}\" has no apply command; add apply = [\"/path\", …] to [targets.{name}] in the \
                 configuration file and restart the daemon, or name another target"
            ));
        }
        // Who makes the value and who receives it may be two different targets.
        match &policy.generator {
            Generator::Command(command) if !self.listed(&command.target)?.generates() => {
                let name = &command.target;
                return Err(format!(
                    "generator.target: \"{name}\" has no generate command; add generate = [\"/path\", …] to \
                     [targets.{name}], a hook, in the configuration file and restart the daemon, or name another target"
                ));
            }
            Generator::Certificate(wanted) if wanted.common_name.is_some() => {
                return Err("generator.common_name: certificates carry their names in sans; write it there".to_owned());
            }
            Generator::Certificate(wanted)
                if wanted.sans.len() > 64 || wanted.sans.iter().any(|name| name.contains("://")) =>
            {
                return Err("generator.sans: at most 64 DNS names and IP addresses are allowed".to_owned());
            }
            _ => {}
        }
        // With a single login, its readers have a short outage at each rotation. A policy must say that it accepts this.
        match (target.map(|target| target.logins()), policy.mode) {
            (Some(2), Mode::Single) => {
                Err("mode: the target has two logins that take turns; write \"pair\"".to_owned())
            }
            (Some(0 | 1), Mode::Pair) => Err("mode: the target does not have two logins; write \"single\"".to_owned()),
            _ => Ok(()),
        }
    }

    fn listed(&self, name: &str) -> Result<&Arc<dyn Target>, String> {
        let targets = &self.desk.settings.targets;
        targets.get(name).ok_or_else(|| {
            let listed: Vec<&str> = targets.keys().map(String::as_str).collect();
            let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
            format!("the configuration lists no target \"{name}\"; it lists: {listed}")
        })
    }

    fn forget(&mut self, facts: &Arc<Facts>, row: ValueRow) -> Result<ValueRow, Refused> {
        if !matches!(row.phase, Phase::Idle | Phase::Promoted) {
            return Err(Refused::early(VaultError::BadRequest(
                "a rotation of this value is under way: wait for it, or abort it, then remove the policy".to_owned(),
            )));
        }
        let id = row.own_key();
        let entry = id.clone();
        self.desk.records(facts, move |tx, _| {
            tx.remove_entry(MountId::ROTATION, &entry)?;
            Ok(Reply::none())
        })?;
        self.rows.remove(&id);
        Ok(row)
    }

    /// Writes to the operator's log which values expire soon, once for each reminder.
    fn remind(&self, now_ms: u64) -> Result<(), VaultError> {
        for row in record::all(&self.desk.barrier.view(MountId::ROTATION))? {
            let Some(expires_ms) = row.policy.expires_at_ms else { continue };
            let due = row.policy.reminders_due(expires_ms, now_ms, &row.reminded);
            let Some(days) = due.iter().min() else { continue };
            tracing::warn!(path = row.path, key = row.key, days, "a value expires within this many days");
            let facts = self.desk.by_vault(
                &format!("sys/strongroom/values/{}", row.path),
                format!("value {}: expires within {days} days", row.key),
            )?;
            let change = move |row: &mut ValueRow, _| row.reminded.extend(due);
            machine::commit(&self.desk, &facts, &row, change, |_, _, _, _| Ok(()))?;
        }
        Ok(())
    }
}

/// Why an order was not executed, and whether the committer has audited that.
struct Refused {
    error: VaultError,
    audited: bool,
}

impl Refused {
    fn early(error: VaultError) -> Self {
        Self { error, audited: false }
    }
}

/// For errors of commits, which the committer has audited.
impl From<VaultError> for Refused {
    fn from(error: VaultError) -> Self {
        Self { error, audited: true }
    }
}
