//! `highwater run -- CMD` from end to end, on the machine the tests run on.
//!
//! The same tests run on this host and on other kernels (`tests/machine/run`), as root and as ordinary users. What a
//! host can do is said by `EXPECTED_PEAKS`: `exact`, `polled` (cgroups without a peak) or `sampled` (no cgroup to be had).
//! Every test holds for each of them: where a peak cannot be exact, it asks that nothing claims to be.

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
pub(crate) use trial::skip;
