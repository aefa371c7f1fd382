//! Compares patterns of ignore files with paths, byte by byte. `left` is how much of that may still be done: each comparison
//! takes one, and at zero nothing fits any more.

/// Compares part by part; `**` stands for any number of folders, at the end for all that is inside.
pub fn path_fits(glob: &[u8], path: &[u8], left: &mut u64) -> bool {
    let slash = |byte: &u8| *byte == b'/';
    let (mut parts, mut names) = (glob.split(slash), path.split(slash));
    let (mut part, mut name) = (parts.next(), names.next());
    // Where to go on from after the last `**`, should it stand for one folder more.
    let mut retry = None;
    loop {
        // What it took to find the part and the name.
        let bytes = part.map_or(0, <[u8]>::len) + name.map_or(0, <[u8]>::len);
        *left = left.saturating_sub(1 + bytes as u64);
        match (part, name) {
            (Some(b"**"), _) => {
                part = parts.next();
                if part.is_none() {
                    return name.is_some();
                }
                retry = Some((part, parts.clone(), names.clone()));
            }
            (None, None) => return true,
            (Some(glob), Some(text)) if name_fits(glob, text, left) => {
                part = parts.next();
                name = names.next();
            }
            _ => {
                let Some((first, rest, mut further)) = retry.take() else { return false };
                name = further.next();
                if name.is_none() || *left == 0 {
                    return false;
                }
                (part, parts, names) = (first, rest.clone(), further.clone());
                retry = Some((first, rest, further));
            }
        }
    }
}

/// Compares one name byte by byte. After a mismatch, the last `*` takes one byte more: no other could do better.
pub fn name_fits(glob: &[u8], name: &[u8], left: &mut u64) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut retry = None;
    loop {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return false;
        }
        if glob.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, read));
            continue;
        }
        let Some(byte) = name.get(read) else { return at == glob.len() };
        if let Some(next) = one_fits(glob, at, *byte, left) {
            (at, read) = (next, read + 1);
        } else if let Some((star, taken)) = retry {
            (at, read) = (star, taken + 1);
            retry = Some((star, taken + 1));
        } else {
            return false;
        }
    }
}

/// Where the glob goes on if what stands at `at` accepts the byte.
fn one_fits(glob: &[u8], at: usize, byte: u8, left: &mut u64) -> Option<usize> {
    match *glob.get(at)? {
        b'?' => Some(at + 1),
        b'\\' => (*glob.get(at + 1)? == byte).then_some(at + 2),
        b'[' => match class(glob, at + 1, byte, left) {
            Some((accepts, next)) => accepts.then_some(next),
            None => (byte == b'[').then_some(at + 1),
        },
        literal => (literal == byte).then_some(at + 1),
    }
}

/// Whether a class of characters, the text after its `[`, accepts the byte, and where it ends; `None` if it does not.
fn class(glob: &[u8], from: usize, byte: u8, left: &mut u64) -> Option<(bool, usize)> {
    let is_negated = matches!(glob.get(from)?, b'!' | b'^');
    let first = from + usize::from(is_negated);
    let (mut at, mut is_in) = (first, false);
    loop {
        *left = left.saturating_sub(1);
        match (*glob.get(at)?, glob.get(at + 1), glob.get(at + 2)) {
            (b']', ..) if at > first => return Some((is_in != is_negated, at + 1)),
            (low, Some(b'-'), Some(high)) if *high != b']' => {
                is_in |= (low..=*high).contains(&byte);
                at += 3;
            }
            (one, ..) => {
                is_in |= one == byte;
                at += 1;
            }
        }
    }
}
