//! The bytes of one file.
//!
//! Owns the choice of the fastest way: share them (FICLONE), let the kernel copy them (copy_file_range), or read and
//! write. Keeps holes. Both descriptors' offsets are left alone, so any way can take over from any other in the
//! middle.

use rustix::io::Errno;
use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::{self, Status};

/// Up to this size one read and one write are cheaper than asking for anything better.
pub(crate) const SMALL_SIZE: u64 = 64 * 1024;

/// Bytes that are read and written at a time.
const BUFFER_SIZE: usize = 256 * 1024;

/// Bytes that are compared at a time, of each side.
const COMPARED_SIZE: usize = 256 * 1024;

/// Bytes that the kernel is asked to copy at a time: some milliseconds, after which a request to stop is seen.
const CHUNK_SIZE: usize = 16 * 1024 * 1024;

thread_local! {
    /// A worker copies many files; it needs the buffer once.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Why content was not copied to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    Stopped,
    Os(Errno),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure::Os(errno)
    }
}

/// A copy of the content of `from`, a regular file with this status, to the empty file `to`.
pub(crate) struct Content<'a> {
    pub(crate) from: BorrowedFd<'a>,
    pub(crate) to: BorrowedFd<'a>,
    pub(crate) stop: &'a AtomicBool,
}

impl Content<'_> {
    /// Copies up to the size in `status`, and no further: a file that grows as fast as it is copied has an end all
    /// the same. Gives the number of bytes that are in the copy, holes included.
    pub(crate) fn copy(&self, status: &Status) -> Result<u64, Failure> {
        let size = status.size;
        let has_holes = status.allocated < size;
        match (size <= SMALL_SIZE, has_holes) {
            (true, false) => self.through_buffer(0, size),
            (true, true) => self.around_holes(size),
            (false, has_holes) => match sys::share_content(self.from, self.to) {
                Ok(()) => Ok(size),
                Err(errno) if cannot(errno) && has_holes => self.around_holes(size),
                Err(errno) if cannot(errno) => self.range(0, size),
                Err(errno) => Err(errno.into()),
            },
        }
    }

    /// Copies what is data and leaves the rest a hole.
    fn around_holes(&self, size: u64) -> Result<u64, Failure> {
        let mut offset = 0;
        while offset < size {
            let data = match sys::next_data(self.from, offset) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                // The filesystem doesn't tell; everything is data then.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => return self.range(offset, size),
                Err(errno) => return Err(errno.into()),
            };
            let hole = sys::next_hole(self.from, data)?.min(size);
            if data >= size || self.range(data, hole)? < hole {
                break;
            }
            offset = hole;
        }
        sys::set_size(self.to, size)?;
        Ok(size)
    }

    /// Copies from `offset` to `end` or to the end of the file, whichever comes first; gives where it ended.
    fn range(&self, mut offset: u64, end: u64) -> Result<u64, Failure> {
        while offset < end {
            self.check_stop()?;
            let length = (end - offset).min(CHUNK_SIZE as u64) as usize;
            match sys::copy_range(self.from, self.to, offset, length) {
                // Some filesystems say 0 although there is more (procfs and FUSE before Linux 5.19); reading is
                // certain.
                Ok(0) => return self.through_buffer(offset, end),
                Ok(copied) => offset += copied as u64,
                Err(errno) if cannot(errno) => return self.through_buffer(offset, end),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(offset)
    }

    /// As [`Content::range`], through memory.
    fn through_buffer(&self, mut offset: u64, end: u64) -> Result<u64, Failure> {
        BUFFER.with_borrow_mut(|buffer| {
            while offset < end {
                self.check_stop()?;
                let length = (end - offset).min(BUFFER_SIZE as u64) as usize;
                if buffer.len() < length {
                    buffer.resize(length, 0);
                }
                let read = sys::read_at(self.from, &mut buffer[..length], offset)?;
                if read == 0 {
                    break;
                }
                let mut written = 0;
                while written < read {
                    match sys::write_at(self.to, &buffer[written..read], offset + written as u64)? {
                        0 => return Err(Errno::IO.into()),
                        count => written += count,
                    }
                }
                offset += read as u64;
            }
            Ok(offset)
        })
    }

    fn check_stop(&self) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) { Err(Failure::Stopped) } else { Ok(()) }
    }
}

/// Whether two files have the same content up to `size`. Holes count as zeros, and are not read where the filesystem
/// says where they are.
pub(crate) fn equal(
    left: BorrowedFd<'_>,
    right: BorrowedFd<'_>,
    size: u64,
    stop: &AtomicBool,
) -> Result<bool, Failure> {
    let (mut ours, mut theirs) = (vec![0; COMPARED_SIZE], vec![0; COMPARED_SIZE]);
    let mut offset = 0;
    while offset < size {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::Stopped);
        }
        offset = next_data(left, offset, size)?.min(next_data(right, offset, size)?);
        let length = (size - offset).min(COMPARED_SIZE as u64) as usize;
        let read = read_whole(left, &mut ours[..length], offset)?;
        if read != read_whole(right, &mut theirs[..length], offset)? || ours[..read] != theirs[..read] {
            return Ok(false);
        }
        if read < length {
            // Both end here, earlier than they should.
            return Ok(false);
        }
        offset += length as u64;
    }
    Ok(true)
}

/// Where the next data is; the end of the file where there is none.
fn next_data(file: BorrowedFd<'_>, offset: u64, size: u64) -> Result<u64, Failure> {
    match sys::next_data(file, offset) {
        Ok(data) => Ok(data.min(size)),
        Err(Errno::NXIO) => Ok(size),
        // The filesystem doesn't tell; everything is data then.
        Err(errno) if cannot(errno) => Ok(offset),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads until the buffer is full or the file ends.
fn read_whole(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Failure> {
    let mut done = 0;
    while done < buffer.len() {
        match sys::read_at(file, &mut buffer[done..], offset + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// Whether an error means that this way is not open here, and another one may be.
fn cannot(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::OPNOTSUPP
            | Errno::XDEV
            | Errno::INVAL
            | Errno::NOTTY
            | Errno::NOSYS
            | Errno::PERM
            | Errno::TXTBSY
    )
}
