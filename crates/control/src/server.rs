//! The server: a thread that takes connections, checks who they are, and carries questions to the loop.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as threads;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::UCred;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;

use crate::api::Problem;
use crate::metrics::Family;
use crate::refusing::{self, Refusing};
use crate::route::{self, Format, Question, Refusal};
use crate::socket::{Bound, Place, PlaceError};

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Of these, the ones that only root and the daemon's user get, so that nobody else can lock them out.
const RESERVED: usize = 8;
/// Bytes of a head, and of a body.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Time for a request to come, and time in which a client may read nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a server that was told to stop looks whether all have their answers.
const LAST_LOOK: Duration = Duration::from_millis(20);
/// Questions that may wait for the loop.
const QUESTIONS_MAX: usize = 64;
/// Lines of a stream that may wait for its reader.
const LINES_MAX: usize = 1024;
/// Time for a client that is refused to send what it has to say, and to take the answer; and for readers of streams to
/// take what is left of them when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// Clients that have this time at once.
const FAREWELLS_MAX: usize = 64;
/// Between two lines in the log about clients that are refused.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process on the Unix socket, by SO_PEERCRED.
    Process {
        /// Its user.
        uid: u32,
        /// Its process id; 0 if it is outside of our PID namespace.
        pid: i32,
    },
    /// Somebody on the address for metrics, who may read these only.
    Network,
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Process { uid, pid } => write!(out, "uid {uid}, pid {pid}"),
            Peer::Network => out.write_str("network"),
        }
    }
}

/// What the server tells the loop.
#[derive(Debug)]
pub enum Message {
    /// Somebody asks something; the answer goes through the sender.
    Question(Question, Peer, oneshot::Sender<Result<Answering, Refusal>>),
    /// A client was cut off because it does not read.
    CutOff(Peer),
    /// Somebody who may not ask was turned away.
    TurnedAway {
        /// Who.
        peer: Peer,
        /// How many others since this was said the last time.
        unsaid: u64,
    },
}

/// An answer.
#[derive(Debug)]
pub enum Answering {
    /// An object of the API.
    Json(Json),
    /// Metrics as they are now.
    Metrics(Vec<Family>),
    /// All is well.
    Healthy,
    /// Lines that follow.
    Lines(Lines),
}

/// An object of the API, which the server's thread turns into text: a long list costs the loop nothing.
pub struct Json(Box<dyn FnOnce() -> Vec<u8> + Send>);

impl fmt::Debug for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Json")
    }
}

impl Answering {
    /// An object of the API.
    ///
    /// # Panics
    /// In the server's thread, if it has a map whose keys are no strings, which no type of the API has.
    pub fn of(value: impl Serialize + Send + 'static) -> Answering {
        let text = move || serde_json::to_vec(&value).expect("types of the API are JSON");
        Answering::Json(Json(Box::new(text)))
    }

    /// A stream of lines and where the loop writes them.
    pub fn stream() -> (Stream, Answering) {
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lines = Lines { receiver, dropped: Arc::clone(&dropped), format: Format::Ndjson };
        (Stream { sender, dropped }, Answering::Lines(lines))
    }
}

/// The loop's end of a stream.
#[derive(Debug)]
pub struct Stream {
    sender: mpsc::Sender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl Stream {
    /// Writes a line, or counts it as dropped if the reader is too slow; false if the reader is gone.
    ///
    /// # Panics
    /// As [`Answering::of`].
    pub fn write(&self, line: &impl Serialize) -> bool {
        if self.sender.is_closed() {
            return false;
        }
        if self.sender.capacity() == 0 {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let line = serde_json::to_vec(line).expect("types of the API are JSON");
        self.sender.try_send(line).is_ok()
    }
}

/// The server's end of a stream.
#[derive(Debug)]
pub struct Lines {
    receiver: mpsc::Receiver<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    format: Format,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let line = ready!(self.receiver.poll_recv(context));
        let mut bytes = line.map(|line| self.format.frame(&line)).unwrap_or_default();
        // What was dropped came after all that had found room; at the end, after the last line.
        if self.receiver.is_empty() {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                bytes.extend(self.format.frame(format!("{{\"dropped\": {dropped}}}").as_bytes()));
            }
        }
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes.into()))))
    }
}

/// The thread. When this is dropped its socket goes and it takes no more connections; it ends when those that are open
/// have had their answers, or after a while. Nobody waits for that, but in [`Server::end`].
#[derive(Debug)]
pub struct Server {
    /// Dropping it stops the thread.
    stop: Option<oneshot::Sender<()>>,
    /// Closed when the thread has ended.
    ended: threads::Receiver<Infallible>,
    socket: Option<Bound>,
    /// Where metrics are served, with the port that was chosen.
    address: Option<SocketAddr>,
}

impl Server {
    /// Listens on a socket, an address for metrics, or both, in a thread of its own. Questions come to the receiver.
    ///
    /// # Errors
    /// The place or the address cannot be had, or no thread.
    pub fn start(
        place: Option<&Place>,
        metrics: Option<SocketAddr>,
    ) -> Result<(Server, mpsc::Receiver<Message>), PlaceError> {
        Server::start_on(place, place.map(Place::listen).transpose()?, metrics)
    }

    /// Listens for the place of a socket of ours, and has it from [`Server::take_place`] on.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_beside(place: &Place) -> Result<(Server, mpsc::Receiver<Message>), PlaceError> {
        Server::start_on(Some(place), Some(place.listen_beside()?), None)
    }

    /// Gives its socket the name of another one of ours, if it does not have it.
    ///
    /// # Errors
    /// As rename(2).
    pub fn take_place(&mut self, path: &Path) -> io::Result<()> {
        self.socket.as_mut().map_or(Ok(()), |socket| socket.take_place(path))
    }

    fn start_on(
        place: Option<&Place>,
        listening: Option<(std::os::unix::net::UnixListener, Bound)>,
        metrics: Option<SocketAddr>,
    ) -> Result<(Server, mpsc::Receiver<Message>), PlaceError> {
        let (unix, socket) = listening.unzip();
        let path = place.map(|place| place.path.clone());
        let shown = path.or_else(|| metrics.map(|address| address.to_string().into())).unwrap_or_default();
        let refused = |source| PlaceError::Refused { path: shown.clone(), source };
        let tcp = metrics.map(std::net::TcpListener::bind).transpose().map_err(refused)?;
        let address = tcp.as_ref().map(std::net::TcpListener::local_addr).transpose().map_err(refused)?;
        if let Some(tcp) = &tcp {
            tcp.set_nonblocking(true).map_err(refused)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
        let access = Access::of(place.and_then(|place| place.group));
        let (messages, receiver) = mpsc::channel(QUESTIONS_MAX);
        let (stop, stopped) = oneshot::channel();
        let (at_end, ended) = threads::channel();
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            let _ = runtime.block_on(serve(unix, access, tcp, messages, stopped));
            drop(at_end);
        });
        thread.map_err(refused)?;
        Ok((Server { stop: Some(stop), ended, socket, address }, receiver))
    }

    /// Takes no more connections, and waits until those that are open have had their answers and what is left of their
    /// streams; not for long, since a client may read nothing.
    pub fn end(mut self) {
        self.stop = None;
        // Nothing is ever sent: either the thread has ended, or the time is over.
        let _ = self.ended.recv_timeout(FAREWELL);
    }

    /// Whether its socket was removed, or another one has its name: nobody finds it then.
    pub fn is_lost(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| !socket.has_name())
    }

    /// Where metrics are served.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            socket.remove();
        }
    }
}

/// Takes connections until it is told to stop; those that are open may get their answers.
async fn serve(
    unix: Option<std::os::unix::net::UnixListener>,
    access: Access,
    tcp: Option<std::net::TcpListener>,
    messages: mpsc::Sender<Message>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let unix = unix.map(UnixListener::from_std).transpose()?;
    let tcp = tcp.map(TcpListener::from_std).transpose()?;
    let (connections, mut strangers) = (Connections::default(), Strangers::default());
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(accepted) = accept(unix.as_ref(), UnixListener::accept) => {
                let Ok((stream, _)) = accepted else { rest().await; continue };
                let Ok(credentials) = stream.peer_cred() else { continue };
                let peer = Peer::Process { uid: credentials.uid(), pid: credentials.pid().unwrap_or_default() };
                match access.rank(&stream, credentials) {
                    Rank::Trusted => connections.admit(stream, peer, CONNECTIONS_MAX, &messages),
                    Rank::Member => connections.admit(stream, peer, CONNECTIONS_MAX - RESERVED, &messages),
                    Rank::Stranger => {
                        strangers.note(peer, &messages);
                        connections.refuse(stream, &Refusal::forbidden());
                    }
                }
            }
            Some(accepted) = accept(tcp.as_ref(), TcpListener::accept) => {
                let Ok((stream, _)) = accepted else { rest().await; continue };
                connections.admit(stream, Peer::Network, CONNECTIONS_MAX - RESERVED, &messages);
            }
        }
    }
    drop((unix, tcp, messages));
    connections.stop.send_replace(());
    let mut until = tokio::time::Instant::now() + PATIENCE;
    while Arc::strong_count(&connections.open) > 1 && tokio::time::Instant::now() < until {
        // The reload that took the socket away may take its time.
        if Arc::strong_count(&connections.asking) > 1 {
            until = tokio::time::Instant::now() + PATIENCE;
        }
        tokio::time::sleep(LAST_LOOK).await;
    }
    Ok(())
}

/// Who may ask.
#[derive(Clone, Copy, Debug)]
struct Access {
    own_user: u32,
    group: Option<u32>,
}

/// What somebody who connects is to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// Root or the daemon's own user.
    Trusted,
    /// Of the group.
    Member,
    /// Nobody. The socket's mode keeps strangers away, but for those who have another way around it.
    Stranger,
}

impl Access {
    fn of(group: Option<u32>) -> Access {
        Access { own_user: rustix::process::geteuid().as_raw(), group }
    }

    /// By the credentials that a peer had when it connected.
    fn rank(self, stream: &UnixStream, credentials: UCred) -> Rank {
        let Access { own_user, group } = self;
        if credentials.uid() == 0 || credentials.uid() == own_user {
            return Rank::Trusted;
        }
        let has = |group: u32| {
            let others = || syscall::peer::groups(stream.as_fd()).unwrap_or_default();
            credentials.gid() == group || others().contains(&group)
        };
        if group.is_some_and(has) { Rank::Member } else { Rank::Stranger }
    }
}

/// Those who may not ask and come all the same.
#[derive(Debug, Default)]
struct Strangers {
    said: Option<Instant>,
    unsaid: u64,
}

impl Strangers {
    /// Has it said in the log that one was turned away, or counts it for the next time.
    fn note(&mut self, peer: Peer, messages: &mpsc::Sender<Message>) {
        let message = Message::TurnedAway { peer, unsaid: self.unsaid };
        let is_due = self.said.is_none_or(|at| at.elapsed() >= COMPLAINT_PAUSE);
        if is_due && messages.try_send(message).is_ok() {
            *self = Strangers { said: Some(Instant::now()), unsaid: 0 };
        } else {
            self.unsaid += 1;
        }
    }
}

/// A pause after a failed accept(2), which fails again at once where descriptors are used up.
async fn rest() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn accept<'a, L, F: Future>(
    listener: Option<&'a L>,
    accept: impl FnOnce(&'a L) -> F,
) -> Option<F::Output> {
    match listener {
        Some(listener) => Some(accept(listener).await),
        None => std::future::pending().await,
    }
}

/// Those that are open, questions that have no answer yet, and those that are being refused: each holds a reference.
#[derive(Debug, Default)]
struct Connections {
    open: Arc<()>,
    asking: Arc<()>,
    leaving: Arc<()>,
    /// Tells those that are open to end after the answer that they are at.
    stop: watch::Sender<()>,
}

impl Connections {
    fn admit<S>(&self, stream: S, peer: Peer, limit: usize, messages: &mpsc::Sender<Message>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // One reference is the listener's own.
        if Arc::strong_count(&self.open) > limit {
            return self.refuse(stream, &Refusal::unavailable("too many connections"));
        }
        let (place, asking) = (Arc::clone(&self.open), Arc::downgrade(&self.asking));
        let (messages, mut stopped) = (messages.clone(), self.stop.subscribe());
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(PATIENCE));
        let stream = Box::pin(stream);
        tokio::spawn(async move {
            let questions = messages.clone();
            let service = service_fn(move |request| {
                let (messages, asking) = (questions.clone(), asking.upgrade());
                async move {
                    let answer = answer(request, peer, messages).await;
                    drop(asking);
                    Ok::<_, Infallible>(answer)
                }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(REQUEST_BYTES_MAX);
            let mut connection = pin!(builder.serve_connection(TokioIo::new(Refusing::of(stream)), service));
            let served = tokio::select! {
                served = connection.as_mut() => served,
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            drop(place);
            if served.is_err_and(|error| is_write_timeout(&error)) {
                let _ = messages.send(Message::CutOff(peer)).await;
            }
        });
    }

    /// Refuses whatever is asked, and closes the connection. An answer that comes before its question, or a close while
    /// the question comes, would look like a fault of the connection, so that the client has some time.
    fn refuse<S>(&self, mut stream: S, refusal: &Refusal)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (place, words) = (Arc::clone(&self.leaving), refusing::last_words(refusal));
        let is_crowded = Arc::strong_count(&self.leaving) > FAREWELLS_MAX + 1;
        let patience = if is_crowded { Duration::ZERO } else { FAREWELL };
        tokio::spawn(async move {
            let _ = timeout(patience, stream.read(&mut [0; 1024])).await;
            let _ = timeout(FAREWELL, stream.write_all(&words)).await;
            let _ = timeout(FAREWELL, stream.shutdown()).await;
            let _ = timeout(patience, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await;
            drop(place);
        });
    }
}

fn is_write_timeout(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::TimedOut;
        }
        source = cause.source();
    }
    false
}

type Answer = Response<Either<Full<Bytes>, Lines>>;

async fn answer(request: Request<Incoming>, peer: Peer, messages: mpsc::Sender<Message>) -> Answer {
    match ask(request, peer, messages).await {
        Ok((question, answering)) => respond(&question, answering),
        Err(refusal) => refuse(&refusal),
    }
}

async fn ask(
    request: Request<Incoming>,
    peer: Peer,
    messages: mpsc::Sender<Message>,
) -> Result<(Question, Answering), Refusal> {
    let (head, body) = request.into_parts();
    // hyper's own limit is looked at between two reads, which may bring more.
    if bytes_of(&head) > REQUEST_BYTES_MAX {
        return Err(Refusal::head_too_large());
    }
    // Several lines are one list.
    let accept: Vec<&str> =
        head.headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    let body = read(body).await?;
    if peer == Peer::Network && !route::is_for_network(head.uri.path()) {
        return Err(Refusal::not_found("only /metrics and /healthz are here"));
    }
    let question = route::question(&route::Request {
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        accept: &accept.join(","),
        body: &body,
    })?;
    if head.method == Method::HEAD && matches!(question, Question::Events { .. }) {
        // The head of a stream that nobody writes: there is nothing to ask the loop for.
        let (_, lines) = Answering::stream();
        return Ok((question, lines));
    }
    let (sender, receiver) = oneshot::channel();
    let gone = || Refusal::unavailable("the daemon ends");
    messages.send(Message::Question(question.clone(), peer, sender)).await.map_err(|_| gone())?;
    let answering = receiver.await.map_err(|_| gone())??;
    Ok((question, answering))
}

/// Bytes of a head as it came.
fn bytes_of(head: &Parts) -> usize {
    let line = head.method.as_str().len() + head.uri.to_string().len() + "  HTTP/1.1\r\n".len();
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + headers.sum::<usize>() + "\r\n".len()
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let body = Limited::new(body, REQUEST_BYTES_MAX).collect();
    let Ok(body) = timeout(PATIENCE, body).await else {
        return Err(Refusal::bad_request("the request did not come within 10 s"));
    };
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let text = format!("a request has at most {REQUEST_BYTES_MAX} bytes");
            Err(Refusal::of(StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Err(_) => Err(Refusal::bad_request("the request broke off")),
    }
}

fn respond(question: &Question, answering: Answering) -> Answer {
    let (media_type, body) = match (question, answering) {
        (Question::Metrics(format), Answering::Metrics(families)) => {
            (format.media_type(), Either::Left(Full::from(format.write(&families))))
        }
        (Question::Events { format, .. }, Answering::Lines(lines)) => {
            let media_type = match format {
                Format::Ndjson => "application/x-ndjson",
                Format::EventStream => "text/event-stream",
            };
            (media_type, Either::Right(Lines { format: *format, ..lines }))
        }
        (_, Answering::Json(json)) => ("application/json", Either::Left(Full::from((json.0)()))),
        (_, Answering::Healthy) => ("text/plain; charset=utf-8", Either::Left(Full::from("ok\n"))),
        (_, Answering::Metrics(_) | Answering::Lines(_)) => {
            unreachable!("the loop answers what was asked")
        }
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(refusal: &Refusal) -> Answer {
    let problem = Problem { error: refusal.text.clone() };
    let json = serde_json::to_vec(&problem).expect("types of the API are JSON");
    let mut response = Response::new(Either::Left(Full::from(json)));
    *response.status_mut() = refusal.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(allowed) = refusal.allowed {
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    // What is left of the request is not read.
    if [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE].contains(&refusal.status)
    {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
