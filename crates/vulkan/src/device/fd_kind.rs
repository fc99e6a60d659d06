//! Which file descriptors may be memory of a device.
//!
//! Vulkan leaves it to the caller that a descriptor is what its handle type says, and some drivers read from
//! whatever they get: Mesa's CPU driver waits for ever for the bytes of a pipe. So what can be no memory is
//! refused before a driver sees it.
//!
//! Memory is exported as an inode without a type (dma-buf, on Linux), as a file of memory without a name
//! (memfd, of drivers that run on the processor), or as a device node of the driver (NVIDIA's).

#[cfg(unix)]
pub(crate) use of_unix::why_not_memory;

/// There are no file descriptors here.
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

    /// What a descriptor refers to, where that can be no memory; `None` where it may be.
    pub(crate) fn why_not_memory(fd: RawFd) -> Option<&'static str> {
        if fd < 0 {
            return Some("no file descriptor");
        }
        // SAFETY: only looked at, and not closed by this value; one that is closed is an error of the
        // system.
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
            // One of memory has no name.
            (metadata.nlink() > 0).then_some("a file")
        } else {
            anonymous(fd)
        }
    }

    /// What the system calls it, where it tells.
    fn target(fd: RawFd) -> String {
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        link.map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Numbers that Linux gives to devices which are no GPU's memory: of memory as a whole (`/dev/null`,
    /// `/dev/zero`), terminals, input, frame buffers, cameras, sound, USB, and nodes of DRM, which are read
    /// for events.
    const NO_MEMORY: [u64; 12] = [1, 2, 3, 4, 5, 7, 13, 29, 81, 116, 189, 226];
    /// Devices without a number of their own, of which a few are memory.
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

    /// What Linux makes without a file, and what is no memory.
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
