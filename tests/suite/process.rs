//! `highwater run -- CMD` from end to end, on the machine that runs the tests.
//!
//! The same tests run on this host and on other kernels (`tests/machine/run`), as root and as ordinary users.
//! `EXPECTED_PEAKS` states what a host can do: `exact`, `polled` (cgroups without a peak) or `sampled` (no cgroup
//! available). Every test applies to all of them: if a peak cannot be exact, it checks that no output claims it is.

mod around;
mod cleanup;
mod doctor;
mod escape;
mod floor;
mod limit;
mod nested;
mod outcome;
mod peak;
mod reaper;
mod survivors;
mod trial;

pub(crate) use peak::folder_on_a_disk;
