//! A cable between a client and a server on this machine. When it is pulled nothing crosses it any more, and neither
//! side is told: what a laptop's lid does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Dropping it ends the connections through it, for both sides to see.
#[derive(Debug)]
pub struct Cable {
    port: u16,
    pulled: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cable = Self { port, pulled: Arc::default(), ends: Arc::default() };
        let (pulled, ends) = (Arc::clone(&cable.pulled), Arc::clone(&cable.ends));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(server).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let pulled = Arc::clone(&pulled);
                    thread::spawn(move || carry(from, to, &pulled));
                }
                ends.lock().unwrap().extend([client, server]);
            }
        });
        cable
    }

    /// Where the client connects to, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pull(&self) {
        self.pulled.store(true, Ordering::SeqCst);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in self.ends.lock().unwrap().iter() {
            // Fails when that side has ended its connection already.
            end.shutdown(Shutdown::Both).ok();
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, pulled: &AtomicBool) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if !pulled.load(Ordering::SeqCst) && to.write_all(&chunk[..read]).is_err() {
            break;
        }
    }
    if !pulled.load(Ordering::SeqCst) {
        // As above.
        to.shutdown(Shutdown::Write).ok();
    }
}
