//! Elections where candidates are ordinary records of a line, and the one that was created first leads.

use std::sync::Arc;
use std::time::Duration;

use super::{Backend, BackendFuture, Candidacy, Leader, Presence, Renewal, Source, Standing, Tenure, Turn};
use crate::error::Error;
use crate::service::{Name, Scope, Service, Snapshot};

/// Before the mark of a candidate, which are so many hexadecimal digits by chance.
const MARK: char = '~';
const DIGITS: usize = 16;

/// The id as it was given, without a mark.
pub(crate) fn unmarked(id: &str) -> &str {
    let is_mark = |mark: &str| mark.len() == DIGITS && mark.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.rsplit_once(MARK).filter(|(_, mark)| is_mark(mark)).map_or(id, |(id, _)| id)
}

/// Who leads a name whose candidates stand [`Line::apart`].
pub(crate) async fn leader(backend: &dyn Backend, name: &Name) -> Result<Option<Leader>, Error> {
    let first = backend.list(&name.line(), Scope::All).await?.instances.into_iter().next();
    Ok(first.map(|first| {
        let service =
            Service { name: name.clone(), id: unmarked(&first.service.id).to_owned(), ..first.service };
        Leader { service, token: first.created }
    }))
}

/// A candidate: a record, and a watch of the list that it stands in.
pub(crate) struct Line {
    backend: Arc<dyn Backend>,
    service: Service,
    presence: Box<dyn Presence>,
    list: Box<dyn Source<Snapshot>>,
    created: Option<u64>,
}

impl Line {
    /// In a line of its own beside the instances of the name. Its id is marked there: of two candidates with one id neither can take the
    /// other's record away, which would make two leaders until the other hears of it.
    pub(crate) fn apart(backend: Arc<dyn Backend>, service: &Service) -> Self {
        let id = format!("{}{MARK}{:0DIGITS$x}", service.id, rand::random::<u64>());
        Self::new(backend, &Service { name: service.name.line(), id, ..service.clone() })
    }

    /// Among the instances of the name, in a store that never replaces another's record.
    pub(crate) fn new(backend: Arc<dyn Backend>, service: &Service) -> Self {
        let presence = backend.register(service);
        let list = backend.watch(&service.name);
        Self { backend, service: service.clone(), presence, list, created: None }
    }
}

impl Presence for Line {
    fn enter(&mut self) -> BackendFuture<'_, Result<Tenure, Error>> {
        Box::pin(async move {
            self.created = None;
            let tenure = self.presence.enter().await?;
            self.created = Some(tenure.created);
            Ok(tenure)
        })
    }

    fn renew(&mut self) -> BackendFuture<'_, Result<Renewal, Error>> {
        self.presence.renew()
    }

    fn renew_every(&self) -> Duration {
        self.presence.renew_every()
    }

    fn alarm(&mut self) -> BackendFuture<'_, ()> {
        self.presence.alarm()
    }

    fn leave(&mut self) -> BackendFuture<'_, Result<(), Error>> {
        self.created = None;
        self.presence.leave()
    }

    fn kept(&self) -> Option<std::os::fd::OwnedFd> {
        self.presence.kept()
    }
}

impl Candidacy for Line {
    fn standing(&mut self) -> BackendFuture<'_, Result<Standing, Error>> {
        Box::pin(async move {
            let list = self.backend.list(&self.service.name, Scope::Passing).await?;
            let first = list.instances.first();
            // The id is that of an earlier record of ours too, and a store that lost its data gives a number again.
            let ours = first
                .filter(|first| first.service.id == self.service.id && Some(first.created) == self.created);
            Ok(ours.map_or(Standing::Waits, |first| Standing::Leads(first.created)))
        })
    }

    fn turned(&mut self) -> BackendFuture<'_, Result<Turn, Error>> {
        let Self { presence, list, .. } = self;
        Box::pin(async move {
            tokio::select! {
                () = presence.alarm() => Ok(Turn::Alarm),
                moved = list.next() => moved.map(|_| Turn::Moved),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_taken_off_and_nothing_else() {
        for (id, bare) in [
            ("a~0123456789abcdef", "a"),
            ("a~b~0123456789abcdef", "a~b"),
            ("a~0123456789abcdef~0123456789abcdef", "a~0123456789abcdef"),
            ("a~b", "a~b"),
            ("a~0123456789abcdeg", "a~0123456789abcdeg"),
            ("a", "a"),
        ] {
            assert_eq!(unmarked(id), bare);
        }
    }
}
