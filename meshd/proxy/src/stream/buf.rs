//! Buffers that are lent: an idle connection owns none (idle plain connection 7.15 -> 1.75 KB when measured).

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

/// First read of a connection; doubles while reads fill it.
const FIRST: usize = 4096;
/// Beyond this a buffer does not grow, and larger ones are not kept.
const LARGEST: usize = 65536;
/// Spare buffers kept per thread.
const SPARE: usize = 256;

thread_local! {
    static BYTES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static FILLED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty vector with room, from the thread's spares.
#[inline]
pub fn lend() -> Vec<u8> {
    BYTES.with(|s| s.borrow_mut().pop()).unwrap_or_else(|| Vec::with_capacity(FIRST))
}

/// Takes `v`'s memory back into the thread's spares.
#[inline]
pub fn give(v: &mut Vec<u8>) {
    let mut v = std::mem::take(v);
    if (FIRST..=LARGEST).contains(&v.capacity()) {
        v.clear();
        BYTES.with(|s| {
            let mut s = s.borrow_mut();
            if s.len() < SPARE {
                s.push(v);
            }
        });
    }
}

/// Read buffer: data is `v[pos..end]`, all of `v` is initialised (zeroed once, when the memory is new).
#[derive(Default)]
pub struct Buf {
    v: Vec<u8>,
    pos: usize,
    end: usize,
    grow: usize,
}

impl Buf {
    pub const fn new() -> Buf {
        Buf { v: Vec::new(), pos: 0, end: 0, grow: FIRST }
    }

    #[inline]
    pub fn data(&self) -> &[u8] {
        &self.v[self.pos..self.end]
    }

    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.v[self.pos..self.end]
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.pos
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.end == self.pos
    }

    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.pos = (self.pos + n).min(self.end);
        if self.pos == self.end {
            self.pos = 0;
            self.end = 0;
        }
    }

    /// Room for `n` more bytes behind the data.
    #[inline]
    fn room(&mut self, n: usize) {
        if self.v.is_empty() {
            self.v = FILLED.with(|s| s.borrow_mut().pop()).unwrap_or_default();
        }
        if self.v.len() - self.end >= n {
            return;
        }
        if self.pos > 0 {
            self.v.copy_within(self.pos..self.end, 0);
            self.end -= self.pos;
            self.pos = 0;
        }
        if self.v.len() - self.end < n {
            let want = (self.end + n).next_power_of_two().max(FIRST);
            self.v.resize(want, 0);
        }
    }

    #[inline]
    pub fn extend(&mut self, d: &[u8]) {
        self.room(d.len());
        self.v[self.end..self.end + d.len()].copy_from_slice(d);
        self.end += d.len();
    }

    /// Gives the memory back when nothing is held.
    #[inline]
    pub fn release(&mut self) {
        if self.is_empty() && !self.v.is_empty() {
            let v = std::mem::take(&mut self.v);
            self.pos = 0;
            self.end = 0;
            self.grow = FIRST;
            if v.len() <= LARGEST {
                FILLED.with(|s| {
                    let mut s = s.borrow_mut();
                    if s.len() < SPARE {
                        s.push(v);
                    }
                });
            }
        }
    }

    /// One read of the socket. A short read clears tokio's readiness, so that no read ends in EAGAIN; `Ok(0)` is the end.
    #[inline]
    pub fn poll_read(&mut self, io: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.v.len() - self.end < self.grow / 2 {
            self.room(self.grow);
        }
        let mut rb = ReadBuf::new(&mut self.v[self.end..]);
        let r = Pin::new(io).poll_read(cx, &mut rb);
        let (n, full) = (rb.filled().len(), rb.remaining() == 0);
        match r {
            Poll::Ready(Ok(())) => {
                self.end += n;
                if full && self.grow < LARGEST {
                    self.grow *= 2;
                }
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => {
                self.release();
                Poll::Pending
            }
        }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        self.pos = self.end;
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_across_growth_and_consumption() {
        let mut b = Buf::new();
        let mut want = Vec::new();
        for i in 0..200u32 {
            let piece = vec![i as u8; (i as usize * 37) % 900];
            b.extend(&piece);
            want.extend_from_slice(&piece);
            let n = (i as usize * 53) % (want.len() + 1);
            b.consume(n);
            want.drain(..n);
            assert_eq!(b.data(), &want[..]);
        }
    }

    #[test]
    fn an_empty_buffer_gives_its_memory_back_and_a_full_one_keeps_it() {
        let mut b = Buf::new();
        b.extend(b"abc");
        b.release();
        assert_eq!(b.data(), b"abc");
        b.consume(3);
        b.release();
        assert!(b.v.is_empty());
        FILLED.with(|s| assert_eq!(s.borrow().len(), 1));
    }
}
