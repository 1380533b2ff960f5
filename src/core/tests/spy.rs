//! What sees and disturbs every operation of a vault on its disk.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::audit::{Device, FileDevice, Syncer};
use crate::store::sidecar::{AnchorFile, HeaderFiles, MemAnchor, MemHeader, SidecarError};
use crate::store::{Batch, CommitSeq, Op, Store, StoreError, Stored};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The engine transaction fails as a whole, nothing written.
    Commit,
    /// The disk is full.
    Full,
    /// The anchor cannot be written.
    Anchor,
    /// The audit device refuses lines of this type.
    Append(&'static str),
    /// The audit device takes lines, its sync fails.
    Sync,
}

/// Told the name of each operation on the disk, before and after it.
type Watch = Box<dyn Fn(&str) + Send + Sync>;

/// Told the key of each record that is read, before it is. May fail the read, wait, or panic.
type AtRead = Arc<dyn Fn(&[u8]) -> Result<(), StoreError> + Send + Sync>;

/// Sees and disturbs.
pub(super) struct Spy {
    state: Mutex<State>,
    moved: Condvar,
    watch: Mutex<Option<Watch>>,
    each_read: Mutex<Option<AtRead>>,
    reads: AtomicU64,
    /// Bytes of values in the largest commit.
    largest: AtomicUsize,
}

struct State {
    events: Vec<String>,
    fault: Fault,
    hold_anchor: bool,
    held: bool,
    hold_reads: bool,
    hold_one: bool,
    reading: bool,
}

impl Spy {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            events: Vec::new(),
            fault: Fault::None,
            hold_anchor: false,
            held: false,
            hold_reads: false,
            hold_one: false,
            reading: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            moved: Condvar::new(),
            watch: Mutex::new(None),
            each_read: Mutex::new(None),
            reads: AtomicU64::new(0),
            largest: AtomicUsize::new(0),
        })
    }

    /// Calls `watch` before and after every operation on the disk.
    pub(super) fn watch(&self, watch: Option<Watch>) {
        *self.watch.lock().expect("no panic while held") = watch;
    }

    /// Calls `at_read` before every record that is read.
    pub(super) fn at_each_read(&self, at_read: Option<AtRead>) {
        *self.each_read.lock().expect("no panic while held") = at_read;
    }

    /// Runs an operation between two calls of the watcher.
    fn around<T>(&self, name: &str, operation: impl FnOnce() -> T) -> T {
        let tell = || {
            if let Some(watch) = &*self.watch.lock().expect("no panic while held") {
                watch(name);
            }
        };
        tell();
        let result = operation();
        tell();
        result
    }

    /// How many records were read from the store so far.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    fn see(&self, event: &str) -> Fault {
        let mut state = self.state.lock().expect("no panic while held");
        state.events.push(event.to_owned());
        state.fault
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.state.lock().expect("no panic while held").fault = fault;
    }

    pub(super) fn clear(&self) {
        self.state.lock().expect("no panic while held").events.clear();
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.state.lock().expect("no panic while held").events.clone()
    }

    pub(super) fn count(&self, event: &str) -> usize {
        self.events().iter().filter(|seen| *seen == event).count()
    }

    /// Bytes of values in the largest commit since the last call.
    pub(super) fn largest_commit(&self) -> usize {
        self.largest.swap(0, Ordering::SeqCst)
    }

    /// The next anchor write waits until [`Spy::release`].
    pub(super) fn hold_anchor(&self) {
        self.state.lock().expect("no panic while held").hold_anchor = true;
    }

    /// Reads of records wait, or go on.
    pub(super) fn hold_reads(&self, hold: bool) {
        let mut state = self.state.lock().expect("no panic while held");
        (state.hold_reads, state.hold_one) = (hold, false);
        drop(state);
        self.moved.notify_all();
    }

    /// The next read waits until [`Spy::hold_reads`] lets it go on; others do not.
    pub(super) fn hold_one_read(&self) {
        let mut state = self.state.lock().expect("no panic while held");
        (state.hold_reads, state.hold_one) = (true, true);
    }

    /// Blocks until somebody waits at a read.
    pub(super) fn await_read(&self) {
        let state = self.state.lock().expect("no panic while held");
        drop(self.moved.wait_while(state, |state| !state.reading).expect("no panic while held"));
    }

    fn at_read(&self) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let mut state = self.state.lock().expect("no panic while held");
        if state.hold_reads && !(state.hold_one && state.reading) {
            state.reading = true;
            self.moved.notify_all();
            state = self.moved.wait_while(state, |state| state.hold_reads).expect("no panic while held");
            state.reading = false;
        }
    }

    /// Blocks until somebody waits at the anchor.
    pub(super) fn await_held(&self) {
        let state = self.state.lock().expect("no panic while held");
        drop(self.moved.wait_while(state, |state| !state.held).expect("no panic while held"));
    }

    pub(super) fn release(&self) {
        self.state.lock().expect("no panic while held").hold_anchor = false;
        self.moved.notify_all();
    }

    fn at_anchor(&self) {
        let mut state = self.state.lock().expect("no panic while held");
        if state.hold_anchor {
            state.held = true;
            self.moved.notify_all();
            state = self.moved.wait_while(state, |state| state.hold_anchor).expect("no panic while held");
            state.held = false;
        }
    }
}

pub(super) struct SpyStore(pub Arc<dyn Store>, pub Arc<Spy>);

impl Store for SpyStore {
    fn engine(&self) -> &'static str {
        self.0.engine()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.1.at_read();
        let at_read = self.1.each_read.lock().expect("no panic while held").clone();
        at_read.map_or(Ok(()), |at_read| at_read(key))?;
        self.0.get(key)
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.0.scan(prefix, visit)
    }

    fn scan_heads(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.0.scan_heads(prefix, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        let bytes = |op: &Op| if let Op::Put { value, .. } = op { value.len() } else { 0 };
        self.1.largest.fetch_max(batch.ops.iter().map(bytes).sum(), Ordering::SeqCst);
        match self.1.see("commit") {
            Fault::Commit => Err(StoreError::Sync("injected".into())),
            Fault::Full => Err(StoreError::Full),
            _ => self.1.around("commit", || self.0.commit(batch)),
        }
    }

    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        self.0.sequence()
    }
}

pub(super) struct SpyAnchor(pub Arc<MemAnchor>, pub Arc<Spy>);

impl AnchorFile for SpyAnchor {
    fn read(&self) -> Result<Option<Vec<u8>>, SidecarError> {
        self.0.read()
    }

    fn create(&self) -> Result<(), SidecarError> {
        self.0.create()
    }

    fn write_slot(&self, slot: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        self.1.at_anchor();
        match self.1.see("anchor") {
            Fault::Anchor => Err(SidecarError::Io { step: "injected", kind: io::ErrorKind::Other }),
            _ => self.1.around("anchor", || self.0.write_slot(slot, bytes)),
        }
    }
}

pub(super) struct SpyHeader(pub Arc<MemHeader>, pub Arc<Spy>);

impl HeaderFiles for SpyHeader {
    fn read(&self) -> Result<[Option<Vec<u8>>; 2], SidecarError> {
        self.0.read()
    }

    fn write(&self, copy: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        self.1.see(&format!("header {copy}"));
        self.1.around("header", || self.0.write(copy, bytes))
    }
}

pub(super) struct SpyDevice(pub FileDevice, pub Arc<Spy>);

impl Device for SpyDevice {
    fn name(&self) -> &str {
        "list"
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(lines);
        for line in text.lines() {
            let json: serde_json::Value = serde_json::from_str(line).expect("an entry is JSON");
            let kind = json["type"].as_str().expect("an entry has a type").to_owned();
            if self.1.see(&format!("log {kind}")) == Fault::Append(kind_of(&kind)) {
                return Err(io::Error::other("injected"));
            }
        }
        let Self(device, spy) = self;
        spy.around("log", || device.append(lines))
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(SpySyncer(self.0.syncer(), Arc::clone(&self.1)))
    }

    fn reopen(&mut self) -> io::Result<bool> {
        self.0.reopen()
    }
}

struct SpySyncer(Arc<dyn Syncer>, Arc<Spy>);

impl Syncer for SpySyncer {
    fn sync(&self) -> io::Result<()> {
        match self.1.see("log sync") {
            Fault::Sync => Err(io::Error::other("injected")),
            _ => self.0.sync(),
        }
    }
}

fn kind_of(kind: &str) -> &'static str {
    match kind {
        "request" => "request",
        "reply" => "reply",
        "exchange" => "exchange",
        _ => "note",
    }
}
