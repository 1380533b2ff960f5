//! When a certificate is renewed. Pure: times are Unix milliseconds, and randomness is an argument.

/// Shortest pause between two attempts, in milliseconds.
pub const SHORTEST_PAUSE_MS: u64 = 1_000;
/// Longest pause between two attempts, in milliseconds: one hour.
pub const LONGEST_PAUSE_MS: u64 = 3_600_000;
/// Pause after the first failure, in milliseconds. Each further failure doubles it.
const FIRST_PAUSE_MS: u64 = 30_000;

/// When to renew a certificate: after two thirds of its life, or up to a twentieth of its life earlier.
///
/// `random` selects a point in that twentieth, so that certificates issued together are not renewed together. The first
/// two bytes of the certificate's fingerprint are a good choice: its serial number is random, and every run gets the
/// same time.
#[must_use]
pub fn due_ms(not_before_ms: u64, not_after_ms: u64, random: u16) -> u64 {
    let life = u128::from(not_after_ms.saturating_sub(not_before_ms));
    let earlier = life / 20 * u128::from(random) / u128::from(u16::MAX);
    // At most the life itself, so it fits again.
    let after = u64::try_from(life * 2 / 3 - earlier).unwrap_or(u64::MAX);
    not_before_ms.saturating_add(after)
}

/// Whether less than a third of the life is left at `now_ms`. A program that renews by itself would have done so by
/// then.
#[must_use]
pub fn is_late(not_before_ms: u64, not_after_ms: u64, now_ms: u64) -> bool {
    let life = u128::from(not_after_ms.saturating_sub(not_before_ms));
    u128::from(not_after_ms.saturating_sub(now_ms)) * 3 < life || now_ms >= not_after_ms
}

/// The pause after failure number `failures` (counted from 1), when `left_ms` of the life are left. Starts at half a
/// minute and doubles with each failure up to an hour, but is never more than a quarter of the rest. `random` shortens
/// it by up to a quarter.
#[must_use]
pub fn pause_ms(failures: u32, left_ms: u64, random: u8) -> u64 {
    let grown = FIRST_PAUSE_MS.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE_MS);
    // An expired certificate has no rest to divide, so the pause only grows.
    let fitting = if left_ms == 0 { grown } else { grown.min(left_ms / 4) };
    let shorter = fitting / 4 * u64::from(random) / u64::from(u8::MAX);
    (fitting - shorter).max(SHORTEST_PAUSE_MS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn two_thirds_and_up_to_a_twentieth_earlier() {
        assert_eq!(due_ms(100, 100 + 3 * DAY, 0), 100 + 2 * DAY);
        assert_eq!(due_ms(100, 100 + 3 * DAY, u16::MAX), 100 + 2 * DAY - 3 * DAY / 20);
        assert_eq!(due_ms(5, 3, 9), 5, "the wrong way round is due at once");
    }

    #[test]
    fn late_is_less_than_a_third() {
        assert!(!is_late(0, 3 * DAY, 2 * DAY));
        assert!(is_late(0, 3 * DAY, 2 * DAY + 1));
        assert!(is_late(0, 3 * DAY, 3 * DAY) && is_late(7, 7, 7));
    }

    #[test]
    fn pauses_grow_and_leave_room_before_the_end() {
        let pauses: Vec<u64> = (1..9).map(|failures| pause_ms(failures, 30 * DAY, 0) / 1000).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1920, 3600]);
        assert_eq!(pause_ms(9, 400_000, 0), 100_000);
        assert_eq!(pause_ms(1, 1, 0), SHORTEST_PAUSE_MS);
        assert_eq!(pause_ms(u32::MAX, 0, 0), LONGEST_PAUSE_MS);
    }

    #[test]
    fn there_are_several_tries_in_what_is_left() {
        // Eight hours: due at two thirds, tried at each pause.
        let (mut now, end, mut tries) = (due_ms(0, DAY / 3, 0), DAY / 3, 0);
        while now < end {
            tries += 1;
            now += pause_ms(tries, end - now, 0);
        }
        assert!((10..60).contains(&tries), "{tries}");
    }

    proptest! {
        #[test]
        fn is_within_the_life_and_not_late(start in 0..u64::MAX / 2, life in 1_000..u64::MAX / 4, random: u16) {
            let due = due_ms(start, start + life, random);
            prop_assert!(due >= start + life / 2 && due < start + life);
            prop_assert!(!is_late(start, start + life, due));
        }

        #[test]
        fn any_numbers_are_taken(a: u64, b: u64, c: u64, random: u16, failures: u32, byte: u8) {
            let _ = due_ms(a, b, random);
            let _ = is_late(a, b, c);
            let pause = pause_ms(failures, a, byte);
            prop_assert!((SHORTEST_PAUSE_MS..=LONGEST_PAUSE_MS).contains(&pause));
        }
    }
}
