//! How Chromium is started: what it is told, and what it is given.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use homarus_contract::{
    egress::EgressBounds,
    guest::{GUEST_FOLDER, GuestFolder, GuestSpec},
    sandbox::Limits,
    text::one_line,
};

use super::{
    Browser, Options,
    page::{Outline, Page},
    profile::{PROFILE_BYTES_MAX, PROFILE_FILES_MAX, ProfileName},
    rules::Rules,
};

const POLICY: &str = include_str!("../../data/browser/policy.json");
/// Where Chromium, and Google's build of it, read what they must not do.
const POLICY_FILES: [&str; 2] =
    ["/etc/chromium/policies/managed/homarus.json", "/etc/opt/chrome/policies/managed/homarus.json"];
/// Debian's `chromium` is a script that reads files of the host before it starts this.
const DEBIAN: (&str, &str) = ("/usr/bin/chromium", "/usr/lib/chromium/chromium");
/// Chromium takes its commands on descriptor 3 and answers on 4.
const TO_PIPES: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
/// The proxy, inside.
const PROXY_PORT: u16 = 3128;
const BOUNDS: EgressBounds =
    EgressBounds { connections_max: 64, bytes_max: 512 << 20, connect_ms: 10_000, idle_ms: 60_000 };
/// Chromium counts its threads by the hundred.
const PROCESSES_MAX: u32 = 768;
const OPEN_FILES_MAX: u32 = 4096;
const FILE_BYTES_MAX: u64 = 256 << 20;
/// The host of the flags below that are addresses: no such name can exist.
pub const OWN_HOST: &str = "browser.invalid";
/// It lives as long as its run; this only catches one that has gone wild.
const CPU_S_MAX: u64 = 1 << 20;

const FLAGS: &[&str] = &[
    "--headless=new",
    // Its own sandbox needs nested user namespaces, which ours denies.
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disk-cache-dir=/tmp/cache",
    "--disk-cache-size=67108864",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-component-extensions-with-background-pages",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--disable-quic",
    "--disable-print-preview",
    "--deny-permission-prompts",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-pings",
    "--noerrdialogs",
    "--hide-scrollbars",
    "--password-store=basic",
    "--use-mock-keychain",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    // What the browser wants for itself, and not for the page, goes nowhere.
    "--gaia-url=https://browser.invalid",
    "--component-updater=url-source=https://browser.invalid",
    "--variations-server-url=https://browser.invalid",
    "--disable-field-trial-config",
    "--disable-features=NetworkTimeServiceQuerying,HttpsUpgrades,Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider,AutofillServerCommunication,\
     InterestFeedContentSuggestions,CertificateTransparencyComponentUpdater,PrivacySandboxSettings4,OnDeviceModel",
    // Loopback too: without this entry the browser would go there by itself.
    "--proxy-bypass-list=<-loopback>",
    "--window-size=1280,900",
    "--lang=en-US",
];

pub async fn start(options: &Options, rules: Arc<Rules>, name: Option<&ProfileName>) -> Result<Browser, String> {
    let Some(program) = &options.program else { return Err("there is no Chromium".to_owned()) };
    let profile = name.map(|name| options.shelf.take(name)).transpose()?;
    let spec = spec(program, profile.as_ref().map(|held| held.folder.as_path()), options.memory_bytes)?;
    let launcher = options.launcher.clone();
    let launched = tokio::task::spawn_blocking(move || launcher.launch_guest(spec)).await;
    let guest = launched.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let way_out = options.egress.serve(guest.egress, rules.clone(), BOUNDS).map_err(|error| error.to_string())?;
    let page = Page::take(guest.stdin, guest.stdout).await.map_err(|why| {
        let said = (guest.complaints)();
        let last: Vec<&str> = said.lines().rev().take(3).collect();
        format!("{why}. It said: {}", one_line(&last.into_iter().rev().collect::<Vec<_>>().join(" / "), 600))
    })?;
    Ok(Browser {
        page,
        shown: Outline::default(),
        rules,
        way_out,
        receipt: guest.receipt,
        _guard: guest.guard,
        profile,
    })
}

fn spec(program: &Path, folder: Option<&Path>, memory_bytes: u64) -> Result<GuestSpec, String> {
    let (script, binary) = DEBIAN;
    let real = std::fs::canonicalize(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let real = if real == Path::new(script) && Path::new(binary).is_file() { PathBuf::from(binary) } else { real };
    let name = real.to_str().ok_or_else(|| format!("the path of {} is not UTF-8", real.display()))?;
    let data = if folder.is_some() { GUEST_FOLDER } else { "/tmp/profile" };
    let mut argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), TO_PIPES.to_owned(), name.to_owned()];
    argv.extend(FLAGS.iter().map(|flag| (*flag).to_owned()));
    argv.push(format!("--user-data-dir={data}"));
    argv.push(format!("--proxy-server=http://127.0.0.1:{PROXY_PORT}"));
    argv.push("about:blank".to_owned());
    Ok(GuestSpec {
        argv,
        env: BTreeMap::new(),
        readable: real.parent().map(Path::to_path_buf).into_iter().collect(),
        files: POLICY_FILES.iter().map(|path| (PathBuf::from(path), POLICY.to_owned())).collect(),
        folder: folder.map(|folder| GuestFolder {
            path: folder.to_owned(),
            // What is ended by this can still be opened the next time.
            bytes_max: PROFILE_BYTES_MAX / 8 * 7,
            files_max: PROFILE_FILES_MAX,
        }),
        limits: Limits {
            wall_ms: u64::MAX,
            cpu_s: CPU_S_MAX,
            memory_bytes,
            processes_max: PROCESSES_MAX,
            open_files_max: OPEN_FILES_MAX,
            file_bytes_max: FILE_BYTES_MAX,
            output_bytes_max: u64::MAX,
        },
        egress_port: PROXY_PORT,
    })
}
