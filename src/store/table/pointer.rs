//! Pointers into a JSON object, such as `/cpu/user_us`.

use serde_json::{Map, Value};

/// Splits a pointer into that of the parent and the name in it.
pub(super) fn split(pointer: &str) -> (&str, &str) {
    pointer.rsplit_once('/').unwrap_or(("", pointer))
}

/// The value at a pointer. `Value::pointer` would also unescape, but the names here have no escapes.
pub(super) fn get<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.trim_start_matches('/').split('/').try_fold(object, |value, name| match value {
        Value::Array(list) => list.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    })
}

/// Sets a value and creates its parents. If a parent is a string, nothing is set: an unread group has no parts.
pub(super) fn set(object: &mut Map<String, Value>, pointer: &str, value: Value) {
    let (first, rest) = match pointer.trim_start_matches('/').split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (pointer.trim_start_matches('/'), None),
    };
    let Some(rest) = rest else {
        object.insert(first.to_owned(), value);
        return;
    };
    let inner = object.entry(first).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(inner) = inner {
        set(inner, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_put_below_a_word() {
        let mut object = Map::new();
        set(&mut object, "/cpu/user_us", 5.into());
        set(&mut object, "/cpu/system_us", 6.into());
        set(&mut object, "/io", "gone".into());
        set(&mut object, "/io/read", 7.into());
        let expected = serde_json::json!({"cpu": {"user_us": 5, "system_us": 6}, "io": "gone"});
        assert_eq!(Value::Object(object), expected);
        assert_eq!(split("/cpu/user_us"), ("/cpu", "user_us"));
    }
}
