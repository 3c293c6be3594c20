// SPDX-License-Identifier: GPL-2.0

//! The system calls that are measured, and what else the programs need of the system.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::ptr;

use libc::{c_int, c_long, c_void};

pub const LOCKED: c_int = 0;
pub const ONFAULT: c_int = libc::MLOCK_ONFAULT as c_int;

/// The user that has no privilege.
const NOBODY: libc::uid_t = 65534;

/// Bytes of a page.
pub fn page_size() -> usize {
    // SAFETY: No preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Turns what a system call returned into a `Result`, with what was tried.
pub fn check(ret: c_long, what: &str) -> Result<()> {
    if ret == 0 {
        return Ok(());
    }
    Err(Error::other(format!("{what}: {}", Error::last_os_error())))
}

/// A mapping that can be written to; unmapped when it is dropped.
pub struct Map {
    addr: *mut u8,
    len: usize,
}

impl Map {
    /// mmap(2) of `len` bytes.
    pub fn new(len: usize, flags: c_int, file: Option<&File>) -> Result<Self> {
        let fd = file.map_or(-1, AsRawFd::as_raw_fd);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: A new mapping, which replaces none.
        let addr = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, fd, 0) };
        Self::take(addr, len)
    }

    /// Anonymous memory in small pages.
    pub fn anon(len: usize) -> Result<Self> {
        let map = Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None)?;
        map.forbid_huge()?;
        Ok(map)
    }

    /// The same in a vma of its own: none beside it, and none that grows towards it.
    pub fn alone(len: usize) -> Result<Self> {
        let around = Self::new(
            len + 2 * page_size(),
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            None,
        )?;
        let (addr, len) = around.part(1, len / page_size());
        for page in [0, around.pages() - 1] {
            check(around.munmap(around.part(page, 1)), "munmap")?;
        }
        std::mem::forget(around);
        let map = Self { addr, len };
        map.forbid_huge()?;
        Ok(map)
    }

    /// Anonymous memory that begins where a folio of `align` bytes can, at an address of its own, far
    /// from everything else; MAP_PRIVATE, or MAP_SHARED for a file on tmpfs.
    pub fn huge(len: usize, align: usize, kind: c_int) -> Result<Self> {
        let place = (0x10_0000_0000 + align) as *mut c_void;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = kind | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: MAP_FIXED_NOREPLACE replaces no mapping.
        let addr = unsafe { libc::mmap(place, len, prot, flags, -1, 0) };
        let map = Self::take(addr, len)?;
        map.advise(libc::MADV_HUGEPAGE)?;
        Ok(map)
    }

    fn take(addr: *mut c_void, len: usize) -> Result<Self> {
        if addr == libc::MAP_FAILED {
            let error = Error::last_os_error();
            return Err(Error::other(format!("mmap of {len} bytes: {error}")));
        }
        Ok(Self {
            addr: addr.cast(),
            len,
        })
    }

    /// Small pages only. A kernel that has no others does not know the advice.
    fn forbid_huge(&self) -> Result<()> {
        self.advise(libc::MADV_NOHUGEPAGE).or_else(|error| {
            let unknown = Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
            if unknown { Ok(()) } else { Err(error) }
        })
    }

    fn advise(&self, advice: c_int) -> Result<()> {
        // SAFETY: Our own mapping; the advice changes nothing that the program can see.
        let ret = unsafe { libc::madvise(self.addr.cast(), self.len, advice) };
        check(ret.into(), "madvise")
    }

    /// mprotect(2) of the whole mapping.
    pub fn protect(&self, prot: c_int) -> Result<()> {
        // SAFETY: Our own mapping. Who takes the permissions away handles the signal.
        let ret = unsafe { libc::mprotect(self.addr.cast(), self.len, prot) };
        check(ret.into(), "mprotect")
    }

    pub fn pages(&self) -> usize {
        self.len / page_size()
    }

    /// Writes one byte in each page.
    pub fn write_all(&self) {
        for i in 0..self.pages() {
            // SAFETY: In the mapping, which is writable.
            unsafe { self.addr.add(i * page_size()).write_volatile(1) };
        }
    }

    /// Reads one byte in each page.
    pub fn read_all(&self) {
        for i in 0..self.pages() {
            self.read(i * page_size());
        }
    }

    /// Reads the byte at `offset`.
    pub fn read(&self, offset: usize) -> u8 {
        assert!(offset < self.len);
        // SAFETY: In the mapping, which is readable, or whose owner handles the signal.
        unsafe { self.addr.add(offset).read_volatile() }
    }

    /// A part of the mapping, in pages.
    pub fn part(&self, first: usize, pages: usize) -> (*mut u8, usize) {
        assert!(first + pages <= self.pages());
        let addr = self.addr.wrapping_add(first * page_size());
        (addr, pages * page_size())
    }

    pub fn all(&self) -> (*mut u8, usize) {
        (self.addr, self.len)
    }

    /// Unmaps every other page, so that each one left is a vma of its own.
    pub fn punch_every_other_page(&self) -> Result<()> {
        for i in (1..self.pages()).step_by(2) {
            let (addr, len) = self.part(i, 1);
            // SAFETY: A page of ours that nobody uses.
            check(unsafe { libc::munmap(addr.cast(), len) }.into(), "munmap")?;
        }
        Ok(())
    }

    pub fn unmap(self) {
        drop(self);
    }

    /// Writes a byte at `offset`.
    pub fn write(&self, offset: usize) {
        assert!(offset < self.len);
        // SAFETY: In the mapping, which is writable.
        unsafe { self.addr.add(offset).write_volatile(1) };
    }

    /// munmap(2) of a part, or of all of it, which nobody uses; 0 or -1, the error in errno.
    pub fn munmap(&self, (addr, len): (*mut u8, usize)) -> c_long {
        // SAFETY: A part of ours that nobody uses.
        unsafe { libc::munmap(addr.cast(), len) }.into()
    }

    /// mprotect(2) of some pages; 0 or -1, the error in errno.
    pub fn protect_part(&self, first: usize, pages: usize, prot: c_int) -> c_long {
        let (addr, len) = self.part(first, pages);
        // SAFETY: Our own mapping. Nobody uses what he may not.
        unsafe { libc::mprotect(addr.cast(), len, prot) }.into()
    }

    /// mremap(2) in place; 0 or -1, the error in errno.
    pub fn mremap(&self, from: usize, to: usize) -> c_long {
        // SAFETY: Our own mapping; what goes away nobody uses.
        let addr = unsafe { libc::mremap(self.addr.cast(), from, to, 0) };
        if addr == libc::MAP_FAILED { -1 } else { 0 }
    }

    /// madvise(2) with MADV_DONTNEED_LOCKED; 0 or -1, the error in errno.
    pub fn dontneed_locked(&self) -> c_long {
        const MADV_DONTNEED_LOCKED: c_int = 24;
        // SAFETY: What was written is not needed any more.
        unsafe { libc::madvise(self.addr.cast(), self.len, MADV_DONTNEED_LOCKED) }.into()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: Our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.addr.cast(), self.len) };
    }
}

/// mlock2(2); 0 or -1, the error in errno.
pub fn mlock2((addr, len): (*mut u8, usize), flags: c_int) -> c_long {
    // SAFETY: Locking changes nothing that the program can see.
    unsafe { libc::syscall(libc::SYS_mlock2, addr, len, flags) }
}

/// munlock(2); 0 or -1, the error in errno.
pub fn munlock((addr, len): (*mut u8, usize)) -> c_long {
    // SAFETY: As above.
    unsafe { libc::syscall(libc::SYS_munlock, addr, len) }
}

/// mlockall(2); 0 or -1, the error in errno.
pub fn mlockall(flags: c_int) -> c_long {
    // SAFETY: As above.
    unsafe { libc::syscall(libc::SYS_mlockall, flags) }
}

/// munlockall(2); 0 or -1, the error in errno.
pub fn munlockall() -> c_long {
    // SAFETY: As above.
    unsafe { libc::syscall(libc::SYS_munlockall) }
}

/// The size of large folios, in bytes.
pub const LARGE: usize = 64 << 10;

/// As long as there is one, MADV_HUGEPAGE brings folios of `LARGE`, and none that are larger.
pub struct LargeFolios(Vec<(String, String)>);

impl LargeFolios {
    /// `None` if the kernel has no such folios.
    pub fn allow() -> Result<Option<Self>> {
        const DIR: &str = "/sys/kernel/mm/transparent_hugepage";
        let mut old = Self(Vec::new());

        if !Path::new(&format!("{DIR}/hugepages-{}kB", LARGE >> 10)).exists() {
            return Ok(None);
        }
        for dir in std::fs::read_dir(DIR)? {
            let dir = dir?.path().display().to_string();
            let Some(size) = dir.split("/hugepages-").nth(1) else {
                continue;
            };
            let is_large = size == format!("{}kB", LARGE >> 10);
            for (file, on) in [("enabled", "madvise"), ("shmem_enabled", "advise")] {
                let file = format!("{dir}/{file}");
                // Not every size has both.
                let Ok(text) = std::fs::read_to_string(&file) else {
                    continue;
                };
                let now = text.split(['[', ']']).nth(1).unwrap_or("never");
                std::fs::write(&file, if is_large { on } else { "never" })?;
                old.0.push((file, now.to_string()));
            }
        }
        Ok(Some(old))
    }
}

impl Drop for LargeFolios {
    fn drop(&mut self) {
        for (file, value) in &self.0 {
            // What was there can be written.
            let _ = std::fs::write(file, value);
        }
    }
}

/// A file of `len` bytes on the guest's tmpfs, without a name; all of it is a hole.
pub fn tmpfs_file(len: usize) -> Result<File> {
    // SAFETY: The name ends in a zero.
    let fd = unsafe { libc::memfd_create(c"bench".as_ptr(), 0) };
    if fd < 0 {
        return Err(Error::other(format!(
            "memfd_create: {}",
            Error::last_os_error()
        )));
    }
    // SAFETY: The descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len as u64)?;
    Ok(file)
}

/// Sets the soft RLIMIT_MEMLOCK in bytes. Only the soft limit, so that it can be changed again
/// without privilege.
pub fn limit(bytes: u64) -> Result<()> {
    limits(bytes, libc::RLIM_INFINITY)
}

/// Sets the soft and the hard RLIMIT_MEMLOCK in bytes, for programs that raise the soft one.
pub fn limits(soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` is read.
    let ret = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
    check(ret.into(), "setrlimit")
}

pub fn drop_privilege() -> Result<()> {
    // SAFETY: No preconditions.
    check(unsafe { libc::setuid(NOBODY) }.into(), "setuid")
}

/// Lets a process have more vmas than the kernel's default.
pub fn allow_vmas(count: usize) -> Result<()> {
    let file = "/proc/sys/vm/max_map_count";
    std::fs::write(file, count.to_string())
        .map_err(|e| Error::other(format!("{file}: {e}: is CONFIG_SYSCTL=y?")))
}

/// Runs `work` in a process of its own, which has memory of its own, and waits for it.
pub fn in_child(work: impl FnOnce() -> Result<()>) -> Result<()> {
    // SAFETY: There is one thread.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(Error::other(format!("fork: {}", Error::last_os_error())));
    }
    if child == 0 {
        let good = work().inspect_err(|e| eprintln!("bench: {e}")).is_ok();
        // SAFETY: Ends the child.
        unsafe { libc::_exit(if good { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is ours to write to.
    unsafe { libc::waitpid(child, &mut status, 0) };
    match status {
        0 => Ok(()),
        _ => Err(Error::other("a child did not end well")),
    }
}
