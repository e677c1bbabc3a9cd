//! Parses shares, amounts of memory and durations as people write them. The command line, highwater.toml and sweep files
//! all use these functions, so that each accepts the same texts and refuses others in the same words.
//!
//! A task.json is stricter: it holds Kubernetes quantities, see [`quantity`](super::quantity).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::quantity::QuantityError;
use super::units::Bytes;

/// The range of [`relative_share`].
pub const RELATIVE: RangeInclusive<f64> = 0.001..=10.0;

/// Parses a share that may be above 1, as growth is: `3%`, `150 %` or `0.03`.
///
/// # Errors
/// What is expected.
pub fn relative_share(text: &str) -> Result<f64, String> {
    share(text, &RELATIVE, "3% or 0.03")
}

/// Parses a small share, such as a precision or a rate of failures: `1%`, `0.5 %` or `0.01`.
///
/// # Errors
/// What is expected.
pub fn small_share(text: &str) -> Result<f64, String> {
    share(text, &(1e-4..=0.5), "1% or 0.01")
}

fn share(text: &str, range: &RangeInclusive<f64>, examples: &str) -> Result<f64, String> {
    let text = text.trim();
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse().ok().map(|percent: f64| percent / 100.0),
        // `3` is meant as 3 %, not as 300 %.
        None => text.parse().ok().filter(|share| *share < 1.0),
    };
    share.filter(|share| range.contains(share)).ok_or_else(|| {
        let [least, most] = [range.start(), range.end()].map(|bound| bound * 100.0);
        format!("expected a share from {least}% to {most}%, such as {examples}")
    })
}

/// Parses an amount of memory: `512Mi`, `2G` or `1.5 GB`.
///
/// # Errors
/// What was found, and what to write instead.
pub fn amount(text: &str) -> Result<Bytes, QuantityError> {
    text.parse()
}

/// Parses an amount of memory above 0.
///
/// # Errors
/// What was found, and what to write instead.
pub fn positive_amount(text: &str) -> Result<Bytes, QuantityError> {
    at_least(text, Bytes(1), "a positive amount, such as 4MiB")
}

/// Parses a memory limit: at least one page, which is what the kernel counts.
///
/// # Errors
/// What was found, and what to write instead.
pub fn limit(text: &str) -> Result<Bytes, QuantityError> {
    at_least(text, Bytes(4096), "at least 4KiB, one page")
}

/// Parses the value of a parameter as a number: `12`, `0.5` or `1e6`, or an amount such as `512Mi` in bytes.
pub fn number(text: &str) -> Option<f64> {
    let plain = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    plain.or_else(|| amount(text).ok().map(|bytes| bytes.0 as f64))
}

fn at_least(text: &str, least: Bytes, expected: &str) -> Result<Bytes, QuantityError> {
    amount(text).and_then(|bytes| if bytes < least { Err(QuantityError::too_small(text, expected)) } else { Ok(bytes) })
}

/// Parses a duration: `1h30m`, `250ms` or `5 seconds`.
///
/// # Errors
/// What is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration such as 90s, 250ms or 1h30m";
    let duration: jiff::SignedDuration = text.trim().parse().map_err(|_| expected.to_owned())?;
    Duration::try_from(duration).map_err(|_| format!("{expected}, but not a negative one"))
}

/// Parses a positive duration, in microseconds, as the amounts of a fit are counted.
///
/// # Errors
/// What is expected.
pub fn microseconds(text: &str) -> Result<Bytes, String> {
    let us = u64::try_from(duration(text)?.as_micros()).unwrap_or(u64::MAX);
    if us == 0 { Err("expected a positive duration, such as 500ms".to_owned()) } else { Ok(Bytes(us)) }
}

/// Parses a number of cores, such as `0.5`, in millionths of a core, as the amounts of a fit are counted.
///
/// # Errors
/// What is expected.
pub fn cores(text: &str) -> Result<Bytes, String> {
    let cores = text.trim().parse().ok().filter(|cores| (1e-6..=1e6).contains(cores));
    let cores: f64 = cores.ok_or("expected a positive number of cores, such as 0.5")?;
    Ok(Bytes((cores * 1e6).round() as u64))
}
