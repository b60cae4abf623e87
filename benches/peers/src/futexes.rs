//! Counts futex calls: threads that go to sleep on a word, and those that wake them.
//!
//! The standard library and `parking_lot`, and with them all the engines, make these calls through libc's
//! `syscall`. This program has a function of that name itself, which the linker prefers. What glibc calls for its
//! own locks, those of `malloc` above all, is not counted.

use std::sync::atomic::{AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// How many calls there were so far; 0 where they are not counted.
pub(crate) fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod stand_in {
    use std::arch::asm;

    use super::{CALLS, Ordering};

    /// As libc's: the result, or -1 and `errno`. It is called as a function of any number of arguments, which are
    /// where those of this one are.
    #[unsafe(no_mangle)]
    #[expect(
        clippy::many_single_char_names,
        reason = "the kernel has no names for them either"
    )]
    unsafe extern "C" fn syscall(
        number: libc::c_long,
        a: libc::c_long,
        b: libc::c_long,
        c: libc::c_long,
        d: libc::c_long,
        e: libc::c_long,
        f: libc::c_long,
    ) -> libc::c_long {
        if number == libc::SYS_futex {
            CALLS.fetch_add(1, Ordering::Relaxed);
        }
        let result: libc::c_long;
        // SAFETY: what the caller asked of the kernel, with its arguments; the kernel changes these registers.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number => result,
                in("rdi") a,
                in("rsi") b,
                in("rdx") c,
                in("r10") d,
                in("r8") e,
                in("r9") f,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        if (-4095..0).contains(&result) {
            let error = i32::try_from(-result).unwrap_or(libc::EINVAL);
            // SAFETY: libc gives the place of this thread's `errno`.
            let errno = unsafe { libc::__errno_location() };
            // SAFETY: as above.
            unsafe { *errno = error };
            return -1;
        }
        result
    }
}
