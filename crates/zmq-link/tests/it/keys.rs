//! Key files on a real file system.

use std::os::unix::fs::PermissionsExt;

use testkit::TempDir;
use zmq_link::{KeyFileError, KeyPair, key_file};

#[test]
fn a_written_key_file_is_private_and_reads_back() {
    let (dir, pair) = (TempDir::new(), KeyPair::generate().unwrap());
    let path = dir.join("key");
    key_file::write(&path, &pair).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(key_file::read(&path).unwrap().public(), pair.public());
    let again = key_file::write(&path, &KeyPair::generate().unwrap());
    assert!(matches!(again, Err(KeyFileError::Write { .. })), "a key is never overwritten");
    assert_eq!(key_file::read(&path).unwrap().public(), pair.public());
}

#[test]
fn a_key_file_that_others_may_read_is_refused_with_what_to_do() {
    let (dir, pair) = (TempDir::new(), KeyPair::generate().unwrap());
    let path = dir.join("key");
    key_file::write(&path, &pair).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o620, 0o602] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let text = key_file::read(&path).unwrap_err().to_string();
        assert!(text.contains(&format!("{mode:04o}")), "{text}");
        assert!(text.contains(&format!("run  chmod 600 {}", path.display())), "{text}");
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    key_file::read(&path).unwrap();
}

#[test]
fn no_message_of_a_broken_key_file_shows_the_secret() {
    let (dir, pair) = (TempDir::new(), KeyPair::generate().unwrap());
    let text = key_file::render(&pair);
    let secret = text.lines().last().unwrap().split('"').nth(1).unwrap().to_owned();
    for damage in [text.replace("secret =", "secret"), text.replace(&secret, &secret[1..])] {
        let path = dir.join("broken");
        let _ = std::fs::remove_file(&path);
        dir.write("broken", damage);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let error = key_file::read(&path).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("holds no key pair"), "{shown}");
        assert!(!shown.contains(&secret[1..]), "{shown}");
    }
}
