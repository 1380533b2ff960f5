//! The one file with `unsafe`: locked pages for keys, a wiping allocator, process hardening.
//!
//! All of it limits who else can see this process's memory: other processes of the same user, core dumps, swap, and
//! code that reuses a freed allocation. Root and the kernel are out of scope (`docs/threat-model.md`).
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock};

use crate::crypto::secret::{KeyPage, install_key_pages};

/// Where [`harden`] could place the keys. Logged at start and shown nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyMemory {
    /// `memfd_secret(2)`: the pages are absent from the kernel's direct map and refuse ptrace and `/proc/pid/mem`.
    Secret,
    /// Anonymous pages with `mlock` and `MADV_DONTDUMP`.
    Locked,
    /// Ordinary heap memory, because neither call worked (for example `RLIMIT_MEMLOCK` is 0).
    Heap,
}

impl KeyMemory {
    /// One sentence for the operator's log.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Secret => "keys are kept in memfd_secret pages",
            Self::Locked => {
                "keys are kept in locked pages that are excluded from dumps (this kernel has no memfd_secret)"
            }
            Self::Heap => "keys are kept in ordinary memory and may be swapped out: raise LimitMEMLOCK to lock them",
        }
    }
}

/// Disables core dumps and ptrace by the process's own user, restricts new files to the owner, and installs the locked
/// pages for long-lived keys. Call it once, before any key exists and before any thread starts.
pub fn harden() -> KeyMemory {
    // SAFETY: plain system calls with constant arguments; none touches memory of ours beyond the struct passed.
    unsafe {
        libc::umask(0o077);
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
    let (arena, kind) = match Arena::new() {
        Some((arena, kind)) => (Some(arena), kind),
        None => (None, KeyMemory::Heap),
    };
    if ARENA.set(arena).is_ok() {
        install_key_pages(allocate_page);
    }
    kind
}

/// Unblocks `signals` in this thread and in threads that it starts later. They may have been blocked already when the
/// process was started, and a daemon that inherits a blocked SIGTERM could only be ended with SIGKILL.
pub fn let_through(signals: &[libc::c_int]) {
    // SAFETY: `set` is initialised by sigemptyset before its first use and outlives the calls; the old mask is not asked
    // for. A number that is no signal is refused by sigaddset, and the set stays as it was.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// True when the effective user is root. The daemon then warns, because it needs no privileges.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Sends `signal` to the process `pid`; used to pass SIGTERM on to a program started by `strongroomd dev`.
pub fn send_signal(pid: u32, signal: i32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    if pid > 1 {
        // SAFETY: kill with a checked positive pid has no memory effects.
        unsafe {
            libc::kill(pid, signal);
        }
    }
}

const PAGES: usize = 16;
const SLOT_BYTES: usize = 32;

static ARENA: OnceLock<Option<Arena>> = OnceLock::new();

struct Arena {
    base: NonNull<u8>,
    free: Mutex<Vec<usize>>,
}

// SAFETY: `base` points to a mapping that lives as long as the process; slots are handed out once each under the mutex.
unsafe impl Send for Arena {}
// SAFETY: as above; all mutation of the free list goes through the mutex.
unsafe impl Sync for Arena {}

impl Arena {
    fn new() -> Option<(Self, KeyMemory)> {
        let bytes = PAGES * 4096;
        let (base, kind) = match Self::secret_mapping(bytes) {
            Some(base) => (base, KeyMemory::Secret),
            None => (Self::locked_mapping(bytes)?, KeyMemory::Locked),
        };
        let slots = (0..bytes / SLOT_BYTES).rev().collect();
        Some((Self { base, free: Mutex::new(slots) }, kind))
    }

    fn secret_mapping(bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: memfd_secret takes flags only; the descriptor is checked, sized, mapped shared and closed again.
        // The mapping keeps the pages alive. It is never unmapped, so no reference can dangle.
        unsafe {
            let fd = libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC);
            let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
            let length = libc::off_t::try_from(bytes).ok()?;
            let pointer = if libc::ftruncate(fd, length) == 0 {
                libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
            } else {
                libc::MAP_FAILED
            };
            libc::close(fd);
            Self::usable(pointer, bytes)
        }
    }

    fn locked_mapping(bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: an anonymous private mapping of `bytes`; locked and excluded from dumps before use, never unmapped.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let pointer = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            let base = Self::usable(pointer, bytes)?;
            if libc::mlock(pointer, bytes) != 0 {
                libc::munmap(pointer, bytes);
                return None;
            }
            libc::madvise(pointer, bytes, libc::MADV_DONTDUMP);
            Some(base)
        }
    }

    /// # Safety
    /// `pointer` is the result of an `mmap` of `bytes`, writable, or `MAP_FAILED`.
    unsafe fn usable(pointer: *mut libc::c_void, bytes: usize) -> Option<NonNull<u8>> {
        if pointer == libc::MAP_FAILED {
            return None;
        }
        // A forked child must not inherit the keys.
        // SAFETY: the caller passes a live mapping of `bytes`.
        unsafe { libc::madvise(pointer, bytes, libc::MADV_DONTFORK) };
        NonNull::new(pointer.cast())
    }
}

struct Page {
    at: NonNull<[u8; SLOT_BYTES]>,
    slot: usize,
}

// SAFETY: a page is the only owner of its slot; the arena outlives it.
unsafe impl Send for Page {}
// SAFETY: shared access is read-only through `&self`.
unsafe impl Sync for Page {}

impl KeyPage for Page {
    fn bytes(&self) -> &[u8; SLOT_BYTES] {
        // SAFETY: the slot belongs to this page alone and is initialised (mappings start zeroed).
        unsafe { self.at.as_ref() }
    }

    fn bytes_mut(&mut self) -> &mut [u8; SLOT_BYTES] {
        // SAFETY: as above, and `&mut self` excludes every other reference.
        unsafe { self.at.as_mut() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(self.bytes_mut());
        if let Some(Some(arena)) = ARENA.get()
            && let Ok(mut free) = arena.free.lock()
        {
            free.push(self.slot);
        }
    }
}

fn allocate_page() -> Option<Box<dyn KeyPage>> {
    let arena = ARENA.get()?.as_ref()?;
    let slot = arena.free.lock().ok()?.pop()?;
    // SAFETY: `slot` is below the number of slots, so the pointer stays inside the mapping; 32-byte slots are aligned
    // for bytes.
    let at = unsafe { arena.base.add(slot * SLOT_BYTES) }.cast::<[u8; SLOT_BYTES]>();
    Some(Box::new(Page { at, slot }))
}

/// Global allocator that overwrites every block before it is freed, so that request and reply buffers of any library in
/// the process leave no plaintext behind. Growth in place is kept; a block that moves is wiped at its old place.
#[derive(Debug, Default, Clone, Copy)]
pub struct WipingAllocator;

// SAFETY: delegates to the system allocator and upholds its contract; the extra writes stay inside the block that the
// caller hands over for release.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: same contract as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: same contract as ours.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller owns `layout.size()` bytes at `block` and gives them up.
        unsafe {
            wipe(block, layout.size());
            System.dealloc(block, layout);
        }
    }
    // `realloc` is the default: allocate, copy, `dealloc` (which wipes). The system's own would leave the old copy.
}

/// # Safety
/// `block` is valid for writes of `length` bytes.
unsafe fn wipe(block: *mut u8, length: usize) {
    // SAFETY: guaranteed by the caller. The empty asm block takes the pointer, so the store cannot be removed as dead.
    unsafe {
        std::ptr::write_bytes(block, 0, length);
        std::arch::asm!("/* {0} */", in(reg) block, options(nostack, preserves_flags, readonly));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_distinct_writable_and_wiped_on_return() {
        let (arena, _) = Arena::new().expect("this kernel locks 64 KiB");
        let _ = ARENA.set(Some(arena));
        let mut first = allocate_page().expect("a free slot");
        let mut second = allocate_page().expect("a free slot");
        first.bytes_mut().fill(0xaa);
        second.bytes_mut().fill(0xbb);
        assert_eq!(first.bytes(), &[0xaa; 32]);
        assert_eq!(second.bytes(), &[0xbb; 32]);
        let at = std::ptr::from_ref(second.bytes());
        drop(second);
        let again = allocate_page().expect("the slot came back");
        assert_eq!(std::ptr::from_ref(again.bytes()), at);
        assert_eq!(again.bytes(), &[0; 32], "a returned slot is wiped");
        assert_eq!(first.bytes(), &[0xaa; 32]);
    }

    /// In a process of its own, because it changes the whole process.
    #[test]
    fn a_hardened_process_leaves_no_core_dump_and_cannot_be_read_by_its_user() {
        const CHILD: &str = "STRONGROOM_TEST_HARDENED";
        if std::env::var_os(CHILD).is_none() {
            let name = "os::tests::a_hardened_process_leaves_no_core_dump_and_cannot_be_read_by_its_user";
            let mut child = std::process::Command::new(std::env::current_exe().expect("a path"));
            let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().expect("runs");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        harden();
        let mut limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        // SAFETY: asks for facts about this process; `limit` outlives the call.
        let dumpable = unsafe {
            libc::getrlimit(libc::RLIMIT_CORE, &mut limit);
            libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0)
        };
        assert_eq!((dumpable, limit.rlim_cur, limit.rlim_max), (0, 0, 0));
    }

    #[test]
    fn the_allocator_wipes_what_it_frees() {
        let layout = Layout::from_size_align(64, 8).expect("legal layout");
        // SAFETY: allocated, filled and inspected within the block's life; wiped by the function under test.
        unsafe {
            let block = WipingAllocator.alloc(layout);
            std::ptr::write_bytes(block, 0x5a, 64);
            wipe(block, 64);
            assert!(std::slice::from_raw_parts(block, 64).iter().all(|byte| *byte == 0));
            WipingAllocator.dealloc(block, layout);
        }
    }
}
