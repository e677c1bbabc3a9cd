//! What a command takes, as time(1) reports it.

use std::fs;
use std::process::{Command, Stdio};

/// What a command took.
pub(crate) struct Measured {
    /// The most memory, in bytes.
    pub(crate) memory: u64,
    /// In seconds, in user mode and in the kernel.
    pub(crate) cpu: f64,
    /// In seconds.
    pub(crate) wall: f64,
    /// The exit status; `None` after a signal.
    pub(crate) status: Option<i32>,
}

/// Runs a command without input and output.
pub(crate) fn measure(command: &Command) -> Measured {
    let numbers = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut time = Command::new("time");
    time.args(["--quiet", "--format", "%M %U %S %e", "--output"]).arg(numbers.path());
    time.arg(command.get_program()).args(command.get_args());
    time.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        time.current_dir(directory);
    }
    time.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = time.status().expect("time(1) is installed").code();
    let text = fs::read_to_string(numbers.path()).expect("time(1) writes its numbers");
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [memory, user, system, wall] = *numbers.last_chunk().expect("time(1) writes four numbers");
    Measured { memory: memory as u64 * 1024, cpu: user + system, wall, status }
}
