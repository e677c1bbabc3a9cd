//! Takes the place of NVIDIA's management library in the tests: those functions of its C interface that highwater calls,
//! with the devices and processes of the file that `NVML_STAND_IN` names. It is read again by every call.
//!
//! A process is named by a file that contains its pid. It is in the lists while it lives, and in the accounts once the
//! file exists. Types and constants are those of NVIDIA's nvml.h.

#![expect(missing_docs, reason = "they have the names that NVIDIA gave them")]
#![expect(clippy::missing_safety_doc, reason = "they have the contracts of NVIDIA's functions")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::ptr::null;
use std::time::Duration;

use serde::Deserialize;

type Return = c_uint;

const SUCCESS: Return = 0;
const INVALID_ARGUMENT: Return = 2;
const NOT_SUPPORTED: Return = 3;
const NOT_FOUND: Return = 6;
const INSUFFICIENT_SIZE: Return = 7;
const UNKNOWN: Return = 999;

const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;

#[derive(Deserialize)]
struct Machine {
    /// A function that never returns.
    hangs: Option<String>,
    /// A function that fails, and with what.
    fails: Option<(String, Return)>,
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    uuid: String,
    name: String,
    accounting: Option<bool>,
    utilization: Option<c_uint>,
    total: u64,
    used: u64,
    #[serde(default)]
    processes: Vec<Process>,
    /// Its instances; `None` if it is not partitioned.
    instances: Option<Vec<Device>>,
}

#[derive(Deserialize)]
struct Process {
    pid_file: PathBuf,
    /// The memory in the lists; absent for one that lives between two samples.
    used: Option<u64>,
    /// The memory in the accounts; absent if it has none.
    most: Option<u64>,
    /// Whether it draws instead of computing.
    #[serde(default)]
    draws: bool,
    /// Whether the driver does not report its memory.
    #[serde(default)]
    hidden: bool,
}

impl Process {
    fn pid(&self) -> Option<c_uint> {
        fs::read_to_string(&self.pid_file).ok()?.trim().parse().ok()
    }

    fn is_alive(&self) -> bool {
        let stat = self.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        stat.is_some_and(|stat| !stat.contains(") Z "))
    }

    fn memory(&self, bytes: u64) -> c_ulonglong {
        if self.hidden { NOT_AVAILABLE } else { bytes }
    }
}

/// The machine, unless this function fails.
fn machine(function: &str) -> Result<Machine, Return> {
    let path = std::env::var_os("NVML_STAND_IN").ok_or(UNKNOWN)?;
    let text = fs::read_to_string(path).map_err(|_| UNKNOWN)?;
    let machine: Machine = serde_json::from_str(&text).map_err(|_| INVALID_ARGUMENT)?;
    while machine.hangs.as_deref() == Some(function) {
        std::thread::sleep(Duration::from_secs(1));
    }
    match &machine.fails {
        Some((failing, error)) if failing == function => Err(*error),
        _ => Ok(machine),
    }
}

/// A handle is not a pointer here, but the numbers of device and instance, both from 1.
type Handle = usize;

fn with_device(function: &str, handle: Handle, read: impl FnOnce(&Device) -> Return) -> Return {
    let machine = match machine(function) {
        Ok(machine) => machine,
        Err(error) => return error,
    };
    let device = (handle >> 8).checked_sub(1).and_then(|index| machine.devices.get(index));
    let found = device.and_then(|device| match (handle & 0xff).checked_sub(1) {
        None => Some(device),
        Some(instance) => device.instances.as_ref()?.get(instance),
    });
    found.map_or(INVALID_ARGUMENT, read)
}

/// Stores a value for the caller.
fn put<T>(place: *mut T, value: T) -> Return {
    // SAFETY: the caller owns what its pointer leads to, as NVIDIA's documentation demands.
    unsafe { place.write(value) };
    SUCCESS
}

fn put_text(text: &str, place: *mut c_char, length: c_uint) -> Return {
    let Ok(text) = CString::new(text) else { return UNKNOWN };
    let bytes = text.as_bytes_with_nul();
    if bytes.len() > length as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: the caller has given room for as many bytes as it says.
    unsafe { place.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    SUCCESS
}

/// Stores a list for a caller that gives room for `count` and receives how many there are.
fn put_list<T: Copy>(values: &[T], count: *mut c_uint, place: *mut T) -> Return {
    // SAFETY: the caller has stored how many there is room for.
    let room = unsafe { count.read() } as usize;
    put(count, c_uint::try_from(values.len()).unwrap_or(c_uint::MAX));
    if room < values.len() {
        return INSUFFICIENT_SIZE;
    }
    if !values.is_empty() {
        // SAFETY: there is room for them.
        unsafe { place.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    }
    SUCCESS
}

fn status(result: Result<Machine, Return>) -> Return {
    result.map_or_else(|error| error, |_| SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Return {
    status(machine("nvmlInit_v2"))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Return {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(error: Return) -> *const c_char {
    let text: Option<&CStr> = (error == UNKNOWN).then_some(c"Unknown Error");
    text.map_or(null(), CStr::as_ptr)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Return {
    put_text("550.54.15", version, length)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Return {
    match machine("nvmlDeviceGetCount_v2") {
        Ok(machine) => put(count, c_uint::try_from(machine.devices.len()).unwrap_or(0)),
        Err(error) => error,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Handle) -> Return {
    let handle = (index as usize + 1) << 8;
    with_device("nvmlDeviceGetHandleByIndex_v2", handle, |_| put(device, handle))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: Handle, uuid: *mut c_char, length: c_uint) -> Return {
    with_device("nvmlDeviceGetUUID", device, |device| put_text(&device.uuid, uuid, length))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(device: Handle, name: *mut c_char, length: c_uint) -> Return {
    with_device("nvmlDeviceGetName", device, |device| put_text(&device.name, name, length))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(device: Handle, now: *mut c_uint, pending: *mut c_uint) -> Return {
    with_device("nvmlDeviceGetMigMode", device, |device| {
        put(now, c_uint::from(device.instances.is_some()));
        put(pending, c_uint::from(device.instances.is_some()))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: *mut c_uint) -> Return {
    with_device("nvmlDeviceGetMaxMigDeviceCount", device, |_| put(count, 7))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Handle,
    index: c_uint,
    instance: *mut Handle,
) -> Return {
    with_device("nvmlDeviceGetMigDeviceHandleByIndex", device, |found| {
        match found.instances.as_ref().is_some_and(|instances| instances.len() > index as usize) {
            true => put(instance, device | (index as usize + 1)),
            false => NOT_FOUND,
        }
    })
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
pub struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, memory: *mut Memory) -> Return {
    with_device("nvmlDeviceGetMemoryInfo_v2", device, |device| {
        // SAFETY: the caller has set the version.
        let version = unsafe { (*memory).version };
        if version != (2 << 24 | size_of::<Memory>()) as c_uint {
            return INVALID_ARGUMENT;
        }
        let (total, used) = (device.total, device.used);
        put(memory, Memory { version, total, reserved: 0, free: total - used, used })
    })
}

/// `nvmlProcessInfo_v2_t`, which the functions of version 3 fill.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProcessInfo {
    pid: c_uint,
    used: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

fn put_processes(device: &Device, draws: bool, count: *mut c_uint, place: *mut ProcessInfo) -> Return {
    let alive = device.processes.iter().filter(|process| process.draws == draws && process.is_alive());
    let list = alive.filter_map(|process| {
        let (used, none) = (process.memory(process.used?), c_uint::MAX);
        Some(ProcessInfo { pid: process.pid()?, used, gpu_instance: none, compute_instance: none })
    });
    put_list(&list.collect::<Vec<_>>(), count, place)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    place: *mut ProcessInfo,
) -> Return {
    with_device("nvmlDeviceGetComputeRunningProcesses_v3", device, |device| put_processes(device, false, count, place))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    place: *mut ProcessInfo,
) -> Return {
    with_device("nvmlDeviceGetGraphicsRunningProcesses_v3", device, |device| put_processes(device, true, count, place))
}

/// `nvmlUtilization_t`.
#[repr(C)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(device: Handle, rates: *mut Utilization) -> Return {
    with_device("nvmlDeviceGetUtilizationRates", device, |device| match device.utilization {
        Some(gpu) => put(rates, Utilization { gpu, memory: 0 }),
        None => NOT_SUPPORTED,
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetAccountingMode(device: Handle, mode: *mut c_uint) -> Return {
    with_device("nvmlDeviceGetAccountingMode", device, |device| match device.accounting {
        Some(is_on) => put(mode, c_uint::from(is_on)),
        None => NOT_SUPPORTED,
    })
}

/// The processes that have an account.
fn accounts(device: &Device) -> impl Iterator<Item = (c_uint, &Process)> {
    let accounts = device.processes.iter().filter(|process| process.most.is_some());
    accounts.filter_map(|process| Some((process.pid()?, process)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetAccountingPids(device: Handle, count: *mut c_uint, place: *mut c_uint) -> Return {
    with_device("nvmlDeviceGetAccountingPids", device, |device| {
        put_list(&accounts(device).map(|(pid, _)| pid).collect::<Vec<_>>(), count, place)
    })
}

/// `nvmlAccountingStats_t`.
#[repr(C)]
pub struct AccountingStats {
    gpu_utilization: c_uint,
    memory_utilization: c_uint,
    most: c_ulonglong,
    time: c_ulonglong,
    start: c_ulonglong,
    is_running: c_uint,
    reserved: [c_uint; 5],
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetAccountingStats(
    device: Handle,
    pid: c_uint,
    stats: *mut AccountingStats,
) -> Return {
    with_device("nvmlDeviceGetAccountingStats", device, |device| {
        let Some((_, process)) = accounts(device).find(|(found, _)| *found == pid) else { return NOT_FOUND };
        let is_running = process.is_alive();
        let written =
            fs::metadata(&process.pid_file).map_or(0, |file| file.mtime() * 1_000_000 + file.mtime_nsec() / 1000);
        put(
            stats,
            AccountingStats {
                gpu_utilization: device.utilization.unwrap_or(c_uint::MAX),
                memory_utilization: c_uint::MAX,
                most: process.memory(process.most.unwrap_or_default()),
                time: if is_running { 0 } else { 50 },
                start: c_ulonglong::try_from(written).unwrap_or_default(),
                is_running: c_uint::from(is_running),
                reserved: [0; 5],
            },
        )
    })
}

/// A handle has the size of the pointer that it stands for.
const _: () = assert!(size_of::<Handle>() == size_of::<*const c_int>());
