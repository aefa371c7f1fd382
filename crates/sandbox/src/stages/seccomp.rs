//! The system call filter: `data/seccomp*.json`, and a guard in front for other ABIs.

use std::sync::OnceLock;

use homarus_contract::ids::Hash;
use seccompiler::{BpfMap, BpfProgram, TargetArch, compile_from_json, sock_filter};

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

/// All rules as programs, by name.
#[derive(Debug)]
pub struct Compiled {
    common: BpfMap,
    of_arch: BpfMap,
}

/// Compiled once in a process, and in those forked from it.
pub fn compiled() -> Result<&'static Compiled, StageFailure> {
    static COMPILED: OnceLock<Result<Compiled, StageFailure>> = OnceLock::new();
    COMPILED.get_or_init(compile).as_ref().map_err(Clone::clone)
}

fn compile() -> Result<Compiled, StageFailure> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).step("seccomp", "architecture")?;
    let map = |text: &str| compile_from_json(text.as_bytes(), arch).step("seccomp", "compile");
    Ok(Compiled { common: map(COMMON)?, of_arch: OF_ARCH.map(map).transpose()?.unwrap_or_default() })
}

fn named(map: &BpfMap, name: &str) -> Result<BpfProgram, StageFailure> {
    map.get(name).cloned().ok_or_else(|| StageFailure::new("seccomp", format!("there are no rules `{name}`")))
}

/// What every call has. The kernel runs all programs that are loaded and takes the strictest answer.
pub fn for_all() -> Result<Vec<BpfProgram>, StageFailure> {
    let Compiled { common, of_arch } = compiled()?;
    let mut programs = vec![named(common, "no_clone3")?, named(common, "deny")?];
    if OF_ARCH.is_some() {
        programs.push(named(of_arch, "deny")?);
    }
    programs.push(by_number());
    Ok(programs)
}

/// What one call has besides.
pub fn on_top(extra: Extra) -> Result<Vec<BpfProgram>, StageFailure> {
    let Compiled { common, of_arch } = compiled()?;
    let wanted = [
        (common, "direct", extra.direct),
        (common, "direct_command", extra.direct && !extra.internal),
        (common, "no_memory_files", extra.no_memory_files),
        (common, "no_segments", extra.no_segments),
        (of_arch, "direct", extra.direct && OF_ARCH.is_some()),
    ];
    wanted.iter().filter(|(_, _, wanted)| *wanted).map(|(map, name, _)| named(map, name)).collect()
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

/// Judges calls by their number alone: those of the other ABI, and those newer than the rules.
fn by_number() -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const NUMBER_AT: u32 = 0;
    const ALLOW: u32 = 0x7fff_0000;
    vec![
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: NUMBER_AT },
        sock_filter { code: JUMP_IF_GREATER_OR_EQUAL, jt: 0, jf: 1, k: X32_BIT },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: KILL_PROCESS },
        sock_filter { code: JUMP_IF_GREATER_OR_EQUAL, jt: 0, jf: 1, k: KNOWN_CALL_MAX + 1 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: ERRNO | NO_SUCH_CALL },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: ALLOW },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_compiles_and_is_the_same_each_time() {
        let first = for_all().unwrap();
        assert_eq!(first.len(), if OF_ARCH.is_some() { 4 } else { 3 });
        assert!(first.iter().all(|program| program.len() > 3 && program.len() < 4096));
        assert_eq!(hash(&first), hash(&for_all().unwrap()));
        assert!(on_top(Extra::default()).unwrap().is_empty());
    }

    #[test]
    fn what_is_denied_to_one_call_comes_on_top() {
        let all = Extra { direct: true, internal: false, no_memory_files: true, no_segments: true };
        let more = on_top(all).unwrap();
        assert_eq!(more.len(), if OF_ARCH.is_some() { 5 } else { 4 });
        assert!(more.iter().all(|program| program.len() < 4096));
        assert_ne!(hash(&for_all().unwrap()), hash(&[for_all().unwrap(), more.clone()].concat()));
        let own = on_top(Extra { internal: true, ..all }).unwrap();
        assert_eq!(own.len(), more.len() - 1);
    }
}
