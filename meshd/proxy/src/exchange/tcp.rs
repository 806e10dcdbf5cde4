//! Bytes both ways with half-close, for TCP services.

use super::{Guard, Stop};
use crate::clock::Deadline;
use crate::stream::{Buf, Stream};
use std::future::poll_fn;
use std::task::{Context, Poll};

/// One end, with what was read from it and the other end has not taken.
pub struct End<'a> {
    pub stream: &'a mut Stream,
    pub buf: &'a mut Buf,
}

/// One direction's state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// The sender is done; the rest is being flushed.
    Ending,
    Shut,
}

/// Relays until both directions ended, one end broke, or it is cut. An idle connection is not ended: that the peer
/// is gone shows by TCP keep-alive, and when to be silent is the application's business.
pub async fn relay(mut a: End<'_>, mut b: End<'_>, guard: &mut Guard<'_>, deadline: &Deadline) -> Result<(), Stop> {
    let (mut there, mut back) = (Way::Open, Way::Open);
    guard.phase(deadline, 0);
    poll_fn(|cx| {
        let r = poll_way(cx, &mut a, &mut b, &mut there).and_then(|()| poll_way(cx, &mut b, &mut a, &mut back));
        if r.is_err() {
            return Poll::Ready(Err(Stop::Gone));
        }
        if there == Way::Shut && back == Way::Shut {
            return Poll::Ready(Ok(()));
        }
        let session = b.stream.session().or(a.stream.session());
        guard.check(deadline, session).map_or(Poll::Pending, |s| Poll::Ready(Err(s)))
    })
    .await
}

/// Moves what can be moved from one end to the other.
fn poll_way(cx: &mut Context<'_>, from: &mut End<'_>, to: &mut End<'_>, way: &mut Way) -> Result<(), ()> {
    if *way == Way::Shut {
        return Ok(());
    }
    loop {
        match to.stream.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Err(()),
            // back-pressure: nothing is read that cannot be sent on
            Poll::Pending => return Ok(()),
        }
        if *way == Way::Ending {
            to.stream.shut();
            *way = Way::Shut;
            return Ok(());
        }
        if from.buf.is_empty() {
            match from.stream.poll_fill(cx, from.buf) {
                Poll::Ready(Ok(0)) => {
                    *way = Way::Ending;
                    to.stream.finish();
                    continue;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => return Ok(()),
            }
        }
        let n = from.buf.len();
        to.stream.out().extend_from_slice(from.buf.data());
        from.buf.consume(n);
        to.stream.seal().map_err(|_| ())?;
    }
}
