//! Where the daemon listens for questions: a socket, an address for metrics, both or none.

use std::net::SocketAddr;

use control::{Barrier, Message, Place, PlaceError, Server};
use tokio::sync::mpsc;

use crate::client::places;
use crate::config::{ControlPlace, ControlWanted};
use crate::daemon::Daemon;
use crate::log::{Level, record};

/// The servers that run.
#[derive(Debug, Default)]
pub(super) struct Listening {
    socket: Option<Open<Place>>,
    metrics: Option<Open<SocketAddr>>,
}

/// A server, and where its questions come in.
#[derive(Debug)]
struct Open<T> {
    at: T,
    messages: mpsc::Receiver<Message>,
    /// Ends when it is dropped.
    server: Server,
}

impl Listening {
    /// The next message of any server; never without one.
    pub(super) async fn next(&mut self) -> Message {
        let Listening { socket, metrics } = self;
        tokio::select! {
            message = received(socket) => message,
            message = received(metrics) => message,
        }
    }

    /// Closes the socket, after its readers have read what was written for them, or after a moment.
    pub(super) fn end_socket(&mut self) {
        let Some(Open { messages, server, .. }) = self.socket.take() else { return };
        drop(messages);
        server.end();
    }
}

async fn received<T>(open: &mut Option<Open<T>>) -> Message {
    match open {
        Some(Open { messages, .. }) => match messages.recv().await {
            Some(message) => message,
            // Its thread has panicked, which says so on stderr.
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Servers for what a configuration wants, before it is certain that it comes into force.
#[derive(Debug)]
pub(in crate::daemon) struct Prepared {
    socket: Change<Place>,
    metrics: Change<SocketAddr>,
    /// What is to be said of the socket when that is taken into use.
    said: Vec<(Level, String)>,
}

#[derive(Debug)]
enum Change<T> {
    /// What is there goes on.
    Keep,
    /// Another one takes its place, or none does.
    To(Option<Open<T>>),
}

fn open_socket(place: Place) -> Result<Open<Place>, PlaceError> {
    let (server, messages) = Server::start(Some(&place), None)?;
    Ok(Open { at: place, messages, server })
}

/// Listens once more where the socket was removed; else what is connected still goes on.
fn open_anew(place: Place) -> (Change<Place>, (Level, String)) {
    let path = places::shown(&place.path);
    match open_socket(place) {
        Ok(open) => {
            let text = format!("the control socket '{path}' was gone; it is made anew");
            (Change::To(Some(open)), (Level::INFO, text))
        }
        Err(error) => (Change::Keep, (Level::ERROR, format!("the control socket is gone: {error}"))),
    }
}

fn open_metrics(at: SocketAddr) -> Result<Open<SocketAddr>, PlaceError> {
    let (server, messages) = Server::start(None, Some(at))?;
    Ok(Open { at, messages, server })
}

impl Daemon {
    /// Begins to listen where a configuration wants it, without giving up what is listened on now.
    ///
    /// # Errors
    /// One line: a place that was asked for cannot be had. What is there goes on.
    pub(in crate::daemon) fn prepare_control(&mut self, wanted: &ControlWanted) -> Result<Prepared, String> {
        // A trial beside the daemon that works leaves its places to that one.
        let on_trial = ControlWanted { place: ControlPlace::Never, ..ControlWanted::default() };
        let wanted = if self.options.dry_run { &on_trial } else { wanted };
        let metrics = match (&self.control.listening.metrics, wanted.metrics) {
            (Some(open), Some(at)) if open.at == at => Change::Keep,
            (None, None) => Change::Keep,
            (_, None) => Change::To(None),
            (_, Some(at)) => Change::To(Some(open_metrics(at).map_err(|error| cannot_serve(at, &error))?)),
        };
        let (path, is_default) = match (&self.options.control, &wanted.place) {
            (Some(path), _) | (None, ControlPlace::At(path)) => (Some(path.clone()), false),
            (None, ControlPlace::Never) => (None, false),
            (None, ControlPlace::Default) => (places::default_place(), true),
        };
        let mut said = Vec::new();
        let place = path.map(|path| {
            let owns_directory = places::owns_directory(&path);
            Place { path, group: wanted.group, owns_directory }
        });
        let socket = match place {
            None => Change::To(None),
            Some(place) if self.is_lost(&place) => {
                let (change, text) = open_anew(place);
                said.push(text);
                change
            }
            Some(place) => match self.open(place) {
                Ok(change) => change,
                Err(error) if is_default => {
                    said.push((Level::DEBUG, format!("no control socket: {error}")));
                    Change::To(None)
                }
                Err(error) => return Err(error.to_string()),
            },
        };
        if let Change::To(Some(open)) = &socket {
            said.extend(open.at.barrier().map(|barrier| (Level::WARNING, warning_of(&barrier))));
        }
        Ok(Prepared { socket, metrics, said })
    }

    /// Whether the daemon listens there, and nobody can find it.
    fn is_lost(&mut self, place: &Place) -> bool {
        let performer = &mut self.core.performer;
        let Some(open) = self.control.listening.socket.as_ref().filter(|open| open.at == *place) else {
            return false;
        };
        let path = place.path.as_os_str().as_encoded_bytes();
        performer.lanes.filesystems.of_parent(path, performer.now).is_local && open.server.is_lost()
    }

    fn open(&self, place: Place) -> Result<Change<Place>, PlaceError> {
        match &self.control.listening.socket {
            Some(open) if open.at == place => Ok(Change::Keep),
            // They differ in who may connect.
            Some(open) if open.at.path == place.path => {
                let (server, messages) = Server::start_beside(&place)?;
                Ok(Change::To(Some(Open { at: place, messages, server })))
            }
            Some(_) | None => open_socket(place).map(|open| Change::To(Some(open))),
        }
    }

    /// Takes into use what was prepared.
    pub(in crate::daemon) fn use_control(&mut self, prepared: Prepared) {
        let Prepared { socket, metrics, said } = prepared;
        if let Change::To(mut open) = socket {
            if let Some(Open { at, server, .. }) = &mut open {
                let (path, log) = (places::shown(&at.path), &mut self.core.performer.log);
                record!(log, self.control.logger, DEBUG, "listen on '{path}'");
                if let Err(error) = server.take_place(&at.path) {
                    let why = crate::log::Cause(&error).to_string();
                    record!(
                        log,
                        self.control.logger,
                        ERROR,
                        "cannot listen on the control socket '{path}': {why}"
                    );
                }
            }
            self.control.listening.socket = open;
        }
        if let Change::To(open) = metrics {
            self.control.listening.metrics = open;
        }
        for (level, text) in said {
            self.core.performer.log.write(self.control.logger, level, format_args!("{text}"));
        }
    }
}

fn warning_of(barrier: &Barrier) -> String {
    let Barrier { directory, mode, needed } = barrier;
    let directory = places::shown(directory);
    format!(
        "control_group: its members cannot reach the control socket, since '{directory}' has mode {mode:04o}: \
         give it {needed:04o}"
    )
}

fn cannot_serve(at: SocketAddr, error: &PlaceError) -> String {
    let why = match error {
        PlaceError::Refused { source, .. } => crate::log::Cause(source).to_string(),
        PlaceError::Taken(_)
        | PlaceError::NoSocket(_)
        | PlaceError::NoDirectory(_)
        | PlaceError::OpenDirectory(_) => error.to_string(),
    };
    format!("cannot serve metrics on {at}: {why}")
}
