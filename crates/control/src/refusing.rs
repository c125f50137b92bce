//! What is answered to bytes that are no request: hyper refuses them by itself, with an empty body and statuses of its
//! own. Here these answers become ours, a line of JSON with one of our statuses.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::api::Problem;
use crate::route::Refusal;

/// A stream on which hyper's own refusals go out as ours.
#[derive(Debug)]
pub(crate) struct Refusing<S> {
    stream: S,
    /// What is left to write of a refusal.
    rest: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Refusing<S> {
    pub(crate) fn of(stream: S) -> Refusing<S> {
        Refusing { stream, rest: Vec::new() }
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Refusing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Refusing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(context))?;
        match refusal(bytes) {
            Some(refusal) => {
                // It goes out with the flush that follows each answer.
                self.rest = last_words(&refusal);
                Poll::Ready(Ok(bytes.len()))
            }
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The refusal that stands for an answer of hyper's own: one of an error, without a body, which none of ours is.
fn refusal(answer: &[u8]) -> Option<Refusal> {
    let head = std::str::from_utf8(answer).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    if !lines.any(|line| line == "content-length: 0") {
        return None;
    }
    match status.parse().ok()? {
        414 | 431 => Some(Refusal::head_too_large()),
        400..600 => Some(Refusal::bad_request("this is no request of HTTP/1.1")),
        _ => None,
    }
}

/// A refusal as the last answer on a connection.
pub(crate) fn last_words(refusal: &Refusal) -> Vec<u8> {
    let problem = Problem { error: refusal.text.clone() };
    let body = serde_json::to_string(&problem).expect("types of the API are JSON");
    let head = format!("HTTP/1.1 {}\r\ncontent-type: application/json\r\nconnection: close", refusal.status);
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypers_own_refusals_are_known_by_their_empty_bodies() {
        let of = |answer: &str| refusal(answer.as_bytes()).map(|refusal| refusal.status.as_u16());
        let head = "connection: close\r\ncontent-length: 0\r\ndate: x";
        assert_eq!(of(&format!("HTTP/1.1 431 Request Header Fields Too Large\r\n{head}\r\n\r\n")), Some(431));
        assert_eq!(of(&format!("HTTP/1.1 414 URI Too Long\r\n{head}\r\n\r\n")), Some(431));
        assert_eq!(of(&format!("HTTP/1.1 400 Bad Request\r\n{head}\r\n\r\n")), Some(400));
        assert_eq!(of(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")), None);
        assert_eq!(of("HTTP/1.1 400 Bad Request\r\ncontent-length: 1\r\n\r\n0"), None);
        let own = last_words(&Refusal::bad_request("no"));
        assert_eq!(refusal(&own), None);
        assert!(
            String::from_utf8(own).unwrap().ends_with("\r\ncontent-length: 14\r\n\r\n{\"error\":\"no\"}")
        );
    }
}
