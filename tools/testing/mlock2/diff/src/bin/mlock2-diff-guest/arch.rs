// SPDX-License-Identifier: GPL-2.0

//! What takes instructions of this architecture: touches memory that may not be there, and forks
//! without touching any.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("this file is to be written for this architecture, too");

use std::arch::{asm, global_asm};
use std::mem;
use std::ptr;
use std::sync::atomic::AtomicU32;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

// The access is the first instruction, so that after a fault there the return address is on top of
// the stack.
global_asm!(
    ".globl mlock2_diff_read",
    "mlock2_diff_read:",
    "movzx eax, byte ptr [rdi]",
    "ret",
    ".globl mlock2_diff_write",
    "mlock2_diff_write:",
    "mov byte ptr [rdi], sil",
    "xor eax, eax",
    ".globl mlock2_diff_fault",
    "mlock2_diff_fault:",
    "ret",
);

unsafe extern "C" {
    fn mlock2_diff_read(addr: u64) -> c_int;
    fn mlock2_diff_write(addr: u64, value: u8) -> c_int;
    fn mlock2_diff_fault();
}

extern "C" fn on_fault(signal: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: The kernel passes the context that it restores; nobody else refers to it.
    let context = unsafe { &mut *context.cast::<ucontext_t>() };
    let registers = &mut context.uc_mcontext.gregs;
    let at = registers[libc::REG_RIP as usize] as usize;
    if at != mlock2_diff_read as *const () as usize && at != mlock2_diff_write as *const () as usize
    {
        // Not ours: to die is what the process would have done.
        // SAFETY: No preconditions.
        unsafe { libc::_exit(128 + signal) };
    }
    registers[libc::REG_RIP as usize] = mlock2_diff_fault as *const () as usize as i64;
    registers[libc::REG_RAX as usize] = i64::from(-signal);
}

/// Lets `read()` and `write()` survive.
pub fn prepare() {
    // SAFETY: All zero is a valid sigaction, and the handler has the form that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

/// The byte at `addr`, or the negative number of the signal that reading it caused.
pub fn read(addr: u64) -> i32 {
    // SAFETY: A fault is survived, and what is there is only looked at.
    unsafe { mlock2_diff_read(addr) }
}

/// Writes to `addr`, which must be in the arena. 0, or the negative number of the signal.
pub fn write(addr: u64, value: u8) -> i32 {
    // SAFETY: A fault is survived, and no Rust object lives in the arena.
    unsafe { mlock2_diff_write(addr, value) }
}

/// fork(), as a child of this process's parent. The new process sleeps while `word` is 0, and until
/// then it touches no memory: else it would depend on the scheduler which of the two processes
/// copies a page of the stack, and which one finds that the page is its own.
///
/// Returns what the system call did.
pub fn fork(word: &AtomicU32) -> i64 {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    let mut ret = libc::SYS_clone;
    // SAFETY: This process has one thread, and neither process uses anything of the C library that
    // would mind. The loop uses registers only; `word` is in shared memory.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 3f",
            "2:",
            "mov eax, {futex}",
            "mov rdi, {word}",
            "xor esi, esi", // FUTEX_WAIT
            "xor edx, edx",
            "xor r10d, r10d",
            "syscall",
            "cmp dword ptr [{word}], 0",
            "je 2b",
            "xor eax, eax",
            "3:",
            futex = const libc::SYS_futex,
            word = in(reg) word.as_ptr(),
            inout("rax") ret,
            inout("rdi") i64::from(flags) => _,
            inout("rsi") 0i64 => _,
            inout("rdx") 0i64 => _,
            inout("r10") 0i64 => _,
            in("r8") 0i64,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    ret
}
