//! Frames: 4 bytes big-endian length, then JSON, at most 16 MiB.

use crate::config::frames::FromProxy;

/// Longest JSON of a frame in bytes.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// The stream cannot be read any further; the connection closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    TooLong(usize),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::TooLong(n) => write!(f, "frame of {n} bytes, at most {MAX_FRAME}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Bytes in, whole frames out.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    start: usize,
}

impl FrameDecoder {
    /// Takes what was read from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame's JSON; `None`: push more. Call it until `None`. After an error nothing more comes.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some((head, body)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        if body.len() < length {
            return Ok(None);
        }
        let from = self.start + 4;
        self.start = from + length;
        Ok(Some(&self.buffer[from..self.start]))
    }
}

/// Length and JSON of a frame, ready to be written.
pub fn encode(frame: &FromProxy) -> Result<Vec<u8>, FrameError> {
    let mut out = vec![0; 4];
    // Writing our own plain structs to memory fails only on a map key that is no string: there is none.
    if serde_json::to_writer(&mut out, frame).is_err() {
        out.truncate(4);
    }
    let length = out.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    out[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(out)
}
