//! An application in Rust: `app ENDPOINT` sends one message to all nodes, then prints what comes in.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = std::env::args().nth(1).ok_or("app ENDPOINT")?;
    let app = zmq::Context::new().socket(zmq::DEALER)?;
    app.connect(&endpoint)?;
    app.send_multipart(["hello", "1000"], 0)?;
    app.send_multipart(["send", "*", "hello, all of you"], 0)?;
    let mut taken = 0;
    loop {
        let frames = app.recv_multipart(0)?;
        let frames: Vec<_> = frames.iter().map(|frame| String::from_utf8_lossy(frame)).collect();
        println!("{}", frames.join(" "));
        // Events take credit; these do not.
        if !["welcome", "sent", "ping", "error"].contains(&&*frames[0]) {
            taken += 1;
        }
        if taken == 500 {
            app.send_multipart(["credit", "500"], 0)?;
            taken = 0;
        }
    }
}
