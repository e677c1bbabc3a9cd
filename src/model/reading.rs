//! A value that may not be available.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The result of reading a number: a value that could not be read is never 0.
///
/// In JSON it is the value itself, or one of the strings `"unsupported"` and `"gone"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading<T> {
    /// It was read.
    Value(T),
    /// This kernel, cgroup version or way of measuring does not provide it.
    Unsupported,
    /// It existed; the process or cgroup it belongs to is gone.
    Gone,
}

impl<T> Reading<T> {
    /// The value, if available.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unsupported | Self::Gone => None,
        }
    }

    /// Borrows the value.
    pub const fn as_ref(&self) -> Reading<&T> {
        match self {
            Self::Value(value) => Reading::Value(value),
            Self::Unsupported => Reading::Unsupported,
            Self::Gone => Reading::Gone,
        }
    }

    /// Maps the value, if available.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Value(value) => Reading::Value(f(value)),
            Self::Unsupported => Reading::Unsupported,
            Self::Gone => Reading::Gone,
        }
    }

    /// This reading if it has a value, else the other.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Value(_) => self,
            Self::Unsupported | Self::Gone => other,
        }
    }
}

impl<T> From<Option<T>> for Reading<T> {
    /// `Unsupported` for `None`.
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unsupported, Self::Value)
    }
}

impl<T: fmt::Display> fmt::Display for Reading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Unsupported => f.pad("unsupported"),
            Self::Gone => f.pad("gone"),
        }
    }
}

impl<T: Serialize> Serialize for Reading<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Unsupported => serializer.serialize_str("unsupported"),
            Self::Gone => serializer.serialize_str("gone"),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Reading<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a value lacks fields, or is a string other than `unsupported` or `gone`")]
        enum Either<T> {
            Value(T),
            Word(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Value(value) => Ok(Self::Value(value)),
            Either::Word(word) if word == "unsupported" => Ok(Self::Unsupported),
            Either::Word(word) if word == "gone" => Ok(Self::Gone),
            Either::Word(word) => {
                Err(de::Error::invalid_value(de::Unexpected::Str(&word), &"a value, \"unsupported\" or \"gone\""))
            }
        }
    }
}

impl<T: JsonSchema> JsonSchema for Reading<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Reading_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({
            "description": "A value, or why it is missing: unsupported here, or gone before it could be read.",
            "anyOf": [value, {"enum": ["unsupported", "gone"]}]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_survives_json() {
        for reading in [Reading::Value(7_u64), Reading::Unsupported, Reading::Gone] {
            let text = serde_json::to_string(&reading).unwrap();
            assert_eq!(serde_json::from_str::<Reading<u64>>(&text).unwrap(), reading, "{text}");
        }
        assert!(serde_json::from_str::<Reading<u64>>("\"absent\"").is_err());
    }
}
