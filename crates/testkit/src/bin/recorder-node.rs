//! `recorder-node NAME ADDRESS FILE`: a node that appends every update that reaches it to a file.

use std::path::Path;
use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "a test program says on stderr why it cannot start")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, address, file] = args.as_slice() else {
        eprintln!("usage: recorder-node NAME ADDRESS FILE");
        return ExitCode::from(2);
    };
    let Ok(address) = address.parse() else {
        eprintln!("recorder-node: {address:?} is no address such as 127.0.0.1:8080");
        return ExitCode::from(2);
    };
    match testkit::recorder::serve_forever(name, address, Path::new(file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recorder-node: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}
