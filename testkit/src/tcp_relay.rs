//! The line between the replicas and a server: it can be made to stand still in the middle of an upload.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// No connection stands still.
const NO_LIMIT: u64 = u64::MAX;

/// A TCP relay on a free port of this machine, for as long as the process runs.
pub struct TcpRelay {
    port: u16,
    state: Arc<State>,
}

struct State {
    /// Bytes of a client after which its connection stands still.
    limit: AtomicU64,
    stalled: AtomicUsize,
}

impl TcpRelay {
    /// A line to the server on `port`.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new(State { limit: AtomicU64::new(NO_LIMIT), stalled: AtomicUsize::new(0) });
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A client whose server is away sees the connection end.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                    join(client, server, &shared);
                }
            }
        });
        Self { port: own, state }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets so many bytes of every client through; then its connection stands still, and its end is not passed on.
    pub fn hold_after(&self, bytes: u64) {
        self.state.limit.store(bytes, Ordering::SeqCst);
    }

    /// Lets everything through, also what was held.
    pub fn release(&self) {
        self.state.limit.store(NO_LIMIT, Ordering::SeqCst);
    }

    /// How many connections have come to stand still so far.
    pub fn stalled(&self) -> usize {
        self.state.stalled.load(Ordering::SeqCst)
    }
}

fn join(client: TcpStream, server: TcpStream, state: &Arc<State>) {
    let over = Arc::new(AtomicBool::new(false));
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let (shared, ended) = (state.clone(), over.clone());
    thread::spawn(move || {
        upwards(client, server, &shared, &ended);
    });
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        over.store(true, Ordering::SeqCst);
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = from_server.shutdown(Shutdown::Both);
    });
}

/// Passes on what the client sends, until one of the two ends it.
fn upwards(mut client: TcpStream, mut server: TcpStream, state: &State, over: &AtomicBool) {
    let (mut passed, mut counted) = (0_u64, false);
    let mut buffer = [0; 8 << 10];
    while !over.load(Ordering::SeqCst) {
        let left = state.limit.load(Ordering::SeqCst).saturating_sub(passed);
        if left == 0 {
            if !counted {
                state.stalled.fetch_add(1, Ordering::SeqCst);
                counted = true;
            }
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match client.read(&mut buffer[..most]) {
            Ok(read @ 1..) if server.write_all(&buffer[..read]).is_ok() => passed += read as u64,
            _ => break,
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}
