//! Listening sockets: bound by the control thread, one per data thread, accepted there.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener as Std};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel keeps until we accept them.
const BACKLOG: i32 = 4096;
/// Out of file descriptors: others end meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// What a listening socket is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// The upstream listener of this name.
    Upstream(Box<str>),
    /// The host's mTLS port.
    Inbound,
}

/// A loopback needs no pacing and no model of the network: up to 5 % of a request's CPU where the default is bbr.
/// Accepted sockets inherit it. Not available: the default stays.
pub fn light(s: &Socket) {
    let _ = s.set_tcp_congestion(b"reno");
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let s = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    s.set_reuse_address(true)?;
    s.set_reuse_port(shared)?;
    s.set_nonblocking(true)?;
    if address.ip().is_loopback() {
        light(&s);
    }
    s.bind(&address.into())?;
    s.listen(BACKLOG)?;
    Ok(s)
}

/// One socket per thread on one address. A taken port is an error: the first bind is made without SO_REUSEPORT, so
/// that connections are never silently shared with another process.
pub fn bind(address: SocketAddr, threads: usize) -> io::Result<Vec<Std>> {
    let alone = bound(address, false)?;
    if threads == 1 {
        return Ok(vec![alone.into()]);
    }
    drop(alone);
    (0..threads).map(|_| bound(address, true).map(Std::from)).collect()
}

/// Hands each accepted connection to `serve`; ends only with its task.
pub async fn accept(listener: Std, serve: Rc<dyn Fn(TcpStream, SocketAddr)>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((s, from)) => {
                // what is one write is one segment
                if s.set_nodelay(true).is_ok() {
                    serve(s, from);
                }
            }
            // the peer was gone before we came
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_even_if_its_holder_shares() {
        let holder = bound("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let address = holder.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(bind(address, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(holder);
        assert_eq!(bind(address, 2).unwrap().len(), 2);
    }
}
