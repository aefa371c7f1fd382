//! Turns a request into what the stages are told: what is bound where, what is hidden, what is
//! refused before anything starts.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use homarus_contract::{
    guest::{GUEST_FOLDER, GuestSpec},
    sandbox::{ExecSpec, Limits, Program, SandboxError},
};

use crate::{
    hidden::Hidden,
    options::Options,
    protected,
    spec::{BaseSpec, CallSpec, ProgramSpec, Show, WorkspaceSpec},
    stages,
};

const ETC: &str = include_str!("../data/etc.txt");
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A workspace may be none of these, nor hold one, nor lie in one.
const SYSTEM: [&str; 12] =
    ["/bin", "/sbin", "/lib", "/lib64", "/lib32", "/etc", "/proc", "/sys", "/dev", "/boot", "/usr/bin", "/usr/lib"];
const NAMESPACES: [&str; 6] = ["user", "mnt", "pid", "net", "ipc", "uts"];

/// What about this host every call shares; found once.
#[derive(Debug, Clone)]
pub struct Host {
    pub uid: u32,
    pub gid: u32,
    namespaces: BTreeMap<String, String>,
    /// The id map the host writes for a sandbox, as real root; `None`: it maps itself.
    pub id_maps: Option<(String, String)>,
    shown: Show,
    /// What the user asked to be shown, which may also lie where scratch space is mounted for each call.
    readable: Vec<(PathBuf, PathBuf)>,
    exe: PathBuf,
    pub hidden: Hidden,
    /// Where what is hidden would be seen in what is readable.
    covered: Vec<PathBuf>,
    cache_paths: Vec<String>,
}

impl Host {
    pub fn look(options: &Options) -> io::Result<Self> {
        let mut host = Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            namespaces: BTreeMap::new(),
            id_maps: None,
            shown: Show::default(),
            readable: Vec::new(),
            exe: fs::canonicalize(&options.exe)?,
            hidden: Hidden::of(options),
            covered: Vec::new(),
            cache_paths: options.cache_paths.clone(),
        };
        for name in NAMESPACES {
            let link = fs::read_link(format!("/proc/self/ns/{name}"))?;
            host.namespaces.insert(name.to_owned(), link.to_string_lossy().into_owned());
        }
        if host.uid == 0 {
            host.id_maps = Some((identity("/proc/self/uid_map")?, identity("/proc/self/gid_map")?));
        }
        for path in ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32"] {
            show(&mut host.shown, Path::new(path))?;
        }
        show_etc(&mut host.shown)?;
        let mut asked = Show::default();
        for path in &options.readable {
            show(&mut asked, path)?;
        }
        host.shown.links.append(&mut asked.links);
        // A socket is no file to be read: through a bind of it, whoever listens could be spoken to.
        asked.binds.retain(|(source, _)| fs::metadata(source).is_ok_and(|meta| meta.is_dir() || meta.is_file()));
        host.readable = asked.binds;
        // Folders before what is mounted in them.
        host.shown.binds.sort_by(|a, b| a.1.cmp(&b.1));
        host.readable.sort_by(|a, b| a.1.cmp(&b.1));
        host.readable.dedup();
        host.covered = covered(&host.readable, &host.hidden.ends)?;
        Ok(host)
    }

    /// What can be set up before a call is known.
    pub fn base(&self) -> BaseSpec {
        BaseSpec {
            map_by_host: self.id_maps.is_some(),
            uid: self.uid,
            gid: self.gid,
            cgroup_join: Vec::new(),
            host_namespaces: self.namespaces.clone(),
            show: self.shown.clone(),
            exe: self.exe.clone(),
            memory_bytes: Limits::default().memory_bytes,
            ahead: None,
        }
    }

    /// The call's own part, without a layer: it can change nothing.
    pub fn plan(&self, spec: &ExecSpec) -> Result<CallSpec, SandboxError> {
        let target = spec.workspace.clone();
        let source = self.workspace(&target)?;
        let cwd = target.join(&spec.cwd);
        if spec.cwd.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(SandboxError::Refused("the working folder must be inside the workspace".into()));
        }
        let owner = fs::metadata(&source).map_err(|error| SandboxError::Refused(error.to_string()))?;
        let mut secret: Vec<String> = protected::secret().map(str::to_owned).collect();
        self.check_caches(&source)?;
        for path in self.hidden.ends.iter().filter_map(|path| path.strip_prefix(&source).ok()) {
            let Some(path) = path.to_str() else {
                let why = format!("{} in the workspace is to be hidden, and its name is not UTF-8", path.display());
                return Err(SandboxError::Refused(why));
            };
            secret.push(path.to_owned());
        }
        let program = match &spec.program {
            Program::Command { argv } => ProgramSpec::Command { argv: argv.clone() },
            Program::Internal { name } => ProgramSpec::Internal { name: name.clone() },
        };
        let mut stage = call(program, cwd, spec.env.clone(), spec.limits);
        // As root, a workspace of another user is worked on as that user: without capabilities,
        // being user 0 would not even open it.
        stage.run_as = (self.id_maps.is_some() && owner.uid() != 0).then_some((owner.uid(), owner.gid()));
        stage.show.files = accounts(stage.run_as);
        stage.readable.clone_from(&self.readable);
        stage.hidden.clone_from(&self.covered);
        stage.workspace = Some(WorkspaceSpec {
            source_id: (owner.dev(), owner.ino()),
            source,
            target,
            layer: None,
            secret,
            fixed: protected::fixed().map(str::to_owned).collect(),
            caches: self.cache_paths.clone(),
        });
        Ok(stage)
    }

    /// Cache folders are written to directly, so nothing that only Homarus's user changes may be in one.
    fn check_caches(&self, workspace: &Path) -> Result<(), SandboxError> {
        for path in self.hidden.fixed.iter().filter_map(|path| path.strip_prefix(workspace).ok()) {
            if let Some(cache) =
                self.cache_paths.iter().find(|cache| path.starts_with(cache) || Path::new(cache).starts_with(path))
            {
                let why = format!("the cache path `{cache}` cannot be one: `{}` is of Homarus itself", path.display());
                return Err(SandboxError::Refused(why));
            }
        }
        Ok(())
    }

    /// The spec of something that sees no workspace: a worker.
    pub fn plan_worker(&self, argv: Vec<String>, readable: &[PathBuf], limits: Limits) -> io::Result<CallSpec> {
        let mut stage = call(ProgramSpec::Command { argv }, PathBuf::from("/tmp"), BTreeMap::new(), limits);
        stage.show.files = accounts(None);
        self.show_readable(&mut stage, readable)?;
        Ok(stage)
    }

    fn show_readable(&self, stage: &mut CallSpec, readable: &[PathBuf]) -> io::Result<()> {
        for path in readable {
            let seen = self.shown.binds.iter().any(|(_, target)| path.starts_with(target));
            if !seen {
                show(&mut stage.show, path)?;
            }
        }
        stage.show.binds.sort_by(|a, b| a.1.cmp(&b.1));
        stage.show.binds.dedup();
        Ok(())
    }

    /// The spec of a program that is not ours and lives long.
    pub fn plan_guest(&self, spec: &GuestSpec) -> Result<CallSpec, SandboxError> {
        let refuse = |why: String| SandboxError::Refused(why);
        let program = ProgramSpec::Command { argv: spec.argv.clone() };
        let mut stage = call(program, PathBuf::from("/tmp"), spec.env.clone(), spec.limits);
        stage.show.files = accounts(None);
        for (path, text) in &spec.files {
            if !path.is_absolute() || path.components().any(|part| matches!(part, Component::ParentDir)) {
                return Err(refuse(format!("{} cannot be written into the guest's root", path.display())));
            }
            stage.show.files.push((path.clone(), text.clone()));
        }
        self.show_readable(&mut stage, &spec.readable).map_err(|error| SandboxError::Setup(error.to_string()))?;
        if let Some(folder) = spec.folder.as_ref().map(|folder| &folder.path) {
            let real = fs::canonicalize(folder).map_err(|error| refuse(format!("{}: {error}", folder.display())))?;
            stage.writable = Some((real, PathBuf::from(GUEST_FOLDER)));
        }
        stage.egress_port = Some(spec.egress_port);
        Ok(stage)
    }

    /// The canonical path of a workspace that may be one.
    pub fn workspace(&self, path: &Path) -> Result<PathBuf, SandboxError> {
        let refuse = |why: &str| Err(SandboxError::Refused(format!("{} cannot be a workspace: {why}", path.display())));
        if !path.is_absolute() || path.components().any(|part| matches!(part, Component::ParentDir)) {
            return refuse("it must be an absolute path without `..`");
        }
        if path.to_str().is_none() {
            return refuse("its name is not UTF-8");
        }
        let real = match fs::canonicalize(path) {
            Ok(real) if real.is_dir() => real,
            Ok(_) => return refuse("it is not a folder"),
            Err(error) => return refuse(&error.to_string()),
        };
        for each in [real.as_path(), path] {
            if SYSTEM.iter().chain(&["/usr", "/var", "/run"]).any(|system| Path::new(system).starts_with(each)) {
                return refuse("it holds folders of the system");
            }
            if SYSTEM.iter().any(|system| each.starts_with(system)) {
                return refuse("it lies in a folder of the system");
            }
            if self.hidden.ends.iter().any(|hidden| each.starts_with(hidden)) {
                return refuse("it lies in Homarus's own state");
            }
        }
        Ok(real)
    }
}

fn call(program: ProgramSpec, cwd: PathBuf, mut env: BTreeMap<String, String>, limits: Limits) -> CallSpec {
    for (name, value) in
        [("PATH", SEARCH_PATH), ("HOME", "/run/home"), ("TMPDIR", "/tmp"), ("LANG", "C.UTF-8"), ("TERM", "dumb")]
    {
        env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    CallSpec {
        limits_by_host: BTreeMap::new(),
        limits,
        show: Show::default(),
        readable: Vec::new(),
        hidden: Vec::new(),
        workspace: None,
        writable: None,
        egress_port: None,
        program,
        env,
        cwd,
        run_as: None,
    }
}

/// Where hidden paths would be seen in readable ones. What lies in a hidden path itself cannot be shown.
fn covered(readable: &[(PathBuf, PathBuf)], hidden: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut covered = Vec::new();
    for (source, target) in readable {
        for hidden in hidden {
            if source.starts_with(hidden) {
                let (shown, hidden) = (target.display(), hidden.display());
                let why =
                    format!("`sandbox.readable` has {shown}, which lies in {hidden}: that is never shown to a call");
                return Err(io::Error::other(why));
            }
            if let Ok(rest) = hidden.strip_prefix(source) {
                covered.push(target.join(rest));
            }
        }
    }
    Ok(covered)
}

/// Makes a path of the host visible read-only at the same place; links of the root stay links.
fn show(shown: &mut Show, path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let root_level = path.parent() == Some(Path::new("/"));
    if meta.file_type().is_symlink() && root_level {
        shown.links.push((path.to_owned(), fs::read_link(path)?));
    } else {
        shown.binds.push((fs::canonicalize(path)?, path.to_owned()));
    }
    Ok(())
}

fn show_etc(shown: &mut Show) -> io::Result<()> {
    let rules = ETC.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names: Vec<String> = fs::read_dir("/etc")
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    for rule in rules {
        match rule.strip_suffix('*') {
            Some(start) => {
                for name in names.iter().filter(|name| name.starts_with(start)) {
                    show_in_etc(shown, name)?;
                }
            }
            None => show_in_etc(shown, rule)?,
        }
    }
    Ok(())
}

/// Small text is copied (one mount less), links stay links, the rest is bound.
fn show_in_etc(shown: &mut Show, name: &str) -> io::Result<()> {
    const COPY_BYTES_MAX: u64 = 16 << 10;
    let path = Path::new("/etc").join(name);
    let Ok(meta) = fs::symlink_metadata(&path) else { return Ok(()) };
    if meta.file_type().is_symlink() {
        shown.links.push((path.clone(), fs::read_link(&path)?));
    } else if meta.is_file() && meta.len() <= COPY_BYTES_MAX {
        if let Ok(text) = fs::read_to_string(&path) {
            shown.files.push((path, text));
        }
    } else {
        shown.binds.push((path.clone(), path));
    }
    Ok(())
}

/// `passwd`, `group` and `hosts` as they are inside: they name nobody of the host.
fn accounts(run_as: Option<(u32, u32)>) -> Vec<(PathBuf, String)> {
    let mut passwd = "root:x:0:0:root:/run/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n".to_owned();
    let mut group = "root:x:0:\nnogroup:x:65534:\n".to_owned();
    if let Some((uid, gid)) = run_as.filter(|(uid, _)| *uid != 65534) {
        passwd.push_str(&format!("user:x:{uid}:{gid}:user:/run/home:/bin/sh\n"));
        if gid != 0 {
            group.push_str(&format!("user:x:{gid}:\n"));
        }
    }
    vec![
        ("/etc/passwd".into(), passwd),
        ("/etc/group".into(), group),
        ("/etc/hosts".into(), "127.0.0.1 localhost sandbox\n::1 localhost\n".to_owned()),
        ("/etc/hostname".into(), "sandbox\n".to_owned()),
    ]
}

/// A map of every id this process knows to itself, from its own map.
fn identity(map: &str) -> io::Result<String> {
    let text = fs::read_to_string(map)?;
    let lines: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (inside, _, count) = (fields.next()?, fields.next()?, fields.next()?);
            Some(format!("{inside} {inside} {count}\n"))
        })
        .collect();
    Ok(lines.concat())
}

/// What an internal call of the probe is named.
pub fn attempts_program() -> Program {
    Program::Internal { name: stages::ATTEMPTS.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LayerSpec;

    #[test]
    fn what_is_hidden_is_covered_where_it_would_be_seen() {
        let path = PathBuf::from;
        let readable = [(path("/home/me"), path("/home/me")), (path("/home/me/a"), path("/opt/link"))];
        let hidden = [path("/home/me/a/state"), path("/home/other")];
        let all = covered(&readable, &hidden).unwrap();
        assert_eq!(all, [path("/home/me/a/state"), path("/opt/link/state")]);
        let inside = [(path("/home/me/a/state/keys"), path("/home/me/a/state/keys"))];
        assert!(covered(&inside, &hidden).unwrap_err().to_string().contains("never shown"));
    }

    /// A sandbox may have mounted the layer before it failed.
    #[test]
    fn a_call_that_is_tried_again_has_another_work_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        let mut spec =
            call(ProgramSpec::Command { argv: Vec::new() }, PathBuf::new(), BTreeMap::new(), Limits::default());
        assert!(spec.clone().again().unwrap().workspace.is_none());
        let layer = Some(LayerSpec { upper: upper.clone(), work: work.clone() });
        let (source, target) = (PathBuf::new(), PathBuf::new());
        let (secret, fixed, caches) = (Vec::new(), Vec::new(), Vec::new());
        spec.workspace = Some(WorkspaceSpec { source, source_id: (0, 0), target, layer, secret, fixed, caches });
        let layer = spec.again().unwrap().workspace.unwrap().layer.unwrap();
        assert!(layer.upper == upper && layer.work != work && layer.work.is_dir());
        assert_eq!(layer.work.parent(), work.parent());
    }
}
