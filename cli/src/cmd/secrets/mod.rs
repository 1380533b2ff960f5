//! Reading, writing, importing and running programs with secrets.

pub mod delete;
pub mod export;
pub mod get;
pub mod import;
pub mod list;
pub mod run;
pub mod set;
pub mod shred;
pub mod unset;
pub mod variable;
