//! The control socket without the socket: frames, and the set of resources that the proxy holds.

#[cfg(test)]
mod changes;
mod frame;
mod holder;
mod saved;
#[cfg(test)]
mod tests;

pub use frame::{FrameDecoder, FrameError, MAX_FRAME, encode};
pub use holder::{Candidate, Holder};
pub use saved::{Saver, last_path, restore};
