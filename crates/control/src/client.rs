//! The client's side: one request on a connection of its own, and its answer.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::api::Problem;
use crate::socket::plain;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon answers there.
    #[error("no daemon answers on '{}': {}", path.display(), plain(source))]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("the daemon's answer broke off: {0}")]
    Broken(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
    /// Whose daemon gave it, as the kernel knows (SO_PEERCRED, unix(7)).
    pub user: Option<u32>,
}

/// See [`Reply::user`].
#[derive(Clone, Copy)]
struct User(u32);

impl Reply {
    /// The answer as an object of the API; else the one line of the refusal.
    ///
    /// # Errors
    /// The daemon refused, or the answer is not what this version of the program expects.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        if self.status >= 400 {
            return Err(self.problem());
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("cannot read the daemon's answer: {error}"))
    }

    /// Why the daemon refused.
    pub fn problem(&self) -> String {
        let problem = serde_json::from_slice::<Problem>(&self.body).map(|problem| problem.error);
        problem.unwrap_or_else(|_| format!("the daemon answers with HTTP status {}", self.status))
    }
}

/// A daemon that can be asked.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// A client of the daemon that listens on that socket.
    ///
    /// # Errors
    /// The system has no room for a runtime.
    pub fn new(path: &Path) -> io::Result<Client> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        Ok(Client { path: path.to_owned(), runtime })
    }

    /// Reads from a path of the API.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is a [`Reply`].
    pub fn get(&self, target: &str) -> Result<Reply, ClientError> {
        self.runtime
            .block_on(async { reply(self.send(Method::GET, target, "*/*", Bytes::new()).await?).await })
    }

    /// Asks a path of the API for a change.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is a [`Reply`].
    pub fn post(&self, target: &str, body: &impl Serialize) -> Result<Reply, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Broken(error.to_string()))?;
        self.runtime
            .block_on(async { reply(self.send(Method::POST, target, "*/*", body.into()).await?).await })
    }

    /// Reads a stream: calls `line` for each line until it returns false or the stream ends.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is the inner [`Reply`].
    pub fn lines(
        &self,
        target: &str,
        mut line: impl FnMut(&[u8]) -> bool,
    ) -> Result<Option<Reply>, ClientError> {
        self.runtime.block_on(async {
            let mut response = self.send(Method::GET, target, "application/x-ndjson", Bytes::new()).await?;
            if response.status() != StatusCode::OK {
                return reply(response).await.map(Some);
            }
            let mut rest = Vec::new();
            while let Some(frame) = response.body_mut().frame().await {
                let frame = frame.map_err(|error| ClientError::Broken(error.to_string()))?;
                rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let complete: Vec<u8> = rest.drain(..=end).collect();
                    if !line(&complete[..end]) {
                        return Ok(None);
                    }
                }
            }
            Ok(None)
        })
    }

    /// Waits where many connect at once: one that does not wait is refused when the listener's queue is full.
    fn connect(&self) -> io::Result<UnixStream> {
        let stream = std::os::unix::net::UnixStream::connect(&self.path)?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        accept: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let no_daemon = |source| ClientError::NoDaemon { path: self.path.clone(), source };
        let broken = |error: hyper::Error| ClientError::Broken(error.to_string());
        let stream = self.connect().map_err(no_daemon)?;
        let daemon = stream.peer_cred();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, "pyinotifyd")
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        let mut response = sender.send_request(request).await.map_err(broken)?;
        if let Ok(daemon) = daemon {
            response.extensions_mut().insert(User(daemon.uid()));
        }
        Ok(response)
    }
}

async fn reply(response: Response<Incoming>) -> Result<Reply, ClientError> {
    let status = response.status().as_u16();
    let user = response.extensions().get().map(|User(user)| *user);
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| ClientError::Broken(error.to_string()))?;
    Ok(Reply { status, body: body.to_bytes().to_vec(), user })
}
