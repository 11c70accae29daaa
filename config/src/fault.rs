//! What is wrong with a configuration, where, and what to write instead.

use std::fmt;
use std::path::PathBuf;

/// One fault of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// 1-based line of the file that the fault is about.
    pub line: usize,
    /// Dotted path of the setting, for example `box.memory`; empty for a fault of the file's syntax.
    pub setting: String,
    /// What is wrong, in lower case and without a full stop.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// Every fault that one reading found, in the order of their lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    pub file: PathBuf,
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}: ", self.file.display(), fault.line)?;
            if !fault.setting.is_empty() {
                write!(f, "{}: ", fault.setting)?;
            }
            write!(f, "{}\n    {}", fault.problem, fault.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Why no [`Config`](crate::Config) came of a file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{}: cannot read the configuration: {source}", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Faults(#[from] Faults),
}
