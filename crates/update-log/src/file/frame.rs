//! Files of frames: what tells a torn tail from damage. Pure.
//!
//! A file starts with a header that names its kind, version, number and a random salt. Frames
//! follow. The salt goes into every checksum, so that nothing a client sends can look like a frame.

use super::codec::{Corrupt, Input};

/// The version of every file written here.
pub(crate) const VERSION: u32 = 1;
/// The length of a file's header.
pub(crate) const FILE_HEADER: usize = 32;
/// The length of a frame's header.
pub(crate) const FRAME_HEADER: usize = 32;
const MAGIC: [u8; 4] = *b"\xf5UP\x1a";

/// The kind of a file, at its very beginning.
pub(crate) type Kind = [u8; 8];

/// What a file's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHead {
    /// The place of the file among its kind.
    pub(crate) number: u64,
    /// Goes into each checksum.
    pub(crate) salt: u64,
}

/// Why a file's header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// A later version wrote it.
    Newer(u32),
    /// It is not such a header.
    Bad,
}

/// The header of a new file.
pub(crate) fn file_header(kind: Kind, head: FileHead) -> [u8; FILE_HEADER] {
    let mut out = [0; FILE_HEADER];
    out[..8].copy_from_slice(&kind);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..20].copy_from_slice(&head.number.to_le_bytes());
    out[20..28].copy_from_slice(&head.salt.to_le_bytes());
    let crc = crc32c::crc32c(&out[..28]);
    out[28..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads what [`file_header`] made.
pub(crate) fn parse_file_header(kind: Kind, bytes: &[u8]) -> Result<FileHead, HeadError> {
    let head = bytes.get(..FILE_HEADER).ok_or(HeadError::Bad)?;
    let mut input = Input(head);
    let mut read = || -> Result<_, Corrupt> {
        Ok((
            input.array::<8>()?,
            u32::from_le_bytes(input.array()?),
            u64::from_le_bytes(input.array()?),
            u64::from_le_bytes(input.array()?),
            u32::from_le_bytes(input.array()?),
        ))
    };
    let (found, version, number, salt, crc) = read().map_err(|_| HeadError::Bad)?;
    if found != kind || crc != crc32c::crc32c(&head[..28]) {
        return Err(HeadError::Bad);
    }
    if version > VERSION {
        return Err(HeadError::Newer(version));
    }
    Ok(FileHead { number, salt })
}

/// A frame read back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Where its payload begins in the file.
    pub(crate) payload_at: u64,
    /// The log's time when it was written, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    /// Its records.
    pub(crate) payload: &'a [u8],
}

/// Room for the header, to be filled by [`seal`] when the payload stands behind it.
pub(crate) fn begin() -> Vec<u8> {
    vec![0; FRAME_HEADER]
}

/// Fills in the header of a frame that [`begin`] began. `synced_to` is how much of the file was
/// known durable before this write.
pub(crate) fn seal(frame: &mut [u8], salt: u64, synced_to: u64, at_ms: u64) {
    let (head, payload) = frame.split_at_mut(FRAME_HEADER);
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[8..16].copy_from_slice(&synced_to.to_le_bytes());
    head[16..24].copy_from_slice(&at_ms.to_le_bytes());
    head[24..28].copy_from_slice(&salted(salt, payload).to_le_bytes());
    let crc = salted(salt, &head[..28]);
    head[28..].copy_from_slice(&crc.to_le_bytes());
}

/// The checksum of `bytes` in a file with this salt.
fn salted(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

struct Head {
    len: usize,
    synced_to: u64,
    at_ms: u64,
    crc: u32,
}

/// The frame header at `at`, if a whole and true one stands there.
fn head(bytes: &[u8], at: usize, salt: u64) -> Option<Head> {
    let head = bytes.get(at..at + FRAME_HEADER)?;
    let mut input = Input(&head[4..]);
    if head[..4] != MAGIC {
        return None;
    }
    let found = Head {
        len: u32::from_le_bytes(input.array().ok()?) as usize,
        synced_to: u64::from_le_bytes(input.array().ok()?),
        at_ms: u64::from_le_bytes(input.array().ok()?),
        crc: u32::from_le_bytes(input.array().ok()?),
    };
    let crc = u32::from_le_bytes(input.array().ok()?);
    (crc == salted(salt, &head[..28]) && found.synced_to <= at as u64).then_some(found)
}

/// Where a file is known to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The next file says so: all before is durable, and what stands behind it was given up.
    Exactly(u64),
    /// Nobody knows: the writer may have been cut off in the middle of a frame.
    Open,
}

/// Something in a file that the writer cannot have left there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where it begins.
    pub(crate) offset: u64,
    /// What does not fit.
    pub(crate) what: &'static str,
}

/// Calls `each` for every frame and returns where the last good one ends.
///
/// A frame that does not read back is a torn tail when nothing later in the file claims that it was
/// durable, and damage when something does. A file is only given its name with its first frame in
/// it, so a bad first frame is damage too.
pub(crate) fn scan<'a>(
    bytes: &'a [u8],
    salt: u64,
    end: End,
    mut each: impl FnMut(Frame<'a>) -> Result<(), Corrupt>,
) -> Result<u64, Damage> {
    let bytes = match end {
        End::Open => bytes,
        End::Exactly(len) => usize::try_from(len)
            .ok()
            .and_then(|len| bytes.get(..len))
            .ok_or(Damage { offset: bytes.len() as u64, what: "the file is shorter than it was" })?,
    };
    let mut at = FILE_HEADER;
    loop {
        if at == bytes.len() && at > FILE_HEADER {
            return Ok(at as u64);
        }
        let Some((head, payload)) = whole(bytes, at, salt) else {
            let torn = end == End::Open && at > FILE_HEADER && !claimed(bytes, at, salt);
            let what = "a frame that was durable does not read back";
            return if torn { Ok(at as u64) } else { Err(Damage { offset: at as u64, what }) };
        };
        let frame = Frame { payload_at: (at + FRAME_HEADER) as u64, at_ms: head.at_ms, payload };
        each(frame).map_err(|corrupt| Damage { offset: at as u64, what: corrupt.0 })?;
        at += FRAME_HEADER + payload.len();
    }
}

fn whole(bytes: &[u8], at: usize, salt: u64) -> Option<(Head, &[u8])> {
    let head = head(bytes, at, salt)?;
    let payload = bytes.get(at + FRAME_HEADER..)?.get(..head.len)?;
    (head.crc == salted(salt, payload)).then_some((head, payload))
}

/// Whether a frame behind `bad` says that the byte at `bad` was durable.
fn claimed(bytes: &[u8], bad: usize, salt: u64) -> bool {
    let mut at = bad + 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == MAGIC[0])) {
        at += found;
        if head(bytes, at, salt).is_some_and(|head| head.synced_to > bad as u64) {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = *b"a test\0\0";

    fn file(synced: &[u64]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = file_header(KIND, FileHead { number: 1, salt: 7 }).to_vec();
        let mut starts = Vec::new();
        for (index, synced_to) in synced.iter().enumerate() {
            starts.push(bytes.len());
            let mut frame = begin();
            frame.extend(std::iter::repeat_n(index as u8, 10 + index));
            seal(&mut frame, 7, *synced_to, 5);
            bytes.extend(frame);
        }
        (bytes, starts)
    }

    fn count(bytes: &[u8], end: End) -> Result<(usize, u64), Damage> {
        let mut frames = 0;
        scan(bytes, 7, end, |_| {
            frames += 1;
            Ok(())
        })
        .map(|end| (frames, end))
    }

    #[test]
    fn a_file_cut_anywhere_gives_the_whole_frames_before_the_cut() {
        let (bytes, starts) = file(&[0, 0, 0, 0]);
        for cut in starts[1]..bytes.len() {
            let whole = starts.iter().filter(|start| **start <= cut).count() - 1;
            assert_eq!(count(&bytes[..cut], End::Open), Ok((whole, starts[whole] as u64)), "cut at {cut}");
        }
        assert_eq!(count(&bytes, End::Open), Ok((4, bytes.len() as u64)));
    }

    #[test]
    fn a_flip_is_damage_exactly_when_a_later_frame_knew_it_durable() {
        let (first, starts) = file(&[0, 0]);
        let (bytes, _) = file(&[0, 0, starts[1] as u64, first.len() as u64]);
        for at in starts[0]..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let durable = at < first.len();
            assert_eq!(count(&flipped, End::Open).is_err(), durable, "flip at {at}");
            assert!(count(&flipped, End::Exactly(bytes.len() as u64)).is_err());
        }
    }

    #[test]
    fn what_the_next_file_gave_up_is_not_read() {
        let (bytes, starts) = file(&[0, 0, 0]);
        assert_eq!(count(&bytes, End::Exactly(starts[2] as u64)), Ok((2, starts[2] as u64)));
        assert!(count(&bytes[..starts[2] - 1], End::Exactly(starts[2] as u64)).is_err());
    }

    #[test]
    fn a_frame_from_another_file_proves_nothing() {
        let (bytes, starts) = file(&[0, 0]);
        let mut forged = begin();
        forged.extend([1; 10]);
        seal(&mut forged, 8, starts[1] as u64 + 1, 5);
        let torn = [&bytes[..starts[1] + 5], &forged].concat();
        assert_eq!(count(&torn, End::Open), Ok((1, starts[1] as u64)));
    }

    #[test]
    fn a_later_version_is_told_from_rubbish() {
        let mut head = file_header(KIND, FileHead { number: 3, salt: 9 });
        assert_eq!(parse_file_header(KIND, &head), Ok(FileHead { number: 3, salt: 9 }));
        head[8] = 2;
        assert_eq!(parse_file_header(KIND, &head), Err(HeadError::Bad));
        let crc = crc32c::crc32c(&head[..28]);
        head[28..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(parse_file_header(KIND, &head), Err(HeadError::Newer(2)));
        assert_eq!(parse_file_header(*b"another\0", &head), Err(HeadError::Bad));
    }
}
