//! Memory that a program holds and does not need.
//!
//! Most of what a small daemon occupies is its own code: the kernel maps 64 KiB around each page that is touched, and the
//! start touches nearly everything. Pages that are those of a file can go at any time, as they do when memory is short; the
//! few that are needed come back from the page cache with one fault each.

use std::fs;
use std::io;
use std::ops::Range;

/// Lets go of all pages that are as their file has them: code and constants of the program and its libraries.
///
/// # Errors
/// As open(2) of /proc/self/smaps (proc_pid_smaps(5)), and as madvise(2).
pub fn let_go_of_files() -> io::Result<()> {
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    pristine(&smaps).try_for_each(|mapping| {
        #[expect(unsafe_code, reason = "rustix marks the call unsafe as well")]
        // SAFETY: the range is a private mapping of a file, cannot be written, and has no page of its own. So the next access
        // finds the same bytes again, those of the file, which nobody can write while it is executed (ETXTBSY) or replaced by
        // an upgrade, which gives the name to another file.
        let result =
            unsafe { libc::madvise(mapping.start as *mut libc::c_void, mapping.len(), libc::MADV_DONTNEED) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// The mappings of code that was never changed, and of constants beside it.
fn pristine(smaps: &str) -> impl Iterator<Item = Range<usize>> {
    let mut mapping = None;
    smaps.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next()?, words.next()?);
        if let Some((start, end)) = first.split_once('-') {
            let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
            // Relocated constants cannot be written either, but have pages of their own.
            let is_file = words.nth(2).is_some_and(|inode| inode != "0");
            mapping = Some(range).filter(|_| is_file && matches!(second, "r-xp" | "r--p"));
            return None;
        }
        if first == "Anonymous:" { mapping.take().filter(|_| second == "0") } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident pages of mappings of files that can be executed, in KiB.
    fn resident_code() -> usize {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_code = false;
        let mut sum = 0;
        for line in smaps.lines() {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            if words[0].contains('-') {
                is_code = words[1] == "r-xp" && words[4] != "0";
            } else if is_code && words[0] == "Rss:" {
                sum += words[1].parse::<usize>().unwrap();
            }
        }
        sum
    }

    #[test]
    fn code_goes_and_comes_back_when_it_is_needed() {
        let before = resident_code();
        let_go_of_files().unwrap();
        let after = resident_code();
        assert!(after < before, "{after} of {before} KiB");
        assert_eq!(format!("{:?}", std::env::args().count() > 0), "true", "and all is as it was");
    }

    #[test]
    fn only_what_is_as_its_file_has_it_is_let_go() {
        let smaps = "\
1000-3000 r-xp 00001000 fe:00 17                    /usr/bin/program
Rss:                   8 kB
Anonymous:             0 kB
3000-4000 r--p 00003000 fe:00 17                    /usr/bin/program
Anonymous:             4 kB
4000-5000 rw-p 00004000 fe:00 17                    /usr/bin/program
Anonymous:             0 kB
5000-6000 r--p 00000000 00:00 0                     [vvar]
Anonymous:             0 kB
6000-8000 r--p 00000000 fe:00 18                    /usr/lib/a library with blanks.so
Anonymous:             0 kB
8000-9000 r--s 00000000 fe:00 19                    /var/cache/shared
Anonymous:             0 kB
";
        assert_eq!(pristine(smaps).collect::<Vec<_>>(), [0x1000..0x3000, 0x6000..0x8000]);
    }
}
