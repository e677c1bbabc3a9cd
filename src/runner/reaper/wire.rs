//! Messages between highwater and a reaper, over a stream socket, which can pass file descriptors as well.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::host::cgroup::{Cgroup, Hierarchy};
use crate::model::observation::CgroupVersion;
use crate::runner::spawn::{Failure, Image, Join, Setup, Stdio, Words};

/// Requests to a reaper: the first byte of a message.
pub(super) mod order {
    /// Start a task; a [`Header`](super::Header) and its words follow.
    pub(in super::super) const START: u8 = b's';
    /// Report.
    pub(in super::super) const REPORT: u8 = b'r';
    /// End.
    pub(in super::super) const END: u8 = b'.';
}

/// The first byte of a reaper's answer to a start order.
const STARTED: u8 = 1;
const FAILED: u8 = 0;

/// Files passed with a start order: three for stdio, the cgroup, and two namespaces.
const MOST_FILES: usize = 6;

/// Sends all bytes, and the files with the first of them.
fn send(line: &UnixStream, bytes: &[u8], files: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(files)];
    let rights = if files.is_empty() { &[] } else { rights.as_slice() };
    loop {
        match sendmsg::<()>(line.as_raw_fd(), &[IoSlice::new(bytes)], rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) => return { line }.write_all(bytes.get(sent..).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives these bytes, and the files passed with them.
fn receive(line: &UnixStream, bytes: &mut [u8]) -> io::Result<Vec<OwnedFd>> {
    let mut space = nix::cmsg_space!([RawFd; MOST_FILES]);
    let mut files = Vec::new();
    let received = loop {
        let mut slices = [IoSliceMut::new(bytes)];
        match recvmsg::<()>(line.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(message) => {
                // This process has reached its limit of open files, and some were not received.
                let controls = message.cmsgs().map_err(|_| Errno::EMFILE)?;
                for control in controls {
                    if let ControlMessageOwned::ScmRights(descriptors) = control {
                        // SAFETY: the kernel has just created these descriptors, and nothing else owns them.
                        files.extend(descriptors.into_iter().map(|file| unsafe { OwnedFd::from_raw_fd(file) }));
                    }
                }
                break message.bytes;
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    if received == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    { line }.read_exact(bytes.get_mut(received..).unwrap_or_default())?;
    Ok(files)
}

/// Precedes the words of a start order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Header {
    /// Bytes of all words, and of those that name the cgroup.
    lengths: [u32; 2],
    counts: [u32; Words::GROUPS],
    /// A bit for each file that is present.
    files: u32,
    joins_by_writing: bool,
    version: Option<CgroupVersion>,
    oom_score: u32,
}

impl Header {
    const LENGTH: usize = 4 * (2 + Words::GROUPS + 4);

    fn encode(self) -> impl Iterator<Item = u8> {
        let version = match self.version {
            None => 0,
            Some(CgroupVersion::V1) => 1,
            Some(CgroupVersion::V2) => 2,
        };
        let rest = [self.files, u32::from(self.joins_by_writing), version, self.oom_score];
        self.lengths.into_iter().chain(self.counts).chain(rest).flat_map(u32::to_ne_bytes)
    }

    fn decode(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap_or_default()));
        let mut next = || words.next().unwrap_or_default();
        Self {
            lengths: [next(), next()],
            counts: [(); Words::GROUPS].map(|()| next()),
            files: next(),
            joins_by_writing: next() != 0,
            version: match next() {
                1 => Some(CgroupVersion::V1),
                2 => Some(CgroupVersion::V2),
                _ => None,
            },
            oom_score: next(),
        }
    }
}

/// A request to start a task.
#[derive(Clone, Copy, Debug)]
pub(in crate::runner) struct Request<'a> {
    pub(in crate::runner) image: &'a Image,
    pub(in crate::runner) stdio: &'a Stdio,
    pub(in crate::runner) join: Join<'a>,
    /// The run's cgroup, if it has one.
    pub(in crate::runner) own: Option<&'a Cgroup>,
    /// Added to the OOM score of the task (`/proc/PID/oom_score_adj`).
    pub(in crate::runner) oom_score: u32,
}

/// Sends a start order.
pub(super) fn send_start(line: &UnixStream, request: Request<'_>) -> io::Result<()> {
    let Request { image, stdio, join, own, oom_score } = request;
    let (cgroup, joins_by_writing) = match join {
        Join::Stay => (None, false),
        Join::CloneInto(file) => (Some(file), false),
        Join::Write(file) => (Some(file), true),
    };
    let [stdin, stdout, stderr] = stdio.files();
    let [mounts, users] = image.namespaces();
    let files: [Option<BorrowedFd<'_>>; MOST_FILES] = [stdin, stdout, stderr, cgroup, mounts, users];
    // The top of the hierarchy, its name there, and the path.
    let place = own.map(|own| {
        let hierarchy = &own.hierarchy;
        [hierarchy.mount_point.as_os_str(), OsStr::new(&hierarchy.root), own.path.as_os_str()].join(OsStr::new("\0"))
    });
    let place = place.as_ref().map_or(&[][..], |place| place.as_bytes());
    let words = image.words();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| io::Error::from(Errno::E2BIG));
    let header = Header {
        lengths: [length(words.bytes())?, length(place)?],
        counts: words.counts(),
        files: files.iter().rev().fold(0, |bits, file| bits << 1 | u32::from(file.is_some())),
        joins_by_writing,
        version: own.map(Cgroup::version),
        oom_score,
    };
    let message: Vec<u8> = [order::START].into_iter().chain(header.encode()).collect();
    let files: Vec<RawFd> = files.iter().flatten().map(AsRawFd::as_raw_fd).collect();
    send(line, &[&message, words.bytes(), place].concat(), &files)
}

/// Sends an order without arguments.
pub(super) fn send_order(line: &UnixStream, order: u8) -> io::Result<()> {
    send(line, &[order], &[])
}

/// An order to a reaper.
#[derive(Debug)]
pub(super) enum Order {
    Start(Task),
    Report,
    End,
}

/// A task to start.
#[derive(Debug)]
pub(super) struct Task {
    words: Words,
    files: [Option<OwnedFd>; MOST_FILES],
    joins_by_writing: bool,
    oom_score: u32,
    /// The run's cgroup.
    pub(super) own: Option<Cgroup>,
}

impl Order {
    /// Waits for an order; an error means that the connection is closed.
    pub(super) fn receive(line: &UnixStream) -> io::Result<Self> {
        let mut order = [0];
        let files = receive(line, &mut order)?;
        match order[0] {
            order::START => Ok(Self::Start(Task::receive(line, files)?)),
            order::REPORT => Ok(Self::Report),
            _ => Ok(Self::End),
        }
    }
}

impl Task {
    fn receive(mut line: &UnixStream, files: Vec<OwnedFd>) -> io::Result<Self> {
        let mut header = [0; Header::LENGTH];
        line.read_exact(&mut header)?;
        let header = Header::decode(&header);
        let mut read = |length: u32| {
            let mut bytes = vec![0; length as usize];
            line.read_exact(&mut bytes).map(|()| bytes)
        };
        let [words, place] = header.lengths;
        let words = Words::from_parts(read(words)?, header.counts);
        let place = read(place)?;
        let mut place = place.split(|byte| *byte == 0).map(OsStr::from_bytes);
        let mut next = || place.next().unwrap_or_default();
        let own = header.version.map(|version| {
            let (mount_point, root) = (PathBuf::from(next()), next().to_string_lossy().into_owned());
            Cgroup { hierarchy: Hierarchy { version, mount_point, root, read_only: false }, path: next().into() }
        });
        let mut files = files.into_iter();
        let mut bits = header.files;
        let files = [(); MOST_FILES].map(|()| {
            let is_there = bits & 1 == 1;
            bits >>= 1;
            if is_there { files.next() } else { None }
        });
        let Header { joins_by_writing, oom_score, .. } = header;
        Ok(Self { words, files, joins_by_writing, oom_score, own })
    }

    pub(super) fn setup(&self) -> Setup<'_> {
        let [stdin, stdout, stderr, cgroup, mounts, users] =
            self.files.each_ref().map(|file| file.as_ref().map(AsFd::as_fd));
        let join = match cgroup {
            None => Join::Stay,
            Some(file) if self.joins_by_writing => Join::Write(file),
            Some(file) => Join::CloneInto(file),
        };
        let (stdio, namespaces) = ([stdin, stdout, stderr], [mounts, users]);
        Setup { words: &self.words, stdio, join, namespaces, oom_score: self.oom_score }
    }
}

/// Reports to highwater whether the task has started: with a descriptor of its first process, or the error.
pub(super) fn send_started(line: &UnixStream, started: Result<BorrowedFd<'_>, Failure>) -> io::Result<()> {
    let mut word = [STARTED; 1 + Failure::LENGTH];
    match started {
        Ok(pidfd) => send(line, &word, &[pidfd.as_raw_fd()]),
        Err(failure) => {
            word[0] = FAILED;
            word[1..].copy_from_slice(&failure.encode());
            send(line, &word, &[])
        }
    }
}

/// A descriptor of the first process of the task, or the error.
pub(super) fn receive_started(line: &UnixStream) -> io::Result<Result<OwnedFd, Failure>> {
    let mut word = [0; 1 + Failure::LENGTH];
    let files = receive(line, &mut word)?;
    let [answer, failure @ ..] = word;
    match files.into_iter().next() {
        Some(pidfd) if answer == STARTED => Ok(Ok(pidfd)),
        _ => Ok(Err(Failure::decode(failure))),
    }
}

/// The reaper's record of its children, as sent over the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Whether highwater has requested it. Unrequested reports announce the end of the first process.
    pub(super) is_answer: bool,
    /// Wait status, and CPU time in microseconds in user and kernel mode.
    pub(super) first: Option<(i32, u64, u64)>,
    pub(super) has_more: bool,
    pub(super) faults: u64,
    /// In bytes.
    pub(super) largest_rss: u64,
    pub(super) ended_in: Option<String>,
}

impl Report {
    const LENGTH: usize = size_of::<[u64; 9]>();

    pub(super) fn send(&self, line: &UnixStream) -> io::Result<()> {
        let (status, user, system) = self.first.unwrap_or_default();
        let ended_in = self.ended_in.as_deref().unwrap_or_default().as_bytes();
        let words = [
            u64::from(self.is_answer),
            u64::from(self.first.is_some()),
            u64::from(status.cast_unsigned()),
            user,
            system,
            u64::from(self.has_more),
            self.faults,
            self.largest_rss,
            ended_in.len() as u64,
        ];
        let numbers: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        send(line, &[&numbers, ended_in].concat(), &[])
    }

    pub(super) fn receive(mut line: &UnixStream) -> io::Result<Self> {
        let mut bytes = [0; Self::LENGTH];
        line.read_exact(&mut bytes)?;
        let mut words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()));
        let mut next = || words.next().unwrap_or_default();
        let (is_answer, has_ended) = (next() != 0, next() != 0);
        let first = ((next() as u32).cast_signed(), next(), next());
        let (has_more, faults, largest_rss) = (next() != 0, next(), next());
        let mut ended_in = vec![0; next() as usize];
        line.read_exact(&mut ended_in)?;
        Ok(Self {
            is_answer,
            first: has_ended.then_some(first),
            has_more,
            faults,
            largest_rss,
            ended_in: (!ended_in.is_empty()).then(|| String::from_utf8_lossy(&ended_in).into_owned()),
        })
    }
}
