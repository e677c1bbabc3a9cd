//! Redacts values of command arguments in records and plans.

use crate::calibrate::failure::Failure;

/// The placeholder for a redacted value.
const REDACTED: &str = "***";

/// The command with the values of the named arguments redacted.
///
/// # Errors
/// The command has no argument of such a name, so its value would be recorded under another one.
pub fn redact(command: &[String], names: &[String]) -> Result<Vec<String>, Failure> {
    let mut redacted = command.to_vec();
    for name in names {
        let values = values(command, name);
        if values.is_empty() {
            let help = format!(
                "name an option of the command: --redact {0} is for `--{0} VALUE`, `--{0}=VALUE` and `{0}=VALUE`",
                bare(name)
            );
            return Err(Failure::usage(format!("the command has no argument `{name}` to redact"), help));
        }
        for (place, start) in values {
            redacted[place].truncate(start);
            redacted[place].push_str(REDACTED);
        }
    }
    Ok(redacted)
}

/// The first of these arguments whose value is missing from a command that was read from a plan.
pub fn missing<'a>(command: &[String], names: &'a [String]) -> Option<&'a str> {
    let is_missing = |name: &&String| {
        values(command, name).into_iter().any(|(place, start)| command[place].get(start..) == Some(REDACTED))
    };
    names.iter().find(is_missing).map(String::as_str)
}

/// The values of an argument: the index of the word, and the offset in it at which the value starts.
fn values(command: &[String], name: &str) -> Vec<(usize, usize)> {
    let name = bare(name);
    let start = |place: usize, word: &String| {
        let is_value = place > 0 && command[place - 1].starts_with('-') && bare(&command[place - 1]) == name;
        if is_value {
            return Some(0);
        }
        let rest = bare(word).strip_prefix(name)?;
        let dashes = word.len() - bare(word).len();
        match rest.chars().next()? {
            '=' => Some(word.len() - rest.len() + 1),
            // As in `-pVALUE`.
            _ if dashes == 1 && name.chars().count() == 1 => Some(word.len() - rest.len()),
            _ => None,
        }
    };
    // The first word is the program, but with an image it can be an argument.
    let is_argument = |place: usize, word: &str| place > 0 || word.starts_with('-') || word.contains('=');
    let words = command.iter().enumerate().filter(|(place, word)| is_argument(*place, word));
    words.filter_map(|(place, word)| Some((place, start(place, word)?))).collect()
}

fn bare(name: &str) -> &str {
    name.trim_start_matches('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn redacted(command: &str, names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        redact(&words(command), &names).unwrap().join(" ")
    }

    #[test]
    fn the_value_is_redacted_however_it_is_given() {
        for (command, names, expected) in [
            ("seg --token a {input}", &["token"][..], "seg --token *** {input}"),
            ("seg --token=a --token b", &["--token"], "seg --token=*** --token ***"),
            ("seg -p secret -u me", &["p"], "seg -p *** -u me"),
            ("seg -psecret --print", &["p"], "seg -p*** --print"),
            ("env PASSWORD=a=b seg", &["PASSWORD"], "env PASSWORD=*** seg"),
            ("seg --token-file f --token a", &["token"], "seg --token-file f --token ***"),
            ("seg --a 1 --b 2", &["a", "b"], "seg --a *** --b ***"),
            ("seg --a 1", &[], "seg --a 1"),
            // The arguments alone, for an image that has a program.
            ("--token=a b", &["token"], "--token=*** b"),
        ] {
            assert_eq!(redacted(command, names), expected, "{command}");
        }
    }

    #[test]
    fn a_name_that_redacts_nothing_is_an_error() {
        for command in ["seg --tokens a", "token a", "seg --token", "sh -c seg"] {
            assert!(redact(&words(command), &["token".to_owned()]).is_err(), "{command}");
        }
    }

    #[test]
    fn a_command_of_a_plan_says_what_it_misses() {
        let names = ["user".to_owned(), "token".to_owned()];
        assert_eq!(missing(&words("seg --user me --token ***"), &names), Some("token"));
        assert_eq!(missing(&words("seg --user me --token a"), &names), None);
    }
}
