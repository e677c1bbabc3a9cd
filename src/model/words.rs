//! Durations and outcomes as text, the same in tables, messages and reports.

use nix::sys::signal::Signal;

use super::observation::Outcome;

/// For example `850 µs`, `523.4 ms`, `1.25 s`, `3 min 5 s` or `2 h 10 min`.
pub fn duration(us: u64) -> String {
    let seconds = us.saturating_add(500_000) / 1_000_000;
    // Each range ends where rounding would show a whole unit of the next.
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..999_950 => format!("{:.1} ms", us as f64 / 1e3),
        999_950..59_995_000 => format!("{:.2} s", us as f64 / 1e6),
        59_995_000..3_599_500_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Describes how a run ended, for example `exited with status 3`.
pub fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Exited { status: 0 } => "succeeded".to_owned(),
        Outcome::Exited { status } => format!("exited with status {status}"),
        Outcome::Signalled { signal } => format!("killed by {}", signal_name(signal)),
        Outcome::OomKilled => "out of memory".to_owned(),
        Outcome::TimedOut { after_us } => format!("timed out after {}", duration(after_us)),
        Outcome::Interrupted { signal } => format!("interrupted by {}", signal_name(signal)),
        Outcome::EngineLost => "lost with the container engine or the supervising highwater process".to_owned(),
    }
}

fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |name| format!("{name} (signal {number})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_people_use() {
        let times = [0, 850, 61_200, 523_449, 1_250_000, 185_000_000, 7_800_000_000];
        let words = ["0 µs", "850 µs", "61.2 ms", "523.4 ms", "1.25 s", "3 min 5 s", "2 h 10 min"];
        assert_eq!(times.map(duration), words);
    }

    #[test]
    fn durations_are_rounded_to_no_more_than_a_whole_unit() {
        assert_eq!([999_949, 999_950].map(duration), ["999.9 ms", "1.00 s"]);
        assert_eq!([59_994_999, 59_995_000].map(duration), ["59.99 s", "1 min 0 s"]);
        assert_eq!([3_599_499_999, 3_599_500_000].map(duration), ["59 min 59 s", "1 h 0 min"]);
        assert_eq!(duration(u64::MAX), "5124095576 h 1 min");
    }

    #[test]
    fn signals_have_their_name_and_number() {
        assert_eq!(outcome(Outcome::Signalled { signal: 11 }), "killed by SIGSEGV (signal 11)");
        assert_eq!(outcome(Outcome::Interrupted { signal: 40 }), "interrupted by signal 40");
    }
}
