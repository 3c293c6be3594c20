// SPDX-License-Identifier: GPL-2.0

//! Stacks of their own for tasks: the Rust and the C under test are called on them, and can be left
//! in the middle of any function.

use core::arch::global_asm;

extern "C" {
    /// Saves the registers that a call preserves on this stack, the stack pointer in `*save`, and
    /// goes on where `to` was saved.
    pub fn interleave_switch(save: *mut *mut u8, to: *mut u8);
}

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl interleave_switch",
    "interleave_switch:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdi], rsp",
    "mov rsp, rsi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl interleave_switch",
    "interleave_switch:",
    "stp x19, x20, [sp, #-160]!",
    "stp x21, x22, [sp, #16]",
    "stp x23, x24, [sp, #32]",
    "stp x25, x26, [sp, #48]",
    "stp x27, x28, [sp, #64]",
    "stp x29, x30, [sp, #80]",
    "stp d8, d9, [sp, #96]",
    "stp d10, d11, [sp, #112]",
    "stp d12, d13, [sp, #128]",
    "stp d14, d15, [sp, #144]",
    "mov x9, sp",
    "str x9, [x0]",
    "mov sp, x1",
    "ldp x21, x22, [sp, #16]",
    "ldp x23, x24, [sp, #32]",
    "ldp x25, x26, [sp, #48]",
    "ldp x27, x28, [sp, #64]",
    "ldp x29, x30, [sp, #80]",
    "ldp d8, d9, [sp, #96]",
    "ldp d10, d11, [sp, #112]",
    "ldp d12, d13, [sp, #128]",
    "ldp d14, d15, [sp, #144]",
    "ldp x19, x20, [sp], #160",
    "ret",
);

const STACK: usize = 256 << 10;

/// A stack. It is never unwound past its first function, and may be left and forgotten.
pub struct Stack(Box<[u128]>);

impl Stack {
    pub fn new() -> Self {
        Self(vec![0; STACK / 16].into_boxed_slice())
    }

    /// Returns a stack pointer that [`interleave_switch`] can go to, to call `entry`.
    pub fn start(&mut self, entry: extern "C" fn() -> !) -> *mut u8 {
        let len = self.0.len();
        // 16 words below the top, which is aligned to 16 bytes.
        let words = &mut self.0[len - 16..];
        words.fill(0);
        let base = words.as_mut_ptr().cast::<usize>();
        let entry = entry as usize;
        if cfg!(target_arch = "x86_64") {
            // Six registers, and the return address; where that stood must be aligned, so that
            // the function starts as after a call.
            // SAFETY: All of them are in the words above.
            unsafe { base.add(8 + 6).write(entry) };
            base.wrapping_add(8).cast()
        } else {
            // x30, in a frame of 160 bytes.
            // SAFETY: As above.
            unsafe { base.add(11).write(entry) };
            base.cast()
        }
    }
}

impl Default for Stack {
    fn default() -> Self {
        Self::new()
    }
}
