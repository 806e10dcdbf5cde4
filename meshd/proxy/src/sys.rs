//! The only unsafe code: two calls that the standard library does not offer.
#![allow(unsafe_code)]

/// The process's effective user.
pub fn effective_uid() -> u32 {
    // SAFETY: no arguments, cannot fail
    unsafe { libc::geteuid() }
}

/// Raises the soft limit of open files to the hard one; a proxy needs two per connection. Returns what holds now.
pub fn raise_open_files() -> u64 {
    let mut l = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `l` is a valid rlimit for the kernel to fill and to read
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut l) != 0 {
            return 0;
        }
        let wanted = libc::rlimit { rlim_cur: l.rlim_max, rlim_max: l.rlim_max };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) == 0 { wanted.rlim_cur } else { l.rlim_cur }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_of_open_files_can_be_read() {
        assert!(super::raise_open_files() >= 256);
    }
}
