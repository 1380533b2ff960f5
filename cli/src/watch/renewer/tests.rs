use strongroom::enroll::schedule::{LONGEST_PAUSE_MS, SHORTEST_PAUSE_MS};

use super::*;
use crate::exit::Code;

const HOUR: u64 = 3_600_000;
/// When the first certificate was issued.
const START: u64 = 1_000 * HOUR;

fn leaf(number: u8, start: u64, life: u64) -> Leaf {
    Leaf {
        identity: None,
        fingerprint: [number; 32],
        key_fingerprint: [number; 32],
        key_type: None,
        // As the vault dates them.
        not_before_ms: start - strongroom::pki::BACKDATE_MS,
        not_after_ms: start + life,
    }
}

/// A vault that issues certificates of one life, or does not answer.
struct Fake {
    now: u64,
    life: u64,
    held: Leaf,
    away: bool,
    renewals: Vec<u64>,
    tries: Vec<u64>,
    learned: Vec<u64>,
    /// At this look there are other authorities.
    news_at: usize,
    replaced: usize,
    said: Vec<String>,
}

impl Fake {
    fn new(life: u64) -> Self {
        let (renewals, tries, said, learned, news_at) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), usize::MAX);
        Self {
            now: START,
            life,
            held: leaf(0, START, life),
            away: false,
            renewals,
            tries,
            learned,
            news_at,
            replaced: 0,
            said,
        }
    }

    /// Until so long after the start.
    fn run(&mut self, cycle: &mut Cycle, until: u64) {
        while self.now < START + until {
            let pause = cycle.step(self.now, 0, self);
            let pause = u64::try_from(pause.as_millis()).unwrap();
            assert!((SHORTEST_PAUSE_MS..=LONGEST_LOOK_MS).contains(&pause) || pause > 0, "{pause}");
            self.now += pause;
        }
    }
}

impl World for Fake {
    fn leaf(&mut self) -> Result<Leaf, Failure> {
        Ok(self.held.clone())
    }

    fn renew(&mut self) -> Result<Leaf, Failure> {
        self.tries.push(self.now);
        if self.away {
            return Err(Failure::new(Code::Unreachable, "nobody answers", ""));
        }
        self.renewals.push(self.now);
        self.held = leaf(u8::try_from(self.renewals.len()).unwrap(), self.now, self.life);
        Ok(self.held.clone())
    }

    fn learn(&mut self) -> bool {
        self.learned.push(self.now);
        self.learned.len() == self.news_at
    }

    fn replaced(&mut self) {
        self.replaced += 1;
    }

    fn say(&mut self, text: &str) {
        self.said.push(text.to_owned());
    }
}

#[test]
fn each_certificate_is_renewed_in_its_time() {
    let (mut world, mut cycle) = (Fake::new(24 * HOUR), Cycle::default());
    world.run(&mut cycle, 100 * HOUR);
    assert!((6..=7).contains(&world.renewals.len()), "{:?}", world.renewals);
    assert_eq!(world.replaced, world.renewals.len(), "each one opens a new connection");
    let mut before = START;
    for at in &world.renewals {
        assert!((at - before) * 3 <= 24 * HOUR * 2 && at - before > 12 * HOUR, "{:?}", world.renewals);
        before = *at;
    }
    assert!(world.said.is_empty());
}

#[test]
fn a_vault_that_is_away_is_asked_later_and_later_and_to_the_end() {
    let (mut world, mut cycle) = (Fake { away: true, ..Fake::new(24 * HOUR) }, Cycle::default());
    world.run(&mut cycle, 24 * HOUR);
    let pauses: Vec<u64> = world.tries.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(pauses[..4], [30_000, 60_000, 120_000, 240_000]);
    assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE_MS));
    assert!(world.tries.len() > 15 && world.tries.last().unwrap() + 10_000 > START + 24 * HOUR, "{:?}", world.tries);
    assert_eq!(world.said, ["the certificate could not be renewed: nobody answers; trying again"], "said once");
    // Also after the end: the vault may allow it.
    world.away = false;
    world.run(&mut cycle, 26 * HOUR);
    assert_eq!((world.renewals.len(), world.replaced), (1, 1));
    assert_eq!(world.said.last().unwrap(), "the certificate was renewed");
}

#[test]
fn what_others_renew_is_seen() {
    let (mut world, mut cycle) = (Fake::new(24 * HOUR), Cycle::default());
    world.run(&mut cycle, HOUR);
    world.held = leaf(9, START + HOUR, 24 * HOUR);
    world.run(&mut cycle, 2 * HOUR);
    assert_eq!((world.replaced, world.renewals.len()), (1, 0));
}

#[test]
fn other_authorities_are_learned_of_once_an_hour() {
    let (mut world, mut cycle) = (Fake { news_at: 3, ..Fake::new(24 * HOUR) }, Cycle::default());
    world.run(&mut cycle, 10 * HOUR);
    assert_eq!(world.learned.len(), 10, "{:?}", world.learned);
    assert_eq!(world.replaced, 1);
}

#[test]
fn a_clock_that_was_ahead_is_not_waited_for() {
    let (mut world, mut cycle) = (Fake::new(24 * HOUR), Cycle::default());
    world.run(&mut cycle, HOUR);
    // Ten years ahead nothing can be renewed: the server's certificate looks expired.
    (world.now, world.away) = (START + 87_660 * HOUR, true);
    world.run(&mut cycle, 87_661 * HOUR);
    (world.now, world.away) = (START + 2 * HOUR, false);
    world.learned.clear();
    world.run(&mut cycle, 24 * HOUR);
    assert_eq!(world.renewals.len(), 1, "{:?}", world.renewals);
    assert!(world.renewals[0] < START + 17 * HOUR && world.learned.len() > 12, "{:?}", world.learned);
}
