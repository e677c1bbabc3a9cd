//! Moments in time.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// A moment, in records as RFC 3339 in UTC, such as `2026-01-31T12:00:00.5Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub(crate) jiff::Timestamp);

impl Timestamp {
    /// The beginning of 1970 in UTC.
    pub const UNIX_EPOCH: Self = Self(jiff::Timestamp::UNIX_EPOCH);

    /// The current time.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// The moment this many seconds after the beginning of 1970; `None` if that is beyond the year 9999.
    pub fn from_second(seconds: i64) -> Option<Self> {
        jiff::Timestamp::from_second(seconds).ok().map(Self)
    }

    /// Whole seconds since the beginning of 1970.
    pub fn as_second(self) -> i64 {
        self.0.as_second()
    }

    /// Whole microseconds since the beginning of 1970.
    pub fn as_microsecond(self) -> i64 {
        self.0.as_microsecond()
    }

    /// The day in UTC, such as `2026-01-31`.
    pub fn day(self) -> String {
        self.0.strftime("%F").to_string()
    }

    /// The time of day in UTC, such as `12:00`.
    pub fn minute(self) -> String {
        self.0.strftime("%H:%M").to_string()
    }

    /// The day and time in UTC for names of files, such as `20260131T120000`.
    pub fn compact(self) -> String {
        self.0.strftime("%Y%m%dT%H%M%S").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        text.parse().map(Self).map_err(|_| TimestampError::Malformed { text: text.to_owned() })
    }
}

impl TryFrom<SystemTime> for Timestamp {
    type Error = TimestampError;

    fn try_from(time: SystemTime) -> Result<Self, TimestampError> {
        jiff::Timestamp::try_from(time).map(Self).map_err(|_| TimestampError::OutOfRange)
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// A text or number is not a timestamp.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// The text is not a time.
    #[error("expected a time with its zone, such as 2026-01-31T12:00:00Z, found `{}`", .text.escape_debug())]
    Malformed {
        /// The text.
        text: String,
    },
    /// It is before the year -9999 or after the year 9999.
    #[error("expected a time between the years -9999 and 9999")]
    OutOfRange,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_it_was_read() {
        for text in ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123456789Z", "1969-12-31T23:59:59.5Z"] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time.to_string(), text);
            let json = format!("\"{text}\"");
            assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
            assert_eq!(serde_json::to_string(&time).unwrap(), json);
        }
        let time: Timestamp = "2026-01-31T13:00:00+01:00".parse().unwrap();
        assert_eq!((time.to_string(), time.day(), time.compact()), {
            ("2026-01-31T12:00:00Z".to_owned(), "2026-01-31".to_owned(), "20260131T120000".to_owned())
        });
    }

    #[test]
    fn what_is_no_time_is_named() {
        let error = "2026-01-31 noon".parse::<Timestamp>().unwrap_err().to_string();
        assert_eq!(error, "expected a time with its zone, such as 2026-01-31T12:00:00Z, found `2026-01-31 noon`");
        assert_eq!(Timestamp::from_second(i64::MAX), None);
    }
}
