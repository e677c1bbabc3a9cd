//! Memory on NVIDIA's GPUs, through their management library (NVML), which is loaded at run time if it is there.
//!
//! Every call of the library is made by a thread of its own, whose answers are waited for with a bound: a library that
//! hangs costs a run its GPU memory, and nothing else.

mod conclude;
mod device;

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use procfs::process::Process;
use serde::Serialize;

use self::conclude::Lifetimes;
use self::device::Device;
use super::HostRoots;
use super::processes::FindProcesses;
use crate::model::observation::{Gpu, RunnerKind, Warning};
use crate::model::problem::one_line;
use crate::model::units::Bytes;

/// Names the library to load instead of the system's; if empty, none is loaded.
pub const LIBRARY_VARIABLE: &str = "HIGHWATER_NVML";

/// Where the system's library is looked for: along the paths of the dynamic loader.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// How long the library may take to begin: without a process that keeps the driver loaded, it initializes the devices.
const BEGIN: Duration = Duration::from_secs(20);

/// How long it may take for the last readings of a run.
const END: Duration = Duration::from_secs(5);

/// The interval at which the processes of the run are noted. Creating a CUDA context takes about ten times as long.
const NOTE: Duration = Duration::from_millis(10);

/// The interval at which the devices are read.
const SAMPLE: Duration = Duration::from_millis(100);

/// At most one part in this many of the time is spent on either.
const SHARE: u32 = 20;

/// The initial pid namespace (`PROC_PID_INIT_INO` of the kernel's `linux/proc_ns.h`).
const HOST_PIDS: &str = "pid:[4026531836]";

/// Whether the library has once not answered in time: it is not asked again.
static HANGS: AtomicBool = AtomicBool::new(false);

/// The library; `None` if this machine has none, or no driver for it.
type Library = Result<Option<Nvml>, String>;

/// Loaded once for the whole program. It stays loaded, so that the driver keeps its accounting meanwhile.
static LOADED: OnceLock<Library> = OnceLock::new();

fn library() -> Result<Option<&'static Nvml>, String> {
    match LOADED.get_or_init(load) {
        Ok(nvml) => Ok(nvml.as_ref()),
        Err(reason) => Err(reason.clone()),
    }
}

fn load() -> Library {
    let named = std::env::var_os(LIBRARY_VARIABLE);
    let is_named = named.is_some();
    let path = named.unwrap_or_else(|| OsString::from(LIBRARY));
    if path.is_empty() {
        return Ok(None);
    }
    if is_static() {
        let reason =
            "this highwater is linked statically and cannot load a library; build it from source for GPU memory";
        return if is_named { Err(reason.to_owned()) } else { Ok(None) };
    }
    match Nvml::builder().lib_path(OsStr::new(&path)).init() {
        Ok(nvml) => Ok(Some(nvml)),
        Err(NvmlError::DriverNotLoaded) if !is_named => Ok(None),
        Err(error) => {
            let reason = match &error {
                NvmlError::LibloadingError(error) => error.to_string(),
                error => one_line(error),
            };
            // The dynamic loader says it in the C locale.
            if !is_named && reason.contains("No such file") {
                return Ok(None);
            }
            let path = path.to_string_lossy();
            let names_it = reason.starts_with(&*path);
            Err(if names_it { reason } else { format!("{path}: {reason}") })
        }
    }
}

/// Whether this program has no dynamic loader, without which libraries cannot be loaded safely.
fn is_static() -> bool {
    /// The address of the loader (`AT_BASE`), in the auxiliary vector.
    const LOADER: u64 = 7;
    let vector = Process::myself().and_then(|own| own.auxv());
    vector.is_ok_and(|vector| vector.get(&LOADER).is_none_or(|address| *address == 0))
}

/// A device or instance as `highwater doctor` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GpuFacts {
    /// The UUID of the device or instance.
    pub uuid: String,
    /// Its model.
    pub model: String,
    /// The UUID of the device that it is an instance of (MIG).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_of: Option<String>,
    /// Its memory, if known.
    #[serde(rename = "memory_bytes")]
    pub memory: Option<Bytes>,
    /// Whether the driver keeps the peak of each process; `None` if it cannot.
    pub accounting: Option<bool>,
}

/// The devices of this machine, and what could not be read; `None` without a library or its driver.
pub fn devices() -> Option<(Vec<GpuFacts>, Vec<String>)> {
    let (sender, answer) = channel();
    thread::spawn(move || {
        let found = library().and_then(|nvml| nvml.map(device::all).transpose());
        let _ = sender.send(found.map(|found| {
            found.map(|(devices, mut problems)| {
                problems.extend(devices.iter().filter_map(|device| device.problem.clone()));
                (devices.iter().map(Device::facts).collect(), problems)
            })
        }));
    });
    match answer.recv_timeout(BEGIN).unwrap_or_else(|_| Err(no_answer(BEGIN))) {
        Ok(found) => found,
        Err(reason) => Some((Vec::new(), vec![reason])),
    }
}

fn no_answer(after: Duration) -> String {
    format!("NVIDIA's library did not answer within {} s", after.as_secs())
}

/// Watches the devices during a run. Dropping it ends that.
#[derive(Debug)]
pub struct GpuWatch(State);

#[derive(Debug)]
enum State {
    /// No library was found, or the run is on another machine.
    Idle,
    Failed(String),
    Watching {
        orders: Sender<Order>,
        result: Receiver<(Vec<Gpu>, Vec<String>)>,
    },
}

enum Order {
    Follow(Box<dyn FindProcesses>),
    End,
}

impl GpuWatch {
    /// Notes the devices before the run.
    pub fn begin() -> Self {
        if HANGS.load(Ordering::Relaxed) {
            let reason = "NVIDIA's library did not answer during an earlier run, and is not asked again";
            return Self(State::Failed(reason.to_owned()));
        }
        if matches!(LOADED.get(), Some(Ok(None))) {
            return Self(State::Idle);
        }
        let (orders, received) = channel();
        let (sender, ready) = channel();
        let (results, result) = channel();
        let thread = thread::spawn(move || {
            let devices = library().and_then(|nvml| nvml.map(device::all).transpose());
            let (devices, problems) = match devices {
                Ok(Some((devices, problems))) if !devices.is_empty() || !problems.is_empty() => (devices, problems),
                Ok(_) => return drop(sender.send(Ok(false))),
                Err(reason) => return drop(sender.send(Err(reason))),
            };
            if sender.send(Ok(true)).is_ok()
                && let Ok(Order::Follow(find)) = received.recv()
            {
                let _ = results.send(watch(devices, problems, &*find, &received));
            }
        });
        Self(match ready.recv_timeout(BEGIN) {
            Ok(Ok(true)) => State::Watching { orders, result },
            Ok(answer) => {
                // Nothing of it is left when the task is started.
                let _ = thread.join();
                answer.map_or_else(State::Failed, |_| State::Idle)
            }
            Err(_) => {
                HANGS.store(true, Ordering::Relaxed);
                State::Failed(no_answer(BEGIN))
            }
        })
    }

    /// Watches the processes of the run; `None` if they cannot be found, as those of a pod.
    pub fn follow(&mut self, find: Option<Box<dyn FindProcesses>>, kind: RunnerKind) {
        match (&self.0, find) {
            (_, None) if kind != RunnerKind::Container => self.0 = State::Idle,
            (State::Watching { orders, .. }, Some(find)) => drop(orders.send(Order::Follow(find))),
            (State::Watching { .. }, None) => {
                let reason = "the processes of the container were not found on this machine".to_owned();
                self.0 = State::Failed(reason);
            }
            (State::Idle | State::Failed(_), _) => {}
        }
    }

    /// The result, once the run has ended and all of its processes with it.
    pub fn end(self) -> (Vec<Gpu>, Option<Warning>) {
        let (gpus, problems) = match self.0 {
            State::Idle => (Vec::new(), Vec::new()),
            State::Failed(reason) => (Vec::new(), vec![reason]),
            State::Watching { orders, result } => {
                let _ = orders.send(Order::End);
                result.recv_timeout(END).unwrap_or_else(|error| {
                    HANGS.store(error == RecvTimeoutError::Timeout, Ordering::Relaxed);
                    (Vec::new(), vec![no_answer(END)])
                })
            }
        };
        let reason = problems.join("; ");
        (gpus, (!reason.is_empty()).then_some(Warning::GpuUnread { reason }))
    }
}

/// Notes the processes of the run and samples the devices until the run has ended.
fn watch(
    mut devices: Vec<Device>,
    mut problems: Vec<String>,
    find: &dyn FindProcesses,
    orders: &Receiver<Order>,
) -> (Vec<Gpu>, Vec<String>) {
    let mut processes = Processes::default();
    let mut next_sample = Instant::now();
    let comparable = has_pids_of_the_host();
    if !comparable {
        problems
            .push("highwater is in a pid namespace of its own, where the pids of the driver mean nothing".to_owned());
    }
    loop {
        let before = Instant::now();
        let pause = if before >= next_sample {
            let sampled: Vec<_> = devices.iter_mut().map(Device::sample).collect();
            // A process of the run that was sampled is one now, or was one at the last look.
            processes.note(find.all());
            for (device, sampled) in devices.iter_mut().zip(sampled) {
                device.take(sampled, &mut processes);
            }
            let cost = before.elapsed();
            next_sample = Instant::now() + SAMPLE.max(cost * SHARE);
            NOTE.max(cost)
        } else {
            processes.note(find.quick());
            NOTE.max(before.elapsed() * SHARE)
        };
        match orders.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) | Ok(Order::Follow(_)) => {}
            Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let mut gpus: Vec<Gpu> = Vec::new();
    for mut device in devices {
        let entries = device.accounted_since().unwrap_or_else(|reason| {
            problems.push(reason);
            None
        });
        problems.extend(device.problem.take());
        gpus.push(conclude::gpu(device, entries, &processes, comparable));
    }
    gpus.sort_by_key(|gpu| std::cmp::Reverse(gpu.peak.as_ref().value().map(|peak| peak.bytes)));
    (gpus, problems)
}

/// Whether the pids of this process are those that the driver reports.
fn has_pids_of_the_host() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == HOST_PIDS)
}

/// The processes that were seen so far.
#[derive(Debug, Default)]
struct Processes {
    /// Number of looks at the processes of the run.
    looks: u64,
    /// Those of the run.
    own: HashMap<u32, Lifetimes>,
    /// Those that used a device and were not of the run.
    others: HashSet<u32>,
}

impl Processes {
    /// Notes the processes of the run that live now.
    fn note(&mut self, pids: Vec<i32>) {
        self.looks += 1;
        for pid in pids.into_iter().filter_map(|pid| u32::try_from(pid).ok()) {
            let seen = self.own.entry(pid).or_insert(Lifetimes { first: self.looks, last: self.looks });
            seen.last = self.looks;
        }
    }

    /// Whether a process that was just sampled is of the run. `None` if it ended before that was known.
    fn is_own(&mut self, pid: u32) -> Option<bool> {
        // A pid that the run had before may be that of another process.
        if self.own.get(&pid).is_some_and(|seen| seen.last + 1 >= self.looks) {
            return Some(true);
        }
        let is_alive = HostRoots::default().process_file(i32::try_from(pid).unwrap_or_default(), "stat").exists();
        if is_alive {
            self.others.insert(pid);
        }
        (is_alive || self.others.contains(&pid)).then_some(false)
    }
}
