//! Passwords: uniform over all texts that satisfy the operator's rules.
//!
//! Without `require` every character is drawn on its own. With it, "place the required characters, fill up, shuffle"
//! would favour texts with more than the required characters, because they arise in more ways. Drawing whole texts
//! until one satisfies the rules is exact but may never end. So the text is drawn in an order that can be counted:
//!
//! 1. how many characters of each class: a split (n1..n4) of the length stands for L!/(n1!..n4!) * a1^n1 * .. * a4^n4
//!    texts (a = characters the alphabet has of the class), and is drawn with exactly that weight among the splits
//!    that satisfy the counts;
//! 2. for each class its characters, uniformly;
//! 3. the order of all, by a uniform shuffle.
//!
//! Given the split, steps 2 and 3 produce each of its texts with probability (n1!..n4!/L!) / (a1^n1 * .. * a4^n4), the
//! reciprocal of the weight. So every allowed text has the same probability. The weights are logarithms in doubles: at
//! 1,024 characters they are below 10^4 with steps below 2^-39. A probability is therefore off by less than one part in
//! 10^9, which nobody can observe. The same sum over all splits is the number of allowed texts, from which the entropy
//! follows.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::class::Class;
use super::draw::Draw;
use super::error::{GenerateError, Generated, LEAST_ENTROPY_BITS};
use crate::api::secret::SecretText;
use crate::crypto::random::Random;
use crate::wiped::Buffer;

/// Characters that a password may have. In JSON a list of classes or a text of characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Alphabet {
    /// All characters of these classes.
    Classes(Vec<Class>),
    /// Exactly these characters.
    Custom(String),
}

impl Default for Alphabet {
    /// Letters and digits, which need no quoting in shells, URLs and configuration files.
    fn default() -> Self {
        Self::Classes(vec![Class::Lower, Class::Upper, Class::Digits])
    }
}

impl<'de> Deserialize<'de> for Alphabet {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Alphabet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of classes (lower, upper, digits, symbols) or a text of characters")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Alphabet, E> {
                Ok(Alphabet::Custom(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Alphabet, A::Error> {
                let mut classes = Vec::new();
                while let Some(class) = list.next_element()? {
                    // A longer list has duplicates, which the check rejects anyway.
                    if classes.len() <= Class::ALL.len() {
                        classes.push(class);
                    }
                }
                Ok(Alphabet::Classes(classes))
            }
        }
        from.deserialize_any(Either)
    }
}

/// Options of `password`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Password {
    /// Number of characters, 8 to 1,024; 32 by default.
    pub length: u32,
    /// Characters to use; letters and digits by default.
    pub alphabet: Alphabet,
    /// Characters to leave out, for example `0O1lI`.
    pub exclude: String,
    /// Minimum number of characters of each class.
    pub require: BTreeMap<Class, u32>,
}

impl Default for Password {
    fn default() -> Self {
        Self { length: 32, alphabet: Alphabet::default(), exclude: String::new(), require: BTreeMap::new() }
    }
}

fn printable(text: &str, field: &'static str) -> Result<(), GenerateError> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err(GenerateError::NotPrintable(field)) }
}

impl Password {
    /// See [`Generator::check`](super::Generator::check).
    pub(super) fn check(&self) -> Result<(), GenerateError> {
        self.plan().map(|_| ())
    }

    fn plan(&self) -> Result<Composition, GenerateError> {
        let length = usize::try_from(self.length).map_err(|_| GenerateError::Length)?;
        if !(8..=1_024).contains(&length) {
            return Err(GenerateError::Length);
        }
        let set = self.characters()?;
        let mut classes = Vec::with_capacity(Class::ALL.len());
        let mut required = 0usize;
        for class in Class::ALL {
            let least = self.require.get(&class).copied().unwrap_or_default();
            let least = usize::try_from(least).map_err(|_| GenerateError::RequireTooMany)?;
            let set: Vec<u8> = set.iter().copied().filter(|byte| class.holds(*byte)).collect();
            if least > 0 && set.is_empty() {
                return Err(GenerateError::ClassMissing(class));
            }
            required = required.saturating_add(least);
            if !set.is_empty() {
                classes.push(Part { set, least });
            }
        }
        if required > length {
            return Err(GenerateError::RequireTooMany);
        }
        // The entropy is that of all passwords which fulfil the requirements: fewer than the alphabet alone would
        // allow.
        let free = required == 0;
        let counts = if free { Vec::new() } else { count(&classes, length) };
        let log = match counts.first().and_then(|row| row.get(length)) {
            Some(log) => *log,
            None => whole(length) * whole(set.len()).ln(),
        };
        let plan = Composition { length, set, classes, counts, bits: bits(log) };
        if plan.bits < LEAST_ENTROPY_BITS {
            return Err(GenerateError::Weak { bits: plan.bits });
        }
        Ok(plan)
    }

    /// The allowed characters, each once.
    fn characters(&self) -> Result<Vec<u8>, GenerateError> {
        printable(&self.exclude, "exclude")?;
        let all: Vec<u8> = match &self.alphabet {
            Alphabet::Custom(text) => {
                printable(text, "alphabet")?;
                let mut seen = [false; 128];
                for byte in text.bytes() {
                    let seen = seen.get_mut(usize::from(byte)).ok_or(GenerateError::NotPrintable("alphabet"))?;
                    if std::mem::replace(seen, true) {
                        return Err(GenerateError::Duplicate);
                    }
                }
                text.bytes().collect()
            }
            Alphabet::Classes(classes) => {
                let twice = |class: &Class| classes.iter().filter(|other| *other == class).count() > 1;
                if classes.iter().any(twice) {
                    return Err(GenerateError::Duplicate);
                }
                (b'!'..=b'~').filter(|byte| classes.iter().any(|class| class.holds(*byte))).collect()
            }
        };
        let left: Vec<u8> = all.into_iter().filter(|byte| !self.exclude.as_bytes().contains(byte)).collect();
        if left.is_empty() { Err(GenerateError::AlphabetEmpty) } else { Ok(left) }
    }

    /// See [`Generator::generate`](super::Generator::generate).
    pub(super) fn generate(&self, random: &dyn Random) -> Result<Generated, GenerateError> {
        let plan = self.plan()?;
        let mut draw = Draw::new(random);
        let mut text = Buffer::with_capacity(plan.length);
        if plan.counts.is_empty() {
            for _ in 0..plan.length {
                text.push(draw.pick(&plan.set)?);
            }
        } else {
            for (part, many) in plan.classes.iter().zip(plan.split(|| draw.unit())?) {
                for _ in 0..many {
                    text.push(draw.pick(&part.set)?);
                }
            }
            draw.shuffle(&mut text)?;
        }
        let value = SecretText::from_utf8_lossy(&*text);
        Ok(Generated { value, public: None })
    }
}

/// One class of the alphabet.
struct Part {
    set: Vec<u8>,
    least: usize,
}

struct Composition {
    length: usize,
    set: Vec<u8>,
    classes: Vec<Part>,
    /// `counts[i][m]` is the logarithm of the number of texts of length m over the classes from i on that satisfy the
    /// counts of these classes. Empty when nothing is required.
    counts: Vec<Vec<f64>>,
    /// The logarithm of the number of equally likely passwords, rounded down.
    bits: u32,
}

impl Composition {
    /// Draws the number of characters of each class; see the head of this file.
    fn split(&self, mut unit: impl FnMut() -> Result<f64, GenerateError>) -> Result<Vec<usize>, GenerateError> {
        let factorials = log_factorials(self.length);
        let mut left = self.length;
        let mut split = Vec::with_capacity(self.classes.len());
        for (at, part) in self.classes.iter().enumerate() {
            let weights = row(part, self.counts.get(at + 1), left, &factorials);
            let total = log_sum(&weights);
            let mut point = unit()?;
            let mut chosen = None;
            for (many, weight) in weights.iter().enumerate().filter(|(_, weight)| weight.is_finite()) {
                // Rounding may leave a point beyond the last weight. It belongs to the last possible count.
                chosen = Some(many);
                point -= (weight - total).exp();
                if point < 0.0 {
                    break;
                }
            }
            let many = chosen.ok_or(GenerateError::RequireTooMany)?;
            split.push(many);
            left -= many;
        }
        Ok(split)
    }
}

/// Converts a small count to a float. This is exact, because lengths end at 1,024.
fn whole(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Converts a natural logarithm to whole bits, rounded down. The margin keeps a rounding error from adding a bit.
fn bits(log: f64) -> u32 {
    let bits = (log / std::f64::consts::LN_2 + 1e-9).floor();
    // At most 1,024 of 94 characters give less than 7,000. A cast from float saturates and converts NaN to zero.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bits = bits as u32;
    bits
}

fn log_factorials(most: usize) -> Vec<f64> {
    let mut sum = 0.0;
    (0..=most)
        .map(|number| {
            sum += whole(number.max(1)).ln();
            sum
        })
        .collect()
}

fn log_sum(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + logs.iter().map(|log| (log - most).exp()).sum::<f64>().ln()
}

/// For each count 0..=`length` of `part`: the logarithm of the number of texts of `length` over `part` and the classes
/// after it that contain exactly this count of `part`. `rest` holds these numbers for the classes after it.
fn row(part: &Part, rest: Option<&Vec<f64>>, length: usize, factorials: &[f64]) -> Vec<f64> {
    let factorial = |number: usize| factorials.get(number).copied().unwrap_or(f64::NEG_INFINITY);
    let each = whole(part.set.len()).ln();
    (0..=length)
        .map(|many| {
            let behind = match rest {
                Some(rest) => rest.get(length - many).copied().unwrap_or(f64::NEG_INFINITY),
                // After the last class only the empty text is left.
                None if many == length => 0.0,
                None => f64::NEG_INFINITY,
            };
            if many < part.least || behind == f64::NEG_INFINITY {
                return f64::NEG_INFINITY;
            }
            factorial(length) - factorial(many) - factorial(length - many) + whole(many) * each + behind
        })
        .collect()
}

/// Computes [`Composition::counts`]: at most four classes times 1,025 lengths of at most 1,025 terms.
fn count(classes: &[Part], length: usize) -> Vec<Vec<f64>> {
    let factorials = log_factorials(length);
    let mut table: Vec<Vec<f64>> = Vec::with_capacity(classes.len());
    for part in classes.iter().rev() {
        let rest = table.last();
        let first = table.len() + 1 == classes.len();
        let lengths = (0..=length).map(|shorter| {
            // For the first class only the full length is ever used.
            if first && shorter < length {
                return f64::NEG_INFINITY;
            }
            log_sum(&row(part, rest, shorter, &factorials))
        });
        let lengths = lengths.collect();
        table.push(lengths);
    }
    table.reverse();
    table
}

/// The split alone, for a test: even the shortest allowed password has too many texts to count.
#[cfg(test)]
pub(super) mod tests_only {
    use super::*;

    /// Entropy of what `password` generates, in whole bits.
    pub(in super::super) fn bits(password: &Password) -> u32 {
        password.plan().unwrap().bits
    }

    /// How often each number of characters of the first class came up.
    pub(in super::super) fn splits(password: &Password, random: &dyn Random, times: u32) -> Vec<u32> {
        let set = password.characters().unwrap();
        let part = |class: Class| Part {
            set: set.iter().copied().filter(|byte| class.holds(*byte)).collect(),
            least: password.require.get(&class).map_or(0, |least| *least as usize),
        };
        let length = password.length as usize;
        let classes = vec![part(Class::Lower), part(Class::Digits)];
        let counts = count(&classes, length);
        let plan = Composition { length, set, classes, counts, bits: 0 };
        let mut draw = Draw::new(random);
        let mut seen = vec![0; length + 1];
        for _ in 0..times {
            seen[plan.split(|| draw.unit()).unwrap()[0]] += 1;
        }
        seen
    }
}
