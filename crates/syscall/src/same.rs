//! Whether two descriptors are of one open file.

use std::ffi::c_long;

/// `KCMP_FILE` of kcmp(2), which libc does not name.
const KCMP_FILE: c_long = 0;

/// Whether two descriptors of a process are of one open file: one is a dup(2) of the other. False where that cannot be
/// known: the kernel has no kcmp(2), or the process is somebody else's.
pub fn are_one_file(process: i32, one: i32, other: i32) -> bool {
    let numbers = [process, process].map(c_long::from);
    #[expect(unsafe_code, reason = "neither rustix nor nix has this call")]
    // SAFETY: it takes and gives numbers alone.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            numbers[0],
            numbers[1],
            KCMP_FILE,
            c_long::from(one),
            c_long::from(other),
        )
    };
    order == 0
}
