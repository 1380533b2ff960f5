//! Ties the targets of `strongroom::testing` to libFuzzer. A campaign that has no corpus yet begins with the valid examples
//! of its target.

use std::path::Path;

pub use libfuzzer_sys;
use strongroom::testing::{TARGETS, Target};

/// The target with this name.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("strongroom::testing has a target of this name")
}

/// Writes the examples of a target into the empty folders among the arguments: those are the corpus to be filled.
pub fn plant(name: &str) {
    let folders = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    for folder in folders.filter(|folder| std::fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_none())) {
        for (number, example) in (target(name).examples)().iter().enumerate() {
            // Without them the campaign only starts further away.
            let _ = std::fs::write(Path::new(&folder).join(format!("example-{number}")), example);
        }
    }
}

/// One fuzz target.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::plant(stringify!($name)),
            |data: &[u8]| {
                ($crate::target(stringify!($name)).check)(data);
            }
        );
    };
}
