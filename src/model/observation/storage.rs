//! What a run left on disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// The files that a run left behind, in bytes, as of its end: a lower bound of what it needed, because files that it removed
/// before are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Storage {
    /// The files in its output channels, or in `{output}` of a command.
    pub outputs_bytes: Reading<Bytes>,
    /// The writable layer of its container (`SizeRw` of the engine): what it changed outside of mounts.
    pub writable_layer_bytes: Reading<Bytes>,
}

impl Storage {
    /// Nothing was read.
    pub const UNREAD: Self = Self { outputs_bytes: Reading::Unsupported, writable_layer_bytes: Reading::Unsupported };

    /// Both together, as far as they were read; `None` if neither was.
    pub fn total(self) -> Option<Bytes> {
        let parts = [self.outputs_bytes, self.writable_layer_bytes].into_iter().filter_map(Reading::value);
        parts.reduce(Bytes::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_read_is_not_zero() {
        assert_eq!(Storage::UNREAD.total(), None);
        let outputs = Storage { outputs_bytes: Reading::Value(Bytes(7)), ..Storage::UNREAD };
        assert_eq!(outputs.total(), Some(Bytes(7)));
        let both = Storage { writable_layer_bytes: Reading::Value(Bytes(5)), ..outputs };
        assert_eq!(both.total(), Some(Bytes(12)));
    }
}
