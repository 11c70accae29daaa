//! Does what a visitor wants, or says why not.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use boxgate_config::{DevBoxId, PublicName};
use boxgate_provisioner_api::{BoxSummary, ClientError, KeepRequest, Limits, Order, OrderRequest, Progress};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use super::exit::{Exit, Fault};
use super::kubeconfig::{self, Way};
use super::terminal::Terminal;
use super::verb::{Keep, Usage, Verb};
use super::visitor::Visitor;
use super::{Site, name, ssh_config};
use crate::failure::one_line;
use crate::listing::{self, Look, Of, age, size, table};

/// Lines of progress that wait for a visitor who reads slowly; further ones are dropped.
const PROGRESS_QUEUE: usize = 16;

/// One visitor at one terminal.
pub(super) struct Desk<'a> {
    pub(super) site: &'a Site,
    pub(super) visitor: &'a Visitor,
    pub(super) terminal: &'a mut Terminal,
    /// Set when something was begun that goes on when nobody waits for it.
    pub(super) begun: &'a AtomicBool,
}

/// `whoami --json`.
#[derive(Serialize)]
struct Identity<'a> {
    login: &'a str,
    key: Option<&'a str>,
    certificate: Option<&'a str>,
    address: Option<&'a str>,
    terminal: bool,
    max_boxes: usize,
    /// Of each of her boxes, unless it has others.
    limits: Limits,
    boxes: Vec<Holding>,
}

/// A box in it.
#[derive(Serialize)]
struct Holding {
    id: String,
    limits: Limits,
}

impl Desk<'_> {
    /// Does what a command line says; without one, greets her.
    pub(super) async fn serve(&mut self, command: Option<&[u8]>) -> Exit {
        let done = match command.filter(|command| !command.trim_ascii().is_empty()) {
            Some(command) => match Verb::parse(command) {
                Ok(verb) => self.act(verb).await,
                Err(usage) => return self.explain(&usage).await,
            },
            None if self.terminal.is_terminal() => self.greet().await,
            None => return self.explain(&Verb::usage()).await,
        };
        let Err(fault) = done else { return Exit::Done };
        let exit = fault.exit();
        // Whoever has gone does not hear why, and her exit code is her own client's.
        drop(self.terminal.say(&format!("boxgate: {}\n", one_line(&told(&fault)))).await);
        exit
    }

    async fn explain(&mut self, usage: &Usage) -> Exit {
        let text = if self.terminal.has_colours() { &usage.coloured } else { &usage.plain };
        let (said, exit) = if usage.is_help {
            (self.terminal.print(text).await, Exit::Done)
        } else {
            (self.terminal.say(text).await, Exit::Usage)
        };
        // As above.
        drop(said);
        exit
    }

    async fn act(&mut self, verb: Verb) -> Result<(), Fault> {
        match verb {
            Verb::Ls { json, usage } => self.list(json, usage).await,
            Verb::New { name } => self.order(&self.named(Some(&name))?, Order::New).await,
            Verb::Start { name } => self.order(&self.named(name.as_deref())?, Order::Start).await,
            Verb::Stop { name } => self.order(&self.named(name.as_deref())?, Order::Stop).await,
            Verb::Restart { name } => self.order(&self.named(name.as_deref())?, Order::Restart).await,
            Verb::Reset { name, yes } => self.reset(&self.named(name.as_deref())?, yes).await,
            Verb::Rm { name, yes } => self.remove(&self.named(name.as_deref())?, yes).await,
            Verb::Logs { name, lines, follow } => {
                self.log(&self.named(name.as_deref())?, lines, follow).await
            }
            Verb::Keep(keep) => self.keep(&keep).await,
            Verb::Kubeconfig { name, port, socks } => {
                self.kubeconfig(&self.named(name.as_deref())?, Way::of(port, socks)).await
            }
            Verb::SshConfig { host } => self.ssh_config(host).await,
            Verb::Whoami { json } => self.whoami(json).await,
        }
    }

    fn named(&self, name: Option<&str>) -> Result<DevBoxId, Fault> {
        Ok(name::devbox(&self.visitor.login, name)?)
    }

    /// Her boxes and nobody else's.
    async fn boxes(&self, usage: bool) -> Result<Vec<BoxSummary>, ClientError> {
        let provisioner = &self.site.provisioner;
        let mut boxes =
            if usage { provisioner.boxes_with_usage().await? } else { provisioner.boxes().await? };
        boxes.retain(|devbox| devbox.id.owner == self.visitor.login);
        Ok(boxes)
    }

    async fn find(&self, devbox: &DevBoxId) -> Result<BoxSummary, Fault> {
        let mut boxes = self.boxes(false).await?.into_iter();
        boxes.find(|found| found.id == *devbox).ok_or_else(|| Fault::NoSuchBox(devbox.clone()))
    }

    async fn greet(&mut self) -> Result<(), Fault> {
        self.whoami(false).await?;
        self.terminal.print("\n").await?;
        self.list(false, false).await?;
        let (devbox, lobby) = (self.ssh(&self.visitor.login), self.ssh(boxgate_config::LOBBY));
        let text = format!("\n{devbox}: log in to your box\n{lobby} help: what can be done with boxes\n");
        Ok(self.terminal.print(&text).await?)
    }

    async fn list(&mut self, json: bool, usage: bool) -> Result<(), Fault> {
        let boxes = self.boxes(usage).await?;
        let text = if json {
            listing::json(&boxes)?
        } else if !self.terminal.is_terminal() {
            listing::tab_separated(&boxes)
        } else if boxes.is_empty() {
            "You have no box yet; your first login makes one.\n".to_owned()
        } else {
            let look = Look { colours: self.terminal.has_colours(), of: Of::OneUser };
            table(&boxes, look, Timestamp::now())
        };
        Ok(self.terminal.print(&text).await?)
    }

    /// Has something done to a box, and tells what is going on meanwhile.
    async fn order(&mut self, devbox: &DevBoxId, order: Order) -> Result<(), Fault> {
        let client = self.visitor.came.clone();
        let request = OrderRequest { devbox: devbox.clone(), order, client };
        self.begun.store(true, Relaxed);
        let (lines, mut progress) = mpsc::channel(PROGRESS_QUEUE);
        let on_progress = move |Progress { text }| {
            // Who does not read what is going on does not hold it up.
            drop(lines.try_send(text));
        };
        let show = async {
            while let Some(line) = progress.recv().await {
                self.terminal.say(&format!("boxgate: {}\n", one_line(&line))).await?;
            }
            Ok::<_, Fault>(())
        };
        let (done, shown) = tokio::join!(self.site.provisioner.order(&request, on_progress), show);
        done?;
        shown?;
        let done = match order {
            Order::New | Order::Start | Order::Restart => format!("is ready: {}", self.ssh(devbox)),
            Order::Stop => "is stopped; the next login wakes it".to_owned(),
            Order::Reset => "is made anew from the current image".to_owned(),
            Order::Remove => "is gone".to_owned(),
        };
        Ok(self.terminal.print(&format!("box {devbox} {done}\n")).await?)
    }

    async fn reset(&mut self, devbox: &DevBoxId, yes: bool) -> Result<(), Fault> {
        self.find(devbox).await?;
        let consequences = format!(
            "reset makes box {devbox} anew from the current image. Its home directory and its Docker data stay; \
             packages that were installed, all else outside of /home and whatever runs are lost"
        );
        if !yes {
            if !self.terminal.is_terminal() {
                return Err(Fault::NotConfirmed(format!(
                    "{consequences}: say --yes if that is what you want"
                )));
            }
            let answer = self.terminal.ask(&format!("{consequences}.\nReset it? [y/N] ")).await?;
            if !answer.is_some_and(|answer| ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())) {
                return Err(Fault::NotConfirmed(format!("box {devbox} was not reset")));
            }
        }
        self.order(devbox, Order::Reset).await
    }

    async fn remove(&mut self, devbox: &DevBoxId, again: Option<String>) -> Result<(), Fault> {
        self.find(devbox).await?;
        let consequences =
            format!("rm removes box {devbox} with its home directory and its Docker data, for good");
        let confirmed = match again {
            Some(name) => Some(name),
            None if self.terminal.is_terminal() => {
                self.terminal
                    .ask(&format!("{consequences}.\nType its name, {devbox}, to remove it: "))
                    .await?
            }
            None => {
                let name = devbox.short_name();
                return Err(Fault::NotConfirmed(format!(
                    "{consequences}: say --yes {name} if that is what you want"
                )));
            }
        };
        // The empty line and - are the default box's names elsewhere. Here it must be named.
        let confirmed = confirmed.filter(|name| !matches!(name.trim(), "" | "-"));
        let named = confirmed.and_then(|name| self.named(Some(name.trim())).ok());
        if named.as_ref() != Some(devbox) {
            return Err(Fault::NotConfirmed(format!("box {devbox} was not removed: that is not its name")));
        }
        self.order(devbox, Order::Remove).await
    }

    async fn log(&mut self, devbox: &DevBoxId, lines: u32, follow: bool) -> Result<(), Fault> {
        let mut log = self.site.provisioner.open_log(devbox, lines, follow).await?;
        while let Some(piece) = log.next().await? {
            self.terminal.write(&piece).await?;
        }
        Ok(())
    }

    async fn keep(&mut self, keep: &Keep) -> Result<(), Fault> {
        let (name, time) = keep.parts().map_err(Fault::Usage)?;
        let devbox = self.named(name)?;
        let client = self.visitor.came.clone();
        let request = KeepRequest { devbox: devbox.clone(), seconds: time.as_secs(), client };
        let kept = self.site.provisioner.keep(&request).await?;
        let text = match kept.until {
            Some(until) => {
                let rest = age(&until, Timestamp::now()).unwrap_or_default();
                format!("box {devbox} is not stopped for being idle before {until} ({rest} from now)\n")
            }
            None => format!("box {devbox} is stopped when it was idle for long enough\n"),
        };
        Ok(self.terminal.print(&text).await?)
    }

    async fn kubeconfig(&mut self, devbox: &DevBoxId, way: Way) -> Result<(), Fault> {
        let clusters = self.site.provisioner.clusters(devbox).await?;
        let clusters = clusters.ok_or_else(|| Fault::NotRunning(devbox.clone()))?;
        if clusters.is_empty() {
            return Err(Fault::NoCluster(devbox.clone()));
        }
        let made = kubeconfig::make(devbox, &clusters, way, &self.ssh(devbox));
        let made = made.map_err(|why| Fault::Unusable(devbox.clone(), why))?;
        self.terminal.print(&made.text).await?;
        for name in made.silent {
            self.terminal.say(&format!("boxgate: {name} does not answer, so it is not in it\n")).await?;
        }
        Ok(self.terminal.say(&format!("boxgate: it works while this runs: {}\n", made.tunnel)).await?)
    }

    async fn ssh_config(&mut self, host: Option<PublicName>) -> Result<(), Fault> {
        let Some(at) = host.or_else(|| self.site.config.gateway.public_name.clone()) else {
            return Err(Fault::Usage(
                "ssh-config does not know how you reach this host (your operator can set gateway.public_name): say \
                 --host and what you write behind the @, with :PORT if that is not 22"
                    .to_owned(),
            ));
        };
        let boxes = self.boxes(false).await?.into_iter().map(|devbox| devbox.id);
        Ok(self.terminal.print(&ssh_config::block(&self.visitor.login, boxes, &at)).await?)
    }

    async fn whoami(&mut self, json: bool) -> Result<(), Fault> {
        let visitor = self.visitor;
        let boxes = self.boxes(false).await?;
        let settings = self.site.config.settings_of(&visitor.login);
        let (key, certificate, address) = match visitor.particulars() {
            Some((key, certificate, address)) => (Some(key), certificate, Some(address)),
            None => (None, None, None),
        };
        if json {
            let holding = |devbox: &BoxSummary| Holding { id: devbox.id.to_string(), limits: devbox.limits };
            let identity = Identity {
                login: visitor.login.as_str(),
                key,
                certificate,
                address,
                terminal: visitor.may_have_terminal,
                max_boxes: settings.max_boxes,
                limits: settings.limits.into(),
                boxes: boxes.iter().map(holding).collect(),
            };
            let text = serde_json::to_string_pretty(&identity)? + "\n";
            return Ok(self.terminal.print(&text).await?);
        }
        let none = || "-".to_owned();
        let boxes: Vec<_> = boxes.iter().map(|devbox| devbox.id.to_string()).collect();
        let limits = limits(&settings.limits.into());
        let lines = [
            ("login", visitor.login.to_string()),
            ("key", key.map_or_else(none, str::to_owned)),
            ("certificate", certificate.map_or_else(none, one_line)),
            ("address", address.map_or_else(none, str::to_owned)),
            ("terminal", if visitor.may_have_terminal { "allowed" } else { "not allowed" }.to_owned()),
            ("boxes", if boxes.is_empty() { none() } else { boxes.join(", ") }),
            ("limits", format!("{} boxes; each {limits}", settings.max_boxes)),
        ];
        let is_terminal = self.terminal.is_terminal();
        let line = |(name, value): &(&str, String)| {
            if is_terminal { format!("{name:12}{value}\n") } else { format!("{name}\t{value}\n") }
        };
        Ok(self.terminal.print(&lines.iter().map(line).collect::<String>()).await?)
    }

    /// How `login` is logged in to, as far as that is known here.
    fn ssh(&self, login: impl std::fmt::Display) -> String {
        match &self.site.config.gateway.public_name {
            Some(name) => {
                let port = name.port().map_or_else(String::new, |port| format!("-p {port} "));
                format!("ssh {port}{login}@{}", name.host())
            }
            None => format!("ssh {login}@HOST"),
        }
    }
}

/// What happened and what to do, for whoever asked.
fn told(fault: &Fault) -> String {
    match fault {
        Fault::Api(ClientError::Unreachable { .. }) => {
            "the service that makes boxes does not answer (try again in a moment)".to_owned()
        }
        Fault::Api(ClientError::Refused(_) | ClientError::Protocol(_)) => {
            format!("{fault} (tell your operator)")
        }
        fault => fault.to_string(),
    }
}

fn limits(limits: &Limits) -> String {
    let disk =
        limits.disk_bytes.map_or_else(String::new, |bytes| format!(", {} for each volume", size(bytes)));
    format!("{} CPUs, {}, {} processes{disk}", limits.cpus, size(limits.memory_bytes), limits.pids)
}
