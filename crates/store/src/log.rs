//! SQLite's write-ahead log, looked at without SQLite, for damage that SQLite takes for the end.
//!
//! SQLite reads the log up to the first frame whose checksum does not fit, for that is how a torn write looks
//! after a power loss. But each transaction was synced before the next one began: where a frame does not fit and
//! complete later transactions follow, what does not fit was once on the disk, and acknowledged.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const MAGIC: u32 = 0x377f_0682;
const PAGE_BYTES_MAX: u32 = 65_536;
/// Another process may be writing: what looks damaged is looked at again.
const LOOKS_MAX: u32 = 50;

/// What does not fit; `None`: nothing that was ever acknowledged.
pub(crate) fn damage(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for _ in 0..LOOKS_MAX {
        match look(&file)? {
            Seen::Whole => return Ok(None),
            Seen::Damaged(what) => return Ok(Some(what)),
            Seen::Moving => {}
        }
    }
    Ok(None)
}

enum Seen {
    Whole,
    Damaged(String),
    /// It was written meanwhile.
    Moving,
}

/// The header of the log.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Header {
    bytes: [u8; HEADER_BYTES],
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Sum(u32, u32);

fn look(file: &File) -> io::Result<Seen> {
    let Some(header) = Header::read(file)? else { return Ok(Seen::Whole) };
    let Some(mut sum) = header.sum() else {
        let again = Header::read(file)?;
        return Ok(match again {
            Some(again) if again == header && header.bytes != [0; HEADER_BYTES] => {
                Seen::Damaged("its header does not fit, so that nothing in it can be read".to_owned())
            }
            Some(again) if again == header => Seen::Whole,
            _ => Seen::Moving,
        });
    };
    let mut frames = Frames::new(file, header)?;
    let mut number = 0u64;
    // The first frame that does not fit, and whether a transaction has ended since.
    let mut bad: Option<(u64, Vec<u8>)> = None;
    let mut ended = false;
    while let Some(frame) = frames.next()? {
        number += 1;
        let fits = header.fits(frame, &mut sum);
        match (&bad, fits) {
            (None, true) => {}
            (None, false) => bad = Some((number, frame.to_vec())),
            (Some((at, before)), true) if ended => {
                let same = Frames::frame(file, header, *at)?.as_deref() == Some(before.as_slice());
                return Ok(if same && Header::read(file)? == Some(header) {
                    Seen::Damaged(format!(
                        "its frame {at} does not fit, and whole transactions that follow it are lost"
                    ))
                } else {
                    Seen::Moving
                });
            }
            (Some(_), _) => {}
        }
        if bad.is_some() {
            let is_end = header.is_of_it(frame) && word(frame, 4) != 0;
            ended = if fits { ended || is_end } else { is_end };
        }
    }
    Ok(Seen::Whole)
}

impl Header {
    /// `None`: there is none (yet).
    fn read(file: &File) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Some(Self { bytes })),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its checksum, with which those of the frames go on; `None` if it does not fit.
    fn sum(&self) -> Option<Sum> {
        let sum = self.add(Sum(0, 0), &self.bytes[..24]);
        let is_sound = word(&self.bytes, 0) & !1 == MAGIC && self.page_bytes().is_some();
        (is_sound && sum == Sum(word(&self.bytes, 24), word(&self.bytes, 28))).then_some(sum)
    }

    fn page_bytes(&self) -> Option<usize> {
        let bytes = word(&self.bytes, 8);
        (bytes.is_power_of_two() && (512..=PAGE_BYTES_MAX).contains(&bytes)).then_some(bytes as usize)
    }

    /// Whether a frame is of this generation of the log.
    fn is_of_it(&self, frame: &[u8]) -> bool {
        frame[8..16] == self.bytes[16..24]
    }

    /// Whether a frame fits the one before; `sum` becomes the one it names, right or wrong.
    fn fits(&self, frame: &[u8], sum: &mut Sum) -> bool {
        let wanted = self.add(self.add(*sum, &frame[..8]), &frame[FRAME_HEADER_BYTES..]);
        *sum = Sum(word(frame, 16), word(frame, 20));
        self.is_of_it(frame) && wanted == *sum
    }

    /// SQLite's checksum, in the byte order the magic number tells.
    fn add(&self, sum: Sum, bytes: &[u8]) -> Sum {
        let is_big = word(&self.bytes, 0) & 1 == 1;
        let read = |bytes: &[u8]| if is_big { word(bytes, 0) } else { word(bytes, 0).swap_bytes() };
        bytes.chunks_exact(8).fold(sum, |Sum(one, two), pair| {
            let one = one.wrapping_add(read(&pair[..4])).wrapping_add(two);
            let two = two.wrapping_add(read(&pair[4..])).wrapping_add(one);
            Sum(one, two)
        })
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The frames one after the other.
struct Frames {
    reader: io::BufReader<File>,
    frame: Vec<u8>,
}

impl Frames {
    fn new(file: &File, header: Header) -> io::Result<Self> {
        use io::Seek;
        let mut file = file.try_clone()?;
        file.seek(io::SeekFrom::Start(HEADER_BYTES as u64))?;
        let frame = vec![0; FRAME_HEADER_BYTES + header.page_bytes().unwrap_or_default()];
        Ok(Self { reader: io::BufReader::with_capacity(1 << 18, file), frame })
    }

    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        match self.reader.read_exact(&mut self.frame) {
            Ok(()) => Ok(Some(&self.frame)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One frame as it is now; the first is number 1.
    fn frame(file: &File, header: Header, number: u64) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; FRAME_HEADER_BYTES + header.page_bytes().unwrap_or_default()];
        let at = HEADER_BYTES as u64 + (number - 1) * frame.len() as u64;
        match file.read_exact_at(&mut frame, at) {
            Ok(()) => Ok(Some(frame)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}
