//! The types of environment variables.

use std::fmt;

/// The `type` of a template's environment variable. All values are strings: the type restricts their format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnvType {
    /// `true` or `false`, `yes` or `no`, `1` or `0`, in upper or lower case.
    Boolean,
    /// Any string.
    String,
    /// A whole number.
    Int,
}

impl EnvType {
    /// All of them, with their names in documents.
    pub const NAMES: [(&'static str, Self); 3] =
        [("boolean", Self::Boolean), ("string", Self::String), ("int", Self::Int)];

    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
        }
    }

    /// Whether a value has this type.
    pub fn accepts(self, value: &str) -> bool {
        match self {
            Self::Boolean => {
                ["true", "false", "yes", "no", "1", "0"].iter().any(|known| known.eq_ignore_ascii_case(value))
            }
            Self::String => true,
            Self::Int => {
                let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            }
        }
    }

    /// A description of the accepted values.
    pub fn expectation(self) -> &'static str {
        match self {
            Self::Boolean => "`true` or `false`",
            Self::String => "any string",
            Self::Int => "an integer",
        }
    }
}

impl fmt::Display for EnvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_look_like_their_type() {
        assert!(EnvType::Int.accepts("-12") && EnvType::Int.accepts("0"));
        assert!(!EnvType::Int.accepts("") && !EnvType::Int.accepts("1.5") && !EnvType::Int.accepts("-"));
        assert!(EnvType::Boolean.accepts("True") && EnvType::Boolean.accepts("0"));
        assert!(!EnvType::Boolean.accepts("") && !EnvType::Boolean.accepts("2"));
        assert!(EnvType::String.accepts(""));
    }
}
