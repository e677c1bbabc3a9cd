//! Resources of a container, in the syntax of `docker run`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::model::units::Bytes;

/// The resources of a container beside its memory limit. The default is what the engine gives by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerResources {
    /// The CPU time that it may use.
    pub cpus: Option<Cpus>,
    /// The GPUs.
    pub gpus: Option<Gpus>,
    /// Devices of the engine's machine.
    pub devices: Vec<Device>,
    /// The size of `/dev/shm`.
    pub shm_size: Option<Bytes>,
    /// The limit of memory and swap together. By default, a container with a memory limit gets no swap.
    pub memory_swap: Option<MemorySwap>,
    /// Directories in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Limits of each process.
    pub ulimits: Vec<Ulimit>,
}

impl ContainerResources {
    /// The options of `docker run` with which a container has these resources, such as `--shm-size=1073741824`: the same
    /// for the same resources.
    pub fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        let mut add = |name: &str, value: &dyn fmt::Display| options.push(format!("--{name}={value}"));
        self.cpus.iter().for_each(|cpus| add("cpus", cpus));
        self.gpus.iter().for_each(|gpus| add("gpus", gpus));
        self.devices.iter().for_each(|device| add("device", device));
        self.shm_size.iter().for_each(|size| add("shm-size", &size.0));
        self.memory_swap.iter().for_each(|swap| add("memory-swap", swap));
        self.tmpfs.iter().for_each(|tmpfs| add("tmpfs", tmpfs));
        self.ulimits.iter().for_each(|ulimit| add("ulimit", ulimit));
        options
    }

    /// The name of the first option that was given.
    pub fn first_option(&self) -> Option<&'static str> {
        let given = [
            ("--cpus", self.cpus.is_some()),
            ("--gpus", self.gpus.is_some()),
            ("--device", !self.devices.is_empty()),
            ("--shm-size", self.shm_size.is_some()),
            ("--memory-swap", self.memory_swap.is_some()),
            ("--tmpfs", !self.tmpfs.is_empty()),
            ("--ulimit", !self.ulimits.is_empty()),
        ];
        given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
    }

    /// The directories whose size was chosen and whose files are in memory.
    pub fn in_memory(&self) -> Vec<String> {
        let shm = self.shm_size.map(|_| "/dev/shm".to_owned());
        shm.into_iter().chain(self.tmpfs.iter().map(|tmpfs| tmpfs.path.clone())).collect()
    }
}

/// CPU time per time: 1.5 for one and a half CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// In billionths of a CPU.
    pub nano: u64,
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let cpus = text.parse::<f64>().ok().filter(|cpus| is_plain && (0.01..=1e6).contains(cpus));
        let cpus = cpus.ok_or("expected a number of CPUs from 0.01 on, such as 2 or 1.5")?;
        Ok(Self { nano: (cpus * 1e9).round() as u64 })
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.nano as f64 / 1e9).fmt(f)
    }
}

/// GPUs, as `--gpus` of `docker run` names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    /// The number of GPUs; -1 for all.
    pub count: Option<i64>,
    /// The ids of GPUs instead of a number.
    pub ids: Vec<String>,
    /// The driver; the engine chooses one by default.
    pub driver: Option<String>,
    /// What the driver must be capable of, beside `gpu`.
    pub capabilities: Vec<String>,
    /// Options for the driver.
    pub options: BTreeMap<String, String>,
}

const GPUS: &str = "expected all, a number of GPUs, or a request such as \"device=0,1\" (with double quotes in it) or \
                    count=2,capabilities=utility";

impl Gpus {
    /// This number of GPUs.
    pub fn number(count: i64) -> Self {
        Self { count: Some(count), ..Self::default() }
    }

    /// Whether it requests no GPU.
    pub fn is_none(&self) -> bool {
        self.ids.is_empty() && self.count == Some(0)
    }
}

impl FromStr for Gpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |text: &str| match text {
            "all" => Ok(-1),
            number => number.parse().ok().filter(|count| (-1..=1 << 20).contains(count)).ok_or(GPUS),
        };
        let mut gpus = Self::default();
        let mut known = Vec::new();
        for field in fields(text).ok_or(GPUS)? {
            let (key, value) = field.split_once('=').unwrap_or(("count", &field));
            if known.iter().any(|known| known == key) {
                return Err(format!("found `{key}` twice, {GPUS}"));
            }
            known.push(key.to_owned());
            let several = || value.split(',').map(str::to_owned).collect();
            match key {
                "count" => gpus.count = Some(count(value)?),
                "device" => gpus.ids = several(),
                "driver" => gpus.driver = Some(value.to_owned()),
                "capabilities" => gpus.capabilities = several(),
                "options" => {
                    let options = fields(value).ok_or(GPUS)?.into_iter();
                    gpus.options = options
                        .map(|option| option.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
                        .collect::<Option<_>>()
                        .ok_or(GPUS)?;
                }
                other => return Err(format!("found `{other}`, {GPUS}")),
            }
        }
        match (gpus.count, gpus.ids.as_slice()) {
            (Some(_), [_, ..]) => Err(format!("found a number and ids of GPUs, {GPUS}")),
            (_, ids) if ids.iter().any(String::is_empty) => Err(GPUS.to_owned()),
            (None, []) => Ok(Self { count: Some(1), ..gpus }),
            _ => Ok(gpus),
        }
    }
}

/// The fields of a line with commas and double quotes, as `docker run` reads it; `None` if it has none.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let record = reader.records().next()?.ok()?;
    Some(record.iter().map(str::to_owned).collect())
}

impl fmt::Display for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = |name: &str, values: String| {
            if values.contains(',') { format!("\"{name}={values}\"") } else { format!("{name}={values}") }
        };
        let options: Vec<String> = self.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let fields = [
            self.count.map(|count| if count == -1 { "all".to_owned() } else { count.to_string() }),
            (!self.ids.is_empty()).then(|| several("device", self.ids.join(","))),
            self.driver.as_ref().map(|driver| format!("driver={driver}")),
            (!self.capabilities.is_empty()).then(|| several("capabilities", self.capabilities.join(","))),
            (!options.is_empty()).then(|| several("options", options.join(","))),
        ];
        f.write_str(&fields.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

/// A device of the engine's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A device file.
    File {
        /// Its path on the engine's machine.
        source: String,
        /// Its path in the container.
        target: String,
        /// What the container may do with it: some of `rwm`, for read, write and create.
        access: String,
    },
    /// A device of a CDI specification, such as `nvidia.com/gpu=all`.
    Cdi(String),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected a path such as /dev/fuse, optionally with a path in the container and some of `rwm` \
             (/dev/fuse:/dev/fuse:rw), or a CDI device such as nvidia.com/gpu=all"
                .to_owned()
        };
        if !text.starts_with('/') {
            let (kind, name) = text.split_once('=').ok_or_else(expected)?;
            let is_kind = kind.split('/').count() == 2 && kind.split('/').all(|part| !part.is_empty());
            return if is_kind && !name.is_empty() { Ok(Self::Cdi(text.to_owned())) } else { Err(expected()) };
        }
        let is_access = |part: &str| {
            !part.is_empty()
                && part.chars().all(|char| "rwm".contains(char))
                && "rwm".chars().all(|char| part.matches(char).count() <= 1)
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, access) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, access] if is_access(access) => (source, source, access),
            [source, target] => (source, target, "rwm"),
            [source, target, access] if is_access(access) => (source, target, access),
            _ => return Err(expected()),
        };
        if !target.starts_with('/') {
            return Err(expected());
        }
        Ok(Self::File { source: source.to_owned(), target: target.to_owned(), access: access.to_owned() })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { source, target, access } => write!(f, "{source}:{target}:{access}"),
            Self::Cdi(name) => f.write_str(name),
        }
    }
}

/// A limit of memory and swap together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemorySwap {
    /// The memory limit and the swap beyond it.
    Total(Bytes),
    /// As much swap as the machine has.
    Unlimited,
}

impl FromStr for MemorySwap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected memory and swap together, at least as much as the memory limit, such as 2g, or -1 for \
                        unlimited swap";
        match text {
            "-1" => Ok(Self::Unlimited),
            size => size_of(size).map(Self::Total).ok_or_else(|| expected.to_owned()),
        }
    }
}

impl fmt::Display for MemorySwap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total(total) => total.0.fmt(f),
            Self::Unlimited => f.write_str("-1"),
        }
    }
}

/// A size above 0 as `docker run` reads it: 64m, 64MB and 64MiB are all 64 × 1024² bytes.
///
/// # Errors
/// What is expected.
pub fn size(text: &str) -> Result<Bytes, String> {
    size_of(text).ok_or_else(|| "expected a size such as 64m or 1g (1g is 1024³ bytes)".to_owned())
}

fn size_of(text: &str) -> Option<Bytes> {
    let digits = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = (text.get(..digits)?, text.get(digits..)?.trim_start().to_ascii_lowercase());
    let power = match unit.as_str() {
        "" | "b" => 0,
        unit => {
            let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
            1 + ["k", "m", "g", "t", "p"].iter().position(|known| *known == letter)?
        }
    };
    let bytes = number.parse::<f64>().ok()? * 1024_f64.powi(i32::try_from(power).ok()?);
    (1.0..9e18).contains(&bytes).then_some(Bytes(bytes as u64))
}

/// A directory in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Its path in the container.
    pub path: String,
    /// Mount options, such as `size=64m,mode=1777`.
    pub options: String,
}

/// The mount options with a value, and those without one, that engines pass on.
const TMPFS_VALUES: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];
const TMPFS_FLAGS: [&str; 13] =
    ["rw", "ro", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "atime", "relatime", "sync", "async"];

impl FromStr for Tmpfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            "expected an absolute path in the container, optionally with mount options: /scratch:size=64m,mode=1777";
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        if !path.starts_with('/') || path == "/" {
            return Err(expected.to_owned());
        }
        for option in options.split(',').filter(|_| !options.is_empty()) {
            let is_known = match option.split_once('=') {
                Some((name, value)) => TMPFS_VALUES.contains(&name) && !value.is_empty(),
                None => TMPFS_FLAGS.contains(&option),
            };
            if !is_known {
                return Err(format!("found the mount option `{option}`, {expected}"));
            }
        }
        Ok(Self { path: path.to_owned(), options: options.to_owned() })
    }
}

impl fmt::Display for Tmpfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.options.is_empty() { Ok(()) } else { write!(f, ":{}", self.options) }
    }
}

/// A limit of each process; -1 for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Its name, such as `nofile`.
    pub name: String,
    /// The limit in force.
    pub soft: i64,
    /// Up to which a process may raise it.
    pub hard: i64,
}

/// The limits of `setrlimit(2)`, as engines name them.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected NAME=SOFT or NAME=SOFT:HARD, such as nofile=1024:4096 or memlock=-1";
        let (name, values) = text.split_once('=').ok_or(expected)?;
        if !ULIMITS.contains(&name) {
            return Err(format!("found the limit `{name}`, expected one of {}", ULIMITS.join(", ")));
        }
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let value = |text: &str| text.parse::<i64>().ok().filter(|value| *value >= -1).ok_or(expected);
        let (soft, hard) = (value(soft)?, value(hard)?);
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(format!("found the soft limit {soft} above the hard limit {hard}, {expected}"));
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, soft, hard } = self;
        write!(f, "{name}={soft}:{hard}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each text, and how the value is written again.
    fn assert_read<T: FromStr<Err = String> + fmt::Display + PartialEq + fmt::Debug>(cases: &[(&str, &str)]) {
        for (text, written) in cases {
            let value: T = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(value.to_string(), *written, "{text}");
            assert_eq!(written.parse::<T>().unwrap(), value, "{text}");
        }
    }

    fn assert_refused<T: FromStr<Err = String> + fmt::Debug>(cases: &[&str]) {
        for text in cases {
            let error = text.parse::<T>().expect_err(text);
            assert!(error.contains("expected"), "{text}: {error}");
        }
    }

    #[test]
    fn options_are_read_as_docker_run_reads_them() {
        assert_read::<Cpus>(&[("2", "2"), ("1.5", "1.5"), ("0.01", "0.01"), (".5", "0.5")]);
        assert_read::<Gpus>(&[
            ("all", "all"),
            ("2", "2"),
            ("0", "0"),
            ("count=2", "2"),
            ("\"device=0,GPU-3a\"", "\"device=0,GPU-3a\""),
            ("device=1", "device=1"),
            ("driver=nvidia", "1,driver=nvidia"),
            ("all,\"capabilities=utility,compute\"", "all,\"capabilities=utility,compute\""),
            ("1,options=a=b", "1,options=a=b"),
        ]);
        assert_read::<Device>(&[
            ("/dev/fuse", "/dev/fuse:/dev/fuse:rwm"),
            ("/dev/fuse:r", "/dev/fuse:/dev/fuse:r"),
            ("/dev/a:/dev/b:rw", "/dev/a:/dev/b:rw"),
            ("nvidia.com/gpu=all", "nvidia.com/gpu=all"),
        ]);
        assert_read::<MemorySwap>(&[("-1", "-1"), ("1g", "1073741824")]);
        assert_read::<Tmpfs>(&[("/a", "/a"), ("/a:size=64m,noexec", "/a:size=64m,noexec")]);
        assert_read::<Ulimit>(&[("nofile=1024", "nofile=1024:1024"), ("core=0:-1", "core=0:-1")]);
        for (text, bytes) in [("1024", 1024), ("64m", 64 << 20), ("64MB", 64 << 20), ("1.5GiB", 3 << 29), ("2 k", 2048)]
        {
            assert_eq!(size(text), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn a_wrong_option_says_what_is_expected() {
        assert_refused::<Cpus>(&["", "0", "-1", "two", "inf", "1e3", "500m"]);
        assert_refused::<Gpus>(&["", "some", "-2", "1,2", "device=0,1", "1,device=0", "kind=fast", "device="]);
        assert_refused::<Device>(&[
            "",
            "fuse",
            "/dev/a:b",
            "/dev/a:/dev/b:x",
            "/dev/a:/b:r:r",
            "gpu=all",
            "/dev/a:/b:rr",
        ]);
        assert_refused::<MemorySwap>(&["", "0", "-2", "much"]);
        assert_refused::<Tmpfs>(&["", "a", "/", "/a:size", "/a:size=,ro", "/a:colour=red", "/a:fast"]);
        assert_refused::<Ulimit>(&["", "nofile", "files=1", "nofile=a", "nofile=2:1", "nofile=-1:1", "nofile=1:2:3"]);
        for text in ["", "m", "0", "64x", "-1", "1..5", "64mm", "1e3"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_options_give_the_same_resources_again() {
        assert_eq!(ContainerResources::default().options(), Vec::<String>::new());
        let resources = ContainerResources {
            cpus: "2".parse().ok(),
            gpus: "all".parse().ok(),
            devices: vec!["/dev/fuse".parse().unwrap()],
            shm_size: size("1g").ok(),
            memory_swap: "-1".parse().ok(),
            tmpfs: vec!["/a".parse().unwrap()],
            ulimits: vec!["core=0".parse().unwrap()],
        };
        let expected = [
            "--cpus=2",
            "--gpus=all",
            "--device=/dev/fuse:/dev/fuse:rwm",
            "--shm-size=1073741824",
            "--memory-swap=-1",
            "--tmpfs=/a",
            "--ulimit=core=0:0",
        ];
        assert_eq!(resources.options(), expected);
        assert_eq!(resources.in_memory(), ["/dev/shm", "/a"]);
    }
}
