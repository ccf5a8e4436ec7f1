//! Connections from clients: how many, for how long, and what is read of a request's body. It knows
//! nothing of what is answered.
//!
//! Whoever reaches the port can open connections without a token, so they must not be able to lock
//! others out: a connection that sends no complete request head is closed after a while, and where
//! the maximum is reached, the one that has been waiting longest is closed for the new one.

use crate::settings::Settings;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tower::ServiceExt;

/// Of a request's head and of its body so much is read. A head holds a token among a site's
/// cookies.
const HEAD_BYTES: usize = 64 << 10;
const BODY_BYTES: usize = 64 << 10;
const BODY_WAIT: Duration = Duration::from_secs(5);

/// Files for everything but clients' connections, beside two for each connection to the database:
/// that itself, and one to cancel its query.
const OTHER_FILES: usize = 32;

/// The fewest connections that make sense.
const FEW: usize = 16;

/// So many connections that the limit of open files is not reached. The soft limit is raised first.
pub fn connections(settings: &Settings) -> Result<usize, String> {
    let wanted = settings.max_connections;
    let others = OTHER_FILES + 2 * settings.database_connections;
    let limit = getrlimit(Resource::Nofile);
    let needed = (wanted + others) as u64;
    let may_be = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let mut open = limit.current.unwrap_or(needed);
    if open < may_be && setrlimit(Resource::Nofile, Rlimit { current: Some(may_be), ..limit }).is_ok() {
        open = may_be;
    }
    let possible = usize::try_from(open).unwrap_or(usize::MAX).saturating_sub(others).min(wanted);
    if possible < FEW {
        return Err(format!("the limit of open files, {open}, leaves {possible} for connections: raise it (ulimit -n)"));
    }
    if possible < wanted {
        eprintln!("llm-dashboard: at most {possible} connections at once, because {open} files may be open");
    }
    Ok(possible)
}

/// Answers until it is told to stop, and then what is under way, for as long as `grace`.
pub async fn serve(listener: TcpListener, router: Router, most: usize, idle: Duration, grace: Duration, stop: impl Future<Output = ()>) {
    let connections = Arc::new(Connections { most, open: Mutex::default(), changed: Notify::new() });
    let (stopping, stopped) = watch::channel(());
    let mut http = http1::Builder::new();
    // It counts from the first byte that could come, so it closes connections that send nothing,
    // too.
    http.timer(TokioTimer::new()).header_read_timeout(idle).max_buf_size(HEAD_BYTES);
    let mut stop = pin!(stop);
    let mut number = 0;
    loop {
        let accepted = tokio::select! { accepted = listener.accept() => accepted, () = &mut stop => break };
        let Ok((socket, _)) = accepted else {
            // The client is gone already, or files have run out all the same and time may help.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        tokio::select! { () = connections.room() => {}, () = &mut stop => break }
        number += 1;
        let entry = connections.enter(number);
        tokio::spawn(connection(socket, http.clone(), router.clone(), entry, stopped.clone()));
    }
    drop(listener);
    stopping.send_replace(());
    let _ = tokio::time::timeout(grace, connections.none()).await;
}

async fn connection(socket: TcpStream, http: http1::Builder, router: Router, entry: Entry, mut stopped: watch::Receiver<()>) {
    let entry = &entry;
    let service = service_fn(|request: hyper::Request<Incoming>| async {
        let request = without_body(request.map(Body::new)).await;
        entry.is_answered();
        let response = router.clone().oneshot(request).await;
        entry.waits();
        response
    });
    let _ = socket.set_nodelay(true);
    let mut served = pin!(http.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        _ = served.as_mut() => {}
        () = entry.client.close.notified() => {}
        _ = stopped.changed() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

/// Nothing here takes a body, and one that is sent is read all the same, as far as it is small and
/// comes soon: answered before that, the connection would be closed, and whoever is still sending
/// may see a reset in place of the answer.
async fn without_body(request: Request) -> Request {
    let (head, body) = request.into_parts();
    let _ = tokio::time::timeout(BODY_WAIT, to_bytes(body, BODY_BYTES)).await;
    Request::from_parts(head, Body::empty())
}

struct Connections {
    most: usize,
    open: Mutex<HashMap<u64, Arc<Client>>>,
    /// One has ended, or begins to wait.
    changed: Notify,
}

/// A connection as seen by whoever looks for one to close.
struct Client {
    /// Since when it waits for the client; None while a request is being answered.
    waiting: Mutex<Option<Instant>>,
    close: Notify,
}

/// Takes the connection out of the list when it has ended.
struct Entry {
    connections: Arc<Connections>,
    number: u64,
    client: Arc<Client>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No holder of these locks leaves anything half-done, so a poisoned one is still good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// Returns once one more connection is allowed, for which the one that has waited longest may
    /// be closed.
    async fn room(&self) {
        loop {
            {
                let open = lock(&self.open);
                if open.len() < self.most {
                    return;
                }
                let longest = open.values().filter_map(|client| Some(((*lock(&client.waiting))?, client))).min_by_key(|(since, _)| *since);
                if let Some((_, client)) = longest {
                    client.close.notify_one();
                }
            }
            // It has ended, or another one has. If no connection waits, every one is being
            // answered, and an answer ends with a connection that waits.
            self.changed.notified().await;
        }
    }

    async fn none(&self) {
        while !lock(&self.open).is_empty() {
            self.changed.notified().await;
        }
    }

    fn enter(self: &Arc<Connections>, number: u64) -> Entry {
        let client = Arc::new(Client { waiting: Mutex::new(Some(Instant::now())), close: Notify::new() });
        lock(&self.open).insert(number, client.clone());
        Entry { connections: self.clone(), number, client }
    }
}

impl Entry {
    fn is_answered(&self) {
        *lock(&self.client.waiting) = None;
    }

    /// For the client to take the answer, and then to send its next request.
    fn waits(&self) {
        *lock(&self.client.waiting) = Some(Instant::now());
        self.connections.changed.notify_one();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.connections.open).remove(&self.number);
        self.connections.changed.notify_one();
    }
}
