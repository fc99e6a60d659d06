//! Rejection of file descriptors that cannot be device memory.
//!
//! Vulkan requires the caller to pass a descriptor of the right type, and some drivers read from whatever
//! they get: Mesa's CPU driver waits forever for the bytes of a pipe. So descriptors that cannot be
//! memory are rejected before a driver sees them.
//!
//! Memory is exported as an inode without a type (dma-buf, on Linux), as an unlinked memory file (memfd,
//! of CPU drivers), or as a device node of the driver (NVIDIA's).

#[cfg(unix)]
pub(crate) use of_unix::why_not_memory;

/// This system has no file descriptors.
#[cfg(not(unix))]
pub(crate) fn why_not_memory(_fd: i32) -> Option<&'static str> {
    None
}

#[cfg(unix)]
mod of_unix {
    use std::fs::File;
    use std::io::IsTerminal;
    use std::mem::ManuallyDrop;
    use std::os::fd::{FromRawFd, RawFd};
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    /// Returns the kind of a descriptor that cannot be memory; `None` if it may be.
    pub(crate) fn why_not_memory(fd: RawFd) -> Option<&'static str> {
        if fd < 0 {
            return Some("no file descriptor");
        }
        // SAFETY: the file is only inspected, and not closed by this value; a closed one only makes the
        // system call fail.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
        let Ok(metadata) = file.metadata() else { return Some("not open") };
        let kind = metadata.file_type();
        if kind.is_fifo() {
            Some("a pipe")
        } else if kind.is_socket() {
            Some("a socket")
        } else if kind.is_dir() {
            Some("a directory")
        } else if kind.is_block_device() {
            Some("a block device")
        } else if file.is_terminal() {
            Some("a terminal")
        } else if kind.is_char_device() {
            character_device(fd, metadata.rdev())
        } else if kind.is_file() {
            // A memfd has no link in a directory.
            (metadata.nlink() > 0).then_some("a file")
        } else {
            anonymous(fd)
        }
    }

    /// Returns the system's name of a descriptor's target; empty if there is none.
    fn target(fd: RawFd) -> String {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        link.map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Major numbers of Linux devices that are not GPU memory: memory as a whole (`/dev/null`,
    /// `/dev/zero`), terminals, input, frame buffers, cameras, sound, USB, and DRM nodes, which are read
    /// for events.
    const NO_MEMORY: [u64; 12] = [1, 2, 3, 4, 5, 7, 13, 29, 81, 116, 189, 226];
    /// Major number of devices without one of their own; a few of them are memory.
    const MISCELLANEOUS: u64 = 10;
    const MEMORY_OF_OTHERS: [&str; 4] = ["/dev/ashmem", "/dev/nv", "/dev/mali", "/dev/ion"];

    fn character_device(fd: RawFd, number: u64) -> Option<&'static str> {
        if !cfg!(any(target_os = "linux", target_os = "android")) {
            return None;
        }
        let major = ((number >> 8) & 0xfff) | ((number >> 32) & !0xfff);
        let is_other = || {
            let name = target(fd);
            !name.is_empty() && !MEMORY_OF_OTHERS.iter().any(|it| name.starts_with(it))
        };
        let refused = NO_MEMORY.contains(&major) || major == MISCELLANEOUS && is_other();
        refused.then_some("a device that is no memory")
    }

    /// Prefixes of the names of anonymous inodes in Linux that are not memory.
    const ANONYMOUS: [&str; 13] = [
        "[eventfd]",
        "[eventpoll]",
        "[signalfd]",
        "[timerfd]",
        "inotify",
        "[fanotify]",
        "[perf_event]",
        "[userfaultfd]",
        "[io_uring]",
        "[pidfd]",
        "kvm-",
        "bpf",
        "seccomp",
    ];

    fn anonymous(fd: RawFd) -> Option<&'static str> {
        let name = target(fd);
        let name = name.strip_prefix("anon_inode:")?;
        let refused = ANONYMOUS.iter().any(|it| name.starts_with(it));
        refused.then_some("an event source of the system")
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_can_be_no_memory_has_a_name() {
        let (one, _other) = UnixStream::pair().expect("sockets");
        assert_eq!(why_not_memory(one.as_raw_fd()), Some("a socket"));
        let (read, _write) = std::io::pipe().expect("a pipe");
        assert_eq!(why_not_memory(read.as_raw_fd()), Some("a pipe"));
        let folder = File::open(std::env::temp_dir()).expect("a folder");
        assert_eq!(why_not_memory(folder.as_raw_fd()), Some("a directory"));
        let null = File::open("/dev/null").expect("a device");
        let of_null = why_not_memory(null.as_raw_fd());
        assert_eq!(of_null.is_some(), cfg!(any(target_os = "linux", target_os = "android")));
        assert_eq!(why_not_memory(-1), Some("no file descriptor"));
        assert_eq!(why_not_memory(i32::MAX), Some("not open"));
    }

    #[test]
    fn a_file_without_a_name_may_be_memory() {
        let path = std::env::temp_dir().join(format!("vk-mem-fd-kind-{}", std::process::id()));
        let file = File::create(&path).expect("a file");
        assert_eq!(why_not_memory(file.as_raw_fd()), Some("a file"));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(why_not_memory(file.as_raw_fd()), None);
    }
}
