//! Lists as they are told: in order, with an index that follows from what is in them.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::Names;
use crate::service::{Instance, Name, Snapshot};

/// An index has to pass through JSON, whose numbers are exact up to here.
const LARGEST: u64 = (1 << 53) - 1;

/// In the order of creation. The index is the same for the same content, whoever read it and when: one that the store counts may go
/// back when it loses its data, and moves with what does not concern the list.
pub(crate) fn snapshot(mut instances: Vec<Instance>) -> Snapshot {
    instances.sort_by(|a, b| (a.created, &a.service.id).cmp(&(b.created, &b.service.id)));
    let index = digest(|hasher| {
        for Instance { service, created } in &instances {
            (&service.id, &service.address, service.port, &service.attributes, created).hash(hasher);
        }
    });
    Snapshot { instances, index }
}

/// In the order of the alphabet, each once.
pub(crate) fn names(names: impl IntoIterator<Item = Name>) -> Names {
    let mut names: Vec<Name> = names.into_iter().collect();
    names.sort();
    names.dedup();
    let index = digest(|hasher| names.hash(hasher));
    Names { names, index }
}

fn digest(content: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    content(&mut hasher);
    hasher.finish() & LARGEST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Service;

    #[test]
    fn an_index_follows_from_the_content() {
        let instance = |id: &str, port, created| {
            let service = Service::new("web", "h", port).unwrap().with_id(id).unwrap();
            Instance { service, created }
        };
        let (a, b) = (instance("a", 1, 7), instance("b", 1, 5));
        let list = snapshot(vec![a.clone(), b.clone()]);
        assert_eq!(list.instances, [b.clone(), a.clone()]);
        assert_eq!(snapshot(vec![b.clone(), a.clone()]), list);
        assert!(list.index <= LARGEST);
        for other in
            [vec![a.clone()], vec![], vec![b.clone(), instance("a", 2, 7)], vec![b, instance("a", 1, 8)]]
        {
            assert_ne!(snapshot(other).index, list.index);
        }
        let two = names([Name::new("b").unwrap(), Name::new("a").unwrap(), Name::new("b").unwrap()]);
        assert_eq!(two.names, [Name::new("a").unwrap(), Name::new("b").unwrap()]);
        assert_ne!(two.index, names([Name::new("ab").unwrap()]).index);
    }
}
