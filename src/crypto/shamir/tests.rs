use proptest::prelude::*;

use super::*;
use crate::crypto::random::SeededRandom;

/// A second implementation over logarithm tables of the generator 3, written apart from the first.
struct Tables {
    log: [u8; 256],
    exp: [u8; 255],
}

impl Tables {
    fn new() -> Self {
        let (mut log, mut exp, mut power) = ([0; 256], [0; 255], 1u16);
        for at in 0..255u8 {
            exp[usize::from(at)] = u8::try_from(power).unwrap();
            log[usize::from(power)] = at;
            power ^= power << 1;
            if power > 255 {
                power ^= 0x11b;
            }
        }
        Self { log, exp }
    }

    fn mul(&self, a: u8, b: u8) -> u8 {
        if a == 0 || b == 0 {
            return 0;
        }
        let sum = usize::from(self.log[usize::from(a)]) + usize::from(self.log[usize::from(b)]);
        self.exp[sum % 255]
    }

    fn div(&self, a: u8, b: u8) -> u8 {
        let inverse = self.exp[(255 - usize::from(self.log[usize::from(b)])) % 255];
        self.mul(a, inverse)
    }

    fn at_zero(&self, points: &[&Point]) -> [u8; 32] {
        std::array::from_fn(|byte| {
            points.iter().fold(0, |sum, point| {
                let others = points.iter().filter(|other| other.x != point.x);
                let term = others
                    .fold(point.y.reveal()[byte], |term, other| self.div(self.mul(term, other.x), other.x ^ point.x));
                sum ^ term
            })
        })
    }
}

fn secret(bytes: [u8; 32]) -> Key {
    Key::fill_with(|out| *out = bytes)
}

#[test]
fn field_agrees_with_tables_everywhere() {
    let tables = Tables::new();
    for a in 0..=255 {
        for b in 0..=255 {
            assert_eq!(mul(a, b), tables.mul(a, b), "{a} {b}");
        }
        assert_eq!(mul(a, invert(a)), u8::from(a != 0));
    }
    // FIPS 197, section 4.2.
    assert_eq!((mul(0x57, 0x83), mul(0x57, 0x13)), (0xc1, 0xfe));
}

#[test]
fn bounds_hold() {
    let random = SeededRandom::new(1);
    for (k, n) in [(0, 3), (1, 3), (4, 3), (2, 33), (2, 0), (33, 33)] {
        assert!(matches!(split(&secret([1; 32]), k, n, &random), Err(CryptoError::Parameters(_))), "{k} of {n}");
    }
    let points = split(&secret([1; 32]), 2, 32, &random).unwrap();
    assert_eq!(points.iter().map(|point| point.x).collect::<Vec<_>>(), (1..=32).collect::<Vec<_>>());
    assert!(combine(&[]).is_err());
    let all: Vec<&Point> = points.iter().collect();
    assert_eq!(combine(&all).unwrap().reveal(), &[1; 32], "32 are the most");
    let more = Point { x: 33, y: secret([1; 32]) };
    assert!(combine(&[all.as_slice(), &[&more]].concat()).is_err());
    let zero = Point { x: 0, y: secret([1; 32]) };
    assert!(combine(&[&points[0], &zero]).is_err());
    assert!(combine(&[&points[0], &points[1], &points[0]]).is_err());
}

/// With one point missing every secret is equally possible: for each candidate there is a missing
/// point that leads to it. Counted over one byte with k = 2.
#[test]
fn fewer_points_leave_every_secret_possible() {
    let points = split(&secret([7; 32]), 2, 2, &SeededRandom::new(3)).unwrap();
    let mut seen = [false; 256];
    for guess in 0..=255 {
        let other = Point { x: 2, y: secret([guess; 32]) };
        let key = combine(&[&points[0], &other]).unwrap();
        seen[usize::from(key.reveal()[0])] = true;
    }
    assert!(seen.iter().all(|seen| *seen));
}

proptest! {
    #[test]
    fn any_k_of_n_give_the_secret(bytes: [u8; 32], seed: u64, n in 2u8..=32, k in 2u8..=32, order: u64) {
        let k = 2 + k % (n - 1);
        let wanted = secret(bytes);
        let mut points = split(&wanted, k, n, &SeededRandom::new(seed)).unwrap();
        // Any subset: sort by a hash of x and the drawn order.
        points.sort_by_key(|point| (u64::from(point.x) ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let chosen: Vec<&Point> = points.iter().take(usize::from(k)).collect();
        let found = combine(&chosen).unwrap();
        prop_assert_eq!(found.reveal(), wanted.reveal());
        let tables = Tables::new();
        prop_assert_eq!(found.reveal(), &tables.at_zero(&chosen));
        let all: Vec<&Point> = points.iter().collect();
        prop_assert!(combine(&all).unwrap().ct_eq(&wanted));
        let short = combine(&chosen[1..]).unwrap();
        prop_assert_ne!(short.reveal(), wanted.reveal());
        prop_assert_eq!(short.reveal(), &tables.at_zero(&chosen[1..]));
    }
}
