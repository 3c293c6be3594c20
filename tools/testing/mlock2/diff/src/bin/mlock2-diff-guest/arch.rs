// SPDX-License-Identifier: GPL-2.0

//! What takes instructions of this architecture: touches memory that may not be there, and forks
//! and waits without touching any.

#[cfg(not(any(
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "x86_64"
)))]
compile_error!("this file is to be written for this architecture, too");

use std::arch::{asm, global_asm};
use std::mem;
use std::ptr;
use std::sync::atomic::AtomicU32;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

// The access is the first instruction, so that after a fault there the return address is where it
// was at the call.
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl mlock2_diff_read",
    "mlock2_diff_read:",
    "ldrb w0, [x0]",
    "ret",
    ".globl mlock2_diff_write",
    "mlock2_diff_write:",
    "strb w1, [x0]",
    "mov w0, #0",
    ".globl mlock2_diff_fault",
    "mlock2_diff_fault:",
    "ret",
);
#[cfg(target_arch = "riscv64")]
global_asm!(
    ".globl mlock2_diff_read",
    "mlock2_diff_read:",
    "lbu a0, 0(a0)",
    "ret",
    ".globl mlock2_diff_write",
    "mlock2_diff_write:",
    "sb a1, 0(a0)",
    "li a0, 0",
    ".globl mlock2_diff_fault",
    "mlock2_diff_fault:",
    "ret",
);
#[cfg(target_arch = "x86_64")]
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
    let (at, result) = registers(context);
    if *at as usize != mlock2_diff_read as *const () as usize
        && *at as usize != mlock2_diff_write as *const () as usize
    {
        // Not ours: to die is what the process would have done.
        // SAFETY: No preconditions.
        unsafe { libc::_exit(128 + signal) };
    }
    *at = mlock2_diff_fault as *const () as usize as _;
    *result = i64::from(-signal) as _;
}

/// Where the process goes on, and the register for a function's result.
#[cfg(target_arch = "aarch64")]
fn registers(context: &mut ucontext_t) -> (&mut u64, &mut u64) {
    let machine = &mut context.uc_mcontext;
    (&mut machine.pc, &mut machine.regs[0])
}
#[cfg(target_arch = "riscv64")]
fn registers(context: &mut ucontext_t) -> (&mut libc::c_ulong, &mut libc::c_ulong) {
    let [pc, rest @ ..] = &mut context.uc_mcontext.__gregs;
    (pc, &mut rest[libc::REG_A0 - 1])
}
#[cfg(target_arch = "x86_64")]
fn registers(context: &mut ucontext_t) -> (&mut i64, &mut i64) {
    let (before, from) = context
        .uc_mcontext
        .gregs
        .split_at_mut(libc::REG_RIP as usize);
    (&mut from[0], &mut before[libc::REG_RAX as usize])
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
    clone_asleep(i64::from(flags), word.as_ptr())
}

/// clone() of this process with nothing but flags; the new one sleeps while `*word` is 0.
///
/// The C library is not told; this process has one thread, and neither process uses anything of it
/// that would mind. The loop uses registers only.
#[cfg(target_arch = "aarch64")]
fn clone_asleep(flags: i64, word: *mut u32) -> i64 {
    let mut ret = flags;
    // SAFETY: See above; `word` is in shared memory.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 3f",
            "2:",
            "mov x8, {futex}",
            "mov x0, {word}",
            "mov x1, #0", // FUTEX_WAIT
            "mov x2, #0",
            "mov x3, #0",
            "svc #0",
            "ldr {value:w}, [{word}]",
            "cbz {value:w}, 2b",
            "mov x0, #0",
            "3:",
            futex = const libc::SYS_futex,
            word = in(reg) word,
            value = out(reg) _,
            inout("x8") libc::SYS_clone => _,
            inout("x0") ret,
            inout("x1") 0i64 => _,
            inout("x2") 0i64 => _,
            inout("x3") 0i64 => _,
            in("x4") 0i64,
            options(nostack),
        );
    }
    ret
}
#[cfg(target_arch = "riscv64")]
fn clone_asleep(flags: i64, word: *mut u32) -> i64 {
    let mut ret = flags;
    // SAFETY: See above; `word` is in shared memory.
    unsafe {
        asm!(
            "ecall",
            "bnez a0, 3f",
            "2:",
            "li a7, {futex}",
            "mv a0, {word}",
            "li a1, 0", // FUTEX_WAIT
            "li a2, 0",
            "li a3, 0",
            "ecall",
            "lw {value}, 0({word})",
            "beqz {value}, 2b",
            "li a0, 0",
            "3:",
            futex = const libc::SYS_futex,
            word = in(reg) word,
            value = out(reg) _,
            inout("a7") libc::SYS_clone => _,
            inout("a0") ret,
            inout("a1") 0i64 => _,
            inout("a2") 0i64 => _,
            inout("a3") 0i64 => _,
            in("a4") 0i64,
            options(nostack),
        );
    }
    ret
}
#[cfg(target_arch = "x86_64")]
fn clone_asleep(flags: i64, word: *mut u32) -> i64 {
    let mut ret = libc::SYS_clone;
    // SAFETY: See above; `word` is in shared memory.
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
            word = in(reg) word,
            inout("rax") ret,
            inout("rdi") flags => _,
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

/// futex() on `word`, with no time limit if `limit` is null. What it returns is of no use: who waits
/// looks at the word again. The C library's call would write to errno, or not, depending on who is
/// faster; and in a process that was just forked, that copies a page.
///
/// # Safety
///
/// `word` must be mapped, and `limit` point to a timespec or be null.
#[cfg(target_arch = "aarch64")]
pub unsafe fn futex(word: *mut u32, op: c_int, value: u32, limit: *const libc::timespec) {
    // SAFETY: By the contract; the kernel preserves the other registers.
    unsafe {
        asm!(
            "svc #0",
            in("x8") libc::SYS_futex,
            inout("x0") word => _,
            in("x1") op,
            in("x2") value,
            in("x3") limit,
            options(nostack),
        );
    }
}
#[cfg(target_arch = "riscv64")]
pub unsafe fn futex(word: *mut u32, op: c_int, value: u32, limit: *const libc::timespec) {
    // SAFETY: As above.
    unsafe {
        asm!(
            "ecall",
            in("a7") libc::SYS_futex,
            inout("a0") word => _,
            in("a1") op,
            in("a2") value,
            in("a3") limit,
            options(nostack),
        );
    }
}
#[cfg(target_arch = "x86_64")]
pub unsafe fn futex(word: *mut u32, op: c_int, value: u32, limit: *const libc::timespec) {
    // SAFETY: As above.
    unsafe {
        asm!(
            "syscall",
            inout("rax") libc::SYS_futex => _,
            in("rdi") word,
            in("rsi") op,
            in("rdx") value,
            in("r10") limit,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
}
