use proptest::prelude::*;

use super::*;

const TEN_YEARS_MS: u64 = 10 * 366 * 86_400_000;
const START_MS: u64 = 1_750_000_000_000;

/// The same promise, counted out: one step per millisecond, thousandths of a token times the interval as the unit.
struct Model {
    rate: Rate,
    level: u128,
}

impl Model {
    fn new(rate: Rate) -> Self {
        Self { rate, level: u128::from(rate.burst) * 1_000 * u128::from(rate.interval_ms) }
    }

    fn pass(&mut self, ms: u64) {
        let full = u128::from(self.rate.burst) * 1_000 * u128::from(self.rate.interval_ms);
        for _ in 0..ms {
            self.level = (self.level + u128::from(self.rate.milli)).min(full);
        }
    }

    fn take(&mut self) -> bool {
        let token = 1_000 * u128::from(self.rate.interval_ms);
        let there = self.level >= token;
        if there {
            self.level -= token;
        }
        there
    }
}

fn rates() -> impl Strategy<Value = Rate> {
    (1..5_000_000_u64, 1..5_000_u64, 1..50_u64).prop_map(|(milli, interval_ms, burst)| Rate {
        milli,
        interval_ms,
        burst,
        block_ms: 0,
    })
}

/// How many are to be had at once.
fn drain(bucket: &mut Bucket, rate: &Rate, now_ms: u64) -> u64 {
    let mut taken = 0;
    while bucket.take(rate, now_ms).is_ok() {
        taken += 1;
        assert!(taken <= rate.burst, "more than a burst at once");
    }
    taken
}

proptest! {
    #[test]
    fn it_does_as_the_model(rate in rates(), steps in prop::collection::vec((0..3_000_u64, 1..6_u8), 1..40)) {
        let (mut bucket, mut model, mut now_ms) = (Bucket::full(&rate, START_MS), Model::new(rate), START_MS);
        for (pass_ms, asks) in steps {
            now_ms += pass_ms;
            model.pass(pass_ms);
            for _ in 0..asks {
                prop_assert_eq!(bucket.take(&rate, now_ms).is_ok(), model.take());
            }
        }
    }

    #[test]
    fn the_wait_it_names_is_exact(rate in rates(), pass_ms in 0..3_000_u64) {
        let mut bucket = Bucket::full(&rate, START_MS);
        drain(&mut bucket, &rate, START_MS);
        let now_ms = START_MS + pass_ms;
        if let Err(wait_ms) = bucket.take(&rate, now_ms) {
            prop_assert!(wait_ms > 0);
            let mut early = bucket;
            prop_assert!(early.take(&rate, now_ms + wait_ms - 1).is_err());
            prop_assert!(bucket.take(&rate, now_ms + wait_ms).is_ok());
        }
    }

    #[test]
    fn no_clock_gives_more_than_a_burst_or_blocks_for_good(
        rate in rates(),
        block_ms in prop::sample::select(vec![0, 1_000, 300_000_u64]),
        jumps in prop::collection::vec((any::<bool>(), 0..TEN_YEARS_MS), 1..8),
    ) {
        let rate = Rate { block_ms, ..rate };
        let (mut bucket, mut now_ms) = (Bucket::full(&rate, START_MS), START_MS);
        drain(&mut bucket, &rate, now_ms);
        for (forwards, by_ms) in jumps {
            now_ms = if forwards { now_ms.saturating_add(by_ms) } else { now_ms.saturating_sub(by_ms) };
            prop_assert!(drain(&mut bucket, &rate, now_ms) <= rate.burst);
            let wait_ms = bucket.take(&rate, now_ms).expect_err("empty now");
            let token_ms = (1_000 * rate.interval_ms).div_ceil(rate.milli);
            prop_assert!(wait_ms <= token_ms.max(rate.block_ms));
            // An interval for times that are out of order, and what was named.
            let mut later = bucket;
            prop_assert!(later.take(&rate, now_ms + rate.interval_ms + wait_ms).is_ok());
        }
    }

    #[test]
    fn times_out_of_order_give_nothing_twice(rate in rates(), order in prop::collection::vec(0..1_000_u64, 1..60)) {
        let rate = Rate { interval_ms: 1_000, ..rate };
        let mut bucket = Bucket::full(&rate, START_MS);
        let mut taken = 0;
        for offset_ms in order {
            taken += drain(&mut bucket, &rate, START_MS + offset_ms);
        }
        // A burst, and what an interval brings.
        prop_assert!(taken <= rate.burst + rate.milli.div_ceil(1_000));
    }

    #[test]
    fn debts_end(rate in rates(), tokens in any::<u64>()) {
        let mut bucket = Bucket::full(&rate, START_MS);
        bucket.charge(&rate, START_MS, tokens);
        bucket.charge(&rate, START_MS, tokens);
        match bucket.peek(&rate, START_MS) {
            Ok(()) => prop_assert!(tokens < rate.burst),
            Err(wait_ms) => {
                prop_assert!(wait_ms <= MAX_DEBT_MS.max(rate.interval_ms) + 1);
                prop_assert!(bucket.peek(&rate, START_MS + wait_ms).is_ok());
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow(milli in any::<u64>(), interval_ms in any::<u64>(), burst in any::<u64>(),
        block_ms in any::<u64>(), times in prop::collection::vec(any::<u64>(), 1..8)) {
        let rate = Rate { milli, interval_ms, burst, block_ms };
        let mut bucket = Bucket::full(&rate, 0);
        for now_ms in times {
            let _ = bucket.take(&rate, now_ms);
            bucket.charge(&rate, now_ms, u64::MAX);
            let _ = bucket.peek(&rate, now_ms);
            let _ = bucket.is_idle(&rate, now_ms);
        }
    }
}

#[test]
fn a_block_holds_and_ends() {
    let rate = Rate { block_ms: 300_000, ..Rate::per_second(10, 2) };
    let mut bucket = Bucket::full(&rate, START_MS);
    drain(&mut bucket, &rate, START_MS);
    assert_eq!(bucket.take(&rate, START_MS + 1_000), Err(299_000), "tokens came, the block holds");
    assert_eq!(bucket.take(&rate, START_MS + 299_999), Err(1));
    assert_eq!(bucket.take(&rate, START_MS + 300_000), Ok(()));
}

#[test]
fn idle_is_full() {
    let rate = Rate::per_second(10, 20);
    let mut bucket = Bucket::full(&rate, START_MS);
    assert!(bucket.is_idle(&rate, START_MS));
    drain(&mut bucket, &rate, START_MS);
    assert!(!bucket.is_idle(&rate, START_MS + 1_999));
    assert!(bucket.is_idle(&rate, START_MS + 2_000));
}
