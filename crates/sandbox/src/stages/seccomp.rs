//! The system call filter: `data/seccomp*.json`, and a guard in front for other ABIs.

use homarus_contract::ids::Hash;
use seccompiler::{BpfProgram, TargetArch, compile_from_json, sock_filter};

use crate::spec::{StageFailure, Step};

const COMMON: &str = include_str!("../../data/seccomp.json");
#[cfg(target_arch = "x86_64")]
const OF_ARCH: Option<&str> = Some(include_str!("../../data/seccomp.x86_64.json"));
#[cfg(not(target_arch = "x86_64"))]
const OF_ARCH: Option<&str> = None;

/// The newest call the rules know by name (`mseal`). What is newer is answered as by a kernel that lacks it.
const KNOWN_CALL_MAX: u32 = 462;

/// What is denied to one call and not to others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extra {
    /// A folder of the host is there without an overlay between.
    pub direct: bool,
    /// It is one of our own functions, which name files by calls that a command can do without.
    pub internal: bool,
    /// No control group holds the call's memory.
    pub no_memory_files: bool,
    /// Nor is the size of System V segments bounded.
    pub no_segments: bool,
}

/// The programs in loading order. The kernel runs all of them and takes the strictest answer.
pub fn programs(extra: Extra) -> Result<Vec<BpfProgram>, StageFailure> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).step("seccomp", "architecture")?;
    let mut common = compile_from_json(COMMON.as_bytes(), arch).step("seccomp", "compile")?;
    let mut programs = Vec::new();
    programs.extend(common.remove("no_clone3"));
    programs.extend(common.remove("deny"));
    let more = [
        ("direct", extra.direct),
        ("direct_command", extra.direct && !extra.internal),
        ("no_memory_files", extra.no_memory_files),
        ("no_segments", extra.no_segments),
    ];
    for (name, _) in more.iter().filter(|(_, wanted)| *wanted) {
        programs.extend(common.remove(*name));
    }
    if let Some(text) = OF_ARCH {
        let mut more = compile_from_json(text.as_bytes(), arch).step("seccomp", "compile")?;
        programs.extend(more.remove("deny"));
        if extra.direct {
            programs.extend(more.remove("direct"));
        }
        programs.push(from_number_on(X32_BIT, KILL_PROCESS));
    }
    programs.push(from_number_on(KNOWN_CALL_MAX + 1, ERRNO | NO_SUCH_CALL));
    Ok(programs)
}

pub fn load(programs: &[BpfProgram]) -> Result<(), StageFailure> {
    programs.iter().try_for_each(|program| seccompiler::apply_filter(program).step("seccomp", "load"))
}

pub fn hash(programs: &[BpfProgram]) -> String {
    let bytes: Vec<Vec<u8>> = programs.iter().map(|program| program.iter().flat_map(encode).collect()).collect();
    Hash::of_parts(bytes.iter().map(Vec::as_slice)).to_hex()
}

fn encode(instruction: &sock_filter) -> impl Iterator<Item = u8> + use<> {
    let [code_a, code_b] = instruction.code.to_le_bytes();
    [code_a, code_b, instruction.jt, instruction.jf].into_iter().chain(instruction.k.to_le_bytes())
}

/// The x32 ABI reaches the same calls under other numbers, which the rules above do not know: any
/// number with its bit ends the process. (32-bit calls are ended by the architecture check.)
const X32_BIT: u32 = 0x4000_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
/// ENOSYS.
const NO_SUCH_CALL: u32 = 38;

/// Answers every call from this number on in one way.
fn from_number_on(first: u32, answer: u32) -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const NUMBER_AT: u32 = 0;
    const ALLOW: u32 = 0x7fff_0000;
    vec![
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: NUMBER_AT },
        sock_filter { code: JUMP_IF_GREATER_OR_EQUAL, jt: 0, jf: 1, k: first },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: answer },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: ALLOW },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_compiles_and_is_the_same_each_time() {
        let first = programs(Extra::default()).unwrap();
        assert_eq!(first.len(), if OF_ARCH.is_some() { 5 } else { 3 });
        assert!(first.iter().all(|program| program.len() > 3 && program.len() < 4096));
        assert_eq!(hash(&first), hash(&programs(Extra::default()).unwrap()));
    }

    #[test]
    fn what_is_denied_to_one_call_comes_on_top() {
        let all = Extra { direct: true, internal: false, no_memory_files: true, no_segments: true };
        let (plain, strict) = (programs(Extra::default()).unwrap(), programs(all).unwrap());
        assert_eq!(strict.len(), plain.len() + if OF_ARCH.is_some() { 5 } else { 4 });
        assert!(strict.iter().all(|program| program.len() < 4096));
        assert_ne!(hash(&plain), hash(&strict));
        let own = programs(Extra { internal: true, ..all }).unwrap();
        assert_eq!(own.len(), strict.len() - 1);
    }
}
