//! Limits by which runtimes with a garbage collector size themselves: options, variables and defaults.
//!
//! A collector may hardly run before its heap is full, as that of Java, so that the peak of such a task follows its setting
//! rather than its input.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Bytes;

/// The heap that the JVM takes at least where half of the memory is more: 96 MiB, times 1.3 on 64-bit machines
/// (`MaxHeapSize` and `ScaleForWordSize` of HotSpot).
const JAVA_LEAST: u64 = (96 << 20) * 13 / 10;
/// Above about this default, the JVM keeps the heap within what compressed pointers can address.
const JAVA_MOST: Bytes = Bytes(30 << 30);
/// The default of `-XX:MaxRAMPercentage`.
const JAVA_PERCENTAGE: f64 = 25.0;

/// A runtime that sizes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Runtime {
    /// A Java virtual machine.
    Java,
    /// The runtime of Go programs.
    Go,
    /// Node.js.
    Node,
    /// Julia.
    Julia,
    /// .NET.
    Dotnet,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Java => "Java",
            Self::Go => "Go",
            Self::Node => "Node.js",
            Self::Julia => "Julia",
            Self::Dotnet => ".NET",
        })
    }
}

/// The memory that a share refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ShareOf {
    /// The memory limit of the run.
    Limit,
    /// The memory of the machine.
    Machine,
}

/// The limit of a runtime in a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RuntimeLimit {
    /// The runtime.
    pub runtime: Runtime,
    /// The option or variable that sets the limit, as given; absent if it is the default of the runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// The limit, as far as known. The one of a share is approximate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// What the limit is a share of, if it is one and that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_of: Option<ShareOf>,
}

impl RuntimeLimit {
    /// What sets it: `-Xmx512m`, or `the default heap of Java`.
    pub fn source(&self) -> String {
        self.setting.clone().unwrap_or_else(|| format!("the default heap of {}", self.runtime))
    }
}

impl fmt::Display for RuntimeLimit {
    /// The limit in words: `-Xmx512m limits the heap of Java to 512 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runtime = self.runtime;
        match &self.setting {
            Some(setting) if runtime == Runtime::Go => write!(f, "{setting} limits the memory of {runtime}")?,
            Some(setting) => write!(f, "{setting} limits the heap of {runtime}")?,
            None => write!(f, "the heap of {runtime} is limited by default")?,
        }
        if let Some(bytes) = self.bytes {
            let about = if self.share_of.is_some() { "about " } else { "" };
            write!(f, " to {about}{bytes}")?;
        }
        match self.share_of {
            Some(ShareOf::Limit) => f.write_str(", a share of the memory limit"),
            Some(ShareOf::Machine) => f.write_str(", a share of the memory of this machine"),
            None => Ok(()),
        }
    }
}

/// What a command and its environment say about the limit of a runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    runtime: Runtime,
    text: Option<String>,
    amount: Amount,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    Bytes(Bytes),
    Percentage(f64),
    /// Not readable here, as a variable of a shell.
    Unknown,
}

impl Setting {
    /// The limit in a run with this much memory, if that is known.
    pub fn limit(self, memory: Option<(Bytes, ShareOf)>) -> RuntimeLimit {
        let Self { runtime, text: setting, amount } = self;
        let (bytes, share_of) = match amount {
            Amount::Bytes(bytes) => (Some(bytes), None),
            Amount::Percentage(percentage) => {
                let bytes = memory.map(|(bytes, _)| java_heap(bytes, percentage));
                let is_known = |bytes: &Bytes| setting.is_some() || *bytes <= JAVA_MOST;
                (bytes.filter(is_known), memory.map(|(_, of)| of))
            }
            Amount::Unknown => (None, None),
        };
        RuntimeLimit { runtime, setting, bytes, share_of }
    }
}

/// The largest heap of a JVM with this much memory: HotSpot's `Arguments::set_heap_size`.
fn java_heap(memory: Bytes, percentage: f64) -> Bytes {
    match memory.0 / 2 {
        half if half < JAVA_LEAST => Bytes(half),
        _ => Bytes(((memory.0 as f64 * percentage / 100.0) as u64).max(JAVA_LEAST)),
    }
}

/// Finds the limit of each runtime that a command and its environment set, and the default of `java`.
pub fn settings(command: &[String], env: &[(String, String)]) -> Vec<Setting> {
    let command = CommandLine::new(command, env);
    [java(&command), go(&command), node(&command), julia(&command), dotnet(&command)].into_iter().flatten().collect()
}

/// The words of a command.
struct CommandLine {
    words: Vec<String>,
    env: Vec<(String, String)>,
    /// The file names of the programs that it starts, as far as its words show.
    programs: Vec<String>,
}

impl CommandLine {
    /// Takes commands of shells and options with several words apart.
    fn new(command: &[String], env: &[(String, String)]) -> Self {
        let apart = |word: &String| match word.contains(char::is_whitespace) {
            true => shlex::split(word).unwrap_or_else(|| word.split_whitespace().map(str::to_owned).collect()),
            false => vec![word.clone()],
        };
        let words: Vec<String> = command.iter().flat_map(apart).collect();
        let mut all = Self { words: Vec::new(), env: env.to_vec(), programs: Vec::new() };
        let mut expects_program = true;
        for word in &words {
            if expects_program {
                expects_program = all.note_program(word);
            }
            expects_program |= [";", "&&", "||", "|", "&"].contains(&word.as_str()) || word.ends_with(';');
        }
        all.words = words;
        all
    }

    /// Takes a word where a program may be; returns whether it may still follow.
    fn note_program(&mut self, word: &str) -> bool {
        const BEFORE_OTHERS: [&str; 16] = [
            "sh",
            "bash",
            "dash",
            "ash",
            "zsh",
            "env",
            "exec",
            "export",
            "time",
            "timeout",
            "nice",
            "nohup",
            "ionice",
            "setsid",
            "tini",
            "dumb-init",
        ];
        if let Some((name, value)) = word.split_once('=').filter(|(name, _)| is_name(name)) {
            self.env.push((name.to_owned(), value.trim_end_matches(';').to_owned()));
            return true;
        }
        let name = Path::new(word).file_name().unwrap_or_default().to_string_lossy().into_owned();
        if BEFORE_OTHERS.contains(&name.as_str())
            || word.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
        {
            return true;
        }
        self.programs.push(name);
        false
    }

    /// The value of a variable; the last one counts.
    fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn starts(&self, program: &str) -> bool {
        self.programs.iter().any(|known| known == program)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// An option, as it is shown, and its value.
type Found<'a> = (String, &'a str);

/// The last of these options in the value of a variable.
fn in_variable<'a>(command: &'a CommandLine, variable: &str, prefixes: &[&str]) -> Option<Found<'a>> {
    let words = command.variable(variable)?.split_whitespace();
    let found = words.rev().find_map(|word| Some((word, after(word, prefixes)?)))?;
    Some((format!("{} in {variable}", found.0), found.1))
}

/// The last of these options in the words of the command.
fn in_words<'a>(command: &'a CommandLine, prefixes: &[&str]) -> Option<Found<'a>> {
    command.words.iter().rev().find_map(|word| Some((word.clone(), after(word, prefixes)?)))
}

fn after<'a>(word: &'a str, prefixes: &[&str]) -> Option<&'a str> {
    prefixes.iter().find_map(|prefix| word.strip_prefix(prefix)).filter(|value| !value.is_empty())
}

fn java(command: &CommandLine) -> Option<Setting> {
    let is_java = command.starts("java");
    // The launcher does not read JAVA_OPTS; scripts around it do.
    let has_options = !is_java || command.words.iter().any(|word| word.contains("JAVA_OPTS"));
    // What comes later counts more: HotSpot reads _JAVA_OPTIONS last.
    let find = |prefixes: &[&str]| {
        let options = if has_options { in_variable(command, "JAVA_OPTS", prefixes) } else { None };
        in_variable(command, "_JAVA_OPTIONS", prefixes)
            .or_else(|| in_words(command, prefixes))
            .or(options)
            .or_else(|| in_variable(command, "JDK_JAVA_OPTIONS", prefixes))
            .or_else(|| in_variable(command, "JAVA_TOOL_OPTIONS", prefixes))
    };
    let set = |(text, amount)| Setting { runtime: Runtime::Java, text: Some(text), amount };
    // A size counts more than a share, wherever it is.
    if let Some((text, value)) = find(&["-Xmx", "-XX:MaxHeapSize="]) {
        return Some(set((text, binary(value, 1))));
    }
    // These change what a share is of.
    let is_of_other = find(&["-XX:MaxRAM=", "-XX:MinRAMPercentage=", "-XX:Flags="]).is_some();
    if let Some((text, value)) = find(&["-XX:MaxRAMPercentage="]) {
        let share = value.parse().ok().filter(|share| !is_of_other && (0.0..=100.0).contains(share));
        return Some(set((text, share.map_or(Amount::Unknown, Amount::Percentage))));
    }
    if let Some((text, value)) = find(&["-XX:MaxRAMFraction="]) {
        let fraction = value.parse::<u32>().ok().filter(|fraction| *fraction > 0);
        let share = fraction.filter(|_| !is_of_other).map(|fraction| 100.0 / f64::from(fraction));
        return Some(set((text, share.map_or(Amount::Unknown, Amount::Percentage))));
    }
    // Options may come from a file or a variable of the shell.
    let may_have_others = is_of_other || command.words.iter().any(|word| word.starts_with(['@', '$']));
    let default = Setting { runtime: Runtime::Java, text: None, amount: Amount::Percentage(JAVA_PERCENTAGE) };
    (is_java && !may_have_others).then_some(default)
}

fn go(command: &CommandLine) -> Option<Setting> {
    let value = command.variable("GOMEMLIMIT").filter(|value| *value != "off")?;
    let is_amount = value.ends_with(|last: char| last == 'B' || last.is_ascii_digit());
    let amount = value.parse().ok().filter(|_| is_amount).map_or(Amount::Unknown, Amount::Bytes);
    Some(Setting { runtime: Runtime::Go, text: Some(format!("GOMEMLIMIT={value}")), amount })
}

fn node(command: &CommandLine) -> Option<Setting> {
    const NAMES: [&str; 2] = ["--max-old-space-size=", "--max_old_space_size="];
    let (text, value) = in_words(command, &NAMES).or_else(|| in_variable(command, "NODE_OPTIONS", &NAMES))?;
    Some(Setting { runtime: Runtime::Node, text: Some(text), amount: binary(value, 1 << 20) })
}

fn julia(command: &CommandLine) -> Option<Setting> {
    let variable = || {
        let value = command.variable("JULIA_HEAP_SIZE_HINT").filter(|value| !value.is_empty())?;
        Some((format!("JULIA_HEAP_SIZE_HINT={value}"), value))
    };
    let (text, value) = in_words(command, &["--heap-size-hint="]).or_else(variable)?;
    Some(Setting { runtime: Runtime::Julia, text: Some(text), amount: binary(value, 1) })
}

fn dotnet(command: &CommandLine) -> Option<Setting> {
    let names = ["DOTNET_GCHeapHardLimit", "COMPlus_GCHeapHardLimit"];
    let (name, value) = names.iter().find_map(|name| Some((name, command.variable(name)?)))?;
    let number = u64::from_str_radix(value.trim_start_matches("0x"), 16).ok();
    let amount = number.map_or(Amount::Unknown, |bytes| Amount::Bytes(Bytes(bytes)));
    Some(Setting { runtime: Runtime::Dotnet, text: Some(format!("{name}={value}")), amount })
}

/// An amount as the JVM reads it: `64m` is 64 MiB. Without a suffix, it counts in `unit` bytes.
fn binary(text: &str, unit: u64) -> Amount {
    let (digits, factor) = match text.to_ascii_lowercase().chars().last() {
        Some('k') => (&text[..text.len() - 1], 1 << 10),
        Some('m') => (&text[..text.len() - 1], 1 << 20),
        Some('g') => (&text[..text.len() - 1], 1 << 30),
        Some('t') => (&text[..text.len() - 1], 1 << 40),
        _ => (text, unit),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes.map_or(Amount::Unknown, |bytes| Amount::Bytes(Bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limits of a command with these variables, under a limit of 1 GiB.
    fn limits(command: &str, env: &[(&str, &str)]) -> Vec<String> {
        let env: Vec<(String, String)> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let memory = Some((Bytes::GIB, ShareOf::Limit));
        settings(&shlex::split(command).unwrap(), &env).into_iter().map(|one| one.limit(memory).to_string()).collect()
    }

    #[test]
    fn options_are_found_in_commands_and_scripts() {
        for (command, expected) in [
            ("java -Xmx64m -jar a.jar", "-Xmx64m limits the heap of Java to 64 MiB"),
            ("/usr/bin/java -Xmx64m -Xmx2g A", "-Xmx2g limits the heap of Java to 2 GiB"),
            ("java -XX:MaxHeapSize=1048576 A", "-XX:MaxHeapSize=1048576 limits the heap of Java to 1 MiB"),
            ("sh -c 'cd /in && exec java -Xmx1G A'", "-Xmx1G limits the heap of Java to 1 GiB"),
            ("gatk --java-options '-Xmx4g -XX:+UseSerialGC' Sort", "-Xmx4g limits the heap of Java to 4 GiB"),
            ("sh -c 'java -Xmx$HEAP A'", "-Xmx$HEAP limits the heap of Java"),
            (
                "java -XX:MaxRAMPercentage=75.0 A",
                "-XX:MaxRAMPercentage=75.0 limits the heap of Java to about 768 MiB, a share of the memory limit",
            ),
            (
                "java -XX:MaxRAMFraction=2 A",
                "-XX:MaxRAMFraction=2 limits the heap of Java to about 512 MiB, a share of the memory limit",
            ),
            ("java -XX:MaxRAM=2g -XX:MaxRAMPercentage=50 A", "-XX:MaxRAMPercentage=50 limits the heap of Java"),
            ("env GOMEMLIMIT=512MiB server", "GOMEMLIMIT=512MiB limits the memory of Go to 512 MiB"),
            ("bash -c 'export GOMEMLIMIT=200MiB; ./server'", "GOMEMLIMIT=200MiB limits the memory of Go to 200 MiB"),
            ("node --max-old-space-size=256 a.js", "--max-old-space-size=256 limits the heap of Node.js to 256 MiB"),
            ("julia --heap-size-hint=2G a.jl", "--heap-size-hint=2G limits the heap of Julia to 2 GiB"),
        ] {
            assert_eq!(limits(command, &[]), [expected], "{command}");
        }
    }

    #[test]
    fn java_without_an_option_has_its_default() {
        let by_default = "the heap of Java is limited by default to about 256 MiB, a share of the memory limit";
        for command in ["java -cp a A", "timeout 60 java A", "sh -c 'A=b java A | sort'", "env -i /opt/jdk/bin/java A"]
        {
            assert_eq!(limits(command, &[]), [by_default], "{command}");
        }
        for command in ["sort java", "javac A.java", "grep -r java .", "java @options A", "sh -c 'java $OPTIONS A'"] {
            assert!(limits(command, &[]).is_empty(), "{command}");
        }
    }

    #[test]
    fn the_default_heap_is_that_of_hotspot() {
        // As -XX:MaxRAM and -XX:+PrintFlagsFinal of OpenJDK 17 show, which rounds up to 2 MiB.
        for (memory, percentage, heap) in
            [(128, 25.0, 64), (200, 70.0, 100), (256, 25.0, 124), (384, 25.0, 124), (512, 25.0, 128), (1024, 70.0, 716)]
        {
            assert_eq!(java_heap(Bytes::mib(memory), percentage).0 >> 20, heap, "{memory}");
        }
        let default = || settings(&["java".to_owned()], &[]).remove(0);
        assert_eq!(default().limit(None).bytes, None);
        assert_eq!(default().limit(Some((Bytes::mib(400 << 10), ShareOf::Machine))).bytes, None);
    }

    #[test]
    fn variables_count_in_the_order_in_which_runtimes_read_them() {
        let tool = ("JAVA_TOOL_OPTIONS", "-ea -Xmx1g");
        for (command, env, expected) in [
            ("java A", &[tool][..], "-Xmx1g in JAVA_TOOL_OPTIONS limits the heap of Java to 1 GiB"),
            ("./run.sh", &[tool], "-Xmx1g in JAVA_TOOL_OPTIONS limits the heap of Java to 1 GiB"),
            ("java -Xmx2g A", &[tool], "-Xmx2g limits the heap of Java to 2 GiB"),
            (
                "java -Xmx2g A",
                &[tool, ("_JAVA_OPTIONS", "-Xmx3g")],
                "-Xmx3g in _JAVA_OPTIONS limits the heap of Java to 3 GiB",
            ),
            (
                "java -XX:MaxRAMPercentage=50 A",
                &[("JDK_JAVA_OPTIONS", "-Xmx5m")],
                "-Xmx5m in JDK_JAVA_OPTIONS limits the heap of Java to 5 MiB",
            ),
            ("./catalina.sh run", &[("JAVA_OPTS", "-Xmx6m")], "-Xmx6m in JAVA_OPTS limits the heap of Java to 6 MiB"),
            ("./server", &[("GOMEMLIMIT", "64MiB")], "GOMEMLIMIT=64MiB limits the memory of Go to 64 MiB"),
            ("./server", &[("GOMEMLIMIT", "1000")], "GOMEMLIMIT=1000 limits the memory of Go to 1000 B"),
            (
                "node a.js",
                &[("NODE_OPTIONS", "--no-warnings --max_old_space_size=8")],
                "--max_old_space_size=8 in NODE_OPTIONS limits the heap of Node.js to 8 MiB",
            ),
            (
                "./app",
                &[("DOTNET_GCHeapHardLimit", "0x4000000")],
                "DOTNET_GCHeapHardLimit=0x4000000 limits the heap of .NET to 64 MiB",
            ),
        ] {
            assert_eq!(limits(command, env), [expected], "{command}");
        }
        assert!(limits("./server", &[("GOMEMLIMIT", "off"), ("JAVA_TOOL_OPTIONS", "-ea")]).is_empty());
        assert!(limits("node a.js", &[("NODE_OPTIONS", "--no-warnings")]).is_empty());
    }

    #[test]
    fn words_of_any_kind_are_read() {
        for word in
            ["-Xmxé", "-Xmx", "-Xmx99999999999999999999g", "--heap-size-hint=", "'", "=", "-XX:MaxRAMPercentage=NaN"]
        {
            settings(&["java".to_owned(), word.to_owned(), format!("a {word} b")], &[]);
        }
    }
}
