//! The server: takes jobs for a pool, or says why not. All it holds is bounded; see [`Limits`].

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anthill::PoolHandle;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::job::{Job, Misfit};

/// What a client may take of this server; the pool has limits of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Clients connected at once. More wait in the system's queue until one has gone.
    pub(crate) connections: u16,
    /// Bytes of a request's line and headers; at least 8 KiB.
    pub(crate) head: usize,
    /// Bytes of a request's body.
    pub(crate) body: usize,
    /// How long a head, and then a body, may take to arrive.
    pub(crate) patience: Duration,
    /// How old a connection may become; it then has `patience` to end, and is cut off.
    pub(crate) age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head: 16 * 1024,
            body: 4 * 1024,
            patience: Duration::from_secs(5),
            age: Duration::from_secs(60),
        }
    }
}

/// Serves clients until `stop`; then answers what has been asked, and returns when the last client has
/// gone, after `patience` at the latest. The pool is left open, and may still be at what it accepted.
pub(crate) async fn serve<W>(
    listener: TcpListener,
    pool: PoolHandle,
    limits: Limits,
    work: W,
    stop: impl Future<Output = ()>,
) where
    W: Fn(Job) + Send + Sync + 'static,
{
    let door = Arc::new(FrontDoor {
        pool,
        limits,
        work: Arc::new(work),
    });
    let places = Arc::new(Semaphore::new(limits.connections.into()));
    let (open, closing) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        // The place comes first: who has none is not accepted, and costs this process nothing.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept(&listener).await)
        };
        let (place, client) = tokio::select! {
            () = &mut stop => break,
            next = next => next,
        };
        let (door, closing) = (Arc::clone(&door), closing.clone());
        tokio::spawn(async move {
            door.talk(client, closing).await;
            drop(place);
        });
    }
    drop(listener);
    drop(open);
    // With all places in hand, all clients have gone. (An error would say that nobody closes it.)
    let _ = places.acquire_many(limits.connections.into()).await;
}

/// The next client. An error here is that of a client that has gone again, or a lack of descriptors,
/// of which there may be some in a moment.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

struct FrontDoor<W> {
    pool: PoolHandle,
    limits: Limits,
    work: Arc<W>,
}

impl<W: Fn(Job) + Send + Sync + 'static> FrontDoor<W> {
    /// One connection, from its first request to its last.
    async fn talk(&self, client: TcpStream, mut closing: watch::Receiver<()>) {
        let service = service_fn(async |request| Ok::<_, Infallible>(self.answer(request).await));
        let talk = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.patience)
            .max_buf_size(self.limits.head)
            // Who has sent a whole request and then says no more still gets an answer.
            .half_close(true)
            .serve_connection(TokioIo::new(client), service);
        let mut talk = pin!(talk);
        tokio::select! {
            // An error is the client's: it broke off, was too slow, or does not speak HTTP.
            _ = &mut talk => return,
            // The server stops: nobody holds the other end any more.
            _ = closing.changed() => {}
            () = sleep(self.limits.age) => {}
        }
        talk.as_mut().graceful_shutdown();
        let _ = timeout(self.limits.patience, talk).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<String> {
        if request.uri().path() != "/work" {
            return reply(StatusCode::NOT_FOUND, "there is only /work");
        }
        if request.method() != Method::POST {
            let refusal = reply(StatusCode::METHOD_NOT_ALLOWED, "POST a job here");
            return with(refusal, ALLOW, "POST");
        }
        let content_type = request.headers().get(CONTENT_TYPE).cloned();
        let body = match self.read(request.into_body()).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        // From here on nothing waits: no client that goes away can take this back half-way.
        let content_type = content_type.as_ref().and_then(|value| value.to_str().ok());
        match Job::parse(content_type.unwrap_or_default(), &body) {
            Ok(job) => self.offer(job),
            Err(Misfit::Content(reason)) => reply(StatusCode::BAD_REQUEST, &reason),
            Err(Misfit::Type) => reply(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send application/x-www-form-urlencoded or application/json",
            ),
        }
    }

    /// The body, if it is small and comes in time.
    ///
    /// What is too large is read and thrown away while there is time, since a client that is cut off
    /// while it sends may never see the answer.
    async fn read(&self, mut body: Incoming) -> Result<Vec<u8>, Response<String>> {
        let mut bytes = Vec::new();
        let mut too_large = body.size_hint().lower() > self.limits.body as u64;
        let reading = async {
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    too_large |= bytes.len() + data.len() > self.limits.body;
                    if !too_large {
                        bytes.extend_from_slice(&data);
                    }
                }
            }
            Ok::<_, hyper::Error>(())
        };
        match timeout(self.limits.patience, reading).await {
            _ if too_large => {
                let reason = format!("at most {} bytes", self.limits.body);
                Err(reply(StatusCode::PAYLOAD_TOO_LARGE, &reason))
            }
            Ok(Ok(())) => Ok(bytes),
            Ok(Err(error)) => Err(reply(StatusCode::BAD_REQUEST, &error.to_string())),
            Err(_) => Err(with(
                reply(StatusCode::REQUEST_TIMEOUT, "the body did not come"),
                CONNECTION,
                "close",
            )),
        }
    }

    /// Gives the job to the pool, which takes it or refuses it at once.
    ///
    /// Never `submit` here: it would wait for room on the thread that serves all clients. Nor on another
    /// thread: those would then be a second queue, without a bound.
    fn offer(&self, job: Job) -> Response<String> {
        let work = Arc::clone(&self.work);
        match self.pool.try_submit(move || work(job)) {
            Ok(()) => reply(StatusCode::CREATED, "accepted"),
            // Full; or closed, or without a thread: the client can do no more than come back later.
            Err(refused) => with(
                reply(StatusCode::SERVICE_UNAVAILABLE, &refused.kind().to_string()),
                RETRY_AFTER,
                "1",
            ),
        }
    }
}

fn reply(status: StatusCode, text: &str) -> Response<String> {
    let mut reply = Response::new(format!("{text}\n"));
    *reply.status_mut() = status;
    with(reply, CONTENT_TYPE, "text/plain; charset=utf-8")
}

fn with(mut reply: Response<String>, name: HeaderName, value: &'static str) -> Response<String> {
    let value = HeaderValue::from_static(value);
    reply.headers_mut().insert(name, value);
    reply
}
