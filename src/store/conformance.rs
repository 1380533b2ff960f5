//! One test suite for every engine. The tests of each engine run it, and so can the tests of an engine that you write.
//!
//! Everything here panics at the first deviation and names the property in the message. It is test code that is in the
//! library so that every test binary can use it.
#![allow(clippy::unwrap_used, reason = "a suite reports a deviation by panicking")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Batch, CommitSeq, Expect, HEAD_BYTES, MAX_KEY_BYTES, Store, StoreError, Stored};

/// Makes an empty store.
pub type Make<'a> = &'a dyn Fn() -> Arc<dyn Store>;
/// Closes a store and opens it again over the same files. An engine without files returns the same store.
pub type Reopen<'a> = &'a dyn Fn(Arc<dyn Store>) -> Arc<dyn Store>;

type Model = BTreeMap<Vec<u8>, Stored>;

/// Runs the suite. `seed` seeds the random part and `batches` sets its length.
///
/// # Panics
/// At the first property that does not hold.
pub fn run(make: Make<'_>, reopen: Reopen<'_>, seed: u64, batches: u32) {
    starts_empty(make());
    reads_what_was_written(make());
    conflicts_change_nothing(make());
    scans_in_order(make());
    keeps_values_of_every_size(make(), reopen);
    shrinks_and_grows(make(), reopen);
    refuses_long_keys(make());
    follows_a_model(make(), reopen, seed, batches);
}

fn starts_empty(store: Arc<dyn Store>) {
    assert_eq!(store.sequence().unwrap(), CommitSeq(0), "an empty store is at commit 0");
    assert_eq!(store.get(b"").unwrap(), None);
    assert_eq!(everything(&*store, b""), vec![], "an empty store shows no records of its own");
    let first = store.commit(&Batch::default()).unwrap();
    assert_eq!(first, CommitSeq(1), "a batch without changes is a commit too");
    assert_eq!(store.sequence().unwrap(), first);
}

fn reads_what_was_written(store: Arc<dyn Store>) {
    let mut batch = Batch::default();
    batch.put("a", "first").put("a", "second").put("b", "x").delete("b").delete("never").put("", "empty key");
    let one = store.commit(&batch).unwrap();
    assert_eq!(
        store.get(b"a").unwrap().unwrap(),
        Stored { value: b"second".to_vec(), revision: one },
        "the later change wins"
    );
    assert_eq!(store.get(b"b").unwrap(), None, "put then delete leaves nothing");
    assert_eq!(store.get(b"").unwrap().unwrap().value, b"empty key");
    let two = store.commit(Batch::default().delete("a").put("a", "third").put("c", "y")).unwrap();
    assert_eq!(two.0, one.0 + 1, "the sequence grows by one");
    assert_eq!(store.get(b"a").unwrap().unwrap().revision, two);
    assert_eq!(store.get(b"").unwrap().unwrap().revision, one, "an untouched key keeps its revision");
    store.commit(Batch::default().delete("a")).unwrap();
    assert_eq!(store.get(b"a").unwrap(), None);
    assert_eq!(store.get(b"m").unwrap(), None, "what an engine keeps for itself is not visible");
}

fn conflicts_change_nothing(store: Arc<dyn Store>) {
    let one = store.commit(Batch::default().put("a", "1").put("b", "1")).unwrap();
    let refused = [
        ("a", Expect::Absent),
        ("a", Expect::Revision(CommitSeq(one.0 + 1))),
        ("a", Expect::Revision(CommitSeq(0))),
        ("missing", Expect::Revision(one)),
    ];
    for (key, expect) in refused {
        let mut batch = Batch::default();
        batch.put("a", vec![9; 9_000]).delete("b").put("new", "1").require("b", Expect::Any).require(key, expect);
        assert!(matches!(store.commit(&batch), Err(StoreError::Conflict)), "{key} {expect:?} does not hold");
        assert_eq!(
            store.get(b"a").unwrap().unwrap(),
            Stored { value: b"1".to_vec(), revision: one },
            "a conflict changed a"
        );
        assert!(
            store.get(b"b").unwrap().is_some() && store.get(b"new").unwrap().is_none(),
            "a conflict changed something"
        );
        assert_eq!(store.sequence().unwrap(), one, "a conflict is no commit");
    }
    let mut batch = Batch::default();
    batch.put("a", "2").put("new", "1");
    batch.require("a", Expect::Revision(one)).require("new", Expect::Absent).require("missing", Expect::Any);
    let two = store.commit(&batch).unwrap();
    assert_eq!(store.get(b"new").unwrap().unwrap().revision, two, "preconditions see the state before the batch");
}

fn scans_in_order(store: Arc<dyn Store>) {
    let keys: [&[u8]; 10] = [b"", b"a", b"a\0", b"a\xff", b"a\xff\xff", b"b", b"r", b"\xfe", b"\xff", b"\xff\xff"];
    let mut batch = Batch::default();
    for key in keys.iter().rev() {
        batch.put(*key, [b"value of ", *key].concat());
    }
    store.commit(&batch).unwrap();
    let prefixes: [&[u8]; 9] =
        [b"", b"a", b"a\xff", b"a\xff\xff\xff", b"\xff", b"\xff\xff", b"\xff\xff\xff", b"c", b"\xfe"];
    for prefix in prefixes {
        let expected: Vec<_> = keys
            .iter()
            .filter(|key| key.starts_with(prefix))
            .map(|key| (key.to_vec(), [b"value of ", *key].concat()))
            .collect();
        assert_eq!(everything(&*store, prefix), expected, "scan of {prefix:?}");
    }
    let mut seen = 0;
    let mut two = |_: &[u8], _: &[u8]| {
        seen += 1;
        if seen % 2 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan(b"", &mut two).unwrap();
    store.scan_heads(b"", &mut two).unwrap();
    assert_eq!(seen, 4, "a scan ends where the visitor breaks");
}

/// Sizes around the limits of heads, pages and pieces.
const SIZES: [usize; 22] = [
    0, 1, 91, 92, 93, 2_999, 3_000, 3_001, 4_095, 4_096, 4_097, 5_999, 6_000, 6_001, 8_191, 8_192, 8_193, 12_000,
    16_384, 65_535, 65_536, 102_400,
];

fn keeps_values_of_every_size(mut store: Arc<dyn Store>, reopen: Reopen<'_>) {
    for size in SIZES {
        store.commit(Batch::default().put(format!("size {size}"), pattern(size, 1))).unwrap();
    }
    for round in 0..2 {
        for size in SIZES {
            let stored = store.get(format!("size {size}").as_bytes()).unwrap();
            assert!(
                stored.is_some_and(|stored| stored.value == pattern(size, 1)),
                "a value of {size} bytes, round {round}"
            );
        }
        assert_eq!(everything(&*store, b"size ").len(), SIZES.len());
        store = reopen(store);
    }
}

fn shrinks_and_grows(mut store: Arc<dyn Store>, reopen: Reopen<'_>) {
    // Each size replaces every other size: pieces of the longer value must not outlive the shorter value or a deletion.
    let sizes = [0, 3_000, 3_001, 9_001, 40_000];
    for before in sizes {
        for after in sizes {
            store.commit(Batch::default().put("k", pattern(before, 1)).put("kk", pattern(before, 2))).unwrap();
            store.commit(Batch::default().put("k", pattern(after, 3))).unwrap();
            assert!(store.get(b"k").unwrap().unwrap().value == pattern(after, 3), "{before} then {after} bytes");
            assert!(store.get(b"kk").unwrap().unwrap().value == pattern(before, 2), "a neighbour of {before} bytes");
            store.commit(Batch::default().delete("k")).unwrap();
            assert_eq!(everything(&*store, b"k").len(), 1, "a deletion leaves nothing to scan");
        }
    }
    store = reopen(store);
    assert_eq!(everything(&*store, b"").len(), 1);
}

fn refuses_long_keys(store: Arc<dyn Store>) {
    let longest = vec![b'k'; MAX_KEY_BYTES];
    store.commit(Batch::default().put(longest.clone(), pattern(10_000, 4))).unwrap();
    assert!(store.get(&longest).unwrap().unwrap().value == pattern(10_000, 4));
    let too_long = store.commit(Batch::default().put(vec![b'k'; MAX_KEY_BYTES + 1], "x").put("short", "x"));
    assert!(matches!(too_long, Err(StoreError::Unavailable(_))), "a key of 1,025 bytes is refused");
    assert_eq!(store.get(b"short").unwrap(), None, "with nothing written");
    assert_eq!(store.get(&vec![b'k'; MAX_KEY_BYTES + 1]).unwrap(), None);
}

/// Random batches, against a sorted map.
fn follows_a_model(mut store: Arc<dyn Store>, reopen: Reopen<'_>, seed: u64, batches: u32) {
    let mut random = Random::new(seed);
    let (mut model, mut sequence) = (Model::new(), CommitSeq(0));
    for round in 0..batches {
        let mut batch = Batch::default();
        for _ in 0..random.below(8) {
            let key = random.key();
            match random.below(4) {
                0 => batch.delete(key),
                _ => {
                    let size = random.size();
                    batch.put(key, pattern(size, random.bits()))
                }
            };
        }
        for _ in 0..random.below(3) {
            let key = random.key();
            let expect = match (random.below(6), model.get(&key)) {
                (0, _) => Expect::Absent,
                (1, _) => Expect::Revision(CommitSeq(u64::from(random.below(round + 2)))),
                (_, Some(stored)) => Expect::Revision(stored.revision),
                (_, None) => Expect::Any,
            };
            batch.require(key, expect);
        }
        let holds = batch.preconditions.iter().all(|c| c.expect.holds(model.get(&c.key).map(|stored| stored.revision)));
        match store.commit(&batch) {
            Ok(revision) => {
                assert!(holds, "seed {seed}, batch {round}: a precondition was skipped");
                sequence.0 += 1;
                assert_eq!(revision, sequence, "seed {seed}, batch {round}");
                apply(&mut model, &batch, revision);
            }
            Err(StoreError::Conflict) => assert!(!holds, "seed {seed}, batch {round}: refused without a reason"),
            Err(error) => panic!("seed {seed}, batch {round}: {error}"),
        }
        if random.below(40) == 0 {
            store = reopen(store);
        }
        let key = random.key();
        assert!(store.get(&key).unwrap() == model.get(&key).cloned(), "seed {seed}, batch {round}: key {key:?}");
        if round % 50 == 0 || round + 1 == batches {
            let expected: Vec<_> = model.iter().map(|(key, stored)| (key.clone(), stored.value.clone())).collect();
            assert!(everything(&*store, b"") == expected, "seed {seed}, batch {round}: the whole content");
            assert_eq!(store.sequence().unwrap(), sequence);
        }
    }
}

fn apply(model: &mut Model, batch: &Batch, revision: CommitSeq) {
    for op in &batch.ops {
        match op {
            super::Op::Put { key, value } => model.insert(key.clone(), Stored { value: value.clone(), revision }),
            super::Op::Delete { key } => model.remove(key),
        };
    }
}

/// All records below `prefix`, after a check that the heads are the heads of these records.
fn everything(store: &dyn Store, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut records, mut heads) = (Vec::new(), Vec::new());
    store
        .scan(prefix, &mut |key, value| {
            records.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    store
        .scan_heads(prefix, &mut |key, head| {
            heads.push((key.to_vec(), head.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    let expected: Vec<_> = records.iter().map(|(k, v)| (k.clone(), v[..v.len().min(HEAD_BYTES)].to_vec())).collect();
    assert!(heads == expected, "heads are the first {HEAD_BYTES} bytes of the values");
    records
}

/// Bytes that depend on the position and on `salt`, so that a piece in the wrong place is noticed.
#[must_use]
pub fn pattern(size: usize, salt: u64) -> Vec<u8> {
    let mut random = Random::new(salt);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&random.bits().to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A repeatable generator (SplitMix64); for tests only.
pub struct Random(u64);

impl Random {
    /// Starts from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.bits() % u64::from(limit)).unwrap_or(0)
    }

    fn key(&mut self) -> Vec<u8> {
        let stem = [&b""[..], b"a", b"a/", b"\xff", b"c\0\x01a"];
        let mut key = stem[usize::try_from(self.below(5)).unwrap()].to_vec();
        let n = self.below(12);
        if n > 0 {
            key.extend_from_slice(&n.to_be_bytes()[2..]);
        }
        key
    }

    fn size(&mut self) -> usize {
        let limit = [1, 100, 100, 3_100, 9_100, 30_000][usize::try_from(self.below(6)).unwrap()];
        usize::try_from(self.below(limit)).unwrap()
    }
}
